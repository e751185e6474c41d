"""Making a conversation shorter, by rules that need no model.

Only what is sent is shortened; the caller's history stays as it is. Never touched are instructions,
pinned messages, and the user's last question with all that follows it. An assistant's calls of
tools stay together with the results that answer them, and what only its provider can read (sealed
reasoning, opaque parts) is never changed.

A conversation is gone through as it grew: whenever it passes the trigger it is cut down to the
target, and what was cut stays cut. So the same beginning is always shortened in the same way, the
request of a turn begins as that of the turn before, and providers' prompt caches find it again.

The strategies are in `_shortening_strategies`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from operator import is_
from typing import Protocol

import attrs

from lamella._errors import MisuseError
from lamella._history import Group, groups, unanswered
from lamella._messages import Message
from lamella._shortening_history import (
    INSTRUCTIONS,
    History,
    MessageTokens,
    asks,
    turn_under_way,
)
from lamella._sizes import Size, sizes_within, target_of

__all__ = [
    "History",
    "MessageTokens",
    "Progress",
    "Shortened",
    "Shortener",
    "Size",
    "shortened",
    "sizes_within",
    "target_of",
    "turn_under_way",
]


class Shortener(Protocol):
    """A strategy: makes a history shorter, until it fits or nothing is left for it to do.

    It is given no more than the history, and gives the same for the same one. It leaves `past`
    alone as far as it does not have to change it, and everything else altogether.

    One that has `only_past = True` promises that: what it could not make short enough, it is not
    asked about again before the user says more. That saves time in long turns of agents.
    """

    @property
    def name(self) -> str:
        """What the trace calls it."""
        ...

    def shorten(self, history: History, /) -> History:
        """The history itself, or a shorter one. It must not block."""
        ...


@attrs.frozen
class Shortened:
    """What has become of a conversation.

    Attributes:
        messages: What is sent; the very object that was given if nothing was to be done.
        before: Its tokens as it came; 0 where only messages count.
        after: Its tokens as it is sent.
        used: The names of the strategies that changed something, in order.
        fits: Whether it is no longer than the trigger.
    """

    messages: tuple[Message, ...]
    before: int
    after: int
    used: tuple[str, ...] = ()
    fits: bool = True


def shortened(
    messages: tuple[Message, ...],
    strategies: Sequence[Shortener],
    *,
    trigger: Size,
    target: Size,
    count: MessageTokens,
    overhead: int = 0,
) -> Shortened:
    """A conversation cut down to the target each time that it grew beyond the trigger.

    Args:
        messages: All of it.
        strategies: Asked in this order, until it is short enough.
        trigger: How long it may be; without a share (`Size.within`).
        target: How long it is after a cut; without a share.
        count: Counts the tokens of a message. Called often: it should remember.
        overhead: Tokens of what is sent besides the messages.
    """
    tokens = 0 if trigger.tokens is None else overhead + sum(map(count, messages))
    if trigger.holds(tokens, len(messages)):
        return Shortened(messages, tokens, tokens)
    grown = _Grown(strategies, trigger, target, count, overhead)
    for group in groups(messages):
        grown.add(group.messages)
    kept = grown.messages
    return Shortened(tuple(kept), tokens, grown.tokens, tuple(grown.used), grown.fits)


class Progress:
    """How far a conversation has been gone through, so that its next turn costs what is new.

    It is for one conversation, cut by the same rules each time. Any thread may use it, and where it
    is asked about another one it begins anew.

    Args:
        strategies: As for `shortened`.
        trigger: As for `shortened`.
        target: As for `shortened`.
        count: As for `shortened`.
    """

    __slots__ = ("_begin", "_there")

    def __init__(
        self, strategies: Sequence[Shortener], trigger: Size, target: Size, count: MessageTokens
    ) -> None:
        self._begin = partial(_Grown, strategies, trigger, target, count)
        self._there: tuple[tuple[Message, ...], _Grown] | None = None

    def new(self, messages: tuple[Message, ...], overhead: int = 0) -> tuple[Message, ...]:
        """What of a conversation has not been gone through; the arguments as for `shortened`."""
        return messages[len(self._from(messages, overhead)[0]) :]

    def shortened(self, messages: tuple[Message, ...], overhead: int = 0) -> tuple[Message, ...]:
        """What `shortened` keeps of it; the very object that was given if that is all.

        Args:
            messages: All of it.
            overhead: Tokens of what is sent besides the messages.
        """
        past, there = self._from(messages, overhead)
        grown = self._begin(overhead) if there is None else there.copy()
        rest = messages[len(past) :]
        found = groups(rest)
        # The last may grow: a call gets its results. A call without any may get them at any time.
        for group in found[:-1]:
            grown.add(group.messages)
        if found:
            last = found[-1]
            if not unanswered(rest[: last.start]):
                self._there = messages[: len(past) + last.start], grown
                grown = grown.copy()
            grown.add(last.messages)
        return tuple(grown.messages) if grown.used else messages

    def _from(
        self, messages: tuple[Message, ...], overhead: int
    ) -> tuple[tuple[Message, ...], _Grown | None]:
        """How much of a conversation has been gone through, and what that has come to."""
        there = self._there
        if there is None or there[1].overhead != overhead or not _goes_on(there[0], messages):
            return (), None
        return there


def _goes_on(past: tuple[Message, ...], messages: tuple[Message, ...]) -> bool:
    """Whether a conversation begins with these very messages: equal ones may be pinned or not."""
    return len(past) <= len(messages) and all(map(is_, past, messages))


class _Grown:
    """A conversation that grows, and is cut each time that it has become too long."""

    __slots__ = (
        "_asked", "_count", "_done", "_groups", "_of_past", "_strategies", "_target", "_trigger",
        "messages", "overhead", "tokens", "used",
    )  # fmt: skip

    def __init__(
        self,
        strategies: Sequence[Shortener],
        trigger: Size,
        target: Size,
        count: MessageTokens,
        overhead: int,
    ) -> None:
        self._strategies = strategies
        self._trigger = trigger
        self._target = target
        self._count = count
        self.overhead = overhead
        self._groups: list[Group] = []
        self._asked = False  # whether the user has said something yet
        self._of_past = all(getattr(one, "only_past", False) for one in strategies)
        self._done = False  # whether nothing is left for them to do until the user says more
        self.messages: list[Message] = []
        self.used: dict[str, None] = {}
        self.tokens = 0 if trigger.tokens is None else overhead

    def copy(self) -> _Grown:
        """Another one that goes on from here."""
        other = _Grown(self._strategies, self._trigger, self._target, self._count, self.overhead)
        other._groups = list(self._groups)
        other._asked, other._done = self._asked, self._done
        other.messages = list(self.messages)
        other.used = dict(self.used)
        other.tokens = self.tokens
        return other

    @property
    def fits(self) -> bool:
        return self._trigger.holds(self.tokens, len(self.messages))

    def add(self, more: tuple[Message, ...]) -> None:
        """What belongs together and comes next."""
        self._groups.append(Group(len(self.messages), more))
        self.messages.extend(more)
        if self._trigger.tokens is not None:
            self.tokens += sum(map(self._count, more))
        asked = asks(more[0])
        self._asked = self._asked or asked
        if asked or not self._asked:
            self._done = False  # more of it is past
        if not self._done and not self.fits:
            self._cut()

    def _cut(self) -> None:
        whole = self._history(tuple(self.messages), None if self._untold else self.tokens)
        whole.__dict__["groups"] = tuple(self._groups)
        history = whole
        for strategy in self._strategies:
            if history.fits:
                break
            shorter = strategy.shorten(history)
            if not isinstance(shorter, History):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise _no_history(strategy, shorter)
            if shorter.messages != history.messages:
                _must_be_whole(strategy, history, shorter)
                self.used[strategy.name] = None
                history = self._as_it_was_meant(shorter)
        self._done = self._of_past and not history.fits
        if history is whole:
            return
        self.messages = list(history.messages)
        self._groups = list(history.groups)
        if self._trigger.tokens is not None:
            self.tokens = self.overhead + self._counted() if self._untold else history.tokens

    @property
    def _untold(self) -> bool:
        """Whether a history does not say how many tokens it has, or they do not matter."""
        return self._trigger.tokens is None or self._target.tokens is None

    def _counted(self) -> int:
        return sum(map(self._count, self.messages))

    def _history(self, messages: tuple[Message, ...], tokens: int | None = None) -> History:
        made = History(messages, self._target, self._count, self.overhead)
        if tokens is not None:
            made.__dict__["tokens"] = tokens
        return made

    def _as_it_was_meant(self, shorter: History) -> History:
        """The same with our own target and counts, where a strategy has aimed at another."""
        own = shorter.target is self._target and shorter.count is self._count
        if own and shorter.overhead == self.overhead:
            return shorter
        return self._history(shorter.messages)


def _no_history(strategy: Shortener, found: object) -> MisuseError:
    msg = f"The strategy {strategy.name!r} has given {type(found).__name__}, which is no History."
    hint = "shorten(history) is a plain function, and gives the history itself or a shorter one."
    return MisuseError(msg, hint=hint)


def _must_be_whole(strategy: Shortener, history: History, shorter: History) -> None:
    """Refuse what a provider would refuse, and what may not go, in words that name the strategy."""
    lost = Counter(unanswered(shorter.messages)) - Counter(unanswered(history.messages))
    if lost:
        msg = f"The strategy {strategy.name!r} has parted calls of tools from their results: "
        hint = "Take groups of messages whole: history.without(group for group in history.past)."
        raise MisuseError(f"{msg}{', '.join(map(repr, list(lost)[:3]))}.", hint=hint)
    there = set(map(id, shorter.messages))
    asked = history.under_way
    for place, message in enumerate(history.messages):
        if id(message) in there or not (
            message.pinned or message.role in INSTRUCTIONS or place == asked
        ):
            continue
        if message not in shorter.messages:
            kind = "a pinned message" if message.pinned else f"the {message.role}'s message"
            msg = f"The strategy {strategy.name!r} has left out or changed {kind} {place}."
            hint = "Instructions, pinned messages and the last question stay: use history.past."
            raise MisuseError(msg, hint=hint)
