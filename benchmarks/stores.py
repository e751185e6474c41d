"""`python -m benchmarks stores`: what a get and a put cost, and how often a key is there.

Times are CPU and wall microseconds of one operation, one at a time, on values of 1.8 KB, and the
ratio of CPU times to the peer of the same kind in the same run; Redis' own time is not in it. Hit
ratios are counts of a drawn trace: they come out the same each time.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import statistics
import sys
import time
from bisect import bisect
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from benchmarks import store_contenders as contenders
from benchmarks.contenders import PROMPT
from benchmarks.harness import pin
from benchmarks.store_contenders import Keeper
from lamella import ChatRequest, ChatResponse, Context, Packing, Pipeline, Secret
from lamella._memory_eviction import EVICTIONS, EvictionName

RESULTS: Final = Path(__file__).parent / "results"
VALUE: Final = bytes(random.Random(1).randbytes(1_800))
ENTRIES: Final = 1_000
SEED: Final = 7


def run(*, quick: bool) -> dict[str, Any]:
    """All figures of one run on this machine."""
    try:
        with contenders.temporary() as name, contenders.valkey(Path(name)) as url:
            folder = Path(name)
            speeds = asyncio.run(_speeds(folder, url, 50 if quick else 3_000, 1 if quick else 7))
            hit = asyncio.run(_hits(folder, url, 50 if quick else 2_000, 3 if quick else 5))
    finally:
        gc.unfreeze()
    return {
        "speeds": speeds,
        "hit ratio": ratios(20_000, ("lru", "tinylfu")) if quick else ratios(300_000),
        "microseconds of a hit through the pipeline": hit,
    }


# --- get and put --------------------------------------------------------------------------------


async def _speeds(folder: Path, url: str | None, count: int, rounds: int) -> list[dict[str, Any]]:
    async with AsyncExitStack() as stack:
        keepers = [
            *contenders.in_memory(),
            *await stack.enter_async_context(contenders.on_disk(folder)),
            *await stack.enter_async_context(contenders.elsewhere(url)),
        ]
        return await _measured(keepers, count, rounds)


async def _measured(keepers: Sequence[Keeper], count: int, rounds: int) -> list[dict[str, Any]]:
    keys = [f"cache:default:{number:064x}" for number in range(count)]
    calls: dict[str, list[tuple[Any, ...]]] = {
        "put": [(key, VALUE) for key in keys],
        "get": [(key,) for key in keys],
    }
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    _settle()
    for number in range(rounds + 1):
        for keeper in keepers:
            for name, some in calls.items():
                gc.collect()
                cost = await keeper.run(some)
                if number:  # the first round fills and warms up
                    found.setdefault((keeper.name, name), []).append(cost)
    middle = {
        place: tuple(statistics.median(column) for column in zip(*costs, strict=True))
        for place, costs in found.items()
    }
    return [
        {
            "name": keeper.name,
            "beside": keeper.beside,
            **{
                f"{name} {kind}": middle[keeper.name, name][index]
                for name in calls
                for index, kind in enumerate(("cpu", "wall"))
            },
            **{
                f"{name} ratio": middle[keeper.name, name][0] / middle[keeper.beside, name][0]
                for name in calls
            },
        }
        for keeper in keepers
    ]


def _settle() -> None:
    """What is there by now need not be looked through before each measurement."""
    gc.collect()
    gc.freeze()


# --- hit ratios ---------------------------------------------------------------------------------


def trace(count: int, *, popular: int = 20_000, scans: float = 0.3) -> list[str]:
    """Keys by Zipf's law with exponent 0.9, and runs of 200 keys that are asked for once."""
    rng = random.Random(SEED)
    shares = list(accumulate(1 / (rank + 1) ** 0.9 for rank in range(popular)))
    keys: list[str] = []
    while len(keys) < count:
        if rng.random() < scans / (1 - scans) / 200:
            keys += [f"once {len(keys) + number}" for number in range(200)]
        keys.append(f"popular {bisect(shares, rng.random() * shares[-1])}")
    return keys[:count]


def ratios(count: int, orders: Sequence[EvictionName] = EVICTIONS) -> dict[str, dict[str, float]]:
    """The share of a trace's keys that were there, with room for a thousand entries."""
    traces = {"Zipf": trace(count, scans=0), "Zipf and 30 % scans": trace(count)}
    caches: dict[str, Callable[[], tuple[Any, Any]]] = {
        f"memory, {eviction}": partial(_plain, eviction) for eviction in orders
    }
    if (found := contenders.cachetools()) is not None:
        for name in ("LRUCache", "LFUCache", "FIFOCache"):
            caches[f"cachetools, {name}"] = partial(_by_item, getattr(found, name))
    if (found := contenders.moka()) is not None:
        for policy in ("lru", "tiny_lfu"):
            caches[f"moka-py, {policy}"] = partial(_moka, found, policy)
    return {
        name: {each: _hit_ratio(*make(), keys) for each, keys in traces.items()}
        for name, make in caches.items()
    }


def _hit_ratio(
    get: Callable[[str], object], put: Callable[[str, bytes], object], keys: Iterable[str]
) -> float:
    hits = total = 0
    for key in keys:
        total += 1
        if get(key) is None:
            put(key, b"x")
        else:
            hits += 1
    return hits / total


def _plain(eviction: str) -> tuple[Any, Any]:
    """A store's operations without a loop: in memory they never suspend."""
    store = contenders.memory(eviction, ENTRIES)

    def now(coroutine: Any) -> Any:
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError("the operation suspended")

    return (lambda key: now(store.get(key))), (lambda key, data: now(store.put(key, data)))


def _by_item(make: Any) -> tuple[Any, Any]:
    cache = make(ENTRIES)
    return cache.get, cache.__setitem__


def _moka(package: Any, policy: str) -> tuple[Any, Any]:
    cache = package.Moka(ENTRIES, policy=policy)
    return cache.get, cache.set


# --- through the pipeline -----------------------------------------------------------------------


async def _hits(folder: Path, url: str | None, calls: int, rounds: int) -> dict[str, float]:
    """CPU and wall time of a call that is answered by `Cache`, by the store that keeps it."""
    from lamella._sqlite_blobs import sqlite_blobs
    from lamella.transports import Mock
    from lamella_middlewares import Cache

    stores: dict[str, Any] = {
        "memory": contenders.memory("lru"),
        "sqlite": sqlite_blobs(path=folder / "hits.sqlite"),
    }
    if url is not None:
        stores["redis"] = contenders.redis(url)
    key = Packing(key=Secret.of_value("a key of a benchmark, and of nothing else"))
    pipelines = {"(the call itself)": Pipeline([], _nothing), "no cache": Pipeline([], Mock())}
    for name, store in stores.items():
        packing = key if name == "redis" else Packing()
        pipelines[name] = Pipeline([Cache(store=store, packing=packing)], Mock())
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in pipelines}
    _settle()
    for _ in range(rounds):
        for name, pipeline in pipelines.items():
            found[name].append(await _calls(pipeline, calls))
    for pipeline in pipelines.values():
        await pipeline.aclose()
    rows: dict[str, float] = {}
    for name, costs in found.items():
        cpu, wall = (statistics.median(column) for column in zip(*costs, strict=True))
        rows |= {f"{name}, CPU": cpu, f"{name}, wall": wall}
    return rows


async def _nothing(_: Any) -> Any:
    return ChatResponse.of("ok", model="mock")


async def _calls(pipeline: Pipeline, calls: int) -> tuple[float, float]:
    request = ChatRequest.of(PROMPT, model="mock", temperature=0, context=Context(tenant="acme"))
    await pipeline.run(request)
    response = await pipeline.run(request)
    if response.head.cached != bool(pipeline.layers):
        raise AssertionError("a call that should have been answered by the cache was not")
    gc.collect()
    started, clock = time.process_time(), time.perf_counter()
    for _ in range(calls):
        await pipeline.run(request)
    spent, passed = time.process_time() - started, time.perf_counter() - clock
    return spent / calls * 1e6, passed / calls * 1e6


# --- report -------------------------------------------------------------------------------------


def markdown(results: dict[str, Any]) -> str:
    """The results as tables."""
    lines = [
        "### a value of 1.8 KB",
        "",
        "| | put CPU us | put wall us | ratio | get CPU us | get wall us | ratio | beside |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    columns = [f"{name} {kind}" for name in ("put", "get") for kind in ("cpu", "wall", "ratio")]
    for row in results["speeds"]:
        figures = " | ".join(f"{row[column]:.2f}" for column in columns)
        lines.append(f"| {row['name']} | {figures} | {row['beside']} |")
    kinds = list(next(iter(results["hit ratio"].values())))
    lines += ["", f"### hit ratio, {ENTRIES} entries", "", "| | " + " | ".join(kinds) + " |"]
    lines.append("|---|" + "--:|" * len(kinds))
    for name, found in results["hit ratio"].items():
        lines.append(f"| {name} | " + " | ".join(f"{found[kind]:.3f}" for kind in kinds) + " |")
    hit = "microseconds of a hit through the pipeline"
    lines += ["", f"### {hit}", "", "| | |", "|---|--:|"]
    lines += [f"| {name} | {value:.1f} |" for name, value in results[hit].items()]
    return "\n".join([*lines, ""])


def broken() -> list[str]:
    """What a short run finds wrong: `benchmarks.smoke` asks."""
    results = run(quick=True)
    sys.stdout.write(markdown(results) + "\n")
    found: list[str] = []
    scans = {name: each["Zipf and 30 % scans"] for name, each in results["hit ratio"].items()}
    if not scans["memory, tinylfu"] > 1.1 * scans["memory, lru"]:
        found.append(f"MISSED: a scan costs tinylfu more than it should: {scans}")
    hit = results["microseconds of a hit through the pipeline"]
    if hit["memory, CPU"] > 10 * hit["(the call itself), CPU"]:
        found.append(f"TOO SLOW: a hit in memory: {hit}")
    return found


def main(*, quick: bool) -> None:
    """Run, print, write."""
    pin()
    results = {"machine": {"cores": os.cpu_count()}, **run(quick=quick)}
    text = markdown(results)
    sys.stdout.write(text + "\n")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "stores.json").write_text(json.dumps(results, indent=2) + "\n")
    (RESULTS / "stores.md").write_text(text + "\n")
