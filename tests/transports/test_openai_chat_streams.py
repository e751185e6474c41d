"""Streams of Chat Completions as servers really send them, and the faults in them."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from chat_wire import (
    CHAT,
    DONE,
    ENDED,
    REPORT,
    STOP,
    TOTALS,
    USAGE,
    assembled,
    calls,
    piece,
    read,
    stream,
    text,
)
from hypothesis import given
from hypothesis import strategies as st

from lamella import (
    ChatResponse,
    Finish,
    Image,
    LamellaError,
    MediaDelta,
    Opaque,
    OverloadedError,
    ReasoningDelta,
    ServerError,
    TextDelta,
    Usage,
    UsageReport,
)

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
