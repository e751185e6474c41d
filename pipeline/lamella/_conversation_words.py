"""From what is given to a conversation to messages, and from an answer to what is kept of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

import attrs

from lamella._conversation_entries import must_be_whole, open_calls
from lamella._errors import ApprovalRequired, MisuseError
from lamella._history import groups, unanswered
from lamella._messages import Message
from lamella._parts import PART_TYPES, Part, Reasoning, ToolCall, ToolResult

Said: TypeAlias = (
    str | Part | Message | Mapping[str, Any] | Iterable[str | Part | Message | Mapping[str, Any]]
)
"""What may be said: what a user's message may hold, or whole messages."""

AGAIN: Final = object()
"""Said instead of something new: the last question is to be answered anew."""


def _ids(given: Iterable[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        msg = "approvals= is one text: give all ids, as in approvals=error.calls, or in a list."
        raise TypeError(msg)
    return tuple(given)


@attrs.frozen
class GoOn:
    """Said instead of something new: the answer is to go on where it stopped.

    Attributes:
        approvals: The ids of what somebody has agreed to.
    """

    approvals: tuple[str, ...] = attrs.field(default=(), converter=_ids)


def said(content: Said) -> tuple[Message, ...]:
    """The messages of one turn of the caller's.

    Raises:
        TypeError: If it is neither content nor messages, or both.
        ValueError: If it is nothing.
    """
    if isinstance(content, Message):
        return (content,)
    if isinstance(content, (str, Mapping, *PART_TYPES)):
        one = cast("Any", content)
        return (Message.of(one) if _is_message(one) else Message("user", one),)
    if content is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise TypeError("Nothing is said: give text, parts or messages, not None.")
    if not isinstance(content, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        return (Message("user", content),)  # which says what may be given
    items = list(cast("Iterable[Any]", content))
    if not items:
        raise ValueError("Nothing is said: the content is empty.")
    whole = [item for item in items if _is_message(item)]
    if not whole:
        return (Message("user", items),)
    if len(whole) < len(items):
        raise TypeError("Messages and parts of a message are mixed: give the one or the other.")
    return tuple([Message.of(item) for item in items])


def edited(old: Message, content: Any) -> Message:
    """What is said in the place of a message: its role with other content, or another message."""
    if _is_message(content):
        return Message.of(content)
    if old.unwritten:  # a prompt has no content of its own
        return Message(old.role, content)
    return attrs.evolve(old, parts=content, listed=False)


def _is_message(item: object) -> bool:
    return isinstance(item, Message) or (isinstance(item, Mapping) and "role" in item)


def answered_with(came: Sequence[Message], before: Sequence[Message]) -> tuple[Message, ...]:
    """What an answer that ended well adds; a last message without anything in it is nothing.

    Args:
        came: Its messages.
        before: What it answers; it may end with calls whose results are the first to come.

    Raises:
        MisuseError: If they do not come.
    """
    whole = tuple(came if came and came[-1].parts else came[:-1])
    waiting = set(open_calls(before))
    alone = set(unanswered((*before[-1:], *whole) if waiting else whole))
    if missing := waiting & alone:
        ids = ", ".join(map(repr, sorted(missing)))
        msg = f"The answer leaves calls of tools unanswered that the conversation ends with: {ids}."
        hint = "Say their results with say([Message.tool(...)]), or have Tools that can run them."
        raise MisuseError(msg, hint=hint)
    if alone <= set(open_calls(whole)):
        return whole
    return kept_of(whole, before)  # a layer has left a call without its result


def kept_of(came: Sequence[Message], before: Sequence[Message]) -> tuple[Message, ...]:
    """What can be kept of an answer that broke off: no call without its result, no half thought.

    Args:
        came: What came of it.
        before: What it answers; it may end with calls whose results are the first to come.
    """
    found: list[Message] = []
    for group in groups((*before, *came)):
        if group.stop <= len(before):
            continue
        alone = frozenset(unanswered(group.messages))
        new = group.messages[max(0, len(before) - group.start) :]
        if alone and len(new) < len(group.messages):
            return ()  # not all calls that waited have their results
        for message in new:
            kept = _without(message, alone) if alone else message
            if kept is not None:
                found.append(kept)
    if found and found[-1].role == "assistant":
        last = found.pop()
        parts = list(last.parts)
        while parts and isinstance(parts[-1], Reasoning):
            parts.pop()
        if parts:
            found.append(attrs.evolve(last, parts=parts))
    return tuple(found)


def waiting_in(
    error: object, came: Sequence[Message], before: Sequence[Message]
) -> tuple[Message, ...]:
    """What came of an answer that waits for somebody to agree to its last calls; else nothing."""
    if not isinstance(error, ApprovalRequired) or not error.calls:
        return ()
    asked = {call.id for call in error.calls.values()}
    if not came or not asked.intersection(open_calls(came)):
        return ()
    try:
        must_be_whole((*before, *came))
    except MisuseError:
        return ()
    return tuple(came)


def _without(message: Message, alone: frozenset[str]) -> Message | None:
    """A message without the calls, or the result, that nothing belongs to; None if that is all."""
    parts = [part for part in message.parts if _id_of(part) not in alone]
    if len(parts) == len(message.parts):
        return message
    return attrs.evolve(message, parts=parts) if parts and message.role != "tool" else None


def _id_of(part: Part) -> str | None:
    if isinstance(part, ToolCall):
        return part.id
    return part.call_id if isinstance(part, ToolResult) else None
