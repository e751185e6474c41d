"""OpenAI's Responses API."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import attrs

from lamella._chat import ChatRequest
from lamella.transports._dialect import JSON, BaseDialect, DialectOptions
from lamella.transports._openai_caching import openai_caching
from lamella.transports._openai_limits import openai_limits
from lamella.transports._openai_responses_events import ResponsesDecoder
from lamella.transports._openai_responses_request import responses_body

if TYPE_CHECKING:
    from lamella._cards import ModelCard
    from lamella._prompt_caching import PromptCaching
    from lamella.transports._media_limits import MediaLimits


@attrs.frozen
class OpenAIResponses(BaseDialect):
    """The Responses dialect of the chat operation.

    Quirks that it understands, beside the fields of `DialectOptions`: `encrypted_reasoning`
    (whether to ask for reasoning in its encrypted form, so that it can go back with the next turn;
    by default where the request sets a `reasoning_effort`, as models that do not reason refuse it)
    and `cache_keys` (whether it takes `prompt_cache_key` and `prompt_cache_retention`; default
    False; `"known"` for models whose cards say that they have a prompt cache).

    Attributes:
        provider: Whose answers these are; stands in errors.
    """

    operation: ClassVar[str] = "chat"
    api: ClassVar[str] = "responses"

    provider: str = "openai"

    @property
    def origin(self) -> str:
        """The mark on parts that only this API of this provider understands."""
        return f"{self.provider}-responses"

    def path(self, model: str, *, stream: bool) -> str:
        """Where requests go, after the base URL."""
        return "/responses"

    def encode(self, request: ChatRequest, *, stream: bool, options: DialectOptions) -> JSON:
        """The body of a request. `request.extra` is merged last and wins over typed fields.

        Raises:
            UnsupportedError: If the API has no words for something that is asked.
        """
        return responses_body(
            request, stream=stream, options=options, provider=self.provider, origin=self.origin
        )

    def media_limits(self, card: ModelCard) -> MediaLimits | None:
        """OpenAI's own; of other providers' models nobody says."""
        return openai_limits(card)

    def prompt_caching(
        self, model: str, *, options: DialectOptions, card: ModelCard | None
    ) -> PromptCaching | None:
        """A key, where the endpoint's quirks say so."""
        return openai_caching(options, card, marks=False)

    def decoder(self, request: ChatRequest) -> ResponsesDecoder:
        """A fresh reader for the stream that answers `request`."""
        return ResponsesDecoder(self.provider, self.origin, request)
