"""An answer: read through cursors, kept once, ended once."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import anyio
import pytest

from lamella import (
    BusyError,
    ChatRequest,
    ChatResponse,
    ClosedError,
    ConnectionLostError,
    EmbeddingRequest,
    EmbeddingResponse,
    Ending,
    Finish,
    LamellaError,
    MisuseError,
    Outcome,
    Pipeline,
    StillOpenError,
    StreamTruncated,
    TextDelta,
    Usage,
    UsageReport,
    begin,
)
from lamella.testing import Item, Scripted, virtual_ports

pytestmark = pytest.mark.anyio

HELLO = ChatRequest.of("hello")
GOOD: list[Item] = ["a", 1.0, "b", 1.0, "c", UsageReport(Usage(text_output=3)), Finish("stop")]


@pytest.fixture
def anyio_backend(lamella_virtual_backend: tuple[str, dict[str, Any]]) -> tuple[str, Any]:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend


def stack(*script: Any) -> tuple[Pipeline, Scripted]:
    """A pipeline without layers around a script."""
    transport = Scripted(script)
    return Pipeline([], transport, ports=virtual_ports()), transport


async def test_each_loop_starts_from_the_first_event() -> None:
    """Events are kept, so iterating again replays what has come and then waits for the rest."""
    pipeline, _ = stack(GOOD)
    async with pipeline.stream(HELLO) as response:
        first = aiter(response)
        assert await anext(first) == TextDelta("a")
        everything = [event async for event in response]
        rest = [event async for event in first]

    assert [TextDelta("a"), *rest] == everything == list(response.events)
    assert everything[-1] == Finish("stop")


@pytest.mark.parametrize(
    "name",
    ["text", "message", "messages", "choices", "tool_calls", "usage", "finish_reason", "value"],
)
async def test_an_open_response_does_not_pretend_to_be_complete(name: str) -> None:
    """What needs all events raises StillOpenError on an open response, naming collect()."""
    pipeline, _ = stack(GOOD)
    async with pipeline.stream(HELLO) as response:
        with pytest.raises(StillOpenError, match=r"collect\(\)"):
            getattr(response, name)
        assert await response.collect() is response
        getattr(response, name)


async def test_partial_gives_what_has_come() -> None:
    """`partial` holds the prefix at any time, and all of it in the end."""
    pipeline, _ = stack(GOOD)
    async with pipeline.stream(HELLO) as response:
        seen = [response.partial.text async for _ in response]

    assert seen == ["a", "ab", "abc", "abc", "abc"]
    assert response.partial == response.answer


async def test_one_task_waits_at_a_time() -> None:
    """A second task that waits for the next event gets BusyError; the first goes on."""
    pipeline, _ = stack(GOOD)
    async with pipeline.stream(HELLO) as response, anyio.create_task_group() as group:
        group.start_soon(response.collect)
        await anyio.sleep(0.5)
        with pytest.raises(BusyError, match="already waiting"):
            await response.collect()

    assert response.text == "abc"


async def test_a_cancelled_read_ends_the_answer() -> None:
    """Nothing resumes after a cancelled read: the source is closed, later reads say so."""
    pipeline, transport = stack(GOOD)
    async with pipeline.stream(HELLO) as response:
        with anyio.move_on_after(0.5):
            await response.collect()
        assert (response.outcome, transport.open_sources) == (Outcome.CANCELLED, 0)
        with pytest.raises(ClosedError, match="cancelled"):
            await response.collect()

    assert response.partial.text == "a"
    assert response.trace.outcome is Outcome.CANCELLED


async def test_closing_wakes_a_pending_read() -> None:
    """Closing from another task is allowed: the read that was waiting raises ClosedError."""
    pipeline, transport = stack(GOOD)
    async with pipeline.stream(HELLO) as response, anyio.create_task_group() as group:

        async def read() -> None:
            with pytest.raises(ClosedError) as closed:
                await response.collect()
            assert not closed.value.retryable

        group.start_soon(read)
        await anyio.sleep(0.5)
        await response.aclose()
        assert not response.open
        await response.aclose()

    assert transport.open_sources == 0


async def test_closing_ends_with_the_read_and_not_later() -> None:
    """A source that goes on closing after it has woken the read is not waited for in vain."""

    class Slow:
        def __init__(self) -> None:
            self.closed = anyio.Event()
            self.events = iter([TextDelta("a")])

        async def __anext__(self) -> Any:
            for event in self.events:
                return event
            await self.closed.wait()
            raise ConnectionLostError("closed")

        async def aclose(self) -> None:
            self.closed.set()
            await anyio.sleep(0.2)

    async def transport(request: ChatRequest) -> ChatResponse:
        return await begin(request, Slow())

    pipeline = Pipeline([], transport, ports=virtual_ports())
    async with pipeline.stream(HELLO) as response, anyio.create_task_group() as group:

        async def read() -> None:
            with pytest.raises(ClosedError):
                await response.collect()

        group.start_soon(read)
        await anyio.sleep(0.5)
        await response.aclose()
        assert anyio.current_time() == pytest.approx(0.7)


async def test_leaving_the_block_waits_for_a_read_of_another_task() -> None:
    """The call ends after the answer has: its outcome is known, callbacks have been told."""
    endings: list[tuple[Ending, bool]] = []

    async def account(request: ChatRequest, call_next: Any) -> ChatResponse:
        response: ChatResponse = await call_next(request)
        await response.on_end(lambda end: endings.append((end, response.trace.finished)))
        return response

    pipeline = Pipeline([account], Scripted([GOOD]), ports=virtual_ports())

    async def read(response: ChatResponse) -> None:
        with pytest.raises(ClosedError):
            await response.collect()

    async with anyio.create_task_group() as group:
        async with pipeline.stream(HELLO) as response:
            group.start_soon(read, response)
            await anyio.sleep(0.5)
        assert [(end.outcome, late) for end, late in endings] == [(Outcome.LEFT, False)]
        assert response.trace.outcome is Outcome.LEFT


async def test_leaving_closes_the_source() -> None:
    """A consumer who leaves ends the answer as *left*, and the source is closed."""
    pipeline, transport = stack(GOOD)
    async with pipeline.stream(HELLO) as response:
        async for _ in response:
            break

    assert (response.outcome, transport.open_sources) == (Outcome.LEFT, 0)
    [attempt] = response.trace.attempts
    assert (attempt.outcome, attempt.committed) == (Outcome.LEFT, True)


async def test_a_dropped_answer_closes() -> None:
    """An answer that nobody holds any more closes on its own loop, and its call ends."""
    pipeline, transport = stack(GOOD)
    block = pipeline.stream(HELLO)
    response = await block.__aenter__()
    trace, gone = response.trace, weakref.ref(response)
    del block, response
    gc.collect()
    await anyio.sleep(0.1)
    gc.collect()

    assert transport.open_sources == 0
    assert gone() is None
    assert trace.outcome is Outcome.LEFT
    assert (await pipeline.health()).running == 0


async def test_truncation_keeps_the_partial_answer() -> None:
    """An answer without the protocol's end is StreamTruncated with the partial answer inside."""
    pipeline, _ = stack(["a", "b"])
    with pytest.raises(StreamTruncated) as truncated:
        async with pipeline.stream(HELLO) as response:
            await response.collect()

    error = truncated.value
    assert error.partial is not None
    assert (error.partial.text, error.committed, error.retryable) == ("ab", True, False)
    assert [attempt.outcome for attempt in error.attempts] == [Outcome.TRUNCATED]


async def test_an_error_is_never_given_to_two_receivers() -> None:
    """Every read of a broken answer raises an error object of its own; the first is not mutated."""
    lost = ConnectionLostError("The connection was lost.")
    pipeline, _ = stack(["a", lost])
    raised: list[LamellaError] = []
    async with pipeline.stream(HELLO) as response:
        for _ in range(3):
            with pytest.raises(ConnectionLostError) as caught:
                await response.collect()
            raised.append(caught.value)

    assert len({id(error) for error in (*raised, lost)}) == 4
    assert (lost.retryable, lost.committed, lost.partial) == (True, False, None)
    assert [(error.retryable, error.committed) for error in raised] == [(False, True)] * 3


async def test_each_level_has_its_own_partial() -> None:
    """`partial` is what a level let through: changed outside the layer, unchanged inside."""
    inside: list[Any] = []

    async def look(request: ChatRequest, call_next: Any) -> ChatResponse:
        response: ChatResponse = await call_next(request)
        await response.on_end(inside.append)
        return response

    async def shout(request: ChatRequest, call_next: Any) -> ChatResponse:
        response: ChatResponse = await call_next(request)
        return response.map_text(str.upper)

    lost = ConnectionLostError("The connection was lost.")
    pipeline = Pipeline([shout, look], Scripted([["a", "b", lost]]), ports=virtual_ports())
    with pytest.raises(ConnectionLostError) as outside:
        async with pipeline.stream(HELLO) as response:
            await response.collect()

    assert outside.value.partial is not None
    assert (outside.value.partial.text, inside[0].error.partial.text) == ("AB", "ab")


async def test_a_foreign_error_passes_as_it_is() -> None:
    """What is not the library's error is neither wrapped nor renamed; the answer has failed."""
    pipeline, transport = stack(["a", ZeroDivisionError("mine")])
    async with pipeline.stream(HELLO) as response:
        with pytest.raises(ZeroDivisionError, match="mine"):
            await response.collect()

    assert (response.outcome, transport.open_sources) == (Outcome.FAILED, 0)
    with pytest.raises(ClosedError, match="failed"):
        _ = response.text


async def test_a_complete_response_replays() -> None:
    """A transport may answer a stream with a complete response; it reads like any other."""

    async def whole(request: ChatRequest) -> ChatResponse:
        return ChatResponse.of("all at once")

    async with Pipeline([], whole).stream(HELLO) as response:
        assert response.complete
        assert [event async for event in response] == [TextDelta("all at once"), Finish("stop")]
    assert list(response) == list(response.events)


async def test_a_response_of_no_call_says_so() -> None:
    """A response made by hand has no trace, and says why."""
    with pytest.raises(MisuseError, match="made by hand"):
        _ = ChatResponse.of("x").trace


async def test_an_open_response_is_not_read_synchronously() -> None:
    """A plain `for` over an open response is an error that names the way."""
    pipeline, _ = stack(GOOD)
    async with pipeline.stream(HELLO) as response:
        with pytest.raises(MisuseError, match="stream_sync"):
            list(response)


async def test_embeddings_answer_in_the_order_of_the_inputs() -> None:
    """The same life serves every operation."""
    pipeline, _ = stack(EmbeddingResponse.of([[1.0, 0.0], [0.0, 1.0]]))
    async with pipeline.stream(EmbeddingRequest.of(["x", "y"])) as response:
        await response.collect()
    assert response.vectors == ((1.0, 0.0), (0.0, 1.0))


async def test_a_failing_close_is_noted_and_hides_nothing() -> None:
    """A source whose aclose raises is noted in the trace; the answer stays what it is."""

    class Stubborn:
        def __init__(self) -> None:
            self.events = iter([TextDelta("a"), Finish("stop")])

        async def __anext__(self) -> Any:
            return next(self.events)

        async def aclose(self) -> None:
            raise OSError("cannot")

    async def transport(request: ChatRequest) -> ChatResponse:
        return await begin(request, Stubborn())

    response = await Pipeline([], transport).run(HELLO)
    assert response.text == "a"
    [note] = [note for note in response.trace.notes if note.name == "close.failed"]
    assert note.fields == {"error": "OSError"}


async def test_a_close_that_hangs_is_bounded() -> None:
    """Closing a source takes a second at most, under a shield."""

    class Hanging:
        async def __anext__(self) -> Any:
            return Finish("stop")

        async def aclose(self) -> None:
            await anyio.sleep_forever()

    async def transport(request: ChatRequest) -> ChatResponse:
        return await begin(request, Hanging())

    start = anyio.current_time()
    response = await Pipeline([], transport, ports=virtual_ports()).run(HELLO)
    assert anyio.current_time() - start == pytest.approx(1.0)
    assert [note.fields["error"] for note in response.trace.notes] == ["TimeoutError"]


async def test_an_event_that_comes_while_closing_is_not_handed_on() -> None:
    """A source that still gives an event after it was closed does not keep the answer open."""

    class Deaf:
        def __init__(self) -> None:
            self.events = 0

        async def __anext__(self) -> Any:
            self.events += 1
            if self.events > 1:
                await anyio.sleep(0.5)
            return TextDelta(str(self.events))

        async def aclose(self) -> None:
            pass

    async def transport(request: ChatRequest) -> ChatResponse:
        return await begin(request, Deaf())

    async with Pipeline([], transport, ports=virtual_ports()).stream(HELLO) as response:

        async def read() -> None:
            with pytest.raises(ClosedError):
                await response.collect()

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await anyio.sleep(0.1)
            await response.aclose()
            assert response.outcome is Outcome.LEFT
    assert response.trace.notes == []
