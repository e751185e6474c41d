"""Lamella as it is measured: which layers, and over which transport."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, TypeAlias

import attrs

from benchmarks import clients
from benchmarks.clients import KEY, MODEL
from benchmarks.turns import Caller, Opener

PROMPT: Final = "Why is the sky blue? " * 24

Wire: TypeAlias = Literal["default", "fast"]


@attrs.frozen
class Contender:
    """One way to call a provider, in this process.

    Attributes:
        name: What it is called in tables.
        open: Given the provider's address, a block with what it can do.
    """

    name: str
    open: Opener


# --- Lamella ------------------------------------------------------------------------------------


def _lamella(layers: Callable[[], list[Any]], wire: Wire = "default") -> Opener:
    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Caller]:
        from lamella import Pipeline

        async with Pipeline(layers(), _transport(url, wire)) as pipeline:
            yield caller_of(pipeline, MODEL)

    return opened


def _transport(url: str, wire: Wire) -> Any:
    from lamella.transports import OpenAI, OpenAIOptions

    if wire == "default":
        return OpenAI(api_key=KEY, base_url=url)
    given: dict[str, Any] = {"http": "fast"}
    return OpenAI(api_key=KEY, base_url=url, options=OpenAIOptions(**given))


def caller_of(pipeline: Any, model: str | None) -> Caller:
    """Chats through a pipeline."""
    from lamella import ChatRequest, TextDelta

    async def answer(prompt: str) -> str:
        text: str = (await pipeline.run(ChatRequest.of(prompt, model=model))).text
        return text

    async def stream(prompt: str, append: Callable[[str], object]) -> None:
        async with pipeline.stream(ChatRequest.of(prompt, model=model)) as response:
            async for event in response:
                if type(event) is TextDelta:
                    append(event.text)

    return Caller(answer, stream)


def eight_layers() -> list[Any]:
    """The classic ones, as the promises name them. No prompt comes twice, so `Cache` misses."""
    from lamella_middlewares import PII, Cache, Cost, Fallback, Log, RateLimit, Retry, Summarise

    return [
        Log(sink=_throw_away),
        PII(),
        Cache(tenant="t", when="all"),
        Summarise(),
        Fallback(["other"]),
        Retry(),
        RateLimit(requests=10**9),
        Cost(unknown="note"),
    ]


def production_layers() -> list[Any]:
    """Those of the preset, with a sink that throws away.

    Its answers are read as streams (`Timeout(stream_runs=True)`), which here are 200 chunks long.
    """
    from lamella import Pipeline
    from lamella_middlewares import Log

    return list(Pipeline.preset("production", transport="mock", log=Log(sink=_throw_away)).layers)


def every_layer() -> dict[str, Any]:
    """One of each, by the name of the table, as they are used most."""
    from lamella import PromptTemplate
    from lamella_middlewares import (
        PII,
        Cache,
        CircuitBreaker,
        Concurrency,
        Fallback,
        Guard,
        Hedge,
        Hold,
        LoadShed,
        PromptCache,
        RateLimit,
        Route,
        SingleFlight,
        Structured,
        Summarise,
        Template,
        Tools,
        Trim,
    )
    from lamella_middlewares.guard import max_length, pattern

    template = PromptTemplate.of(["{question}"], variables={"question": "text"}, name="ask")
    return {
        **{type(layer).__name__: layer for layer in first_layers()},
        "LoadShed": LoadShed(),
        "PII": PII(),
        "Guard (a length, a pattern)": Guard([max_length(100_000), pattern("word", r"never\b")]),
        "Cache (a hit: no transport)": Cache(tenant="t", when="all"),
        "Cache (a miss, kept)": Cache(1e-9, tenant="t", when="all"),
        "SingleFlight": SingleFlight(),
        "Fallback": Fallback(["other"]),
        "Hedge": Hedge(),
        "Route (weighted)": Route([MODEL, "other"]),
        "RateLimit (requests)": RateLimit(requests=10**9),
        "RateLimit (requests, tokens)": RateLimit(requests=10**9, tokens=10**9),
        "Concurrency (fixed)": Concurrency(100),
        "Concurrency (aimd)": Concurrency(100, adaptive="aimd"),
        "CircuitBreaker": CircuitBreaker(),
        "Hold": Hold(),
        "PromptCache": PromptCache(),
        "Structured (not asked)": Structured(),
        "Summarise (below its trigger)": Summarise(),
        "Template (no prompt)": Template(templates=[template]),
        "Tools (none asked for)": Tools([_say_nothing]),
        "Trim (below its trigger)": Trim(),
    }


def first_layers() -> list[Any]:
    """Those of the first minute, with a sink that throws away."""
    from lamella_middlewares import Cost, Deadline, Log, Retry, Timeout

    return [
        Log(sink=_throw_away),
        Deadline(60),
        Retry(attempts=3),
        Timeout(connect=5, first_event=30, idle=30),
        Cost({"null": {"input": "1", "output": "4"}}, provider="openai"),
    ]


def _say_nothing(text: str) -> None:
    """A tool that no model asks for."""


def _throw_away(_: object) -> None:
    """A sink without a floor."""


bare = _lamella(list)
eight = _lamella(eight_layers)
production = _lamella(production_layers)
bare_fast = _lamella(list, "fast")
eight_fast = _lamella(eight_layers, "fast")
production_fast = _lamella(production_layers, "fast")

FLOOR = Contender("raw socket floor", clients.floor)
SDK = Contender("openai SDK, bare", clients.sdk)
BARE = Contender("Lamella, bare", bare)
LAYERS = Contender("Lamella, five layers", _lamella(first_layers))
EIGHT = Contender("Lamella, eight layers", eight)
EIGHT_FAST = Contender("Lamella, eight layers, fast", eight_fast)
PRODUCTION = Contender("Lamella, `production`", production)
