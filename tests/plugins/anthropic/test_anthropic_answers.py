"""How answers of the Messages API are read, whole and in pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic_wire import (
    DIALECT,
    MARK,
    STREAM,
    TEXT,
    answer,
    asked,
    begin,
    end,
    folded,
    framed,
    last,
    piece,
    read,
    said,
    start,
    streamed_events,
    whole_events,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import (
    AuthenticationError,
    ContentFilteredError,
    Event,
    Finish,
    LamellaError,
    Message,
    Opaque,
    OverloadedError,
    ProtocolError,
    RateLimitError,
    Reasoning,
    ReasoningDelta,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
    UsageReport,
)
from lamella.transports import DialectOptions, EventReader
from lamella_anthropic._messages import AnthropicTokenCount

REPORT = UsageReport(Usage(uncached_input=9, text_output=3))

THINKING = {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"}
REDACTED = {"type": "redacted_thinking", "data": "c2VhbGVk"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Zürich"}}
NO_INPUT = {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}}
SEARCH = {
    "type": "server_tool_use",
    "id": "srvtoolu_1",
    "name": "web_search",
    "input": {"query": "weather"},
}
FOUND = {
    "type": "web_search_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": [
        {
            "type": "web_search_result",
            "url": "https://a.example",
            "title": "A",
            "encrypted_content": "ZW5j",
            "page_age": None,
        }
    ],
}
CITATION = {
    "type": "web_search_result_location",
    "cited_text": "sunny",
    "encrypted_index": "aWR4",
    "title": "A",
    "url": "https://a.example",
}
CITED = {"type": "text", "text": "It is sunny.", "citations": [CITATION]}
PLAIN = {"type": "text", "text": "Well. ", "citations": None}
COMPACTION = {"type": "compaction", "content": "So far: nothing.", "encrypted_content": "ZQ=="}
UNKNOWN = {"type": "hologram", "shape": "cube", "sides": 6}
BLOCKS: list[dict[str, Any]] = [
    THINKING, REDACTED, PLAIN, SEARCH, FOUND, CITED, CALL, NO_INPUT, COMPACTION, UNKNOWN,
]  # fmt: skip


def in_pieces(index: int, block: dict[str, Any]) -> list[dict[str, Any]]:
    """A block as a stream brings it."""
    kind = block["type"]
    if kind == "text":
        first = begin(index, type="text", text="")
        words = [piece(index, "text_delta", text=word) for word in _halves(block["text"])]
        cited = [piece(index, "citations_delta", citation=c) for c in block["citations"] or ()]
        return [first, *words, *cited, end(index)]
    if kind == "thinking":
        first = begin(index, type="thinking", thinking="", signature="")
        words = [piece(index, "thinking_delta", thinking=w) for w in _halves(block["thinking"])]
        seal = piece(index, "signature_delta", signature=block["signature"])
        return [first, *words, seal, end(index)]
    if kind in {"tool_use", "server_tool_use"}:
        first = begin(index, **{**block, "input": {}})
        written = json.dumps(block["input"], separators=(",", ":"), ensure_ascii=False)
        words = [piece(index, "input_json_delta", partial_json="")]
        if block["input"]:
            words += [piece(index, "input_json_delta", partial_json=w) for w in _halves(written)]
        return [first, *words, end(index)]
    if kind == "compaction":
        first = begin(index, type=kind, content=None)
        said = {name: value for name, value in block.items() if name != "type"}
        return [first, piece(index, "compaction_delta", **said), end(index)]
    return [begin(index, **block), end(index)]


def _halves(words: str) -> list[str]:
    half = len(words) // 2
    return [words[:half], words[half:]]


def whole_stream(*blocks: dict[str, Any], reason: str = "end_turn") -> list[dict[str, Any]]:
    """A stream of complete blocks."""
    pieces = [each for index, block in enumerate(blocks) for each in in_pieces(index, block)]
    return [start(), *pieces, *last(reason)]


# --- what is said ----------------------------------------------------------------------------


def test_text_as_it_comes() -> None:
    """One event for each piece, then the usage and the end."""
    assert streamed_events(*STREAM) == [
        TextDelta(TEXT[:6]),
        TextDelta(TEXT[6:]),
        REPORT,
        Finish("stop"),
    ]
    decoder, _ = read(*STREAM)
    assert (decoder.head.id, decoder.head.model, decoder.done) == ("msg_1", "claude-test-1", True)


def test_every_kind_of_block_in_place() -> None:
    """Thoughts, texts and what they cite, calls, server tools, and kinds that nobody knows."""
    found = folded(whole_events(answer(*BLOCKS, reason="tool_use")))
    assert found.message == Message.assistant(
        (
            Reasoning("Let me see.", "c2ln", extra=MARK),
            Reasoning("", "c2VhbGVk", redacted=True, extra=MARK),
            Text("Well. "),
            Opaque(SEARCH, "anthropic"),
            Opaque(FOUND, "anthropic"),
            Text("It is sunny.", {**MARK, "citations": [CITATION]}),
            ToolCall("toolu_1", "get_weather", '{"city":"Zürich"}'),
            ToolCall("toolu_2", "now", "{}"),
            Opaque(COMPACTION, "anthropic"),
            Opaque(UNKNOWN, "anthropic"),
        )
    )
    assert [part.extra for part in found.message.parts[:2]] == [MARK, MARK]
    assert found.message.parts[5].extra == {**MARK, "citations": [CITATION]}
    assert found.finish_reason == "tool_calls"


def test_streamed_and_whole_are_alike() -> None:
    """The same blocks amount to the same message."""
    whole = folded(whole_events(answer(*BLOCKS, reason="tool_use")))
    pieces = folded(streamed_events(*whole_stream(*BLOCKS, reason="tool_use")))
    assert pieces == whole
    extras = [getattr(part, "extra", None) for part in whole.message.parts]
    assert [getattr(part, "extra", None) for part in pieces.message.parts] == extras


def test_an_answer_goes_back_as_it_came() -> None:
    """Sent in the next turn, every block is what the API has said."""
    found = folded(streamed_events(*whole_stream(*BLOCKS)))
    request = asked([Message.user("hi"), found.message])
    written = DIALECT.encode(request, stream=False, options=DialectOptions())
    uncited = {"type": "text", "text": "Well. "}
    expected = [uncited if block is PLAIN else block for block in BLOCKS]
    assert written["messages"][1]["content"] == expected


def test_split_at_every_byte() -> None:
    """However the network cuts a stream, the events are the same."""
    data = b"".join(framed(*whole_stream(*BLOCKS)))
    whole = _events_of([data])
    assert whole[-1] == Finish("tool_calls")
    for cut in range(1, len(data)):
        assert _events_of([data[:cut], data[cut:]]) == whole


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(BLOCKS), max_size=6), st.lists(st.integers(1, 40), min_size=1))
def test_random_answers_in_random_pieces(blocks: list[dict[str, Any]], sizes: list[int]) -> None:
    """Any blocks in any order, cut anywhere, amount to what the whole answer does."""
    data = b"".join(framed(*whole_stream(*blocks)))
    chunks: list[bytes] = []
    while data:
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(data[:size])
        data = data[size:]
    assert folded(_events_of(chunks)) == folded(whole_events(answer(*blocks)))


def _events_of(chunks: list[bytes]) -> list[Event]:
    reader, decoder = EventReader(), DIALECT.decoder(asked())
    events: list[Event] = []
    for chunk in chunks:
        for event, data in reader.feed(chunk):
            events += decoder.feed(event, data)
    for event, data in reader.finish():
        events += decoder.feed(event, data)
    return [*events, *decoder.finish()]


def test_calls_have_their_own_numbers() -> None:
    """Whatever stands between them; a call that some program makes says so."""
    caller = {"type": "code_execution_20260120", "tool_id": "srvtoolu_1"}
    blocks = (CALL | {"caller": {"type": "direct"}}, PLAIN, NO_INPUT | {"caller": caller})
    events = [e for e in whole_events(answer(*blocks)) if isinstance(e, ToolCallDelta) and e.id]
    assert [(e.index, e.extra) for e in events] == [(0, {}), (1, {**MARK, "caller": caller})]


def test_a_call_without_an_id_gets_one() -> None:
    """It is made of the answer's, so that it differs between turns."""
    bare = {"type": "tool_use", "name": "f", "input": {"a": 1}}
    (call,) = folded(whole_events(answer(bare))).tool_calls
    assert call == ToolCall("call_msg_1_0", "f", '{"a":1}')


def test_odd_pieces() -> None:
    """A block that was not announced, a kind of piece that nobody knows, text at the beginning."""
    events = streamed_events(
        start(),
        piece(0, "thinking_delta", thinking="hm"),
        begin(1, type="text", text="a", novel=1),
        piece(1, "text_delta", text="b", extra=None),
        piece(1, "novel_delta", x=1),
        piece(1, "input_json_delta", partial_json="{"),
        piece(1, "text_delta", text=""),
        begin(2, type="hologram"),
        piece(2, "hologram_delta", shape="cu"),
        piece(2, "hologram_delta", shape="be"),
        *last(),
    )
    assert events == [
        ReasoningDelta("hm", index=0, extra=MARK),
        TextDelta("a"),
        Opaque({"content_block": {"novel": 1}}, "anthropic", content=False),
        TextDelta("b"),
        Opaque({"type": "novel_delta", "x": 1}, "anthropic", content=False),
        Opaque({"type": "input_json_delta", "partial_json": "{"}, "anthropic", content=False),
        Opaque({"type": "hologram", "shape": "cube"}, "anthropic"),
        REPORT,
        Finish("stop"),
    ]


def test_what_stands_beside_the_content_is_passed_on_once() -> None:
    """Containers, stop sequences, diagnostics, and fields that nobody knows yet."""
    container = {"id": "c1", "expires_at": "2026-11-21T00:00:00Z"}
    events = streamed_events(
        start(container=container, diagnostics=None),
        {"type": "weather", "sunny": True},
        *said("ab"),
        *last("stop_sequence", stop_sequence="END", container=container),
    )
    asides = [e.data for e in events if isinstance(e, Opaque) and not e.content]
    assert asides == [
        {"container": container},
        {"type": "weather", "sunny": True},
        {"stop_sequence": "END"},
    ]


# --- the end ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "pause_turn"),
        ("Compaction", "compaction"),
    ],
)
def test_reasons(reason: str, finish: str) -> None:
    """In our words where we have them, else the provider's own."""
    assert whole_events(answer(PLAIN, reason=reason))[-1] == Finish(finish)
    assert streamed_events(start(), *said("ab"), *last(reason))[-1] == Finish(finish)


def test_an_empty_answer_is_one() -> None:
    """The model may have nothing to add to a tool's result."""
    assert whole_events(answer()) == [REPORT, Finish("stop")]


def test_a_refusal_before_the_first_word_is_an_error() -> None:
    """It says which policy, and what was spent; the explanation is not repeated."""
    details = {"type": "refusal", "category": "bio", "explanation": "About the prompt."}
    ending = last("refusal", stop_details=details)
    for streams in (False, True):
        with pytest.raises(ContentFilteredError) as caught:
            if streams:
                streamed_events(start(), *ending)
            else:
                whole_events(answer(reason="refusal", stop_details=details))
        assert (caught.value.code, caught.value.usage) == ("refusal", REPORT.usage)
        assert "bio" in str(caught.value)
        assert "prompt" not in str(caught.value)


def test_a_refusal_after_words_says_why() -> None:
    """The details are passed on."""
    details = {"type": "refusal", "category": None, "explanation": None}
    events = streamed_events(start(), *said("ab"), *last("refusal", stop_details=details))
    assert Opaque({"stop_details": details}, "anthropic", content=False) in events


@pytest.mark.parametrize("upto", range(1, len(STREAM) - 2))
def test_without_a_stop_reason_a_stream_is_truncated(upto: int) -> None:
    """The end of the bytes alone is no end."""
    decoder, _ = read(*STREAM[:upto])
    assert decoder.finish() == ()


def test_a_stop_reason_is_the_end() -> None:
    """It comes after the last block and with the final usage: `message_stop` adds nothing."""
    decoder, _ = read(*STREAM[:-1])
    assert not decoder.done
    assert decoder.finish() == [REPORT, Finish("stop")]


# --- faults ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, OverloadedError, 529),
        ({"type": "rate_limit_error", "message": "x"}, RateLimitError, 429),
        ({"type": "authentication_error", "message": "x"}, AuthenticationError, 401),
    ],
)
def test_errors_inside_a_stream(error: Any, kind: type[LamellaError], status: int) -> None:
    """They are the errors that they stand for, with usage of no less than was delivered."""
    with pytest.raises(kind) as caught:
        read(*STREAM[:4], {"type": "error", "error": error})
    assert caught.value.status == status
    assert caught.value.usage == Usage(uncached_input=9, text_output=4, estimated=True)


def test_an_error_in_place_of_an_answer() -> None:
    """A body of status 200 may be one."""
    said = {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}
    with pytest.raises(OverloadedError):
        whole_events(json.dumps(said).encode())


@pytest.mark.parametrize(
    "data",
    [b"", b"<html>", b"[", b"null", b'{"type": "message"}', b'{"content": null}',
     b'{"content": "x"}', b'{"content": ["x"]}'],
)  # fmt: skip
def test_nonsense_in_place_of_an_answer(data: bytes) -> None:
    """Is an error of its own kind, whatever it is."""
    with pytest.raises(ProtocolError):
        whole_events(data)


@pytest.mark.parametrize("data", [b"<html>", b"{", b'{"type": "content_block_stop"}',
                                  b'{"type": "content_block_stop", "index": -1}'])  # fmt: skip
def test_nonsense_in_a_stream(data: bytes) -> None:
    """Is an error of its own kind, and never a decoder's."""
    decoder, _ = read(start())
    with pytest.raises(ProtocolError):
        decoder.feed(None, data)


def test_lone_surrogates_are_replaced() -> None:
    """They are JSON, but no text."""
    decoder, _ = read(start(), begin(0, type="text", text=""))
    wire = (
        b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\ud800"}}'
    )
    assert decoder.feed(None, wire) == [TextDelta("\ufffd")]


JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["type", "index", "delta", "content_block", "message", "usage", "text"]
            ),
            inner
            | st.sampled_from(["text", "tool_use", "text_delta", "input_json_delta", "error"]),
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"type": st.sampled_from([each["type"] for each in STREAM] + ["error", "x"])},
            optional={
                "index": JUNK,
                "delta": JUNK,
                "content_block": JUNK,
                "message": JUNK,
                "usage": JUNK,
            },
        ),
        max_size=6,
    )
)
def test_whatever_comes_is_read_or_refused(messages: list[dict[str, Any]]) -> None:
    """No message makes the decoder fail with an error of its own."""
    decoder = DIALECT.decoder(asked())
    try:
        for each in messages:
            decoder.feed(None, json.dumps(each).encode())
        decoder.finish()
    except LamellaError:
        pass


# --- counts ----------------------------------------------------------------------------------


def test_a_count_is_read() -> None:
    """One number, which is billed by nobody."""
    events, head = AnthropicTokenCount().decode(b'{"input_tokens": 2095}')
    assert head.raw == b'{"input_tokens": 2095}'
    assert [type(event).__name__ for event in events] == ["TokenCount", "UsageReport", "Finish"]
    for wrong in (b"{}", b'{"input_tokens": -1}', b'{"input_tokens": true}'):
        with pytest.raises(ProtocolError):
            AnthropicTokenCount().decode(wrong)
    with pytest.raises(ProtocolError):
        AnthropicTokenCount().decoder(None)
