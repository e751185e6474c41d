"""The stores of a simulation: fresh ones, and a count of every reservation and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import attrs

from lamella._memory_leases import Hold
from lamella._memory_spend import MemorySpend
from lamella._memory_stores import memory_stores
from lamella._stores import Dimension, Lease, LocalState, Stores

if TYPE_CHECKING:
    from lamella._loops import Loop
    from lamella._memory_leases import MemoryLeases
    from lamella._named_stores import StandIn
    from lamella._ports import Ports

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
        owned: The ids of those of them that somebody has to end: they were renewed, or are holds.
        expired: How many had been given up for lost when their holder ended them.
        held: The dimensions of which nothing flows back by itself, by key.
    """

    def __init__(self, inner: MemoryLeases) -> None:
        self._inner = inner
        self.granted = 0
        self.refused = 0
        self.settled = 0
        self.refunded = 0
        self.expired = 0
        self.out: dict[str, tuple[Dimension, ...]] = {}
        self.owned: set[str] = set()
        self._names: dict[Hold, str] = {}
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
            self._took(lease_id, tuple(dimensions))
        return answer

    def _took(self, lease_id: str, dimensions: tuple[Dimension, ...]) -> None:
        self.granted += 1
        self.out[lease_id] = dimensions
        for dimension in dimensions:
            if dimension.held and dimension.per == 0:
                self.held[dimension.key] = dimension

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
        less of, until the server's own reset. What is held, or was renewed, has an owner.
        """
        return [
            dimensions
            for lease_id, dimensions in self.out.items()
            if lease_id in self.owned or any(each.held for each in dimensions)
        ]

    def _ended(self, lease_id: str, how: str) -> None:
        if self.out.pop(lease_id, None) is not None:
            self.owned.discard(lease_id)
            setattr(self, how, getattr(self, how) + 1)

    async def renew(self, lease_id: str, *, ttl: float) -> bool:
        """See `LeaseStore.renew`."""
        if lease_id in self.out:
            self.owned.add(lease_id)
        return await self._inner.renew(lease_id, ttl=ttl)

    def hold(self, dimensions: tuple[Dimension, ...], loop: Loop) -> Hold | Lease:
        """See `MemoryLeases.hold`."""
        found = self._inner.hold(dimensions, loop)
        if isinstance(found, Hold):
            name = self._names[found] = f"hold {self.granted}"
            self._took(name, dimensions)
            self.owned.add(name)
        else:
            self.refused += 1
        return found

    def end(self, hold: Hold, amounts: Sequence[int] | None) -> None:
        """See `MemoryLeases.end`."""
        self._inner.end(hold, amounts)
        self._ended(self._names.pop(hold, ""), "refunded" if amounts is None else "settled")

    def drop(self, hold: Hold) -> None:
        """See `MemoryLeases.drop`."""
        self._inner.drop(hold)

    async def level(self, dimension: Dimension) -> int:
        """See `LeaseStore.level`."""
        return await self._inner.level(dimension)

    async def now(self) -> float:
        """See `LeaseStore.now`."""
        return await self._inner.now()

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

    def under(self, prefix: tuple[str, ...]) -> Mapping[tuple[str, ...], Any]:
        """See `LocalState.under`."""
        return self._inner.under(prefix)


def counted_stores(
    monotonic: Callable[[], float], wall: Callable[[], float]
) -> tuple[Stores, CountedLeases, SeenObjects]:
    """Fresh stores in memory, the count of their leases, and the objects that layers share.

    Args:
        monotonic: Their clock.
        wall: Their wall clock.
    """
    stores = memory_stores(monotonic=monotonic, wall=wall)
    leases = CountedLeases(cast("MemoryLeases", stores.leases))
    local = SeenObjects(stores.local)
    return attrs.evolve(stores, leases=leases, local=local), leases, local


def fresh_stores(ports: Ports) -> StandIn:
    """Fresh stores in memory for the layers that have some of their own.

    Layers that share one share what stands in for it.

    Args:
        ports: Whose clocks those stores have.
    """
    made: dict[tuple[str, int], tuple[Any, Any]] = {}

    def stand_in(part: str, store: Any) -> Any:
        key = part, id(store)
        if key not in made:
            made[key] = store, _fresh(part, ports)  # with the store, so that its id stays its own
        return made[key][1]

    return stand_in


def _fresh(part: str, ports: Ports) -> Any:
    if part == "spend":
        return MemorySpend()
    if part == "vectors":
        from lamella._memory_vectors import MemoryVectors

        return MemoryVectors(monotonic=ports.monotonic, thread=ports.thread)
    stores = memory_stores(monotonic=ports.monotonic, wall=ports.wall)
    return stores.leases if part == "leases" else stores.blobs
