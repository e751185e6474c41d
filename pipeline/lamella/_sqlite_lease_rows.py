"""What a file of leases holds, one transaction at a time. Blocks; one thread at a time.

A decision takes the rows that it needs into memory, where `MemoryLeases` decides. What came of all
decisions of a transaction is written back at its end. So both count alike, to the nanosecond.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

import attrs

from lamella._memory_buckets import Bucket, Gap, ticks
from lamella._memory_leases import MemoryLeases
from lamella._memory_totals import Total
from lamella._sqlite_file import Contents
from lamella._sqlite_schema import FileForm
from lamella._stores import Dimension, Lease

T = TypeVar("T")

MOST: Final = 2**63 - 1
"""The largest number of a total, and the most that is counted as out of one."""

_STEP_BACK: Final = 1_000_000_000  # ticks; a clock that has been set back further is followed
_LATEST: Final = 2**62  # ticks since 1970, in the year 2116: whatever is kept longer stays
_TIDY: Final = 60_000_000_000  # ticks between two looks for what may be forgotten
_REMOVED: Final = 500  # rows that one look forgets of each kind

FORM: Final = FileForm(
    store="SQLiteLeases",
    application=0x4C4D4C53,  # "LMLS"
    statements=(
        """CREATE TABLE totals (
    key TEXT NOT NULL PRIMARY KEY, -- JSON
    out INTEGER NOT NULL, -- taken and not given back
    leases INTEGER NOT NULL, -- how many are out
    keep REAL, -- seconds from the last use on; NULL for ever
    ends INTEGER -- nanoseconds since 1970, from which on it is forgotten; NULL for never
) WITHOUT ROWID""",
        """CREATE TABLE rates (
    key TEXT NOT NULL PRIMARY KEY, -- JSON, with capacity and seconds
    state TEXT NOT NULL, -- JSON
    leases INTEGER NOT NULL, -- how many are out
    ends INTEGER NOT NULL -- nanoseconds since 1970, from which on it is full
) WITHOUT ROWID""",
        """CREATE TABLE leases (
    id TEXT NOT NULL PRIMARY KEY,
    state TEXT NOT NULL, -- held, settled or refunded
    dimensions TEXT NOT NULL, -- JSON
    gaps TEXT NOT NULL, -- JSON
    remaining TEXT NOT NULL, -- JSON
    ends INTEGER NOT NULL -- nanoseconds since 1970, from which on it is forgotten
) WITHOUT ROWID""",
        "CREATE INDEX leases_by_end ON leases (ends)",
        "CREATE INDEX totals_by_end ON totals (ends) WHERE leases = 0 AND ends IS NOT NULL",
        "CREATE INDEX rates_by_end ON rates (ends) WHERE leases = 0",
    ),
    # What was decided survives the process; a loss of power may take the last seconds.
    pragmas=("synchronous = NORMAL",),
    additions=frozenset({"view"}),
    more_room="give the file a larger one",
    moved="what was counted in it is then whole again",
)
"""The files of this store."""


def _words(dimensions: Sequence[Dimension]) -> str:
    return json.dumps(
        [[list(d.key), d.amount, d.capacity, d.per, d.held, d.keep] for d in dimensions],
        separators=(",", ":"),
    )


def _dimensions(words: str) -> tuple[Dimension, ...]:
    return tuple([Dimension(tuple(key), *numbers) for key, *numbers in json.loads(words)])


class _Books(MemoryLeases):
    """The rows of one transaction, in memory.

    Args:
        connection: Where the rows are.
        clock: The wall clock of this transaction.

    Attributes:
        changed: The ticks at which leases end whose rows are to be written, by id.
    """

    def __init__(self, connection: Any, clock: Callable[[], float]) -> None:
        super().__init__(monotonic=clock, max_buckets=2**62)
        self._execute = connection.execute
        self._limits: dict[str, Dimension] = {}
        self._ids: dict[Gap, int] = {}
        self._counts: dict[str, int] = {}
        self.changed: dict[str, int] = {}

    def begin(self) -> None:
        """Nothing is known: other processes have decided meanwhile."""
        for known in (self._buckets, self._totals, self._held, self._ended, self._limits):
            known.clear()
        self._expiries.clear()
        self.changed.clear()
        self._ids.clear()
        self._counts.clear()
        self._now = float("-inf")

    # --- from the file ---------------------------------------------------------------------------

    def load(self, dimensions: Sequence[Dimension], now: int) -> None:
        """What is known of these limits."""
        for dimension in dimensions:
            name = _name(dimension)
            if name not in self._limits:
                self._limits[name] = dimension
                if dimension.per:
                    self._load_rate(name, dimension, now)
                else:
                    self._load_total(name, dimension)

    def _load_total(self, name: str, dimension: Dimension) -> None:
        row = self._execute(
            "SELECT out, leases, keep, ends FROM totals WHERE key = ?", (name,)
        ).fetchone()
        if row is not None:
            self._totals[dimension.key] = Total.restored(*row)

    def _load_rate(self, name: str, dimension: Dimension, now: int) -> None:
        row = self._execute("SELECT state FROM rates WHERE key = ?", (name,)).fetchone()
        if row is None:
            return
        shares, at, leases, count, gaps = json.loads(row[0])
        if at - now > _STEP_BACK:
            at = now
        bucket = Bucket.restored(dimension.capacity, dimension.per, (shares, at, leases), gaps)
        self._buckets[(dimension.key, dimension.capacity, dimension.per)] = bucket
        self._counts[name] = count
        for (number, _, _), gap in zip(gaps, bucket.gaps(), strict=True):
            self._ids[gap] = number

    def load_lease(self, lease_id: str, now: int) -> None:
        """What is known of a lease, and the limits that it is of."""
        if lease_id in self._held or lease_id in self._ended:
            return
        row = self._execute(
            "SELECT state, dimensions, gaps, remaining, ends FROM leases WHERE id = ?", (lease_id,)
        ).fetchone()
        if row is None:
            return
        state, words, gaps, remaining, ends = row
        dimensions = _dimensions(words)
        self.load(dimensions, now)
        answer = Lease(granted=True, remaining=tuple(json.loads(remaining)))
        if state == "held":
            parts = [
                self._part(each, number)
                for each, number in zip(dimensions, json.loads(gaps), strict=True)
            ]
            self.restore(lease_id, answer, dimensions, tuple(parts), ends)
        else:
            self.restore_ended(lease_id, answer, dimensions, settled=state == "settled")

    def _part(self, dimension: Dimension, number: int | None) -> Any:
        if not dimension.per:
            total = self._totals.get(dimension.key)
            if total is None:
                raise ValueError("a lease of no total")
            return total, None, 0
        bucket = self._buckets.get((dimension.key, dimension.capacity, dimension.per))
        if bucket is None:
            raise ValueError("a lease of no rate")
        if number is None:
            return bucket, None, 0
        # Its gap or, if it has been filled, the next older one.
        older = [gap for gap in bucket.gaps() if self._ids.get(gap, number + 1) <= number]
        return bucket, older[-1] if older else None, 0

    # --- to the file -----------------------------------------------------------------------------

    def save(self, now: int) -> None:
        """Write down what came of the limits, and then of the leases."""
        for name, dimension in self._limits.items():
            if dimension.per:
                self._save_rate(name, dimension)
            else:
                total = self._totals.get(dimension.key)
                if total is None or total.idle(now):
                    self._execute("DELETE FROM totals WHERE key = ?", (name,))
                else:
                    total.out = min(total.out, MOST)
                    ends = total.until if total.until < _LATEST else None
                    self._execute(
                        "REPLACE INTO totals VALUES (?, ?, ?, ?, ?)",
                        (name, total.out, total.leases, total.keep, ends),
                    )
        for lease_id, ends in self.changed.items():
            self._save_lease(lease_id, ends)

    def _save_rate(self, name: str, dimension: Dimension) -> None:
        bucket = self._buckets.get((dimension.key, dimension.capacity, dimension.per))
        if bucket is None or (bucket.full and not bucket.leases):
            self._execute("DELETE FROM rates WHERE key = ?", (name,))
            return
        count = self._counts.get(name, 0)
        gaps: list[tuple[int, int, int]] = []
        for gap in bucket.gaps():
            if gap not in self._ids:
                count += 1
                self._ids[gap] = count
            gaps.append((self._ids[gap], gap.shares, gap.leases))
        shares, at, leases = bucket.state
        state = json.dumps([shares, at, leases, count, gaps], separators=(",", ":"))
        self._execute(
            "REPLACE INTO rates VALUES (?, ?, ?, ?)",
            (name, state, leases, min(bucket.full_at, _LATEST)),
        )

    def _save_lease(self, lease_id: str, ends: int) -> None:
        held = self._held.get(lease_id)
        state = "held"
        if held is None:
            held = self._ended[lease_id]
            state = "settled" if held.settled else "refunded"
        gaps = [None if gap is None else self._id_of(gap) for _, gap, _ in held.parts]
        words, remaining = _words(held.dimensions), json.dumps(held.answer.remaining)
        self._execute(
            "REPLACE INTO leases VALUES (?, ?, ?, ?, ?, ?)",
            (lease_id, state, words, json.dumps(gaps), remaining, min(ends, _LATEST)),
        )

    def _id_of(self, gap: Gap) -> int | None:
        """What a gap is called or, if it has been filled, the next older one."""
        standing: Gap | None = gap
        while standing is not None and not standing.shares:
            standing = standing.older
        return None if standing is None else self._ids[standing]


def _name(dimension: Dimension) -> str:
    """What the rows of a limit are known by."""
    key: list[Any] = list(dimension.key)
    if dimension.per:
        key += [dimension.capacity, float(dimension.per)]
    return json.dumps(key, separators=(",", ":"))


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
        wall: The clock, in seconds since the epoch.
        remember: Ticks for which ended leases are remembered.
    """

    wall: Callable[[], float] = attrs.field(kw_only=True)
    remember: int = attrs.field(kw_only=True)
    _seconds: float = attrs.field(init=False, default=0.0)
    _tidied: int = attrs.field(init=False, default=0)
    _books: _Books = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Make room for the rows of a decision."""
        self._books = _Books(self.connection, lambda: self._seconds)

    @property
    def _now(self) -> int:
        return ticks(self._seconds)

    def end(self) -> None:
        """Write down what came of the decisions."""
        self._books.save(self._now)

    def begin(self, incoming: int) -> None:
        """Read the clock, give back what has expired, and forget what is over."""
        self._seconds = self.wall()
        now, books, link = self._now, self._books, self.connection
        due = link.execute("SELECT id, state FROM leases WHERE ends <= ?", (now,)).fetchall()
        for lease_id, state in due:
            if state == "held":
                books.begin()
                books.load_lease(lease_id, now)
                books.expire()
                books.save(now)
            link.execute("DELETE FROM leases WHERE id = ?", (lease_id,))
        books.begin()
        if abs(now - self._tidied) >= _TIDY:
            self._tidied = now
            for table, when in (("totals", "ends IS NOT NULL AND ends"), ("rates", "ends")):
                link.execute(
                    f"DELETE FROM {table} WHERE key IN (SELECT key FROM {table} "  # noqa: S608
                    f"WHERE leases = 0 AND {when} <= ? LIMIT {_REMOVED})",
                    (now,),
                )

    def reserve(
        self, lease_id: str, dimensions: tuple[Dimension, ...], ttl: float, life: int
    ) -> Lease | ValueError:
        """See `LeaseStore.reserve`; what was wrong with what was asked is an answer, too."""
        now, books = self._now, self._books
        books.load_lease(lease_id, now)
        books.load(dimensions, now)
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
            (min(self._now + life, _LATEST), lease_id),
        )
        return changed.rowcount > 0

    def level(self, dimension: Dimension) -> int:
        """See `LeaseStore.level`."""
        self._books.load((dimension,), self._now)
        level = _done(self._books.level(dimension))
        assert isinstance(level, int)  # noqa: S101 - a level is no mistake
        return level

    def look(self) -> None:
        """See whether the file can be read."""
        self.connection.execute("SELECT 1 FROM leases LIMIT 1").fetchone()
