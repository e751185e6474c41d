"""What the stack costs without a network: by layer, by depth, by message size, by chunk."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from typing import Any

from lamella import ChatRequest, ChatResponse, Finish, Pipeline, TextDelta, begin

CHUNKS = 200


async def _empty(request: Any, call_next: Any) -> Any:
    return await call_next(request)


def _null_transport() -> Any:
    answer = ChatResponse.of("ok", model="null")

    async def null(_: Any) -> Any:
        return answer

    return null


async def _streaming(request: Any) -> Any:
    return await begin(request, _Words())


class _Words:
    """The cheapest source there can be."""

    def __init__(self) -> None:
        self._left = CHUNKS + 1
        self._word = TextDelta(" word")

    async def __anext__(self) -> Any:
        self._left -= 1
        return self._word if self._left else Finish("stop")

    async def aclose(self) -> None:
        self._left = 0


async def _microseconds(pipeline: Pipeline, request: ChatRequest, calls: int) -> float:
    rounds: list[float] = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(calls):
            await pipeline.run(request)
        rounds.append((time.process_time() - started) / calls * 1e6)
    return statistics.median(rounds)


async def _stream_microseconds(pipeline: Pipeline, calls: int) -> float:
    request = ChatRequest.of("hi", model="null")
    rounds: list[float] = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(calls):
            async with pipeline.stream(request) as response:
                async for _event in response:
                    pass
        rounds.append((time.process_time() - started) / calls / CHUNKS * 1e6)
    return statistics.median(rounds)


def by_depth(depths: Sequence[int] = (0, 8, 16, 32), calls: int = 2_000) -> dict[int, float]:
    """Microseconds of a call through so many empty layers."""
    request = ChatRequest.of("hi", model="null")

    async def go() -> dict[int, float]:
        pipelines = {n: Pipeline([_empty] * n, _null_transport()) for n in depths}
        return {n: await _microseconds(p, request, calls) for n, p in pipelines.items()}

    return asyncio.run(go())


def by_layer(layers: dict[str, Any], calls: int = 2_000) -> dict[str, float]:
    """Microseconds that each layer adds to a call, alone around a transport that does nothing."""
    request = ChatRequest.of("hi", model="null")

    async def go() -> dict[str, float]:
        base = await _microseconds(Pipeline([], _null_transport()), request, calls)
        found = {"(the call itself)": base}
        for name, layer in layers.items():
            pipeline = Pipeline([layer], _null_transport())
            found[name] = await _microseconds(pipeline, request, calls) - base
        return found

    return asyncio.run(go())


def by_size(kilobytes: Sequence[int] = (1, 32, 1024), calls: int = 1_000) -> dict[int, float]:
    """Microseconds of a call whose message is so long: the stack must not care."""

    async def go() -> dict[int, float]:
        found: dict[int, float] = {}
        for size in kilobytes:
            request = ChatRequest.of("x" * size * 1024, model="null")
            found[size] = await _microseconds(
                Pipeline([_empty] * 8, _null_transport()), request, calls
            )
        return found

    return asyncio.run(go())


def by_chunk(layers: Sequence[Any], calls: int = 50) -> dict[str, float]:
    """Microseconds of one chunk of a stream, without layers and with these."""

    async def go() -> dict[str, float]:
        bare = await _stream_microseconds(Pipeline([], _streaming), calls)
        stacked = await _stream_microseconds(Pipeline(list(layers), _streaming), calls)
        return {"bare": bare, "with layers": stacked}

    return asyncio.run(go())
