"""Records of spend in memory: the newest of them, as long as the process lives."""

from __future__ import annotations

import threading  # noqa: TID251 - for a type
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import islice
from typing import Final

import anyio.lowlevel
import attrs

from lamella._fork_locks import fork_safe_lock
from lamella._nothing import NOTHING
from lamella._options import whole
from lamella._spend_checks import storable
from lamella._spend_pages import Place, SpendReading
from lamella._spend_records import SpendQuery, SpendRecord, SpendTotal
from lamella._spend_totals import (
    Calendar,
    Part,
    Totals,
    asked_for,
    field_of,
    label,
    seconds_of,
    time_of,
)

_AT_ONCE: Final = 500
"""Records that are looked at before the loop may run something else."""


@attrs.define(eq=False)
class MemorySpend:
    """`SpendStore` in memory: for tests, and for programs that need their spend while they run.

    Thread-safe, for any number of event loops. It is bounded: of more than `max_records` the ones
    appended first are dropped, and their ids forgotten with them; `dropped` counts them. A forked
    child has a copy of its own.

    Args:
        max_records: How many records are kept, about 1 KiB each; 1 or more.

    Raises:
        ConfigurationError: If `max_records` is not such a number.
    """

    max_records: int = attrs.field(default=100_000, kw_only=True, validator=whole(1))
    _records: dict[str, SpendRecord] = attrs.field(
        factory=dict[str, SpendRecord], init=False, repr=False
    )
    _dropped: int = attrs.field(default=0, init=False, repr=False)
    _lock: threading.Lock = attrs.field(factory=fork_safe_lock, init=False, repr=False)

    @property
    def dropped(self) -> int:
        """How many records had to make room for newer ones."""
        return self._dropped

    async def append(self, records: Sequence[SpendRecord]) -> int:
        """Append records together; see `SpendStore.append`."""
        return self.append_now(records)

    def append_now(self, records: Sequence[SpendRecord]) -> int:
        """Append records together, without an event loop; see `SpendStore.append`.

        Raises:
            ValueError: As there.
        """
        new = [_copied(storable(record)) for record in records]
        with self._lock:
            kept = self._records
            before = len(kept)
            for record in new:
                kept.setdefault(record.id, record)
            count = len(kept) - before
            if len(kept) > self.max_records:
                excess = len(kept) - self.max_records
                for id_ in list(islice(kept, excess)):
                    del kept[id_]
                self._dropped += excess
        return count

    async def totals(self, query: SpendQuery) -> Sequence[SpendTotal]:
        """What the records amount to at this moment; see `SpendStore.totals`."""
        records = await self._asked_for(query)
        unit, totals = time_of(query), Totals()
        seconds = seconds_of(unit or "day")
        calendar = None
        if unit is not None and records:
            first, last = min(each.at for each in records), max(each.at for each in records)
            calendar = Calendar.of(query.timezone, first, last)
        for place, record in enumerate(records):
            if place % _AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()
            group = tuple(
                label(name, calendar.number(record.at, seconds))
                if calendar is not None and name == unit
                else field_of(record, name)
                for name in query.by
            )
            totals.add(group, Part.of(record))
        return totals.of(query)

    def read(self, query: SpendQuery) -> AsyncIterator[SpendRecord]:
        """The records as they are when the reading begins; see `SpendStore.read`."""
        rest: list[SpendRecord] = []

        async def next_page(after: Place | None) -> Sequence[SpendRecord]:
            if after is None:
                rest.extend(await self._asked_for(query))
                rest.sort(key=lambda record: (record.at, record.id), reverse=True)
            await anyio.lowlevel.checkpoint()
            page = rest[: -_AT_ONCE - 1 : -1]
            del rest[-_AT_ONCE:]
            return [_copied(record) for record in page]

        return SpendReading(next_page)

    async def forget(
        self, *, before: float | None = None, where: Mapping[str, str | None] = NOTHING
    ) -> int:
        """Remove the records that are old, somebody's, or both; see `SpendStore.forget`.

        Raises:
            ConfigurationError: As there.
            ValueError: As there.
        """
        found = await self._asked_for(SpendQuery.forgetting(before, where))
        with self._lock:
            return sum(self._records.pop(record.id, None) is not None for record in found)

    async def aclose(self) -> None:
        """Nothing is held open. What is kept stays, for others may use the same store."""

    async def _asked_for(self, query: SpendQuery) -> list[SpendRecord]:
        with self._lock:
            records = list(self._records.values())
        found: list[SpendRecord] = []
        for place in range(0, len(records), _AT_ONCE):
            await anyio.lowlevel.checkpoint()
            some = records[place : place + _AT_ONCE]
            found.extend(record for record in some if asked_for(query, record))
        return found


def _copied(record: SpendRecord) -> SpendRecord:
    """The record, with mappings that nobody else has."""
    usage = record.usage
    if usage is not None and (usage.cache_write or usage.tool_units):
        written, units = dict(usage.cache_write), dict(usage.tool_units)
        usage = attrs.evolve(usage, cache_write=written, tool_units=units)
    elif not record.tags:
        return record
    return attrs.evolve(record, tags=dict(record.tags), usage=usage)
