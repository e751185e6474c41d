"""Bedrock's Converse API, streamed and not, and its count of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import attrs

from lamella._chat import ChatRequest
from lamella._errors import LamellaError
from lamella._events import Event
from lamella._responses import Head
from lamella._token_counts import TokenCountRequest, token_count_events
from lamella.transports._dialect import JSON, BaseDialect, DialectOptions
from lamella.transports._wire_json import count_of, json_object, nonsense
from lamella_bedrock._answer import ConverseDecoder
from lamella_bedrock._caching import point_caching
from lamella_bedrock._errors import http_error, raise_exception
from lamella_bedrock._frames import EventStreamReader
from lamella_bedrock._models import ModelNames, quoted
from lamella_bedrock._request import converse_body, counted_body

if TYPE_CHECKING:
    from lamella._cards import ModelCard
    from lamella._prompt_caching import PromptCaching
    from lamella.transports._dialect import MessageReader

EVENT_STREAM = "application/vnd.amazon.eventstream"


@attrs.frozen
class BedrockDialect(BaseDialect):
    """What Bedrock's operations have in common: exceptions and framing.

    Attributes:
        provider: Whose answers these are: it stands in errors and on provider-bound parts, which go
            back to nobody else.
        names: Reads the ids of models.
    """

    stream_type: ClassVar[str] = EVENT_STREAM

    provider: str = "bedrock"
    names: ModelNames = ModelNames()

    def reader(self, max_message_bytes: int) -> MessageReader:
        """A fresh reader of AWS's event stream."""
        return EventStreamReader(max_message_bytes, self.provider)

    def error(
        self, status: int, body: bytes, headers: Mapping[str, str], *, now: float
    ) -> LamellaError:
        """The error that an exception stands for."""
        return http_error(status, body, headers, provider=self.provider, now=now)


@attrs.frozen
class Converse(BedrockDialect):
    """The chat dialect."""

    operation: ClassVar[str] = "chat"
    api: ClassVar[str] = "chat"
    wants_card: ClassVar[bool] = True

    def path(self, model: str, *, stream: bool) -> str:
        """Where requests go, after the host."""
        return f"/model/{quoted(model)}/{'converse-stream' if stream else 'converse'}"

    def encode(self, request: ChatRequest, *, stream: bool, options: DialectOptions) -> JSON:
        """The body of a request. `request.extra` is merged last and wins over typed fields.

        Raises:
            UnsupportedError: If the API has no words for something that is asked.
        """
        return converse_body(request, options=options, provider=self.provider, names=self.names)

    def prompt_caching(
        self, model: str, *, options: DialectOptions, card: ModelCard | None
    ) -> PromptCaching | None:
        """Cache points, for the models that have a cache."""
        return point_caching(self.names.family(model), card)

    def decoder(self, request: ChatRequest | None) -> ConverseDecoder:
        """A fresh reader for the stream that answers `request`."""
        family = "" if request is None else self.names.family(request.model)
        return ConverseDecoder(self.provider, family, request)


@attrs.frozen
class CountTokens(BedrockDialect):
    """The dialect of counts. It knows the vendor's models only, and no inference profiles."""

    operation: ClassVar[str] = "token_count"
    api: ClassVar[str] = "chat"
    wants_card: ClassVar[bool] = True

    def path(self, model: str, *, stream: bool) -> str:
        """Where requests go, after the host."""
        return f"/model/{quoted(self.names.base(model))}/count-tokens"

    def encode(self, request: TokenCountRequest, *, stream: bool, options: DialectOptions) -> JSON:
        """The body of a request.

        Raises:
            UnsupportedError: If the API has no words for something that is asked.
        """
        chat = request.conversation
        return counted_body(chat, options=options, provider=self.provider, names=self.names)

    def decode(
        self, body: bytes, request: TokenCountRequest | None = None
    ) -> tuple[Sequence[Event], Head]:
        """The events of a count.

        Raises:
            ProtocolError: If the bytes are no count.
            LamellaError: The provider's own error, where the body is one.
        """
        answer = json_object(body, "an answer", provider=self.provider)
        count = count_of(answer, "inputTokens")
        if count is None:
            raise_exception(answer, provider=self.provider)
            raise nonsense("an answer", "no count of tokens", provider=self.provider)
        return token_count_events(count), Head(raw=body)
