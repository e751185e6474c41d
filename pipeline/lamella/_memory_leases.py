"""Atomic reservations in memory: token buckets under one lock."""

from __future__ import annotations

import logging
import math
import os
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias
from weakref import WeakSet

import attrs

from lamella._fork_locks import fork_safe_lock
from lamella._loops import Loop, left_behind
from lamella._memory_buckets import NANOS, Bucket, Gap, ticks, ticks_up
from lamella._memory_expiry import Expiries
from lamella._memory_totals import Total
from lamella._stores import Dimension, Lease
from lamella._waiting_lines import WaitingLines

logger = logging.getLogger("lamella")

_Key: TypeAlias = tuple[tuple[str, ...], int, float]
_Part: TypeAlias = tuple[Bucket, Gap | None, int] | tuple[Total, None, int]
_Parts: TypeAlias = tuple[_Part, ...]

_TIDY: Final = 2  # buckets looked at whenever one is made, so that idle ones go by and by
_SEARCH: Final = 64  # ... and when there is no room left for it
_LOOK: Final = 1.0  # seconds between two looks for holds of closed event loops

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
    parts: _Parts
    settled: bool = False


class Hold:
    """What somebody of this process has reserved by `MemoryLeases.hold`.

    Attributes:
        dimensions: What was reserved.
        parts: Where it was taken from.
        loop: The event loop of who holds it.
        used: What may have been used of each: what is charged if nobody ends it. None gives all
            back.
    """

    __slots__ = ("dimensions", "loop", "parts", "used")

    def __init__(self, dimensions: tuple[Dimension, ...], parts: _Parts, loop: Loop) -> None:
        self.used: Sequence[int] | None = None
        self.dimensions = dimensions
        self.parts = parts
        self.loop = loop

    @property
    def remaining(self) -> tuple[int, ...]:
        """What was left of each just after."""
        return tuple([bucket.tokens(shares) for bucket, _, shares in self.parts])


_stores: WeakSet[MemoryLeases] = WeakSet()


class MemoryLeases:
    """The memory default of `LeaseStore`: thread-safe, for any number of event loops.

    A rate is a bucket for each (key, capacity, per); a bucket that nobody has touched is full. Of
    what does not flow back there is, for each key, what is out. Every decision is exact, see
    `_memory_buckets` and `_memory_totals`. The ids of the last settled and refunded leases
    are remembered to answer repetitions.

    Args:
        monotonic: The clock, in seconds. A step back counts as standing still.
        max_buckets: How many limits may be in use, that is, not full or with a lease out; idle ones
            make room, and those whose `keep` is over. Beyond that, reservations that need a new one
            are refused and a warning is logged once: forgetting a limit that is in use would let
            through too much.
        max_ended: How many ended leases are remembered.
        wall: The wall clock, in seconds since the epoch.

    Attributes:
        lines: Who waits for its limits.
    """

    immediate: Final = True
    """No operation ever suspends, so that a plain function can run one."""

    def __init__(
        self,
        *,
        monotonic: Callable[[], float],
        max_buckets: int,
        max_ended: int = 10_000,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - the real port's clock
    ) -> None:
        if max_buckets < 1 or max_ended < 1:
            raise ValueError(
                f"MemoryLeases: max_buckets {max_buckets!r} and max_ended {max_ended!r} must be at "
                "least 1."
            )
        self._monotonic = monotonic
        self._wall = wall
        self._max_buckets = max_buckets
        self._max_ended = max_ended
        self._lock = fork_safe_lock()
        self._buckets: OrderedDict[_Key, Bucket] = OrderedDict()
        self._totals: OrderedDict[tuple[str, ...], Total] = OrderedDict()
        self._held: dict[str, _Held] = {}
        self._ended: OrderedDict[str, _Held] = OrderedDict()
        self._expiries = Expiries()
        self._now = -math.inf
        self._warned = False
        self._holds: set[Hold] = set()
        self._dropped: deque[Hold] = deque()
        self._looked = -math.inf
        self.lines = WaitingLines()
        _stores.add(self)

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
            answer = Lease(granted=True, remaining=_remaining(wanted, parts))
            self._held[lease_id] = _Held(answer, wanted, parts)
            self._expiries.set(lease_id, now + span)
            return answer

    async def settle(self, lease_id: str, amounts: Sequence[int]) -> bool:
        """Replace the reserved amounts by the real ones; see `LeaseStore.settle`."""
        real = _checked(amounts, amounts)
        with self._lock:
            now = self._sweep()
            held = self._held.get(lease_id)
            if held is None:
                ended = self._ended.get(lease_id)
                return ended is not None and ended.settled
            _checked(real, held.dimensions)
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

    async def now(self) -> float:
        """The wall clock; see `LeaseStore.now`."""
        return self._wall()

    async def aclose(self) -> None:
        """Nothing is held open. What is counted stays, for others may use the same store."""

    # --- for those who are in this process ------------------------------------------------------

    def hold(self, dimensions: tuple[Dimension, ...], loop: Loop) -> Hold | Lease:
        """Reserve all dimensions or none, for somebody of this process.

        Who holds it cannot die without this store, and no reply is lost on the way. So it needs no
        id, and does not expire: neither a clock that jumps nor an event loop that stands still
        takes it away. It ends by `end`, or by `drop`; and once its event loop has been closed, when
        room is wanted.

        Returns:
            The hold; the refusal if one does not fit.
        """
        with self._lock:
            instant = self._monotonic()
            self._now = max(self._now, instant)
            now = ticks(self._now)
            if self._dropped or self._expiries.soonest <= now:
                self._clear(now)
            parts = self._take(dimensions, now)
            if parts is not None:
                hold = Hold(dimensions, parts, loop)
                self._holds.add(hold)
                return hold
            refusal = self._refusal(dimensions, now)
            look = self._holds and self._now - self._looked >= _LOOK
            if look:
                self._looked = self._now
        if look and self._give_up_closed():
            return self.hold(dimensions, loop)
        return refusal

    def end(self, hold: Hold, amounts: Sequence[int] | None) -> None:
        """Replace what is held by what was used; None: nothing was. Only the first ending counts.

        Raises:
            ValueError: If there is not one amount, 0 or more, for each dimension; nothing changes.
        """
        dimensions = hold.dimensions
        as_thought = False  # as mostly: one rate, of which was used what was reserved
        if amounts is not None:
            if len(amounts) == 1 == len(dimensions) and type(amounts[0]) is int:
                as_thought = amounts[0] == dimensions[0].amount and not dimensions[0].held
            if not as_thought:
                amounts = _checked(amounts, dimensions)
        with self._lock:
            if hold not in self._holds:
                return
            self._holds.remove(hold)
            if as_thought:
                bucket, gap, _ = hold.parts[0]
                if type(bucket) is Bucket:
                    bucket.give_back(0, gap)
                    return
            self._give(dimensions, hold.parts, amounts)

    def drop(self, hold: Hold) -> None:
        """Give back what nobody can end any more, soon. Takes no lock: finalisers may call it."""
        self._dropped.append(hold)

    @property
    def held(self) -> int:
        """How many holds and leases are out."""
        with self._lock:
            self._sweep()
            return len(self._holds) + len(self._held)

    def _give_up_closed(self) -> bool:
        """Drop the holds of closed event loops; whether there were any. Outside the lock."""
        with self._lock:
            holds = list(self._holds)
        lost = left_behind(holds)
        self._dropped.extend(lost)
        return bool(lost)

    def forget(self) -> None:
        """Nobody of this process holds anything: a forked child has none of those who did."""
        for hold in self._holds:
            hold.used = None  # the parent's, who charges it in a memory of its own
        self._dropped.extend(self._holds)

    # --- for those who keep leases elsewhere ----------------------------------------------------

    def restore(
        self,
        lease_id: str,
        answer: Lease,
        dimensions: tuple[Dimension, ...],
        parts: _Parts,
        expires: int,
    ) -> None:
        """A lease is out that was granted elsewhere.

        Args:
            lease_id: Its id.
            answer: What was answered.
            dimensions: What was reserved.
            parts: Where it was taken from.
            expires: The tick at which it expires.
        """
        self._held[lease_id] = _Held(answer, dimensions, parts)
        self._expiries.set(lease_id, expires)

    def restore_ended(
        self, lease_id: str, answer: Lease, dimensions: tuple[Dimension, ...], *, settled: bool
    ) -> None:
        """A lease has ended elsewhere."""
        self._ended[lease_id] = _Held(answer, dimensions, (), settled)

    def knows(self, lease_id: str) -> bool:
        """Whether a lease is out, or has ended and is remembered; without a look at the clock."""
        return lease_id in self._held or lease_id in self._ended

    def is_out(self, lease_id: str) -> bool:
        """Whether a lease is out; without a look at the clock."""
        return lease_id in self._held

    def expire(self) -> None:
        """Give back what has expired."""
        with self._lock:
            self._sweep()

    # --- under the lock -------------------------------------------------------------------------

    def _sweep(self) -> int:
        """Read the clock and refund what has expired; the tick it is."""
        # Read under the lock: decisions happen in the order of their instants.
        instant = self._monotonic()
        self._now = max(self._now, instant)
        now = ticks(self._now)
        if self._dropped or self._expiries.soonest <= now:
            self._clear(now)
        return now

    def _clear(self, now: int) -> None:
        """Refund what has expired, or was dropped."""
        for lease_id in self._expiries.due(now):
            self._end(lease_id, self._held[lease_id], None, now, lost=True)
        while self._dropped:
            hold = self._dropped.popleft()
            if hold in self._holds:
                self._holds.discard(hold)
                self._give(hold.dimensions, hold.parts, hold.used, now, lost=hold.used is None)

    def _end(
        self,
        lease_id: str,
        held: _Held,
        real: Sequence[int] | None,
        now: int,
        *,
        lost: bool = False,
    ) -> None:
        """Give back what was not used; None: all of it."""
        del self._held[lease_id]
        self._expiries.discard(lease_id)
        self._give(held.dimensions, held.parts, real, now, lost=lost)
        held.parts = ()

    def _give(
        self,
        dimensions: tuple[Dimension, ...],
        parts: _Parts,
        real: Sequence[int] | None,
        now: int | None = None,
        *,
        lost: bool = False,
    ) -> None:
        """End the parts of a lease; `now` is read where it matters and is not given.

        That a lease is `lost`, expired or dropped, is no use of what it was of.
        """
        for index, (bucket, gap, _) in enumerate(parts):
            dimension = dimensions[index]
            over = dimension.amount
            if real is not None and not dimension.held:
                over -= real[index]
            if type(bucket) is Total:
                if (dimension.keep is not None or bucket.keep is not None) and not lost:
                    now = self._sweep() if now is None else now
                    bucket.touch(dimension.keep, now)
                bucket.give_back(over)
                continue
            if over:
                now = self._sweep() if now is None else now
                bucket.refill(now)
                if over < 0:
                    bucket.owe(-over)
                    over = 0
            bucket.give_back(over, gap)

    def _remember(self, lease_id: str, held: _Held) -> None:
        self._ended[lease_id] = held
        if len(self._ended) > self._max_ended:
            self._ended.popitem(last=False)

    def _take(self, dimensions: tuple[Dimension, ...], now: int) -> _Parts | None:
        """Take all dimensions; None, and all is as it was, if one does not fit."""
        part: _Part | None
        if len(dimensions) == 1:
            only = dimensions[0]
            found = self._buckets.get((only.key, only.capacity, only.per))
            if found is not None:
                part = found.take(only.amount, now)
                return None if part is None else (part,)
        parts: list[_Part] = []
        buckets = self._buckets
        for dimension in dimensions:
            if dimension.per:
                key = (dimension.key, dimension.capacity, dimension.per)
                bucket = buckets.get(key) or self._make(key, now)
                part = None if bucket is None else bucket.take(dimension.amount, now)
            else:
                part = self._take_total(dimension, now)
            if part is None:
                for (taken, gap, _), undone in zip(parts, dimensions, strict=False):
                    if type(taken) is Total:
                        taken.give_back(undone.amount)
                    else:
                        taken.give_back(undone.amount, gap)
                return None
            parts.append(part)
        return tuple(parts)

    def _take_total(self, dimension: Dimension, now: int) -> tuple[Total, None, int] | None:
        """Take what does not flow back; None if it does not fit."""
        total = self._totals.get(dimension.key)
        if total is None:
            if not self._make_room(now):
                return None
            total = self._totals[dimension.key] = Total()
        left = total.take(dimension.amount, dimension.capacity, now)
        if left is None:
            return None
        if dimension.keep is not None or total.keep is not None:
            total.touch(dimension.keep, now)
        return total, None, left

    def _make(self, key: _Key, now: int) -> Bucket | None:
        """A new bucket; None if there is no room for it."""
        if not self._make_room(now):
            return None
        bucket = self._buckets[key] = Bucket(key[1], key[2], now)
        return bucket

    def _refusal(self, dimensions: tuple[Dimension, ...], now: int) -> Lease:
        """Why it does not fit."""
        needs: dict[object, int] = {}
        longest, refused = _FITS, None
        for dimension in dimensions:
            key = _key(dimension) if dimension.per else dimension.key
            need = needs[key] = needs.get(key, 0) + dimension.amount
            wait = self._wait(dimension, need, now) if dimension.amount else _FITS
            if wait > longest:
                longest, refused = wait, dimension
        if refused is None:  # there is no room for one of its buckets
            longest = _GIVEN_BACK
            refused = next(each for each in dimensions if self._is_new(each))
        for each in dimensions:
            total = None if each.per else self._totals.get(each.key)
            if total is not None:
                total.touch(each.keep, now)
        return Lease(
            granted=False,
            retry_after=self._retry_after(now, longest),
            refused=refused,
            remaining=tuple([self._level(dimension, now) for dimension in dimensions]),
        )

    def _is_new(self, dimension: Dimension) -> bool:
        if dimension.per:
            return _key(dimension) not in self._buckets
        return dimension.key not in self._totals

    def _wait(self, dimension: Dimension, need: int, now: int) -> _Wait:
        if need > dimension.capacity:
            return _NEVER
        if not dimension.per:
            return _FITS if need <= self._level(dimension, now) else _GIVEN_BACK
        bucket = self._buckets.get(_key(dimension))
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
        if not dimension.per:
            total = self._totals.get(dimension.key)
            return dimension.capacity if total is None else total.level(dimension.capacity, now)
        bucket = self._buckets.get(_key(dimension))
        if bucket is None:
            return dimension.capacity
        bucket.refill(now)
        return bucket.level

    def _make_room(self, now: int) -> bool:
        """Forget some idle buckets; whether there is room for one more."""
        self._forget_idle(_TIDY, now)
        if len(self._buckets) + len(self._totals) >= self._max_buckets:
            self._forget_idle(_SEARCH, now)
        if len(self._buckets) + len(self._totals) < self._max_buckets:
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
        """Forget full buckets and idle totals: a new one would be the same.

        The first are looked at and go to the end, so that in time all are.
        """
        for _ in range(min(most, len(self._buckets))):
            key, bucket = self._buckets.popitem(last=False)
            bucket.refill(now)
            if bucket.leases or not bucket.full:
                self._buckets[key] = bucket
        for _ in range(min(most, len(self._totals))):
            name, total = self._totals.popitem(last=False)
            if not total.idle(now):
                self._totals[name] = total


def _key(dimension: Dimension) -> _Key:
    """What a rate is known by. A total is by its key alone: the capacity is its asker's."""
    return (dimension.key, dimension.capacity, dimension.per)


def _remaining(dimensions: tuple[Dimension, ...], parts: _Parts) -> tuple[int, ...]:
    """What is left of each after all were taken."""
    return tuple(
        [
            each.capacity - part[0].out if type(part[0]) is Total else part[0].level
            for each, part in zip(dimensions, parts, strict=True)
        ]
    )


def _checked(amounts: Sequence[int], dimensions: Sequence[object]) -> Sequence[int]:
    """The amounts, one for each dimension."""
    for amount in amounts:
        if type(amount) is not int or amount < 0:
            raise ValueError(
                f"LeaseStore.settle: amounts {amounts!r} must be whole numbers, 0 or more."
            )
    if len(amounts) != len(dimensions):
        raise ValueError(
            f"LeaseStore.settle: {len(amounts)} amounts for {len(dimensions)} reserved dimensions; "
            "give one for each, in the order reserved."
        )
    return amounts


def _span(ttl: float) -> int:
    if not 0 < ttl < math.inf:
        raise ValueError(
            f"LeaseStore: ttl {ttl!r} must be above 0 and finite: the seconds after which a lease "
            "whose holder has died is refunded."
        )
    return ticks_up(ttl)


def _forget_all() -> None:
    for store in list(_stores):
        store.forget()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_forget_all)
