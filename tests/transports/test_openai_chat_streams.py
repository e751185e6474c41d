"""Streams of Chat Completions as servers really send them, and the faults in them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import (
    ChatRequest,
    ChatResponse,
    Event,
    Finish,
    Image,
    LamellaError,
    MediaDelta,
    Opaque,
    OverloadedError,
    ProtocolError,
    ReasoningDelta,
    ServerError,
    TextDelta,
    ToolCall,
    Usage,
    UsageReport,
)
from lamella.transports._openai_chat import OpenAIChat
from lamella.transports._openai_chat_answer import ChatDecoder

CHAT = OpenAIChat()
USAGE: dict[str, Any] = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
REPORT = UsageReport(Usage(uncached_input=9, text_output=3))
STOP: dict[str, Any] = {"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
ENDED: dict[str, Any] = {**STOP, "usage": USAGE}
TOTALS: dict[str, Any] = {"choices": [], "usage": USAGE}
DONE = b"[DONE]"


def text(words: str | None, index: int = 0, **choice: Any) -> dict[str, Any]:
    """A chunk with a piece of text."""
    return {"id": "c1", "choices": [{"index": index, "delta": {"content": words}, **choice}]}


def calls(*pieces: Mapping[str, Any]) -> dict[str, Any]:
    """A chunk with pieces of tool calls."""
    return {"id": "c1", "choices": [{"index": 0, "delta": {"tool_calls": list(pieces)}}]}


def piece(arguments: Any = None, name: str | None = None, **fields: Any) -> dict[str, Any]:
    """A piece of a tool call."""
    function = {"name": name, "arguments": arguments}
    return {**fields, "function": {k: v for k, v in function.items() if v is not None}}


def read(*chunks: Mapping[str, Any] | bytes, **fields: Any) -> tuple[ChatDecoder, list[Event]]:
    """The decoder after a stream of chunks, and the events before its end."""
    decoder = CHAT.decoder(ChatRequest.of("Hi", **fields))
    events: list[Event] = []
    for data in chunks:
        raw = data if isinstance(data, bytes) else msgspec.json.encode(data)
        events += decoder.feed(None, raw)
    return decoder, events


def stream(*chunks: Mapping[str, Any] | bytes, **fields: Any) -> list[Event]:
    """All events of a stream of chunks."""
    decoder, events = read(*chunks, **fields)
    return [*events, *decoder.finish()]


def assembled(*chunks: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Id, name and arguments of the calls that a stream amounts to."""
    found = ChatResponse(tuple(stream(*chunks, STOP, DONE))).message.tool_calls
    return [(call.id, call.name, call.arguments) for call in found]


# --- the end -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chunks",
    [
        [text("a"), STOP, TOTALS, DONE],
        [text("a"), STOP, {"usage": USAGE}, DONE],
        [text("a"), ENDED, DONE],
        [text("a"), ENDED],
        [text("a") | {"usage": USAGE | {"completion_tokens": 1}}, ENDED, DONE],
        [text("a"), ENDED, TOTALS, DONE],
        [text("a"), STOP, TOTALS, {"choices": [], "usage": None}, DONE],
        [text("a"), STOP, TOTALS, {"choices": [], "usage": {"cost": 0}}, DONE],
        [text("a"), {"choices": [{**STOP["choices"][0], "usage": USAGE}]}, DONE],
    ],
    ids=[
        "final",
        "bare",
        "with a choice",
        "no DONE",
        "cumulative",
        "twice",
        "null after",
        "nothing after",
        "in the choice",
    ],
)
def test_usage_is_counted_once_wherever_it_comes(chunks: list[Any]) -> None:
    """The last statement counts, before the one `Finish`."""
    assert stream(*chunks) == [TextDelta("a"), REPORT, Finish("stop")]


def test_zero_usage_is_respected_and_missing_usage_estimated() -> None:
    """A connection cut just after the finish reason is a good end; the usage says it is a guess."""
    zero = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert stream(text("a"), {**STOP, "usage": zero}) == [
        TextDelta("a"),
        UsageReport(Usage()),
        Finish("stop"),
    ]
    report = stream(text("Hel"), text("lo"), STOP)[-2]
    assert report == UsageReport(Usage(uncached_input=5, text_output=3, estimated=True))


def test_usage_that_nobody_asked_for_counts() -> None:
    """Groq states it in an object of its own."""
    assert REPORT in stream(text("a"), {**STOP, "x_groq": {"id": "r1", "usage": USAGE}}, DONE)


@pytest.mark.parametrize("chunks", [[], [DONE], [text("a")], [text("a"), DONE]])
def test_without_a_finish_reason_a_stream_is_truncated(chunks: list[Any]) -> None:
    """Neither the end of the bytes nor `[DONE]` alone is a terminal signal."""
    decoder, _ = read(*chunks)
    assert decoder.finish() == ()


def test_several_answers_end_when_each_has_its_reason() -> None:
    """With n choices, the stream goes on until the last of them has finished."""
    one, other = text(None, finish_reason="stop"), text(None, 1, finish_reason="length")
    begun, _ = read(text("a"), text("b", 1), one, n=2)
    assert begun.finish() == ()
    unseen, _ = read(text("a"), one, n=2)
    assert unseen.finish() == ()
    events = stream(text("a"), text("b", 1), one, other, n=2)
    assert events[-1] == Finish("stop", ("stop", "length"))
    answer = ChatResponse(tuple(events)).answer
    assert [choice.message.text for choice in answer.choices] == ["a", "b"]


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        ({"finish_reason": "error"}, ServerError),
        ({"finish_reason": "network_error"}, ServerError),
        ({"finish_reason": "insufficient_system_resource"}, OverloadedError),
    ],
)
def test_an_answer_that_ends_by_a_fault_is_no_answer(
    end: dict[str, Any], kind: type[LamellaError]
) -> None:
    """Some servers say only in the finish reason that they broke off; what came stays, unended."""
    decoder, events = read({**text("a", **end), "usage": USAGE}, DONE)
    assert events == [TextDelta("a")]
    with pytest.raises(kind) as caught:
        decoder.finish()
    assert caught.value.usage == REPORT.usage
    complete = {"choices": [{"index": 0, "message": {"content": "a"}, **end}]}
    with pytest.raises(kind):
        CHAT.decode(msgspec.json.encode(complete))


def test_groq_says_why_it_stopped_early() -> None:
    """In an object of its own, beside a finish reason that is as good as any."""
    with pytest.raises(OverloadedError):
        stream(text("a"), {**STOP, "x_groq": {"error": "over_capacity"}}, DONE)


def test_done_is_told_apart_from_finished() -> None:
    """A finish reason leaves time for usage; `[DONE]` is the protocol's end."""
    decoder, _ = read(text("a"), STOP)
    assert not decoder.done
    decoder.feed(None, DONE)
    assert decoder.done
    assert decoder.head.id == "c1"


# --- tool calls --------------------------------------------------------------------------------


def test_a_call_in_pieces_is_put_together() -> None:
    """Id and name come first, arguments in pieces; empty pieces make no event."""
    assert assembled(
        calls(piece("", "f", index=0, id="t1", type="function")),
        calls(piece('{"a"', index=0)),
        calls(piece("", index=0)),
        calls(piece(":1}", index=0)),
    ) == [("t1", "f", '{"a":1}')]


def test_parallel_calls_may_alternate() -> None:
    """Pieces go by index, whatever their order."""
    assert assembled(
        calls(piece("", "f", index=0, id="1"), piece("", "g", index=1, id="2")),
        calls(piece('{"x":', index=1)),
        calls(piece('{"y":', index=0)),
        calls(piece("1}", index=1), piece("2}", index=0)),
    ) == [("1", "f", '{"y":2}'), ("2", "g", '{"x":1}')]


def test_one_index_may_serve_several_calls() -> None:
    """Another id is another call, and a known id is the call that it had before."""
    assert assembled(
        calls(piece('{"a":1}', "f", index=0, id="1")),
        calls(piece('{"b":', "f", index=0, id="2")),
        calls(piece("2}", index=0)),
        calls(piece(" ", index=0, id="1")),
    ) == [("1", "f", '{"a":1} '), ("2", "f", '{"b":2}')]


def test_an_id_may_come_late_or_never() -> None:
    """A call that gets no id is given one, made of the answer's id."""
    assert assembled(
        calls(piece("", "f", index=0, id="")),
        calls(piece("{}", "", index=0, id="1")),
        calls(piece("{}", "g", index=1)),
    ) == [("1", "f", "{}"), ("call_c1_0_1", "g", "{}")]


def test_whole_calls_need_neither_index_nor_id() -> None:
    """A second name after complete arguments begins a second call, even the same name."""
    assert assembled(
        calls(piece('{"a":1}', "f", index=0)),
        calls(piece('{"a":2}', "f", index=0)),
        calls(piece({"a": 3}, "g")),
    ) == [
        ("call_c1_0_0", "f", '{"a":1}'),
        ("call_c1_0_1", "f", '{"a":2}'),
        ("call_c1_0_2", "g", '{"a":3}'),
    ]


def test_calls_without_arguments_are_told_apart_by_name() -> None:
    """Where no index says that a second name continues the first, it is another call."""
    assert assembled(calls(piece("", "f"), piece("", "g")), calls(piece("", "h"))) == [
        ("call_c1_0_0", "f", ""),
        ("call_c1_0_1", "g", ""),
        ("call_c1_0_2", "h", ""),
    ]


def test_calls_of_one_id_are_told_apart_by_index() -> None:
    """A server may give all calls the same id; each name at a new index is a call."""
    assert assembled(
        calls(piece('{"a":', "f", index=0, id="null"), piece('{"b":', "g", index=1, id="null")),
        calls(piece("1}", index=0, id="null"), piece("2}", index=1, id="null")),
    ) == [("null", "f", '{"a":1}'), ("null", "g", '{"b":2}')]


def test_a_name_may_be_repeated_or_come_in_pieces() -> None:
    """The same name again changes nothing; a different one before any arguments continues it."""
    assert assembled(
        calls(piece(None, "get_", index=0, id="1")),
        calls(piece(None, "weather", index=0)),
        calls(piece('{"a":', "get_weather", index=0)),
        calls(piece("1}", "get_weather", index=0)),
    ) == [("1", "get_weather", '{"a":1}')]


@given(
    st.lists(
        st.dictionaries(st.text(max_size=3), st.text(max_size=6), max_size=2),
        min_size=1,
        max_size=4,
    ),
    st.data(),
)
def test_every_call_s_arguments_are_byte_exact(given: list[dict[str, str]], data: Any) -> None:
    """Parallel calls cut anywhere and mixed in any order come out as they went in."""
    wanted = [msgspec.json.encode(arguments).decode() for arguments in given]
    queues = [
        [piece("", f"f{number}", index=number, id=f"t{number}"), *_cut(words, number, data)]
        for number, words in enumerate(wanted)
    ]
    chunks: list[dict[str, Any]] = []
    while any(queues):
        queue = data.draw(st.sampled_from([queue for queue in queues if queue]))
        chunks.append(calls(queue.pop(0)))
    found = sorted(assembled(*chunks))
    assert found == [(f"t{n}", f"f{n}", words) for n, words in enumerate(wanted)]


def _cut(words: str, index: int, data: Any) -> list[dict[str, Any]]:
    places = data.draw(st.lists(st.integers(0, len(words)), max_size=4).map(sorted))
    ends = [0, *places, len(words)]
    return [piece(words[a:b], index=index) for a, b in itertools.pairwise(ends)]


# --- what servers add --------------------------------------------------------------------------


def test_unknown_fields_are_passed_on_once_and_do_not_commit() -> None:
    """Filter results, citations and the like are progress; a repeated value is not repeated."""
    filtered = text("a", content_filter_results={"hate": {"filtered": False}})
    cited = {"citations": ["u"]}
    events = stream({**filtered, **cited}, {**filtered, **cited}, STOP, DONE)
    asides = [event for event in events if isinstance(event, Opaque)]
    assert [event.data for event in asides] == [
        cited,
        {"content_filter_results": {"hate": {"filtered": False}}},
    ]
    assert not any(event.semantic for event in asides)
    assert ChatResponse(tuple(events)).text == "aa"


def test_unknown_finish_reasons_and_chunks_without_choices_do_no_harm() -> None:
    """New words pass; Azure's first chunk has no choice, some have none at all."""
    events = stream(
        {"choices": [], "prompt_filter_results": []},
        {"object": "ping"},
        text("a", finish_reason="brand_new"),
        {"choices": None, "usage": USAGE},
        DONE,
    )
    assert events == [TextDelta("a"), REPORT, Finish("brand_new")]


def test_sound_may_be_cut_within_a_group_of_base64() -> None:
    """Its bytes come out whole, with the format that the request asked for."""

    def sound(**audio: Any) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": {"audio": audio}}]}

    events = stream(
        sound(id="a1", data="AQ"), sound(data="IDBA==", transcript="Hi"), STOP, DONE,
        extra={"audio": {"format": "pcm16"}},
    )  # fmt: skip
    media = [event for event in events if isinstance(event, MediaDelta)]
    assert b"".join(event.data for event in media) == b"\1\2\3\4"
    assert {event.media_type for event in media} == {"pcm16"}
    assert (media[0].id, media[-1].transcript) == ("a1", "Hi")


def test_reasoning_state_is_gathered_for_the_next_turn() -> None:
    """`reasoning_details` come in pieces and stay in the message as one."""

    def details(words: str) -> dict[str, Any]:
        entry = {"type": "reasoning.text", "index": 0, "text": words}
        return {"choices": [{"delta": {"reasoning": words, "reasoning_details": [entry]}}]}

    events = stream(details("H"), details("m"), text("Yes"), STOP, DONE)
    assert events[:2] == [ReasoningDelta("H"), ReasoningDelta("m")]
    parts = ChatResponse(tuple(events)).message.parts
    entry = {"type": "reasoning.text", "index": 0, "text": "Hm"}
    assert parts[-1] == Opaque({"reasoning_details": [entry]}, "openai")


def test_blocks_of_thinking_are_gathered_up_to_their_seal() -> None:
    """Pieces without an index belong to the block that is not yet sealed."""

    def blocks(words: str, seal: str = "") -> dict[str, Any]:
        block = {"type": "thinking", "thinking": words, "signature": seal}
        return {"choices": [{"delta": {"thinking_blocks": [block]}}]}

    thought = blocks("H"), blocks("m"), blocks("", "s1"), blocks("!", "s2")
    kept = ChatResponse(tuple(stream(*thought, text("Yes"), STOP, DONE))).message.parts[-1]
    assert isinstance(kept, Opaque)
    found = [(block["thinking"], block["signature"]) for block in kept.data["thinking_blocks"]]
    assert found == [("Hm", "s1"), ("!", "s2")]


def test_every_picture_is_one_of_its_own() -> None:
    """Each comes whole, so that two in two deltas are two pictures."""

    def picture(data: str) -> dict[str, Any]:
        url = {"url": f"data:image/png;base64,{data}"}
        return {"choices": [{"delta": {"images": [{"image_url": url}]}}]}

    events = stream(picture("AQ=="), picture("Ag=="), STOP, DONE)
    assert ChatResponse(tuple(events)).message.parts == (
        Image(data=b"\1", media_type="image/png"),
        Image(data=b"\2", media_type="image/png"),
    )


def test_a_message_beside_the_deltas_is_not_said_again() -> None:
    """Some servers repeat the whole message at the end; without deltas it is the answer."""
    whole = {"choices": [{"message": {"content": "ab"}, "delta": {}, "finish_reason": "stop"}]}
    role = {"choices": [{"delta": {"role": "assistant"}}]}
    for chunks in ((role, text("a"), text("b"), whole), (role, whole)):
        assert ChatResponse(tuple(stream(*chunks, DONE))).text == "ab"


def test_log_probabilities_wait_for_the_text_of_their_tokens() -> None:
    """A token that is part of a character has no text yet; its logprobs come with the next."""
    events = stream(
        text("", logprobs={"content": [{"token": "1"}]}),
        text("é", logprobs={"content": [{"token": "2"}]}),
        STOP,
        DONE,
    )
    assert events[0] == TextDelta("é", logprobs=({"token": "1"}, {"token": "2"}))


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
