"""Answers as bytes, joined to be kept and cut to be streamed."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, get_args

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kept_answers import CHOICE, EVENT, HEAD, KEPT, MESSAGE, PART, TEXTS, folded, sample

from lamella import (
    ChatRequest,
    Event,
    Finish,
    Head,
    MediaDelta,
    Message,
    Money,
    Opaque,
    Part,
    ReasoningDelta,
    RefusalDelta,
    Text,
    TextDelta,
    ToolCallDelta,
    Turn,
    Usage,
    UsageReport,
    Vector,
)
from lamella import _answer_codec as codec
from lamella._answer_codec import (
    KeptAnswer,
    UnreadableError,
    decode_answer,
    encode_answer,
    merged,
)
from lamella._answer_forms import Forms
from lamella._answer_pieces import MOST_PIECES, cut
from lamella._keepable import replayed


def kept(*events: Event) -> KeptAnswer:
    """An answer of these events."""
    return KeptAnswer(events, Head(), "chat")


def again(answer: KeptAnswer) -> KeptAnswer:
    """The answer, from its bytes."""
    return decode_answer(encode_answer(answer), 0.0)


# --- as bytes ------------------------------------------------------------------------------------


@given(KEPT)
def test_an_answer_comes_back_as_it_was(answer: KeptAnswer) -> None:
    """Every field of every event, part, usage and head, those that equality leaves out as well."""
    found = again(answer)
    assert found == answer
    assert attrs.asdict(found) == attrs.asdict(answer)


def test_every_class_of_an_answer_is_written() -> None:
    """Whatever an answer can hold has a form, and whatever has one is tried above."""
    known = set(codec._FORMS._rows)
    assert known == {*get_args(Event), *get_args(Part), Message, Usage, Head, Money, KeptAnswer}
    tried = _classes(EVENT) | _classes(PART | MESSAGE)
    assert tried == {*get_args(Event), *get_args(Part), Message}


def _classes(strategy: Any) -> set[type]:
    """The classes that a union of strategies makes."""
    found: set[type] = set()

    @settings(max_examples=125, database=None, derandomize=True)
    @given(strategy)
    def look(value: Any) -> None:
        found.add(type(value))

    look()
    return found


def test_only_headers_and_raw_bytes_are_left_behind() -> None:
    """A head is kept but for what is of that one exchange; the age is the store's to know."""
    head = Head("m", "p", "r", "i", 200, {"x-request-id": "r"}, b"{}", cached=True)
    answer = attrs.evolve(sample(), head=head, age=5.0)
    found = decode_answer(encode_answer(answer), 7.0)
    assert found.head == Head("m", "p", "r", "i", 200)
    assert found == attrs.evolve(answer, head=found.head, age=7.0)
    assert (found.fresh, attrs.evolve(found, age=60.0).fresh) == (True, False)
    assert attrs.evolve(found, age=1e9, fresh_for=None).fresh


def test_what_it_consumed_is_what_it_said_last() -> None:
    """Usage is the last report's; None without one."""
    first, last = UsageReport(Usage(text_output=1)), UsageReport(Usage(text_output=2))
    assert kept(first, last, Finish("stop")).usage == Usage(text_output=2)
    assert kept(Finish("stop")).usage is None


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ((0.5, -0.0, 2.0**100, math.inf), 4),
        ((0.1, 2.0), 8),
        ((5e-324, 1e300), 8),
        ((), 0),
    ],
)
def test_coordinates_are_exact_and_small(values: tuple[float, ...], size: int) -> None:
    """Those that four bytes hold take four, others eight; none is rounded."""
    (found,) = again(kept(Vector(0, values))).events
    assert isinstance(found, Vector)
    assert [struct.pack("d", one) for one in found.values] == [struct.pack("d", v) for v in values]
    empty = len(encode_answer(kept(Vector(0, ()))))
    assert len(encode_answer(kept(Vector(0, values * 100)))) - empty <= 100 * len(values) * size + 2


def test_coordinates_may_be_whole_numbers_or_none() -> None:
    """An integer stays one, however large a float it would not fit; a NaN stays a NaN."""
    (found, other) = again(kept(Vector(0, (2**60 + 1, 0.5)), Vector(1, (math.nan,)))).events
    assert isinstance(found, Vector)
    assert isinstance(other, Vector)
    assert found.values == (2**60 + 1, 0.5)
    assert math.isnan(other.values[0])


class Colour(StrEnum):
    """A text of a class of its own."""

    RED = "red"


class Grave(dict[str, Any]):
    """A mapping of a class of its own."""


def test_a_programs_own_texts_and_mappings_come_back_plain() -> None:
    """They equal what they were; sequences inside nested JSON are lists."""
    given_ = kept(TextDelta(Colour.RED, extra=Grave(a=(1, [Colour.RED])), logprobs=[Grave(b=1)]))
    (found,) = again(given_).events
    assert found == TextDelta("red", extra={"a": [1, ["red"]]}, logprobs=[{"b": 1}])
    assert isinstance(found, TextDelta)
    assert type(found.text) is str


def test_texts_that_are_no_unicode_come_back_beside_others() -> None:
    """Half a surrogate pair in one place changes nothing in another, backslashes neither."""
    extra = {"\\u0041": [Colour.RED, "\\\\", b"\\", math.inf, None], "\udc80": "\ud83d\ude00"}
    (found,) = again(kept(TextDelta("\ud800\\ud800", extra=extra))).events
    assert found == TextDelta("\ud800\\ud800", extra=extra)


def test_numbers_that_equal_nothing_come_back() -> None:
    """A NaN in nested JSON is one afterwards."""
    (found,) = again(kept(TextDelta("x", extra={"a": [math.nan, (1,)]}))).events
    assert isinstance(found, TextDelta)
    assert math.isnan(found.extra["a"][0])
    assert found.extra["a"][1] == [1]


@pytest.mark.parametrize(
    "event",
    [
        TextDelta("x", extra={"a": object()}),
        TextDelta("x", extra={"a": {1, 2}}),
        TextDelta("x", extra={"a": [Money(1)]}),
        TextDelta("x", extra={"a": 2**70}),
        TextDelta(None),  # type: ignore[arg-type]
        TextDelta("x", choice=True),
        TextDelta("x", choice=0.0),  # type: ignore[arg-type]
        Vector(0, ("x",)),  # type: ignore[arg-type]
        Turn(("x",)),  # type: ignore[arg-type]
        UsageReport(Usage(cache_write={"5m": 0.5})),  # type: ignore[dict-item]
        "x",
    ],
)
def test_what_has_no_form_is_refused(event: Any) -> None:
    """Nothing is written that could not be read, and the error shows no content."""
    with pytest.raises(TypeError) as caught:
        encode_answer(kept(event))
    assert "'x'" not in str(caught.value)


def test_data_that_hold_themselves_are_refused() -> None:
    """As are those that are nested too deeply."""
    endless: dict[str, Any] = {}
    endless["again"] = endless
    with pytest.raises(TypeError, match="nested too deeply"):
        encode_answer(kept(TextDelta("x", extra=endless)))


def _read(data: bytes) -> str:
    try:
        return "an answer" if isinstance(decode_answer(data, 0.0), KeptAnswer) else "nonsense"
    except UnreadableError as error:
        return error.why


@given(KEPT, st.data())
def test_bytes_that_are_no_answer_are_unreadable(answer: KeptAnswer, data: st.DataObject) -> None:
    """Whatever is changed or missing, there is an answer or an UnreadableError, nothing else."""
    whole = bytearray(encode_answer(answer))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(whole)))
    for changed in (bytes(whole), bytes(whole[:end])):
        assert _read(changed) in ("an answer", "corrupt", "outdated")


@pytest.mark.parametrize(
    ("row", "place"),
    [(["x"], ()), ([], ()), (7, ()), (-1, (0,)), (True, (0,)), (None, (1,)), ("x", (1, 0)),
     (b"\x06\x00\x00", (1, 0)), ([999], (1, 0)), ([6, "x", 0], (1, 0)), ({}, (2,)), (1, (3,)),
     ([1], (6,)), ("x", (7,)), ([], (8,))],
)  # fmt: skip
def test_a_row_of_other_values_is_corrupt(row: Any, place: tuple[int, ...]) -> None:
    """Reading believes nothing: not the class of a row, not how many fields it has, nor their."""
    whole: Any = codec._decode(codec._encode(codec._FORMS.write(sample())))
    if place:
        holder = whole
        for step in place[:-1]:
            holder = holder[step]
        holder[place[-1]] = row
    else:
        whole = row
    with pytest.raises(UnreadableError, match="corrupt"):
        decode_answer(codec._PLAIN + codec._encode(whole), 0.0)


def test_an_answer_that_a_class_refuses_is_corrupt() -> None:
    """A negative count, a message of no known role."""
    for event, place, value in (
        (UsageReport(Usage(text_output=3)), (1, 0, 1, 6), -3),
        (Turn((Message("user", "x"),)), (1, 0, 1, 0, 1), "nobody"),
    ):
        row: Any = codec._decode(codec._encode(codec._FORMS.write(kept(event))))
        holder = row
        for step in place[:-1]:
            holder = holder[step]
        holder[place[-1]] = value
        with pytest.raises(UnreadableError, match="corrupt"):
            decode_answer(codec._PLAIN + codec._encode(row), 0.0)


def test_another_version_s_bytes_are_outdated() -> None:
    """The fields of the classes are part of the format; what differs in them is not misread."""
    data = encode_answer(sample())
    other = data[:2] + bytes([data[2] ^ 1]) + data[3:]
    with pytest.raises(UnreadableError, match="outdated"):
        decode_answer(other, 0.0)


def _named(field: str) -> Any:
    return attrs.make_class("Text", {"text": attrs.field(type=str), field: attrs.field(type=int)})


def test_a_new_field_makes_another_version() -> None:
    """Also one that is only renamed; and a field of a kind without a form does not pass unseen."""
    one, other = (Forms([_named(name)], {}, {}).description for name in ("a", "b"))
    assert one != other
    strange = attrs.make_class("Text", {"at": attrs.field(type=complex)})
    with pytest.raises(TypeError, match="Text has a field of"):
        Forms([strange], {}, {})


# --- joining and cutting -------------------------------------------------------------------------

STREAM: st.SearchStrategy[list[Event]] = st.lists(TEXTS | EVENT, max_size=8)
NAME = st.sampled_from([None, "", "1", "2"])
PLAIN: st.SearchStrategy[list[Event]] = st.lists(
    st.one_of(
        st.builds(TextDelta, st.text(max_size=4), CHOICE, index=CHOICE),
        st.builds(ReasoningDelta, st.text(max_size=4), CHOICE, CHOICE, id=NAME),
        st.builds(RefusalDelta, st.text(max_size=4), CHOICE),
        st.builds(ToolCallDelta, CHOICE, NAME, st.none() | st.sampled_from(["", "f"]),
                  st.text(max_size=4), CHOICE),
        st.builds(MediaDelta, st.just("audio"), st.binary(max_size=2), NAME, index=CHOICE, id=NAME),
    ),
    max_size=12,
)  # fmt: skip


@given(STREAM | PLAIN, st.integers(1, 5))
def test_joined_and_cut_pieces_amount_to_the_same(events: list[Event], size: int) -> None:
    """Whatever a stream looks like: every message, choice, reason and usage is equal."""
    joined = merged([*events, Finish("stop")])
    assert folded(joined) == folded([*events, Finish("stop")])
    pieces = cut(joined, size)
    assert folded(pieces) == folded(joined)
    assert merged(joined) == joined
    for event in pieces:
        text: str = getattr(event, "arguments", "") or getattr(event, "text", "")
        has_logprobs = isinstance(event, TextDelta) and event.logprobs is not None
        assert len(text) <= size or has_logprobs


@pytest.mark.parametrize(
    "events",
    [
        [ReasoningDelta("a", id=""), ReasoningDelta("b")],
        [MediaDelta("audio", b"a", "", id=""), MediaDelta("audio", b"b")],
        [ToolCallDelta(0, "", "f", "a"), ToolCallDelta(0, None, None, "b"), ToolCallDelta(0, "1")],
        [ToolCallDelta(0, "", "f", "abc"), ToolCallDelta(0, "1", None, "d")],
    ],
)
def test_an_empty_name_is_replayed_as_what_it_amounted_to(events: list[Event]) -> None:
    """As some servers send one with the first piece: no call is cut in two, no id made of none."""
    for pieces in (merged(events), cut(events, 1), cut(merged(events), 1)):
        assert folded(pieces) == folded(events)


@given(STREAM | PLAIN)
def test_events_that_are_no_pieces_are_kept_as_they_are(events: list[Event]) -> None:
    """And in their order."""
    pieces = (TextDelta, ReasoningDelta, RefusalDelta, ToolCallDelta, MediaDelta)
    others = [event for event in events if not isinstance(event, pieces)]
    assert [event for event in merged(events) if not isinstance(event, pieces)] == others


def test_a_stream_is_kept_in_as_many_pieces_as_it_has_blocks() -> None:
    """Interleaved choices and parallel calls are joined across each other."""
    stream = [event for word in ("a ", "b ", "c") for event in (
        TextDelta(word), TextDelta(word.upper(), choice=1),
        ToolCallDelta(0, None, None, word), ToolCallDelta(1, "2", "f", word),
    )]  # fmt: skip
    assert merged([ReasoningDelta("x"), ReasoningDelta("y"), *stream]) == (
        ReasoningDelta("xy"),
        TextDelta("a "),
        TextDelta("A B C", choice=1),
        ToolCallDelta(0, None, None, "a b c"),
        ToolCallDelta(1, "2", "f", "a b c"),
        TextDelta("b c"),
    )


def test_a_seal_stays_where_it_was() -> None:
    """What brings more than text is a piece of its own; what begins a block stays its beginning."""
    events = (
        ReasoningDelta("a", id="r"),
        ReasoningDelta("b", id="r"),
        ReasoningDelta(signature="s"),
        TextDelta("x", logprobs=[{"token": "x"}]),
        TextDelta("y", logprobs=[{"token": "y"}]),
        ToolCallDelta(0, "1", "f", "{", extra={"seal": 1}),
        ToolCallDelta(0, None, None, "}"),
    )
    assert merged(events) == (
        ReasoningDelta("ab", id="r"),
        *events[2:5],
        ToolCallDelta(0, "1", "f", "{}", extra={"seal": 1}),
    )


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("abcdefg", ["abc", "def", "g"]),
        ("ab\ud83d\ude00c", ["ab", "\ud83d\ude00c"]),
        ("abe\u0301d", ["ab", "e\u0301d"]),
        ("a👩\u200d👩b", ["a", "👩\u200d👩", "b"]),
        ("ab🇩🇪c", ["ab", "🇩🇪c"]),
        ("a👍🏽bc", ["a👍🏽", "bc"]),
        ("e" + "\u0301" * 4, ["e\u0301\u0301", "\u0301\u0301"]),
    ],
)
def test_no_character_is_cut_apart_where_it_fits(text: str, pieces: list[str]) -> None:
    """Surrogate pairs, accents, flags, families; one that is longer than a piece is cut."""
    found = cut([TextDelta(text)], 3)
    assert [event.text for event in found if isinstance(event, TextDelta)] == pieces


def test_a_very_long_text_has_no_more_pieces_than_can_be_made_at_once() -> None:
    """They are larger, of all texts of the answer alike, and still cut the same each time."""
    events: list[Event] = [
        TextDelta("é" * 10 * MOST_PIECES),
        ReasoningDelta("a" * 10 * MOST_PIECES),
    ]
    pieces = cut(events, 1)
    assert MOST_PIECES - 2 <= len(pieces) <= MOST_PIECES + 2
    assert merged(pieces) == tuple(events)
    assert pieces == cut(events, 1)
    assert len(cut(events, 10**6)) == 2


def test_what_begins_and_closes_a_block_comes_first_and_last() -> None:
    """A call is named by its first piece; a seal comes when the text is complete."""
    call = ToolCallDelta(2, "1", "f", "abcd", 1, "custom", {"seal": 1})
    thought = ReasoningDelta("abcd", 1, 2, "s", "r", redacted=True, extra={"x": 1})
    assert cut([call, thought, TextDelta("abcd", 1, None, 2, {"y": 1})], 3) == [
        ToolCallDelta(2, "1", "f", "abc", 1, "custom", {"seal": 1}),
        ToolCallDelta(2, None, None, "d", 1, "custom"),
        ReasoningDelta("abc", 1, 2, None, "r", redacted=True),
        ReasoningDelta("d", 1, 2, "s", "r", redacted=True, extra={"x": 1}),
        TextDelta("abc", 1, None, 2),
        TextDelta("d", 1, None, 2, {"y": 1}),
    ]


@given(st.lists(EVENT, max_size=4), HEAD, st.integers(1, 4))
def test_a_replay_says_the_same_streamed_or_not(
    events: Sequence[Event], head: Head, piece: int
) -> None:
    """Ids, usage and finish are those that were kept; it says that it is a replay."""
    answer = kept(*merged([*events, Finish("tool_calls", ("tool_calls", "stop"))]))
    answer = attrs.evolve(answer, head=attrs.evolve(head, cached=False))
    request = ChatRequest.of("x")
    whole = replayed(request, answer, piece=piece)
    streamed = replayed(request.evolve(stream=True), answer, piece=piece)
    assert whole.complete
    assert streamed.complete
    assert whole.events == answer.events
    assert streamed.answer == whole.answer
    assert streamed.events == replayed(request.evolve(stream=True), answer, piece=piece).events
    for response in (whole, streamed):
        assert response.head == attrs.evolve(answer.head, cached=True)
        assert response.finish_reason == "tool_calls"


def test_nested_data_of_a_replay_are_nobody_s_but_its_own() -> None:
    """What a caller does with one answer is not seen in the next."""
    data = encode_answer(kept(Opaque({"a": []}), Turn((Message("assistant", Text("x")),))))
    first, second = decode_answer(data, 0.0).events[0], decode_answer(data, 0.0).events[0]
    assert isinstance(first, Opaque)
    assert isinstance(second, Opaque)
    inner: Mapping[str, Any] = first.data
    inner["a"].append(1)
    assert second.data == {"a": []}
