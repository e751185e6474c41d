"""What an attempt consumed, where nobody says: counted from characters.

The rule follows how byte-pair vocabularies cut text: words of up to 16 letters at 7 letters a
token, longer runs (keys, base64) at 3, digits at 3, punctuation at 2, a line break or indentation
one token, Chinese, Japanese and Korean one a character, other scripts two characters, emoji two and
a half tokens. Measured against o200k_base: English prose, Markdown and source code +9 to +20 %,
JSON, CSV and TOML 0 to +12 %, other European languages, Arabic and Hindi +25 to +130 %, Chinese,
Japanese and Korean +45 to +60 %, random base64 and hexadecimal -7 to -20 %. It leans upwards on
purpose. Vocabularies before 2024 (cl100k_base) cut languages other than English into up to three
times as many pieces; there it may be as low as a half of the truth.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import attrs

from lamella import (
    Audio,
    ChatRequest,
    EmbeddingRequest,
    Event,
    File,
    Image,
    MediaDelta,
    Message,
    Opaque,
    ReasoningDelta,
    RefusalDelta,
    Request,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Turn,
    Usage,
)

_PIECE: Final = re.compile(
    r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[\r\n]+|[ \t]{2,}|[!-/:-@\[-`{-~]+|[^\x00-\x7f]+"
)
_WORD: Final = 16
_SAMPLED: Final = 32_000
_SLICE: Final = 8_000
_LOOKED_AT: Final = 128_000

MESSAGE_TOKENS: Final = 4
"""What role and delimiters of a message take."""
IMAGE_TOKENS: Final = 765
"""A picture of 1024 x 1024 in full detail; models differ between 85 and 2,000."""
SMALL_IMAGE_TOKENS: Final = 85
AUDIO_BYTES: Final = 1_600
"""Of compressed sound for a token: 16 kB and 10 tokens a second."""
FILE_BYTES: Final = 20
"""Of a document for a token; documents are mostly not text."""


def tokens(text: str) -> int:
    """About how many tokens a text has; see the module for the error.

    Of texts above 32,000 characters a quarter of that is looked at, in four places.
    """
    if len(text) > _SAMPLED:
        step = (len(text) - _SLICE) // 3
        seen = sum(_count(text[start : start + _SLICE]) for start in range(0, 4 * step, step))
        return round(seen * len(text) / (4 * _SLICE))
    return _count(text)


def tokens_of(texts: Sequence[str]) -> int:
    """About how many tokens some texts have together.

    Of more than 128,000 characters the longest texts stand for all: counting takes the event loop.
    """
    characters = sum(map(len, texts))
    if characters <= _LOOKED_AT:
        return sum(map(tokens, texts))
    found = covered = looked_at = 0
    for text in sorted(texts, key=len, reverse=True):
        found += tokens(text)
        covered += len(text)
        looked_at += min(len(text), _SAMPLED)
        if looked_at >= _LOOKED_AT:
            break
    return round(found * characters / covered)


def _count(text: str) -> int:
    total = 0
    for piece in _PIECE.findall(text):
        length, first = len(piece), piece[0]
        if not first.isascii():
            total += _foreign(piece)
        elif first.isalpha():
            total += -(-length // 7) if length <= _WORD else -(-length // 3)
        elif first.isdigit():
            total += -(-length // 3)
        elif first.isspace():
            total += 1
        else:
            total += -(-length // 2)
    return total


def _foreign(piece: str) -> int:
    halves = 0
    for character in piece:
        halves += 1 if character < "\u2e80" else 2 if character < "\U00010000" else 5
    return -(-halves // 2)


def of_request(request: Request[Any]) -> Usage | None:
    """What a request makes the model read; None for operations that are not counted in tokens."""
    seen: object = request
    if isinstance(seen, EmbeddingRequest):
        return Usage(uncached_input=tokens_of(seen.inputs), estimated=True)
    if not isinstance(seen, ChatRequest):
        return None
    count = _Counter()
    for message in seen.messages:
        count.message(message)
    for tool in seen.tools:
        count.tool(tool)
    if seen.response_format is not None:
        count.texts.append(str(dict(seen.response_format)))
    text = count.text + tokens_of(count.texts)
    return Usage(
        uncached_input=text, image_input=count.image, audio_input=count.audio, estimated=True
    )


def of_events(events: Iterable[Event]) -> Usage:
    """What a model has written to give these events: never less than one token for each piece."""
    text, reasoning, spoken = _Pieces(), _Pieces(), _Pieces()
    for event in events:
        if isinstance(event, TextDelta | RefusalDelta):
            text.add(event.text)
        elif isinstance(event, ReasoningDelta):
            reasoning.add(event.text)
        elif isinstance(event, ToolCallDelta):
            text.add((event.name or "") + event.arguments)
        elif isinstance(event, MediaDelta):
            spoken.add(event.transcript, len(event.data) // AUDIO_BYTES)
        elif isinstance(event, Opaque) and event.content:
            text.add(str(dict(event.data)))
        elif isinstance(event, Turn):
            continue  # what it holds has come in pieces before
    return Usage(
        text_output=text.total(),
        reasoning_output=reasoning.total(),
        audio_output=spoken.total(),
        estimated=True,
    )


def at_least(reported: Usage, delivered: Usage) -> Usage:
    """What was reported of an answer that was cut off, but not less than what was delivered."""
    if reported.output_tokens >= delivered.output_tokens:
        return reported
    return attrs.evolve(
        reported,
        text_output=max(reported.text_output, delivered.text_output),
        reasoning_output=max(reported.reasoning_output, delivered.reasoning_output),
        audio_output=max(reported.audio_output, delivered.audio_output),
        estimated=True,
    )


class _Pieces:
    """Text of one kind in pieces."""

    __slots__ = ("_count", "_least", "_texts")

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._count = 0
        self._least = 0

    def add(self, text: str, least: int = 0) -> None:
        if text or least:
            self._texts.append(text)
            self._count += 1
            self._least += least

    def total(self) -> int:
        return max(self._count, self._least, tokens("".join(self._texts)))


class _Counter:
    """Adds up a conversation."""

    __slots__ = ("audio", "image", "text", "texts")

    def __init__(self) -> None:
        self.text = 0
        self.texts: list[str] = []
        self.image = 0
        self.audio = 0

    def message(self, message: Message) -> None:
        self.text += MESSAGE_TOKENS
        self.texts.append(message.name or "")
        self.parts(message.parts)

    def parts(self, parts: Sequence[object]) -> None:
        for part in parts:
            if isinstance(part, Text):
                self.texts.append(part.text)
            elif isinstance(part, Image):
                self.image += SMALL_IMAGE_TOKENS if part.detail == "low" else IMAGE_TOKENS
            elif isinstance(part, Audio):
                self.audio += len(part.data or b"") // AUDIO_BYTES
                self.texts.append(part.transcript or "")
            elif isinstance(part, File):
                self.text += len(part.data or b"") // FILE_BYTES
            elif isinstance(part, ToolCall):
                self.text += MESSAGE_TOKENS
                self.texts += part.name, part.arguments
            elif isinstance(part, ToolResult):
                self.parts(part.content)
            elif isinstance(part, Opaque):
                self.texts.append(str(dict(part.data)))
            else:
                self.texts.append(str(getattr(part, "text", "")))

    def tool(self, tool: Tool | Opaque) -> None:
        if isinstance(tool, Opaque):
            self.texts.append(str(dict(tool.data)))
        else:
            self.text += MESSAGE_TOKENS
            self.texts += tool.name, tool.description, str(dict(tool.parameters))
