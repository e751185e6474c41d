"""A store of spend that can be out, slow, forgetful of its answers, and broken."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio

from lamella import (
    ChatRequest,
    ChatResponse,
    Context,
    Pipeline,
    SpendQuery,
    SpendRecord,
    SpendTotal,
    StoreUnavailableError,
    Usage,
)
from lamella._memory_spend import MemorySpend
from lamella._nothing import NOTHING
from lamella.testing import virtual_ports
from lamella_middlewares.cost import Cost

PRICE = {"input": "1", "output": "4"}  # dollars for a million
PRICES = {"m": PRICE}
USED = Usage(uncached_input=1000, text_output=200)  # $0.0018
ANSWER = ChatResponse.of("so be it", usage=USED)


class FaultySpend:
    """Keeps records in memory, as long as nothing is wrong.

    Attributes:
        out: Whether it cannot be reached.
        mute: Whether its answers are lost: records are kept, and it says that it was not reached.
        delay: Seconds that an append takes, or forgetting.
        broken: Whether it has a mistake in it.
        appends: The sizes of the batches that it was given, in order.
        closed: How often it was closed.
        forgetting: How often it was asked to forget and has not done so.
    """

    def __init__(self) -> None:
        self.inner = MemorySpend()
        self.out = False
        self.mute = False
        self.delay = 0.0
        self.broken = False
        self.appends: list[int] = []
        self.closed = 0
        self.forgetting = 0

    async def append(self, records: Sequence[SpendRecord]) -> int:
        """Keep them, or fail in the way that was asked for."""
        self.appends.append(len(records))
        await anyio.sleep(self.delay)
        return self.append_now(records)

    def append_now(self, records: Sequence[SpendRecord]) -> int:
        """The same without waiting."""
        if self.out:
            raise StoreUnavailableError("The store is out.")
        if self.broken:
            raise TypeError("There is a mistake in it.")
        kept = self.inner.append_now(records)
        if self.mute:
            raise StoreUnavailableError("The store was not heard.")
        return kept

    async def totals(self, query: SpendQuery) -> Sequence[SpendTotal]:
        """What is there."""
        return await self.inner.totals(query)

    def read(self, query: SpendQuery) -> AsyncIterator[SpendRecord]:
        """What is there."""
        return self.inner.read(query)

    async def forget(self, *, before: float | None = None, where: Any = NOTHING) -> int:
        """Forget what is there."""
        self.forgetting += 1
        await anyio.sleep(self.delay)
        self.forgetting -= 1
        return await self.inner.forget(before=before, where=where)

    async def aclose(self) -> None:
        """Count it."""
        self.closed += 1

    async def kept(self) -> list[SpendRecord]:
        """Every record, in order of time."""
        return [record async for record in self.inner.read(SpendQuery())]


def spending(layers: list[Any], transport: Any, *, seed: int = 0) -> Pipeline:
    """A pipeline with a clock and stores of its own, and prices; of another seed with other ids."""
    return Pipeline([*layers, Cost(PRICES)], transport, ports=virtual_ports(seed=seed))


def ask(model: str = "m", **context: Any) -> ChatRequest:
    """A request on somebody's behalf."""
    return ChatRequest.of("hello there", model=model, context=Context(**context))
