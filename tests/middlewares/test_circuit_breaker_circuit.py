"""CircuitBreaker's parts: the circuit against a model, the book of circuits, the judgement."""

from __future__ import annotations

import math
import threading
from random import Random
from typing import Any

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lamella import (
    AttemptTimeout,
    AuthenticationError,
    CircuitOpenError,
    ClosedError,
    ConnectError,
    ConnectTimeout,
    ContentFilteredError,
    DeadlineExceeded,
    Ending,
    InvalidRequestError,
    LimitedError,
    NotFoundError,
    Outcome,
    OverloadedError,
    ProtocolError,
    ProviderError,
    QuotaError,
    RateLimitError,
    ResponseTooLargeError,
    ServerError,
    StreamTruncated,
)
from lamella_middlewares.circuit_breaker._circuit import (
    JITTER,
    LONGEST_HINT,
    Circuit,
    Permit,
    Refusal,
    Rules,
)
from lamella_middlewares.circuit_breaker._circuits import Circuits
from lamella_middlewares.circuit_breaker._judgement import hint_of, verdict_of

RULES = Rules(ratio=0.5, min_calls=4, window=30, open_for=5, max_open=60, probes=1, probe_ttl=20)


class Halfway(Random):
    """Chance that always falls in the middle."""

    def random(self) -> float:
        return 0.5


CHANCE = Halfway()


def admitted(circuit: Circuit, now: float) -> Permit:
    """The permit of a call that may pass."""
    permit, _ = circuit.admit(now)
    assert isinstance(permit, Permit)
    return permit


def refused(circuit: Circuit, now: float) -> Refusal:
    """The refusal of a call that may not."""
    refusal, _ = circuit.admit(now)
    assert isinstance(refusal, Refusal)
    return refusal


def opened(rules: Rules = RULES, *, now: float = 0.0, hint: float | None = None) -> Circuit:
    """A circuit that has opened at `now`."""
    circuit = Circuit(rules)
    for _ in range(rules.min_calls):
        circuit.end(admitted(circuit, now), "failure", now, hint, CHANCE)
    assert not circuit.closed
    return circuit


# --- against a model -------------------------------------------------------------------------


class Model(RuleBasedStateMachine):
    """Any sequence of calls, ends, waits and hands does what a simple model says."""

    of = attrs.evolve(RULES, probes=2)

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.circuit = Circuit(self.of)
        self.state = "closed"
        self.until = 0.0
        self.not_before = self.hinted = -math.inf
        self.results: list[tuple[float, bool]] = []
        self.failed_probes = 0
        self.lenient = False
        self.out: list[tuple[Permit, int, float | None]] = []  # permit, epoch, end of the lease
        self.epoch = 0

    def become(self, state: str) -> None:
        self.state, self.results, self.epoch = state, [], self.epoch + 1

    def trip(self) -> None:
        wait = min(5 * 2**self.failed_probes, 60) * (1 + JITTER / 2)
        self.until = max(self.now + wait, self.asked())
        self.become("open")

    def asked(self) -> float:
        return self.not_before if self.now - self.hinted < 30 else -math.inf

    def lately(self) -> list[bool]:
        slot = self.now // 3
        return [good for at, good in self.results if at // 3 > slot - 10]

    def probing(self) -> int:
        return sum(
            end is not None and epoch == self.epoch and end > self.now for _, epoch, end in self.out
        )

    @rule(seconds=st.sampled_from([0.5, 3.0, 6.0, 12.0, 20.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def call(self) -> None:
        permit, _ = self.circuit.admit(self.now)
        if self.state == "open" and self.now >= self.until:
            self.become("half_open")
        if self.state == "closed":
            assert isinstance(permit, Permit)
            assert permit.probe is None
            self.out.append((permit, self.epoch, None))
        elif self.state == "half_open" and self.probing() < self.of.probes:
            assert isinstance(permit, Permit)
            assert permit.probe is not None
            self.out.append((permit, self.epoch, self.now + self.of.probe_ttl))
        else:
            assert isinstance(permit, Refusal)
            assert permit.state == self.state
            if self.state == "open":
                assert permit.retry_after == pytest.approx(self.until - self.now)

    @precondition(lambda self: self.out)
    @rule(
        data=st.data(),
        verdict=st.sampled_from(["success", "failure", "failure", "neutral"]),
        hint=st.sampled_from([None, None, 1.0, 50.0]),
    )
    def end(self, data: Any, verdict: Any, hint: float | None) -> None:
        self.over(data.draw(st.integers(0, len(self.out) - 1)), verdict, hint)

    @rule(
        verdicts=st.lists(
            st.sampled_from(["success", "failure", "failure"]), min_size=1, max_size=8
        )
    )
    def answered(self, verdicts: list[Any]) -> None:
        """Several calls, one after the other."""
        for verdict in verdicts:
            before = len(self.out)
            self.call()
            if len(self.out) > before:
                self.over(-1, verdict, None)

    def over(self, place: int, verdict: Any, hint: float | None) -> None:
        permit, epoch, lease = self.out.pop(place)
        # A lease counts until its room is given to the next probe; the model asks the circuit.
        gone = lease is not None and permit.probe not in self.circuit._leases
        if gone:
            assert epoch != self.epoch or lease is None or lease <= self.now
        self.circuit.end(permit, verdict, self.now, hint, CHANCE)
        if epoch != self.epoch or gone or verdict == "neutral":
            return
        if verdict == "failure" and hint is not None:
            self.not_before, self.hinted = max(self.asked(), self.now + hint), self.now
        if lease is not None and verdict == "success":
            self.failed_probes, self.not_before, self.lenient = 0, -math.inf, True
            self.become("closed")
        elif lease is not None:
            self.failed_probes += 1
            self.trip()
        else:
            self.results.append((self.now, verdict == "success"))
            counted = self.lately()
            share = counted.count(False) / len(counted)
            if len(counted) < 4:
                return
            if verdict == "success":
                self.lenient = self.lenient and share >= 0.25
            elif share >= (0.75 if self.lenient else 0.5):
                self.trip()

    @rule(what=st.sampled_from([*[""] * 8, "isolate", "reset"]))  # rarely: it begins anew
    def by_hand(self, what: str) -> None:
        if what == "isolate":
            self.circuit.isolate()
            if self.state != "isolated":
                self.become("isolated")
        elif what == "reset":
            self.circuit.reset()
            self.failed_probes, self.not_before, self.lenient = 0, -math.inf, False
            self.become("closed")

    @initialize(half_open=st.booleans())
    def begin(self, half_open: bool) -> None:
        """Half of the time behind the first opening, where most can happen."""
        if half_open:
            self.answered(["failure"] * 4)
            self.wait(6.0)
            self.call()

    @invariant()
    def they_agree(self) -> None:
        state, seconds, calls, failures = self.circuit.look(self.now)
        if self.state == "open" and self.now >= self.until:
            assert state == "half_open"
        else:
            assert state == self.state
        assert (seconds is not None) == (state == "open")
        assert calls == len(self.lately())
        assert failures == self.lately().count(False)
        assert len(self.circuit._leases) <= self.of.probes


TestCircuitAgainstModel = Model.TestCase
TestCircuitAgainstModel.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


# --- single rules ----------------------------------------------------------------------------


def test_it_opens_at_the_ratio_and_not_before_enough_calls() -> None:
    """Three failures of three are too few to judge; two of four are a half."""
    circuit = Circuit(RULES)
    for verdict in ("failure", "success", "success"):
        circuit.end(admitted(circuit, 0), verdict, 0, None, CHANCE)
    assert circuit.closed
    change = circuit.end(admitted(circuit, 0), "failure", 0, None, CHANCE)
    assert change is not None
    assert (change.before, change.state, change.calls, change.failures) == ("closed", "open", 4, 2)


def test_what_is_long_past_counts_no_more() -> None:
    """Failures leave the window with time, however little happens."""
    circuit = Circuit(RULES)
    for _ in range(3):
        circuit.end(admitted(circuit, 0), "failure", 0, None, CHANCE)
    circuit.end(admitted(circuit, 40), "failure", 40, None, CHANCE)
    assert circuit.closed


def test_each_probe_that_fails_doubles_the_time_up_to_the_longest() -> None:
    """5, 10, 20, 40, 60, 60 s, with a tenth by chance; a success begins anew."""
    circuit, now, spans = opened(), 0.0, []
    for _ in range(6):
        wait = refused(circuit, now).retry_after
        assert wait is not None
        spans.append(wait)
        now += wait
        circuit.end(admitted(circuit, now), "failure", now, None, CHANCE)
    assert spans == pytest.approx([5.5, 11, 22, 44, 66, 66])
    now += 66
    circuit.end(admitted(circuit, now), "success", now, None, CHANCE)
    assert circuit.closed
    for _ in range(4):
        circuit.end(admitted(circuit, now), "failure", now, None, CHANCE)
    assert refused(circuit, now).retry_after == pytest.approx(5.5)


def test_after_a_probe_it_takes_more_to_open_it_until_the_provider_is_well() -> None:
    """Three of four, and not two; after enough good answers a half will do again."""
    circuit = opened()
    circuit.end(admitted(circuit, 10), "success", 10, None, CHANCE)
    for verdict in ("failure", "success", "success", "failure"):
        circuit.end(admitted(circuit, 10), verdict, 10, None, CHANCE)
    assert circuit.closed
    for _ in range(5):
        circuit.end(admitted(circuit, 10), "success", 10, None, CHANCE)
    assert circuit.look(10)[2:] == (9, 2)  # 22 % have failed, less than a quarter
    for _ in range(5):
        assert circuit.closed
        circuit.end(admitted(circuit, 10), "failure", 10, None, CHANCE)
    assert not circuit.closed


def test_a_probe_that_says_nothing_gives_its_place_back() -> None:
    """The next call probes at once; nothing has opened or closed."""
    circuit = opened()
    probe = admitted(circuit, 10)
    assert refused(circuit, 10).state == "half_open"
    assert circuit.end(probe, "neutral", 11, None, CHANCE) is None
    assert admitted(circuit, 11).probe is not None


def test_a_probe_that_nobody_hears_of_makes_room() -> None:
    """Its late word counts no more than one from before the opening."""
    circuit = opened()
    lost = admitted(circuit, 10)
    assert refused(circuit, 29).retry_after == pytest.approx(1)
    second = admitted(circuit, 30)
    assert circuit.end(lost, "success", 31, None, CHANCE) is None
    change = circuit.end(second, "success", 32, None, CHANCE)
    assert change is not None
    assert change.state == "closed"


def test_what_began_before_the_opening_does_not_decide_afterwards() -> None:
    """Old calls that fail late neither reopen nor lengthen."""
    circuit = Circuit(RULES)
    old = admitted(circuit, 0)
    for _ in range(4):
        circuit.end(admitted(circuit, 0), "failure", 0, None, CHANCE)
    assert circuit.end(old, "failure", 3, 1_000, CHANCE) is None
    assert refused(circuit, 3).retry_after == pytest.approx(2.5)


def test_the_providers_wish_is_not_undercut() -> None:
    """It stays open for as long as asked, though never for more than an hour."""
    assert refused(opened(hint=40), 0).retry_after == pytest.approx(40)
    assert refused(opened(hint=1), 0).retry_after == pytest.approx(5.5)
    assert refused(opened(hint=1e9), 0).retry_after == pytest.approx(LONGEST_HINT)


def test_a_wish_of_long_ago_does_not_keep_it_open() -> None:
    """It counts as long as the answer that had it: the provider has been well since then."""
    circuit = Circuit(RULES)
    circuit.end(admitted(circuit, 0), "failure", 0, 3_600, CHANCE)
    for _ in range(4):
        circuit.end(admitted(circuit, 31), "failure", 31, None, CHANCE)
    assert refused(circuit, 31).retry_after == pytest.approx(5.5)


def test_a_thread_that_read_the_clock_a_moment_before_the_opening_is_refused() -> None:
    """It does not take the new circuit for an old one and probe at once."""
    assert refused(opened(now=100), 99.999).state == "open"


def test_a_clock_that_began_anew_does_not_keep_it_shut() -> None:
    """An instant before the opening is another clock's: the next call is a probe."""
    assert admitted(opened(now=1e6), 0).probe is not None


def test_threads_together_get_one_probe() -> None:
    """However many ask at the same moment."""
    circuit, found = opened(), []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        found.append(circuit.admit(10)[0])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(permit, Permit) for permit in found) == 1


# --- the book --------------------------------------------------------------------------------


def test_circuits_are_bounded_and_open_ones_stay_longest() -> None:
    """Names that come with requests cannot push out a circuit that is open."""
    book = Circuits(RULES, max_circuits=10)
    bad = book.circuit("p", "bad")
    for _ in range(4):
        bad.end(admitted(bad, 0), "failure", 0, None, CHANCE)
    for number in range(100):
        book.circuit("p", f"model {number}")
    assert book.circuit("p", "bad") is bad
    assert len(book.states(0)) == 10


def test_circuits_are_bounded_even_if_all_are_open() -> None:
    """Then the oldest goes."""
    book = Circuits(RULES, max_circuits=2)
    for name in "abc":
        book.isolate("p", name)
    assert [state.model for state in book.states(0)] == ["b", "c"]
    assert not book.circuit("p", "a").closed  # what was done by hand is remembered


def test_whoever_isolates_a_new_model_is_told_of_the_change() -> None:
    """As for one that is known already; and the second time nothing changes."""
    book = Circuits(RULES)
    (change,) = book.isolate("p", "new")
    assert (change.model, change.before, change.state) == ("new", "closed", "isolated")
    assert book.isolate("p", "new") == []


def test_isolation_holds_for_models_that_nobody_has_asked_for() -> None:
    """A provider is isolated as a whole, and its models cannot be let out one by one."""
    book = Circuits(RULES)
    book.circuit("p", "known")
    changes = book.isolate("p", None)
    assert [change.model for change in changes] == ["known"]
    assert not book.circuit("p", "new").closed
    assert book.circuit("other", "known").closed
    assert book.reset("p", "new") == []
    assert len(book.reset("p", None)) == 2
    assert book.circuit("p", "newer").closed


# --- the judgement ---------------------------------------------------------------------------

FAILURES = [
    ServerError("x", status=500),
    OverloadedError("x", status=529),
    OverloadedError("x"),
    ServerError("x"),
    ProviderError("x"),
    ProviderError("x", status=502),
    ProviderError("x", status=408),
    ConnectError("x"),
    ConnectTimeout("x"),
    AttemptTimeout("x"),
    ProtocolError("x"),
    StreamTruncated("x"),
    ConnectionResetError(),
    TimeoutError(),
]
NEUTRAL = [
    InvalidRequestError("x", status=400),
    AuthenticationError("x", status=401),
    NotFoundError("x", status=404),
    QuotaError("x", status=429),
    QuotaError("x"),
    RateLimitError("x", status=429),
    ContentFilteredError("x"),
    ResponseTooLargeError("x"),
    DeadlineExceeded("x"),
    CircuitOpenError("x"),
    LimitedError("x"),
    ClosedError("x"),
    TypeError("x"),
]


def named(error: Exception) -> str:
    """The case's name: the class, and the status where there is one."""
    status = getattr(error, "status", None)
    return type(error).__name__ + ("" if status is None else f" {status}")


def judged(error: BaseException | None, **options: Any) -> str:
    """The verdict about a call that ended with an error."""
    outcome = Outcome.COMPLETE if error is None else getattr(error, "outcome", Outcome.FAILED)
    given = {"slow": False, "count_throttles": False, "judge": None, **options}
    return verdict_of(Ending(outcome, error), **given)


@pytest.mark.parametrize("error", FAILURES, ids=named)
def test_what_the_provider_does_wrong_is_a_failure(error: Exception) -> None:
    """Servers, networks, timeouts, truncation, nonsense; in-band as well."""
    assert judged(error) == "failure"


@pytest.mark.parametrize("error", NEUTRAL, ids=named)
def test_what_others_do_wrong_says_nothing(error: Exception) -> None:
    """Callers, credentials, this process and its own limits."""
    assert judged(error) == "neutral"


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.LEFT])
def test_leaving_says_nothing(outcome: Outcome) -> None:
    """However the caller went, and whatever error that left behind."""
    for error in (None, KeyboardInterrupt(), ClosedError("x")):
        end = Ending(outcome, error)
        assert verdict_of(end, slow=True, count_throttles=True, judge=None) == "neutral"


def test_an_answer_is_a_success_unless_it_was_slow() -> None:
    """A slow answer is a failure; a slow mistake of the caller's is none."""
    assert judged(None) == "success"
    assert judged(None, slow=True) == "failure"
    assert judged(InvalidRequestError("x", status=400), slow=True) == "neutral"


def test_a_timeout_that_this_process_missed_is_no_failure() -> None:
    """A limit noticed two seconds late was not missed by the provider."""
    error = AttemptTimeout("x")
    error.late = 2.0
    assert judged(error) == "neutral"
    error.late = 0.01
    assert judged(error) == "failure"


def test_throttles_count_where_asked() -> None:
    """429 is a failure only with count_throttles; an empty account never is."""
    assert judged(RateLimitError("x", status=429), count_throttles=True) == "failure"
    assert judged(QuotaError("x", status=429), count_throttles=True) == "neutral"


def test_the_callers_judge_comes_first() -> None:
    """Either way; None leaves it to the layer."""
    assert judged(TypeError("x"), judge=lambda _: True) == "failure"
    assert judged(ServerError("x", status=500), judge=lambda _: False) == "success"
    assert judged(ServerError("x", status=500), judge=lambda _: None) == "failure"


@pytest.mark.parametrize("hint", [None, 0.0, -1.0, math.nan, math.inf])
def test_only_sensible_hints_are_heard(hint: float | None) -> None:
    """No hint is none, and neither is zero, a negative one, or no number."""
    assert hint_of(Ending(Outcome.FAILED, ServerError("x", retry_after=hint))) is None
    assert hint_of(Ending(Outcome.FAILED, ServerError("x", retry_after=7))) == 7
