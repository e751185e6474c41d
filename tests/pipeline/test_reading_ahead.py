"""Events that are there already are read without a wait, and mean the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import (
    ChatRequest,
    ChatResponse,
    ClosedError,
    Event,
    Finish,
    IdleTimeout,
    Limits,
    Pipeline,
    TextDelta,
    begin,
)
from lamella.testing import virtual_ports

pytestmark = pytest.mark.anyio

HELLO = ChatRequest.of("hello")


@pytest.fixture
def anyio_backend(lamella_virtual_backend: tuple[str, dict[str, Any]]) -> tuple[str, Any]:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend


class Reads:
    """A source whose events arrive several at a time, after a wait."""

    def __init__(self, batches: Sequence[Sequence[Event]]) -> None:
        self.batches = [list(batch) for batch in batches]
        self.events: list[Event] = []
        self.closed = False

    async def __anext__(self) -> Event:
        while not self.events:
            await anyio.sleep(0.01)
            if self.closed:
                raise ClosedError("closed")
            self.events = self.batches.pop(0)
        return self.events.pop(0)

    async def aclose(self) -> None:
        self.closed = True


class ReadsAhead(Reads):
    """The same, which says what is there."""

    def ready(self) -> Event | None:
        if not self.events or type(self.events[0]) is Finish:
            return None
        return self.events.pop(0)


class Rewrite:
    """Drops, doubles, holds back or refuses a piece, as its text says."""

    def __init__(self) -> None:
        self.held: list[Event] = []

    def feed(self, event: Event) -> Iterable[Event]:
        text = getattr(event, "text", "")
        if text == "refuse":
            raise LookupError("refused")
        if text == "hold":
            self.held.append(event)
            return ()
        found = {"drop": [], "double": [event, event]}.get(text, [event])
        held, self.held = self.held, []
        return [*held, *found]

    def flush(self) -> Iterable[Event]:
        return self.held


async def rewrite(request: ChatRequest, call_next: Any) -> ChatResponse:
    """A level that changes events."""
    response: ChatResponse = await call_next(request)
    return response.transform(Rewrite())


async def told(source: Reads, levels: int, *, stream: bool, leave: int) -> list[object]:
    """All that can be seen of a call: what was read, how it ended, what was kept."""
    ends: list[object] = []

    async def transport(request: Any) -> Any:
        response = await begin(request, source)
        await response.on_end(lambda end: ends.extend([end.outcome, tuple(end.events)]))
        return response

    pipeline = Pipeline([rewrite] * levels, transport)
    seen: list[object] = []
    kept: list[object] = []
    try:
        if not stream:
            seen += (await pipeline.run(HELLO)).events
            return [*seen, *ends, source.closed]
        async with pipeline.stream(HELLO) as response:
            async for event in response:
                seen.append(event)
                if len(seen) == leave:
                    break
            kept += response.events
    except LookupError as error:
        seen.append(str(error))
    return [*seen, *kept, *ends, source.closed]


WORDS = st.sampled_from(["a", "b", "drop", "double", "hold", "refuse"])
BATCHES = st.lists(st.lists(WORDS.map(TextDelta), max_size=4), max_size=5)


@given(batches=BATCHES, levels=st.integers(0, 3), stream=st.booleans(), leave=st.integers(1, 9))
@settings(max_examples=40)
async def test_reading_ahead_changes_nothing(
    batches: list[list[Event]], levels: int, stream: bool, leave: int
) -> None:
    """Whatever comes together, is changed, fails or is left: all see what they would have seen."""
    whole: list[Sequence[Event]] = [[TextDelta("first")], *batches, [Finish("stop")]]
    slowly = await told(Reads(whole), levels, stream=stream, leave=leave)
    assert await told(ReadsAhead(whole), levels, stream=stream, leave=leave) == slowly


async def test_a_read_that_has_not_begun_reads_nothing() -> None:
    """An event that is there is handed to who awaits it, not to who was cancelled before that."""
    source = ReadsAhead([[TextDelta("a"), TextDelta("b"), TextDelta("c"), Finish("stop")]])

    async def transport(request: Any) -> Any:
        return await begin(request, source)

    async with Pipeline([], transport).stream(HELLO) as response:
        reader: Any = aiter(response)
        assert await anext(reader) == TextDelta("a")
        reader.__anext__().close()  # as a task does that is cancelled before its first step
        second, third = reader.__anext__(), reader.__anext__()
        assert [await second, await third] == [TextDelta("b"), TextDelta("c")]
        assert [event async for event in reader] == [Finish("stop")]


async def test_the_clock_of_a_limit_sees_what_is_read_ahead() -> None:
    """A silence counts from the last event, that was read without a wait, on."""
    silent = ReadsAhead([[TextDelta("a"), TextDelta("b"), TextDelta("c")]])
    silent.batches += [[]] * 1_000

    async def limited(request: Any, call_next: Any) -> Any:
        return await call_next(
            request.evolve(context=request.context.evolve(limits=Limits(idle=0.5)))
        )

    async def transport(request: Any) -> Any:
        return await begin(request, silent)

    seen = []
    with pytest.raises(IdleTimeout):
        pipeline = Pipeline([limited], transport, ports=virtual_ports())
        async with pipeline.stream(HELLO) as response:
            async for event in response:
                seen.append(event)
                await anyio.sleep(10)
    assert len(seen) == 3
    assert silent.closed
