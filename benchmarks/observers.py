"""What it costs to look on: microseconds of CPU that each observer adds to a call that is priced.

    python -m benchmarks.observers

The transport does nothing and says what it has used; `Cost` stands in every stack, for the others
tell of what it writes down. Threads that write (a file of spend, a log) are counted in: the figure
is the CPU time of the whole process.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

from lamella import ChatRequest, ChatResponse, Context, Pipeline, Usage

MODEL: Final = "null"
PRICES: Final = {MODEL: {"input": "1", "output": "5"}}
ROUNDS: Final = 5

Layers: TypeAlias = Callable[[Path], list[Any]]


def observers() -> dict[str, Layers]:
    """Who looks on, by the name of the table; each is given a folder for its files."""
    from lamella import MemorySpend
    from lamella_middlewares import Audit, Debug, Log, Spend
    from lamella_opentelemetry import OpenTelemetry
    from lamella_prometheus import Prometheus

    return {
        "Log (JSON)": lambda _: [Log(format="json", sink=_throw_away)],
        "Spend (memory)": lambda _: [Spend(store=MemorySpend())],
        "Spend (SQLite)": lambda folder: [Spend(folder / "spend.db")],
        "Prometheus": lambda _: [Prometheus(registry=_registry())],
        "OpenTelemetry (no SDK)": lambda _: [OpenTelemetry()],
        "OpenTelemetry (SDK, spans)": lambda _: [OpenTelemetry(tracer_provider=_tracing())],
        "OpenTelemetry (SDK, spans and metrics)": lambda _: [
            OpenTelemetry(tracer_provider=_tracing(), meter_provider=_metering())
        ],
        "Debug (outlines)": lambda _: [Debug(sink=_throw_away)],
        "Audit": lambda folder: [Audit(folder / "audit", _key(), fsync="none")],
    }


def budgets() -> dict[str, Layers]:
    """Who counts money, by the name of the table."""
    from lamella_middlewares import Budget, RateLimit
    from lamella_middlewares.budget import Allowance

    four = [
        Allowance("1000000", per="user", window="day"),
        Allowance("1000000", per="tenant", window="month"),
        Allowance("1000000", per="session"),
        Allowance(tokens=10**12, per="tag:team", window="day"),
    ]
    return {
        "RateLimit (tokens)": lambda _: [RateLimit(tokens=10**12)],
        "Budget (tokens)": lambda _: [Budget(tokens=10**12)],
        "Budget (money)": lambda _: [Budget("1000000")],
        "Budget (money, each user's day)": lambda _: [Budget("1000000", per="user", window="day")],
        "Budget (four limits)": lambda _: [Budget(limits=four)],
    }


def added(known: dict[str, Layers], calls: int = 1_000) -> dict[str, float]:
    """Microseconds of CPU that each adds to a call, and those of the call itself."""
    base = _measured(lambda _: [], calls)
    found = {"(the call, with Cost)": base}
    for name, layers in known.items():
        found[name] = _measured(layers, calls) - base
    return found


def _measured(layers: Layers, calls: int) -> float:
    from lamella_middlewares import Cost

    async def go(folder: Path) -> float:
        pipeline = Pipeline([*layers(folder), Cost(PRICES)], _null())
        request = ChatRequest.of("hi", model=MODEL, max_output_tokens=100).evolve(
            context=Context(tenant="acme", user="jo", session="s-1", tags={"team": "x"})
        )
        await pipeline.run(request)
        rounds: list[float] = []
        for _ in range(ROUNDS):
            started = time.process_time()
            for _ in range(calls):
                await pipeline.run(request)
            rounds.append((time.process_time() - started) / calls * 1e6)
        await pipeline.aclose()
        return statistics.median(rounds)

    with TemporaryDirectory(prefix="lamella-benchmark-") as folder:
        return asyncio.run(go(Path(folder)))


def _null() -> Any:
    answer = ChatResponse.of("ok", model=MODEL, usage=Usage(uncached_input=10, text_output=20))

    async def null(_: Any) -> Any:
        return answer

    return null


def _throw_away(_: object) -> None:
    pass


def _key() -> Any:
    from lamella import Secret

    return Secret.of_value("k" * 32)


def _registry() -> Any:
    from prometheus_client import CollectorRegistry

    return CollectorRegistry()


def _tracing() -> Any:
    from opentelemetry.sdk.trace import TracerProvider

    return TracerProvider(shutdown_on_exit=False)


def _metering() -> Any:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    return MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)


def markdown(tables: dict[str, dict[str, float]]) -> str:
    """The figures as tables."""
    lines: list[str] = []
    for title, figures in tables.items():
        lines += ["", f"### {title}", "", "| | CPU us |", "|---|--:|"]
        lines += [f"| {name} | {microseconds:.1f} |" for name, microseconds in figures.items()]
    return "\n".join(lines)


def run(*, quick: bool = False) -> dict[str, dict[str, float]]:
    """Both tables."""
    calls = 100 if quick else 1_000
    return {
        "microseconds added by observer": added(observers(), calls),
        "microseconds added by budget": added(budgets(), calls),
    }


if __name__ == "__main__":
    sys.stdout.write(markdown(run()) + "\n")
