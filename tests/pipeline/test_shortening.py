"""Conversations become shorter by rules: never an orphan, never what is to be kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from random import Random
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from histories import history

from lamella import (
    ConfigurationError,
    DropToolResults,
    History,
    Image,
    Message,
    MisuseError,
    Opaque,
    Part,
    Reasoning,
    Size,
    SlidingWindow,
    Text,
    ToolCall,
    ToolResult,
    Truncate,
    answered,
    groups,
    unanswered,
)
from lamella._shortening import Shortened, shortened, sizes_within, turn_under_way
from lamella._shortening_strategies import strategies_of
from lamella._text_cutting import cut_text

CHAIN = (DropToolResults(), Truncate(200), SlidingWindow())


def letters(parts: Sequence[Part]) -> int:
    """How many letters some parts have."""
    return sum(
        [
            letters(part.content)
            if isinstance(part, ToolResult)
            else len(getattr(part, "text", ""))
            for part in parts
        ]
    )


@lru_cache(maxsize=256)
def count(message: Message) -> int:
    """A token for four letters, and four for the role."""
    return 4 + letters(message.parts) // 4


def total(messages: Sequence[Message]) -> int:
    """Tokens of some messages."""
    return sum(map(count, messages))


def cut(messages: Sequence[Message], tokens: int, *strategies: Any, **sizes: Any) -> Shortened:
    """What becomes of a conversation that may have so many tokens, and a fifth less after a cut."""
    trigger = Size(tokens=max(1, tokens), **sizes)
    return shortened(
        tuple(messages),
        strategies or CHAIN,
        trigger=trigger,
        target=trigger.scaled(0.8),
        count=count,
    )


def tool_turn(name: str, result: str, *more: Part) -> tuple[Message, ...]:
    """A call of a tool, and its result."""
    calls = ToolCall(name, "f", "{}")
    return Message("assistant", [*more, calls]), Message.tool(name, result)


# --- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "option"),
    [
        ({}, "says nothing"),
        ({"tokens": 0}, "tokens=0"),
        ({"messages": True}, "messages=True"),
        ({"share": 1.5}, "share=1.5"),
        ({"share": 0}, "share=0"),
    ],
)
def test_a_size_that_cannot_be_is_refused(fields: dict[str, Any], option: str) -> None:
    """The message names the option and the value."""
    with pytest.raises(ConfigurationError, match=option):
        Size(**fields)


def test_a_share_is_of_a_window() -> None:
    """Tokens and share together are the smaller one; without a window the share says nothing."""
    assert Size(share=0.5).within(1_000) == Size(tokens=500)
    assert Size(share=0.5, tokens=300).within(1_000) == Size(tokens=300)
    assert Size(share=0.5, messages=7).within(None) == Size(messages=7)
    assert Size(share=0.5).within(None) is None


def test_a_cut_goes_to_the_target_and_never_beyond_the_trigger() -> None:
    """What the target leaves open is four fifths of the trigger."""
    trigger = Size(tokens=1_000, messages=10)
    assert sizes_within(trigger, None, None) == (trigger, Size(tokens=800, messages=8))
    assert sizes_within(trigger, Size(messages=4), None) == (trigger, Size(tokens=800, messages=4))
    assert sizes_within(trigger, Size(share=0.9), 2_000) == (
        trigger,
        Size(tokens=1_000, messages=8),
    )
    assert sizes_within(Size(share=0.5), None, None) is None


# --- single strategies ---------------------------------------------------------------------------


def test_old_results_become_a_line_and_the_calls_stay_answered() -> None:
    """The oldest go first, as few as will do; errors stay errors."""
    failed = Message("tool", ToolResult("b", (Text("x" * 2_000),), error=True))
    talk = (
        Message.user("one"),
        *tool_turn("a", "y" * 2_000),
        tool_turn("b", "")[0],
        failed,
        *tool_turn("c", "z" * 2_000),
        Message.user("two"),
    )
    found = cut(talk, 1_100, DropToolResults())
    lines = [message.text for message in found.messages if message.role == "tool"]
    assert lines[0] == "[An older result, left out because of its length: 2,000 characters.]"
    assert lines[1].startswith("[An older result")
    assert lines[2] == "z" * 2_000
    (part,) = found.messages[4].parts
    assert isinstance(part, ToolResult)
    assert part.error
    assert part.call_id == "b"
    assert answered(found.messages)
    assert found.used == ("drop_tool_results",)


def test_pictures_in_results_go_too_and_short_results_stay() -> None:
    """A line is worth it only in the place of something long."""
    picture = Message("tool", ToolResult("a", (Image(url="https://example.org/a.png"),)))
    talk = (
        Message.user("q"),
        tool_turn("a", "")[0],
        picture,
        *tool_turn("b", "short"),
        Message.user("w" * 4_000),
    )
    old = History(talk, Size(tokens=10), lambda message: 900 if message is picture else 20)
    found = DropToolResults().shorten(old)
    assert found.messages[2].text.endswith("0 characters and 1 files or pictures.]")
    assert found.messages[4] is talk[4]


def test_an_agent_may_drop_results_of_the_turn_under_way() -> None:
    """Only if it is told how many of its last calls are to stay whole."""
    talk = (
        Message.user("q"),
        *tool_turn("a", "a" * 2_000),
        *tool_turn("b", "b" * 2_000),
        *tool_turn("c", "c" * 2_000),
    )
    assert cut(talk, 700, DropToolResults()).messages == talk
    found = cut(talk, 700, DropToolResults(current=1)).messages
    assert [message.text[:1] for message in found if message.role == "tool"] == ["[", "[", "c"]


def test_long_texts_keep_beginning_and_end() -> None:
    """The longest first; what is short enough stays the same object."""
    talk = (
        Message.user("begin " + "middle " * 900 + "end"),
        Message.assistant("a " * 250),
        Message.user("short"),
        Message.assistant("fine"),
        Message.user("last " * 3_000),
    )
    found = cut(talk, total(talk) - 1_000, Truncate(400))
    first = found.messages[0].text
    assert first.startswith("begin middle")
    assert first.endswith("middle end")
    assert "characters left out ...]" in first
    assert len(first) < 460
    assert all(new is old for new, old in zip(found.messages[1:], talk[1:], strict=True))


@pytest.mark.parametrize(
    "part",
    [
        Reasoning("hm", signature="seal"),
        Reasoning("hm", id="rs_1"),
        Opaque({"type": "thing"}, "google"),
        Text("hm", extra={"thoughtSignature": "seal"}),
    ],
)
def test_what_only_its_provider_can_read_is_never_cut(part: Part) -> None:
    """A seal may vouch for the text beside it."""
    talk = (
        Message.user("q"),
        Message("assistant", [part, Text("long " * 1_000)]),
        Message.user("again " * 200),
    )
    assert cut(talk, 300, Truncate(100)).messages == talk
    assert len(cut(talk, 600, SlidingWindow()).messages) == 1


def test_the_oldest_turns_go_whole_and_what_stays_begins_with_a_question() -> None:
    """An answer without its question is of no use, and some providers refuse it."""
    talk = (
        Message.system("s"),
        Message.user("one"),
        *tool_turn("a", "r" * 400),
        Message.assistant("answer " * 100),
        Message.user("two"),
        Message.assistant("answer"),
        Message.user("three"),
    )
    found = cut(talk, total(talk) - 1, SlidingWindow())
    assert found.messages == (talk[0], *talk[5:])


def test_pinned_messages_stay_with_the_question_that_they_answer() -> None:
    """All else of the turn goes."""
    pinned = Message("assistant", "the answer", pinned=True)
    talk = (
        Message.user("one"),
        *tool_turn("a", "r" * 400),
        pinned,
        Message.user("two " * 100),
        Message.assistant("x"),
        Message.user("three"),
    )
    found = cut(talk, 40, SlidingWindow())
    assert found.messages == (talk[0], pinned, talk[-1])


def test_instructions_between_a_call_and_its_result_keep_the_question() -> None:
    """They stay, and so do the call and the result: none of that may begin a conversation."""
    call, result = tool_turn("a", "r" * 400)
    talk = (
        Message.user("one"),
        call,
        Message.system("Now be brief."),
        result,
        Message.assistant("answer " * 100),
        Message.user("two"),
    )
    assert cut(talk, 150, SlidingWindow()).messages == (*talk[:4], talk[-1])


def test_results_that_the_users_role_brings_are_no_question() -> None:
    """Some providers write results so; the question that they help to answer is kept."""
    talk = (
        Message.user("old " * 200),
        Message.user("the question"),
        Message("assistant", [ToolCall("a", "f", "{}")]),
        Message("user", [ToolResult("a", (Text("r" * 400),))]),
    )
    assert cut(talk, 150, SlidingWindow()).messages == talk[1:]


@pytest.mark.parametrize(
    "said",
    [
        (Message("user", [ToolResult("a", (Text("r"),)), Text("Hurry up.")]),),
        (Message.user("Hurry up."), Message.tool("a", "r")),
    ],
)
def test_what_the_user_says_with_a_result_is_no_new_question(said: tuple[Message, ...]) -> None:
    """The call stands before it: a conversation that begins with a call is refused by some."""
    call = Message("assistant", [ToolCall("a", "f", "{}")])
    question = Message.user("the question " * 20)
    talk = (Message.user("old " * 200), Message.assistant("x"), question, call, *said)
    assert turn_under_way(talk) == 2
    assert cut(talk, 150, SlidingWindow()).messages == talk[2:]


def test_messages_alone_are_counted_without_asking_for_tokens() -> None:
    """Where only their number matters, nobody counts."""

    def never(message: Message) -> int:
        raise AssertionError(message)

    talk = tuple([Message.user("q"), Message.assistant("a")] * 10 + [Message.user("q")])
    trigger = Size(messages=8)
    found = shortened(talk, CHAIN, trigger=trigger, target=Size(messages=6), count=never)
    assert len(found.messages) == 5  # the last cut left six or less, from a question on
    assert (found.before, found.after, found.fits) == (0, 0, True)


# --- strategies of one's own ---------------------------------------------------------------------


@attrs.define
class Own:
    """A strategy that does what it is given to do, and says how often it was asked."""

    does: Any
    only_past: bool = False
    name: str = "own"
    asked: int = 0

    def shorten(self, history: History, /) -> History:
        """What it was given to do."""
        self.asked += 1
        found: History = self.does(history)
        return found


@pytest.mark.parametrize(
    ("does", "said"),
    [
        (lambda _: None, "'own' has given NoneType"),
        (lambda one: attrs.evolve(one, messages=one.messages[1:]), "the system's message 0"),
        (lambda one: attrs.evolve(one, messages=one.messages[:1]), "a pinned message 2"),
        (lambda one: attrs.evolve(one, messages=one.messages[:3]), "the user's message 4"),
    ],
)
def test_what_must_stay_no_strategy_takes_away(does: Any, said: str) -> None:
    """It is named, before anything is sent without the instructions."""
    talk = (
        Message.system("s"),
        Message.user("one"),
        Message("assistant", "kept", pinned=True),
        Message.assistant("x"),
        Message.user("two " * 100),
    )
    with pytest.raises(MisuseError, match=said):
        cut(talk, 40, Own(does))


def test_an_orphan_hides_no_other_one_of_its_id() -> None:
    """Ids come again: a strategy that parts a call of the same id from its result is caught."""
    orphan, call = Message.tool("a", "lost"), tool_turn("a", "r" * 400)
    talk = (Message.user("q"), orphan, *call, Message.user("?"))
    parting = Own(lambda one: attrs.evolve(one, messages=(*one.messages[:3], one.messages[-1])))
    with pytest.raises(MisuseError, match="'own' has parted"):
        cut(talk, 60, parting)


def test_a_strategy_may_aim_elsewhere_for_its_own_ends() -> None:
    """What comes after it goes by what is wanted, and tokens are counted as before."""
    aims = Own(lambda one: SlidingWindow().shorten(one.aiming_at(Size(messages=7))))
    talk = tuple([Message.user("q" * 40), Message.assistant("a" * 40)] * 5)
    found = cut((*talk, Message.user("q")), 100, aims, SlidingWindow())
    assert found.after == total(found.messages) <= 100
    assert found.used == ("own", "sliding_window")


def test_a_long_turn_is_not_gone_through_again_with_each_of_its_calls() -> None:
    """Nothing of it may go, so who only looks at the past is asked once: the time stays linear."""
    more = [message for at in range(300) for message in tool_turn(f"c{at}", "r" * 40)]
    talk = (Message.user("old"), Message.assistant("x"), Message.user("q"), *more)
    past, own = Own(SlidingWindow().shorten, only_past=True), Own(SlidingWindow().shorten)
    found = cut(talk, 500, past)
    assert found == cut(talk, 500, own)
    assert (len(found.messages), found.fits) == (601, False)
    assert past.asked == 1
    assert own.asked > 200
    asked = (*talk, Message.assistant("done"), Message.user("and?"))
    assert cut(asked, 500, past).messages == (Message.user("and?"),)


# --- cutting texts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "whole", ["👩‍👩‍👧", "🇩🇪", "e\u0301", "กำ", "\r\n", "👍🏽", "❤\ufe0f", "각", "x"]
)
def test_no_character_is_cut_apart(whole: str) -> None:
    """What is read as one stays one, wherever the cut falls, or is gone as a whole."""
    for characters in range(100, 125):
        found = cut_text(whole * 200, characters)
        head, _, tail = found.partition("\n[... ")
        tail = tail.partition(" ...]\n")[2]
        assert set(head.split(whole)) <= {""}
        assert set(tail.split(whole)) <= {""}
        assert len(head) + len(tail) <= characters


def test_texts_are_cut_between_words() -> None:
    """Where there are words."""
    head, _, tail = cut_text("word " * 1_000, 333).partition("\n[... ")
    assert set(head.split()) == {"word"}
    assert set(tail.partition(" ...]\n")[2].split()) == {"word"}


def test_what_stands_for_personal_data_is_not_cut_apart() -> None:
    """Half of a placeholder in an answer could not be restored."""
    mark = "⟦EMAIL_K7Q2M9XA⟧"
    for row in (mark * 200, f'{{"to":"{mark}"}},' * 200):
        for characters in range(100, 125):
            found = cut_text(row, characters)
            assert found.count("⟦") == found.count("⟧") == found.count(mark)
    assert len(cut_text("⟦" * 500, 100)) > 100  # one that never ends is none


# --- what a user gives ---------------------------------------------------------------------------


def test_strategies_are_names_or_objects() -> None:
    """One, or several."""
    own = Truncate(500)
    assert strategies_of("truncate", option="o") == (Truncate(),)
    assert strategies_of(["sliding_window", own], option="o") == (SlidingWindow(), own)


async def later(history: History, /) -> History:
    """What cannot be awaited where it would be called."""
    return history


@pytest.mark.parametrize(
    "given",
    [
        "summary",
        (),
        7,
        Truncate,
        ["truncate", None],
        {"truncate": {"characters": 500}},
        {"truncate", "sliding_window"},
        SimpleNamespace(shorten=Truncate().shorten),
        SimpleNamespace(name="later", shorten=later),
    ],
)
def test_what_is_no_strategy_is_refused(given: Any) -> None:
    """With the names that there are."""
    with pytest.raises(ConfigurationError, match="strateg") as caught:
        strategies_of(given, option="Trim(strategies=...)")
    assert "'sliding_window'" in str(caught.value.hint)


# --- all histories -------------------------------------------------------------------------------


def kept(messages: Sequence[Message]) -> list[Message]:
    """What must stay as it is."""
    last = turn_under_way(messages)
    return [
        message
        for place, message in enumerate(messages)
        if place >= last or message.pinned or message.role in {"system", "developer"}
    ]


@pytest.mark.parametrize("shard", range(5))
def test_ten_thousand_histories(shard: int) -> None:
    """Never an orphan, never too long if it can be helped, and what is to be kept is kept."""
    for seed in range(shard * 2_000, (shard + 1) * 2_000):
        talk = history(seed, turns=seed % 4 + 1, words=12)
        budget = max(1, total(talk) * (seed % 7 + 2) // 10)
        found = cut(talk, budget)
        sent = found.messages
        assert not unanswered(sent)
        same = {id(message) for message in sent}
        assert all(id(message) in same for message in kept(talk))
        assert found.after == total(sent)
        assert found.fits == (found.after <= budget)
        if not found.fits:  # nothing is left that could go
            assert History(sent, Size(tokens=1), count).past == ()


def disturbed(talk: Sequence[Message], seed: int) -> tuple[Message, ...]:
    """The same with results that the user's role brings, words beside them, and words between."""
    drawn = Random(seed)
    found: list[Message] = []
    for message in talk:
        if drawn.random() < 0.08:
            found.append(Message(drawn.choice(("system", "user")), "By the way. " * 5))
        if message.role == "tool" and drawn.random() < 0.3:
            words = [Text("And soon. " * drawn.randint(1, 9))] * drawn.randint(0, 1)
            found.append(Message("user", (*message.parts, *words), pinned=message.pinned))
        else:
            found.append(message)
    return tuple(found)


def begins(messages: Sequence[Message]) -> str:
    """Who speaks first, besides instructions."""
    return next(one.role for one in messages if one.role not in {"system", "developer"})


def test_what_began_with_the_user_still_does() -> None:
    """Whatever stands between calls and results; and what is short enough is not cut again."""
    agent = (DropToolResults(current=1), Truncate(100), SlidingWindow())
    for seed in range(300):
        talk = disturbed(history(seed, words=8, orphans=seed % 2, pins=0.1), seed)
        budget = max(1, total(talk) * (seed % 7 + 2) // 10)
        chain = agent if seed % 3 else CHAIN
        found = cut(talk, budget, *chain)
        sent = found.messages
        assert not Counter(unanswered(sent)) - Counter(unanswered(talk))
        assert begins(talk) != "user" or begins(sent) == "user"
        assert not found.fits or cut(sent, budget, *chain).messages == sent


def shape(message: Message) -> Any:
    """All of a message but its texts."""
    said = [
        attrs.evolve(part, text="") if isinstance(part, Text) else part for part in message.parts
    ]
    bare = [
        attrs.evolve(part, content=()) if isinstance(part, ToolResult) else part for part in said
    ]
    return message.role, bare, message.name, message.pinned


def test_only_what_is_too_long_changes_and_only_by_a_strategy() -> None:
    """What stays is the same message, one with cut texts, or a result whose content is a line."""
    for seed in range(300):
        talk = history(seed, words=12)
        found = cut(talk, total(talk) // 2)
        given = {id(message) for message in talk}
        for message in found.messages:
            if id(message) in given:
                continue
            assert "left out" in str(message.parts)
            assert any(shape(message) == shape(old) for old in talk)


def test_what_was_shortened_is_short() -> None:
    """Shortening it again changes nothing."""
    for seed in range(150):
        talk = history(seed, words=12, orphans=seed % 3)
        budget = max(1, total(talk) * (seed % 7 + 2) // 10)
        once = cut(talk, budget).messages
        assert cut(once, budget).messages == once


def test_a_turn_is_sent_as_the_turn_before_with_more_behind_it() -> None:
    """As long as that fits: only a cut changes what a provider's prompt cache has seen."""
    cuts = turns = 0
    for seed in range(40):
        talk = history(seed, turns=8, words=12, pins=0.03)
        budget = total(talk) // 3
        before: tuple[Message, ...] = ()
        for group in groups(talk):
            sent = cut(talk[: group.stop], budget).messages
            expected = (*before, *group.messages)
            turns += 1
            if total(expected) <= budget:
                assert sent == expected
            else:
                cuts += 1
            before = sent
    assert cuts < turns / 3
