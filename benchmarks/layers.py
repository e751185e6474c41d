"""What the stack costs without a network: by layer, by depth, by message size, by chunk.

All figures are microseconds of CPU time. Where it says fresh, each call asks something else: what
a layer remembers of a text does not help it.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.contenders import eight_layers, every_layer
from benchmarks.paced import paced
from benchmarks.prompts import PROSE, fresh_prompts
from lamella import ChatRequest, ChatResponse, Finish, Pipeline, TextDelta, Usage, begin

DEPTHS = (0, 1, 2, 4, 8, 16, 32)
KILOBYTES = (1, 4, 16, 64, 256, 1024)
SHORT, LONG = 200, 1_000
MODEL = "gpt-4o-mini"


def run(*, quick: bool = False) -> dict[str, dict[str, float]]:
    """All tables, by their titles."""
    rounds = 3 if quick else 15
    depths, sizes = ((0, 32), (1, 64)) if quick else (DEPTHS, KILOBYTES)
    return {
        "eight classic layers": eight(rounds),
        "microseconds added by layer": by_layer(every_layer(), rounds),
        "microseconds by depth": by_depth(depths, rounds),
        "microseconds by kilobytes, eight empty layers": by_size(sizes, rounds, _eight_empty),
        "microseconds by kilobytes, eight classic layers": by_size(sizes, rounds, eight_layers),
        "microseconds a chunk": by_chunk(rounds),
    }


def eight(rounds: int = 15) -> dict[str, float]:
    """The eight layers together, and what of that is the scan of a text that was never seen."""
    from lamella_middlewares import PII, Cache

    async def go() -> dict[str, float]:
        known = ChatRequest.of(PROSE, model=MODEL)
        cached = Pipeline([Cache(tenant="t", when="all")], _null_transport())
        scanner = Pipeline([PII()], _null_transport())
        found = await paced(
            {
                "request": _requests(),
                "call": _fresh([]),
                "eight": _fresh(eight_layers()),
                "scan": _fresh([PII()]),
                "no scan": lambda: scanner.run(known),
                "known": _known([]),
                "hit": lambda: cached.run(ChatRequest.of(PROSE, model=MODEL)),
            },
            rounds=rounds,
        )
        scan = (found["scan"] - found["call"]) - (found["no scan"] - found["known"])
        together = found["eight"] - found["call"]
        return {
            "the call itself": found["known"],
            "eight layers, added": together,
            "of which the scan of 1 KB": scan,
            "eight layers besides the scan": together - scan,
            "a cache hit, the whole call": found["hit"] - found["request"],
        }

    return asyncio.run(go())


def by_layer(layers: dict[str, Any], rounds: int = 15) -> dict[str, float]:
    """What each layer adds to a fresh call, alone around a transport that does nothing."""
    repeated = {name for name in layers if "hit" in name}

    async def go() -> dict[str, float]:
        calls: dict[str, Callable[[], Awaitable[Any]]] = {"known": _known([])}
        for place, (name, layer) in enumerate(layers.items()):
            if place % 8 == 0:  # the base stands in several places of a round
                calls[f"base {place}"] = _fresh([])
            calls[name] = _known([layer]) if name in repeated else _fresh([layer])
        found = await paced(calls, rounds=rounds, seconds=0.01)
        base = statistics.median([v for name, v in found.items() if name.startswith("base ")])
        known = found["known"]
        return {name: found[name] - (known if name in repeated else base) for name in layers}

    return asyncio.run(go())


def by_depth(depths: Sequence[int] = DEPTHS, rounds: int = 15) -> dict[str, float]:
    """A call through so many empty layers."""

    async def go() -> dict[str, float]:
        return await paced({str(n): _known([_empty] * n) for n in depths}, rounds=rounds)

    return asyncio.run(go())


def by_size(
    kilobytes: Sequence[int], rounds: int, layers: Callable[[], list[Any]]
) -> dict[str, float]:
    """A call whose message is so long, and new each time: empty layers must not care."""

    async def go() -> dict[str, float]:
        calls = {str(size): _fresh(layers(), size * 1024) for size in kilobytes}
        made = {f"{size} made": _requests(size * 1024) for size in kilobytes}
        found = await paced({**calls, **made}, rounds=max(3, rounds // 3))
        return {name: found[name] - found[f"{name} made"] for name in calls}

    return asyncio.run(go())


def by_chunk(rounds: int = 15) -> dict[str, float]:
    """One chunk of a stream: what a longer stream takes more, for each chunk that it has more."""

    async def go() -> dict[str, float]:
        stacks = {"no layer": [], "eight layers": eight_layers(), "eight empty": _eight_empty()}
        calls = {
            f"{name} {length}": _streams(list(layers), length)
            for name, layers in stacks.items()
            for length in (SHORT, LONG)
        }
        found = await paced(calls, rounds=rounds)
        return {
            name: (found[f"{name} {LONG}"] - found[f"{name} {SHORT}"]) / (LONG - SHORT)
            for name in stacks
        }

    return asyncio.run(go())


# --- calls --------------------------------------------------------------------------------------


def _known(layers: list[Any]) -> Callable[[], Awaitable[Any]]:
    """The same request each time."""
    pipeline = Pipeline(layers, _null_transport())
    request = ChatRequest.of(PROSE, model=MODEL)
    return lambda: pipeline.run(request)


def _fresh(layers: list[Any], size: int = 1024) -> Callable[[], Awaitable[Any]]:
    """Another text each time, in a request that is made anew."""
    pipeline = Pipeline(layers, _null_transport())
    prompts = fresh_prompts(size)
    return lambda: pipeline.run(ChatRequest.of(next(prompts), model=MODEL))


def _requests(size: int = 1024) -> Callable[[], Awaitable[Any]]:
    """What of a fresh call is making the request."""
    prompts = fresh_prompts(size)

    async def make() -> ChatRequest:
        return ChatRequest.of(next(prompts), model=MODEL)

    return make


def _streams(layers: list[Any], length: int) -> Callable[[], Awaitable[None]]:
    prompts = fresh_prompts()

    async def source(request: Any) -> Any:
        return await begin(request, _Words(length))

    pipeline = Pipeline(layers, source)

    async def stream() -> None:
        async with pipeline.stream(ChatRequest.of(next(prompts), model=MODEL)) as response:
            async for _ in response:
                pass

    return stream


def _eight_empty() -> list[Any]:
    return [_empty] * 8


async def _empty(request: Any, call_next: Any) -> Any:
    return await call_next(request)


def _null_transport() -> Any:
    usage = Usage(uncached_input=256, text_output=64)
    answer = ChatResponse.of("ok", model=MODEL, usage=usage)

    async def null(_: Any) -> Any:
        return answer

    return null


class _Words:
    """The cheapest source there can be."""

    def __init__(self, length: int) -> None:
        self._left = length + 1
        self._word = TextDelta(" word")

    async def __anext__(self) -> Any:
        self._left -= 1
        return self._word if self._left else Finish("stop")

    async def aclose(self) -> None:
        self._left = 0
