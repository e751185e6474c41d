"""The time by which a file counts: it goes on evenly, however the machine's clock is set.

Leases and rates live in a file for longer than a process does, so no monotonic clock will do. But
the wall clock is set: an hour forward would take every place from those who hold it and fill every
rate, an hour back would hold them up. So each process lets the file's time pass by its own
monotonic clock. What the file keeps of it is how far it has come, and how far it is ahead of the
wall clock, for processes that come later.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final

import attrs

from lamella._memory_buckets import ticks

CLOCK: Final = """CREATE TABLE clock (
    only INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
    now INTEGER NOT NULL, -- nanoseconds since 1970, but for what the machine's clock was set by
    ahead INTEGER NOT NULL -- nanoseconds by which that is more than the machine's clock
)"""
"""The table."""

_WRITTEN: Final = 100_000_000  # ticks after which it is written down how far it has come
_SET: Final = 500_000_000  # ticks by which clocks part only if one of them has been set


@attrs.define(eq=False)
class FileClock:
    """The way of one process to the time of a file.

    Args:
        wall: The machine's clock, in seconds since the epoch.
        monotonic: The clock that nobody sets, in seconds.
    """

    wall: Callable[[], float]
    monotonic: Callable[[], float]
    _last: tuple[int, int] | None = attrs.field(init=False, default=None)

    def read(self, connection: sqlite3.Connection) -> int:
        """The tick it is, in a transaction that writes."""
        wall, passed = ticks(self.wall()), ticks(self.monotonic())
        row = connection.execute("SELECT now, ahead FROM clock").fetchone()
        come, ahead = row or (wall, 0)
        if self._last is None:
            now = wall + ahead
        else:
            then, was = self._last
            now = was + max(0, passed - then)
        now = max(now, come)
        self._last = passed, now
        if row is None or now - come >= _WRITTEN or abs(now - wall - ahead) >= _SET:
            connection.execute("REPLACE INTO clock VALUES (1, ?, ?)", (now, now - wall))
        return now
