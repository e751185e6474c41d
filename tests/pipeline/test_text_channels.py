"""Each text of an answer has a channel of its own, and stays in the part that it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import (
    Audio,
    Channel,
    ChatRequest,
    Event,
    Finish,
    MediaDelta,
    Message,
    Opaque,
    Part,
    Pipeline,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    Text,
    TextChannels,
    TextDelta,
    TextFilter,
    ToolCall,
    ToolCallDelta,
    Turn,
    Usage,
    UsageReport,
)
from lamella._chat_answer import fold
from lamella._transforms import transformed
from lamella.testing import Scripted

FINISH = Finish("stop")


class Hold:
    """Lets the text through that is not among its last characters."""

    def __init__(self, size: int, change: Any = str) -> None:
        self.size = size
        self.change = change
        self.held = ""

    def feed(self, text: str, /) -> str:
        self.held += text
        cut = max(0, len(self.held) - self.size)
        out, self.held = self.held[:cut], self.held[cut:]
        return str(self.change(out))

    def flush(self) -> str:
        out, self.held = self.held, ""
        return str(self.change(out))


def holding(size: int, change: Any = str) -> TextChannels:
    """Channels that all hold so much back, and change it."""
    return TextChannels(lambda _: Hold(size, change))


# --- any answer ----------------------------------------------------------------------------------

words = st.text(st.sampled_from("ab c⟦⟧"), max_size=6)
extras = st.sampled_from([{}, {}, {}, {"1": {"2": 1}}])
choices = st.integers(0, 1)
indexes = st.integers(0, 1)
EVENTS = st.lists(
    st.one_of(
        st.builds(TextDelta, words, choices, st.none(), indexes, extras),
        st.builds(
            ReasoningDelta,
            words,
            choices,
            indexes,
            st.sampled_from([None, None, "seal"]),
            st.none(),
            st.booleans(),
        ),
        st.builds(RefusalDelta, words, choices),
        st.builds(
            ToolCallDelta,
            indexes,
            st.sampled_from([None, None, "id1", "id2"]),
            st.sampled_from([None, "mail"]),
            words,
            choices,
        ),
        st.builds(
            MediaDelta,
            st.just("audio"),
            st.just(b"x"),
            st.none(),
            words,
            st.none(),
            indexes,
            choices,
        ),
        st.builds(Opaque, st.just({"a": "b"}), st.just("p"), st.booleans(), choices),
        st.just(UsageReport(Usage(3))),
    ),
    max_size=14,
)


def parts_of(events: Iterable[Event]) -> list[tuple[int, tuple[Part, ...]]]:
    """The parts of each choice, without those that say nothing at all."""
    answer = fold(list(events))
    return [
        (choice.index, tuple([part for part in choice.message.parts if _says(part)]))
        for choice in answer.choices
        if choice.message.parts
    ]


def _says(part: Part) -> bool:
    if isinstance(part, Text | Reasoning):
        return bool(part.text or part.extra or getattr(part, "signature", None))
    return not isinstance(part, Refusal) or bool(part.text)


def upper(part: Part) -> Part:
    """The part with its text changed, as the channels are to change it."""
    if isinstance(part, Text | Reasoning | Refusal):
        return attrs.evolve(part, text=part.text.upper())
    if isinstance(part, ToolCall):
        return attrs.evolve(part, arguments=part.arguments.upper())
    if isinstance(part, Audio):
        return attrs.evolve(part, transcript=(part.transcript or "").upper() or None)
    return part


def same_parts(one: Sequence[Any], other: Sequence[Any]) -> None:
    """Neighbours that were told apart only by a piece that says nothing may have become one."""
    assert [(index, _texts(parts)) for index, parts in one] == [
        (index, _texts(parts)) for index, parts in other
    ]


def _texts(parts: Sequence[Part]) -> list[Any]:
    found: list[Any] = []
    for part in parts:
        if found and isinstance(part, Text) and isinstance(found[-1], Text):
            extra = {**found[-1].extra, **part.extra}
            found[-1] = Text(found[-1].text + part.text, extra)
        else:
            found.append(part)
    return found


@given(EVENTS)
def test_a_filter_that_changes_nothing_changes_no_event(events: list[Event]) -> None:
    """Not even their objects: an answer that nobody touches costs no copy."""
    through = transformed([*events, FINISH], holding(0))
    assert all(one is other for one, other in zip(through, [*events, FINISH], strict=True))


@given(EVENTS, st.integers(1, 9))
def test_what_is_held_back_stays_in_its_part(events: list[Event], size: int) -> None:
    """However texts are interleaved, every word ends where it would have stood."""
    through = transformed([*events, FINISH], holding(size))
    same_parts(parts_of(through), parts_of([*events, FINISH]))


@given(EVENTS, st.integers(0, 9))
def test_every_text_is_changed_and_nothing_else(events: list[Event], size: int) -> None:
    """Signatures, ids, usage and the order of parts are what they were."""
    through = transformed([*events, FINISH], holding(size, str.upper))
    before = [(index, tuple(map(upper, parts))) for index, parts in parts_of([*events, FINISH])]
    same_parts(
        [
            (i, tuple(p for p in parts if not isinstance(p, Opaque)))
            for i, parts in parts_of(through)
        ],
        [(i, tuple(p for p in parts if not isinstance(p, Opaque))) for i, parts in before],
    )
    assert [e for e in through if isinstance(e, UsageReport)] == [
        e for e in events if isinstance(e, UsageReport)
    ]


# --- channels ------------------------------------------------------------------------------------


def test_parallel_tool_calls_are_texts_of_their_own() -> None:
    """Pieces may come interleaved; a filter sees one call's arguments and knows its tool."""
    seen: dict[Channel, str] = {}

    class Note(Hold):
        def __init__(self, channel: Channel) -> None:
            super().__init__(0)
            self.channel = channel

        def feed(self, text: str, /) -> str:
            seen[self.channel] = seen.get(self.channel, "") + text
            return text

    events: list[Event] = [
        ToolCallDelta(0, "a", "mail", '{"to"'),
        ToolCallDelta(1, "b", "shell", "rm ", kind="custom"),
        ToolCallDelta(0, arguments=": 1}"),
        ToolCallDelta(1, arguments="-r", kind="custom"),
        FINISH,
    ]
    transformed(events, TextChannels(Note))
    assert seen == {
        Channel("arguments", 0, json=True, tool="mail"): '{"to": 1}',
        Channel("arguments", 0, json=False, tool="shell"): "rm -r",
    }


def test_one_index_may_serve_two_calls() -> None:
    """What was held of the first is given up before the second begins."""
    events: list[Event] = [
        ToolCallDelta(0, "a", "f", "one"),
        ToolCallDelta(0, "b", "g", "two"),
        FINISH,
    ]
    calls = fold(transformed(events, holding(9))).tool_calls
    assert [(call.id, call.arguments) for call in calls] == [("a", "one"), ("b", "two")]


def test_data_and_earlier_turns_are_changed_whole() -> None:
    """Strings that do not arrive in pieces go through a filter of their own."""
    turn = Turn((Message.assistant("hello"), Message.user("there")))
    events: list[Event] = [
        TextDelta("x", extra={"cited": ["word"]}),
        turn,
        Opaque({"a": ["b"]}),
        FINISH,
    ]
    through = transformed(events, holding(2, str.upper))
    assert through[0] == TextDelta("", extra={"CITED": ["WORD"]})
    assert through[1] == TextDelta("X")
    assert through[2] == Turn((Message.assistant("HELLO"), Message.user("THERE")))
    assert through[3] == Opaque({"A": ["B"]})


def test_log_probabilities_of_a_text_that_is_changed_are_dropped() -> None:
    """They would spell what is no longer there."""
    delta = TextDelta("abc", logprobs=({"token": "abc"},))
    assert transformed([delta, FINISH], holding(0))[0] is delta
    changed = transformed([delta, FINISH], holding(0, str.upper))[0]
    assert changed == TextDelta("ABC")


@pytest.mark.anyio
async def test_a_stream_says_the_same_as_a_run() -> None:
    """Parity, through a pipeline."""

    async def layer(request: ChatRequest, call_next: Any) -> Any:
        return (await call_next(request)).transform(holding(3, str.upper))

    events: list[Event] = [
        ReasoningDelta("why "),
        ReasoningDelta("not"),
        TextDelta("be"),
        TextDelta("cause"),
        ToolCallDelta(0, "a", "f", "{}"),
        FINISH,
    ]
    run = await Pipeline([layer], Scripted([events])).run(ChatRequest.of("x", model="m"))
    async with Pipeline([layer], Scripted([events])).stream(
        ChatRequest.of("x", model="m")
    ) as response:
        await response.collect()
    assert response.message == run.message
    assert run.text == "BECAUSE"
    assert run.message.reasoning == "WHY NOT"


def test_a_filter_is_a_protocol_of_two_methods() -> None:
    """Anything with `feed` and `flush` will do."""
    made: TextFilter = Hold(0)
    assert made.feed("a") + made.flush() == "a"
