"""A conversation that is to become shorter: what of it may go, and how long it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Final, TypeAlias

import attrs

from lamella._history import Group, groups
from lamella._messages import Message
from lamella._parts import Part, ToolResult
from lamella._sizes import Size

MessageTokens: TypeAlias = Callable[[Message], int]
"""How many tokens a message has."""

INSTRUCTIONS: Final = frozenset({"system", "developer"})
"""The roles whose messages are never left out."""


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
    def under_way(self) -> int:
        """The place where the turn begins that is to be answered; see `turn_under_way`."""
        return _last_turn(self.groups)

    @cached_property
    def past(self) -> tuple[Group, ...]:
        """What may be changed or left out, the oldest first.

        It lacks instructions, what is pinned together with the question that it answers, and the
        user's last question with all that follows. Instructions between a call and its result keep
        those as a pin would.
        """
        under_way = self.under_way
        found: list[Group] = []
        question: int | None = None  # where in `found` that of the turn is
        for group in self.groups:
            if group.stop > under_way:
                break
            role = group.role
            if role in INSTRUCTIONS:
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
    return len(group.messages) > 1 and any(one.role in INSTRUCTIONS for one in group.messages)


def turn_under_way(messages: Sequence[Message]) -> int:
    """The place of the user's last question: the turn that is to be answered begins there.

    What the user says between a call and its results, or together with them, is no new question:
    nothing may begin with an assistant's call. Where the user asks nothing else it is the group
    that has it; and where the user says nothing, the last one.
    """
    return _last_turn(groups(messages))


def _last_turn(found: Sequence[Group]) -> int:
    within: int | None = None
    for group in reversed(found):
        if asks(group.messages[0]):
            return group.start
        if within is None and any(map(asks, group.messages)):
            within = group.start
    if within is not None:
        return within
    return found[-1].start if found else 0


def asks(message: Message) -> bool:
    """Whether the user says something with it, and it has not only results of tools."""
    return message.role == "user" and not _only_results(message.parts)


def _only_results(parts: Sequence[Part]) -> bool:
    return bool(parts) and all(isinstance(part, ToolResult) for part in parts)
