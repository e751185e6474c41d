"""What there is to count in a message, before it is counted: how long it is, and which it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lamella._messages import Message
from lamella._parts import Audio, File, Opaque, ToolCall, ToolResult
from lamella._token_media import is_text, kind_of


def characters_of(parts: Iterable[Any]) -> int:
    """How many characters a counter would have to go through; of a document it is the bytes."""
    return sum([_characters(part) for part in parts])


def hash_of(message: Message) -> int:
    """A hash of all that counts in a message.

    The hash of an opaque part says nothing of what it holds, so its words are taken, too.

    Raises:
        TypeError: If a part holds a list or a dict, which have none.
    """
    found = hash(message)
    opaque = _opaque_words(message.parts)
    return hash((found, *opaque)) if opaque else found


def _characters(part: Any) -> int:
    if isinstance(part, ToolResult):
        return characters_of(part.content)
    if isinstance(part, Opaque):
        return len(_words(part))
    if isinstance(part, File):
        data = part.data or b""
        return len(data) if data.startswith(b"%PDF-") or is_text(kind_of(part)) else 0
    said: Any = getattr(part, "text", "")
    if isinstance(part, ToolCall):
        said = part.arguments
    elif isinstance(part, Audio):
        said = part.transcript
    return len(said) if isinstance(said, str) else 0


def _opaque_words(parts: Iterable[Any]) -> list[str]:
    found: list[str] = []
    for part in parts:
        if isinstance(part, Opaque):
            found.append(_words(part))
        elif isinstance(part, ToolResult):
            found += _opaque_words(part.content)
    return found


def _words(part: Opaque) -> str:
    return str(dict(part.data))
