"""How the embedded provider counts: tokens, and chance that is none.

A token is up to eight letters, up to three digits, or one other character, with the white space
before it. Nothing else is known of any real model's tokenizer here, and nothing is claimed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from hashlib import blake2b
from json import dumps
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from lamella._parts import Audio, File, Image, Opaque, Part, ToolCall, ToolResult
from lamella._sound_lengths import sound_seconds
from lamella._token_media import AUDIO_TOKENS, FILE_BYTES, is_text, kind_of
from lamella._tools import Tool
from lamella._usage import Usage

if TYPE_CHECKING:
    from lamella._chat import ChatRequest
    from lamella._messages import Message

T = TypeVar("T")

TOKENS_PER_MESSAGE = 3
"""What each message costs besides its words."""

TOKENS_PER_IMAGE = 85
"""What a picture costs, whatever its size."""

TOKENS_PER_REFERENCE = 100
"""What sound or a document costs that is named and not sent."""

_TOKEN = re.compile(r"\s*(?:[^\W\d_]{1,8}|\d{1,3}|[^\w\s]|_)|\s+")


def tokens(text: str) -> list[str]:
    """The tokens of a text; joined, they are the text again."""
    return _TOKEN.findall(text)


def count(text: str) -> int:
    """How many tokens a text has."""
    return len(_TOKEN.findall(text))


@attrs.frozen
class Draw:
    """Choices that look random and depend on nothing but their seed and what they are for."""

    seed: bytes = attrs.field(repr=False)

    @classmethod
    def of(cls, *facts: Any) -> Draw:
        """From facts that are JSON; equal facts draw equally, in every process."""
        return cls(blake2b(dumps(facts, sort_keys=True).encode(), digest_size=16).digest())

    def number(self, what: str, below: int) -> int:
        """A whole number from 0 up to `below`, which is excluded."""
        return int.from_bytes(self._bytes(what, 8)) % below

    def pick(self, what: str, choices: Sequence[T]) -> T:
        """One of several."""
        return choices[self.number(what, len(choices))]

    def word(self, what: str, length: int = 24) -> str:
        """Hexadecimal digits, at most 64, such as an id needs."""
        return self._bytes(what, (length + 1) // 2).hex()[:length]

    def _bytes(self, what: str, length: int) -> bytes:
        return blake2b(what.encode("utf-8", "replace"), key=self.seed, digest_size=length).digest()


def input_usage(request: ChatRequest) -> Usage:
    """What the request itself consumes."""
    text = audio = image = 0
    for message in request.messages:
        text += TOKENS_PER_MESSAGE
        for part in _flat(message):
            if isinstance(part, Image):
                image += TOKENS_PER_IMAGE
            elif isinstance(part, Audio):
                audio += _sound(part)
            elif isinstance(part, File):
                text += _document(part)
            else:
                text += count(_words(part))
    for tool in request.tools:
        text += count(_told(tool))
    return Usage(uncached_input=text, audio_input=audio, image_input=image)


def _flat(message: Message) -> list[Part]:
    found: list[Part] = []
    for part in message.parts:
        found.extend(part.content if isinstance(part, ToolResult) else (part,))
    return found


def _told(tool: Tool | Opaque) -> str:
    if isinstance(tool, Opaque):
        return dumps(dict(tool.data), default=str)
    return f"{tool.name} {tool.description} {dumps(dict(tool.parameters), default=str)}"


def _sound(part: Audio) -> int:
    if not part.data:
        return TOKENS_PER_REFERENCE
    return math.ceil(sound_seconds(part.data, part.format) * AUDIO_TOKENS)


def _document(part: File) -> int:
    if part.data and is_text(kind_of(part)):
        return count(part.data.decode("utf-8", "replace"))
    return _by_bytes(part.data, FILE_BYTES)


def _by_bytes(data: bytes | None, size: int) -> int:
    return TOKENS_PER_REFERENCE if data is None else -(-len(data) // size)


def _words(part: Part) -> str:
    if isinstance(part, ToolCall):
        return f"{part.name} {part.arguments}"
    if isinstance(part, Opaque):
        return dumps(dict(part.data), default=str)
    return getattr(part, "text", "")
