"""Making a conversation shorter, by rules that need no model.

Only what is sent is shortened; the caller's history stays as it is. Never touched are instructions,
pinned messages, and the user's last message with all that follows it. An assistant's calls of tools
stay together with the results that answer them, and what only its provider can read (sealed
reasoning, opaque parts) is never changed.

A conversation is gone through as it grew: whenever it passes the trigger it is cut down to the
target, and what was cut stays cut. So the same beginning is always shortened in the same way, the
request of a turn begins as that of the turn before, and providers' prompt caches find it again.

The strategies are in `_shortening_strategies`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, Protocol, TypeAlias

import attrs

from lamella._errors import ConfigurationError
from lamella._history import Group, groups
from lamella._messages import Message
from lamella._options import is_number, refused

MessageTokens: TypeAlias = Callable[[Message], int]
"""How many tokens a message has."""

TARGET: Final = 0.8
"""How much of the trigger a cut leaves where no target is given."""

_INSTRUCTIONS: Final = frozenset({"system", "developer"})


def _whole_or_none(size: object, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise refused(size, option, value, f"a whole number of {option.name}, 1 or more, or None")


def _share_or_none(size: object, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not is_number(value) or not 0 < value <= 1):
        raise refused(size, option, value, "a share of the model's context window, up to 1 (0.7)")


@attrs.frozen(kw_only=True)
class Size:
    """How long a conversation is or may be; at least one of the three is given.

    As a trigger it is passed as soon as one of them is; as a target all of them are to be met.

    Attributes:
        tokens: Tokens of all that is sent: messages, tools, and the format of the answer.
        messages: Messages, instructions included.
        share: The part of the model's context window that the tokens take, above 0 and up to 1.

    Raises:
        ConfigurationError: If none is given, or one cannot be.
    """

    tokens: int | None = attrs.field(default=None, validator=_whole_or_none)
    messages: int | None = attrs.field(default=None, validator=_whole_or_none)
    share: float | None = attrs.field(default=None, validator=_share_or_none)

    def __attrs_post_init__(self) -> None:
        if self.tokens is None and self.messages is None and self.share is None:
            msg = "Size() says nothing: give tokens=, messages=, or share= of the model's window."
            raise ConfigurationError(msg)

    def scaled(self, factor: float) -> Size:
        """The same in smaller or larger, never below one token or message.

        Args:
            factor: Above 0. A share never becomes more than 1.
        """
        tokens, messages, share = self.tokens, self.messages, self.share
        return Size(
            tokens=None if tokens is None else max(1, int(tokens * factor)),
            messages=None if messages is None else max(1, int(messages * factor)),
            share=None if share is None else min(1.0, share * factor),
        )

    def within(self, window: int | None) -> Size | None:
        """The same without a share: that of a model's context window, in tokens.

        Args:
            window: In tokens; None where nobody knows it, and then the share counts for nothing.

        Returns:
            None if nothing is left that can be passed.
        """
        if self.share is None:
            return self
        found = [] if self.tokens is None else [self.tokens]
        if window is not None:
            found.append(max(1, int(window * self.share)))
        if not found and self.messages is None:
            return None
        return Size(tokens=min(found, default=None), messages=self.messages)

    def holds(self, tokens: int, messages: int) -> bool:
        """Whether a conversation is no longer than this. A share counts for nothing."""
        return (self.tokens is None or tokens <= self.tokens) and (
            self.messages is None or messages <= self.messages
        )


def target_of(trigger: Size, target: Size | None = None) -> Size:
    """Where a cut goes to: what is given, or four fifths of the trigger."""
    return trigger.scaled(TARGET) if target is None else target


def sizes_within(
    trigger: Size, target: Size | None, window: int | None
) -> tuple[Size, Size] | None:
    """When a conversation is cut, and down to what; without shares.

    Args:
        trigger: How long it may become.
        target: How long it is after a cut. What it leaves open, and None, is four fifths of the
            trigger; it is never more than the trigger.
        window: The tokens that shares are of; None where nobody knows them, and then shares count
            for nothing.

    Returns:
        None if the trigger has nothing but a share, and nobody knows of what.
    """
    most = trigger.within(window)
    if most is None:
        return None
    least = None if target is None else target.within(window)
    usual = target_of(most)
    if least is None:
        return most, usual
    return most, Size(
        tokens=_smaller(least.tokens, usual.tokens, most.tokens),
        messages=_smaller(least.messages, usual.messages, most.messages),
    )


def _smaller(wanted: int | None, usual: int | None, most: int | None) -> int | None:
    if wanted is None or most is None:
        return usual if wanted is None else wanted
    return min(wanted, most)


@attrs.frozen(slots=False, eq=False)
class History:
    """A conversation that is to become shorter, as a strategy sees it. It is never changed.

    Attributes:
        messages: Its messages.
        target: How long it may be. It has no share.
        count: Counts the tokens of a message.
        overhead: Tokens of what is sent besides the messages: tools, the format of the answer.
    """

    messages: tuple[Message, ...]
    target: Size
    count: MessageTokens = attrs.field(repr=False)
    overhead: int = 0

    @cached_property
    def tokens(self) -> int:
        """How many tokens all of it has; 0 if the target has none, for then nobody counts."""
        if self.target.tokens is None:
            return 0
        return self.overhead + sum(map(self.count, self.messages))

    @property
    def fits(self) -> bool:
        """Whether it is short enough."""
        return self.target.holds(self.tokens, len(self.messages))

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """What belongs together, in order."""
        return groups(self.messages)

    @cached_property
    def past(self) -> tuple[Group, ...]:
        """What may be changed or left out, the oldest first.

        It lacks instructions, what is pinned together with the question that it answers, and the
        user's last message with all that follows.
        """
        under_way = turn_under_way(self.messages)
        found: list[Group] = []
        question: int | None = None  # where in `found` that of the turn is
        for group in self.groups:
            if group.stop > under_way:
                break
            if group.role in _INSTRUCTIONS:
                continue
            if group.pinned:
                if group.role != "user" and question is not None:
                    del found[question]
                question = None
                continue
            if group.role == "user":
                question = len(found)
            if not any(one.role in _INSTRUCTIONS for one in group.messages):
                found.append(group)
        return tuple(found)

    def replacing(self, changed: Mapping[int, Message]) -> History:
        """The same with other messages at some places."""
        if not changed:
            return self
        kept = list(self.messages)
        for place, message in changed.items():
            kept[place] = message
        return self._with(kept)

    def without(self, gone: Iterable[Group]) -> History:
        """The same without some groups."""
        places = {place for group in gone for place in range(group.start, group.stop)}
        if not places:
            return self
        return self._with([one for at, one in enumerate(self.messages) if at not in places])

    def aiming_at(self, target: Size) -> History:
        """The same with another target."""
        return History(self.messages, target, self.count, self.overhead)

    def _with(self, kept: Sequence[Message]) -> History:
        return History(tuple(kept), self.target, self.count, self.overhead)


def turn_under_way(messages: Sequence[Message]) -> int:
    """The place of the user's last message: the turn that is to be answered begins there.

    Without a user's message it is where the last group begins.
    """
    for place in range(len(messages) - 1, -1, -1):
        if messages[place].role == "user":
            return place
    found = groups(messages)
    return found[-1].start if found else 0


class Shortener(Protocol):
    """A strategy: makes a history shorter, until it fits or nothing is left for it to do.

    It is given no more than the history, and gives the same for the same one. It leaves `past`
    alone as far as it does not have to change it, and everything else altogether.
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


class _Grown:
    """A conversation that grows, and is cut each time that it has become too long."""

    __slots__ = (
        "_count", "_overhead", "_strategies", "_target", "_trigger", "messages", "tokens", "used",
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
        self._overhead = overhead
        self.messages: list[Message] = []
        self.used: dict[str, None] = {}
        self.tokens = 0 if trigger.tokens is None else overhead

    @property
    def fits(self) -> bool:
        return self._trigger.holds(self.tokens, len(self.messages))

    def add(self, more: Sequence[Message]) -> None:
        self.messages.extend(more)
        if self._trigger.tokens is not None:
            self.tokens += sum(map(self._count, more))
        if not self.fits:
            self._cut()

    def _cut(self) -> None:
        history = History(tuple(self.messages), self._target, self._count, self._overhead)
        for strategy in self._strategies:
            if history.fits:
                break
            shorter = strategy.shorten(history)
            if shorter.messages != history.messages:
                self.used[strategy.name] = None
                history = shorter
        self.messages = list(history.messages)
        if self._trigger.tokens is not None:
            self.tokens = self._overhead + sum(map(self._count, self.messages))
