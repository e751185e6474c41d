"""What a file of leases holds, one transaction at a time. Blocks; one thread at a time.

A decision takes the rows that it needs into memory, where `MemoryLeases` decides. What came of all
decisions of a transaction is written back at its end. So both count alike, to the nanosecond.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

import attrs

from lamella._memory_buckets import NANOS, ticks
from lamella._sqlite_file import Contents, Step
from lamella._sqlite_lease_books import LATEST, LeaseBooks
from lamella._sqlite_lease_clock import CLOCK, FileClock
from lamella._sqlite_schema import FileForm
from lamella._stores import Dimension, Lease

T = TypeVar("T")

_TIDY: Final = 60_000_000_000  # ticks between two looks for what may be forgotten
_REMOVED: Final = 500  # rows that one transaction forgets of each kind
_EXPIRED: Final = 1000  # leases that are given back in one go

FORM: Final = FileForm(
    store="SQLiteLeases",
    application=0x4C4D4C53,  # "LMLS"
    statements=(
        CLOCK,
        """CREATE TABLE totals (
    key TEXT NOT NULL PRIMARY KEY, -- JSON
    out INTEGER NOT NULL, -- taken and not given back
    leases INTEGER NOT NULL, -- how many are out
    keep REAL, -- seconds from the last use on; NULL for ever
    ends INTEGER -- by the clock above, when it is forgotten; NULL for never
) WITHOUT ROWID""",
        """CREATE TABLE rates (
    key TEXT NOT NULL PRIMARY KEY, -- JSON, with capacity and seconds
    state TEXT NOT NULL, -- JSON
    leases INTEGER NOT NULL, -- how many are out
    ends INTEGER NOT NULL -- by the clock above, when it is full
) WITHOUT ROWID""",
        """CREATE TABLE leases (
    id TEXT NOT NULL PRIMARY KEY,
    state TEXT NOT NULL, -- held, settled or refunded
    dimensions TEXT NOT NULL, -- JSON
    gaps TEXT NOT NULL, -- JSON
    remaining TEXT NOT NULL, -- JSON
    ends INTEGER NOT NULL -- by the clock above, when it expires or is forgotten
) WITHOUT ROWID""",
        "CREATE INDEX leases_held_by_end ON leases (ends) WHERE state = 'held'",
        "CREATE INDEX leases_ended_by_end ON leases (ends) WHERE state <> 'held'",
        "CREATE INDEX totals_by_end ON totals (ends) WHERE leases = 0 AND ends IS NOT NULL",
        "CREATE INDEX rates_by_end ON rates (ends) WHERE leases = 0",
    ),
    # For all but settlements, see `LeaseRows.before`.
    pragmas=("synchronous = NORMAL",),
    additions=frozenset({"view"}),
    more_room="give the file a larger one",
    moved="what was counted in it is then whole again",
)
"""The files of this store."""


def _done(operation: Coroutine[Any, Any, T]) -> T | ValueError:
    """What comes of it at once. A mistake of who asks is for him, and not of the file."""
    try:
        operation.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    except ValueError as mistake:
        return mistake
    operation.close()
    raise RuntimeError("a decision in memory has suspended")


@attrs.define(eq=False)
class LeaseRows(Contents):
    """The open file, and its decisions. All of a transaction are made at one instant.

    Attributes:
        clock: The time of the file.
        remember: Ticks for which ended leases are remembered.
    """

    clock: FileClock = attrs.field(kw_only=True)
    remember: int = attrs.field(kw_only=True)
    _seconds: float = attrs.field(init=False, default=0.0)
    _tidied: int = attrs.field(init=False, default=0)
    _synced: bool = attrs.field(init=False, default=False)
    _books: LeaseBooks = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Make room for the rows of a decision."""
        self._books = LeaseBooks(self.connection, lambda: self._seconds)

    @property
    def _now(self) -> int:
        return ticks(self._seconds)

    def before(self, steps: Sequence[Step]) -> None:
        """Have the disk itself keep what was settled: money that was spent.

        Nothing else needs it. What else a loss of power takes is of leases that were out, whose
        holders it has stopped as well: they expire, or are gone at once.
        """
        synced = any(step.lasts for step in steps)
        if synced is not self._synced:
            level = "FULL" if synced else "NORMAL"
            self.connection.execute(f"PRAGMA synchronous = {level}").fetchall()
            self._synced = synced

    def begin(self, incoming: int) -> None:
        """Read the clock, give back what has expired, and forget what is over."""
        self._seconds = self.clock.read(self.connection) / NANOS
        self._expire()
        self._books.begin()
        self._forget()

    def end(self) -> None:
        """Write down what came of the decisions."""
        self._books.save(self._now)

    def _expire(self) -> None:
        now, books, link = self._now, self._books, self.connection
        while True:
            due = link.execute(
                "SELECT id FROM leases WHERE state = 'held' AND ends <= ? ORDER BY ends LIMIT ?",
                (now, _EXPIRED),
            ).fetchall()
            if not due:
                return
            books.begin()
            for (lease_id,) in due:
                books.load_lease(lease_id, now)
            books.expire()
            books.save(now)
            link.executemany("DELETE FROM leases WHERE id = ?", due)

    def _forget(self) -> None:
        """Forget what is over: some in each transaction, until there is no more of it."""
        now, link = self._now, self.connection
        link.execute(
            "DELETE FROM leases WHERE id IN (SELECT id FROM leases "
            "WHERE state <> 'held' AND ends <= ? LIMIT ?)",
            (now, _REMOVED),
        )
        if now - self._tidied < _TIDY:
            return
        more = False
        for table, when in (("totals", "ends IS NOT NULL AND ends"), ("rates", "ends")):
            removed = link.execute(
                f"DELETE FROM {table} WHERE key IN (SELECT key FROM {table} "  # noqa: S608
                f"WHERE leases = 0 AND {when} <= ? LIMIT ?)",
                (now, _REMOVED),
            )
            more = more or removed.rowcount == _REMOVED
        if not more:
            self._tidied = now

    def reserve(
        self, lease_id: str, dimensions: tuple[Dimension, ...], ttl: float, life: int
    ) -> Lease | ValueError:
        """See `LeaseStore.reserve`; what was wrong with what was asked is an answer, too."""
        now, books = self._now, self._books
        books.load_lease(lease_id, now)
        books.load(dimensions)
        is_new = not books.knows(lease_id)
        answer = _done(books.reserve(lease_id, dimensions, ttl=ttl))
        if is_new and isinstance(answer, Lease) and answer.granted:
            books.changed[lease_id] = now + life
        return answer

    def settle(self, lease_id: str, amounts: Sequence[int]) -> bool | ValueError:
        """See `LeaseStore.settle`."""
        return self._finish(lease_id, lambda: self._books.settle(lease_id, amounts))

    def refund(self, lease_id: str) -> bool | ValueError:
        """See `LeaseStore.refund`."""
        return self._finish(lease_id, lambda: self._books.refund(lease_id))

    def _finish(
        self, lease_id: str, finish: Callable[[], Coroutine[Any, Any, bool]]
    ) -> bool | ValueError:
        now, books = self._now, self._books
        books.load_lease(lease_id, now)
        was_out = books.is_out(lease_id)
        answer = _done(finish())
        if was_out and answer is True:
            books.changed[lease_id] = now + self.remember
        return answer

    def renew(self, lease_id: str, life: int) -> bool:
        """See `LeaseStore.renew`."""
        if self._books.knows(lease_id):
            is_out = self._books.is_out(lease_id)
            if is_out:
                self._books.changed[lease_id] = self._now + life
            return is_out
        changed = self.connection.execute(
            "UPDATE leases SET ends = ? WHERE id = ? AND state = 'held'",
            (min(self._now + life, LATEST), lease_id),
        )
        return changed.rowcount > 0

    def level(self, dimension: Dimension) -> int:
        """See `LeaseStore.level`."""
        self._books.load((dimension,))
        level = _done(self._books.level(dimension))
        assert isinstance(level, int)  # noqa: S101 - a level is no mistake
        return level

    def look(self) -> None:
        """See whether the file can be read."""
        self.connection.execute("SELECT 1 FROM leases LIMIT 1").fetchone()
