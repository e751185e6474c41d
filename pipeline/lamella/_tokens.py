"""Counting tokens: the port, and what a request or an answer has of them.

Texts are counted by a counter; what surrounds them on the wire (roles, delimiters, pictures, sound)
follows the providers' published rules of thumb, which are the same for all counters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from lamella._chat import ChatRequest
from lamella._context import is_given
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
from lamella._image_sizes import Size, image_size
from lamella._image_tokens import ANY_MODEL as ANY_RULE
from lamella._messages import Message
from lamella._parts import Audio, File, Image, Opaque, Text, ToolCall, ToolResult
from lamella._requests import Request
from lamella._token_estimate import ESTIMATOR
from lamella._token_framing import ANY_MODEL, MESSAGE_TOKENS, framing_of, tools_text
from lamella._token_media import (
    AUDIO_BYTES,
    AUDIO_TOKENS,
    FILE_BYTES,
    document_pages,
    is_text,
    sound_seconds,
)
from lamella._tools import Tool
from lamella._usage import Usage

if TYPE_CHECKING:
    from lamella._cards import ModelCard

__all__ = [
    "AUDIO_BYTES",
    "FILE_BYTES",
    "IMAGE_TOKENS",
    "MESSAGE_TOKENS",
    "SMALL_IMAGE_TOKENS",
    "TokenCounter",
    "counted_input",
    "counted_tokens",
    "input_usage",
    "output_tokens",
    "output_usage",
]

IMAGE_TOKENS: Final = 765
"""A picture of 1024 x 1024 in full detail; models differ between 85 and 2,000."""
SMALL_IMAGE_TOKENS: Final = 85
DRAWN_IMAGE_TOKENS: Final = 1_290
"""What a picture of 1024 x 1024 is billed as that the model has made; others count 272 to 6,240."""
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


def input_usage(
    request: Request[Any], counter: TokenCounter = ESTIMATOR, *, card: ModelCard | None = None
) -> Usage | None:
    """What a request makes the model read, flagged as estimated.

    Roles and delimiters, tools, pictures, sound and documents are counted by the rules that the
    model's card names, and as for any model where it names none.

    Args:
        request: Any request.
        counter: Counts its texts.
        card: The model's; None looks it up if the request is one of a call, and has more than text
            or a counter that is not the estimator. The first look-up of a process reads the cards,
            in some 50 ms.

    Returns:
        None for operations that are not counted in tokens.

    Raises:
        ConfigurationError: If cards of the user's cannot be read, or the counter's vocabulary is
            gone or damaged.
    """
    content = _content(request)
    if content is None:
        return None
    if card is None and content.wants_card(counter) and _has_begun(request):
        from lamella._target_fitness import Fitness

        card = Fitness(request).card(None)
    content.by(card)
    return content.usage(counter.count(content.texts))


async def counted_input(request: Request[Any], counter: TokenCounter = ESTIMATOR) -> Usage | None:
    """As `input_usage`, but neither a long text nor the first look-up holds up the event loop.

    Args:
        request: A request of a call that has begun.
        counter: Counts its texts. It is called in a thread where it would have to go through more
            than 16,000 characters (`unseen`), so it must be thread-safe.

    Returns:
        None for operations that are not counted in tokens.

    Raises:
        DeadlineExceeded: If the call's deadline passes meanwhile; the thread ends by itself.
        ClosedError: If the pipeline closes meanwhile.
        ConfigurationError: If the counter finds its vocabulary gone or damaged, or cards of the
            user's cannot be read.
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
    card = None
    if content.wants_card(counter) and _has_begun(request):
        from lamella._target_fitness import Fitness

        fitness = Fitness(request)
        await fitness.ready()
        card = fitness.card(None)
    content.by(card)
    texts = content.texts
    unseen: Callable[[Sequence[str]], float] = getattr(counter, "unseen", _characters)
    if unseen(texts) <= INLINE_CHARACTERS:
        return counter.count(texts)
    context = request.context
    return await context.wait(
        lambda: context.ports.thread(counter.count, texts), what="counting tokens"
    )


def _has_begun(request: Request[Any]) -> bool:
    """Whether it is known who will be asked, without whom a model's name means nothing."""
    return is_given(request.context.transport)


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
    content.tools = request.tools
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
    """What there is to count in a request: its texts, and what is not text."""

    __slots__ = (
        "audio",
        "calls",
        "files",
        "image",
        "images",
        "messages",
        "named",
        "sounds",
        "text",
        "texts",
        "tools",
    )

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.tools: Sequence[Tool | Opaque] = ()
        self.messages = self.named = self.calls = 0
        self.images: list[tuple[Size | None, str | None]] = []
        self.sounds: list[float] = []
        self.files: list[bytes] = []
        self.text = self.image = self.audio = 0

    def wants_card(self, counter: TokenCounter) -> bool:
        """Whether the model's card makes a difference that is worth looking it up."""
        if self.tools or self.images or self.sounds or self.files:
            return True
        return self.messages > 0 and counter is not ESTIMATOR

    def by(self, card: ModelCard | None) -> None:
        """Work out what is not text, by the rules of a model; as of any model without a card."""
        framing = ANY_MODEL if card is None else framing_of(card.framing)
        if self.messages:
            self.text += framing.request + framing.message * self.messages
        self.text += framing.named * self.named + MESSAGE_TOKENS * self.calls
        if self.tools:
            self.texts.append(tools_text(framing, self.tools))
            self.text += framing.tool * len(self.tools)
            if card is not None and card.tool_tokens is not None:
                self.text += card.tool_tokens
        if self.images:
            rule = (None if card is None else card.image_tokens) or ANY_RULE
            self.image = sum([rule.tokens(size, detail) for size, detail in self.images])
        if self.sounds:
            second = (None if card is None else card.audio_tokens) or AUDIO_TOKENS
            self.audio = sum([int(seconds * second) for seconds in self.sounds])
        for data in self.files:
            page = None if card is None else card.page_tokens
            pages = None if page is None else document_pages(data)
            self.text += len(data) // FILE_BYTES if page is None or pages is None else page * pages

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
        self.messages += 1
        if message.name:
            self.named += 1
            self.texts.append(message.name)
        self.parts(message.parts)

    def parts(self, parts: Sequence[object]) -> None:
        for part in parts:
            if isinstance(part, Text):
                self.texts.append(part.text)
            elif isinstance(part, Image):
                data = part.data
                self.images.append((None if data is None else image_size(data), part.detail))
            elif isinstance(part, Audio):
                if part.data:
                    self.sounds.append(sound_seconds(part.data, part.format))
                self.texts.append(part.transcript or "")
            elif isinstance(part, File):
                self.file(part)
            elif isinstance(part, ToolCall):
                self.calls += 1
                self.texts += part.name, part.arguments
            elif isinstance(part, ToolResult):
                self.parts(part.content)
            elif isinstance(part, Opaque):
                self.texts.append(str(dict(part.data)))
            else:
                self.texts.append(str(getattr(part, "text", "")))

    def file(self, part: File) -> None:
        data = part.data
        if not data:
            return  # it is somewhere else, and nobody here knows how long it is
        if is_text(part.media_type):
            self.texts.append(data.decode("utf-8", "replace"))
        elif (part.media_type or "").startswith("image/"):
            self.images.append((image_size(data), None))
        else:
            self.files.append(data)
