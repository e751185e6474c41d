"""Google's `countTokens`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import attrs

from lamella._events import Event
from lamella._responses import Head
from lamella._token_counts import TokenCountRequest, token_count_events
from lamella.transports._dialect import JSON, DialectOptions
from lamella.transports._wire_json import count_of, json_object, mapping_of, nonsense
from lamella_google._chat import GoogleDialect
from lamella_google._chat_request import chat_body
from lamella_google._errors import google_in_band_error
from lamella_google._model_names import resource

_NOT_COUNTED: Final = ("toolConfig", "safetySettings", "serviceTier", "labels")
"""What Vertex AI's `countTokens` does not take, and what has no tokens."""


@attrs.frozen
class GeminiTokenCount(GoogleDialect):
    """Counts a conversation as it would be sent: instructions, tools, pictures and all."""

    operation: ClassVar[str] = "token_count"
    api: ClassVar[str] = "chat"
    wants_card: ClassVar[bool] = True

    def path(self, model: str, *, stream: bool) -> str:
        """Where requests go, after the API's version."""
        return f"/{resource(model, vertex=self.vertex)}:countTokens"

    def encode(self, request: TokenCountRequest, *, stream: bool, options: DialectOptions) -> JSON:
        """The body of a request.

        Raises:
            UnsupportedError: If the API has no words for something that is counted.
        """
        chat = request.conversation
        options = attrs.evolve(options, quirks={**options.quirks, "thoughts": False})
        body = chat_body(chat, options, provider=self.provider, vertex=self.vertex)
        if self.vertex:
            return {name: value for name, value in body.items() if name not in _NOT_COUNTED}
        if body.keys() == {"contents"}:
            return body
        model = resource(chat.model or "", vertex=False)
        return {"generateContentRequest": {"model": model, **body}}

    def decode(
        self, body: bytes, request: TokenCountRequest | None = None
    ) -> tuple[Sequence[Event], Head]:
        """The count.

        Raises:
            ProtocolError: If the bytes are no count.
            LamellaError: The provider's own error, where the body is one.
        """
        answer = json_object(body, "a count of tokens", provider=self.provider)
        if answer.get("error"):
            raise google_in_band_error(mapping_of(answer, "error"), provider=self.provider)
        total = count_of(answer, "totalTokens")
        if total is None:
            raise nonsense("a count of tokens", "no number", provider=self.provider)
        return token_count_events(total), Head(raw=body)
