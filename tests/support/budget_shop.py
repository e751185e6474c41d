"""A shop whose calls a budget bounds, for tests of budgets."""

from __future__ import annotations

from typing import Any

import anyio

from lamella import (
    BudgetExceededError,
    ChatRequest,
    Context,
    Finish,
    Money,
    Pipeline,
    TextDelta,
    Usage,
    UsageReport,
)
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares import Budget, Cost

PRICES = {
    "m": {"input": "0", "output": "100"},  # 1,000 tokens of an answer cost $0.10
    "cheap": {"input": "0", "output": "10"},
}
ASK = ChatRequest.of("hello", model="m", max_output_tokens=1000)


def answer(tokens: int = 1000) -> list[Any]:
    """An answer of so many tokens."""
    usage = Usage(uncached_input=10, text_output=tokens)
    return [TextDelta("ok"), UsageReport(usage), Finish("stop")]


async def levels(budget: Budget, pipeline: Pipeline, scope: dict[str, str] | None = None) -> Any:
    """The budget's levels, whose amounts are money or numbers."""
    return await budget.levels(pipeline, scope or {})


class Shop:
    """A pipeline with a budget, and what came of its calls."""

    def __init__(
        self, budget: Budget, *outside: Any, script: Any = None, ports: Any = None, delay: float = 0
    ) -> None:
        self.ports = ports or virtual_ports()
        self.budget = budget
        self.transport = Scripted(script or [answer()], repeat=True, delay=delay)
        layers = [*outside, budget, Cost(PRICES, unknown="note")]
        self.pipeline = Pipeline(layers, self.transport, ports=self.ports)
        self.refused: list[Any] = []
        self.costs: list[Money | None] = []

    async def ask(self, request: Any = ASK, *, stream: bool = False, **context: Any) -> Any:
        request = request.evolve(context=Context(**context))
        try:
            if not stream:
                response = await self.pipeline.run(request)
            else:
                async with self.pipeline.stream(request) as response:
                    async for _ in response:
                        await anyio.lowlevel.checkpoint()
        except BudgetExceededError as error:
            self.refused.append(error)
            return None
        self.costs.append(response.cost)
        return response

    async def level(self, **scope: str) -> Any:
        (level,) = await levels(self.budget, self.pipeline, scope)
        return level

    @property
    def sent(self) -> int:
        return len(self.transport.requests)
