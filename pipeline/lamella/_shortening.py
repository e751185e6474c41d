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

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Final, Protocol, TypeAlias

import attrs

from lamella._errors import MisuseError
from lamella._history import Group, groups, unanswered
from lamella._messages import Message
from lamella._parts import Part, ToolResult
from lamella._sizes import Size, sizes_within, target_of

__all__ = [
    "History",
    "MessageTokens",
    "Shortened",
    "Shortener",
    "Size",
    "shortened",
    "sizes_within",
    "target_of",
    "turn_under_way",
]

MessageTokens: TypeAlias = Callable[[Message], int]
"""How many tokens a message has."""

_INSTRUCTIONS: Final = frozenset({"system", "developer"})


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
        user's last message with all that follows. Instructions between a call and its result keep
        those as a pin would.
        """
        under_way = turn_under_way(self.messages)
        found: list[Group] = []
        question: int | None = None  # where in `found` that of the turn is
        for group in self.groups:
            if group.stop > under_way:
                break
            role = group.role
            if role in _INSTRUCTIONS:
                continue
            if group.pinned or _instructs(group):
                if role != "user" and question is not None:
                    del found[question]
                question = None
                continue
            if role == "user":
                question = len(found)
            found.append(group)
        return tuple(found)

    def replacing(self, changed: Mapping[int, Message]) -> History:
        """The same with other messages at some places."""
        if not changed:
            return self
        kept = list(self.messages)
        saved = 0
        for place, message in changed.items():
            if self.target.tokens is not None:
                saved += self.count(kept[place]) - self.count(message)
            kept[place] = message
        return self._with(kept, saved)

    def without(self, gone: Iterable[Group]) -> History:
        """The same without some groups."""
        places = {place for group in gone for place in range(group.start, group.stop)}
        if not places:
            return self
        messages = self.messages
        saved = 0
        if self.target.tokens is not None:
            saved = sum([self.count(messages[place]) for place in places])
        return self._with([one for at, one in enumerate(messages) if at not in places], saved)

    def aiming_at(self, target: Size) -> History:
        """The same with another target."""
        return History(self.messages, target, self.count, self.overhead)

    def _with(self, kept: Sequence[Message], saved: int) -> History:
        made = History(tuple(kept), self.target, self.count, self.overhead)
        made.__dict__["tokens"] = self.tokens - saved  # what it would count again
        return made


def _instructs(group: Group) -> bool:
    """Whether instructions stand between a call and its results."""
    return len(group.messages) > 1 and any(one.role in _INSTRUCTIONS for one in group.messages)


def turn_under_way(messages: Sequence[Message]) -> int:
    """The place of the user's last message: the turn that is to be answered begins there.

    One that has nothing but results of tools, as some providers write them, says nothing itself.
    Without a user's message it is where the last group begins.
    """
    for place in range(len(messages) - 1, -1, -1):
        message = messages[place]
        if _asks(message):
            return place
    found = groups(messages)
    return found[-1].start if found else 0


def _asks(message: Message) -> bool:
    return message.role == "user" and not _only_results(message.parts)


def _only_results(parts: Sequence[Part]) -> bool:
    return bool(parts) and all(isinstance(part, ToolResult) for part in parts)


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
        "_asked", "_count", "_done", "_groups", "_of_past", "_overhead", "_strategies", "_target",
        "_trigger", "messages", "tokens", "used",
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
        self._groups: list[Group] = []
        self._asked = False  # whether the user has said something yet
        self._of_past = all(getattr(one, "only_past", False) for one in strategies)
        self._done = False  # whether nothing is left for them to do until the user says more
        self.messages: list[Message] = []
        self.used: dict[str, None] = {}
        self.tokens = 0 if trigger.tokens is None else overhead

    @property
    def fits(self) -> bool:
        return self._trigger.holds(self.tokens, len(self.messages))

    def add(self, more: tuple[Message, ...]) -> None:
        """What belongs together and comes next."""
        self._groups.append(Group(len(self.messages), more))
        self.messages.extend(more)
        if self._trigger.tokens is not None:
            self.tokens += sum(map(self._count, more))
        asks = any(map(_asks, more))
        self._asked = self._asked or asks
        if asks or not self._asked:
            self._done = False
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
            self.tokens = self._overhead + self._counted() if self._untold else history.tokens

    @property
    def _untold(self) -> bool:
        """Whether a history does not say how many tokens it has, or they do not matter."""
        return self._trigger.tokens is None or self._target.tokens is None

    def _counted(self) -> int:
        return sum(map(self._count, self.messages))

    def _history(self, messages: tuple[Message, ...], tokens: int | None = None) -> History:
        made = History(messages, self._target, self._count, self._overhead)
        if tokens is not None:
            made.__dict__["tokens"] = tokens
        return made

    def _as_it_was_meant(self, shorter: History) -> History:
        """The same with our own target and counts, where a strategy has aimed at another."""
        own = shorter.target is self._target and shorter.count is self._count
        if own and shorter.overhead == self._overhead:
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
    asked = turn_under_way(history.messages)
    for place, message in enumerate(history.messages):
        if id(message) in there or not (
            message.pinned or message.role in _INSTRUCTIONS or place == asked
        ):
            continue
        if message not in shorter.messages:
            kind = "a pinned message" if message.pinned else f"the {message.role}'s message"
            msg = f"The strategy {strategy.name!r} has left out or changed {kind} {place}."
            hint = "Instructions, pinned messages and the last question stay: use history.past."
            raise MisuseError(msg, hint=hint)
