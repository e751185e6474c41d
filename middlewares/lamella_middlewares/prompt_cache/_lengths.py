"""About how many tokens the beginning of a request has.

Providers keep no beginning that is too short, and say nothing of it. The estimate only decides
whether a mark is worth its place, so it is cheap: a text is counted once in a process and
remembered by its hash, never by its words, and a count ends where it is known to be enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from lamella import Message, Opaque, Text, Tool, ToolCall, ToolResult
from lamella._image_tokens import ANY_MODEL, plausible
from lamella._token_estimate import tokens
from lamella._tokens import AUDIO_BYTES, FILE_BYTES, MESSAGE_TOKENS

CHARACTERS: Final = 4
"""Of JSON, or of a short text in English, for a token."""
_SURE: Final = 8
"""A text of so many characters for each token that is wanted is long enough in any language."""
_SHORT: Final = 200
"""A text of no more characters is not worth remembering."""
_REMEMBERED: Final = 4_096

_seen: dict[int, int] = {}


class Length:
    """Adds up the beginning of a request until it is known to be long enough.

    Args:
        minimum: How many tokens are enough.
    """

    __slots__ = ("_left",)

    def __init__(self, minimum: int) -> None:
        self._left = minimum

    @property
    def enough(self) -> bool:
        """Whether it is."""
        return self._left <= 0

    def tools(self, tools: Sequence[Tool | Opaque]) -> None:
        """Add tools."""
        if not tools:
            return
        held = [tool.parameters if isinstance(tool, Tool) else tool.data for tool in tools]
        said = sum([len(tool.description) for tool in tools if isinstance(tool, Tool)])
        self._left -= MESSAGE_TOKENS * len(tools) + (said + _written(held)) // CHARACTERS

    def message(self, message: Message) -> None:
        """Add a message."""
        if self._left > 0:
            self._left -= MESSAGE_TOKENS
            self._parts(message.parts)

    def _parts(self, parts: Iterable[Any]) -> None:
        for part in parts:
            if self._left <= 0:
                return
            if isinstance(part, Text):
                self._text(part.text)
            elif isinstance(part, ToolResult):
                self._parts(part.content)
            elif isinstance(part, ToolCall):
                self._text(part.arguments)
            else:
                self._other(part)

    def _other(self, part: Any) -> None:
        if part.type == "image":
            self._left -= ANY_MODEL.tokens(plausible(part.size), part.detail)
        elif part.type in {"file", "audio"} and part.data is None:
            self._left = 0  # it is somewhere else, and may be long
        elif part.type == "file":
            self._left -= len(part.data) // FILE_BYTES
        elif part.type == "audio":
            self._left -= len(part.data) // AUDIO_BYTES
        elif isinstance(part, Opaque):
            self._left -= _written(part.data) // CHARACTERS
        else:
            self._text(part.text)

    def _text(self, text: str) -> None:
        if len(text) >= self._left * _SURE:
            self._left = 0
        elif len(text) > _SHORT:
            self._left -= _counted(text)
        else:
            self._left -= -(-len(text) // CHARACTERS) if text.isascii() else tokens(text)


def _counted(text: str) -> int:
    key = hash(text)  # which a text keeps once it is known
    found = _seen.get(key)
    if found is None:
        if len(_seen) >= _REMEMBERED:
            _seen.clear()
        found = _seen[key] = tokens(text)
    return found


def _written(data: Any) -> int:
    """How many bytes some JSON has; 0 for what is none, which is refused later."""
    try:
        return len(msgspec.json.encode(data, enc_hook=_plain))
    except (TypeError, ValueError, RecursionError):
        return 0


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    raise TypeError
