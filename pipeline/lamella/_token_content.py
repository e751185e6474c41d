"""What there is to count in a request: its texts, and what is not text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from lamella._chat import ChatRequest
from lamella._document_pages import document_pages
from lamella._embeddings import EmbeddingRequest
from lamella._image_sizes import Size, image_size
from lamella._image_tokens import ANY_MODEL as ANY_RULE
from lamella._image_tokens import plausible
from lamella._messages import Message
from lamella._parts import Audio, File, Image, Opaque, Text, ToolCall, ToolResult
from lamella._sound_lengths import sound_seconds
from lamella._token_estimate import (
    ESTIMATOR,
    LOOKED_AT,
    looked_at,
    tokens,
    tokens_of_bytes,
)
from lamella._token_framing import ANY_MODEL, MESSAGE_TOKENS, framing_of, tools_tokens
from lamella._token_media import AUDIO_TOKENS, FILE_BYTES, is_text, kind_of
from lamella._tools import Tool

if TYPE_CHECKING:
    from lamella._cards import ModelCard
    from lamella._tokens import TokenCounter

INLINE_CHARACTERS: Final = 16_000
"""More than this is counted in a thread. A vocabulary takes 0.3 to 6 ms for as much."""
INLINE_DOCUMENTS: Final = 128_000
"""Bytes of documents whose pages are counted on an event loop: up to 5 ms."""
_QUICK: Final = 8
"""How many times as quick as a vocabulary the estimator is."""
_BYTES: Final = 4
"""Of text for a token, roughly."""

Counted: TypeAlias = tuple[int, int, int]
"""Tokens of text, of pictures and of sound."""


def content_of(request: object) -> Content | None:
    """What there is to count in a request; None if it is not counted in tokens."""
    content = Content()
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


def text_tokens(request: object) -> int | None:
    """The tokens of a conversation of text by the estimator; None where there is more to it.

    It is what `Content.count` comes to without a model's card, in one go: it runs on every call.
    """
    if type(request) is not ChatRequest or request.tools or request.response_format is not None:
        return None
    found = characters = 0
    for message in request.messages:
        if message.name or type(message) is not Message:
            return None
        found += MESSAGE_TOKENS
        for part in message.parts:
            if type(part) is Text:
                text = part.text
            elif type(part) is ToolCall:
                found += MESSAGE_TOKENS + tokens(part.name)
                characters += len(part.name)
                text = part.arguments
            elif type(part) is ToolResult and len(part.content) == 1:
                inner = part.content[0]
                if type(inner) is not Text:
                    return None
                text = inner.text
            else:
                return None
            characters += len(text)
            if characters > LOOKED_AT:
                return None
            found += tokens(text)
    return found


class Content:
    """Collected without going through any of it."""

    __slots__ = (
        "calls",
        "documents",
        "images",
        "messages",
        "named",
        "sounds",
        "texts",
        "tools",
        "written",
    )

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.written: list[bytes] = []
        self.documents: list[bytes] = []
        self.tools: Sequence[Tool | Opaque] = ()
        self.messages = self.named = self.calls = 0
        self.images: list[tuple[Size | None, str | None]] = []
        self.sounds: list[float] = []

    def wants_card(self, counter: TokenCounter) -> bool:
        """Whether the model's card makes a difference that is worth looking it up."""
        if self.tools or self.images or self.sounds or self.documents:
            return True
        return self.messages > 0 and counter is not ESTIMATOR

    def takes_long(self, counter: TokenCounter, card: ModelCard | None) -> bool:
        """Whether `count` would go through more than belongs on an event loop."""
        if card is not None and card.page_tokens is not None and self.documents:
            pages = sum(map(len, self.documents))
            if pages > INLINE_DOCUMENTS:
                return True
        if counter is ESTIMATOR:
            return looked_at(self.written) > INLINE_CHARACTERS * _QUICK
        unseen: Callable[[Sequence[str]], float] = getattr(counter, "unseen", _characters)
        found = unseen(self.texts) + sum(map(len, self.written))
        if self.tools and found <= INLINE_CHARACTERS:
            framing = ANY_MODEL if card is None else framing_of(card.framing)
            found += tools_tokens(framing, self.tools, counter).unseen
        return found > INLINE_CHARACTERS

    def count(
        self,
        counter: TokenCounter,
        card: ModelCard | None,
        *,
        rough: bool = False,
        texts: int | None = None,
    ) -> Counted:
        """Count it by the rules of a model; as of any model without a card.

        Args:
            counter: Counts texts.
            card: The model's.
            rough: Whether long documents count by their bytes.
            texts: What `texts` have come to, if that is known.
        """
        framing = ANY_MODEL if card is None else framing_of(card.framing)
        text = MESSAGE_TOKENS * self.calls + framing.named * self.named
        if self.messages:
            text += framing.request + framing.message * self.messages
        if self.tools:
            text += framing.tool * len(self.tools)
            text += tools_tokens(framing, self.tools, counter).count()
            if card is not None and card.tool_tokens is not None:
                text += card.tool_tokens
        text += self._in_documents(None if card is None else card.page_tokens, rough=rough)
        if rough:
            text += sum(map(len, self.written)) // _BYTES
            said = self.texts
        elif counter is ESTIMATOR:
            text += sum(map(tokens_of_bytes, self.written))
            said = self.texts
        else:
            said = [*self.texts, *[data.decode("utf-8", "replace") for data in self.written]]
        text += counter.count(said) if texts is None else texts
        return text, self._in_pictures(card), self._in_sounds(card)

    def _in_documents(self, page: int | None, *, rough: bool) -> int:
        found = 0
        for data in self.documents:
            most = INLINE_DOCUMENTS if rough else None
            pages = None if page is None else document_pages(data, most=most)
            found += -(-len(data) // FILE_BYTES) if page is None or pages is None else page * pages
        return found

    def _in_pictures(self, card: ModelCard | None) -> int:
        rule = (None if card is None else card.image_tokens) or ANY_RULE
        return sum([rule.tokens(plausible(size), detail) for size, detail in self.images])

    def _in_sounds(self, card: ModelCard | None) -> int:
        second = None if card is None else card.audio_tokens
        each = AUDIO_TOKENS if second is None else second
        return sum([-int(-seconds * each // 1) for seconds in self.sounds])

    def message(self, message: Message) -> None:
        """Add a message."""
        self.messages += 1
        if message.name:
            self.named += 1
            self.texts.append(message.name)
        self._parts(message.parts)

    def _parts(self, parts: Sequence[object]) -> None:
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
                self._file(part)
            elif isinstance(part, ToolCall):
                self.calls += 1
                self.texts += part.name, part.arguments
            elif isinstance(part, ToolResult):
                self._parts(part.content)
            elif isinstance(part, Opaque):
                self.texts.append(str(dict(part.data)))
            else:
                self.texts.append(str(getattr(part, "text", "")))

    def _file(self, part: File) -> None:
        data = part.data
        if not data:
            return  # it is somewhere else, and nobody here knows how long it is
        kind = kind_of(part)
        if is_text(kind):
            self.written.append(data)
        elif kind.startswith("image/"):
            self.images.append((image_size(data), None))
        elif kind.startswith("audio/"):
            self.sounds.append(sound_seconds(data, None))
        else:
            self.documents.append(data)


def _characters(texts: Sequence[str]) -> int:
    return sum(map(len, texts))
