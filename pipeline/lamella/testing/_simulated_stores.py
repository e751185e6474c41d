"""The stores of a simulation: fresh ones, and a count of every reservation and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import attrs

from lamella._memory_stores import memory_stores
from lamella._stores import Dimension, Lease, LeaseStore, LocalState, Stores

T = TypeVar("T")


class CountedLeases:
    """A lease store that remembers which leases are out.

    Args:
        inner: The store that decides.

    Attributes:
        granted: How many reservations were granted.
        refused: How many were not.
        settled: How many ended with what was really used.
        refunded: How many were given back.
        out: Those that have not ended, by id.
        renewed: The ids of those of them that were renewed.
        expired: How many had been given up for lost when their holder ended them.
        held: The dimensions of which nothing flows back by itself, by key.
    """

    def __init__(self, inner: LeaseStore) -> None:
        self._inner = inner
        self.granted = 0
        self.refused = 0
        self.settled = 0
        self.refunded = 0
        self.expired = 0
        self.out: dict[str, tuple[Dimension, ...]] = {}
        self.renewed: set[str] = set()
        self.held: dict[tuple[str, ...], Dimension] = {}

    def __getattr__(self, name: str) -> Any:
        """What the store says of itself besides, such as that it never suspends."""
        return getattr(self._inner, name)

    async def reserve(self, lease_id: str, dimensions: Sequence[Dimension], *, ttl: float) -> Lease:
        """See `LeaseStore.reserve`."""
        answer = await self._inner.reserve(lease_id, dimensions, ttl=ttl)
        if not answer.granted:
            self.refused += 1
        elif lease_id not in self.out:
            self.granted += 1
            self.out[lease_id] = tuple(dimensions)
            for dimension in dimensions:
                if dimension.held and dimension.per == 0:
                    self.held[dimension.key] = dimension
        return answer

    async def settle(self, lease_id: str, amounts: Sequence[int]) -> bool:
        """See `LeaseStore.settle`."""
        found = await self._inner.settle(lease_id, amounts)
        self._ended(lease_id, "settled" if found else "expired")
        return found

    async def refund(self, lease_id: str) -> bool:
        """See `LeaseStore.refund`."""
        found = await self._inner.refund(lease_id)
        self._ended(lease_id, "refunded" if found else "expired")
        return found

    @property
    def forgotten(self) -> list[tuple[Dimension, ...]]:
        """What was reserved by leases that somebody should have ended.

        A lease of a rate alone may be left to run out: so a layer holds back what the server has
        less of, until the server's own reset. What is held, or was renewed, has a holder.
        """
        return [
            dimensions
            for lease_id, dimensions in self.out.items()
            if lease_id in self.renewed or any(each.held for each in dimensions)
        ]

    def _ended(self, lease_id: str, how: str) -> None:
        if self.out.pop(lease_id, None) is not None:
            self.renewed.discard(lease_id)
            setattr(self, how, getattr(self, how) + 1)

    async def renew(self, lease_id: str, *, ttl: float) -> bool:
        """See `LeaseStore.renew`."""
        if lease_id in self.out:
            self.renewed.add(lease_id)
        return await self._inner.renew(lease_id, ttl=ttl)

    async def level(self, dimension: Dimension) -> int:
        """See `LeaseStore.level`."""
        return await self._inner.level(dimension)

    async def aclose(self) -> None:
        """See `LeaseStore.aclose`."""
        await self._inner.aclose()


class SeenObjects:
    """Objects of this process that layers share, and a look at each that was asked for.

    Args:
        inner: Where they are kept.

    Attributes:
        seen: Each that was asked for, by key.
    """

    def __init__(self, inner: LocalState) -> None:
        self._inner = inner
        self.seen: dict[tuple[str, ...], object] = {}

    def get(self, key: tuple[str, ...], make: Callable[[], T]) -> T:
        """See `LocalState.get`."""
        found = self._inner.get(key, make)
        self.seen[key] = found
        return found


def counted_stores(
    monotonic: Callable[[], float],
) -> tuple[Stores, CountedLeases, SeenObjects]:
    """Fresh stores in memory, the count of their leases, and the objects that layers share.

    Args:
        monotonic: Their clock.
    """
    stores = memory_stores(monotonic=monotonic)
    leases, local = CountedLeases(stores.leases), SeenObjects(stores.local)
    return attrs.evolve(stores, leases=leases, local=local), leases, local
