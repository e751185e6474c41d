"""Commit by return: `begin` hands events to the core, and decides what is open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    ConnectionLostError,
    Event,
    Finish,
    FirstEventTimeout,
    Head,
    IdleTimeout,
    LamellaError,
    Limits,
    MediaDelta,
    Opaque,
    Outcome,
    Pipeline,
    RateLimitError,
    ReasoningDelta,
    RefusalDelta,
    StreamTruncated,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReport,
    begin,
)
from lamella.testing import Scripted, ScriptedAnswer, virtual_ports

pytestmark = pytest.mark.anyio

HELLO = ChatRequest.of("hello")
PING = Opaque({"type": "ping"}, content=False)


@pytest.fixture
def anyio_backend(lamella_virtual_backend: tuple[str, dict[str, Any]]) -> tuple[str, Any]:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend


def limited(transport: Any, **limits: Any) -> Pipeline:
    """A pipeline whose attempts have limits in time."""

    async def limit(request: ChatRequest, call_next: Any) -> ChatResponse:
        context = request.context.evolve(limits=Limits(**limits))
        response: ChatResponse = await call_next(request.evolve(context=context))
        return response

    return Pipeline([limit], transport, ports=virtual_ports())


async def call(pipeline: Pipeline, *, stream: bool) -> ChatResponse:
    """Run or stream to the end."""
    if not stream:
        return await pipeline.run(HELLO)
    async with pipeline.stream(HELLO) as response:
        return await response.collect()


@pytest.mark.parametrize(
    "event",
    [
        TextDelta("a"),
        ReasoningDelta("a"),
        RefusalDelta("a"),
        ToolCallDelta(0, "id", "name"),
        MediaDelta("audio", b"a"),
        Opaque({"type": "new"}, content=True),
    ],
    ids=lambda event: type(event).__name__,
)
async def test_the_first_semantic_event_commits(event: Event) -> None:
    """A response is handed out, open, as soon as the first event that says something is there."""
    transport = Scripted([[PING, 1.0, event, 1.0, Finish("stop")]])
    pipeline = Pipeline([], transport, ports=virtual_ports())
    async with pipeline.stream(HELLO) as response:
        assert response.open
        assert anyio.current_time() == 1.0
        assert [kept async for kept in response] == [PING, event, Finish("stop")]

    [attempt] = response.trace.attempts
    assert (attempt.time_to_first_event, attempt.duration) == (1.0, 2.0)


@pytest.mark.parametrize("event", [PING, UsageReport(Usage(text_output=1))], ids=["ping", "usage"])
async def test_what_says_nothing_does_not_commit(event: Event) -> None:
    """After pings and usage alone an error is still uncommitted, so that it may be retried."""
    pipeline = Pipeline([], Scripted([[event, 1.0, RateLimitError("Too many.")]]))
    with pytest.raises(RateLimitError) as limited:
        async with pipeline.stream(HELLO):
            pytest.fail("nothing was committed")
    assert (limited.value.committed, limited.value.retryable) == (False, True)


async def test_an_answer_that_says_nothing_is_complete() -> None:
    """Where the terminal signal comes first, the response is complete at once."""
    pipeline = Pipeline([], Scripted([[PING, Finish("content_filter")]]))
    async with pipeline.stream(HELLO) as response:
        assert response.complete
        assert (response.text, response.finish_reason) == ("", "content_filter")
    assert response.trace.attempts[0].first_event is None


async def test_run_gets_a_complete_response() -> None:
    """A caller who asked for no stream gets it whole; nothing of it is committed before."""
    opened: list[bool] = []

    async def look(request: ChatRequest, call_next: Any) -> ChatResponse:
        response: ChatResponse = await call_next(request)
        opened.append(response.open)
        return response

    response = await Pipeline([look], Scripted(["one two"])).run(HELLO)
    assert (opened, response.text) == ([False], "one two")
    assert response.trace.attempts[0].committed is False


@pytest.mark.parametrize("stream", [False, True])
async def test_an_uncommitted_error_closes_the_source(stream: bool) -> None:
    """Whatever ends an answer before it is handed out closes its source and is raised as it is."""
    transport = Scripted([[PING, ConnectionLostError("lost")]])
    pipeline = Pipeline([], transport)
    with pytest.raises(ConnectionLostError) as lost:
        await call(pipeline, stream=stream)

    assert transport.open_sources == 0
    assert (lost.value.committed, lost.value.retryable) == (False, True)
    assert [attempt.cause for attempt in lost.value.attempts] == ["ConnectionLostError"]


async def test_a_run_that_breaks_in_the_middle_is_uncommitted() -> None:
    """A `run` has shown nothing, so all of it may be tried again; `partial` has what came."""
    pipeline = Pipeline([], Scripted([["a", "b"]]))
    with pytest.raises(StreamTruncated) as truncated:
        await pipeline.run(HELLO)
    assert truncated.value.partial is not None
    assert truncated.value.partial.text == "ab"
    assert (truncated.value.committed, truncated.value.retryable) == (False, True)


@pytest.mark.parametrize("stream", [False, True])
async def test_spent_tokens_of_a_broken_answer_are_recorded(stream: bool) -> None:
    """Usage that the provider reported before an answer broke stands in the attempt."""
    usage = Usage(uncached_input=5, text_output=2)
    pipeline = Pipeline([], Scripted([["a", UsageReport(usage)]]))
    with pytest.raises(StreamTruncated) as truncated:
        await call(pipeline, stream=stream)
    assert truncated.value.usage == usage
    assert [attempt.usage for attempt in truncated.value.attempts] == [usage]


async def test_a_generator_is_a_source() -> None:
    """An asynchronous generator will do, and is closed when the answer is left."""
    closed: list[str] = []

    async def events() -> AsyncIterator[Event]:
        try:
            yield TextDelta("a")
            yield TextDelta("b")
            yield Finish("stop")
        finally:
            closed.append("closed")

    async def transport(request: ChatRequest) -> ChatResponse:
        return await begin(request, events(), Head(model="m", request_id="r"))

    async with Pipeline([], transport).stream(HELLO) as response:
        assert response.model == "m"
        assert await anext(aiter(response)) == TextDelta("a")
    assert closed == ["closed"]


async def test_a_waiting_generator_is_interrupted() -> None:
    """Closing an answer whose generator waits ends that wait, and its clean-up runs."""
    closed: list[float] = []

    async def events() -> AsyncIterator[Event]:
        try:
            yield TextDelta("a")
            await anyio.sleep_forever()
        finally:
            closed.append(anyio.current_time())

    async def transport(request: ChatRequest) -> ChatResponse:
        return await begin(request, events())

    with pytest.raises(IdleTimeout) as idle:
        async with limited(transport, idle=3).stream(HELLO) as response:
            await response.collect()
    assert closed == [3.0]
    assert idle.value.phase == "stream"


async def test_an_iterator_without_aclose_is_a_source() -> None:
    """Something that only has `__anext__` is interrupted as well."""

    class Events:
        def __init__(self) -> None:
            self.left = [TextDelta("a")]

        def __aiter__(self) -> Events:
            return self

        async def __anext__(self) -> Event:
            if self.left:
                return self.left.pop()
            await anyio.sleep_forever()
            raise StopAsyncIteration

    async def transport(request: ChatRequest) -> ChatResponse:
        return await begin(request, Events())

    with pytest.raises(IdleTimeout):
        async with limited(transport, idle=3).stream(HELLO) as response:
            await response.collect()
    assert anyio.current_time() == 3.0


@pytest.mark.parametrize("stream", [False, True])
async def test_silence_before_the_first_event_is_timed_out(stream: bool) -> None:
    """`first_event` counts from the start of the attempt; pings do not count."""
    transport = Scripted([ScriptedAnswer([1.0, PING, 1.0, PING, 100.0, "late"], delay=1.0)])
    pipeline = limited(transport, first_event=5)
    with pytest.raises(FirstEventTimeout, match="5 s") as silent:
        await call(pipeline, stream=stream)

    assert anyio.current_time() == 5.0
    [attempt] = silent.value.attempts
    assert attempt.outcome is Outcome.TIMED_OUT
    assert (silent.value.phase, transport.open_sources) == ("first_event", 0)


async def test_silence_in_the_middle_is_timed_out() -> None:
    """`idle` counts between semantic events, pings do not reset it; the attempt is *timed out*."""
    transport = Scripted([["a", 2.0, "b", 2.0, PING, 2.0, PING, 100.0, "c"]])
    with pytest.raises(IdleTimeout, match="3 s") as idle:
        async with limited(transport, idle=3).stream(HELLO) as response:
            await response.collect()

    assert anyio.current_time() == 5.0
    error: LamellaError = idle.value
    assert error.partial is not None
    assert (error.partial.text, error.committed) == ("ab", True)
    assert [attempt.outcome for attempt in error.attempts] == [Outcome.TIMED_OUT]
    assert transport.open_sources == 0


async def test_the_consumers_time_is_not_charged() -> None:
    """A consumer who holds each event for long uses up neither `idle` nor `attempt`."""
    transport = Scripted([["a", 1.0, "b", 1.0, "c", 1.0, Finish("stop")]])
    async with limited(transport, idle=2, attempt=4).stream(HELLO) as response:
        async for _ in response:
            await anyio.sleep(60)
    assert response.complete


async def test_a_limit_at_the_instant_zero_holds() -> None:
    """The clock's own zero is an instant like any other, not the lack of one."""
    transport = Scripted([[1.0, "a", 9.0, "b"]])
    with pytest.raises(IdleTimeout):
        async with limited(transport, idle=2).stream(HELLO) as response:
            await response.collect()
    assert anyio.current_time() == 3.0


async def test_idle_counts_from_the_first_event_on() -> None:
    """`idle` is between two events: a slow first event is for `first_event` to judge."""
    transport = Scripted([[10.0, "a", 1.0, Finish("stop")]])
    assert (await limited(transport, idle=2).run(HELLO)).text == "a"
