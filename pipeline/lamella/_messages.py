"""A message: who says it, and its parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self, TypeAlias, cast

import attrs

from lamella._nothing import NOTHING
from lamella._parts import (
    PART_TYPES,
    JSONObject,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)

ROLES = ("system", "developer", "user", "assistant", "tool", "function")

Content: TypeAlias = str | Part | Mapping[str, Any] | Iterable[str | Part | Mapping[str, Any]]
"""What may be given as the content of a message: text, a part, an OpenAI-style dict, or several."""


def _parts(content: Content | None) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(content),)
    if content is None:
        return ()
    if isinstance(content, PART_TYPES):
        return (cast("Part", content),)
    if isinstance(content, Mapping):
        return (_part(cast("object", content)),)
    if not isinstance(content, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        return (_part(content),)  # which says what may be given
    return tuple([_part(item) for item in cast("Iterable[object]", content)])


def _part(item: object) -> Part:
    if isinstance(item, PART_TYPES):
        return cast("Part", item)
    if isinstance(item, str):
        return Text(item)
    if isinstance(item, Mapping):
        from lamella._message_dicts import part_from_dict

        return part_from_dict(item)  # pyright: ignore[reportUnknownArgumentType]
    msg = (
        f"{type(item).__name__} is no part of a message; give text, a part such as Text or Image, "
        "or an OpenAI-style dict."
    )
    raise TypeError(msg)


@attrs.frozen
class Message:
    """One message of a conversation.

    Attributes:
        role: `"system"`, `"developer"`, `"user"`, `"assistant"` or `"tool"`.
        parts: Its content. Text, single parts and OpenAI-style dicts are converted.
        name: The participant's name, where the provider knows such a thing.
        extra: What only one provider knows, kept verbatim.
        pinned: Whether it is kept whatever is shortened. Never sent. Not part of equality.
        listed: Wire hint: the content was, and is written as, a list even where a string would
            do. Not part of equality.

    Raises:
        ValueError: If the role is unknown, or a tool message has not exactly one `ToolResult`.
    """

    unwritten: ClassVar[bool] = False  # whether it stands for messages that are yet to be made

    role: str
    parts: tuple[Part, ...] = attrs.field(default=(), converter=_parts)
    name: str | None = attrs.field(default=None, kw_only=True)
    extra: JSONObject = attrs.field(default=NOTHING, hash=False, repr=False, kw_only=True)
    pinned: bool = attrs.field(default=False, eq=False, repr=False, kw_only=True)
    listed: bool = attrs.field(default=False, eq=False, repr=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        role = self.role
        if role not in ROLES:
            msg = f"Unknown role {role!r}: use one of {', '.join(ROLES)}."
            raise ValueError(msg)
        if role == "tool" and not (len(self.parts) == 1 and isinstance(self.parts[0], ToolResult)):
            msg = (
                "A message of role 'tool' holds exactly one ToolResult; "
                "use Message.tool(call_id, content)."
            )
            raise ValueError(msg)

    @classmethod
    def system(cls, content: Content) -> Self:
        """Instructions to the model."""
        return cls("system", content)

    @classmethod
    def user(cls, content: Content) -> Self:
        """What the user says."""
        return cls("user", content)

    @classmethod
    def assistant(cls, content: Content) -> Self:
        """What the model said."""
        return cls("assistant", content)

    @classmethod
    def tool(cls, call_id: str, content: Content, *, error: bool = False) -> Self:
        """What a tool answered to the call `call_id`."""
        return cls("tool", ToolResult(call_id, _parts(content), error=error))

    @classmethod
    def of(cls, message: Message | Mapping[str, Any]) -> Message:
        """The message itself, or the one an OpenAI-style dict describes.

        Raises:
            TypeError: If it is neither.
            ValueError: If the dict describes no message.
        """
        if isinstance(message, Message):
            return message
        if not isinstance(message, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            msg = (
                f"{type(message).__name__} is no message; give a Message such as "
                "Message.user(text), or an OpenAI-style dict."
            )
            raise TypeError(msg)
        from lamella._message_dicts import message_from_dict

        return message_from_dict(message)

    def to_dict(self) -> dict[str, Any]:
        """As an OpenAI-style dict; `Message.of` turns it back without loss."""
        from lamella._message_dicts import message_to_dict

        return message_to_dict(self)

    @property
    def text(self) -> str:
        """Its text parts, joined; a tool message's are its result's."""
        parts = self.parts
        if len(parts) == 1:
            only = parts[0]
            if isinstance(only, Text):
                return only.text
            if isinstance(only, ToolResult):
                return "".join([p.text for p in only.content if isinstance(p, Text)])
        return "".join([part.text for part in parts if isinstance(part, Text)])

    @property
    def reasoning(self) -> str:
        """Its reasoning, as far as shown, joined."""
        return "".join([part.text for part in self.parts if isinstance(part, Reasoning)])

    @property
    def refusal(self) -> str | None:
        """The words in which the model declined; None if it did not."""
        words = [part.text for part in self.parts if isinstance(part, Refusal)]
        return "".join(words) if words else None

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tools it asks for, in order."""
        return tuple([part for part in self.parts if isinstance(part, ToolCall)])


def messages(
    given: str | Message | Mapping[str, Any] | Iterable[Message | Mapping[str, Any]],
) -> tuple[Message, ...]:
    """Messages from what a caller may give: text (a user's), one message, or several."""
    if isinstance(given, str):
        return (Message("user", given),)
    if isinstance(given, Message | Mapping):
        return (Message.of(cast("Message | Mapping[str, Any]", given)),)
    return tuple([Message.of(item) for item in given])
