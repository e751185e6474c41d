"""From what is given to a conversation to messages, and from an answer to what is kept of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

import attrs

from lamella._context import Context
from lamella._conversation_entries import must_be_whole, open_calls
from lamella._decisions import (
    APPROVED,
    DECLINED,
    approved_ids,
    declined_words,
    must_be_either,
)
from lamella._errors import ApprovalRequired, MisuseError
from lamella._history import groups, unanswered
from lamella._messages import Message
from lamella._nothing import NOTHING
from lamella._parts import PART_TYPES, Part, Reasoning, Text, ToolCall, ToolResult

Said: TypeAlias = (
    str | Part | Message | Mapping[str, Any] | Iterable[str | Part | Message | Mapping[str, Any]]
)
"""What may be said: what a user's message may hold, or whole messages."""

AGAIN: Final = object()
"""Said instead of something new: the last question is to be answered anew."""


@attrs.frozen
class GoOn:
    """Said instead of something new: the answer is to go on where it stopped.

    Attributes:
        approvals: The ids of what somebody has agreed to.
        declined: What the model is told of what somebody has not agreed to, by id.

    Raises:
        MisuseError: If an id is in both.
        TypeError: If they are no ids, or no words.
    """

    approvals: tuple[str, ...] = attrs.field(default=(), converter=approved_ids)
    declined: Mapping[str, str] = attrs.field(default=NOTHING, converter=declined_words)

    def __attrs_post_init__(self) -> None:
        must_be_either(self.approvals, self.declined)

    def told(self, context: Context) -> Context:
        """The context that layers read the decisions from."""
        made = {APPROVED: self.approvals, DECLINED: self.declined}
        given = {name: value for name, value in made.items() if value}
        return context.evolve(attributes={**context.attributes, **given}) if given else context


def said(content: Said) -> tuple[Message, ...]:
    """The messages of one turn of the caller's.

    Raises:
        TypeError: If it is neither content nor messages, or both.
        ValueError: If it is nothing, or a message of the user's says nothing.
    """
    found = _messages_of(content)
    for message in found:
        _must_say_something(message)
    return found


def _messages_of(content: Said) -> tuple[Message, ...]:
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
    """What is said in the place of a message: its role with other content, or another message.

    Raises:
        ValueError: If it is a message of the user's that says nothing.
    """
    if _is_message(content):
        new = Message.of(content)
    elif old.unwritten:  # a prompt has no content of its own
        new = Message(old.role, content)
    else:
        new = attrs.evolve(old, parts=content, listed=False)
    _must_say_something(new)
    return new


def _must_say_something(message: Message) -> None:
    """A provider refuses a question in which there is nothing but blanks."""
    if message.role != "user" or message.unwritten or message.extra:
        return
    if all(isinstance(part, Text) and not part.text.strip() for part in message.parts):
        msg = (
            "The message of the user is empty, which providers refuse: give text, or parts such as "
            "Image. For another answer to the last question there is regenerate(), and resume() "
            "goes on with one that stopped."
        )
        raise ValueError(msg)


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
