"""Route's ejection: a target that keeps failing is left alone, and comes back slowly."""

from __future__ import annotations

import math
from functools import partial
from random import Random
from typing import Any

import anyio
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lamella import (
    AttemptLimitError,
    AttemptTimeout,
    AuthenticationError,
    CertificateError,
    ChatRequest,
    CircuitOpenError,
    ClosedError,
    ConfigurationError,
    ConflictError,
    ConnectError,
    ConnectionLostError,
    ContentFilteredError,
    ContextLengthError,
    CredentialsExhaustedError,
    DeadlineExceeded,
    Ending,
    FirstEventTimeout,
    IdleTimeout,
    InvalidRequestError,
    LamellaError,
    LimitedError,
    NoTargetError,
    NotFoundError,
    Outcome,
    OverloadedError,
    PermissionDeniedError,
    Pipeline,
    ProtocolError,
    ProviderError,
    QuotaError,
    RateLimitError,
    ResponseTooLargeError,
    ServerError,
    StreamTruncated,
    TextDelta,
)
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.retry import Retry
from lamella_middlewares.route import Ejection, Route, TargetState
from lamella_middlewares.route._board import Board, Standing, may_eject
from lamella_middlewares.route._ejection import LONGEST_REST, Conduct, judge

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello", model="m")
DOWN = ServerError("down", status=500)


class Town:
    """A route among targets whose answers the test sets."""

    def __init__(self, *names: str, layers: tuple[Any, ...] = (), **options: Any) -> None:
        self.ports = virtual_ports(seed=1)
        self.answers: dict[str, Any] = dict.fromkeys(names, "fine")
        self.targets = {
            name: Scripted([partial(self._answer, name)], repeat=True, name=name) for name in names
        }
        self.route = Route(list(self.targets.values()), **options)
        self.pipeline = Pipeline([self.route, *layers], "mock", ports=self.ports)
        self.notes: list[Any] = []

    def _answer(self, name: str, _: Any) -> Any:
        return self.answers[name]

    async def ask(self, calls: int = 1) -> list[str]:
        """Where so many calls went, or the class of their error."""
        found: list[str] = []
        for _ in range(calls):
            try:
                response = await self.pipeline.run(ASK)
            except LamellaError as error:
                found.append(type(error).__name__)
            else:
                found.append(str(response.served_by))
                self.notes = response.trace.notes
        return found

    async def stream(self) -> None:
        """One streamed call, read to its end."""
        async with self.pipeline.stream(ASK) as response:
            await response.collect()

    def state(self, name: str) -> TargetState:
        """How a target stands."""
        [found] = [state for state in self.route.states(self.ports) if state.name == name]
        return found

    async def eject(self, name: str) -> None:
        """Let a target fail until it is ejected, and be well again."""
        self.answers[name] = DOWN
        while self.route.states(self.ports) == () or self.state(name).status == "ok":
            await self.ask()
        self.answers[name] = "fine"


# --- what speaks against a target ------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ServerError("x", status=500), "failure"),
        (OverloadedError("x", status=529), "failure"),
        (ConnectError("x"), "failure"),
        (CertificateError("x"), "failure"),
        (ConnectionLostError("x"), "failure"),
        (FirstEventTimeout("x"), "failure"),
        (IdleTimeout("x"), "failure"),
        (AttemptTimeout("x"), "failure"),
        (ProtocolError("x"), "failure"),
        (StreamTruncated("x"), "failure"),
        (AuthenticationError("x", status=401), "failure"),
        (RateLimitError("x", status=429), "failure"),
        (ProviderError("x", status=408), "failure"),
        (ProviderError("x"), "failure"),
        (ConnectionResetError("a plain function's"), "failure"),
        (ProviderError("x", status=418), "neutral"),
        (InvalidRequestError("x", status=400), "neutral"),
        (InvalidRequestError("x", status=422), "neutral"),
        (ContextLengthError("x", status=400), "neutral"),
        (ContentFilteredError("x", status=400), "neutral"),
        (ConflictError("x", status=409), "neutral"),
        (NotFoundError("x", status=404), "neutral"),
        (PermissionDeniedError("x", status=403), "neutral"),
        (ResponseTooLargeError("x"), "neutral"),
        (ClosedError("x"), "neutral"),
        (CircuitOpenError("x"), "local"),
        (LimitedError("x"), "local"),
        (AttemptLimitError("x"), "local"),
        (DeadlineExceeded("x"), "local"),
    ],
)
def test_what_an_error_says_of_the_target(error: Exception, kind: str) -> None:
    """The server's failures count, the caller's mistakes do not, our own refusals count apart."""
    outcome = error.outcome if isinstance(error, LamellaError) else Outcome.FAILED
    assert judge(Ending(outcome, error), own_model=False).kind == kind


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.LEFT, Outcome.UNKNOWN])
def test_whoever_leaves_says_nothing(outcome: Outcome) -> None:
    """Cancellation and a consumer who stops are neutral."""
    assert judge(Ending(outcome), own_model=False).kind == "neutral"


def test_a_model_that_the_target_names_is_its_own_affair() -> None:
    """A 404 or 403 for the caller's model is the caller's; for the target's, the target's."""
    for error in (NotFoundError("x", status=404), PermissionDeniedError("x", status=403)):
        assert judge(Ending(Outcome.FAILED, error), own_model=True).kind == "failure"


def test_a_blocked_event_loop_speaks_against_nobody() -> None:
    """A timeout that this process noticed much too late is its own."""
    late = FirstEventTimeout("x")
    late.late = 2.0
    assert judge(Ending(Outcome.TIMED_OUT, late), own_model=False).kind == "local"


@pytest.mark.parametrize(
    ("error", "rest", "kind"),
    [
        (RateLimitError("x", retry_after=7), 7, "neutral"),
        (OverloadedError("x", retry_after=7), 7, "failure"),
        (QuotaError("x", retry_after=3600), 3600, "neutral"),
        (QuotaError("x"), math.inf, "neutral"),
        (CredentialsExhaustedError("x"), math.inf, "neutral"),
        (RateLimitError("x", retry_after=-1), None, "failure"),
        (RateLimitError("x", retry_after=math.nan), None, "failure"),
        (RateLimitError("x", retry_after=math.inf), None, "failure"),
    ],
)
def test_a_providers_word_about_time_is_kept(error: LamellaError, rest: Any, kind: str) -> None:
    """A throttle rests until `retry_after`, an empty account for long; nonsense is no word."""
    verdict = judge(Ending(Outcome.FAILED, error), own_model=False)
    assert (verdict.rest, verdict.kind) == (rest, kind)


# --- ejection in traffic ---------------------------------------------------------------------


async def test_five_failures_in_a_row_eject() -> None:
    """The target gets nothing for 30 s, and then something again."""
    town = Town("a", "b")
    town.answers["a"] = DOWN
    found = await town.ask(60)
    assert found.count("ServerError") == 5
    assert town.state("a").status == "ejected"
    assert 0 < (town.state("a").back_in or 0) <= 30
    town.answers["a"] = "fine"
    await anyio.sleep(31)
    assert town.state("a").status == "ok"
    assert "a" in await town.ask(60)


async def test_a_share_of_failures_ejects() -> None:
    """Never five in a row, but half of ten."""
    town = Town("a", "b", ejection=Ejection(consecutive=None))
    calls = iter([DOWN, "fine"] * 50)
    town.answers["a"] = lambda _: next(calls)
    await town.ask(60)
    assert town.state("a").status == "ejected"
    assert town.state("a").why == "share of failures"
    assert town.state("a").calls == 11  # the tenth was a success


async def test_each_ejection_is_longer_and_good_conduct_forgives() -> None:
    """30 s, 60 s, 90 s, up to the cap; each 30 s without another one forgives one."""
    conduct, ejection, now = Conduct(), Ejection(cap=80), 0.0
    for lasts in (30, 60, 80, 80):
        assert conduct.eject(now, ejection, "x") == lasts
        now += lasts
    assert conduct.forgiven(now + 61, 30) == 2
    assert conduct.eject(now + 61, ejection, "x") == 80
    assert conduct.forgiven(now + 61 + 80 + 1000, 30) == 0


async def test_one_target_is_always_left() -> None:
    """However all of them fail, one is not ejected, and the trace says why."""
    town = Town("a", "b", "c", ejection=Ejection(max_ejected=1))
    for name in town.answers:
        town.answers[name] = DOWN
    assert set(await town.ask(100)) == {"ServerError"}
    statuses = [state.status for state in town.route.states(town.ports)]
    assert sorted(statuses) == ["ejected", "ejected", "ok"]


async def test_no_more_than_the_declared_share_is_ejected() -> None:
    """Of four targets at most two; with a share of 0 none; a single target never."""
    town = Town("a", "b", "c", "d")
    for name in "abc":
        town.answers[name] = DOWN
    await town.ask(200)
    assert [state.status for state in town.route.states(town.ports)].count("ejected") == 2
    assert Ejection(max_ejected=0).most(10) == 0
    assert Ejection(max_ejected=0.1).most(2) == 1
    assert Ejection().most(1) == 0


async def test_a_target_comes_back_slowly() -> None:
    """Right after its ejection a target gets a tenth of its share, half of it half-way."""
    town = Town("a", "b")
    await town.eject("a")
    await anyio.sleep(30.001)
    assert (await town.ask(400)).count("a") < 60
    await anyio.sleep(15)
    assert 90 < (await town.ask(400)).count("a") < 180
    await anyio.sleep(15)
    assert 160 < (await town.ask(400)).count("a") < 240


async def test_calls_that_began_before_an_ejection_do_not_count_after_it() -> None:
    """Ten failures at once are one ejection, not two."""
    town = Town("a", "b", ejection=Ejection(consecutive=2))
    town.answers["a"] = [5.0, DOWN]
    town.answers["b"] = [5.0, DOWN]

    async def fail() -> None:
        with pytest.raises(ServerError):
            await town.pipeline.run(ASK)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(fail)
    states = town.route.states(town.ports)
    assert sorted(state.ejections for state in states) == [0, 1]


async def test_the_callers_mistakes_never_eject() -> None:
    """A hundred 400s say nothing about the target."""
    town = Town("a", "b")
    town.answers.update(dict.fromkeys("ab", InvalidRequestError("x", status=400)))
    await town.ask(100)
    assert [state.failures for state in town.route.states(town.ports)] == [0, 0]


async def test_a_throttled_target_rests_until_its_provider_says() -> None:
    """`retry_after` is not undercut; meanwhile the others take everything."""
    town = Town("a", "b")
    town.answers["a"] = RateLimitError("busy", status=429, retry_after=12)
    while "RateLimitError" not in await town.ask():
        pass
    town.answers["a"] = "fine"
    assert (town.state("a").status, town.state("a").why) == ("resting", "throttled")
    assert set(await town.ask(30)) == {"b"}
    await anyio.sleep(12.001)
    assert "a" in await town.ask(30)


async def test_an_empty_account_rests_for_long() -> None:
    """Five minutes, or as long as the provider says; at most a day."""
    town = Town("a", "b")
    town.answers["a"] = QuotaError("empty", status=402)
    while "QuotaError" not in await town.ask():
        pass
    assert 299 < (town.state("a").back_in or 0) <= 300
    conduct = Conduct()
    assert conduct.rest(0.0, 10_000_000, "quota") == LONGEST_REST


async def test_where_all_rest_the_error_says_when_to_come_back() -> None:
    """Nothing is sent; the least of their times is `retry_after`."""
    town = Town("a", "b")
    for name, hint in (("a", 40), ("b", 20)):
        town.answers[name] = RateLimitError("busy", status=429, retry_after=hint)
    await town.ask(2)
    with pytest.raises(NoTargetError, match="a: resting; b: resting") as caught:
        await town.pipeline.run(ASK)
    assert caught.value.retry_after == pytest.approx(20)
    assert (caught.value.status, caught.value.outcome) == (503, Outcome.NOT_SENT)
    assert caught.value.elsewhere


async def test_ejected_targets_are_better_than_none() -> None:
    """If the only other one rests, the ejected one is asked, and the trace announces it."""
    town = Town("a", "b")
    await town.eject("a")
    town.answers["b"] = RateLimitError("busy", status=429, retry_after=20)
    assert await town.ask() == ["RateLimitError"]
    assert await town.ask() == ["a"]
    [note] = [note for note in town.notes if note.name == "route.panic"]
    assert note.fields == {"targets": ("a",)}


async def test_streams_are_judged_at_their_end() -> None:
    """A stream that breaks off counts as a failure although it had begun well."""
    town = Town("a", "b", ejection=Ejection(consecutive=1))
    town.answers["a"] = town.answers["b"] = [TextDelta("x"), TextDelta("y")]
    with pytest.raises(StreamTruncated):
        await town.stream()
    assert [state.failures for state in town.route.states(town.ports)].count(1) == 1
    assert "ejected" in [state.status for state in town.route.states(town.ports)]


async def test_what_retry_inside_hides_is_counted() -> None:
    """Two failures of three attempts count, although the caller got an answer."""
    town = Town("a", layers=(Retry(base=0.01, budget=None),))
    calls = iter([DOWN, DOWN, "fine"])
    town.answers["a"] = lambda _: next(calls)
    assert await town.ask() == ["a"]
    assert (town.state("a").calls, town.state("a").failures) == (1, 2)
    assert town.state("a").consecutive == 0


async def test_without_ejection_nothing_is_left_alone() -> None:
    """`ejection=None` neither ejects nor rests; what fails is still counted."""
    town = Town("a", "b", ejection=None)
    town.answers["a"] = QuotaError("empty")
    town.answers["b"] = DOWN
    await town.ask(100)
    assert [state.status for state in town.route.states(town.ports)] == ["ok", "ok"]
    assert town.state("b").failures > 30


# --- by hand ---------------------------------------------------------------------------------


async def test_a_target_is_isolated_by_hand_even_before_it_was_seen() -> None:
    """Until it is reset nothing goes there; health shows it."""
    town = Town("a", "b")
    town.route.isolate("a", ports=town.ports)
    assert set(await town.ask(30)) == {"b"}
    assert (town.state("a").status, town.state("a").back_in) == ("isolated", None)
    health = await town.pipeline.health()
    assert health.status == "degraded"
    assert health.layers["route"].detail == {"a": "isolated"}
    town.route.isolate("b", ports=town.ports)
    with pytest.raises(NoTargetError) as caught:
        await town.pipeline.run(ASK)
    assert caught.value.retry_after is None
    town.route.reset("a", ports=town.ports)
    assert set(await town.ask(5)) == {"a"}


async def test_a_target_rests_by_hand() -> None:
    """For so many seconds; `reset` ends that as well as an ejection."""
    town = Town("a", "b")
    town.route.rest("a", 60, ports=town.ports)
    assert set(await town.ask(20)) == {"b"}
    assert (town.state("a").status, town.state("a").why) == ("resting", "by hand")
    town.route.reset("a", ports=town.ports)
    assert town.state("a").back_in == 0
    await town.eject("a")
    town.route.reset("a", ports=town.ports)
    assert (town.state("a").status, town.state("a").ejections) == ("ok", 0)
    with pytest.raises(ConfigurationError, match=r"rest\('a', 0\)"):
        town.route.rest("a", 0, ports=town.ports)
    for act in (town.route.isolate, town.route.reset):
        with pytest.raises(ConfigurationError, match=r"'c'.*There are: a, b"):
            act("c", ports=town.ports)


@pytest.mark.parametrize(
    "options",
    [
        {"consecutive": 0},
        {"ratio": 0},
        {"ratio": 1.5},
        {"min_calls": 0},
        {"window": 0},
        {"base": -1},
        {"cap": math.inf},
        {"max_ejected": 2},
        {"quota": 0},
        {"slow_start": -1},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    """When they are given, by name."""
    [name] = options
    with pytest.raises(ConfigurationError, match=rf"Ejection\({name}="):
        Ejection(**options)


# --- as a whole ------------------------------------------------------------------------------


class Ejections(RuleBasedStateMachine):
    """Whatever happens to four targets, the rules hold."""

    def __init__(self) -> None:
        super().__init__()
        self.board = Board()
        self.group = self.board.group("p", tuple((name, False) for name in "abcd"))
        self.ejection = Ejection(consecutive=3, min_calls=4, base=10, cap=35, max_ejected=0.5)
        self.now = 1_000.0
        self.failed_in_row = dict.fromkeys("abcd", 0)

    def _one(self, index: int) -> Standing:
        return self.group[index]

    @rule(index=st.integers(0, 3))
    def fails(self, index: int) -> None:
        """A failure: ejected for at most the cap, and only for a reason."""
        one = self._one(index)
        if one.conduct.status(self.now) == "ejected":
            return
        why = one.conduct.failed(self.now, self.ejection)
        self.failed_in_row[one.name] += 1
        if self.failed_in_row[one.name] >= 3:
            assert why is not None
        if why is not None and may_eject(one, self.group, self.now, self.ejection) is None:
            before = one.conduct.forgiven(self.now, self.ejection.base)
            lasts = one.conduct.eject(self.now, self.ejection, why)
            assert lasts == min(10 * (before + 1), 35)
            self.failed_in_row[one.name] = 0

    @rule(index=st.integers(0, 3))
    def answers(self, index: int) -> None:
        """A success ends a row of failures."""
        one = self._one(index)
        one.conduct.succeeded(self.now, self.ejection)
        self.failed_in_row[one.name] = 0
        assert one.conduct.consecutive == 0

    @rule(index=st.integers(0, 3), lasts=st.floats(0.1, 100))
    def rests(self, index: int, lasts: float) -> None:
        """A rest is never shortened by another."""
        conduct = self._one(index).conduct
        before = conduct.resting_until
        conduct.rest(self.now, lasts, "throttled")
        assert conduct.resting_until == max(before, self.now + lasts)

    @rule(seconds=st.floats(0, 60))
    def waits(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule(index=st.integers(0, 3))
    def reset(self, index: int) -> None:
        """Nothing speaks against it any more."""
        one = self._one(index)
        one.conduct.restore()
        self.failed_in_row[one.name] = 0
        assert one.conduct.status(self.now) == "ok"
        assert one.conduct.forgiven(self.now, 10) == 0

    @invariant()
    def some_are_left(self) -> None:
        """At most half are ejected at the same time."""
        statuses = [one.conduct.ejected_until > self.now for one in self.group]
        assert sum(statuses) <= 2

    @invariant()
    def figures_make_sense(self) -> None:
        """A ramp is a share, a wait is not negative, and the spotless are well."""
        for one in self.group:
            conduct = one.conduct
            assert 0.1 <= conduct.ramp(max(self.now, conduct.ejected_until), 30) <= 1
            assert (conduct.back_in(self.now) or 0) >= 0
            if conduct.spotless:
                assert conduct.status(self.now) == "ok"
                assert conduct.ramp(self.now, 30) == 1


Ejections.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestEjections = Ejections.TestCase


async def test_random_faults_leave_every_figure_sound() -> None:
    """2,000 calls with random failures: counts add up and nothing stays in flight."""
    town = Town("a", "b", "c")
    random = Random(11)
    errors = [DOWN, RateLimitError("x", retry_after=1), QuotaError("x"), InvalidRequestError("x")]
    for name in town.answers:
        town.answers[name] = lambda _: random.choice([*errors, "fine", "fine", "fine"])
    refused = 0
    for _ in range(2_000):
        refused += (await town.ask())[0] == "NoTargetError"
        await anyio.sleep(random.expovariate(2))
    states = town.route.states(town.ports)
    assert sum(state.calls for state in states) == 2_000 - refused
    assert [state.in_flight for state in states] == [0, 0, 0]
