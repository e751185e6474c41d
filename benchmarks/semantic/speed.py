"""How long the index looks, by how many vectors it has; and what the rest of a hit costs."""

from __future__ import annotations

import time
from random import Random
from statistics import median
from typing import Any, Final

import anyio

from lamella import ChatRequest, EmbeddingRequest, EmbeddingResponse, MemoryVectors, Pipeline
from lamella._memory_stores import memory_stores
from lamella._ports import Ports
from lamella.testing import Scripted
from lamella_middlewares.semantic_cache import SemanticCache, different_facts

DIMENSIONS: Final = 384


def search(sizes: tuple[int, ...], dimensions: int = DIMENSIONS) -> list[dict[str, Any]]:
    """Medians by the number of vectors in the partition."""
    return anyio.run(_search, sizes, dimensions)


async def _search(sizes: tuple[int, ...], dimensions: int) -> list[dict[str, Any]]:
    import numpy as np

    random = np.random.default_rng(7)
    index = MemoryVectors(max_bytes=1 << 30, max_vectors=max(sizes))
    rows: list[dict[str, Any]] = []
    there = 0
    for size in sizes:
        new = random.standard_normal((size - there, dimensions))
        began = time.perf_counter()
        for vector in new:
            await index.add("all", str(there), vector)
            there += 1
        added = (time.perf_counter() - began) / len(new)
        times: list[float] = []
        for vector in random.standard_normal((50, dimensions)):
            began = time.perf_counter()
            await index.nearest("all", vector, count=3)
            times.append(time.perf_counter() - began)
        rows.append(
            {
                "vectors": size,
                "search, µs": round(median(times) * 1e6, 1),
                "add, µs": round(added * 1e6, 1),
            }
        )
    return rows


def hit() -> dict[str, float]:
    """Microseconds of a hit through a pipeline with an embedder that costs nothing; in parts."""
    return anyio.run(_hit)


async def _hit() -> dict[str, float]:
    random = Random(7)
    vector = [random.gauss(0, 1) for _ in range(DIMENSIONS)]

    async def embed(_: EmbeddingRequest) -> EmbeddingResponse:
        return EmbeddingResponse.of([vector])

    layer = SemanticCache(Pipeline([], embed), tenant="shared")
    pipeline = Pipeline([layer], Scripted(["An answer."]), ports=Ports(stores=memory_stores()))
    bare = Pipeline([], Scripted(["An answer."], repeat=True))
    first = ChatRequest.of("How do I reset my password?", model="m", temperature=0)
    again = ChatRequest.of("How can I reset my password?", model="m", temperature=0)
    await pipeline.run(first)
    long = "How do I reset my password in version 3.2 of the app? " * 18
    return {
        "a hit, its embedding included, µs": await _median(lambda: pipeline.run(again)),
        "a call of a bare pipeline, µs": await _median(lambda: bare.run(again)),
        "the check of facts, 1 KB each, µs": _plain(lambda: different_facts(long, long + "?")),
    }


async def _median(call: Any, times: int = 300) -> float:
    found: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        await call()
        found.append(time.perf_counter() - began)
    return round(median(found) * 1e6, 1)


def _plain(call: Any, times: int = 100) -> float:
    found: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return round(median(found) * 1e6, 1)
