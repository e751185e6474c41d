"""Converse: how answers are read, whole and streamed, and what they cost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bedrock_wire import (
    CLAUDE,
    COMPLETE,
    START,
    STREAM,
    begin,
    delta,
    end,
    event,
    metadata,
    request,
    stopped,
)

from lamella import (
    ChatResponse,
    ContentFilteredError,
    Event,
    Finish,
    Image,
    Opaque,
    Part,
    ProtocolError,
    Reasoning,
    Text,
    TextDelta,
    ToolCall,
    Usage,
    UsageReport,
)
from lamella.transports import DialectOptions
from lamella_bedrock._converse import Converse, CountTokens
from lamella_bedrock._frames import EventStreamReader
from lamella_bedrock._usage import usage_of

ASKED = request(model=CLAUDE)
ORIGIN = {"provider": "bedrock", "model_family": "anthropic"}


def streamed(*frames: bytes, cut: int | None = None) -> list[Event]:
    """The events of a stream, in one piece or cut once."""
    decoder, reader = Converse().decoder(ASKED), EventStreamReader(1 << 20)
    data = b"".join(frames)
    pieces = [data] if cut is None else [data[:cut], data[cut:]]
    events: list[Event] = []
    for piece in pieces:
        for kind, payload in reader.feed(piece):
            events += decoder.feed(kind, payload)
    return [*events, *decoder.finish()]


def whole(blocks: list[Any], reason: str = "end_turn", **more: Any) -> list[Event]:
    """The events of a complete answer."""
    message = {"role": "assistant", "content": blocks}
    body = {**COMPLETE, "output": {"message": message}, "stopReason": reason, **more}
    events, _ = Converse().decode(json.dumps(body).encode(), ASKED)
    return list(events)


def parts(events: list[Event]) -> tuple[Part, ...]:
    """The parts of the message that events amount to."""
    return ChatResponse(events).message.parts


# --- golden ----------------------------------------------------------------------------------

CITED = {"title": "doc", "sourceContent": [{"text": "x"}], "location": {"web": {"url": "u"}}}
TRACE = {"guardrail": {"inputAssessment": {}, "actionReason": "no action"}}
FRAMES = (
    START,
    delta({"reasoningContent": {"text": "Let me "}}),
    delta({"reasoningContent": {"text": "think."}}),
    delta({"reasoningContent": {"signature": "seal"}}),
    end(),
    delta({"reasoningContent": {"redactedContent": "aGlk"}}, 1),
    delta({"reasoningContent": {"redactedContent": "ZGVu"}}, 1),
    end(1),
    delta({"text": "It is "}, 2),
    delta({"text": "so."}, 2),
    delta({"citation": CITED}, 2),
    end(2),
    begin({"toolUse": {"toolUseId": "t1", "name": "add"}}, 3),
    delta({"toolUse": {"input": ""}}, 3),
    delta({"toolUse": {"input": '{"a":'}}, 3),
    delta({"toolUse": {"input": "1}"}}, 3),
    end(3),
    begin({"toolUse": {"toolUseId": "t2", "name": "now"}}, 4),
    end(4),
    begin({"toolUse": {"toolUseId": "s1", "name": "nova_x", "type": "server_tool_use"}}, 5),
    delta({"toolUse": {"input": '{"q":"w"}'}}, 5),
    end(5),
    begin({"toolResult": {"toolUseId": "s1", "type": "nova_x_result", "status": "success"}}, 6),
    delta({"toolResult": [{"text": "o"}]}, 6),
    delta({"toolResult": [{"text": "k"}, {"json": {"n": 1}}]}, 6),
    end(6),
    begin({"image": {"format": "png"}}, 7),
    delta({"image": {"source": {"bytes": "UE5H"}}}, 7),
    end(7),
    stopped("tool_use", additionalModelResponseFields={"/stop_sequence": "X"}),
    metadata(trace=TRACE, serviceTier={"type": "flex"}),
)
BLOCKS: list[dict[str, Any]] = [
    {"reasoningContent": {"reasoningText": {"text": "Let me think.", "signature": "seal"}}},
    {"reasoningContent": {"redactedContent": "aGlkZGVu"}},
    {"citationsContent": {"content": [{"text": "It is so."}], "citations": [CITED]}},
    {"toolUse": {"toolUseId": "t1", "name": "add", "input": {"a": 1}}},
    {"toolUse": {"toolUseId": "t2", "name": "now", "input": {}}},
    {
        "toolUse": {
            "toolUseId": "s1",
            "name": "nova_x",
            "type": "server_tool_use",
            "input": {"q": "w"},
        }
    },
    {
        "toolResult": {
            "toolUseId": "s1",
            "type": "nova_x_result",
            "status": "success",
            "content": [{"text": "ok"}, {"json": {"n": 1}}],
        }
    },
    {"image": {"format": "png", "source": {"bytes": "UE5H"}}},
]
MESSAGE: tuple[Part, ...] = (
    Reasoning("Let me think.", "seal", extra=ORIGIN),
    Reasoning("", "aGlkZGVu", redacted=True, extra=ORIGIN),
    Text("It is so.", extra={"provider": "bedrock", "citations": [CITED]}),
    ToolCall("t1", "add", '{"a":1}'),
    ToolCall("t2", "now", "{}"),
    Opaque(BLOCKS[5], "bedrock"),
    Opaque(BLOCKS[6], "bedrock"),
    Image(data=b"PNG", media_type="image/png"),
)
MORE = {"additionalModelResponseFields": {"/stop_sequence": "X"}, "trace": TRACE}
ENDING = [UsageReport(Usage(uncached_input=3, text_output=2)), Finish("tool_calls")]
ASIDES = [
    Opaque({"additionalModelResponseFields": {"/stop_sequence": "X"}}, "bedrock", content=False),
    Opaque({"trace": TRACE, "serviceTier": {"type": "flex"}}, "bedrock", content=False),
]


def test_a_whole_answer() -> None:
    """Every kind of block, complete."""
    events = whole(BLOCKS, "tool_use", serviceTier={"type": "flex"}, **MORE)
    assert parts(events) == MESSAGE
    assert [e for e in events if isinstance(e, Opaque) and not e.content] == ASIDES
    assert events[-2:] == ENDING


def test_a_streamed_answer() -> None:
    """The same in pieces amounts to the same."""
    events = streamed(*FRAMES)
    assert parts(events) == MESSAGE
    assert [e for e in events if isinstance(e, Opaque) and not e.content] == ASIDES
    assert events[-2:] == ENDING


def test_cut_at_every_byte() -> None:
    """Wherever the stream is cut, the events are the same."""
    events = streamed(*FRAMES)
    for place in range(sum(map(len, FRAMES))):
        assert streamed(*FRAMES, cut=place) == events


def test_it_goes_back_as_it_came() -> None:
    """The message, sent back to the same model, is the blocks that it was."""
    answer = ChatResponse(streamed(*FRAMES)).message
    asked = ASKED.evolve(messages=[*ASKED.messages, answer])
    body = Converse().encode(asked, stream=False, options=DialectOptions())
    assert body["messages"][1] == {"role": "assistant", "content": BLOCKS}


# --- single rules ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("content_filtered", "content_filter"),
        ("guardrail_intervened", "content_filter"),
        ("malformed_tool_use", "malformed_tool_use"),
        ("Something_New", "something_new"),
    ],
)
def test_why_it_stopped(said: str, reason: str) -> None:
    """Reasons are the library's words where it has one, otherwise Bedrock's."""
    assert whole([{"text": "a"}], said)[-1] == Finish(reason)
    assert streamed(START, delta({"text": "a"}), stopped(said), metadata())[-1] == Finish(reason)


def test_calls_mean_calls() -> None:
    """Where tools are asked for, an ordinary end means just that."""
    call = {"toolUse": {"toolUseId": "t", "name": "f", "input": {}}}
    assert whole([call], "end_turn")[-1] == Finish("tool_calls")


def test_an_empty_answer() -> None:
    """A model may have nothing to say; that is an answer, and paid."""
    assert whole([]) == [UsageReport(Usage(uncached_input=3, text_output=2)), Finish("stop")]
    assert streamed(START, stopped(), metadata())[-1] == Finish("stop")


@pytest.mark.parametrize("reason", ["guardrail_intervened", "content_filtered"])
def test_filtered_before_a_word(reason: str) -> None:
    """Where nothing was said for a filter, the request was filtered, and what it cost is known."""
    with pytest.raises(ContentFilteredError) as caught:
        whole([], reason)
    assert caught.value.usage == Usage(uncached_input=3, text_output=2)


def test_parallel_calls() -> None:
    """Pieces of calls that alternate belong to their own call."""
    events = streamed(
        START,
        begin({"toolUse": {"toolUseId": "a", "name": "f"}}, 0),
        begin({"toolUse": {"toolUseId": "b", "name": "g"}}, 1),
        delta({"toolUse": {"input": '{"x":'}}, 0),
        delta({"toolUse": {"input": '{"y":2}'}}, 1),
        delta({"toolUse": {"input": "1}"}}, 0),
        stopped("tool_use"),
        metadata(),
    )
    assert parts(events) == (ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", '{"y":2}'))


def test_plain_and_general_text_are_alike() -> None:
    """Text beside fields that we do not know is the same text."""
    odd = event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "a"}, "new": 1})
    plain = delta({"text": "a"})
    assert streamed(START, odd)[0] == streamed(START, plain)[0] == TextDelta("a")


def test_pieces_of_tomorrow() -> None:
    """Blocks that we do not know are kept whole, and pieces of them passed on."""
    block = {"hologram": {"x": 1}}
    assert parts(whole([block, {"text": "a"}])) == (Opaque(block, "bedrock"), Text("a"))
    events = streamed(START, delta({"hologram": {"x": 1}}), stopped(), metadata())
    assert events[0] == Opaque({"contentBlockDelta": block}, "bedrock", content=False)


def test_the_model_behind_a_router() -> None:
    """A prompt router says which model it chose."""
    router = {"promptRouter": {"invokedModelId": "arn:aws:bedrock:::foundation-model/a.b"}}
    body = json.dumps({**COMPLETE, "trace": router}).encode()
    _, head = Converse().decode(body, ASKED)
    assert head.model == "arn:aws:bedrock:::foundation-model/a.b"


@pytest.mark.parametrize(
    "frames",
    [
        [begin({"toolUse": {"name": "f"}})],
        [delta({"toolUse": {"input": "{}"}})],
        [delta({"image": {"source": {"bytes": "%"}}})],
        [event("contentBlockDelta", [1])],
        [
            begin({"toolUse": {"toolUseId": "a", "name": "b", "type": "server_tool_use"}}),
            delta({"toolResult": [{"text": "c"}]}),
        ],
    ],
)
def test_nonsense(frames: list[bytes]) -> None:
    """What makes no sense is a protocol error."""
    with pytest.raises(ProtocolError):
        streamed(START, *frames, stopped(), metadata())


@pytest.mark.parametrize("body", [b'{"inputTokens": "3"}', b'{"inputTokens": -1}', b"{}", b"<x>"])
def test_no_count(body: bytes) -> None:
    """A count that is none is a protocol error."""
    with pytest.raises(ProtocolError):
        CountTokens().decode(body)


# --- usage -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "usage"),
    [
        (
            {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15},
            Usage(uncached_input=10, text_output=5),
        ),
        (
            {
                "inputTokens": 10,
                "outputTokens": 5,
                "totalTokens": 3015,
                "cacheReadInputTokens": 1000,
                "cacheWriteInputTokens": 2000,
                "cacheDetails": [
                    {"ttl": "1h", "inputTokens": 1500},
                    {"ttl": "5m", "inputTokens": 500},
                ],
            },
            Usage(
                uncached_input=10,
                text_output=5,
                cache_read=1000,
                cache_write={"1h": 1500, "5m": 500},
            ),
        ),
        (
            {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3, "cacheWriteInputTokens": 7},
            Usage(uncached_input=1, text_output=2, cache_write={"": 7}),
        ),
        (
            {
                "inputTokens": 1,
                "outputTokens": 2,
                "totalTokens": 3,
                "cacheDetails": [{"ttl": "5m", "inputTokens": 7}],
            },
            Usage(uncached_input=1, text_output=2, cache_write={"5m": 7}),
        ),
        ({"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}, Usage()),
        ({"outputTokens": 2, "totalTokens": 9}, Usage(uncached_input=7, text_output=2)),
        (
            {"inputTokens": -1, "outputTokens": 2, "totalTokens": 2},
            Usage(text_output=2, estimated=True),
        ),
        (
            {"inputTokens": 1, "outputTokens": 2, "totalTokens": 50},
            Usage(uncached_input=1, text_output=2, estimated=True),
        ),
        ({}, None),
        ({"inputTokens": "many"}, None),
    ],
)
def test_usage(stated: dict[str, Any], usage: Usage | None) -> None:
    """Parts never overlap: cached tokens stand beside `inputTokens`, by how long they are kept."""
    assert usage_of(stated) == usage


def test_usage_that_nobody_states() -> None:
    """It is estimated, and never less than what was delivered."""
    events = streamed(START, delta({"text": "x" * 100}), stopped())
    report = events[-2]
    assert isinstance(report, UsageReport)
    assert report.usage.estimated
    assert report.usage.text_output >= 25


def test_the_last_statement_counts() -> None:
    """Usage that is stated twice is cumulative."""
    first = metadata({"inputTokens": 1, "outputTokens": 1, "totalTokens": 2})
    frames = [*STREAM[:4], first, *STREAM[4:]]
    assert UsageReport(Usage(uncached_input=3, text_output=2)) in streamed(*frames)
