"""Ollama's embeddings: `/api/embed`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NoReturn

import attrs

from lamella._embeddings import EmbeddingRequest
from lamella._errors import UnsupportedError
from lamella._events import Event, Vector
from lamella._responses import Head
from lamella._usage import Usage
from lamella.transports._dialect import JSON, DialectOptions
from lamella.transports._vectors import numbers, vector_events
from lamella.transports._wire_json import is_list, json_object, nonsense, raise_in_band, text_of
from lamella_ollama._chat import OllamaDialect
from lamella_ollama._defaults import merge_own
from lamella_ollama._usage import Spent
from lamella_ollama._window import note_cut

_FIELDS = ("keep_alive", "truncate")


@attrs.frozen
class OllamaEmbeddings(OllamaDialect):
    """The embeddings dialect."""

    operation: ClassVar[str] = "embeddings"
    api: ClassVar[str] = "embeddings"

    def path(self, model: str, *, stream: bool) -> str:
        """Where requests go, after the base URL."""
        return "/api/embed"

    def encode(self, request: EmbeddingRequest, *, stream: bool, options: DialectOptions) -> JSON:
        """The body of a request. `request.extra` is merged last and wins over typed fields.

        Raises:
            UnsupportedError: If a stream is asked for: embeddings do not come in one.
        """
        if stream:
            self._not_streamed()
        defaults = self.defaults
        body: JSON = {"model": request.model, "input": list(request.inputs)}
        body.update({name: defaults.fields[name] for name in _FIELDS if name in defaults.fields})
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        if defaults.options:
            body["options"] = dict(defaults.options)
        if request.extra:
            merge_own(body, request, provider=self.provider)
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
            raise_in_band({"error": answer["error"]}, provider=self.provider)
        spent = Spent()
        spent.state(answer)
        usage = spent.stated()
        vectors = self._vectors(answer, usage)
        events = vector_events(vectors, request, usage, provider=self.provider)
        if request is not None:
            note_cut(request, self.defaults.window(request), spent.prompt, provider=self.provider)
        return events, Head(model=text_of(answer, "model"), raw=body)

    def _vectors(self, answer: Mapping[str, Any], usage: Usage | None) -> list[Vector]:
        given = answer.get("embeddings")
        if not is_list(given):
            raise nonsense("an answer", "no vectors", provider=self.provider, usage=usage)
        return [
            Vector(index, numbers(each, provider=self.provider, usage=usage))
            for index, each in enumerate(given)
        ]

    def _not_streamed(self) -> NoReturn:
        raise UnsupportedError(
            "Embeddings are not streamed.",
            hint="Send the request unstreamed; its complete answer replays as a stream.",
            provider=self.provider,
        )
