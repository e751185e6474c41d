"""Questions at known angles, an embedder that knows them, and a store as on a disk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lamella import (
    BlobStore,
    ChatRequest,
    Context,
    EmbeddingRequest,
    EmbeddingResponse,
    Finish,
    Money,
    Pipeline,
    Ports,
    Response,
    Usage,
    UsageReport,
)
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.cost import Cost
from lamella_middlewares.semantic_cache import SemanticCache

USAGE = Usage(uncached_input=5, text_output=4)
ANSWER: list[Any] = ["Press ", "the ", "button.", UsageReport(USAGE), Finish("stop")]
PRICES = {"m": {"input": "0", "output": "1000000"}, "e": {"input": "0", "output": "0"}}
PRICE = Money(4_000_000_000)

RESET, AGAIN, OTHER = "How do I reset it?", "How can I reset it?", "Why is the sky blue?"


class Angles:
    """An embedder that turns texts into directions: those that are named, and 90° for the rest.

    Attributes:
        asked: The texts that it was asked for.
        fault: What happens instead of an answer: an error to raise, or a function.
    """

    name = "angles"

    def __init__(self, degrees: Mapping[str, float] | None = None) -> None:
        self.degrees = {RESET: 0.0, AGAIN: 10.0} if degrees is None else dict(degrees)
        self.asked: list[str] = []
        self.requests: list[EmbeddingRequest] = []
        self.fault: Any = None

    async def __call__(self, request: EmbeddingRequest) -> EmbeddingResponse:
        self.requests.append(request)
        self.asked += request.inputs
        if isinstance(self.fault, Exception):
            raise self.fault
        if self.fault is not None:
            found: EmbeddingResponse = await self.fault(request)
            return found
        angles = [math.radians(self.degrees.get(text, 90.0)) for text in request.inputs]
        vectors = [[math.cos(angle), math.sin(angle)] for angle in angles]
        return EmbeddingResponse.of(vectors, usage=Usage(uncached_input=3), model="e")


class OnDisk:
    """A store that outlives a process: each of these is one process's view of the same."""

    def __init__(self, inner: BlobStore) -> None:
        self.inner = inner
        self.listed = 0
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name in {"instant", "inner"}:
            raise AttributeError(name)
        found: Any = getattr(self.inner, name)
        if not hasattr(found, "__call__"):  # noqa: B004 - `callable` would take its type away
            return found

        async def ask(*args: Any, **more: Any) -> Any:
            self.asked.append(name)
            return await found(*args, **more)

        return ask

    async def purge(self, *, prefix: str = "", tag: str | None = None) -> int:
        return await self.inner.purge(prefix=prefix, tag=tag)


class World:
    """A pipeline with the layer, its embedder and its provider."""

    def __init__(
        self,
        *script: Any,
        outer: Any = (),
        inner: Any = (),
        ports: Ports | None = None,
        degrees: Mapping[str, float] | None = None,
        delay: float = 0.0,
        **options: Any,
    ) -> None:
        self.embedder = Angles(degrees)
        self.transport = Scripted(script or [ANSWER], repeat=True, delay=delay)
        self.options = {"threshold": 0.9, "tenant": "shared", **options}
        self.embedding = Pipeline([Cost(PRICES, unknown="note")], self.embedder, name="angles")
        self.layer = SemanticCache(self.embedding, **self.options)
        layers = [*outer, self.layer, *inner, Cost(PRICES, unknown="note")]
        self.pipeline = Pipeline(layers, self.transport, ports=ports or virtual_ports())

    async def ask(self, text: Any = RESET, **fields: Any) -> Any:
        """The answer to a question, not streamed."""
        return await self.pipeline.run(asked(text, **fields))

    async def stream(self, text: Any = RESET, **fields: Any) -> Any:
        """The same, streamed."""
        async with self.pipeline.stream(asked(text, **fields)) as response:
            return await response.collect()

    @property
    def calls(self) -> int:
        """How often the provider was asked."""
        return len(self.transport.requests)


def asked(text: Any = RESET, *, said: Any = None, **fields: Any) -> ChatRequest:
    """A request that is the same each time; `said` is what it says to the layer."""
    context = fields.pop("context", None) or Context(
        attributes={} if said is None else {"semantic_cache": said},
        **{name: fields.pop(name) for name in ("tenant", "user", "deadline") if name in fields},
    )
    return ChatRequest.of(text, **{"model": "m", "temperature": 0, "context": context, **fields})


def noted(response: Response, name: str) -> list[Any]:
    """The fields of the notes of that name."""
    found = [note for note in response.trace.notes if note.name == f"semantic_cache.{name}"]
    return [dict(note.fields) for note in found]


def why(response: Response, name: str = "miss") -> Any:
    """Why there was a miss, or what else the note says."""
    [fields] = noted(response, name)
    return fields["why"]
