"""Token buckets in whole numbers, which know what a lease may still give back.

Time is counted in ticks of a nanosecond, and a token in as many shares as `per` has ticks, so that
what flows back in a tick, `capacity` shares, is whole. All arithmetic is exact: rounding happens
only where a clock reading becomes a tick (down, by less than a nanosecond), where `per` does (up),
and where a level is shown (down). In any window the bucket therefore lets through no more than the
capacity and what flows back in the window lengthened by one nanosecond; nothing adds up over time.

A lease gives back what the bucket would hold more now had the lease never been: not what overflowed
in the meantime. Let D be that surplus. It begins as the amount taken, and whenever the bucket fills
so far that the surplus would overflow, D falls to the room there is: D = min(amount, the least room
since the lease began). The least room since each lease began is kept as sums over a stack of gaps:
the room is their total, a lease adds its gap at the top, time fills gaps from the top, and what a
lease gives back fills its own gap and then older ones. Then a lease's D is at most the sum of the
gaps up to its own, also after others have given back. Each step empties a gap or ends, so the cost
is constant on average.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

NANOS: Final = 1_000_000_000


def ticks(seconds: float) -> int:
    """The whole nanoseconds of a clock reading, rounded down."""
    numerator, denominator = seconds.as_integer_ratio()
    return numerator * NANOS // denominator


def ticks_up(seconds: float) -> int:
    """The whole nanoseconds of a span, rounded up: nothing flows back too early."""
    numerator, denominator = seconds.as_integer_ratio()
    return -(-numerator * NANOS // denominator)


class Gap:
    """A part of what a bucket lacks, with the leases whose surplus reaches up to it."""

    __slots__ = ("leases", "newer", "older", "shares")

    def __init__(self, shares: int, older: Gap | None) -> None:
        self.shares = shares
        self.leases = 0
        self.older = older
        self.newer: Gap | None = None


class Bucket:
    """One rate: what is there, since when, and what is out.

    Args:
        capacity: Tokens when full.
        per: Seconds in which the capacity flows back; above 0.
        now: The tick it is.
    """

    __slots__ = ("_at", "_full", "_newest", "_shares", "_unit", "capacity", "leases")

    def __init__(self, capacity: int, per: float, now: int) -> None:
        self.capacity = capacity
        self.leases = 0
        self._unit = ticks_up(per)
        self._full: int = capacity * self._unit
        self._shares: int = self._full
        self._at = now
        self._newest: Gap | None = None

    @classmethod
    def restored(
        cls,
        capacity: int,
        per: float,
        state: tuple[int, int, int],
        gaps: Iterable[tuple[int, int, int]],
    ) -> Bucket:
        """One as it was.

        Args:
            capacity: As it was.
            per: As it was.
            state: What `state` was.
            gaps: Of each of its gaps, the oldest first, whatever it is called, its shares and
                leases.
        """
        bucket = cls(capacity, per, 0)
        bucket._shares, bucket._at, bucket.leases = state
        for _, shares, leases in gaps:
            gap = Gap(shares, bucket._newest)
            gap.leases = leases
            if bucket._newest is not None:
                bucket._newest.newer = gap
            bucket._newest = gap
        return bucket

    @property
    def state(self) -> tuple[int, int, int]:
        """Its shares, the tick as of which they are there, and how many leases are out."""
        return self._shares, self._at, self.leases

    @property
    def full_at(self) -> int:
        """The tick at which it will be full if nobody takes anything."""
        return (
            self._at - (self._shares - self._full) // self.capacity if self.capacity else 1 << 127
        )

    def gaps(self) -> list[Gap]:
        """Its gaps, the oldest first."""
        found: list[Gap] = []
        gap = self._newest
        while gap is not None:
            found.append(gap)
            gap = gap.older
        return found[::-1]

    @property
    def level(self) -> int:
        """Whole tokens that are there as of the last `refill`; negative in debt."""
        return self._shares // self._unit

    def tokens(self, shares: int) -> int:
        """Whole tokens that so many shares are."""
        return shares // self._unit

    @property
    def full(self) -> bool:
        """Whether nothing is missing."""
        return self._shares == self._full

    @property
    def missing(self) -> int:
        """The shares of all gaps, which is what is missing. For tests."""
        return sum(gap.shares for gap in self.gaps())

    def refill(self, now: int) -> None:
        """Let flow back what time has brought."""
        if now > self._at:
            if self._shares < self._full:
                flow = min((now - self._at) * self.capacity, self._full - self._shares)
                self._shares += flow
                self._fill(self._newest, flow)
            self._at = now

    def fits(self, amount: int) -> bool:
        """Whether the amount is there."""
        return amount * self._unit <= self._shares

    def wait(self, amount: int) -> int | None:
        """Ticks until the amount is there; None if time does not bring it."""
        if amount > self.capacity:
            return None
        lacking = amount * self._unit - self._shares
        return max(0, -(-lacking // self.capacity)) if self.capacity else None

    def take(self, amount: int, now: int) -> tuple[Bucket, Gap | None, int] | None:
        """Take the amount on behalf of a lease, if it is there.

        What `give_back` needs to know: the bucket, the lease's gap, and the shares that were left
        just after. All in one go, for it runs on every call.
        """
        shares = self._shares
        gap = self._newest
        if now > self._at:
            if shares < self._full:
                flow = (now - self._at) * self.capacity
                if shares + flow > self._full:
                    flow = self._full - shares
                self._shares = shares = shares + flow
                if gap is not None and gap.older is None and flow >= gap.shares:
                    gap.shares = 0  # as mostly: there is but one, and it is gone
                    self._newest = gap = None
                else:
                    self._fill(gap, flow)
                    gap = self._newest
            self._at = now
        if not amount:
            self.leases += 1
            return self, None, shares
        need = amount * self._unit
        shares -= need
        if shares < 0:
            return None
        self.leases += 1
        self._shares = shares
        if gap is None or gap.leases:
            new = self._newest = Gap(need, gap)
            if gap is not None:
                gap.newer = new
            gap = new
        else:
            gap.shares += need
        gap.leases = 1
        return self, gap, shares

    def give_back(self, amount: int, gap: Gap | None) -> None:
        """End a lease: return the amount, as far as it has not flowed back by itself.

        It has to be up to date (`refill`) unless nothing is returned.
        """
        self.leases -= 1
        if gap is None:
            return
        if not gap.shares:
            gap = _standing(gap)
        if gap is not None and amount:
            self._shares += self._fill(gap, amount * self._unit)
            if not gap.shares:
                gap = _standing(gap)
        if gap is not None:
            gap.leases -= 1
            if not gap.leases and gap.newer is not None:  # no lease tells the two apart any more
                gap.newer.shares += gap.shares
                self._unlink(gap)

    def owe(self, amount: int) -> None:
        """Take more than was reserved, even what is not there."""
        shares = amount * self._unit
        self._shares -= shares
        gap = self._newest
        if gap is not None and not gap.leases:
            gap.shares += shares
            return
        new = self._newest = Gap(shares, gap)
        if gap is not None:
            gap.newer = new

    def _fill(self, gap: Gap | None, shares: int) -> int:
        """Fill `gap` and then older ones; how many shares it took."""
        left = shares
        while left and gap is not None:
            here = gap.shares
            if left < here:
                gap.shares = here - left
                return shares
            left -= here
            gap.shares = 0
            self._unlink(gap)
            if gap.older is not None:
                gap.older.leases += gap.leases
            gap = gap.older
        return shares - left

    def _unlink(self, gap: Gap) -> None:
        if gap.newer is None:
            self._newest = gap.older
        else:
            gap.newer.older = gap.older
        if gap.older is not None:
            gap.older.newer = gap.newer


def _standing(gap: Gap | None) -> Gap | None:
    """The gap itself or, if it has been filled, the next older that has not."""
    start = gap
    while gap is not None and not gap.shares:
        gap = gap.older
    while start is not None and not start.shares:  # the next search is short
        start.older, start = gap, start.older
    return gap
