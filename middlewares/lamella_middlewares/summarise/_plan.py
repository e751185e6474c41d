"""Which messages a summary stands for: decided by the conversation alone, and not by the summaries.

The conversation is gone through as it grew. A summary is taken to be as long as it may be, so that
what it says plays no part: whoever sees the same conversation, in whichever process, looks for the
same summary, and two turns in a row find the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import attrs

from lamella import Message, MisuseError
from lamella._history import Group
from lamella._shortening import History, MessageTokens, Shortener, Size, shortened

_MANY: Final = 200
"""Messages. Going through more of them takes longer than a thread does to begin."""

_QUICK: Final = 10_000
"""Tokens. What goes through more of them is done in a thread."""


def takes_long(tokens: int, messages: int) -> bool:
    """Whether going through so much belongs in a thread."""
    return tokens > _QUICK or messages > _MANY


@attrs.frozen
class Gap(Message):
    """Stands where a summary is to be put.

    Attributes:
        covered: How many of the groups that may be left out are gone, from the first on.
    """

    covered: int = attrs.field(default=0, kw_only=True)


@attrs.frozen
class Plan:
    """What is to be sent.

    Attributes:
        messages: The conversation, with a `Gap` where a summary has to be; the very object that was
            given if nothing was to be done.
        before: Tokens as it came; 0 where only messages count.
        after: As it is planned, with a summary as long as it may be.
        used: The strategies that changed something.
        fits: Whether it is no longer than the trigger.
        gap: The place of the gap; None without one.
        covered: The groups that it stands for, of the conversation as it came.
    """

    messages: tuple[Message, ...]
    before: int
    after: int
    used: tuple[str, ...]
    fits: bool
    gap: int | None
    covered: tuple[Group, ...]

    def filled(self, *summary: Message) -> tuple[Message, ...]:
        """What is sent with a summary in the gap, or with none."""
        place = self.gap
        if place is None:
            return self.messages
        return (*self.messages[:place], *summary, *self.messages[place + 1 :])


def plan(
    messages: tuple[Message, ...],
    before: Sequence[Shortener],
    limits: tuple[Size, Size],
    *,
    count: MessageTokens,
    overhead: int,
    allowance: int,
) -> Plan:
    """What is to be done with a conversation.

    Args:
        messages: All of it.
        before: What is tried before anything is summarised; it replaces messages, one by one.
        limits: How long it may be, and how long it is after a cut; without shares.
        count: Counts the tokens of a message.
        overhead: Tokens of what is sent besides the messages.
        allowance: Tokens that a summary may take.
    """

    def counted(message: Message) -> int:
        return allowance if message.__class__ is Gap else count(message)

    strategies: list[Shortener] = [_Replaces(one) for one in before]
    strategies.append(_Summarised(allowance))
    trigger, target = limits
    found = shortened(
        messages, strategies, trigger=trigger, target=target, count=counted, overhead=overhead
    )
    gap = next((at for at, one in enumerate(found.messages) if one.__class__ is Gap), None)
    covered: tuple[Group, ...] = ()
    if gap is not None:
        past = History(messages, trigger, count).past
        covered = past[: cast("Gap", found.messages[gap]).covered]
    return Plan(found.messages, found.before, found.after, found.used, found.fits, gap, covered)


SUMMARY: Final = "summary"
"""What the trace calls it, beside the strategies before it."""


@attrs.frozen
class _Summarised:
    """Leaves the oldest turns out, and a gap in their place.

    It does so only if more goes than a summary may take: otherwise each turn would be summarised
    anew, for next to nothing.
    """

    allowance: int

    @property
    def name(self) -> str:
        return SUMMARY

    def shorten(self, history: History, /) -> History:
        past = history.past
        gap = _gap_of(past)
        gone = self._gone(history, past[1:] if gap else past, again=gap is not None)
        if not gone:
            return history
        first = past[0]
        covered = len(gone) + (0 if gap is None else gap.covered)
        if gap is None:  # it takes the place of the first message that goes
            gone = [Group(first.start + 1, first.messages[1:]), *gone[1:]]
        return history.replacing({first.start: Gap("assistant", covered=covered)}).without(gone)

    def _gone(self, history: History, past: Sequence[Group], *, again: bool) -> Sequence[Group]:
        tokens, messages, target = history.tokens, len(history.messages), history.target
        if not again:
            tokens, messages = tokens + self.allowance, messages + 1
        counted, saved = target.tokens is not None, 0
        gone: list[Group] = []
        for group in past:
            if gone and group.role == "user" and target.holds(tokens - saved, messages):
                break
            gone.append(group)
            messages -= len(group.messages)
            if counted:
                saved += sum(map(history.count, group.messages))
        worth = saved > self.allowance if counted else sum(len(one.messages) for one in gone) > 1
        return gone if worth else ()


def _gap_of(past: Sequence[Group]) -> Gap | None:
    first = past[0].messages[0] if past else None
    return first if isinstance(first, Gap) else None


@attrs.frozen
class _Replaces:
    """A strategy that must leave as many messages as there were.

    What a summary is made of is told by its place in the conversation; and what has been dropped
    before would be in no summary.
    """

    strategy: Shortener

    @property
    def name(self) -> str:
        return self.strategy.name

    def shorten(self, history: History, /) -> History:
        shorter = self.strategy.shorten(history)
        if len(shorter.messages) != len(history.messages):
            msg = f"Summarise(before=...): the strategy {self.name!r} has left messages out."
            hint = "Give strategies that make messages shorter; what is left out is summarised."
            raise MisuseError(msg, hint=hint, layer="summarise")
        return shorter
