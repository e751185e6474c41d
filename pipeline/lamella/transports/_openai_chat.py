"""OpenAI's Chat Completions API, and what calls itself compatible with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import attrs

from lamella._chat import ChatRequest
from lamella.transports._dialect import JSON, BaseDialect, DialectOptions
from lamella.transports._openai_caching import openai_caching
from lamella.transports._openai_chat_answer import ChatDecoder
from lamella.transports._openai_chat_plain import plain_answer
from lamella.transports._openai_chat_request import chat_body
from lamella.transports._openai_limits import openai_limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella._cards import ModelCard
    from lamella._events import Event
    from lamella._prompt_caching import PromptCaching
    from lamella._responses import Head
    from lamella.transports._media_limits import MediaLimits


@attrs.frozen
class OpenAIChat(BaseDialect):
    """The chat dialect.

    Quirks that it understands, beside the fields of `DialectOptions`: `send_reasoning` (whether the
    endpoint takes its models' thinking back in `reasoning_field`; default False, as OpenAI refuses
    the field), `cache_marks` (whether it takes marks for prompt caches as Anthropic spells them;
    default False) and `cache_keys` (whether it takes `prompt_cache_key` and
    `prompt_cache_retention`; default False, as strict servers refuse them; `"known"` for models
    whose cards say that they have a prompt cache).

    Attributes:
        provider: Whose answers these are: it stands in errors and on provider-bound parts, which go
            back to nobody else.
    """

    operation: ClassVar[str] = "chat"
    api: ClassVar[str] = "chat"

    provider: str = "openai"

    def path(self, model: str, *, stream: bool) -> str:
        """Where requests go, after the base URL."""
        return "/chat/completions"

    def encode(self, request: ChatRequest, *, stream: bool, options: DialectOptions) -> JSON:
        """The body of a request. `request.extra` is merged last and wins over typed fields.

        Raises:
            UnsupportedError: If the API has no words for something that is asked.
        """
        return chat_body(request, stream=stream, options=options, provider=self.provider)

    def media_limits(self, card: ModelCard) -> MediaLimits | None:
        """OpenAI's own; of other providers' models nobody says."""
        return openai_limits(card)

    def prompt_caching(
        self, model: str, *, options: DialectOptions, card: ModelCard | None
    ) -> PromptCaching | None:
        """Marks, or a key, where the endpoint's quirks say so."""
        return openai_caching(options, card, marks=True)

    def decode(
        self, body: bytes, request: ChatRequest | None = None
    ) -> tuple[Sequence[Event], Head]:
        """The events of a complete answer; see `BaseDialect.decode`."""
        return plain_answer(body) or super().decode(body, request)

    def decoder(self, request: ChatRequest) -> ChatDecoder:
        """A fresh reader for the stream that answers `request`."""
        return ChatDecoder(self.provider, request)
