"""Google's embeddings: three methods of two APIs, by the model.

Google AI Studio has `batchEmbedContents`. On Vertex AI, Gemini models have a method of that name
with other fields, hosted open models (`...-maas`) have `embedContent` for one text, and all others
`predict`. Which of them a model has is decided by its name, as Google's own SDK does it.
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
    json_object,
    mapping_of,
    nonsense,
    objects_of,
    text_of,
)
from lamella_google._chat import GoogleDialect
from lamella_google._chat_request import merge_extra
from lamella_google._errors import google_in_band_error
from lamella_google._model_names import resource
from lamella_google._usage import usage_of

_OF_EACH_TEXT: Final = ("taskType", "title")
_OF_ALL: Final = ("autoTruncate",)
_OF_GEMINI: Final = (*_OF_EACH_TEXT, *_OF_ALL, "documentOcr", "audioTrackExtraction")


@attrs.frozen
class GeminiEmbeddings(GoogleDialect):
    """The embeddings dialect.

    `extra` may hold `taskType` (`RETRIEVAL_QUERY`, `RETRIEVAL_DOCUMENT` ...), `title` and, on
    Vertex AI, `autoTruncate`; they go to where each method wants them.
    """

    operation: ClassVar[str] = "embeddings"
    api: ClassVar[str] = "embeddings"

    def path(self, model: str, *, stream: bool) -> str:
        """Where requests go, after the API's version."""
        return f"/{resource(model, vertex=self.vertex)}:{self._method(model)}"

    def encode(self, request: EmbeddingRequest, *, stream: bool, options: DialectOptions) -> JSON:
        """The body of a request.

        Raises:
            UnsupportedError: If a stream is asked for, or the model takes one text at a time.
        """
        if stream:
            raise UnsupportedError(
                "Embeddings are not streamed.",
                hint="Send the request unstreamed; its complete answer replays as a stream.",
                provider=self.provider,
            )
        model = request.model or ""
        given, sized = dict(request.extra), request.dimensions
        if not self.vertex:
            body = _gemini_body(request.inputs, resource(model, vertex=False), sized, given)
        elif self._method(model) == "predict":
            body = _predict_body(request.inputs, sized, given)
        else:
            body = self._vertex_body(request, sized, given)
        merge_extra(body, given, provider=self.provider)
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
            ProtocolError: If the bytes are no answer, or a vector is missing.
            LamellaError: The provider's own error, where the body is one.
        """
        answer = json_object(body, "an answer", provider=self.provider)
        if answer.get("error"):
            raise google_in_band_error(mapping_of(answer, "error"), provider=self.provider)
        entries = _entries(answer)
        usage = usage_of(answer.get("usageMetadata")) or _counted(entries)
        if not entries:
            raise nonsense("an answer", "no vectors", provider=self.provider, usage=usage)
        vectors = [
            Vector(index, numbers(entry.get("values"), provider=self.provider, usage=usage))
            for index, entry in enumerate(entries)
        ]
        events = vector_events(vectors, request, usage, provider=self.provider)
        head = Head(model=text_of(answer, "modelVersion"), raw=body)
        return events, head

    def _method(self, model: str) -> str:
        name = model.rpartition("/")[2]
        if self.vertex and "maas" in name:
            return "embedContent"
        return "batchEmbedContents" if not self.vertex or "gemini" in name else "predict"

    def _vertex_body(
        self, request: EmbeddingRequest, dimensions: int | None, given: dict[str, Any]
    ) -> JSON:
        config = _taken(given, _OF_GEMINI)
        if dimensions is not None:
            config["outputDimensionality"] = dimensions
        asked: JSON = {"embedContentConfig": config} if config else {}
        each: list[JSON] = [{"content": _content(text), **asked} for text in request.inputs]
        if self._method(request.model or "") == "batchEmbedContents":
            return {"requests": each}
        if len(each) > 1:
            raise UnsupportedError(
                f"The model {request.model!r} embeds one text at a time.",
                hint="Send the pieces of `request.split()`, and join their answers with `merge`.",
                code="unsupported_value",
                provider=self.provider,
            )
        return each[0]


def _content(text: str) -> JSON:
    return {"parts": [{"text": text}]}


def _gemini_body(
    inputs: Sequence[str], model: str, dimensions: int | None, given: dict[str, Any]
) -> JSON:
    asked = _taken(given, _OF_EACH_TEXT)
    if dimensions is not None:
        asked["outputDimensionality"] = dimensions
    return {"requests": [{"model": model, "content": _content(text), **asked} for text in inputs]}


def _predict_body(inputs: Sequence[str], dimensions: int | None, given: dict[str, Any]) -> JSON:
    each = _taken(given, _OF_EACH_TEXT)
    if "taskType" in each:
        each["task_type"] = each.pop("taskType")
    parameters = _taken(given, _OF_ALL)
    if dimensions is not None:
        parameters["outputDimensionality"] = dimensions
    body: JSON = {"instances": [{"content": text, **each} for text in inputs]}
    return {**body, "parameters": parameters} if parameters else body


def _taken(given: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Fields of `extra` that have a place of their own, taken out of it."""
    return {name: given.pop(name) for name in names if name in given}


def _entries(answer: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The vectors, wherever the method puts them."""
    if "predictions" in answer:
        return [mapping_of(each, "embeddings") for each in objects_of(answer, "predictions")]
    if "embedding" in answer:
        return [mapping_of(answer, "embedding")]
    return objects_of(answer, "embeddings")


def _counted(entries: Sequence[Mapping[str, Any]]) -> Usage | None:
    """What the statistics of each vector add up to; None if not all have them."""
    total = 0
    for entry in entries:
        statistics = mapping_of(entry, "statistics")
        count = statistics.get("token_count", statistics.get("tokenCount"))
        if isinstance(count, bool) or not isinstance(count, int | float) or not 0 <= count < 1e12:
            return None
        total += int(count)
    return Usage(uncached_input=total) if entries else None
