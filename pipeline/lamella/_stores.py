"""The store ports: small asynchronous protocols, one per need.

What is counted or kept lives in a store under keys that begin with (namespace, layer, scope), never
in a layer, so that pipelines made per request share it. The embedded default is memory; a fleet
plugs in a store whose decisions are atomic across processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final, Protocol, TypeVar

import attrs

from lamella._making import unfrozen

T = TypeVar("T")


@attrs.frozen
class Blob:
    """A kept value.

    Attributes:
        data: Its bytes.
        age: Seconds since it was put.
        tags: The tags it was put with.
    """

    data: bytes
    age: float
    tags: frozenset[str] = frozenset()


@attrs.frozen
class BlobInfo:
    """What is known of a kept value without reading it.

    Attributes:
        key: Its key.
        size: Bytes of its data. Of an object that a store in memory keeps as it is, those that it
            counts: more than its data has.
        age: Seconds since it was put.
        expires_in: Seconds until it expires; None if it does not.
        tags: The tags it was put with.
    """

    key: str
    size: int
    age: float
    expires_in: float | None = None
    tags: frozenset[str] = frozenset()


@attrs.frozen
class BlobPage:
    """Some of what is kept, and where to go on.

    Attributes:
        entries: What there is; a page may have none although there are more.
        cursor: What the next page is asked for with; empty after the last one.
    """

    entries: Sequence[BlobInfo]
    cursor: str = ""


class BlobStore(Protocol):
    """Keyed bytes with a time to live (caches, vaults).

    A store that is in memory, so that nobody ever waits for it, says so by an attribute `instant`.
    One that others can write to, whom a reader should not have to trust, says so by an attribute
    `shared`: caches sign what they keep there.
    """

    async def get(self, key: str) -> Blob | None:
        """The value under `key`, or None if there is none or it has expired."""
        ...

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, Blob]:
        """The values under these keys, by key, of those that there are and have not expired.

        What it costs is one question to the store, or a few, and not one for each key.
        """
        ...

    async def put(
        self, key: str, data: bytes, *, ttl: float | None = None, tags: frozenset[str] = frozenset()
    ) -> None:
        """Keep `data`, and only these tags, replacing what was there.

        Args:
            key: Any text.
            data: The value; may be empty.
            ttl: Seconds to keep it. None keeps it until evicted; at 0 or less it has expired
                already, so that nothing is left under the key.
            tags: Words by which `purge` finds it.

        Raises:
            ValueError: If the store never keeps so large a value; what was there stays.
        """
        ...

    async def put_many(
        self,
        values: Mapping[str, bytes],
        *,
        ttl: float | None = None,
        tags: frozenset[str] = frozenset(),
    ) -> None:
        """Keep each of the values, as `put` would, all with this time to live and these tags.

        Others may see some of them before the others are there, and after an error some may be.

        Raises:
            ValueError: If the store never keeps one as large as one of them; none was put.
        """
        ...

    async def delete(self, key: str) -> bool:
        """Forget `key`; whether it was there."""
        ...

    async def entries(
        self, *, prefix: str = "", tag: str | None = None, cursor: str = ""
    ) -> BlobPage:
        """What is kept with this prefix and tag, page by page, in no particular order.

        Whatever is there from the first page to the last is found, once or more often. Reading it
        is no use of it: nothing lives longer for having been listed.

        Args:
            prefix: What the keys begin with, as literal text.
            tag: What they are tagged with; None for all.
            cursor: The last page's, to go on after it; empty to begin.

        Raises:
            ValueError: If the cursor is none of this store's.
        """
        ...

    async def tagged(self, tag: str) -> Mapping[str, Blob]:
        """Every value that has the tag now and has not expired, by key; empty if there is none.

        What belongs together (the placeholders of a session) is kept under keys of its own with
        one tag, so that writers at the same time lose nothing of each other's.
        """
        ...

    async def purge(self, *, prefix: str = "", tag: str | None = None) -> int:
        """Forget every key that begins with the prefix and has the tag, if given; how many.

        The prefix is literal text, not a pattern.
        """
        ...

    async def aclose(self) -> None:
        """Release what the store holds open."""
        ...


@attrs.frozen
class Dimension:
    """One thing to reserve.

    Attributes:
        key: What is limited, for example `("acme", "ratelimit", "tokens")`. Of what flows back, who
            asks with another `capacity` or `per` asks for another limit. What does not flow back is
            one thing whatever the capacity: who raises a budget finds what was spent.
        amount: How much to reserve; at least 0. 0 is always granted, even in debt, so that what
            turned out to be owed without a lease can be settled through a fresh one.
        capacity: The most that may be out at once: the burst of a rate, or a total; at least 0.
        per: Seconds in which the whole capacity flows back. 0 means that nothing flows back by
            itself: only a settlement or a refund returns it (concurrency, a total budget).
        held: Whether a settlement gives everything back (concurrency) rather than what was not
            used (tokens, money).
        keep: Of what nothing flows back of: seconds after which it may be forgotten that anything
            is out, once nobody touches it any more, so that it is whole again; above 0. None leaves
            it to the store. A budget of a day that is over is never asked for again.

    Raises:
        ValueError: If a number is negative, `per` not finite, or `keep` not above 0 and finite.
        TypeError: If an amount or capacity is not an integer.
    """

    key: tuple[str, ...]
    amount: int
    capacity: int
    per: float = 0.0
    held: bool = False
    keep: float | None = None

    def want(self, amount: int) -> Dimension:
        """The same, of which so much is reserved; cheaper than to make it anew.

        Raises:
            ValueError: If the amount is negative.
            TypeError: If it is not an integer.
        """
        if type(amount) is not int or amount < 0:
            return Dimension(self.key, amount, self.capacity, self.per, self.held, self.keep)
        new: Any = object.__new__(_Wanted)
        new.key = self.key
        new.amount = amount
        new.capacity = self.capacity
        new.per = self.per
        new.held = self.held
        new.keep = self.keep
        new.__class__ = Dimension
        return new  # type: ignore[no-any-return]

    def __attrs_post_init__(self) -> None:
        """Refuse numbers that no store could count exactly."""
        if type(self.amount) is not int or type(self.capacity) is not int:
            raise TypeError(
                f"Dimension: amount {self.amount!r} and capacity {self.capacity!r} must be whole "
                "numbers: count money in nano-units, time in milliseconds."
            )
        if self.amount < 0 or self.capacity < 0 or not 0 <= self.per < math.inf:
            raise ValueError(
                f"Dimension: amount {self.amount!r}, capacity {self.capacity!r} and per "
                f"{self.per!r} must be 0 or more, and per finite."
            )
        if self.keep is not None and not 0 < self.keep < math.inf:
            raise ValueError(f"Dimension: keep {self.keep!r} must be above 0 and finite, or None.")


_Wanted: Final = unfrozen(Dimension)


@attrs.frozen
class Lease:
    """The store's answer to a reservation.

    Attributes:
        granted: Whether all dimensions were reserved; if not, none was.
        retry_after: Seconds after which it succeeds by the passing of time alone, if nobody else
            reserves; 0 when granted. None when time alone will not do: somebody must give back,
            or, where `refused.amount` is above `refused.capacity`, it never will.
        refused: The dimension that stands in the way longest: one that never will fit, else one
            that time alone does not mend, else the one with the longest wait; the first of equals.
        remaining: What is left of each dimension, in order; negative while in debt.
    """

    granted: bool
    retry_after: float | None = 0.0
    refused: Dimension | None = None
    remaining: tuple[int, ...] = ()


class LeaseStore(Protocol):
    """Atomic reservations over several dimensions: all of them or none.

    Every operation is idempotent by lease id: a repeated one, after a lost reply, changes nothing
    and gives the same answer. A refusal leaves nothing behind, so its id may be tried again. A
    lease that has expired is forgotten.

    What is given back is given back as if it had never been reserved: of a rate, therefore, not
    what has flowed back by itself meanwhile. Otherwise old leases that end together would let
    through a second burst. Whatever leases do, in any window no more is taken than the capacity and
    what flows back during the window, debts apart.
    """

    async def reserve(self, lease_id: str, dimensions: Sequence[Dimension], *, ttl: float) -> Lease:
        """Reserve all dimensions or none.

        Args:
            lease_id: Fresh for each reservation.
            dimensions: What to reserve. One that occurs twice must fit twice.
            ttl: Seconds after which an unsettled lease counts as refunded (its holder died);
                above 0 and finite.

        Raises:
            ValueError: If `ttl` is not such a number.
        """
        ...

    async def settle(self, lease_id: str, amounts: Sequence[int]) -> bool:
        """Replace the reserved amounts by the real ones, in the order reserved.

        What was over comes back; what is missing becomes debt that later requests wait out.
        Of a held dimension everything comes back, whatever its amount says.
        Whether there was such a lease to settle: False once it was refunded or has expired, and
        then nothing is charged.

        Raises:
            ValueError: If there is not one amount, 0 or more, for each dimension; nothing changes.
        """
        ...

    async def refund(self, lease_id: str) -> bool:
        """Give everything back, as if it had not been reserved. Whether there was such a lease."""
        ...

    async def renew(self, lease_id: str, *, ttl: float) -> bool:
        """Let the lease live `ttl` seconds from now. Whether it was still there.

        Raises:
            ValueError: If `ttl` is not above 0 and finite.
        """
        ...

    async def level(self, dimension: Dimension) -> int:
        """What could be reserved of the dimension now; negative while in debt."""
        ...

    async def now(self) -> float:
        """The store's wall clock, in seconds since the epoch.

        Who counts by days or months asks the store which it is: the processes of a fleet do not
        agree on it.
        """
        ...

    async def aclose(self) -> None:
        """Release what the store holds open."""
        ...


class LocalState(Protocol):
    """State of this process that layers of many pipelines share: retry budgets, latencies."""

    def get(self, key: tuple[str, ...], make: Callable[[], T]) -> T:
        """The object under `key`, made on first use. Bounded: the least recently used goes.

        All callers get the same one; of several that threads make at the same time one is kept.
        """
        ...

    def under(self, prefix: tuple[str, ...]) -> Mapping[tuple[str, ...], Any]:
        """The objects whose keys begin so, by key, for who shows how things are; no use of them."""
        ...


@attrs.frozen
class Stores:
    """One store for each need."""

    blobs: BlobStore
    leases: LeaseStore
    local: LocalState

    async def aclose(self) -> None:
        """Close all of them, even if one fails to close."""
        async with AsyncExitStack() as stack:
            for store in (self.leases, self.blobs):
                stack.push_async_callback(store.aclose)
