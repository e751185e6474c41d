"""Gradient: the limit follows the time to the first event, before the provider has to throttle.

A queue that forms at the provider shows first in the time until it begins to answer. The method and
the figures are those of Gradient2Limit in Netflix' concurrency-limits: the short-term time is
compared with a long-term average (600 updates), half more is tolerated, the gradient between them
is kept from 0.5 to 1, room for a queue is added, and a fifth of the change is made at a time. Where
that takes the whole time of a request, this takes the time to the first event: the rest is as long
as the answer. The room for a queue is the square root of the limit, as in their first Gradient and
in Envoy's. Throttles, which Gradient2 does not know, count as in AIMD.
"""

from __future__ import annotations

import math
from typing import Final

from lamella_middlewares.concurrency._aimd import AIMD

SMOOTHING: Final = 0.2
TOLERANCE: Final = 1.5
LEAST: Final = 0.5

LONG_WINDOW: Final = 600
"""Over how many updates the long-term average reaches."""

WARM_UP: Final = 10
"""So many first updates are averaged plainly."""

WINDOW_SAMPLES: Final = 10
WINDOW_SECONDS: Final = 1.0
"""A short-term time is the mean of at least so many samples over at least so long."""

INSTANT: Final = 1e-6
"""Seconds that an answer without any delay counts as: there is no gradient to nothing."""


class _Times:
    """The times to the first event of one kind of attempts, streamed or not."""

    __slots__ = ("_count", "_most_in_flight", "_since", "_sum", "_updates", "long")

    def __init__(self) -> None:
        self.long = 0.0
        self._updates = 0
        self._count = 0
        self._sum = 0.0
        self._since = 0.0
        self._most_in_flight = 0

    def add(self, now: float, seconds: float, in_flight: int) -> tuple[float, int] | None:
        """Take a sample in; the window's mean time and most in flight, where it ends with it."""
        if not self._count or now < self._since:  # a test's clock may begin anew
            self._since = now
        self._count += 1
        self._sum += seconds
        self._most_in_flight = max(self._most_in_flight, in_flight)
        if self._count < WINDOW_SAMPLES or now - self._since < WINDOW_SECONDS:
            return None
        short, most = self._sum / self._count, self._most_in_flight
        self._count, self._sum, self._most_in_flight = 0, 0.0, 0
        self._average(short)
        return short, most

    def _average(self, short: float) -> None:
        self._updates += 1
        if self._updates <= WARM_UP:
            self.long += (short - self.long) / self._updates
        else:
            self.long += (short - self.long) * 2 / (LONG_WINDOW + 1)
        if self.long > 2 * short:
            self.long *= 0.95  # much faster than ever: forget the slow times sooner


class Gradient(AIMD):
    """The limit of one key. Not thread-safe: its gate holds the lock.

    Streamed attempts are compared with streamed ones only: an answer that comes in one piece has
    its first event at its end.

    Args:
        start: The limit to begin with.
        low: The least it may become.
        high: The most it may become.
    """

    __slots__ = ("_runs", "_streams")

    def __init__(self, start: float, low: float, high: float) -> None:
        super().__init__(start, low, high)
        self._streams = _Times()
        self._runs = _Times()

    def succeeded(
        self,
        now: float,
        in_flight: int,
        first_event: float | None,
        *,
        started: float,
        streamed: bool,
    ) -> None:
        """An attempt has ended well; see `AIMD.succeeded`. Without a first event it says nothing.

        Args:
            now: The monotonic instant, in seconds.
            in_flight: How many were, this one included.
            first_event: Seconds it took to the first event; None if nobody knows.
            started: When it was let in; not used here.
            streamed: Whether it was streamed.
        """
        del started
        if first_event is None:
            return
        times = self._streams if streamed else self._runs
        window = times.add(now, max(first_event, INSTANT), in_flight)
        if window is None or window[1] < self.limit / 2:
            return
        gradient = max(LEAST, min(1.0, TOLERANCE * times.long / window[0]))
        wanted = self.limit * gradient + math.sqrt(self.limit)
        smoothed = self.limit + (wanted - self.limit) * SMOOTHING
        self.limit = max(self._low, min(self._high, smoothed))
