"""Streams of the chat API that go wrong, and the parity of streams and answers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from chat_wire import CHAT, DONE, REPORT, STOP, USAGE, calls, piece, read, stream, text
from hypothesis import given
from hypothesis import strategies as st

from lamella import (
    ChatRequest,
    ChatResponse,
    LamellaError,
    OverloadedError,
    ProtocolError,
    TextDelta,
    ToolCall,
)

# --- faults ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"type": "overloaded_error", "message": "x"}},
        {"error": {"code": 529, "message": "x"}, "choices": [{"delta": {}, "finish_reason": "e"}]},
        {"type": "error", "error": {"type": "overloaded_error"}},
        {"choices": [{"index": 0, "delta": {}, "error": {"code": 503}, "finish_reason": "error"}]},
    ],
)
def test_errors_inside_a_stream_are_the_provider_s(error: dict[str, Any]) -> None:
    """First event or later, they are of the same kind as by status; usage is kept."""
    for before in ((), ({**text("a"), "usage": USAGE},)):
        with pytest.raises(OverloadedError) as caught:
            read(*before, error)
        assert caught.value.usage == (REPORT.usage if before else None)


def test_an_error_event_needs_no_error_object() -> None:
    """`event: error` says enough."""
    with pytest.raises(LamellaError):
        CHAT.decoder(ChatRequest.of("Hi")).feed("error", b'{"message": "x", "code": 500}')


@pytest.mark.parametrize(
    "data",
    [
        b"{", b"", b"[]", b"null", b'"x"', b"<html>", b'{"a": "\xff"}', b'{"choices": 5}',
        b"[" * 9999, b'{"choices": [5]}', b'{"choices": [{"index": -1}]}',
        b'{"choices": [{"index": 1000000}]}',
        b'{"choices": [{"index": "0"}]}', b'{"choices": [{"delta": {"content": 5}}]}',
    ],
)  # fmt: skip
def test_bytes_that_make_no_sense_are_a_protocol_error(data: bytes) -> None:
    """Never a decoder's own error, and nothing of the answer in the message."""
    with pytest.raises(ProtocolError) as caught:
        read(text("a"), data)
    assert caught.value.provider == "openai"
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "body",
    [
        b"<html>", b"", b"{", b"{}", b"[]", b'{"choices": []}', b'{"choices": null}',
        b'{"choices": [{"message": {"content": null}, "finish_reason": "stop"}]}',
        b'{"choices": [{"index": 1, "message": {"content": "a"}, "finish_reason": "stop"}]}',
    ],
)  # fmt: skip
def test_a_body_that_is_no_answer_is_a_protocol_error(body: bytes) -> None:
    """HTML, malformed JSON, no choice, no content: retryable, as another try may go better."""
    with pytest.raises(ProtocolError) as caught:
        CHAT.decode(body)
    assert caught.value.retryable


def test_a_paid_body_that_is_no_answer_says_what_it_cost() -> None:
    """Usage beside no choice is kept on the error."""
    with pytest.raises(ProtocolError) as caught:
        CHAT.decode(msgspec.json.encode({"choices": [], "usage": USAGE}))
    assert caught.value.usage == REPORT.usage


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": "rate_limit_exceeded"}}, {"error": "text"}, [{"error": {"code": 429}}],
        {"object": "error", "message": "x"}, {"message": "x", "code": 400},
    ],
)  # fmt: skip
def test_an_error_in_a_good_status_is_the_provider_s(body: Any) -> None:
    """Whatever its shape, it is no protocol error."""
    with pytest.raises(LamellaError) as caught:
        CHAT.decode(msgspec.json.encode(body))
    assert not isinstance(caught.value, ProtocolError)


def test_half_a_surrogate_pair_is_replaced_and_nul_kept() -> None:
    """It is valid JSON but no text: nobody could write it to a file or a socket."""
    data = b'{"choices": [{"index": 0, "delta": {"content": "a\\ud800b\\u0000\\ud83d\\ude00"}}]}'
    _, events = read(data)
    assert events == [TextDelta("a\ufffdb\0\U0001f600")]


def test_fields_of_the_wrong_kind_never_raise_anything_but_our_errors() -> None:
    """Every field of a chunk may be junk, at any depth."""
    call = piece("{}", "f", index=0, id="1", type="function")
    entry = {"type": "reasoning.text", "index": 0, "text": "H"}
    rich = {
        "id": "c1",
        "model": "m",
        "usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 1}},
        "choices": [
            {
                "index": 0,
                "delta": {
                    "content": [
                        {"type": "text", "text": "a"},
                        {"type": "thinking", "thinking": []},
                    ],
                    "reasoning": "b",
                    "refusal": "c",
                    "audio": {"id": "a", "data": "AQ==", "transcript": "d"},
                    "images": [{"image_url": {"url": "u"}}],
                    "tool_calls": [call],
                    "reasoning_details": [entry, entry],
                },
                "logprobs": {"content": [{"token": "a"}], "refusal": []},
                "finish_reason": "stop",
            }
        ],
    }
    outcomes: set[str] = set()
    for changed in _spoiled(rich):
        for before in ((), (text("a"),)):
            try:
                stream(*before, changed, DONE)
                outcomes.add("read")
            except LamellaError as error:
                outcomes.add(type(error).__name__)
    assert {"read", "ProtocolError"} <= outcomes


def _spoiled(given: Any) -> Iterator[Any]:
    """The value with one of its parts replaced by junk, in every way."""
    yield from (None, 5, "x", [], {}, [5], {"type": []})
    inner = given.items() if isinstance(given, dict) else ()
    for key, value in enumerate(given) if isinstance(given, list) else inner:
        for junk in _spoiled(value):
            if isinstance(given, dict):
                yield {**given, key: junk}
            else:
                yield [*given[:key], junk, *given[key + 1 :]]


# --- parity ------------------------------------------------------------------------------------

WORDS = st.text(max_size=8)
MESSAGES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"content": WORDS},
    optional={
        "reasoning_content": WORDS,
        "refusal": WORDS,
        "tool_calls": st.lists(
            st.builds(
                lambda number, name, words: {
                    "id": f"t{number}",
                    "type": "function",
                    "function": {"name": name, "arguments": words},
                },
                st.integers(),
                st.text(min_size=1, max_size=4),
                WORDS,
            ),
            unique_by=lambda call: str(call["id"]),
            max_size=3,
        ),
    },
)


@given(MESSAGES, st.data())
def test_a_stream_amounts_to_the_same_as_the_complete_answer(
    message: dict[str, Any], data: Any
) -> None:
    """However an answer is cut into chunks, its message, reason and usage are the same."""
    answer = {
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": USAGE,
    }
    complete = ChatResponse(tuple(CHAT.decode(msgspec.json.encode(answer))[0])).answer
    chunks = list(_chunks(message, data))
    events = stream(*chunks, STOP, {"choices": [], "usage": USAGE}, DONE)
    streamed = ChatResponse(tuple(events)).answer
    assert streamed.message == complete.message
    assert (streamed.finish_reason, streamed.usage) == (complete.finish_reason, complete.usage)


def _chunks(message: dict[str, Any], data: Any) -> list[dict[str, Any]]:
    """A message as deltas, each text cut at random places."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    for field in ("reasoning_content", "content", "refusal"):
        deltas += [{field: words} for words in _pieces(message.get(field, ""), data)]
    for index, call in enumerate(message.get("tool_calls", ())):
        begun = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
        deltas.append({"tool_calls": [begun]})
        for words in _pieces(call["function"]["arguments"], data):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": words}}]})
    return [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]


def _pieces(words: str, data: Any) -> list[str]:
    size = data.draw(st.integers(1, 4))
    return [words[at * size : (at + 1) * size] for at in range(math.ceil(len(words) / size))]


def test_tool_calls_of_the_fold_are_those_of_the_answer() -> None:
    """The reader's own indexes keep apart what the wire's do not."""
    events = stream(
        calls(piece("{}", "f", index=0, id="a"), piece("{}", "g", index=0, id="b")), STOP, DONE
    )
    assert ChatResponse(tuple(events)).message.tool_calls == (
        ToolCall("a", "f", "{}"),
        ToolCall("b", "g", "{}"),
    )
