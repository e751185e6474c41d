"""The rows that the decisions of one transaction need, in memory, where `MemoryLeases` decides."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, Final

from lamella._memory_buckets import Bucket, Gap
from lamella._memory_leases import MemoryLeases
from lamella._memory_totals import Total
from lamella._stores import Dimension, Lease

MOST: Final = 2**63 - 1
"""The largest number of a total, and the most that is counted as out of one."""

LATEST: Final = 2**62
"""Ticks since 1970, in the year 2116: what would end later does then, or never."""


class LeaseBooks(MemoryLeases):
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
        self._written: dict[str, tuple[Any, ...]] = {}
        self._loaded: dict[str, tuple[list[int], list[Gap]]] = {}
        self.changed: dict[str, int] = {}

    def begin(self) -> None:
        """Nothing is known: other processes have decided meanwhile."""
        for known in (self._buckets, self._totals, self._held, self._ended, self._limits):
            known.clear()
        self._expiries.clear()
        self.changed.clear()
        self._ids.clear()
        self._counts.clear()
        self._written.clear()
        self._loaded.clear()
        self._now = float("-inf")

    # --- from the file ---------------------------------------------------------------------------

    def load(self, dimensions: Sequence[Dimension]) -> None:
        """What is known of these limits."""
        for dimension in dimensions:
            name = _name(dimension)
            if name not in self._limits:
                self._limits[name] = dimension
                if dimension.per:
                    self._load_rate(name, dimension)
                else:
                    self._load_total(name, dimension)

    def _load_total(self, name: str, dimension: Dimension) -> None:
        row = self._execute("SELECT * FROM totals WHERE key = ?", (name,)).fetchone()
        if row is not None:
            self._written[name] = row
            self._totals[dimension.key] = Total.restored(*row[1:])

    def _load_rate(self, name: str, dimension: Dimension) -> None:
        row = self._execute("SELECT state FROM rates WHERE key = ?", (name,)).fetchone()
        if row is None:
            return
        shares, at, leases, count, gaps = json.loads(row[0])
        bucket = Bucket.restored(dimension.capacity, dimension.per, (shares, at, leases), gaps)
        self._buckets[(dimension.key, dimension.capacity, dimension.per)] = bucket
        self._counts[name] = count
        numbers, known = [number for number, _, _ in gaps], bucket.gaps()
        self._loaded[name] = numbers, known
        self._ids.update(zip(known, numbers, strict=True))

    def load_lease(self, lease_id: str, now: int) -> None:
        """What is known of a lease, and the limits that it is of."""
        if lease_id in self._held or lease_id in self._ended:
            return
        row = self._execute(
            "SELECT state, dimensions, gaps, remaining, ends FROM leases WHERE id = ?", (lease_id,)
        ).fetchone()
        if row is None or (row[0] != "held" and row[4] <= now):  # that is yet to be removed
            return
        state, words, gaps, remaining, ends = row
        dimensions = _dimensions(words)
        self.load(dimensions)
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
        numbers, gaps = self._loaded.get(_name(dimension), ([], []))
        place = bisect_right(numbers, number)
        return bucket, gaps[place - 1] if place else None, 0

    # --- to the file -----------------------------------------------------------------------------

    def save(self, now: int) -> None:
        """Write down what came of the limits, and then of the leases."""
        for name, dimension in self._limits.items():
            if dimension.per:
                self._save_rate(name, dimension)
            else:
                self._save_total(name, dimension, now)
        for lease_id, ends in self.changed.items():
            self._save_lease(lease_id, ends)

    def _save_total(self, name: str, dimension: Dimension, now: int) -> None:
        total = self._totals.get(dimension.key)
        if total is None or total.idle(now):
            self._execute("DELETE FROM totals WHERE key = ?", (name,))
            return
        total.out = min(total.out, MOST)
        ends = total.until if total.until < LATEST else None
        row = (name, total.out, total.leases, total.keep, ends)
        if row != self._written.get(name):
            self._execute("REPLACE INTO totals VALUES (?, ?, ?, ?, ?)", row)

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
            (name, state, leases, min(bucket.full_at, LATEST)),
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
            (lease_id, state, words, json.dumps(gaps), remaining, min(ends, LATEST)),
        )

    def _id_of(self, gap: Gap) -> int | None:
        """What a gap is called or, if it has been filled, the next older one."""
        standing: Gap | None = gap
        while standing is not None and not standing.shares:
            standing = standing.older
        return None if standing is None else self._ids[standing]


def _words(dimensions: Sequence[Dimension]) -> str:
    return json.dumps(
        [[list(d.key), d.amount, d.capacity, d.per, d.held, d.keep] for d in dimensions],
        separators=(",", ":"),
    )


def _dimensions(words: str) -> tuple[Dimension, ...]:
    return tuple([Dimension(tuple(key), *numbers) for key, *numbers in json.loads(words)])


def _name(dimension: Dimension) -> str:
    """What the rows of a limit are known by."""
    key: list[Any] = list(dimension.key)
    if dimension.per:
        key += [dimension.capacity, float(dimension.per)]
    return json.dumps(key, separators=(",", ":"))
