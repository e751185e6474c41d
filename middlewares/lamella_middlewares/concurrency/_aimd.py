"""AIMD: the limit creeps up while all is well, and drops when the provider throttles.

Additive increase, multiplicative decrease is what lets independent senders find and share a
capacity that nobody tells them (Chiu and Jain, 1989; TCP). The figures are those of AIMDLimit in
Netflix' concurrency-limits: it starts at 20, grows by one for each success, drops to nine tenths,
and does not grow while less than half of it is used. Three things are TCP's instead (RFC 5681).
Once a throttle has shown that a capacity is near, it grows by one for each round trip, not for each
success. It drops at most once for each round trip, for one overrun throttles many at once. And it
remembers from where it began to drop: when the trouble was an outage and is over, it grows by one
for each success again up to two thirds of that, or it would need as many round trips to recover as
it has places to win back.
"""

from __future__ import annotations

from typing import Final

BACKOFF: Final = 0.9
"""What is left of the limit after a throttle."""

REGAINED: Final = 2 / 3
"""Up to which part of the limit that held before a row of throttles it grows quickly again."""


class AIMD:
    """The limit of one key. Not thread-safe: its gate holds the lock.

    Args:
        start: The limit to begin with.
        low: The least it may become.
        high: The most it may become.

    Attributes:
        limit: How many may be in flight; its whole part counts.
    """

    __slots__ = ("_high", "_low", "_lowered_at", "_quick_until", "_recovering", "limit")

    def __init__(self, start: float, low: float, high: float) -> None:
        self.limit = start
        self._low = low
        self._high = high
        self._lowered_at: float | None = None
        self._quick_until = high  # below it the limit grows with each success
        self._recovering = True  # whether it has grown, or been proved, since it was lowered

    def succeeded(
        self,
        now: float,
        in_flight: int,
        first_event: float | None,
        *,
        started: float,
        streamed: bool,
    ) -> None:
        """An attempt has ended well.

        Args:
            now: The monotonic instant, in seconds; not used here.
            in_flight: How many were, this one included.
            first_event: Seconds it took to the first event; not used here.
            started: When it was let in. One from before the last throttle says nothing about the
                time after it.
            streamed: Whether it was streamed; not used here.
        """
        del now, first_event, streamed
        if self._lowered_at is not None and started < self._lowered_at:
            return
        if in_flight < self.limit / 2:
            return  # the limit does not matter, so nothing has shown that more would do
        grown = self.limit + 1.0 / self.limit
        if self.limit < self._quick_until:
            grown = max(grown, min(self.limit + 1.0, self._quick_until))
        self.limit = min(self._high, grown)
        self._recovering = True

    def throttled(self, now: float, started: float) -> bool:
        """The provider has asked for less.

        Args:
            now: The monotonic instant, in seconds.
            started: When the attempt was let in. If the limit has been lowered since, its throttle
                says nothing about the lowered limit.

        Returns:
            Whether the limit was lowered.
        """
        if self._lowered_at is not None and started < self._lowered_at:
            return False
        self._lowered_at = now
        if self._recovering:  # the first of a row: from here it began to drop
            self._quick_until = self.limit * REGAINED
            self._recovering = False
        self.limit = max(self._low, self.limit * BACKOFF)
        return True
