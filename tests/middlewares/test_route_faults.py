"""Route where things go wrong around it: what is measured, counted, shown and kept stays right."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
import pytest

from lamella import (
    ChatRequest,
    ClosedError,
    ConfigurationError,
    Context,
    DeadlineExceeded,
    Finish,
    LamellaError,
    NotFoundError,
    Pipeline,
    RateLimitError,
    ServerError,
    Usage,
    UsageReport,
    middleware,
)
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.circuit_breaker import CircuitBreaker
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.hedge import Hedge
from lamella_middlewares.retry import Retry
from lamella_middlewares.route import (
    Affinity,
    Classifier,
    Ejection,
    Rollout,
    Route,
    Shadow,
    TargetState,
    Weights,
)
from lamella_middlewares.route._board import MAX_GROUPS, Board

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello", model="m")
NONSENSE: Any = 5


def fine(name: str, **options: Any) -> Scripted:
    """A target that always answers with its name."""
    return Scripted([name], repeat=True, name=name, **options)


def failing(name: str, error: LamellaError) -> Scripted:
    """A target that always fails."""
    return Scripted([error], repeat=True, name=name)


def of(**context: Any) -> ChatRequest:
    """A request of somebody's."""
    return ASK.evolve(context=Context(**context))


async def ask(pipeline: Pipeline, calls: int = 1, request: ChatRequest = ASK) -> list[str]:
    """Where so many calls went, or the class of their error."""
    found: list[str] = []
    for _ in range(calls):
        try:
            found.append(str((await pipeline.run(request)).served_by))
        except LamellaError as error:
            found.append(type(error).__name__)
    return found


async def burst(pipeline: Pipeline, calls: int, request: ChatRequest = ASK) -> None:
    """So many calls at once."""
    async with anyio.create_task_group() as group:
        for _ in range(calls):
            group.start_soon(ask, pipeline, 1, request)


class Stack:
    """A route of which the figures can be looked at."""

    def __init__(self, route: Route, *inside: Any, outside: tuple[Any, ...] = ()) -> None:
        self.route, self.ports = route, virtual_ports(seed=1)
        self.pipeline = Pipeline([*outside, route, *inside], "mock", ports=self.ports)

    def state(self, name: str) -> TargetState:
        """How a target stands."""
        return next(one for one in self.route.states(self.ports) if one.name == name)


# --- what is measured ------------------------------------------------------------------------


async def test_a_short_deadline_does_not_make_a_slow_target_look_fast() -> None:
    """That it was not there after 10 ms says nothing of a target that takes 2 s."""
    stack = Stack(Route([fine("a", delay=2.0)]))
    await ask(stack.pipeline)
    hurried = Pipeline([Deadline(0.01), stack.route], "mock", ports=stack.ports)
    assert await ask(hurried, 10) == ["DeadlineExceeded"] * 10
    assert stack.state("a").run_latency == 2.0


async def test_a_target_that_never_answers_does_not_get_all_the_calls() -> None:
    """Nothing is known of how fast it is, call after call; it gets its share and no more."""
    wrong = failing("wrong", NotFoundError("x", status=404))
    stack = Stack(Route([fine("a", delay=0.1), wrong], policy="latency"))
    assert (await ask(stack.pipeline, 200)).count("NotFoundError") < 130


async def test_a_burst_is_spread_although_nobody_knows_yet_what_it_uses() -> None:
    """Calls in flight count as much as calls have used."""
    usage = UsageReport(Usage(uncached_input=100))
    script: list[Any] = [1.0, "x", usage, Finish("stop")]
    targets = [Scripted([script], repeat=True, name=name) for name in "ab"]
    stack = Stack(Route(targets, policy="usage"))
    await ask(stack.pipeline)
    await burst(stack.pipeline, 100)
    assert [len(target.requests) for target in targets] in ([51, 50], [50, 51])


async def test_what_failed_before_a_refusal_counts() -> None:
    """A breaker inside the retry has the last word; each attempt was a failure all the same."""
    down = failing("a", ServerError("x", status=500))
    stack = Stack(Route([down]), Retry(attempts=3, base=0.01, budget=None), CircuitBreaker())
    assert "CircuitOpenError" in await ask(stack.pipeline, 8)
    assert stack.state("a").failures == len(down.requests)


async def test_nonsense_of_a_transport_leaves_nothing_in_flight() -> None:
    """A `retry_after` that is text is no word about time, and no reason to count wrongly."""
    odd: Any = "5"
    stack = Stack(Route([failing("a", RateLimitError("busy", status=429, retry_after=odd))]))
    await ask(stack.pipeline)
    assert (stack.state("a").in_flight, stack.state("a").failures) == (0, 1)


async def test_of_many_throttled_calls_one_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Each trace has its note; the log is not flooded."""
    busy = Scripted([[1.0, RateLimitError("busy", retry_after=30)]], repeat=True, name="a")
    with caplog.at_level(logging.WARNING, "lamella"):
        await burst(Stack(Route([busy])).pipeline, 50)
    assert [record.getMessage() for record in caplog.records] == [
        "target a: rests for 30 s (throttled)"
    ]


# --- a route inside a route ------------------------------------------------------------------


async def test_a_pipeline_and_a_target_inside_it_may_have_one_name() -> None:
    """That the pipeline is under way, or has failed, says nothing of the target."""
    one, other = fine("openai"), fine("other")
    inner = Pipeline([Route([one, other])], "mock", name="openai")
    await ask(Stack(Route([inner])).pipeline, 60)
    assert min(len(one.requests), len(other.requests)) > 10

    down = [failing(name, ServerError("x")) for name in ("other", "third")]
    again = Retry(attempts=3, base=0.01, budget=None)
    route = Route([one, *down], namespace="inner", ejection=None)
    inner = Pipeline([again, route], "mock", name="openai")
    assert set(await ask(Stack(Route([inner])).pipeline, 40)) == {"openai"}


# --- who belongs where -----------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.01, 1, 100])
async def test_only_the_proportions_of_weights_matter_for_the_load(weight: float) -> None:
    """Two equal targets take half of one key's burst each, whatever their weights are."""
    targets = [fine(name, delay=9.0) for name in "ab"]
    affinity = Affinity("session", load=1.0)
    route = Route(targets, weights={"a": weight, "b": weight}, affinity=affinity)
    await burst(Stack(route).pipeline, 50, of(session="s"))
    assert [len(target.requests) for target in targets] == [25, 25]


async def test_empty_text_is_nobodys_key() -> None:
    """A gateway without a session sends "", and not all of them are one conversation."""
    stack = Stack(Route([fine("a"), fine("b")], affinity="session"))
    assert set(await ask(stack.pipeline, 30, of(session=""))) == {"a", "b"}
    stack = Stack(Route([fine("a"), fine("b")], rollout=Rollout("b", 50)))
    assert set(await ask(stack.pipeline, 30, of(user=""))) == {"a", "b"}


async def test_a_key_may_be_a_number() -> None:
    """Of users that a database counts, for an affinity and for a rollout."""
    number: Any = 42
    both: list[dict[str, Any]] = [{"affinity": "user"}, {"rollout": Rollout("b", 50)}]
    for options in both:
        route = Route([fine("a"), fine("b")], **options)
        assert len(set(await ask(Stack(route).pipeline, 10, of(user=number, tenant=number)))) == 1


async def test_a_hedge_of_a_user_who_is_in_goes_elsewhere() -> None:
    """The new target has the call already; a second copy there would be as slow."""
    targets = [fine(name, delay=1.0) for name in ("old", "new")]
    route = Route(targets, rollout=Rollout("new", 100))
    stack = Stack(route, outside=(Hedge(delay=0.2, max_extra=1.0),))
    await ask(stack.pipeline, 10, of(user="u"))
    assert [len(target.requests) for target in targets] == [10, 10]


# --- classifier and shadow -------------------------------------------------------------------


def _hurried() -> Pipeline:
    return Pipeline([Deadline(0.5)], fine("judge", delay=3.0), name="judge")


async def _closed(_: Any) -> Any:
    raise ClosedError("a client of its own")


@pytest.mark.parametrize(
    "options",
    [{"function": _closed}, {"ask": _hurried, "above": "a", "below": "a"}],
    ids=["closed", "deadline"],
)
async def test_what_is_over_for_the_classifier_is_not_over_for_the_call(
    options: dict[str, Any],
) -> None:
    """A deadline, or a closing, of its own is one more way to fail: the default stands in."""
    if "ask" in options:
        options = {**options, "ask": options["ask"]()}
    classifier = Classifier(**options, default="b")
    assert await ask(Stack(Route([fine("a"), fine("b")], classifier=classifier)).pipeline) == ["b"]


async def test_a_classifier_is_not_begun_after_the_deadline() -> None:
    """And nothing of it is left un-awaited."""

    @middleware(phase="shape")
    async def late(request: Any, call_next: Any) -> Any:
        past = request.context.clock.now() - 1
        return await call_next(request.evolve(context=request.context.evolve(deadline=past)))

    stack = Stack(Route([fine("a")], classifier=_closed), outside=(late,))
    with pytest.raises(DeadlineExceeded):
        await stack.pipeline.run(ASK)
    gc.collect()


async def test_a_set_of_targets_is_noted_in_one_order() -> None:
    """The same seed gives the same trace, in every process."""
    route = Route([fine(name) for name in "cab"], classifier=lambda _: {"c", "a", "b"})
    response = await Stack(route).pipeline.run(ASK)
    assert response.trace.notes[0].fields["targets"] == ("a", "b", "c")


async def test_a_burst_makes_as_many_copies_as_may_be() -> None:
    """Counted before they begin, so that no trace speaks of a copy that nobody made."""
    ended: list[Any] = []
    shadow = fine("shadow", delay=5.0)
    stack = Stack(Route([fine("a")], shadow=Shadow(shadow, concurrency=2, on_end=ended.append)))
    responses: list[Any] = []

    async def one() -> None:
        responses.append(await stack.pipeline.run(ASK))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(one)
    await anyio.sleep(10)
    names = [note.name for response in responses for note in response.trace.notes]
    assert (names.count("route.shadow"), names.count("route.shadow_skipped")) == (2, 18)
    assert (len(shadow.requests), len(ended)) == (2, 2)


# --- what is kept ----------------------------------------------------------------------------


async def test_of_many_targets_those_in_use_are_known_and_the_rest_forgotten() -> None:
    """What is done by hand holds for a target that is in use, however many come after it."""
    stack = Stack(Route(["x", "y"]))
    await ask(stack.pipeline)
    board = stack.route._board(stack.ports)
    for number in range(MAX_GROUPS + 50):
        board.group(f"provider {number}", (("x", False), ("y", False)))
        if number % 100 == 0:
            await ask(stack.pipeline)
    stack.route.isolate("x", ports=stack.ports)
    response = await stack.pipeline.run(ASK)
    assert response.trace.notes[0].fields["target"] == "y"
    assert len(board.states(("x", "y"), 0.0, {}, Ejection())) == 2 * MAX_GROUPS


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
async def test_a_forked_child_has_none_of_its_parents_calls() -> None:
    """They end in the parent; there they are still counted."""
    stack = Stack(Route([fine("a", delay=5.0)]))
    board = stack.route._board(stack.ports)
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(ask, stack.pipeline)
        await anyio.sleep(1)
        child = os.fork()
        if child == 0:
            os._exit(stack.state("a").in_flight + len(board.flying))
        _, status = os.waitpid(child, 0)  # noqa: ASYNC222 - it exits at once
        assert (os.waitstatus_to_exitcode(status), stack.state("a").in_flight) == (0, 3)
    assert (stack.state("a").in_flight, stack.state("a").calls) == (0, 3)


async def test_a_call_that_outlives_a_fork_is_not_counted_twice() -> None:
    """One that goes on in the child after all ends without a trace on the board."""
    stack = Stack(Route([fine("a", delay=5.0)]))
    async with anyio.create_task_group() as group:
        group.start_soon(ask, stack.pipeline)
        await anyio.sleep(1)
        Board.forget_calls(stack.route._board(stack.ports))
    assert (stack.state("a").in_flight, stack.state("a").calls) == (0, 0)


# --- options ---------------------------------------------------------------------------------


class _Async:
    async def choose(self, request: Any, candidates: Any, random: Any) -> Any:
        """Too late."""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"require": {"region": 5}}, "require="),
        ({"require": {"region": []}}, "require="),
        ({"require": {3: "eu"}}, "require="),
        ({"policy": _Async()}, "`choose` is async"),
        ({"policy": {"use": "cost", "prices": {"c": {"input": "1", "output": "1"}}}}, "'c'"),
        ({"weights": {"a": 1e300}}, "from 1e-09 to 1e\\+09"),
        ({"weights": {"a": 10**400}}, "from 1e-09 to 1e\\+09"),
        ({"rollout": [Rollout("a"), Rollout("b", name="a")]}, "two rollouts of the name 'a'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    """When the layer is made, and not with its first request."""
    with pytest.raises(ConfigurationError, match=words):
        Route(["a", "b"], **options)


@pytest.mark.parametrize(
    "make",
    [
        partial(Classifier, ask="a", above="a", below="b", instruction=NONSENSE),
        partial(Rollout, "a", by=NONSENSE),
        partial(Weights, NONSENSE),
    ],
)
def test_wrong_options_of_options_are_refused(make: Callable[[], object]) -> None:
    """In words, whatever their type."""
    with pytest.raises(ConfigurationError, match=r"(instruction|by|weights)="):
        make()


def test_a_weight_of_nobody_is_refused() -> None:
    """Who takes a target out in a hurry and mistypes its name must not think it is out."""
    route = Route(["a", "b"])
    with pytest.raises(ConfigurationError, match=r"'bb', and there is none.*There are: a, b"):
        route.weights["bb"] = 0
    assert dict(route.weights) == {}


def test_a_route_does_not_show_the_keys_of_its_options() -> None:
    """A table of a transport may have one; its `repr` goes into logs."""
    table = {"use": "openai", "api_key": "sk-secret"}
    classifier = Classifier(ask=table, above="a", below="a")
    text = repr(Route(["a"], shadow={"target": table}, classifier=classifier))
    assert "secret" not in text
    assert text.count("{'use': 'openai'}") == 2


async def test_a_policy_that_returns_the_request_does_not_put_it_into_the_message() -> None:
    """The message names its class."""

    class Wrong:
        def choose(self, request: Any, candidates: Any, random: Any) -> Any:
            """Mistaken."""
            return request

    with pytest.raises(TypeError, match="returned ChatRequest") as caught:
        await Stack(Route([fine("a"), fine("b")], policy=Wrong())).pipeline.run(ASK)
    assert "hello" not in str(caught.value)


async def test_a_rest_is_seconds_or_a_timedelta() -> None:
    """As everywhere."""
    stack = Stack(Route([fine("a"), fine("b")]))
    stack.route.rest("a", timedelta(minutes=1), ports=stack.ports)
    assert set(await ask(stack.pipeline, 20)) == {"b"}
    assert stack.state("a").back_in == pytest.approx(60)
