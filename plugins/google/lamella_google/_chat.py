"""Google's `generateContent` and `streamGenerateContent`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Final

import attrs

from lamella._chat import ChatRequest
from lamella._media_types import IMAGES
from lamella.transports._dialect import JSON, BaseDialect, DialectOptions, MessageReader
from lamella.transports._media_limits import MediaLimits
from lamella_google._chat_answer import GeminiDecoder
from lamella_google._chat_request import chat_body
from lamella_google._errors import google_status_error
from lamella_google._model_names import resource
from lamella_google._stream_reader import GoogleReader

if TYPE_CHECKING:
    from lamella._cards import ModelCard
    from lamella._errors import LamellaError


_LIMITS: Final = MediaLimits(
    image_types=IMAGES | {"image/heic", "image/heif"},
    images=3_600,
    request_bytes=100 * 1024 * 1024,
)
"""The newest and most generous bounds; models before them may take less."""


@attrs.frozen
class GoogleDialect(BaseDialect):
    """What Google's APIs have in common: names of models in addresses, and errors.

    Attributes:
        provider: Whose answers these are: it stands in errors and on provider-bound parts, which go
            back to nobody else.
        vertex: Whether it is Vertex AI, and not Google AI Studio.
    """

    provider: str = "google"
    vertex: bool = False

    def reader(self, max_message_bytes: int) -> MessageReader:
        """A fresh reader of server-sent events, and of errors that come without their framing."""
        return GoogleReader(max_message_bytes=max_message_bytes)

    def error(
        self, status: int, body: bytes, headers: Mapping[str, str], *, now: float
    ) -> LamellaError:
        """The error that status, body and details stand for; see `google_status_error`."""
        return google_status_error(status, body, headers, provider=self.provider, now=now)


@attrs.frozen
class GeminiChat(GoogleDialect):
    """The chat dialect.

    Quirk that it understands, beside the fields of `DialectOptions`: `thoughts` (whether summaries
    of the model's thoughts are asked for; None, the default, where a request states an effort).
    """

    operation: ClassVar[str] = "chat"
    api: ClassVar[str] = "chat"
    wants_card: ClassVar[bool] = True
    service_header: ClassVar[str] = "x-gemini-service-tier"

    def media_limits(self, card: ModelCard) -> MediaLimits:
        """As the guide "Image understanding" has them."""
        return _LIMITS

    def path(self, model: str, *, stream: bool) -> str:
        """Where requests go, after the API's version."""
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return f"/{resource(model, vertex=self.vertex)}:{method}"

    def encode(self, request: ChatRequest, *, stream: bool, options: DialectOptions) -> JSON:
        """The body of a request. `request.extra` is joined last and wins over typed fields.

        Raises:
            UnsupportedError: If the API has no words for something that is asked.
        """
        return chat_body(request, options, provider=self.provider, vertex=self.vertex)

    def decoder(self, request: ChatRequest) -> GeminiDecoder:
        """A fresh reader for the stream that answers `request`."""
        return GeminiDecoder(self.provider, request)
