"""What a message is made of.

Each part is frozen; nested JSON in `extra` and `data` is shared and must not be written to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeAlias

import attrs

from lamella._nothing import NOTHING

JSONObject: TypeAlias = Mapping[str, Any]


def extra() -> JSONObject:
    """A field for what only one provider knows, kept verbatim."""
    return attrs.field(default=NOTHING, hash=False, repr=False)


@attrs.frozen
class Text:
    """Plain text."""

    type: ClassVar[str] = "text"
    text: str
    extra: JSONObject = extra()


@attrs.frozen
class Image:
    """A picture, by address or by content: exactly one of `url` and `data`.

    Attributes:
        url: Where it is.
        data: Its bytes.
        media_type: Its MIME type, needed with `data`.
        detail: `"low"`, `"high"`, `"auto"` or what else the provider knows; None leaves it to it.
    """

    type: ClassVar[str] = "image"
    url: str | None = None
    data: bytes | None = attrs.field(default=None, repr=False)
    media_type: str | None = None
    detail: str | None = None
    extra: JSONObject = extra()

    def __attrs_post_init__(self) -> None:
        _exactly_one(self, "url", "data")


@attrs.frozen
class Audio:
    """Sound: exactly one of `data` (bytes) and `id` (an answer the provider still holds).

    Attributes:
        format: `"wav"`, `"mp3"` ... as the provider spells it.
        transcript: Its words, where known.
    """

    type: ClassVar[str] = "audio"
    data: bytes | None = attrs.field(default=None, repr=False)
    format: str | None = None
    id: str | None = None
    transcript: str | None = None
    extra: JSONObject = extra()


@attrs.frozen
class File:
    """A document: exactly one of `data`, `id` (uploaded before) and `url`."""

    type: ClassVar[str] = "file"
    data: bytes | None = attrs.field(default=None, repr=False)
    id: str | None = None
    url: str | None = None
    filename: str | None = None
    media_type: str | None = None
    extra: JSONObject = extra()

    def __attrs_post_init__(self) -> None:
        _exactly_one(self, "data", "id", "url")


@attrs.frozen
class ToolCall:
    """The model asks for a tool.

    Attributes:
        id: What the result must refer to.
        name: The tool.
        arguments: JSON text exactly as the model wrote it; free text for `kind="custom"`.
        kind: `"function"` or `"custom"`.
    """

    type: ClassVar[str] = "tool_call"
    id: str
    name: str
    arguments: str
    kind: str = "function"
    extra: JSONObject = extra()


@attrs.frozen
class ToolResult:
    """What a tool answered.

    Attributes:
        call_id: The `ToolCall.id` that it answers.
        content: Its parts. Text or dicts are converted.
        error: Whether the tool failed.
        listed: Wire hint: the content was, and is written as, a list. Not part of equality.
    """

    type: ClassVar[str] = "tool_result"
    call_id: str
    content: tuple[Part, ...] = ()
    error: bool = False
    extra: JSONObject = extra()
    listed: bool = attrs.field(default=False, eq=False, repr=False)


@attrs.frozen
class Reasoning:
    """The model's thinking, as far as the provider shows it.

    Attributes:
        text: What it shows; may be empty.
        signature: The provider's seal or its encrypted form, which goes back verbatim to the same
            provider and never to another.
        id: The provider's id of it.
        redacted: The provider withheld the text and gave only the sealed form.
    """

    type: ClassVar[str] = "reasoning"
    text: str = ""
    signature: str | None = attrs.field(default=None, repr=False)
    id: str | None = None
    redacted: bool = False
    extra: JSONObject = extra()


@attrs.frozen
class Refusal:
    """The model declines to answer, in its own words."""

    type: ClassVar[str] = "refusal"
    text: str
    extra: JSONObject = extra()


@attrs.frozen
class Opaque:
    """A part or an event that only its provider knows, kept verbatim so that signatures survive.

    Attributes:
        data: The provider's JSON object.
        provider: Whose it is; empty if unknown.
        content: As an event: whether it is part of the answer. Then it commits the answer and
            stays in the message; otherwise it is progress that is only passed on.
        choice: As an event: which of the `n` answers it belongs to.
    """

    type: ClassVar[str] = "opaque"
    data: JSONObject = attrs.field(hash=False)
    provider: str = ""
    content: bool = True
    choice: int = 0

    @property
    def semantic(self) -> bool:
        """Whether, as an event, it commits the answer."""
        return self.content


Part: TypeAlias = Text | Image | Audio | File | ToolCall | ToolResult | Reasoning | Refusal | Opaque
PART_TYPES: tuple[type, ...] = (
    Text, Image, Audio, File, ToolCall, ToolResult, Reasoning, Refusal, Opaque,
)  # fmt: skip


def _exactly_one(part: object, *names: str) -> None:
    given = [name for name in names if getattr(part, name) is not None]
    if len(given) != 1:
        kind = type(part).__name__
        choice = " and ".join(f"`{name}`" for name in names)
        found = f"got {', '.join(given)}" if given else "got none"
        msg = f"{kind} takes exactly one of {choice}; {found}."
        raise ValueError(msg)
