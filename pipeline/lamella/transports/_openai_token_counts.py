"""OpenAI's token counts: how long the Responses API would find a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs

from lamella._events import Event
from lamella._responses import Head
from lamella._token_counts import TokenCountRequest, token_count_events
from lamella.transports._dialect import JSON, BaseDialect, DialectOptions
from lamella.transports._openai_responses import OpenAIResponses
from lamella.transports._openai_responses_request import responses_body
from lamella.transports._wire_json import count_of, json_object, nonsense, raise_in_band

_NOT_COUNTED = frozenset(
    {"background", "context_management", "include", "max_output_tokens", "max_tool_calls"}
    | {"metadata", "moderation", "prompt", "prompt_cache_key", "prompt_cache_options"}
    | {"prompt_cache_retention", "safety_identifier", "service_tier", "store", "stream"}
    | {"stream_options", "temperature", "top_logprobs", "top_p", "user"}
)
"""What the Responses API takes and its count refuses: none of it is read by the model."""


@attrs.frozen
class OpenAITokenCounts(BaseDialect):
    """The dialect of the operation `token_count`: `POST /responses/input_tokens`.

    The conversation is written as for the Responses API, whichever API answers chat requests. How
    it would be sampled and how long it may become is left out: it makes no difference to the count.

    Attributes:
        provider: Whose answers these are; stands in errors.
    """

    operation: ClassVar[str] = "token_count"
    api: ClassVar[str] = "responses"

    provider: str = "openai"

    def path(self, model: str, *, stream: bool) -> str:
        """Where requests go, after the base URL."""
        return "/responses/input_tokens"

    def encode(self, request: TokenCountRequest, *, stream: bool, options: DialectOptions) -> JSON:
        """The body of a request. `request.extra` is merged last and wins over typed fields.

        Raises:
            UnsupportedError: If the Responses API has no words for a part of the conversation.
        """
        chat = request.conversation.evolve(
            n=None,
            seed=None,
            stop=(),
            presence_penalty=None,
            frequency_penalty=None,
            logprobs=None,
            reasoning_effort=None,
        )
        origin = OpenAIResponses(self.provider).origin
        body = responses_body(
            chat, stream=False, options=options, provider=self.provider, origin=origin
        )
        return {name: value for name, value in body.items() if name not in _NOT_COUNTED}

    def decode(
        self, body: bytes, request: TokenCountRequest | None = None
    ) -> tuple[Sequence[Event], Head]:
        """The count, that it cost nothing, and the end.

        Raises:
            ProtocolError: If the bytes are no answer, or it says no whole number from 0 up.
            LamellaError: The provider's own error, where the body is one.
        """
        answer = json_object(body, "a token count", provider=self.provider)
        raise_in_band(answer, provider=self.provider)
        tokens = count_of(answer, "input_tokens")
        if tokens is None:
            found = "no whole number of tokens"
            raise nonsense("a token count", found, provider=self.provider)
        model = None if request is None else request.model
        return token_count_events(tokens), Head(model=model, raw=body)
