"""Requests that a cache keeps the answers of, and pipelines that have one."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel

from lamella import (
    Blob,
    BlobPage,
    ChatRequest,
    Context,
    EmbeddingRequest,
    EmbeddingResponse,
    Finish,
    Money,
    Pipeline,
    Ports,
    Request,
    Response,
    Usage,
    UsageReport,
)
from lamella.testing import Item, Scripted, virtual_ports
from lamella_middlewares.cache import Cache
from lamella_middlewares.cost import Cost

ASK = ChatRequest.of("Is it up?", model="m", temperature=0, context=Context(tenant="acme"))
END: list[Item] = [UsageReport(Usage(text_output=4)), Finish("stop")]
ANSWER: list[Item] = ["It ", "is ", "up.", *END]
PRICES = {"m": {"input": "0", "output": "1000000"}, "e": {"input": "1000000", "output": "0"}}
PRICE = Money(4_000_000_000)


def stack(
    *script: Any, cache: Cache | None = None, layers: Any = None, ports: Ports | None = None,
    **more: Any,
) -> tuple[Pipeline, Scripted]:  # fmt: skip
    """A pipeline with the layer, and prices, around a script that begins again at its end."""
    transport = Scripted(script or [ANSWER], repeat=True, **more)
    layers = [cache or Cache(), Cost(PRICES, unknown="note")] if layers is None else layers
    return Pipeline(layers, transport, ports=ports or virtual_ports()), transport


def by(request: Any = ASK, **fields: Any) -> Any:
    """A request with other facts about who asks."""
    return request.evolve(context=request.context.evolve(**fields))


def saying(said: Any, request: Any = ASK) -> Any:
    """A request that says something about its being cached."""
    return by(request, attributes={"cache": said})


async def streamed(pipeline: Pipeline, request: Request[Any] = ASK) -> Any:
    """The complete response of a streamed call."""
    async with pipeline.stream(request) as response:
        return await response.collect()


async def called(pipeline: Pipeline, stream: bool, request: Request[Any] = ASK) -> Any:
    """The complete response of a call, either way."""
    return await (streamed(pipeline, request) if stream else pipeline.run(request))


def notes(response: Response, name: str) -> list[dict[str, Any]]:
    """The fields of the notes of that name."""
    return [dict(note.fields) for note in response.trace.notes if note.name == f"cache.{name}"]


def names(response: Response) -> list[str]:
    """What the cache has noted, without the fields."""
    return [note.name.partition(".")[2] for note in response.trace.notes if note.layer == "cache"]


def embed(request: EmbeddingRequest) -> EmbeddingResponse:
    """Vectors that tell what they are of, and 10 tokens for each text."""
    vectors = [[float(len(text)), float(sum(map(ord, text)))] for text in request.inputs]
    return EmbeddingResponse.of(vectors, usage=Usage(uncached_input=10 * len(vectors)), model="e-1")


def texts(*inputs: str, **fields: Any) -> EmbeddingRequest:
    """A request to embed texts."""
    return EmbeddingRequest.of(inputs, model="e", context=Context(tenant="acme", **fields))


class Unreliable:
    """A store elsewhere, which does what it is told to and counts what it is asked.

    Args:
        inner: Where things are kept.
    """

    def __init__(self, inner: Any, *, shared: bool = False) -> None:
        self.inner = inner
        self.shared = shared
        self.asked: list[str] = []
        self.failing: BaseException | type[BaseException] | None = None
        self.hanging = False
        self.closed = 0

    async def _answer(self, name: str, *args: Any, **options: Any) -> Any:
        self.asked.append(name)
        if self.hanging:
            await anyio.sleep_forever()
        await anyio.lowlevel.checkpoint()
        if self.failing is not None:
            raise self.failing
        return await getattr(self.inner, name)(*args, **options)

    async def get(self, key: str) -> Blob | None:
        """See `BlobStore`."""
        return await self._answer("get", key)  # type: ignore[no-any-return]

    async def get_many(self, keys: Any) -> Any:
        """See `BlobStore`."""
        return await self._answer("get_many", keys)

    async def put(self, key: str, data: bytes, **options: Any) -> None:
        """See `BlobStore`."""
        await self._answer("put", key, data, **options)

    async def put_many(self, values: Any, **options: Any) -> None:
        """See `BlobStore`."""
        await self._answer("put_many", values, **options)

    async def delete(self, key: str) -> bool:
        """See `BlobStore`."""
        return await self._answer("delete", key)  # type: ignore[no-any-return]

    async def tagged(self, tag: str) -> Any:
        """See `BlobStore`."""
        return await self._answer("tagged", tag)

    async def entries(self, **options: Any) -> BlobPage:
        """See `BlobStore`."""
        return await self._answer("entries", **options)  # type: ignore[no-any-return]

    async def purge(self, **options: Any) -> int:
        """See `BlobStore`."""
        return await self._answer("purge", **options)  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        """See `BlobStore`."""
        self.closed += 1
