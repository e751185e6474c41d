"""Fallback and Retry together: attempts add up and never multiply."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from crowds import crowd
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import (
    AttemptTimeout,
    CardBook,
    ChatRequest,
    CircuitOpenError,
    ConnectError,
    ConnectTimeout,
    Context,
    File,
    LamellaError,
    Message,
    ModelCard,
    OverloadedError,
    Pipeline,
    Ports,
    RateLimitError,
    ServerError,
    Target,
    TargetsFailedError,
    Text,
    Tool,
    Trace,
)
from lamella.testing import Scripted, run_virtual, virtual_backend, virtual_ports
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.fallback import Fallback
from lamella_middlewares.retry import Retry, RetryBudget
from lamella_middlewares.timeout import Timeout

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello", model="m")
RESERVE = 100
"""Retries in ten seconds that a budget always allows."""


def down(name: str, error: Exception | None = None) -> Scripted:
    """A transport that always fails."""
    return Scripted([error or ServerError("x", status=500)], repeat=True, name=name)


def pipeline(layers: list[Any], transport: Any, *, ports: Ports | None = None, **more: Any) -> Any:
    """A pipeline with a clock and stores of its own."""
    return Pipeline(layers, transport, ports=ports or virtual_ports(), **more)


def stack(depth: int, transport: Any, target: Any, retries: int, inner: int) -> Any:
    """Retry around a fallback of two targets around Retry, nested so deep."""
    again: dict[str, Any] = {"attempts": retries, "base": 0.001, "budget": None}
    layers = [Retry(**again), Fallback([target], budget=None), Retry(**again)]
    if depth > 1:
        transport = stack(depth - 1, transport, target, retries, inner)
        target = stack(depth - 1, target, transport, retries, inner)
        layers[1] = Fallback([target], budget=None)
    return pipeline(layers, transport, max_attempts=inner if depth > 1 else 10)


# --- the bound --------------------------------------------------------------------------------


@given(
    depth=st.integers(1, 3),
    retries=st.integers(1, 4),
    bound=st.integers(1, 12),
    inner=st.integers(1, 12),
    stream=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_retry_inside_targets_inside_retry_never_exceeds_the_bound(
    depth: int, retries: int, bound: int, inner: int, stream: bool
) -> None:
    """However they are nested, and whatever the nested pipelines allow themselves."""
    one, other = down("one"), down("other")
    built = stack(depth, one, other, retries, inner)
    outer = Pipeline([], built, ports=virtual_ports(), max_attempts=bound)

    async def call() -> LamellaError:
        with pytest.raises(LamellaError) as caught:
            if stream:
                async with outer.stream(ASK) as response:
                    await response.collect()
            else:
                await outer.run(ASK)
        return caught.value

    error = run_virtual(call)
    assert 1 <= len(one.requests) + len(other.requests) <= bound
    assert len(error.attempts) == len(one.requests) + len(other.requests)
    assert isinstance(error, ServerError)


async def test_a_nested_pipelines_own_bound_holds_each_time_it_is_asked() -> None:
    """Three tries of a pipeline that allows two attempts are six, of which the call allows five."""
    transport = down("own")
    inner = pipeline([Retry(attempts=5, base=0.001, budget=None)], transport, max_attempts=2)
    outer = [Retry(attempts=3, base=0.001, budget=None)]
    with pytest.raises(ServerError):
        await pipeline(outer, inner, max_attempts=10).run(ASK)
    assert len(transport.requests) == 6
    with pytest.raises(ServerError):
        await pipeline(outer, inner, max_attempts=5).run(ASK)
    assert len(transport.requests) == 11


# --- the budget -------------------------------------------------------------------------------

STACKS: dict[str, Any] = {
    "retry inside": lambda targets: [Fallback(targets), Retry(base=0.01)],
    "retry outside": lambda targets: [Retry(base=0.01), Fallback(targets)],
    "both": lambda targets: [Retry(base=0.01), Fallback(targets), Retry(base=0.01)],
    "nested": lambda targets: [Retry(base=0.01), Fallback(targets), Fallback(targets), Retry()],
}

STORMS = [*((name, False) for name in STACKS), ("both", True)]
ONE_LOOP = pytest.mark.parametrize("anyio_backend", [virtual_backend("asyncio")], ids=["asyncio"])
"""What a thousand callers do together is shown on one of the event loops."""


@ONE_LOOP
async def test_a_storm_of_a_thousand_callers_stays_within_the_budget() -> None:
    """Fault 23, P1: each target sees at most 1.2 attempts a call, and the reserve."""
    await storm("both", shared=False, calls=1000)


@pytest.mark.parametrize(("name", "shared"), STORMS)
async def test_a_storm_stays_within_the_budget_however_layers_stand(
    name: str, shared: bool
) -> None:
    """Without it each target would see 600 attempts or more; 340 and ten a second are allowed."""
    await storm(name, shared=shared, calls=200)


async def storm(name: str, *, shared: bool, calls: int) -> None:
    """So many calls at once to two targets that are down; each is asked within the budget."""
    own, other = down("own", OverloadedError("x", status=503)), down("other")
    targets: list[Any] = ["m2"] if shared else [other]
    pipe = pipeline([Deadline(60), *STACKS[name](targets)], own)
    with crowd():
        results = await pipe.run_many([ASK] * calls, concurrency=calls)
    assert all(isinstance(error, OverloadedError) for error in results)
    seen = Counter((one.context.provider, one.model) for one in (*own.requests, *other.requests))
    allowed = 1.2 * calls + RESERVE + 10 * pipe.ports.monotonic()
    assert len(seen) == 2
    assert all(count <= allowed for count in seen.values()), seen
    # A first visit to another target is no retry: nobody is kept from it.
    assert min(seen.values()) >= calls


@ONE_LOOP
async def test_the_outage_of_one_target_costs_the_other_no_more_than_its_calls() -> None:
    """A thousand calls that all fail over are a thousand calls there, and all succeed."""
    backup = Scripted(["fine"], repeat=True, name="backup")
    pipe = pipeline([Fallback([backup]), Retry(base=0.01)], down("own"))
    with crowd():
        results = await pipe.run_many([ASK] * 1000, concurrency=100)
    assert {response.text for response in results} == {"fine"}
    assert len(backup.requests) == 1000


async def test_a_model_turn_is_one_call_however_often_layers_count_it() -> None:
    """Nested layers would otherwise allow themselves a retry for each of their retries."""
    budget = RetryBudget(ratio=1, per_second=0)
    transport = down("own")
    layers = [Retry(attempts=9, base=0.001, budget=budget) for _ in range(3)]
    with pytest.raises(ServerError):
        await pipeline(layers, transport, max_attempts=100).run(ASK)
    assert len(transport.requests) == 2


async def test_the_free_try_is_one_for_all() -> None:
    """What was never sent is repeated at once a single time in a model turn, by whomever."""
    transport = down("own", ConnectError("x"))
    other = down("other", ConnectError("x"))
    again = Retry(attempts=2, base=0.001, budget=None)
    with pytest.raises(ConnectError):
        await pipeline([Fallback([other]), again], transport).run(ASK)
    assert (len(transport.requests), len(other.requests)) == (3, 2)


# --- coming back ------------------------------------------------------------------------------


async def test_retry_outside_asks_all_targets_again() -> None:
    """In their order, after waiting as long as the first of them to be ready asks for."""
    own = Scripted([OverloadedError("x", status=503, retry_after=2), "back"], name="own")
    other = down("other", RateLimitError("x", status=429, retry_after=9))
    pipe = pipeline([Retry(), Fallback([other])], own)
    response = await pipe.run(ASK)
    assert [one.branch for one in response.trace.attempts] == ["", "/other", "/try2"]
    assert 2 <= pipe.ports.monotonic() < 3


@pytest.mark.parametrize("hint", [2, None])
async def test_a_target_is_not_asked_again_before_it_said(hint: float | None) -> None:
    """P8: though another one is ready sooner. It stands in the summary with what it said."""
    own = Scripted([RateLimitError("x", status=429, retry_after=9), "never"], name="own")
    other = down("other", OverloadedError("x", status=503, retry_after=hint))
    with pytest.raises(RateLimitError) as caught:
        await pipeline([Retry(attempts=2), Fallback([other])], own).run(ASK)
    assert isinstance(caught.value, TargetsFailedError)
    assert [one.provider for one in caught.value.attempts] == ["own", "other", "other"]
    first, second = caught.value.errors
    assert isinstance(first, RateLimitError)
    assert 0 < (first.retry_after or 0) < 9
    assert isinstance(second, OverloadedError)


async def test_a_hint_of_what_cannot_be_retried_delays_nobody() -> None:
    """An open breaker's, say: the other target may be asked at once."""

    async def breaker(request: Any, call_next: Any) -> Any:
        if request.context.provider == "own":
            raise CircuitOpenError("open", retry_after=25)
        return await call_next(request)

    other = Scripted([ServerError("x", status=500), "back"], name="other")
    pipe = pipeline([Retry(), Fallback([other]), breaker], down("own"))
    assert (await pipe.run(ASK)).served_by == "other"
    assert pipe.ports.monotonic() < 1


async def test_retry_outside_judges_all_failures() -> None:
    """It tries again where one of them may pass, though the first is final."""
    from lamella import AuthenticationError, InvalidRequestError

    bad = AuthenticationError("x", status=401, should_retry=False)
    for last, tries in ((ServerError("x"), 2), (InvalidRequestError("x", status=400), 1)):
        own, other = down("own", bad), down("other", last)
        with pytest.raises(AuthenticationError) as caught:
            await pipeline([Retry(attempts=2, base=0.001), Fallback([other])], own).run(ASK)
        assert isinstance(caught.value, TargetsFailedError)
        assert (len(own.requests), len(other.requests)) == (tries, tries)


async def test_a_second_visit_needs_the_budget() -> None:
    """Without any left, only the first target is asked again, for which Retry has paid."""
    traces: list[Trace] = []

    async def keep(request: Any, call_next: Any) -> Any:
        traces.append(request.context.trace)
        return await call_next(request)

    one_retry = RetryBudget(ratio=1, per_second=0)
    own, other = down("own"), down("other")
    layers = [
        keep,
        Retry(attempts=2, base=0.001, budget=one_retry),
        Fallback([other], budget=RetryBudget(ratio=0, per_second=0)),
    ]
    with pytest.raises(ServerError):
        await pipeline(layers, own).run(ASK)
    assert (len(own.requests), len(other.requests)) == (2, 1)
    [skipped] = [note for note in traces[0].notes if note.name == "fallback.skipped"]
    assert skipped.fields == {"target": "other", "why": "retry budget"}


# --- what has been asked already --------------------------------------------------------------


async def test_nested_fallbacks_do_not_ask_the_same_twice() -> None:
    """A target that has failed inside one is not asked again by the other."""
    own, shared = down("own"), down("shared")
    last = Scripted(["fine"], name="last")
    nested = pipeline([Fallback([shared])], down("deep"), name="nested")
    response = await pipeline([Fallback([nested, shared, last])], own).run(ASK)
    assert response.served_by == "last"
    assert len(shared.requests) == 1
    whys = [note.fields for note in response.trace.notes if note.name == "fallback.skipped"]
    assert whys == [{"target": "shared", "why": "it has failed in this call"}]


async def test_a_hedge_outside_gets_another_target() -> None:
    """What is being asked on another branch of the call is not asked again."""
    import anyio

    answers: list[str] = []

    async def hedge(request: Any, call_next: Any) -> Any:
        async def ask(name: str) -> None:
            response = await call_next(request.branch(name))
            answers.append(response.served_by)

        async with anyio.create_task_group() as group:
            group.start_soon(ask, "hedge1")
            await anyio.wait_all_tasks_blocked()
            group.start_soon(ask, "hedge2")
        return await call_next(request)

    own = Scripted(["x", "y"], name="own", delay=5)
    other = Scripted(["z"], name="other", delay=1)
    await pipeline([hedge, Fallback([other])], own).run(ASK)
    assert answers == ["other", "own"]


# --- what Fallback tells Retry ----------------------------------------------------------------


async def test_a_limit_in_time_is_not_waited_for_twice_where_there_is_an_alternative() -> None:
    """A silent target is left for the next one; the last target gets all its tries."""
    silent = Scripted([[math.inf]], repeat=True, name="silent")
    deaf = Scripted([[math.inf]], repeat=True, name="deaf")
    layers = [Fallback([deaf]), Retry(base=0.001, jitter="none"), Timeout(attempt=5)]
    with pytest.raises(TargetsFailedError) as caught:
        await pipeline(layers, silent).run(ASK)
    assert [one.provider for one in caught.value.attempts] == ["silent", *["deaf"] * 3]


async def test_a_limit_on_connecting_is_one_in_time() -> None:
    """Nothing was sent, and yet it took its time: the next target is asked."""

    async def deaf(request: Any) -> Any:
        await request.context.sleep(5)
        raise ConnectTimeout("x")

    pipe = pipeline([Fallback([Scripted(["fine"], name="other")]), Retry(base=0.001)], deaf)
    assert [one.provider for one in (await pipe.run(ASK)).trace.attempts] == ["deaf", "other"]


@pytest.mark.parametrize(
    "asked",
    [
        ASK.evolve(messages=(Message.user([Text("read"), File(id="f1")]),)),
        ASK.evolve(context=Context(attributes={"require": {"region": "eu"}})),
        ASK.evolve(tools=(Tool("look", "Looks.", {"type": "object", "properties": {}}),)),
    ],
    ids=["state", "tag", "capability"],
)
async def test_a_target_that_cannot_take_the_request_is_no_alternative(asked: ChatRequest) -> None:
    """The only one that can gets all its tries, and its full time in lines."""
    book = CardBook(builtin=False)
    book.register(ModelCard("m", "other"))
    other = Target("other", Scripted(["never"], name="other"), tags={"region": "us"})
    silent = Scripted([[math.inf]], repeat=True, name="silent")
    own = Target("own", None, tags={"region": "eu"})
    layers = [Fallback([other], primary=own, book=book), Retry(base=0.001), Timeout(attempt=5)]
    with pytest.raises(AttemptTimeout) as caught:
        await pipeline(layers, silent).run(asked)
    assert [one.provider for one in caught.value.attempts] == ["silent"] * 3


async def test_a_child_has_no_alternatives() -> None:
    """The other targets are for the request, and not for what is asked about it."""
    seen: list[bool] = []

    async def asks(request: Any, call_next: Any) -> Any:
        child = request.child(ChatRequest.of("?"), purpose="judge")
        seen.extend([request.context.alternatives, child.context.alternatives])
        return await call_next(request)

    await pipeline([Fallback(["m2"]), asks], Scripted(["fine"])).run(ASK)
    assert seen == [True, False]


async def test_other_failures_are_retried_although_there_is_an_alternative() -> None:
    """What fails at once costs little to try again."""
    flaky = Scripted([ServerError("x", status=500), "there"], name="flaky")
    layers = [Fallback([down("other")]), Retry(base=0.001)]
    assert (await pipeline(layers, flaky).run(ASK)).served_by == "flaky"


async def test_the_last_target_of_a_nested_fallback_has_those_outside_behind_it() -> None:
    """Alternatives add up."""
    inner = pipeline(
        [Fallback(["m2"]), Retry(base=0.001), Timeout(attempt=5)],
        Scripted([[math.inf]], repeat=True, name="inner"),
    )
    outer = pipeline([Fallback([Scripted(["fine"], name="outer")])], inner)
    response = await outer.run(ASK)
    assert [one.provider for one in response.trace.attempts] == ["inner", "inner", "outer"]
