"""`stream`: a block that yields an open response, and what `run` and it have in common."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    ClosedError,
    ConnectionLostError,
    Finish,
    Handler,
    MisuseError,
    Outcome,
    Pipeline,
    RateLimitError,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
    UsageReport,
)
from lamella.testing import Item, Scripted, virtual_ports

pytestmark = pytest.mark.anyio

HELLO = ChatRequest.of("hello")
LONG: list[Item] = ["a", 1.0, "b", 1.0, "c", Finish("stop")]


@pytest.fixture
def anyio_backend(lamella_virtual_backend: tuple[str, dict[str, Any]]) -> tuple[str, Any]:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend


async def test_events_come_as_they_are_sent() -> None:
    """Nothing is gathered up: each event is handed on when it is there."""
    pipeline = Pipeline([], Scripted([LONG]), ports=virtual_ports())
    async with pipeline.stream(HELLO) as response:
        seen = [(anyio.current_time(), event) async for event in response]
    assert seen == [
        (0.0, TextDelta("a")),
        (1.0, TextDelta("b")),
        (2.0, TextDelta("c")),
        (2.0, Finish("stop")),
    ]
    assert response.trace.duration == 2.0


async def test_a_block_is_entered_once() -> None:
    """Entering again, awaiting or iterating the block are errors that show the way."""
    block = Pipeline([], Scripted([LONG])).stream(HELLO)
    async with block:
        pass
    with pytest.raises(MisuseError, match="already been entered"):
        await block.__aenter__()
    wrong: Any = Pipeline([], Scripted([LONG])).stream(HELLO)
    for use in (aiter, iter):
        with pytest.raises(MisuseError, match="async with"):
            use(wrong)
    with pytest.raises(MisuseError, match="async with"):
        await wrong


async def test_the_request_says_that_a_stream_is_wanted() -> None:
    """`request.stream` is set by the pipeline alone, and nested pipelines keep it."""
    transport = Scripted([LONG])
    async with Pipeline([], Pipeline([], transport)).stream(HELLO) as response:
        await response.collect()
    assert [request.stream for request in transport.requests] == [True]
    assert not HELLO.stream


async def test_an_uncommitted_error_is_raised_on_entering() -> None:
    """Before the first event an error is raised where a layer could still have tried again."""
    pipeline = Pipeline([], Scripted([RateLimitError("Too many.")]))
    with pytest.raises(RateLimitError) as limited:
        async with pipeline.stream(HELLO):
            pytest.fail("nothing was committed")
    assert (limited.value.committed, limited.value.retryable) == (False, True)
    assert len(limited.value.attempts) == 1


async def test_a_committed_error_is_never_tried_again() -> None:
    """After the first event an error passes every layer, marked committed and not retryable."""
    kinds: list[tuple[bool, bool]] = []

    async def retry(request: ChatRequest, call_next: Handler) -> ChatResponse:
        try:
            return await call_next(request)
        except ConnectionLostError as error:
            kinds.append((error.committed, error.retryable))
            return await call_next(request)

    lost = ConnectionLostError("lost")
    transport = Scripted([lost, ["a", lost], "never"])
    with pytest.raises(ConnectionLostError) as raised:
        async with Pipeline([retry], transport).stream(HELLO) as response:
            await response.collect()
    assert kinds == [(False, True)]
    assert (raised.value.committed, raised.value.retryable) == (True, False)
    assert len(raised.value.attempts) == len(transport.requests) == 2


SCRIPTS: dict[str, list[Any]] = {
    "text": ["some words and more"],
    "nothing": [[Finish("content_filter")]],
    "tool": [ChatResponse.of([ToolCall("1", "f", '{"a": 1}'), ToolCall("2", "g", "{}")])],
    "pieces": [
        [
            ToolCallDelta(0, "1", "f"),
            ToolCallDelta(1, "2", "g"),
            ToolCallDelta(0, arguments='{"a"'),
            ToolCallDelta(1, arguments="{}"),
            ToolCallDelta(0, arguments=": 1}"),
            UsageReport(Usage(text_output=9)),
            Finish("tool_calls"),
        ]
    ],
    "second try": [RateLimitError("Too many."), "a b"],
}


@pytest.mark.parametrize("name", SCRIPTS)
async def test_collecting_a_stream_is_running(name: str) -> None:
    """`collect(stream) == run`: the same events, answer, attempts and outcome."""

    async def retry(request: ChatRequest, call_next: Handler) -> ChatResponse:
        try:
            return await call_next(request)
        except RateLimitError:
            return await call_next(request)

    async def shout(request: ChatRequest, call_next: Handler) -> ChatResponse:
        response = await call_next(request)
        return response.map_text(str.upper)

    def pipeline() -> Pipeline:
        return Pipeline([shout, retry], Scripted(SCRIPTS[name]), ports=virtual_ports())

    ran = await pipeline().run(HELLO)
    async with pipeline().stream(HELLO) as streamed:
        await streamed.collect()
    assert streamed.events == ran.events
    assert streamed.answer == ran.answer
    assert streamed.head == ran.head
    assert [a.outcome for a in streamed.trace.attempts] == [a.outcome for a in ran.trace.attempts]
    assert streamed.trace.outcome is ran.trace.outcome is Outcome.COMPLETE


async def test_closing_the_pipeline_ends_a_held_answer() -> None:
    """An answer that a consumer holds is closed at its source; reading on is ClosedError."""
    transport = Scripted([LONG])
    pipeline = Pipeline([], transport, ports=virtual_ports())
    async with anyio.create_task_group() as group, pipeline.stream(HELLO) as response:
        await anext(aiter(response))
        group.start_soon(pipeline.aclose)
        await anyio.sleep(0.1)
        assert transport.open_sources == 0
        with pytest.raises(ClosedError):
            await response.collect()


async def test_closing_the_pipeline_wakes_a_read() -> None:
    """A consumer who waits for the next event gets ClosedError, committed, not retryable."""
    transport = Scripted([LONG])
    pipeline = Pipeline([], transport, ports=virtual_ports())

    async def consume() -> None:
        with pytest.raises(ClosedError) as closed:
            async with pipeline.stream(HELLO) as response:
                await response.collect()
        assert (closed.value.committed, closed.value.retryable) == (True, False)
        assert [a.outcome for a in closed.value.attempts] == [Outcome.CANCELLED]

    async with anyio.create_task_group() as group:
        group.start_soon(consume)
        await anyio.sleep(0.5)
        await pipeline.aclose()
    assert (transport.open_sources, anyio.current_time()) == (0, 0.5)


async def test_an_error_in_the_block_closes_the_answer() -> None:
    """The consumer's own exception passes; the source is closed and the answer was *left*."""
    transport = Scripted([LONG])
    pipeline = Pipeline([], transport, ports=virtual_ports())
    entered: list[ChatResponse] = []

    async def fail() -> None:
        async with pipeline.stream(HELLO) as response:
            entered.append(response)
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await fail()
    assert (entered[0].outcome, transport.open_sources) == (Outcome.LEFT, 0)


async def test_a_slow_consumer_is_waited_for() -> None:
    """Nothing is read ahead: the source gives an event only when it is asked for one."""
    transport = Scripted([["a", "b", "c", Finish("stop")]])
    pipeline = Pipeline([], transport, ports=virtual_ports())
    async with pipeline.stream(HELLO) as response:
        given: list[int] = []
        async for _ in response:
            await anyio.sleep(10)
            given.append(transport.sources[0].given)
    assert given == [1, 2, 3, 4]
