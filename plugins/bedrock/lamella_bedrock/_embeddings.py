"""Embeddings on Bedrock, through InvokeModel: each vendor has a body of its own.

Titan and Nova take one text in a request, Cohere 96; how a larger request is divided is
`pieces_of`'s to say, and the transport's to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import attrs

from lamella._embeddings import EmbeddingRequest
from lamella._errors import UnsupportedError
from lamella._events import Event, Vector
from lamella._responses import Head
from lamella._usage import Usage
from lamella.transports._dialect import JSON, DialectOptions
from lamella.transports._vectors import numbers, vector_events
from lamella.transports._wire_json import (
    is_list,
    is_object,
    json_object,
    mapping_of,
    nonsense,
    objects_of,
    text_of,
)
from lamella.transports._wire_parts import merge_extra
from lamella_bedrock._converse import BedrockDialect
from lamella_bedrock._errors import raise_exception
from lamella_bedrock._models import quoted

INPUT_TYPE: Final = "search_document"
"""What Cohere is told that texts are for, where `extra["input_type"]` says nothing."""

PURPOSE: Final = "GENERIC_INDEX"
"""What Nova is told that texts are for, where `extra` says nothing."""

_COUNT: Final = "x-amzn-bedrock-input-token-count"
_KINDS: Final = ("float", "int8", "uint8", "binary", "ubinary")


@attrs.frozen
class BedrockEmbeddings(BedrockDialect):
    """The embeddings dialect: Titan 1 and 2, Nova, and Cohere 3 and 4."""

    operation: ClassVar[str] = "embeddings"
    api: ClassVar[str] = "embeddings"

    def path(self, model: str, *, stream: bool) -> str:
        """Where requests go, after the host."""
        return f"/model/{quoted(model)}/invoke"

    def encode(self, request: EmbeddingRequest, *, stream: bool, options: DialectOptions) -> JSON:
        """The body of a request. `request.extra` is merged last and wins over typed fields.

        Raises:
            UnsupportedError: If it is of no vendor whose embeddings are known, or asks for what
                the model does not have.
        """
        base = self.names.base(request.model or "")
        if base.startswith("cohere.embed"):
            body = self._cohere(request, base)
        elif base.startswith("amazon.titan-embed"):
            body = self._titan(request, base)
        elif base.startswith("amazon.nova") and "embed" in base:
            body = self._nova(request)
        else:
            raise UnsupportedError(
                f"{request.model!r} is no embedding model that {self.provider!r} knows.",
                hint="It knows amazon.titan-embed-*, amazon.nova-*-embeddings and cohere.embed-*; "
                "say what is behind an ARN with BedrockOptions(base_models=...).",
                code="unsupported_value",
                provider=self.provider,
            )
        if request.extra:
            merge_extra(body, request, provider=self.provider)
        return body

    def decode(
        self, body: bytes, request: EmbeddingRequest | None = None
    ) -> tuple[Sequence[Event], Head]:
        """As `decode_reply`, without headers."""
        return self.decode_reply(body, {}, request)

    def decode_reply(
        self, body: bytes, headers: Mapping[str, str], request: EmbeddingRequest | None = None
    ) -> tuple[Sequence[Event], Head]:
        """The vectors in the order of the inputs, usage, and the end.

        Args:
            body: The answer.
            headers: Where most models' usage stands.
            request: What was asked. With it, the number of vectors is checked, and usage that
                nobody states is estimated.

        Raises:
            ProtocolError: If the bytes are no answer, or vectors are missing.
            LamellaError: The provider's own error, where the body is one.
        """
        answer = json_object(body, "an answer", provider=self.provider)
        given = _vectors(answer)
        if not given:
            raise_exception(answer, provider=self.provider)
            raise nonsense("an answer", "no vectors", provider=self.provider)
        usage = _usage(answer, headers)
        vectors = [
            Vector(index, numbers(one, provider=self.provider, usage=usage))
            for index, one in enumerate(given)
        ]
        events = vector_events(vectors, request, usage, provider=self.provider)
        return events, Head(id=text_of(answer, "id"), raw=body)

    def _titan(self, request: EmbeddingRequest, base: str) -> JSON:
        body: JSON = {"inputText": self._only(request)}
        if request.dimensions is not None:
            if "embed-image" in base:
                body["embeddingConfig"] = {"outputEmbeddingLength": request.dimensions}
            elif "text-v2" in base:
                body["dimensions"] = request.dimensions
            else:
                raise self._fixed(request)
        return body

    def _nova(self, request: EmbeddingRequest) -> JSON:
        params: JSON = {
            "embeddingPurpose": PURPOSE,
            "text": {"truncationMode": "NONE", "value": self._only(request)},
        }
        if request.dimensions is not None:
            params["embeddingDimension"] = request.dimensions
        return {"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": params}

    def _cohere(self, request: EmbeddingRequest, base: str) -> JSON:
        body: JSON = {"texts": list(request.inputs), "input_type": INPUT_TYPE}
        if request.dimensions is not None:
            if "v3" in base:
                raise self._fixed(request)
            body["output_dimension"] = request.dimensions
        return body

    def _only(self, request: EmbeddingRequest) -> str:
        if len(request.inputs) == 1:
            return request.inputs[0]
        raise UnsupportedError(
            f"{request.model!r} embeds one text at a time, not {len(request.inputs)}.",
            hint="The transport divides requests by itself; so does request.split().",
            provider=self.provider,
        )

    def _fixed(self, request: EmbeddingRequest) -> UnsupportedError:
        return UnsupportedError(
            f"The vectors of {request.model!r} have one length only.",
            hint="Leave `dimensions` out, or use a newer model (titan-embed-text-v2, embed-v4).",
            code="unsupported_parameter",
            provider=self.provider,
        )


def _vectors(answer: Mapping[str, Any]) -> Sequence[Any]:
    """What stands for vectors, in any of the shapes: one, a list, or a list for each type."""
    if "embedding" in answer:
        return [answer["embedding"]]
    by_type = mapping_of(answer, "embeddingsByType")  # Titan 2, where types were asked for
    for kind in _KINDS:
        if kind in by_type:
            return [by_type[kind]]
    found: Any = answer.get("embeddings")
    if is_object(found):
        return next((found[kind] for kind in _KINDS if is_list(found.get(kind))), ())
    entries = objects_of(answer, "embeddings")  # Nova
    if entries:
        return [entry.get("embedding") for entry in entries]
    return found if is_list(found) else ()


def _usage(answer: Mapping[str, Any], headers: Mapping[str, str]) -> Usage | None:
    """The tokens that the body or the headers state; None if neither does."""
    count = answer.get("inputTextTokenCount")
    if not isinstance(count, int) or isinstance(count, bool):
        stated = headers.get(_COUNT, "").strip()
        count = int(stated) if stated.isascii() and stated.isdigit() and len(stated) < 16 else None
    return None if count is None or count < 0 else Usage(uncached_input=count)
