"""Anthropic's Messages API, and what calls itself compatible with it: answers, and token counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

import attrs

from lamella._chat import ChatRequest
from lamella._events import Event
from lamella._media_types import IMAGES
from lamella._prompt_caching import LEAST_TOKENS, PromptCaching
from lamella._responses import Head
from lamella._token_counts import TokenCountRequest, token_count_events
from lamella.transports._dialect import JSON, BaseDialect, DialectOptions, Headers
from lamella.transports._headers import encoded_headers
from lamella.transports._media_limits import MediaLimits
from lamella.transports._wire_json import count_of, json_object, nonsense, raise_in_band
from lamella_anthropic._answer import MessageDecoder
from lamella_anthropic._request import chat_body, count_body, headers_of

if TYPE_CHECKING:
    from lamella._cards import ModelCard

MOST_MARKS: Final = 4
"""How many places of a request may be marked for the prompt cache."""


_SMALL_WINDOW: Final = 200_000
_LIMITS: Final = MediaLimits(
    image_types=IMAGES,
    images=600,
    image_bytes=10 * 1024 * 1024,
    image_side=8_000,
    crowd=20,
    crowd_side=2_000,
    request_bytes=32 * 1024 * 1024,
)
_FEWER: Final = attrs.evolve(_LIMITS, images=100)


@attrs.frozen
class AnthropicDialect(BaseDialect):
    """What both operations share.

    Quirks that it understands, beside the fields of `DialectOptions`: `max_output_tokens` (the
    bound on output of requests that state none), `sampling` (whether the API's version takes
    `temperature` and `top_p`; default False).

    Attributes:
        provider: Whose answers these are: it stands in errors and notes.
        origin: How parts are marked that go back to nobody else: transports to one provider may
            have different names.
        betas: Beta features that every request asks for.
    """

    api: ClassVar[str] = "chat"
    wants_card: ClassVar[bool] = True

    provider: str = "anthropic"
    origin: str = "anthropic"
    betas: tuple[str, ...] = ()

    def media_limits(self, card: ModelCard) -> MediaLimits | None:
        """As the guide "Vision" has them; None for models of others behind the same API."""
        if card.provider != "anthropic":
            return None
        window = card.context_window  # models with a smaller one take fewer pictures
        return _FEWER if window is not None and window <= _SMALL_WINDOW else _LIMITS

    def headers(self, request: Any) -> Headers:
        """The betas of the transport and of the request, and what else goes into a header."""
        if not self.betas and not request.extra:
            return ()
        return encoded_headers(dict(headers_of(request, self.betas)))


@attrs.frozen
class AnthropicMessages(AnthropicDialect):
    """The chat dialect."""

    operation: ClassVar[str] = "chat"

    def path(self, model: str, *, stream: bool) -> str:
        """Where requests go, after the base URL."""
        return "/v1/messages"

    def encode(self, request: ChatRequest, *, stream: bool, options: DialectOptions) -> JSON:
        """The body of a request. `request.extra` is merged last and wins over typed fields.

        Raises:
            UnsupportedError: If the API has no words for something that is asked.
        """
        return chat_body(
            request, stream=stream, options=options, provider=self.provider, origin=self.origin
        )

    def prompt_caching(
        self, model: str, *, options: DialectOptions, card: ModelCard | None
    ) -> PromptCaching | None:
        """Up to four marks, anywhere."""
        minimum = None if card is None else card.cache_minimum
        return PromptCaching(
            marks=MOST_MARKS, lifetimes=("5m", "1h"), minimum=minimum or LEAST_TOKENS
        )

    def decoder(self, request: ChatRequest | None) -> MessageDecoder:
        """A fresh reader for the stream that answers `request`."""
        return MessageDecoder(self.provider, self.origin, request)


@attrs.frozen
class AnthropicTokenCount(AnthropicDialect):
    """The dialect that counts a conversation's tokens."""

    operation: ClassVar[str] = "token_count"

    def path(self, model: str, *, stream: bool) -> str:
        """Where requests go, after the base URL."""
        return "/v1/messages/count_tokens"

    def encode(self, request: TokenCountRequest, *, stream: bool, options: DialectOptions) -> JSON:
        """The body of a request: what of the conversation makes tokens.

        Raises:
            UnsupportedError: If the API has no words for something in it.
        """
        return count_body(
            request.conversation, options=options, provider=self.provider, origin=self.origin
        )

    def decode(self, body: bytes, request: object = None) -> tuple[Sequence[Event], Head]:
        """The events of a count.

        Raises:
            ProtocolError: If the bytes are none.
            LamellaError: The provider's own error, where the body is one.
        """
        answer = json_object(body, "an answer", provider=self.provider)
        tokens = count_of(answer, "input_tokens")
        if tokens is None:
            raise_in_band(answer, provider=self.provider)
            raise nonsense("an answer", "no count of tokens", provider=self.provider)
        return token_count_events(tokens), Head(raw=body)
