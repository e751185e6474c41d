"""One timer for all limits on reads of a loop.

A scope for each read of each stream costs more than the read. Here a guarded read only writes down
when it becomes late; a single timer per loop waits for the earliest such instant, and looks again.
An instant that moved on meanwhile, as it does with every event that arrives, just goes back into
the queue, so a stream of a thousand events arms the timer a handful of times. A disarmed alarm
keeps nothing alive, and its entry goes when it is due or when such entries outnumber the others.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable

from lamella._loops import PerLoop, current_loop


class Alarm:
    """A thing to do if it is not disarmed in time.

    Args:
        ring: Plain function, run on the loop when the instant has passed.
    """

    __slots__ = ("_expiry", "_queued", "_watchdog", "ring")

    def __init__(self, ring: Callable[[], object]) -> None:
        self.ring = ring
        self._expiry = math.inf
        self._queued = math.inf  # the instant it stands under in the queue
        self._watchdog = _WATCHDOGS.get()

    def arm(self, seconds: float) -> None:
        """Ring in `seconds` from now unless armed anew or disarmed before."""
        watchdog = self._watchdog
        now = current_loop().now()
        expiry = now + max(0.0, seconds)
        if expiry == now and seconds > 0:
            # Too short to change the sum: it must not ring at this instant again and again.
            expiry = math.nextafter(now, math.inf)
        self._expiry = expiry
        if expiry < self._queued:
            self._queued = expiry
            watchdog.queue(self, expiry)

    def disarm(self) -> None:
        """Do not ring, now or ever, and let go of what would have been done."""
        self._expiry = math.inf
        self.ring = _nothing

    def look(self, instant: float, now: float) -> float | None:
        """Ring if it is time; otherwise the instant to look again, None for never."""
        if instant != self._queued:
            return None  # armed for an earlier instant since: that entry stands for it
        if self._expiry <= now:
            self._queued = math.inf
            self._expiry = math.inf
            self.ring()
            return None
        self._queued = self._expiry
        return None if math.isinf(self._expiry) else self._expiry

    @property
    def idle(self) -> bool:
        """Whether it is disarmed."""
        return math.isinf(self._expiry)

    def unqueue(self) -> None:
        """Its entry has left the queue."""
        self._queued = math.inf


def _nothing() -> None:
    """What a disarmed alarm does."""


class _Watchdog:
    """The timer of one loop. It is set only while something is queued."""

    def __init__(self) -> None:
        self._queue: list[tuple[float, int, Alarm]] = []
        self._order = itertools.count()
        self._until = math.inf
        self._take_back: Callable[[], object] = _nothing
        self._room = _ROOM

    def queue(self, alarm: Alarm, expiry: float) -> None:
        if len(self._queue) >= self._room:
            self._tidy()
        heapq.heappush(self._queue, (expiry, next(self._order), alarm))
        self._set()

    def _set(self) -> None:
        """Have the timer go off at the earliest instant."""
        until = self._queue[0][0]
        if until < self._until:
            self._take_back()
            self._until = until
            self._take_back = current_loop().call_at(until, self._look)

    def _tidy(self) -> None:
        """Drop the entries of disarmed alarms; the cost is spread over as many new entries."""
        kept = [entry for entry in self._queue if not entry[2].idle]
        for *_, alarm in self._queue:
            if alarm.idle:
                alarm.unqueue()
        heapq.heapify(kept)
        self._queue = kept
        self._room = max(_ROOM, 2 * len(kept))

    def _look(self) -> None:
        self._until, self._take_back = math.inf, _nothing
        now = current_loop().now()
        try:
            while self._queue and self._queue[0][0] <= now:
                instant, _, alarm = heapq.heappop(self._queue)
                again = alarm.look(instant, now)
                if again is not None:
                    heapq.heappush(self._queue, (again, next(self._order), alarm))
        finally:  # one alarm that fails must not silence the others of the loop
            if self._queue:
                self._set()


_ROOM = 64
"""How many entries the queue may have before disarmed ones are looked for."""

_WATCHDOGS: PerLoop[_Watchdog] = PerLoop(_Watchdog)
