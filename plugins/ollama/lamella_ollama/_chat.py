"""Ollama's chat: `/api/chat`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import attrs

from lamella._chat import ChatRequest
from lamella._errors import LamellaError, NotFoundError
from lamella.transports._dialect import JSON, BaseDialect, DialectOptions
from lamella_ollama._answer import ChatDecoder
from lamella_ollama._defaults import NO_DEFAULTS, ORIGIN, Defaults
from lamella_ollama._lines import LineReader
from lamella_ollama._request import chat_body

_NOT_THERE = "Pull the model first (`ollama pull NAME`), and check its name and the address."


@attrs.frozen
class OllamaDialect(BaseDialect):
    """What both operations share.

    Attributes:
        provider: Whose answers these are: it stands in errors and notes.
        defaults: What goes with every request.
    """

    stream_type: ClassVar[str] = "application/x-ndjson"

    provider: str = ORIGIN
    defaults: Defaults = NO_DEFAULTS

    def reader(self, max_message_bytes: int) -> LineReader:
        """A fresh reader of lines."""
        return LineReader(max_message_bytes=max_message_bytes)

    def error(
        self, status: int, body: bytes, headers: Mapping[str, str], *, now: float
    ) -> LamellaError:
        """The error that status and words stand for; a model that is not there can be pulled."""
        error = super().error(status, body, headers, now=now)
        return error.copy(hint=_NOT_THERE) if isinstance(error, NotFoundError) else error


@attrs.frozen
class OllamaChat(OllamaDialect):
    """The chat dialect."""

    operation: ClassVar[str] = "chat"
    api: ClassVar[str] = "chat"

    def path(self, model: str, *, stream: bool) -> str:
        """Where requests go, after the base URL."""
        return "/api/chat"

    def encode(self, request: ChatRequest, *, stream: bool, options: DialectOptions) -> JSON:
        """The body of a request. `request.extra` is merged last and wins over typed fields.

        Raises:
            UnsupportedError: If the API has no words for something that is asked.
        """
        return chat_body(
            request,
            stream=stream,
            options=options,
            provider=self.provider,
            defaults=self.defaults,
        )

    def decoder(self, request: ChatRequest | None) -> ChatDecoder:
        """A fresh reader for the stream that answers `request`."""
        return ChatDecoder(self.provider, request, self.defaults.window(request))
