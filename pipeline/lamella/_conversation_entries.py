"""What a conversation has heard, line by line.

Nothing that was said is ever changed: an edit begins another line, and the line that was left stays
as it is. Lines share the entries of their common past.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import takewhile
from typing import TypeAlias

import attrs

from lamella._errors import MisuseError
from lamella._history import unanswered
from lamella._messages import Message
from lamella._parts import ToolResult


@attrs.frozen(kw_only=True)
class ConversationEntry:
    """One message of a conversation, with what is known of it.

    Attributes:
        id: Its own; the same in every line that has it.
        parent: The id of the one before it; None for the first.
        at: When it was said, in seconds since the epoch.
        message: What was said. Whether it is pinned is a matter of each conversation.
        begins: Whether a turn begins with it.
        answer: Whether the answer brought it, results of tools included, and not who asked.
        partial: Whether it belongs to an answer that broke off.
    """

    id: str
    parent: str | None = None
    at: float = 0.0
    message: Message
    begins: bool = False
    answer: bool = False
    partial: bool = False


Line: TypeAlias = tuple[ConversationEntry, ...]


@attrs.frozen(slots=False)
class ConversationBranch:
    """A line that a conversation has left: by an edit, by an answer made anew, by `undo`.

    Attributes:
        id: The id of its last entry: `conversation.branch(id)` goes on there.
        entries: All of it, what it shares with other lines included.
    """

    id: str
    entries: Line = attrs.field(repr=False)

    @cached_property
    def messages(self) -> tuple[Message, ...]:
        """What was said on it."""
        return tuple([entry.message for entry in self.entries])


@attrs.frozen(slots=False)
class Lines:
    """The line that a conversation is on, and those that it has left.

    Attributes:
        line: The one that it is on.
        others: Those that it has left, the oldest first; none is only the beginning of another.
        pins: The ids of what is kept whatever is shortened.
    """

    line: Line = ()
    others: tuple[Line, ...] = ()
    pins: frozenset[str] = frozenset()

    @cached_property
    def messages(self) -> tuple[Message, ...]:
        """What was said on the line that it is on."""
        pins = self.pins
        return tuple([as_pinned(entry.message, entry.id in pins) for entry in self.line])

    def moved(self, line: Line) -> Lines:
        """The same on another line. The one that it was on is among the others then.

        Unless it is the beginning of the new one: then the conversation has gone on.
        """
        if _begins(self.line, line):
            others = [other for other in self.others if not _begins(other, line)]
            return Lines(line, tuple(others), self.pins)
        others = [
            other
            for other in self.others
            if not _begins(other, line) and not _begins(other, self.line)
        ]
        if not any(_begins(self.line, other) for other in others):
            others.append(self.line)
        others.sort(key=lambda other: (other[-1].at, other[-1].id))
        return Lines(line, tuple(others), self.pins)

    def pinning(self, ids: Iterable[str], *, pinned: bool = True) -> Lines:
        """The same with more, or less, that is kept."""
        return Lines(self.line, self.others, self.pins | {*ids} if pinned else self.pins - {*ids})


def _begins(line: Line, other: Line) -> bool:
    """Whether a line is the beginning of another one, or all of it."""
    if not line:
        return True
    return len(line) <= len(other) and other[len(line) - 1].id == line[-1].id


def as_pinned(message: Message, pinned: bool) -> Message:  # noqa: FBT001 - it is what it says
    """The message, pinned or not."""
    return message if message.pinned is pinned else attrs.evolve(message, pinned=pinned)


def answers(message: Message) -> bool:
    """Whether it is of the kind that an answer brings."""
    return message.role in {"assistant", "tool", "function"}


def open_calls(messages: Sequence[Message]) -> tuple[str, ...]:
    """The ids of the tools that the last message asks for: who asked has to answer them."""
    return tuple([call.id for call in messages[-1].tool_calls]) if messages else ()


def must_follow(messages: Sequence[Message], more: Sequence[Message]) -> None:
    """See that `more` can be said after `messages`: results of open calls first, and none alone.

    Raises:
        MisuseError: If it cannot.
    """
    waiting = open_calls(messages)
    if waiting:
        given = [m.parts[0] for m in takewhile(lambda one: one.role == "tool", more)]
        found = {part.call_id for part in given if isinstance(part, ToolResult)}
        missing = [call for call in waiting if call not in found]
        if missing:
            ids = ", ".join(map(repr, missing))
            msg = f"The last answer asks for tools, and there is no result for {ids}."
            hint = (
                "Say all results first: say([Message.tool(call.id, result), ...]). Where Tools has "
                "them, resume(approvals=..., declined=...) sees to them; undo() takes the turn "
                "back."
            )
            raise MisuseError(msg, hint=hint)
    _must_be_whole((*messages, *more), ())


def must_be_whole(messages: Sequence[Message]) -> None:
    """See that no call and no result is alone; the last message's calls may yet be answered.

    Raises:
        MisuseError: If one is.
    """
    _must_be_whole(messages, open_calls(messages))


def must_be_written(messages: Iterable[Message]) -> None:
    """See that each can be saved: not a `Prompt`, which is made into messages anew each time.

    Raises:
        MisuseError: If one is.
    """
    for message in messages:
        if message.unwritten:
            msg = f"{message!r} cannot be saved: it stands for messages that are yet to be made."
            hint = (
                "Say those: say(PromptLibrary(folder).get(name).messages(...)). A Prompt itself "
                "stays in conversations that are not saved (no store=, no to_json)."
            )
            raise MisuseError(msg, hint=hint)


def _must_be_whole(messages: Sequence[Message], waiting: Iterable[str]) -> None:
    alone = list(unanswered(messages))
    for call in waiting:
        if call in alone:
            alone.remove(call)
    if alone:
        ids = ", ".join(map(repr, dict.fromkeys(alone)))
        msg = f"A call of a tool and its results stay together; alone would be {ids}."
        raise MisuseError(msg, hint="Take the call and all of its results, or none of them.")
