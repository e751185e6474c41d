"""Counting tokens: the port, and what a request or an answer has of them.

Texts are counted by a counter; what surrounds them on the wire (roles, delimiters, pictures, sound)
follows the providers' published rules of thumb, which are the same for all counters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from lamella._context import is_given
from lamella._events import (
    Event,
    Finish,
    MediaDelta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    Turn,
    UsageReport,
)
from lamella._parts import Opaque
from lamella._requests import Request
from lamella._token_content import INLINE_CHARACTERS, Content, Counted, content_of, text_tokens
from lamella._token_estimate import ESTIMATOR
from lamella._token_framing import MESSAGE_TOKENS
from lamella._token_media import AUDIO_BYTES, FILE_BYTES
from lamella._usage import Usage

if TYPE_CHECKING:
    from lamella._cards import ModelCard

__all__ = [
    "AUDIO_BYTES",
    "FILE_BYTES",
    "INLINE_CHARACTERS",
    "MESSAGE_TOKENS",
    "TokenCounter",
    "counted_input",
    "counted_tokens",
    "input_usage",
    "output_tokens",
    "output_usage",
    "rough_input",
    "tokens_at_hand",
]

DRAWN_IMAGE_TOKENS: Final = 1_290
"""What a picture of 1024 x 1024 is billed as that the model has made; others count 272 to 6,240."""


_WORDLESS: Final = frozenset({Finish, UsageReport})


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
    model's card names, and as for any model where it names none. It is done there and then: a PDF
    of 32 MB takes 20 to 300 ms when it is first seen. Layers use `counted_input`.

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
    if card is None and counter is ESTIMATOR:
        found = text_tokens(request)
        if found is not None:
            return Usage(uncached_input=found, estimated=True)
    content = content_of(request)
    if content is None:
        return None
    if card is None and content.wants_card(counter) and _has_begun(request):
        from lamella._target_fitness import Fitness

        card = Fitness(request).card(None)
    return _usage(content.count(counter, card))


def rough_input(
    request: Request[Any], counter: TokenCounter
) -> Callable[[ModelCard | None], Usage] | None:
    """Counts a request for several models, texts once for all: to compare them, not to bill.

    Long documents count by their bytes, so that it may be done on an event loop.

    Returns:
        Gives the usage by a model's card; None for operations that are not counted in tokens.
    """
    content = content_of(request)
    if content is None:
        return None
    texts = counter.count(content.texts)
    return lambda card: _usage(content.count(counter, card, rough=True, texts=texts))


async def counted_input(request: Request[Any], counter: TokenCounter = ESTIMATOR) -> Usage | None:
    """As `input_usage`, but nothing that is long holds up the event loop: text, document, cards.

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
    found = tokens_at_hand(request, counter)
    if found is not None:
        return Usage(uncached_input=found, estimated=True)
    content = content_of(request)
    return None if content is None else _usage(await _counted(request, content, counter))


def tokens_at_hand(request: Request[Any], counter: TokenCounter = ESTIMATOR) -> int | None:
    """What `counted_tokens` gives, where nothing has to be waited for; None where something may.

    It is known of conversations of text, and of calls of tools and their results, without tools, by
    the estimator, as long as they are not very long.
    """
    return text_tokens(request) if counter is ESTIMATOR else None


async def counted_tokens(request: Request[Any], counter: TokenCounter = ESTIMATOR) -> int:
    """How many tokens `counted_input` amounts to; 0 for what is not counted in tokens."""
    found = tokens_at_hand(request, counter)
    if found is not None:
        return found
    content = content_of(request)
    return 0 if content is None else sum(await _counted(request, content, counter))


async def _counted(request: Request[Any], content: Content, counter: TokenCounter) -> Counted:
    card = None
    if content.wants_card(counter) and _has_begun(request):
        from lamella._target_fitness import Fitness

        fitness = Fitness(request)
        await fitness.ready()
        card = fitness.card(None)
    if not content.takes_long(counter, card):
        return content.count(counter, card)
    context = request.context
    return await context.wait(
        lambda: context.ports.thread(content.count, counter, card), what="counting tokens"
    )


def _usage(counted: Counted) -> Usage:
    text, image, audio = counted
    return Usage(uncached_input=text, image_input=image, audio_input=audio, estimated=True)


def _has_begun(request: Request[Any]) -> bool:
    """Whether it is known who will be asked, without whom a model's name means nothing."""
    return is_given(request.context.transport)


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
    texts: list[str] = []
    events = events if isinstance(events, Sequence) else tuple(events)
    for event in events:
        if type(event) is TextDelta:
            if event.text:
                texts.append(event.text)
        elif type(event) not in _WORDLESS:
            return sum([pieces.total() for pieces in _pieces(events, counter)])
    return max(len(texts), counter.count(["".join(texts)])) if texts else 0


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
