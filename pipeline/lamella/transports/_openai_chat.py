"""OpenAI's Chat Completions API, and what calls itself compatible with it."""

from __future__ import annotations

from typing import ClassVar

import attrs

from lamella._chat import ChatRequest
from lamella.transports._dialect import JSON, BaseDialect, DialectOptions
from lamella.transports._openai_chat_answer import ChatDecoder
from lamella.transports._openai_chat_request import chat_body


@attrs.frozen
class OpenAIChat(BaseDialect):
    """The chat dialect.

    Quirks that it understands, beside the fields of `DialectOptions`: `send_reasoning` (whether the
    endpoint takes its models' thinking back in `reasoning_field`; default False, as OpenAI refuses
    the field) and `cache_marks` (whether it takes marks for prompt caches as Anthropic spells them;
    default False).

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

    def decoder(self, request: ChatRequest) -> ChatDecoder:
        """A fresh reader for the stream that answers `request`."""
        return ChatDecoder(self.provider, request)
