"""Atomic reservations in memory: token buckets under one lock."""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import attrs

from lamella._fork_locks import fork_safe_lock
from lamella._memory_buckets import NANOS, Bucket, Gap, ticks, ticks_up
from lamella._memory_expiry import Expiries
from lamella._stores import Dimension, Lease

logger = logging.getLogger("lamella")

_Key: TypeAlias = tuple[tuple[str, ...], int, float]

_TIDY: Final = 2  # buckets looked at whenever one is made, so that idle ones go by and by
_SEARCH: Final = 64  # ... and when there is no room left for it

# How long a dimension stands in the way: (0, ticks) that time needs, and what is longer than those.
_Wait: TypeAlias = tuple[int, int]
_FITS: Final[_Wait] = (0, 0)
_GIVEN_BACK: Final[_Wait] = (1, 0)
_NEVER: Final[_Wait] = (2, 0)


@attrs.define(eq=False)
class _Held:
    """A granted lease; once it has ended only the answers to repetitions are left of it."""

    answer: Lease
    dimensions: tuple[Dimension, ...]
    parts: tuple[tuple[Bucket, Gap | None], ...]
    settled: bool = False


class MemoryLeases:
    """The memory default of `LeaseStore`: thread-safe, for any number of event loops.

    A limit is a bucket for each (key, capacity, per); a bucket that nobody has touched is full.
    Every decision is exact, see `_memory_buckets`. The ids of the last settled and refunded leases
    are remembered to answer repetitions.

    Args:
        monotonic: The clock, in seconds. A step back counts as standing still.
        max_buckets: How many limits may be in use, that is, not full or with a lease out; idle ones
            make room. Beyond that, reservations that need a new one are refused and a warning is
            logged once: forgetting a limit that is in use would let through too much.
        max_ended: How many ended leases are remembered.
    """

    immediate: Final = True
    """No operation ever suspends, so that a plain function can run one."""

    def __init__(
        self, *, monotonic: Callable[[], float], max_buckets: int, max_ended: int = 10_000
    ) -> None:
        if max_buckets < 1 or max_ended < 1:
            raise ValueError(
                f"MemoryLeases: max_buckets {max_buckets!r} and max_ended {max_ended!r} must be at "
                "least 1."
            )
        self._monotonic = monotonic
        self._max_buckets = max_buckets
        self._max_ended = max_ended
        self._lock = fork_safe_lock()
        self._buckets: OrderedDict[_Key, Bucket] = OrderedDict()
        self._held: dict[str, _Held] = {}
        self._ended: OrderedDict[str, _Held] = OrderedDict()
        self._expiries = Expiries()
        self._now = -math.inf
        self._warned = False

    async def reserve(self, lease_id: str, dimensions: Sequence[Dimension], *, ttl: float) -> Lease:
        """Reserve all dimensions or none; see `LeaseStore.reserve`.

        Raises:
            ValueError: If `ttl` is not above 0 and finite, or the id was used for other dimensions.
        """
        wanted = tuple(dimensions)
        span = _span(ttl)
        with self._lock:
            now = self._sweep()
            known = self._held.get(lease_id) or self._ended.get(lease_id)
            if known is not None:
                if known.dimensions != wanted:
                    raise ValueError(
                        f"LeaseStore.reserve: id {lease_id!r} was used for other dimensions; make "
                        "a fresh id for each reservation."
                    )
                return known.answer
            parts = self._take(wanted, now)
            if parts is None:
                return self._refusal(wanted, now)
            answer = Lease(granted=True, remaining=tuple([bucket.level for bucket, _ in parts]))
            self._held[lease_id] = _Held(answer, wanted, parts)
            self._expiries.set(lease_id, now + span)
            return answer

    async def settle(self, lease_id: str, amounts: Sequence[int]) -> bool:
        """Replace the reserved amounts by the real ones; see `LeaseStore.settle`."""
        real = tuple(amounts)
        if any(type(amount) is not int or amount < 0 for amount in real):
            raise ValueError(
                f"LeaseStore.settle: amounts {real!r} must be whole numbers, 0 or more."
            )
        with self._lock:
            now = self._sweep()
            held = self._held.get(lease_id)
            if held is None:
                ended = self._ended.get(lease_id)
                return ended is not None and ended.settled
            if len(real) != len(held.dimensions):
                raise ValueError(
                    f"LeaseStore.settle: {len(real)} amounts for {len(held.dimensions)} reserved "
                    "dimensions; give one for each, in the order reserved."
                )
            self._end(lease_id, held, real, now)
            held.settled = True
            self._remember(lease_id, held)
            return True

    async def refund(self, lease_id: str) -> bool:
        """Give everything back, as if it had not been reserved. Whether there was such a lease."""
        with self._lock:
            now = self._sweep()
            held = self._held.get(lease_id)
            if held is None:
                ended = self._ended.get(lease_id)
                return ended is not None and not ended.settled
            self._end(lease_id, held, None, now)
            self._remember(lease_id, held)
            return True

    async def renew(self, lease_id: str, *, ttl: float) -> bool:
        """Let the lease live `ttl` seconds from now. Whether it was still there."""
        span = _span(ttl)
        with self._lock:
            now = self._sweep()
            if lease_id not in self._held:
                return False
            self._expiries.set(lease_id, now + span)
            return True

    async def level(self, dimension: Dimension) -> int:
        """What could be reserved of the dimension now; negative while in debt."""
        with self._lock:
            return self._level(dimension, self._sweep())

    async def aclose(self) -> None:
        """Nothing is held open. What is counted stays, for others may use the same store."""

    def _sweep(self) -> int:
        """Read the clock and refund what has expired; the tick it is."""
        # Read under the lock: decisions happen in the order of their instants.
        self._now = max(self._now, self._monotonic())
        now = ticks(self._now)
        for lease_id in self._expiries.due(now):
            self._end(lease_id, self._held[lease_id], None, now)
        return now

    def _end(self, lease_id: str, held: _Held, real: tuple[int, ...] | None, now: int) -> None:
        """Give back what was not used; None: all of it."""
        del self._held[lease_id]
        self._expiries.discard(lease_id)
        for index, (bucket, gap) in enumerate(held.parts):
            dimension = held.dimensions[index]
            used = 0 if real is None or dimension.held else real[index]
            bucket.refill(now)
            if used > dimension.amount:
                bucket.owe(used - dimension.amount)
            bucket.give_back(max(0, dimension.amount - used), gap)
        held.parts = ()

    def _remember(self, lease_id: str, held: _Held) -> None:
        self._ended[lease_id] = held
        if len(self._ended) > self._max_ended:
            self._ended.popitem(last=False)

    def _take(
        self, dimensions: tuple[Dimension, ...], now: int
    ) -> tuple[tuple[Bucket, Gap | None], ...] | None:
        """Take all dimensions; None, and all is as it was, if one does not fit."""
        parts: list[tuple[Bucket, Gap | None]] = []
        for dimension in dimensions:
            bucket = self._bucket(dimension, now)
            amount = dimension.amount
            if bucket is None or (amount and not bucket.fits(amount)):
                for (taken, gap), undone in zip(parts, dimensions, strict=False):
                    taken.give_back(undone.amount, gap)
                return None
            parts.append((bucket, bucket.take(amount)))
        return tuple(parts)

    def _bucket(self, dimension: Dimension, now: int) -> Bucket | None:
        """The dimension's bucket as of now; None if there is no room for it."""
        key = _key(dimension)
        bucket = self._buckets.get(key)
        if bucket is None:
            if not self._make_room(now):
                return None
            bucket = self._buckets[key] = Bucket(dimension.capacity, dimension.per, now)
        else:
            bucket.refill(now)
        return bucket

    def _refusal(self, dimensions: tuple[Dimension, ...], now: int) -> Lease:
        """Why it does not fit."""
        needs: dict[_Key, int] = {}
        longest, refused = _FITS, None
        for dimension in dimensions:
            key = _key(dimension)
            need = needs[key] = needs.get(key, 0) + dimension.amount
            wait = self._wait(key, need, now) if dimension.amount else _FITS
            if wait > longest:
                longest, refused = wait, dimension
        if refused is None:  # there is no room for one of its buckets
            longest = _GIVEN_BACK
            refused = next(each for each in dimensions if _key(each) not in self._buckets)
        return Lease(
            granted=False,
            retry_after=self._retry_after(now, longest),
            refused=refused,
            remaining=tuple([self._level(dimension, now) for dimension in dimensions]),
        )

    def _wait(self, key: _Key, need: int, now: int) -> _Wait:
        if need > key[1]:
            return _NEVER
        bucket = self._buckets.get(key)
        if bucket is None:
            return _FITS
        bucket.refill(now)
        if bucket.fits(need):
            return _FITS
        wait = bucket.wait(need)
        return _GIVEN_BACK if wait is None else (0, wait)

    def _retry_after(self, now: int, wait: _Wait) -> float | None:
        """The wait in seconds, rounded up until the clock, thus far on, shows that it is over."""
        if wait >= _GIVEN_BACK:
            return None
        due = now + wait[1]
        seconds = max(0.0, due / NANOS - self._now)
        while ticks(self._now + seconds) < due:
            seconds += math.ulp(self._now + seconds)
        return seconds

    def _level(self, dimension: Dimension, now: int) -> int:
        bucket = self._buckets.get(_key(dimension))
        if bucket is None:
            return dimension.capacity
        bucket.refill(now)
        return bucket.level

    def _make_room(self, now: int) -> bool:
        """Forget some idle buckets; whether there is room for one more."""
        self._forget_idle(_TIDY, now)
        if len(self._buckets) >= self._max_buckets:
            self._forget_idle(_SEARCH, now)
        if len(self._buckets) < self._max_buckets:
            return True
        if not self._warned:
            self._warned = True
            logger.warning(
                "MemoryLeases: max_buckets %d limits are in use; new ones are refused. Limit fewer "
                "things, or make the store with more.",
                self._max_buckets,
            )
        return False

    def _forget_idle(self, most: int, now: int) -> None:
        """Forget full buckets without leases: a new one would be the same.

        The first are looked at and go to the end, so that in time all are.
        """
        for _ in range(min(most, len(self._buckets))):
            key, bucket = self._buckets.popitem(last=False)
            bucket.refill(now)
            if bucket.leases or not bucket.full:
                self._buckets[key] = bucket


def _key(dimension: Dimension) -> _Key:
    return (dimension.key, dimension.capacity, dimension.per)


def _span(ttl: float) -> int:
    if not 0 < ttl < math.inf:
        raise ValueError(
            f"LeaseStore: ttl {ttl!r} must be above 0 and finite: the seconds after which a lease "
            "whose holder has died is refunded."
        )
    return ticks_up(ttl)
