"""The call that docs/traces.md shows: a provider that is overloaded, and one that takes over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lamella import (
    ChatRequest,
    Context,
    Finish,
    OverloadedError,
    Pipeline,
    TraceRecord,
    Usage,
    UsageReport,
)
from lamella.testing import Scripted, ScriptedAnswer, run_virtual, virtual_ports
from lamella_middlewares import CircuitBreaker, Cost, Deadline, Fallback, Retry, SingleFlight

EXAMPLE = Path(__file__).parents[2] / "docs" / "call.html"
"""The page of it, which the documentation leads to."""

_WORDS = ("The sky ", "is blue ", "because ", "of Rayleigh ", "scattering.")
_USED = Usage(uncached_input=1200, cache_read=4096, text_output=64, reasoning_output=128)
_PRICES: Any = {
    "large": {"input": "2", "cache_read": "0.5", "output": "8", "reasoning_output": "8"}
}
_ASKED = ChatRequest.of("Why?", model="large", context=Context(tenant="acme", timed=True))


async def _ask() -> TraceRecord:
    answer = ScriptedAnswer([*_WORDS, UsageReport(_USED), Finish("stop")], delay=0.3, gap=0.08)
    busy = [OverloadedError("busy", status=529, retry_after=0.4)] * 2
    first = Scripted(busy, delay=0.12, name="first")
    layers: list[Any] = [
        Deadline(30), SingleFlight(when="all"), Fallback([Scripted([answer], name="second")]),
        Retry(attempts=2, jitter="none"), CircuitBreaker(), Cost(_PRICES),
    ]  # fmt: skip
    pipeline = Pipeline(layers, first, ports=virtual_ports(4))
    async with pipeline.stream(_ASKED) as response:
        await response.collect()
    return response.trace.record()


def example_call() -> TraceRecord:
    """What happened, in virtual time, and so the same each time."""
    return run_virtual(_ask)


if __name__ == "__main__":
    example_call().write_page(EXAMPLE)
