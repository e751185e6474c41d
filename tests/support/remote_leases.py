"""A lease store that is elsewhere, and fails as it is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio

from lamella import (
    Dimension,
    Lease,
    Outcome,
    StoreUnavailableError,
)
from lamella._memory_leases import MemoryLeases
from lamella.testing import virtual_ports

T = TypeVar("T")


class Remote:
    """A store elsewhere: it can be out, and lose what it is asked or what it answers."""

    def __init__(self, monotonic: Callable[[], float] | None = None) -> None:
        self.monotonic = monotonic or virtual_ports().monotonic
        self.memory = MemoryLeases(
            monotonic=self.monotonic, wall=virtual_ports().wall, max_buckets=100
        )
        self.state = "well"
        self.asked = 0
        self.closed = False

    async def reserve(self, lease_id: str, dimensions: Sequence[Dimension], *, ttl: float) -> Lease:
        return await self._do(lambda: self.memory.reserve(lease_id, dimensions, ttl=ttl))

    async def settle(self, lease_id: str, amounts: Sequence[int]) -> bool:
        return await self._do(lambda: self.memory.settle(lease_id, amounts))

    async def refund(self, lease_id: str) -> bool:
        return await self._do(lambda: self.memory.refund(lease_id))

    async def renew(self, lease_id: str, *, ttl: float) -> bool:
        return await self._do(lambda: self.memory.renew(lease_id, ttl=ttl))

    async def level(self, dimension: Dimension) -> int:
        return await self._do(lambda: self.memory.level(dimension))

    async def now(self) -> float:
        return await self._do(self.memory.now)

    async def aclose(self) -> None:
        self.closed = True

    async def _do(self, operation: Callable[[], Awaitable[T]]) -> T:
        self.asked += 1
        if self.state == "gone":
            raise StoreUnavailableError("It is gone.", outcome=Outcome.NOT_SENT)
        if self.state == "silent":
            await anyio.sleep_forever()
        answer = await operation()
        if self.state == "mute":  # it does what it is asked, and nobody hears of it
            await anyio.sleep_forever()
        if self.state == "broken":
            raise ConnectionResetError("lost")
        return answer
