"""Endings: exactly one for whoever accounts for something, inner layers first."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    ConnectionLostError,
    DeadlineExceeded,
    Ending,
    Finish,
    Outcome,
    Pipeline,
    RateLimitError,
    TextDelta,
    Usage,
    UsageReport,
    ending,
)
from lamella.testing import Item, Scripted, virtual_ports

pytestmark = pytest.mark.anyio

HELLO = ChatRequest.of("hello")
USAGE = Usage(uncached_input=2, text_output=1)
GOOD: list[Item] = ["a", 1.0, UsageReport(USAGE), Finish("stop")]


@pytest.fixture
def anyio_backend(lamella_virtual_backend: tuple[str, dict[str, Any]]) -> tuple[str, Any]:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend


@pytest.fixture(params=[False, True], ids=["run", "stream"])
def stream(request: pytest.FixtureRequest) -> bool:
    """Unstreamed and streamed."""
    return bool(request.param)


def accounting(callback: Any) -> Any:
    """A layer that accounts for something."""

    async def account(request: ChatRequest, call_next: Any) -> ChatResponse:
        return await ending(call_next, request, callback)

    return account


async def shout(request: ChatRequest, call_next: Any) -> ChatResponse:
    """A layer that makes a level of its own."""
    response: ChatResponse = await call_next(request)
    return response.map_text(str.upper)


async def call(pipeline: Pipeline, *, stream: bool) -> ChatResponse:
    """Run or stream to the end."""
    if not stream:
        return await pipeline.run(HELLO)
    async with pipeline.stream(HELLO) as response:
        return await response.collect()


async def test_a_good_end_is_told_once(stream: bool) -> None:
    """The ending has the outcome, the reason, the usage and the events of that place."""
    inner: list[Ending] = []
    outer: list[Ending] = []
    layers = [accounting(outer.append), shout, accounting(inner.append)]
    await call(Pipeline(layers, Scripted([GOOD])), stream=stream)

    assert [end.events[0] for end in (*inner, *outer)] == [TextDelta("a"), TextDelta("A")]
    for end in (*inner, *outer):
        assert (end.outcome, end.error) == (Outcome.COMPLETE, None)
        assert (end.finish_reason, end.usage) == ("stop", USAGE)


async def test_inner_layers_are_told_first(stream: bool) -> None:
    """Callbacks run from the inside out, across levels too."""
    told: list[str] = []
    layers = [
        accounting(lambda _: told.append("outermost")),
        shout,
        accounting(lambda _: told.append("middle")),
        accounting(lambda _: told.append("innermost")),
    ]
    await call(Pipeline(layers, Scripted([GOOD])), stream=stream)
    assert told == ["innermost", "middle", "outermost"]


@pytest.mark.parametrize(
    "script",
    [[RateLimitError("Too many.")], [["a", ConnectionLostError("lost")]]],
    ids=["before", "after"],
)
async def test_a_failure_is_told_once(script: Any, stream: bool) -> None:
    """Before the commitment or after it: one ending, with the error."""
    endings: list[Ending] = []
    layers = [accounting(endings.append), shout, accounting(endings.append)]
    with pytest.raises((RateLimitError, ConnectionLostError)):
        await call(Pipeline(layers, Scripted(script)), stream=stream)
    assert len(endings) == 2
    kinds = {type(end.error) for end in endings}
    assert kinds <= {RateLimitError, ConnectionLostError}
    assert all(end.outcome in {Outcome.FAILED, Outcome.UNKNOWN} for end in endings)


@pytest.mark.parametrize("script", [[[10.0, "a"]], [["a", 10.0, "b"]]], ids=["before", "after"])
async def test_cancellation_is_told_once(script: Any, stream: bool) -> None:
    """A caller who is cancelled, before the commitment or after it, leaves one ending."""
    endings: list[Ending] = []
    layers = [accounting(endings.append), shout, accounting(endings.append)]
    with anyio.move_on_after(5) as scope:
        await call(Pipeline(layers, Scripted(script), ports=virtual_ports()), stream=stream)
    assert scope.cancelled_caught
    assert [end.outcome for end in endings] == [Outcome.CANCELLED] * 2


async def test_leaving_is_told_once() -> None:
    """A consumer who stops early leaves *left*, at every level, with no error."""
    endings: list[Ending] = []
    layers = [accounting(endings.append), shout, accounting(endings.append)]
    async with Pipeline(layers, Scripted([GOOD])).stream(HELLO) as response:
        async for _ in response:
            break
    assert [(end.outcome, end.error) for end in endings] == [(Outcome.LEFT, None)] * 2


async def test_callbacks_have_run_before_finish_is_handed_out() -> None:
    """A consumer who stops at `Finish` has a complete answer, fully accounted for."""
    endings: list[Ending] = []
    pipeline = Pipeline([accounting(endings.append)], Scripted([GOOD]))
    async with pipeline.stream(HELLO) as response:
        async for event in response:
            assert len(endings) == (type(event) is Finish)
            if type(event) is Finish:
                break
    assert (response.outcome, response.trace.outcome) == (Outcome.COMPLETE, Outcome.COMPLETE)


def failing(error: Exception, *, asynchronous: bool) -> Any:
    """A callback that raises."""

    def plain(_: Ending) -> None:
        raise error

    async def later(_: Ending) -> None:
        await anyio.sleep(0.1)
        raise error

    return later if asynchronous else plain


@pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("level", [[], [shout]], ids=["same level", "another level"])
async def test_a_failing_callback_stops_nobody(
    level: list[Any], asynchronous: bool, stream: bool
) -> None:
    """The others hear of the good end; the failure is noted, and raised to the consumer."""
    endings: list[Ending] = []
    broken = accounting(failing(LookupError("mine"), asynchronous=asynchronous))
    layers = [accounting(endings.append), *level, broken, accounting(endings.append)]
    traces: list[Any] = []
    with pytest.raises(LookupError, match="mine"):
        await call(Pipeline([keeping(traces), *layers], Scripted([GOOD])), stream=stream)
    assert [end.outcome for end in endings] == [Outcome.COMPLETE] * 2
    assert [(note.name, note.fields) for note in traces[0].notes] == [
        ("callback.failed", {"error": "LookupError"})
    ]


def keeping(traces: list[Any]) -> Any:
    """A layer that keeps the trace for later."""

    async def keep(request: ChatRequest, call_next: Any) -> ChatResponse:
        traces.append(request.context.trace)
        response: ChatResponse = await call_next(request)
        return response

    return keep


@pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "async"])
async def test_a_failing_callback_never_hides_an_error(asynchronous: bool, stream: bool) -> None:
    """Where the answer did not end well, the consumer gets that error, not the callback's."""
    broken = accounting(failing(LookupError("mine"), asynchronous=asynchronous))
    transport = Scripted([["a", ConnectionLostError("lost")]])
    traces: list[Any] = []
    with pytest.raises(ConnectionLostError):
        await call(Pipeline([keeping(traces), broken], transport), stream=stream)
    assert [note.name for note in traces[0].notes] == ["callback.failed"]


async def test_a_failing_callback_does_not_trouble_one_who_leaves() -> None:
    """A consumer who left early is not told of it by an exception; the trace is."""
    broken = accounting(failing(LookupError("mine"), asynchronous=False))
    async with Pipeline([broken], Scripted([GOOD])).stream(HELLO) as response:
        async for _ in response:
            break
    assert [note.name for note in response.trace.notes] == ["callback.failed"]


async def test_a_callback_is_bounded(stream: bool) -> None:
    """An async callback gets a second, under a shield; then it is a noted TimeoutError."""

    async def endless(_: Ending) -> None:
        await anyio.sleep_forever()

    traces: list[Any] = []
    pipeline = Pipeline([keeping(traces), accounting(endless)], Scripted(["a"]))
    with pytest.raises(TimeoutError, match="longer than 1 s"):
        await call(pipeline, stream=stream)
    assert anyio.current_time() == pytest.approx(1.0)
    assert traces[0].notes[0].fields == {"error": "TimeoutError"}


async def test_a_callback_runs_to_its_end_although_the_caller_is_cancelled(stream: bool) -> None:
    """An async callback stands under a shield: it may still write what it has to."""
    written: list[float] = []

    async def write(_: Ending) -> None:
        await anyio.sleep(0.5)
        written.append(anyio.current_time())

    pipeline = Pipeline([accounting(write)], Scripted([[10.0, "a"]]), ports=virtual_ports())
    with anyio.move_on_after(5):
        await call(pipeline, stream=stream)
    assert written == [5.5]


async def test_on_end_of_a_finished_answer_tells_at_once(stream: bool) -> None:
    """Whoever asks after the end is told the same."""
    response = await call(Pipeline([], Scripted([GOOD])), stream=stream)
    endings: list[Ending] = []
    await response.on_end(endings.append)
    assert [(end.outcome, end.usage) for end in endings] == [(Outcome.COMPLETE, USAGE)]


async def test_ending_names_a_layer_that_returns_nothing() -> None:
    """A layer that forgets its `return` is named to the one outside that accounts."""

    async def forgetful(request: ChatRequest, call_next: Any) -> Any:
        await call_next(request)

    pipeline = Pipeline([accounting(lambda _: None), forgetful], Scripted(["a"]))
    with pytest.raises(TypeError, match="'forgetful' returned NoneType"):
        await pipeline.run(HELLO)


async def test_a_deadline_is_told_as_timed_out(stream: bool) -> None:
    """Layers outside the attempt hear of the time-out as what it is."""

    async def deadline(request: ChatRequest, call_next: Any) -> ChatResponse:
        context = request.context.evolve(deadline=request.context.clock.now() + 3)
        response: ChatResponse = await call_next(request.evolve(context=context))
        return response

    endings: list[Ending] = []
    layers = [accounting(endings.append), deadline, accounting(endings.append)]
    transport = Scripted([["a", 10.0, "b"]])
    with pytest.raises(DeadlineExceeded):
        await call(Pipeline(layers, transport, ports=virtual_ports()), stream=stream)
    assert [end.outcome for end in endings] == [Outcome.TIMED_OUT] * 2


async def test_a_callback_that_comes_late_and_fails_is_heard() -> None:
    """After the call nothing is handed out any more, so whoever registers it gets its error."""
    response = await Pipeline([], Scripted([GOOD])).run(HELLO)

    def broken(_: Ending) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await response.on_end(broken)


async def test_a_layer_that_returns_nothing_is_told_as_failed() -> None:
    """Whoever accounts for something hears of a forgotten `return` as well."""
    outcomes: list[Outcome] = []

    async def account(request: Any, call_next: Any) -> Any:
        return await ending(call_next, request, lambda end: outcomes.append(end.outcome))

    async def forgetful(request: Any, call_next: Any) -> Any:
        await call_next(request)

    with pytest.raises(TypeError, match="'forgetful' returned NoneType"):
        await Pipeline([account, forgetful], Scripted(["hello"])).run(ChatRequest.of("hi"))

    assert outcomes == [Outcome.FAILED]
