"""A process that spends a budget which it shares with others, on a real server."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import anyio

from lamella import (
    BudgetExceededError,
    ChatRequest,
    Finish,
    Money,
    Pipeline,
    TextDelta,
    Usage,
    UsageReport,
)
from lamella.testing import Scripted
from lamella_middlewares import Budget, Cost

CALLS = 25
ASK = ChatRequest.of("hi", model="m", max_output_tokens=1000)
ANSWER: list[Any] = [
    TextDelta("ok"),
    UsageReport(Usage(uncached_input=9, text_output=1000)),
    Finish("stop"),
]


def spend(backend: str, url: str, wait: Callable[[], object]) -> tuple[int, int, int]:
    """Make all calls at once, when `wait` returns; how many were sent, refused, and what was paid.

    Args:
        backend: The event loop.
        url: Of the server.
        wait: Returns when the others are ready.
    """
    refused, paid = 0, Money(0)

    async def call(pipeline: Pipeline) -> None:
        nonlocal refused, paid
        try:
            response = await pipeline.run(ASK)
        except BudgetExceededError:
            refused += 1
        else:
            assert response.cost is not None
            paid += response.cost

    async def main() -> int:
        provider = Scripted([ANSWER], repeat=True, delay=0.05)
        stores = {"leases": {"use": "redis", "url": url, "outage": "deny", "timeout": 60.0}}
        layers: list[Any] = [
            Budget("1", window="month"),
            Cost({"m": {"input": "0", "output": "100"}}),
        ]
        async with Pipeline(layers, provider, stores=stores) as pipeline:
            await pipeline.ports.stores.leases.now()
            wait()
            async with anyio.create_task_group() as group:
                for _ in range(CALLS):
                    group.start_soon(call, pipeline)
        return len(provider.requests)

    sent = anyio.run(main, backend=backend)
    return sent, refused, paid.nano


def _say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def _told() -> None:
    _say("ready")
    sys.stdin.readline()


if __name__ == "__main__":
    _say(*spend(sys.argv[1], sys.argv[2], _told))
