"""How often things of a few kinds have happened lately.

The time looked at is cut into slots, and what is counted expires slot by slot, so that memory and
work do not grow with the traffic.
"""

from __future__ import annotations

from collections import deque
from typing import Final

SLOTS: Final = 10

SHORTEST: Final = 1e-6
"""Seconds; a slot is not shorter, or the number of one could not be told any more."""


class SlidingCounts:
    """Counts of the last `span` seconds, exact to a tenth of them. Not thread-safe: hold a lock.

    Args:
        span: How long a thing counts, in seconds above 0.
        kinds: How many kinds of things are told apart, from 1.

    Attributes:
        totals: How often each kind has happened, as of the last call of `at`. Not to be written to.
    """

    __slots__ = ("_slots", "_width", "totals")

    def __init__(self, span: float, kinds: int) -> None:
        self._width = max(span / SLOTS, SHORTEST)
        self._slots: deque[tuple[int, list[int]]] = deque()  # (number, counts), oldest first
        self.totals = [0] * kinds

    def at(self, now: float) -> list[int]:
        """`totals` as of the monotonic instant `now`, in seconds."""
        return self._at(int(now // self._width))

    def _at(self, number: int) -> list[int]:
        slots = self._slots
        if slots and number < slots[-1][0]:
            if number > slots[-1][0] - SLOTS:
                return self.totals  # another thread has read the clock a little later
            self.clear()  # another clock: a test's began anew
        while slots and slots[0][0] <= number - SLOTS:
            for kind, count in enumerate(slots.popleft()[1]):
                self.totals[kind] -= count
        return self.totals

    def add(self, now: float, kind: int) -> list[int]:
        """Count one more of a kind, from 0; `totals` with it."""
        number = int(now // self._width)
        slots = self._slots
        if not slots or slots[-1][0] != number:  # or all that has expired is gone already
            self._at(number)
            if not slots or slots[-1][0] < number:
                slots.append((number, [0] * len(self.totals)))
        totals = self.totals
        slots[-1][1][kind] += 1
        totals[kind] += 1
        return totals

    def clear(self) -> None:
        """Forget everything."""
        self._slots.clear()
        self.totals = [0] * len(self.totals)
