"""What does not flow back by itself: places, budgets. Only what is out of it is counted.

How much there is of it is for each who asks to say. So whoever raises a budget finds what was spent
of it, and whoever lowers it below that finds it in debt.
"""

from __future__ import annotations

from typing import Final, final

from lamella._memory_buckets import ticks_up

_NEVER: Final = 1 << 127  # ticks, which is after the end of any clock


@final
class Total:
    """One total: what is out of it, and until when that is known.

    Attributes:
        out: Tokens that were taken and not given back; above every capacity in debt.
        leases: How many leases are out.
        keep: For how many seconds it is known from its last use on; None for ever.
        until: The tick from which on nothing is known of it any more, once no lease is out.
    """

    __slots__ = ("_span", "keep", "leases", "out", "until")

    def __init__(self) -> None:
        self.out = 0
        self.leases = 0
        self.until = _NEVER
        self.keep: float | None = None
        self._span = 0

    @classmethod
    def restored(cls, out: int, leases: int, keep: float | None, until: int | None) -> Total:
        """One as it was; `until` is None for ever."""
        total = cls()
        total.touch(keep, 0)
        total.out, total.leases = out, leases
        total.until = _NEVER if until is None else until
        return total

    def tokens(self, left: int) -> int:
        """What was left, as it is: as a bucket says it of its shares."""
        return left

    def take(self, amount: int, capacity: int, now: int) -> int | None:
        """Take the amount on behalf of a lease; what is left of the capacity, None if it is less.

        All in one go, for it runs on every call.
        """
        if now >= self.until and not self.leases:
            self.out = 0
        left = capacity - self.out - amount
        if left < 0 and amount:
            return None
        self.out += amount
        self.leases += 1
        return left

    def give_back(self, amount: int) -> None:
        """End a lease: return the amount; below 0 take more, even what is not there."""
        self.leases -= 1
        self.out -= amount

    def level(self, capacity: int, now: int) -> int:
        """What is left of the capacity; negative in debt."""
        return capacity if self.idle(now) else capacity - self.out

    def idle(self, now: int) -> bool:
        """Whether a new one would be the same."""
        return not self.leases and (not self.out or now >= self.until)

    def touch(self, keep: float | None, now: int) -> None:
        """Know of it for so many seconds from now, as who asks now wants it; None for ever."""
        if self.idle(now):
            self.out = 0
        if keep != self.keep:
            self.keep = keep
            self._span = 0 if keep is None else ticks_up(keep)
        self.until = _NEVER if keep is None else now + self._span
