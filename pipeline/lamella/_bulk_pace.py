"""How many rows are under way at once: a number, or as many as the provider takes well.

The adaptive number starts low and is lowered when the provider throttles, as AIMD does (Chiu and
Jain, 1989; TCP): by one for each row that went well until the first throttle, from then on by one
for each round of as many rows, and down to three quarters at most once for each round. A provider
that queues in silence shows it in the time that rows take: while they take twice as long as in the
best round, the number does not grow, and beyond three times it shrinks.
"""

from __future__ import annotations

from typing import Final, Protocol

START: Final = 8
"""Rows under way at first."""

BACKOFF: Final = 0.75
"""What is left of the number after a throttle."""

ROUND: Final = 16
"""So many rows at least make a round whose times are compared."""

HOLD: Final = 2.0
SHRINK: Final = 3.0
EASED: Final = 0.9
FORGET: Final = 1.02
"""By how much the best time is forgotten with each round: answers may become longer for good."""

INSTANT: Final = 1e-3
"""Seconds below which nobody queues."""


class Pace(Protocol):
    """How many rows may be under way."""

    limit: int

    def ended(self, started: float, now: float, *, well: bool, throttled: bool) -> None:
        """A row is done.

        Args:
            started: The monotonic instant at which it began, in seconds.
            now: The instant it is.
            well: Whether it was answered.
            throttled: Whether the provider, or a limit of ours, has asked for less meanwhile.
        """
        ...


class Fixed:
    """Always the same number.

    Args:
        limit: The number, 1 or more.
    """

    __slots__ = ("limit",)

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def ended(self, started: float, now: float, *, well: bool, throttled: bool) -> None:
        """Nothing follows from it."""


class Adaptive:
    """As many as the provider takes well. For one event loop.

    Args:
        most: The most there may be, 1 or more.
    """

    __slots__ = (
        "_best", "_count", "_exact", "_held", "_lowered_at", "_most", "_quick", "_sum", "limit",
    )  # fmt: skip

    def __init__(self, most: int) -> None:
        self.limit = min(START, most)
        self._most = most
        self._exact = float(self.limit)
        self._quick = True
        self._lowered_at = float("-inf")
        self._best = float("inf")
        self._held = False
        self._count = 0
        self._sum = 0.0

    def ended(self, started: float, now: float, *, well: bool, throttled: bool) -> None:
        """A row is done; see `Pace.ended`."""
        if throttled:
            self._lower(started, now)
            return
        if not well or started < self._lowered_at:
            return  # a refused row is quick, and one from before says nothing about the time after
        self._count += 1
        self._sum += now - started
        if self._count >= max(ROUND, self.limit):
            self._compare()
        if not self._held and self._exact < self._most:
            grown = self._exact + (1.0 if self._quick else 1.0 / self._exact)
            self._set(grown)

    def _lower(self, started: float, now: float) -> None:
        if started < self._lowered_at:
            return
        self._lowered_at = now
        self._quick = False
        self._count, self._sum = 0, 0.0
        self._set(self._exact * BACKOFF)

    def _compare(self) -> None:
        """A round is over: did its rows wait somewhere?"""
        mean = max(self._sum / self._count, INSTANT)
        self._count, self._sum = 0, 0.0
        self._best = min(mean, self._best * FORGET)
        self._held = mean > HOLD * self._best
        if self._held:
            self._quick = False
        if mean > SHRINK * self._best:
            self._set(self._exact * EASED)

    def _set(self, exact: float) -> None:
        self._exact = min(max(exact, 1.0), float(self._most))
        self.limit = int(self._exact)
