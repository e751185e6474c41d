"""OpenAI's Embeddings API."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs

from lamella._embeddings import EmbeddingRequest
from lamella._errors import UnsupportedError
from lamella._events import Event, Vector
from lamella._responses import Head
from lamella._usage import Usage
from lamella.transports._dialect import JSON, BaseDialect, DialectOptions
from lamella.transports._openai_usage import usage_of
from lamella.transports._vectors import finite, numbers, vector_events
from lamella.transports._wire_json import (
    base64_of,
    json_object,
    nonsense,
    objects_of,
    raise_in_band,
    text_of,
)
from lamella.transports._wire_parts import merge_extra


@attrs.frozen
class OpenAIEmbeddings(BaseDialect):
    """The embeddings dialect.

    Quirks that it understands: `base64_embeddings` (whether the endpoint knows `encoding_format`;
    vectors then come as packed 32-bit floats, a third of the bytes and a tenth of the work; default
    False). Both forms are read, whatever was asked for.

    Attributes:
        provider: Whose answers these are; stands in errors.
    """

    operation: ClassVar[str] = "embeddings"
    api: ClassVar[str] = "embeddings"

    provider: str = "openai"

    def path(self, model: str, *, stream: bool) -> str:
        """Where requests go, after the base URL."""
        return "/embeddings"

    def encode(self, request: EmbeddingRequest, *, stream: bool, options: DialectOptions) -> JSON:
        """The body of a request. `request.extra` is merged last and wins over typed fields.

        Raises:
            UnsupportedError: If a stream is asked for: embeddings do not come in one.
        """
        if stream:
            raise UnsupportedError(
                "Embeddings are not streamed.",
                hint="Send the request unstreamed; its complete answer replays as a stream.",
                provider=self.provider,
            )
        body: JSON = {} if request.model is None else {"model": request.model}
        body["input"] = list(request.inputs)
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        if options.quirks.get("base64_embeddings", False):
            body["encoding_format"] = "base64"
        if options.send_user and request.context.user is not None:
            body["user"] = request.context.user
        if request.extra:
            merge_extra(body, request, provider=self.provider)
        return body

    def decode(
        self, body: bytes, request: EmbeddingRequest | None = None
    ) -> tuple[Sequence[Event], Head]:
        """The vectors in the order of the inputs, usage, and the end.

        Args:
            body: The answer.
            request: What was asked. With it, the number of vectors is checked, and usage that the
                provider left out is estimated.

        Raises:
            ProtocolError: If the bytes are no answer, or a vector is missing or said twice.
            LamellaError: The provider's own error, where the body is one.
        """
        answer = json_object(body, "an answer", provider=self.provider)
        raise_in_band(answer, provider=self.provider)
        usage = usage_of(answer.get("usage"))
        vectors = self._vectors(answer, usage)
        events = vector_events(vectors, request, usage, provider=self.provider)
        head = Head(model=text_of(answer, "model"), id=text_of(answer, "id"), raw=body)
        return events, head

    def _vectors(self, answer: Mapping[str, Any], usage: Usage | None) -> list[Vector]:
        entries = objects_of(answer, "data")
        found: dict[int, Vector] = {}
        for position, entry in enumerate(entries):
            index = entry.get("index", position)
            if isinstance(index, int):
                found[index] = Vector(index, self._values(entry.get("embedding"), usage))
        if not found or sorted(found) != list(range(len(entries))):
            what = "no vectors" if not entries else "vectors whose `index` is not 0, 1, 2 …"
            raise nonsense("an answer", what, provider=self.provider, usage=usage)
        return [found[index] for index in range(len(found))]

    def _values(self, given: Any, usage: Usage | None) -> tuple[float, ...]:
        if isinstance(given, str):
            return finite(self._unpacked(given), provider=self.provider, usage=usage)
        return numbers(given, provider=self.provider, usage=usage)

    def _unpacked(self, given: str) -> array[float]:
        """Little-endian 32-bit floats in base64."""
        packed = base64_of(given, provider=self.provider)
        floats = array("f", packed[: len(packed) - len(packed) % 4])
        if not floats or len(packed) % 4:
            raise nonsense("a vector", "no whole numbers of 32 bits", provider=self.provider)
        if sys.byteorder == "big":
            floats.byteswap()
        return floats
