"""From messages to events, and from events back to messages."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import (
    Audio,
    ChatAnswer,
    ChatResponse,
    Event,
    File,
    Finish,
    Image,
    MediaDelta,
    Message,
    Opaque,
    Part,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Turn,
    Usage,
    UsageReport,
    message_events,
)

WORDS = st.text(max_size=6)
WORD = st.text(min_size=1, max_size=6)
BYTES = st.binary(min_size=1, max_size=6)
EXTRA = st.dictionaries(st.sampled_from(["x", "y"]), st.integers(), max_size=2)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The values, or None."""
    return st.none() | values


PART: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, WORD, EXTRA),
    st.builds(Refusal, WORDS),
    st.builds(ToolCall, WORD, WORDS, WORDS, st.sampled_from(["function", "custom"]), EXTRA),
    st.builds(Reasoning, WORDS, maybe(WORD), maybe(WORD), st.booleans(), EXTRA),
    st.builds(Image, data=BYTES, media_type=maybe(WORD), extra=EXTRA),
    st.builds(Audio, maybe(BYTES), maybe(WORD), maybe(WORD), maybe(WORD), EXTRA),
    st.builds(Opaque, st.dictionaries(WORD, st.integers(), max_size=2), WORDS),
)


def _expressible(parts: Sequence[Part]) -> bool:
    """Two refusals in a row come back as one: events do not tell them apart."""
    kinds = [type(part) for part in parts]
    return not any(a is b is Refusal for a, b in itertools.pairwise(kinds))


PARTS = st.lists(PART, max_size=5).filter(_expressible)


def folded(events: Sequence[Event]) -> ChatAnswer:
    """What events amount to."""
    return ChatResponse((*events, Finish("stop"))).answer


def cut(event: Event, data: st.DataObject) -> list[Event]:
    """The event in smaller pieces, as a stream would bring it."""
    if isinstance(event, TextDelta | RefusalDelta):
        return [attrs.evolve(event, text=text) for text in _pieces(event.text, data)]
    if isinstance(event, ToolCallDelta):
        first, *more = _pieces(event.arguments, data)
        begun = attrs.evolve(event, arguments=first)
        return [begun, *[ToolCallDelta(event.index, arguments=text, choice=event.choice,
                                       kind=event.kind) for text in more]]  # fmt: skip
    if isinstance(event, ReasoningDelta):
        pieces = [
            ReasoningDelta(text, event.choice, event.index, redacted=event.redacted)
            for text in _pieces(event.text, data)
        ]
        return [*pieces, attrs.evolve(event, text="")]  # the seal comes last
    if isinstance(event, MediaDelta):
        half = len(event.data) // 2
        words = attrs.evolve(event, data=b"")
        return [words, *[MediaDelta(event.kind, data, index=event.index, choice=event.choice)
                         for data in (event.data[:half], event.data[half:])]]  # fmt: skip
    return [event]


def _pieces(text: str, data: st.DataObject) -> list[str]:
    at = data.draw(st.integers(0, len(text)))
    return [text[:at], text[at:]]


@given(PARTS, st.integers(0, 2))
def test_the_events_of_a_message_amount_to_it(parts: list[Part], choice: int) -> None:
    """In any choice."""
    message = Message.assistant(parts)
    events = list(message_events(message, choice))
    assert all(event.choice == choice for event in events)
    by_index = {found.index: found.message for found in folded(events).choices}
    assert by_index.get(choice, Message("assistant")) == message


@given(PARTS, st.data())
def test_it_does_not_matter_where_a_stream_is_cut(parts: list[Part], data: st.DataObject) -> None:
    """Smaller pieces amount to the same message."""
    message = Message.assistant(parts)
    pieces = [piece for event in message_events(message) for piece in cut(event, data)]
    assert folded(pieces).message == message


@given(st.lists(st.lists(WORD, min_size=1, max_size=3), min_size=1, max_size=4), st.data())
def test_parallel_calls_may_alternate(calls: list[list[str]], data: st.DataObject) -> None:
    """Calls stand in the order in which they began, each with its own arguments."""
    queues: list[list[Event]] = [
        [ToolCallDelta(at, f"t{at}", f"f{at}"), *[ToolCallDelta(at, arguments=w) for w in words]]
        for at, words in enumerate(calls)
    ]
    events: list[Event] = []
    while any(queues):
        queue = data.draw(st.sampled_from([queue for queue in queues if queue]))
        events.append(queue.pop(0))
    found = {call.id: (call.name, call.arguments) for call in folded(events).tool_calls}
    assert found == {f"t{at}": (f"f{at}", "".join(words)) for at, words in enumerate(calls)}


def test_another_id_at_one_index_is_another_call() -> None:
    """And an id may come late."""
    events: list[Event] = [
        ToolCallDelta(0, None, "f", "{"),
        ToolCallDelta(0, "1", arguments="}"),
        ToolCallDelta(0, "2", "g", "{}"),
        ToolCallDelta(0, arguments=" "),
    ]
    assert folded(events).tool_calls == (ToolCall("1", "f", "{}"), ToolCall("2", "g", "{} "))


def test_sound_is_one_part_though_other_pieces_come_between() -> None:
    """Media belong together by kind and index, like tool calls."""
    events: list[Event] = [
        MediaDelta("audio", b"\1", "wav", "He", "a1"),
        TextDelta("x"),
        MediaDelta("audio", b"\2", transcript="llo"),
        MediaDelta("audio", b"\3", index=1),
    ]
    assert folded(events).message.parts == (
        Audio(b"\1\2", "wav", "a1", "Hello"),
        Text("x"),
        Audio(b"\3"),
    )


def test_progress_is_no_part_of_the_message() -> None:
    """Opaque events without content are passed on only, and do not cut a text in two."""
    events: list[Event] = [TextDelta("a"), Opaque({"x": 1}, content=False), TextDelta("b")]
    assert folded(events).message.parts == (Text("ab"),)


def test_choices_are_kept_apart() -> None:
    """Each with its own reason and log probabilities."""
    answer = ChatResponse(
        (
            TextDelta("a", 0, [{"token": "a"}]),
            TextDelta("b", 1),
            TextDelta("c", 0),
            Finish("stop", ("stop", "length")),
        )
    ).answer
    assert [choice.message.text for choice in answer.choices] == ["ac", "b"]
    assert [choice.finish_reason for choice in answer.choices] == ["stop", "length"]
    assert answer.choices[0].logprobs == ({"token": "a"},)


def test_after_a_turn_a_new_message_begins() -> None:
    """`messages` holds all turns; text and calls are the last one's."""
    turn = (Message.assistant([ToolCall("1", "f", "{}")]), Message.tool("1", "4"))
    events: list[Event] = [ToolCallDelta(0, "1", "f", "{}"), Turn(turn), TextDelta("four")]
    answer = ChatResponse((*events, UsageReport(Usage(text_output=1)), Finish("stop"))).answer
    assert answer.messages == (*turn, Message.assistant("four"))
    assert answer.tool_calls == ()
    assert answer.usage == Usage(text_output=1)


def test_no_events_are_an_empty_message() -> None:
    """Any prefix of an answer amounts to something."""
    response = ChatResponse(())
    assert response.answer.message == Message("assistant")
    assert response.answer.finish_reason is None


@pytest.mark.parametrize("part", [File(id="f"), Image(url="u")])
def test_what_no_answer_can_hold_is_refused(part: Part) -> None:
    """By name."""
    with pytest.raises(ValueError, match=type(part).__name__):
        list(message_events(Message.assistant([part])))
