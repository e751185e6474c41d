"""Cache: what comes back is what was said, bit for bit, streamed or not."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from caches import ASK, called, stack, streamed
from hypothesis import given
from hypothesis import strategies as st

from lamella import (
    ChatResponse,
    Finish,
    Head,
    MediaDelta,
    Opaque,
    Outcome,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReport,
)
from lamella._answer_codec import KeptAnswer
from lamella.testing import ScriptedAnswer, run_virtual
from lamella_middlewares.cache import Cache

pytestmark = pytest.mark.anyio

USAGE = Usage(
    uncached_input=7, cache_read=3, cache_write={"5m": 2}, text_output=5, reasoning_output=4
)
RICH: list[Any] = [
    ReasoningDelta("Let me ", id="r1"),
    ReasoningDelta("think.", id="r1"),
    ReasoningDelta("", id="r1", signature="seal"),
    TextDelta("Grüße 👩‍👩‍👧, "),
    TextDelta("and \ud83d odd", logprobs=[{"token": "x", "logprob": -0.1}]),
    TextDelta("Another block.", index=1, extra={"citations": [{"url": "https://a"}]}),
    ToolCallDelta(0, id="c1", name="look", arguments='{"at": '),
    ToolCallDelta(0, arguments='"it", "n": 1.0}'),
    ToolCallDelta(1, id="c2", name="look", arguments="{}"),
    TextDelta("Second choice.", choice=1),
    MediaDelta("audio", b"\x00\xff", media_type="wav", transcript="Hi", id="a1", choice=1),
    Opaque({"seen": [1, None, True]}, provider="x"),
    UsageReport(USAGE),
    Finish("tool_calls", reasons=("tool_calls", "stop")),
]
HEAD = Head(
    model="m-2", provider="p", request_id="q1", id="a1", status=200, headers={"x": "1"}, raw=b"{}"
)


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("first", [False, True])
async def test_everything_comes_back(first: bool, second: bool) -> None:
    """Text, reasoning and its seal, tool calls, media, choices, usage and finish; either way."""
    pipeline, _ = stack(ScriptedAnswer(RICH, head=HEAD))
    paid = await called(pipeline, first)
    free = await called(pipeline, second)
    assert (free.answer, free.usage) == (paid.answer, USAGE)
    assert (free.finish_reason, free.text) == (paid.finish_reason, paid.text)
    assert free.answer.choices == paid.answer.choices
    assert free.events[-1] == paid.events[-1]
    kinds = [type(event).__name__ for event in free.events]
    assert set(kinds) == {type(event).__name__ for event in paid.events}


async def test_the_head_comes_back_flagged() -> None:
    """Without headers and the provider's bytes, which belong to an answer that was paid for."""
    pipeline, _ = stack(ScriptedAnswer(["Hi.", Finish("stop")], head=HEAD))
    await pipeline.run(ASK)
    head = (await pipeline.run(ASK)).head
    assert (head.model, head.id, head.request_id, head.status) == ("m-2", "a1", "q1", 200)
    assert (head.cached, dict(head.headers), head.raw) == (True, {}, None)


async def test_a_stream_comes_in_pieces() -> None:
    """Of `piece` characters, the same each time, whatever the pieces of the original were."""
    text = "abcdefghij" * 3
    pipeline, _ = stack([*map(TextDelta, text), Finish("stop")], cache=Cache(piece=8))
    await streamed(pipeline)
    replays = [await streamed(pipeline) for _ in range(2)]
    pieces = [event.text for event in replays[0].events if isinstance(event, TextDelta)]
    assert "".join(pieces) == text
    assert [len(piece) for piece in pieces] == [8, 8, 8, 6]
    assert replays[0].events == replays[1].events
    whole = await pipeline.run(ASK)
    assert [event.text for event in whole.events if isinstance(event, TextDelta)] == [text]


async def test_a_replayed_stream_can_be_left() -> None:
    """Leaving it hurts nothing, and what was kept stays."""
    pipeline, transport = stack("a b c d e f g h", cache=Cache(piece=1))
    await pipeline.run(ASK)
    async with pipeline.stream(ASK) as response:
        async for _ in response:
            break
    assert response.outcome in {Outcome.LEFT, Outcome.COMPLETE}
    assert (await streamed(pipeline)).text == "a b c d e f g h"
    assert len(transport.requests) == 1


async def test_what_one_does_with_an_answer_is_not_seen_by_another() -> None:
    """Each hit has an answer of its own, down to nested JSON."""
    pipeline, _ = stack(RICH)
    await pipeline.run(ASK)
    one, other = await pipeline.run(ASK), await pipeline.run(ASK)
    for event in one.events:
        if isinstance(event, TextDelta) and event.extra:
            event.extra["citations"].clear()
    assert other.answer != one.answer
    assert (await pipeline.run(ASK)).answer == other.answer


PIECES = st.lists(
    st.one_of(
        st.builds(TextDelta, st.text(), st.integers(0, 1), index=st.integers(0, 1)),
        st.builds(
            ReasoningDelta, st.text(), st.integers(0, 1), id=st.none() | st.sampled_from(["a", "b"])
        ),
        st.builds(
            ToolCallDelta,
            st.integers(0, 1),
            st.none() | st.sampled_from(["c1", "c2"]),
            st.none() | st.just("look"),
            st.text(),
        ),
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(pieces=PIECES, first=st.booleans(), second=st.booleans(), piece=st.integers(1, 9))
def test_any_answer_comes_back(
    backend: str, pieces: list[Any], first: bool, second: bool, piece: int
) -> None:
    """However it was cut, and however it is cut again, it amounts to the same."""

    async def both() -> tuple[ChatResponse, ChatResponse]:
        script = [*pieces, TextDelta("!"), UsageReport(USAGE), Finish("stop")]  # never nothing
        pipeline, transport = stack(script, cache=Cache(piece=piece))
        paid = await called(pipeline, first)
        free = await called(pipeline, second)
        assert len(transport.requests) == 1
        return paid, free

    paid, free = run_virtual(both, backend=backend)
    assert free.head.cached
    assert free.answer == paid.answer


async def test_what_is_kept_in_memory_is_a_whole_answer() -> None:
    """It has every field of a kept answer, and equals one that its constructor makes."""
    pipeline, _ = stack(ScriptedAnswer(["Hi.", Finish("stop")], head=HEAD))
    await pipeline.run(ASK)
    blobs: Any = pipeline.ports.stores.blobs
    (entry,) = blobs._entries.values()
    kept = entry.data.at(0.0)
    assert kept == KeptAnswer(**vars(kept))
    assert set(vars(kept)) == {field.name for field in attrs.fields(KeptAnswer)}
