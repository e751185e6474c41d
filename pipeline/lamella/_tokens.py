"""Counting tokens: the port, and what a request or an answer has of them.

Texts are counted by a counter; what surrounds them on the wire (roles, delimiters, pictures, sound)
follows the providers' published rules of thumb, which are the same for all counters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from lamella._chat import ChatRequest
from lamella._embeddings import EmbeddingRequest
from lamella._events import (
    Event,
    MediaDelta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    Turn,
)
from lamella._messages import Message
from lamella._parts import Audio, File, Image, Opaque, Text, ToolCall, ToolResult
from lamella._requests import Request
from lamella._token_estimate import ESTIMATOR
from lamella._tools import Tool
from lamella._usage import Usage

MESSAGE_TOKENS: Final = 4
"""What role and delimiters of a message take."""
IMAGE_TOKENS: Final = 765
"""A picture of 1024 x 1024 in full detail; models differ between 85 and 2,000."""
SMALL_IMAGE_TOKENS: Final = 85
AUDIO_BYTES: Final = 1_600
"""Of compressed sound for a token: 16 kB and 10 tokens a second."""
DRAWN_IMAGE_TOKENS: Final = 1_290
"""What a picture of 1024 x 1024 is billed as that the model has made; others count 272 to 6,240."""
FILE_BYTES: Final = 20
"""Of a document for a token; documents are mostly not text."""
INLINE_CHARACTERS: Final = 16_000
"""More than this is counted in a thread. A vocabulary takes 0.3 to 6 ms for as much."""


class TokenCounter(Protocol):
    """Counts the tokens of texts, for one family of models.

    It may have a method `unseen(texts)` as well: how many of the texts' characters `count` would
    have to go through now. One that remembers texts says with it that they cost nothing; without
    it all of them are taken to be gone through.

    Attributes:
        exact: Whether the count is the model's own, and not an estimate.
    """

    @property
    def exact(self) -> bool: ...

    def count(self, texts: Sequence[str], /) -> int:
        """How many tokens some texts have together. Never blocks on the network."""
        ...


def input_usage(request: Request[Any], counter: TokenCounter = ESTIMATOR) -> Usage | None:
    """What a request makes the model read, flagged as estimated.

    Args:
        request: Any request.
        counter: Counts its texts.

    Returns:
        None for operations that are not counted in tokens.
    """
    content = _content(request)
    return None if content is None else content.usage(counter.count(content.texts))


async def counted_input(request: Request[Any], counter: TokenCounter = ESTIMATOR) -> Usage | None:
    """As `input_usage`, but a long text does not hold up the event loop: a thread counts it.

    Args:
        request: A request of a call that has begun.
        counter: Counts its texts. It is called in a thread where it would have to go through more
            than 16,000 characters (`unseen`), so it must be thread-safe.

    Returns:
        None for operations that are not counted in tokens.

    Raises:
        DeadlineExceeded: If the call's deadline passes meanwhile; the thread ends by itself.
        ClosedError: If the pipeline closes meanwhile.
        ConfigurationError: If the counter finds its vocabulary gone or damaged.
    """
    content = _content(request)
    if content is None:
        return None
    return content.usage(await _counted(request, content, counter))


async def counted_tokens(request: Request[Any], counter: TokenCounter = ESTIMATOR) -> int:
    """How many tokens `counted_input` amounts to; 0 for what is not counted in tokens."""
    content = _content(request)
    return 0 if content is None else content.tokens(await _counted(request, content, counter))


async def _counted(request: Request[Any], content: _Content, counter: TokenCounter) -> int:
    texts = content.texts
    unseen: Callable[[Sequence[str]], float] = getattr(counter, "unseen", _characters)
    if unseen(texts) <= INLINE_CHARACTERS:
        return counter.count(texts)
    context = request.context
    return await context.wait(
        lambda: context.ports.thread(counter.count, texts), what="counting tokens"
    )


def _characters(texts: Sequence[str]) -> int:
    return sum(map(len, texts))


def _content(request: object) -> _Content | None:
    """What there is to count in a request; None if it is not counted in tokens."""
    content = _Content()
    if isinstance(request, EmbeddingRequest):
        content.texts += request.inputs
        return content
    if not isinstance(request, ChatRequest):
        return None
    for message in request.messages:
        content.message(message)
    for tool in request.tools:
        content.tool(tool)
    if request.response_format is not None:
        content.texts.append(str(dict(request.response_format)))
    return content


def output_usage(events: Iterable[Event], counter: TokenCounter = ESTIMATOR) -> Usage:
    """What a model has written to give these events, flagged as estimated.

    It is never less than one token for each piece.

    Args:
        events: The events of an answer, or of a part of it.
        counter: Counts their texts.
    """
    text, reasoning, spoken, drawn = _pieces(events, counter)
    return Usage(
        text_output=text.total(),
        reasoning_output=reasoning.total(),
        audio_output=spoken.total(),
        image_output=drawn.total(),
        estimated=True,
    )


def output_tokens(events: Iterable[Event], counter: TokenCounter = ESTIMATOR) -> int:
    """How many tokens `output_usage` amounts to."""
    return sum([pieces.total() for pieces in _pieces(events, counter)])


def _pieces(events: Iterable[Event], counter: TokenCounter) -> tuple[_Pieces, ...]:
    """The text, the reasoning, the speech and the pictures in some events."""
    pieces = tuple([_Pieces(counter) for _ in range(4)])
    text, reasoning, spoken, drawn = pieces
    for event in events:
        if isinstance(event, TextDelta | RefusalDelta):
            text.add(event.text)
        elif isinstance(event, ReasoningDelta):
            reasoning.add(event.text)
        elif isinstance(event, ToolCallDelta):
            text.add((event.name or "") + event.arguments)
        elif isinstance(event, MediaDelta):
            if event.kind == "audio":
                spoken.add(event.transcript, len(event.data) // AUDIO_BYTES)
            elif event.data:
                drawn.add(event.transcript, DRAWN_IMAGE_TOKENS)
        elif isinstance(event, Opaque) and event.content:
            text.add(str(dict(event.data)))
        elif isinstance(event, Turn):
            continue  # what it holds has come in pieces before
    return pieces


class _Pieces:
    """Text of one kind in pieces."""

    __slots__ = ("_count", "_counter", "_least", "_texts")

    def __init__(self, counter: TokenCounter) -> None:
        self._counter = counter
        self._texts: list[str] = []
        self._count = 0
        self._least = 0

    def add(self, text: str, least: int = 0) -> None:
        if text or least:
            self._texts.append(text)
            self._count += 1
            self._least += least

    def total(self) -> int:
        if not self._count:
            return 0
        return max(self._count, self._least, self._counter.count(["".join(self._texts)]))


class _Content:
    """Adds up a conversation: its texts, and the tokens of what is not text."""

    __slots__ = ("audio", "image", "text", "texts")

    def __init__(self) -> None:
        self.text = 0
        self.texts: list[str] = []
        self.image = 0
        self.audio = 0

    def tokens(self, counted: int) -> int:
        return counted + self.text + self.image + self.audio

    def usage(self, counted: int) -> Usage:
        return Usage(
            uncached_input=self.text + counted,
            image_input=self.image,
            audio_input=self.audio,
            estimated=True,
        )

    def message(self, message: Message) -> None:
        self.text += MESSAGE_TOKENS
        if message.name:
            self.texts.append(message.name)
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
