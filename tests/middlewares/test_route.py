"""Route: each request goes to one of several targets, and to another one if that cannot take it."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import anyio
import pytest

from lamella import (
    CardBook,
    ChatRequest,
    CircuitOpenError,
    ConfigurationError,
    Context,
    EmbeddingRequest,
    Finish,
    LamellaError,
    LimitedError,
    ModelCard,
    NoTargetError,
    OrderError,
    Outcome,
    Pipeline,
    Preset,
    ServerError,
    Target,
    TextDelta,
    ToolCall,
    UnsupportedError,
    Usage,
    UsageReport,
    middleware,
)
from lamella.testing import Scripted, check_middleware, each_step, run_virtual, virtual_ports
from lamella_middlewares.cost import Cost
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.retry import Retry
from lamella_middlewares.route import Ejection, Route, Shadow, Weights

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello", model="m")


async def ask(pipeline: Pipeline, *, stream: bool = False, request: Any = ASK) -> Any:
    """The complete response, run or streamed."""
    if not stream:
        return await pipeline.run(request)
    async with pipeline.stream(request) as response:
        return await response.collect()


def fine(name: str) -> Scripted:
    """A target that always answers with its name."""
    return Scripted([name], repeat=True, name=name)


def counts(*targets: Scripted) -> list[int]:
    """How often each was asked."""
    return [len(target.requests) for target in targets]


# --- going somewhere -------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_goes_to_one_target(stream: bool) -> None:
    """The answer names it, the attempt is on its branch, and the trace says why it was chosen."""
    a, b = fine("a"), fine("b")
    response = await ask(Pipeline([Route([a, b])], "mock", ports=virtual_ports()), stream=stream)
    assert sum(counts(a, b)) == 1
    [attempt] = response.trace.attempts
    assert (attempt.provider, attempt.branch) == (response.served_by, f"/{response.served_by}")
    [note] = response.trace.notes
    assert note.name == "route.chosen"
    assert note.fields == {"target": response.served_by, "by": "weighted"}


async def test_targets_come_in_all_forms() -> None:
    """Another model, a transport, a pipeline with a stack of its own, a table."""
    own, other, inner = fine("own"), fine("other"), fine("inner")
    nested = Pipeline([Retry()], inner, name="nested")
    table = {"model": "m2", "temperature": 0.0, "name": "cold"}
    route = Route(["m1", other, nested, table], weights={})
    pipeline = Pipeline([route], own, ports=virtual_ports())
    for _ in range(40):
        await pipeline.run(ASK)
    assert [target.name for target in route.choices] == ["m1", "other", "nested", "cold"]
    assert {request.model for request in own.requests} == {"m1", "m2"}
    assert min(counts(other, inner)) > 3


async def test_all_operations_are_routed() -> None:
    """Embeddings as well as chat."""

    async def embed(request: EmbeddingRequest) -> Any:
        return request.answer([Finish("stop")])

    pipeline = Pipeline([Route([embed])], "mock", ports=virtual_ports())
    response = await pipeline.run(EmbeddingRequest(inputs=("x",)))
    assert response.served_by == "embed"


async def test_weights_are_set_while_requests_pass() -> None:
    """0 takes a target out with the next call; one object serves several layers."""
    a, b, weights = fine("a"), fine("b"), Weights({"a": 1})
    pipeline = Pipeline([Route([a, b], weights=weights)], "mock", ports=virtual_ports())
    weights["b"] = 0
    for _ in range(20):
        await pipeline.run(ASK)
    assert counts(a, b) == [20, 0]
    weights["a"] = 0
    with pytest.raises(NoTargetError, match="a: its weight is 0; b: its weight is 0"):
        await pipeline.run(ASK)
    del weights["a"], weights["b"]
    assert (dict(weights), await ask(pipeline) is not None) == ({}, True)
    with pytest.raises(ConfigurationError, match="'b' has -1"):
        weights["b"] = -1


# --- who could -------------------------------------------------------------------------------


async def test_a_model_that_cannot_is_left_out() -> None:
    """A request with a picture goes to the model that sees; nothing of it is dropped."""
    book = CardBook(builtin=False)
    book.register(
        ModelCard("blind", "acme"), ModelCard("seeing", "acme", input=frozenset({"text", "image"}))
    )
    transport = Scripted(["x"], repeat=True, name="acme")
    route = Route(["blind", "seeing"], book=book)
    pipeline = Pipeline([route], transport, ports=virtual_ports())
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}
    see = ChatRequest.of([{"role": "user", "content": [picture]}])
    notes: list[Any] = []
    for _ in range(20):
        notes += (await pipeline.run(see)).trace.notes
    assert {request.model for request in transport.requests} == {"seeing"}
    left_out = {note.fields["why"] for note in notes if note.name == "route.unsuitable"}
    assert left_out == {"the model cannot do input:image"}


async def test_required_tags_choose_the_region() -> None:
    """By option or by the request; if no target has them, nothing is sent."""
    eu, us = fine("eu"), fine("us")
    targets = [Target(t.name, t, tags={"region": t.name}) for t in (eu, us)]
    pipeline = Pipeline([Route(targets, require={"region": "eu"})], "mock", ports=virtual_ports())
    for _ in range(10):
        await pipeline.run(ASK)
    assert counts(eu, us) == [10, 0]
    asia = ASK.evolve(context=Context(attributes={"require": {"region": "asia"}}))
    with pytest.raises(NoTargetError, match="eu: its tag 'region' is 'eu', required is 'asia'"):
        await pipeline.run(asia)


# --- who refuses -----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "refusal", [CircuitOpenError("x"), LimitedError("x", retry_after=3), UnsupportedError("x")]
)
async def test_who_refuses_locally_is_replaced_in_the_same_call(
    stream: bool, refusal: LamellaError
) -> None:
    """An open breaker and a full limit send nothing; another target takes the request."""

    @middleware(phase="attempt")
    async def guard(request: Any, call_next: Any) -> Any:
        if request.context.provider == "a":
            raise refusal.copy()
        return await call_next(request)

    a, b, ports = fine("a"), fine("b"), virtual_ports()
    route = Route([a, b])
    pipeline = Pipeline([route, guard], "mock", ports=ports)
    for _ in range(20):
        assert (await ask(pipeline, stream=stream)).served_by == "b"
    state = route.states(ports)[0]
    assert (state.local, state.failures, state.in_flight) == (state.calls, 0, 0)
    assert state.calls > 3


async def test_if_all_refuse_the_least_wait_is_told() -> None:
    """One error for all, with the reasons by name, and the last refusal as its cause."""
    waits = {"a": 9.0, "b": 4.0, "c": None}

    @middleware(phase="attempt")
    async def full(request: Any, call_next: Any) -> Any:
        raise LimitedError("full", code="rate", retry_after=waits[request.context.provider])

    pipeline = Pipeline([Route([fine(n) for n in "abc"]), full], "mock", ports=virtual_ports())
    with pytest.raises(NoTargetError, match="c: refused: rate") as caught:
        await pipeline.run(ASK)
    assert caught.value.retry_after == 4
    assert isinstance(caught.value.__cause__, LimitedError)
    assert caught.value.attempts == ()


async def test_what_was_sent_is_not_sent_elsewhere() -> None:
    """A refusal after an attempt is raised: the first one may have been processed."""

    @middleware(phase="attempt", rank=10)
    async def once(request: Any, call_next: Any) -> Any:
        await call_next(request)
        raise LimitedError("no second one")

    a, b = fine("a"), fine("b")
    with pytest.raises(LimitedError):
        await Pipeline([Route([a, b]), once], "mock", ports=virtual_ports()).run(ASK)
    assert sum(counts(a, b)) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_is_raised_as_it_is(stream: bool) -> None:
    """Route does not try again: that is for Retry and Fallback."""
    a, b = Scripted([ServerError("x")], name="a"), Scripted([ServerError("x")], name="b")
    with pytest.raises(ServerError):
        await ask(Pipeline([Route([a, b])], "mock", ports=virtual_ports()), stream=stream)
    assert sum(counts(a, b)) == 1


# --- who was asked already -------------------------------------------------------------------


@pytest.mark.parametrize("affinity", [None, "session"])
async def test_the_next_try_of_a_retry_outside_goes_elsewhere(affinity: Any) -> None:
    """However often: each of three targets is asked once before any is asked again."""
    targets = [Scripted([ServerError("x")], repeat=True, name=name) for name in "abc"]
    route = Route(targets, affinity=affinity, ejection=None)
    stack: list[Any] = [Retry(attempts=3, base=0.01, budget=None), route]
    pipeline = Pipeline(stack, "mock", ports=virtual_ports())
    for asked in range(1, 11):
        with pytest.raises(ServerError):
            await pipeline.run(ASK.evolve(context=Context(session="s")))
        assert counts(*targets) == [asked] * 3


async def test_a_second_copy_goes_elsewhere_while_the_first_is_under_way() -> None:
    """A race outside reaches two targets, even if the first waits in a queue and was not sent."""
    sent: list[str] = []

    @middleware(phase="choose")
    async def race(request: Any, call_next: Any) -> Any:
        responses: list[Any] = []
        async with anyio.create_task_group() as group:
            group.start_soon(_ignore, partial(call_next, request.branch("hedge1")))
            await anyio.sleep(1)
            responses.append(await call_next(request.branch("hedge2")))
            group.cancel_scope.cancel()
        return responses[0]

    @middleware(phase="attempt")
    async def queue(request: Any, call_next: Any) -> Any:
        sent.append(request.context.provider)
        if len(sent) % 2:
            await anyio.sleep(60)
        return await call_next(request)

    targets = [fine(name) for name in "ab"]
    ports = virtual_ports()
    route = Route(targets, affinity=lambda _: "the same for all")
    pipeline = Pipeline([race, route, queue], "mock", ports=ports)
    for _ in range(5):
        sent.clear()
        await pipeline.run(ASK)
        assert sorted(sent) == ["a", "b"]
    assert [state.in_flight for state in route.states(ports)] == [0, 0]
    assert route._board(ports).flying == {}


async def _ignore(call: Any) -> None:
    await call()


async def test_another_turn_or_child_does_not_avoid_a_target() -> None:
    """What runs beside in a call of its own turn stays with its warm cache."""

    @middleware(phase="compose")
    async def turns(request: Any, call_next: Any) -> Any:
        async with anyio.create_task_group() as group:
            group.start_soon(_ignore, partial(call_next, request.child(ASK, purpose="judge")))
            await anyio.sleep(0.5)
            return await call_next(request)

    targets = [Scripted([[1.0, "x", Finish("stop")]], repeat=True, name=name) for name in "ab"]
    route = Route(targets, affinity=lambda _: "the same for all")
    response = await Pipeline([turns, route], "mock", ports=virtual_ports()).run(ASK)
    assert len({attempt.provider for attempt in response.trace.attempts}) == 1


# --- gauges ----------------------------------------------------------------------------------


def idle(route: Route, ports: Any) -> None:
    """Nothing is in flight, nothing is kept of any call."""
    assert [state.in_flight for state in route.states(ports)] == [0] * len(route.states(ports))
    board = route._board(ports)
    assert (board.flying, board.shadows) == ({}, 0)


async def test_streams_abandoned_in_every_way_leave_the_gauge_at_its_baseline() -> None:
    """A hundred at once: read, left, cancelled before and after the first event, broken."""
    ports = virtual_ports()
    script: list[Any] = [TextDelta("a"), 1.0, TextDelta("b"), 1.0, Finish("stop")]
    targets = [Scripted([script], repeat=True, name=name) for name in "abc"]
    route = Route(targets, policy="least_in_flight")
    pipeline = Pipeline([route], "mock", ports=ports)

    async def use(way: int) -> None:
        if way == 0:
            await ask(pipeline, stream=True)
        elif way == 1:
            async with pipeline.stream(ASK) as response:
                async for _ in response:
                    break
        elif way == 2:
            with anyio.move_on_after(0.5):
                await pipeline.run(ASK)
        elif way == 3:
            with anyio.move_on_after(0.5):
                async with pipeline.stream(ASK) as response:
                    await response.collect()
        else:
            with pytest.raises(ZeroDivisionError):
                async with pipeline.stream(ASK):
                    raise ZeroDivisionError

    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(use, number % 5)
        await anyio.sleep(0.1)
        assert sum(state.in_flight for state in route.states(ports)) >= 60
    idle(route, ports)
    assert sum(state.calls for state in route.states(ports)) == 100
    assert sum(state.failures for state in route.states(ports)) == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_at_any_step_nothing_stays_counted(backend: str, stream: bool) -> None:
    """Refusal, second choice, stream and shadow copy, cancelled at each step of the scheduler."""

    def make() -> tuple[Any, Any]:
        ports = virtual_ports()

        @middleware(phase="attempt")
        async def guard(request: Any, call_next: Any) -> Any:
            await anyio.sleep(0.1)
            if request.context.provider == "a":
                raise CircuitOpenError("x")
            return await call_next(request)

        targets = [
            Scripted([["x", 0.1, Finish("stop")]], repeat=True, name=name, delay=0.1)
            for name in "ab"
        ]
        route = Route(targets, affinity=lambda _: "key", shadow=Shadow(fine("s")))
        pipeline = Pipeline([route, guard], "mock", ports=ports)

        async def scenario() -> None:
            await ask(pipeline, stream=stream)

        async def check() -> None:
            await pipeline.aclose()
            idle(route, ports)
            assert all(target.open_sources == 0 for target in targets)

        return scenario, check

    assert each_step(make, backend=backend) > 3


async def test_the_kit_leaves_nothing_in_flight() -> None:
    """After every call of the conformance kit."""
    made: list[Route] = []

    def make() -> Route:
        made.append(Route([{"name": "one"}, {"name": "two"}], affinity="prompt"))
        return made[-1]

    async def settled(pipeline: Pipeline) -> None:
        idle(made[-1], pipeline.ports)

    await check_middleware(make, settled=settled)


def test_loops_and_threads_share_one_board() -> None:
    """Calls of several event loops at once are counted in one place, exactly."""
    ports = virtual_ports()
    route = Route(["a", "b"], policy="least_in_flight")
    pipeline = Pipeline([route], Scripted(["x"], repeat=True), ports=ports)

    async def many() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(pipeline.run, ASK)

    threads = [
        threading.Thread(target=anyio.run, args=(many,), kwargs={"backend": backend})
        for backend in ("asyncio", "trio", "asyncio", "trio")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    idle(route, ports)
    assert sum(state.calls for state in route.states(ports)) == 400


# --- state -----------------------------------------------------------------------------------


async def test_what_is_known_can_be_looked_at() -> None:
    """Per target: calls, latency of streams and of the rest, tokens, weight."""
    usage = UsageReport(Usage(uncached_input=30, text_output=12))
    a = Scripted([["x", usage, Finish("stop")]], repeat=True, name="a", delay=0.5, gap=0.25)
    ports = virtual_ports()
    route = Route([a], weights={"a": 2})
    pipeline = Pipeline([route], "mock", ports=ports)
    assert route.states(ports) == ()
    await ask(pipeline)
    await ask(pipeline, stream=True)
    [state] = route.states(ports)
    assert (state.name, state.status, state.calls, state.weight) == ("a", "ok", 2, 2)
    assert state.latency == pytest.approx(0.75)
    assert state.run_latency == pytest.approx(0.75)
    assert state.tokens == pytest.approx(84, abs=3)


async def test_who_gives_up_waiting_says_how_slow_a_target_is() -> None:
    """A call cancelled or timed out without an answer raises the measured latency."""
    delays = iter([0.1, 60.0, 60.0])
    a = Scripted([lambda _: [next(delays), "x", Finish("stop")]], repeat=True, name="a")
    ports = virtual_ports()
    route = Route([a])
    pipeline = Pipeline([route], "mock", ports=ports)
    await ask(pipeline)
    with anyio.move_on_after(20):
        await ask(pipeline)
    first = route.states(ports)[0].run_latency or 0
    assert first > 5
    with pytest.raises(LamellaError):
        await ask(Pipeline([Deadline(40), route], "mock", ports=ports))
    assert (route.states(ports)[0].run_latency or 0) > first
    assert route.states(ports)[0].local == 1


async def test_one_model_at_two_providers_is_two_places() -> None:
    """What is known of a model goes by the provider that the request was going to."""
    ports = virtual_ports()
    route = Route(["m1", "m2"])
    for name in ("acme", "umbrella"):
        pipeline = Pipeline([route], fine(name), ports=ports)
        for _ in range(10):
            await pipeline.run(ASK)
    states = {(state.provider, state.name): state.calls for state in route.states(ports)}
    assert len(states) == 4
    assert sum(states.values()) == 20


async def test_pipelines_share_what_is_known_unless_their_namespaces_differ() -> None:
    """A route made for each request knows what the last one has learnt."""
    ports = virtual_ports()
    for _ in range(10):
        await Pipeline([Route(["a", "b"])], fine("x"), ports=ports).run(ASK)
    assert sum(state.calls for state in Route(["a", "b"]).states(ports)) == 10
    assert Route(["a", "b"], namespace="apart").states(ports) == ()


async def test_closing_closes_the_targets() -> None:
    """Transports given as targets, a shadow's and a classifier's close with the pipeline."""
    a, shadow, judge = fine("a"), fine("shadow"), fine("judge")
    classifier = {"ask": judge, "above": "a", "below": "a"}
    route = Route([a], shadow={"target": shadow}, classifier=classifier)
    pipeline = Pipeline([route], "mock", ports=virtual_ports())
    await pipeline.aclose()
    assert (a.closed, shadow.closed, judge.closed) == (True, True, True)


async def test_the_cost_is_of_the_target_that_answered() -> None:
    """Cost inside prices the model that was chosen."""
    prices = {"m1": {"input": "1", "output": "1"}, "m2": {"input": "1000", "output": "1000"}}
    transport = Scripted([["x", UsageReport(Usage(text_output=1_000)), Finish("stop")]])
    route = Route(["m1", "m2"], weights={"m2": 0})
    pipeline = Pipeline([route, Cost(prices)], transport, ports=virtual_ports())
    assert str((await pipeline.run(ASK)).cost) == "$0.001"


async def test_tool_calls_pass_through() -> None:
    """Events of all kinds come as they are."""
    a = Scripted([ToolCall("1", "look", "{}")], name="a")
    response = await ask(Pipeline([Route([a])], "mock", ports=virtual_ports()), stream=True)
    assert response.tool_calls[0].name == "look"


# --- options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"targets": []}, "targets"),
        ({"targets": [3]}, "targets"),
        ({"policy": "best"}, "policy"),
        ({"weights": {"c": 1}}, "'c', and there is none.*There are: a, b"),
        ({"weights": [1]}, "weights"),
        ({"weights": {"a": "1"}}, "weights"),
        ({"affinity": "x"}, "affinity"),
        ({"classifier": "x"}, "classifier"),
        ({"classifier": {"ask": "a", "above": "c", "below": "a"}}, "'c'"),
        ({"shadow": "x"}, "shadow"),
        ({"shadow": {"target": ["a", "x"]}}, "one target, not 2"),
        ({"ejection": 5}, "ejection"),
        ({"require": "eu"}, "require"),
        ({"book": {}}, "book"),
        ({"namespace": 1}, "namespace"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    """When the layer is made."""
    with pytest.raises(ConfigurationError, match=f"(?s){words}"):
        Route(**{"targets": ["a", "b"], **options})


def test_anything_a_file_can_say() -> None:
    """Every option as plain values, in a preset."""
    options = {
        "use": "route",
        "targets": [{"model": "large"}, {"model": "small", "temperature": 0.0}, "new"],
        "policy": {"use": "latency", "half_life": 60, "explore": 0.1},
        "weights": {"large": 2, "small": 1},
        "affinity": {"by": "session", "ranks": 3},
        "rollout": [{"target": "new", "percent": 10, "by": ["user"]}],
        "classifier": {"ask": "small", "threshold": 0.7, "above": "large", "below": "small"},
        "shadow": {"target": "new", "percent": 5, "concurrency": 2},
        "ejection": {"consecutive": 3, "base": 10, "max_ejected": 0.3},
        "require": {},
        "namespace": "mine",
    }
    pipeline = Pipeline.preset(Preset(layers=(options,), transport="mock"))
    [route] = pipeline.layers
    assert isinstance(route, Route)
    assert route.ejection == Ejection(consecutive=3, base=10, max_ejected=0.3)
    assert (route.shadow_target, route.asked) == (route.choices[2], route.choices[1])
    assert "small" in str(pipeline.explain())


def test_a_mistake_in_a_file_says_where() -> None:
    """With the key path of the option inside the option."""
    layer = {"use": "route", "targets": ["a"], "policy": {"use": "latency", "half_lif": 1}}
    with pytest.raises(ConfigurationError, match=r"layers\[0\]\.policy.*half_lif"):
        Pipeline.preset(Preset(layers=(layer,), transport="mock"))


def test_names_are_made_different() -> None:
    """Two transports of one name, and a shadow of the same."""
    route = Route([fine("a"), fine("a")], shadow={"target": fine("a")})
    assert [target.name for target in route.targets] == ["a", "a#2", "a#shadow"]


def test_a_hedge_belongs_outside() -> None:
    """Inside, it would go to the target that is slow already."""

    @middleware(phase="choose", name="hedge")
    async def hedge(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    with pytest.raises(OrderError, match="slow already"):
        Pipeline([Route(["a"]), hedge], "mock")
    assert Pipeline([hedge, Route(["a"])], "mock").doubts == ()


def test_outcomes_are_those_of_the_trace() -> None:
    """A run in virtual time from beginning to end."""

    async def main() -> Any:
        pipeline = Pipeline([Route(["a", "b"])], fine("x"), ports=virtual_ports())
        return (await pipeline.run(ASK)).trace

    assert run_virtual(main).outcome is Outcome.COMPLETE
