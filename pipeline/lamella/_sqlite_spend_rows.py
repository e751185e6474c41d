"""What a file of spend holds, one step at a time. Blocks; one thread at a time.

The columns are for people, too, who ask the file with `sqlite3`: what adds up stands there as whole
numbers, and tokens of a kind that only some providers have as JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Final

import attrs

from lamella._money import Money
from lamella._nothing import NOTHING
from lamella._spend_pages import Place
from lamella._spend_records import SpendQuery, SpendRecord, SpendTotal
from lamella._spend_totals import Calendar, Part, Totals, label, time_of
from lamella._sqlite_file import Contents
from lamella._sqlite_link import transaction
from lamella._sqlite_schema import FileForm
from lamella._sqlite_spend_queries import Asked, number_of, tag_of
from lamella._usage import Usage

FORM: Final = FileForm(
    store="SQLiteSpend",
    application=0x4C4D5350,  # "LMSP"
    statements=(
        """CREATE TABLE spend (
    id TEXT NOT NULL PRIMARY KEY,
    at REAL NOT NULL, -- when the attempt ended: seconds since 1970, UTC
    call_id TEXT NOT NULL,
    parent_id TEXT,
    branch TEXT NOT NULL,
    layer TEXT NOT NULL,
    operation TEXT NOT NULL,
    category TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT,
    served_model TEXT,
    service TEXT,
    tenant TEXT,
    user TEXT,
    session TEXT,
    tags TEXT, -- JSON: text by name
    outcome TEXT NOT NULL,
    duration REAL NOT NULL, -- seconds
    time_to_first_event REAL, -- seconds
    cost_nano INTEGER, -- billionths of the currency; NULL if nobody knows
    currency TEXT,
    input_tokens INTEGER, -- of all kinds; NULL if nobody knows
    output_tokens INTEGER, -- of all kinds
    estimated INTEGER, -- 1 if only we have counted
    uncached_input INTEGER,
    cache_read INTEGER,
    cache_write TEXT, -- JSON: tokens by lifetime
    audio_input INTEGER,
    image_input INTEGER,
    text_output INTEGER,
    reasoning_output INTEGER,
    audio_output INTEGER,
    image_output INTEGER,
    tool_units TEXT -- JSON: units by tool
)""",
        "CREATE INDEX spend_by_time ON spend (at)",
        "CREATE INDEX spend_by_session ON spend (session, at) WHERE session IS NOT NULL",
        "CREATE INDEX spend_by_user ON spend (user, at) WHERE user IS NOT NULL",
        "CREATE INDEX spend_by_tenant ON spend (tenant, at) WHERE tenant IS NOT NULL",
    ),
    # What was appended and has returned survives a loss of power, as far as the disk does.
    pragmas=("synchronous = FULL",),
    additions=frozenset({"index", "table", "view"}),  # people's own, who ask it
    more_room="have old records forgotten",
    moved="its records are then no longer counted",
    patience=5.0,
)
"""The files of this store."""

_PLAIN: Final = (
    "id", "at", "call_id", "parent_id", "branch", "layer", "operation", "category", "provider",
    "model", "served_model", "service", "tenant", "user", "session", "outcome", "duration",
    "time_to_first_event",
)  # fmt: skip
_COUNTS: Final = (
    "uncached_input", "cache_read", "audio_input", "image_input", "text_output",
    "reasoning_output", "audio_output", "image_output",
)  # fmt: skip
_READ: Final = (
    *_PLAIN, "tags", "cost_nano", "currency", *_COUNTS, "cache_write", "tool_units", "estimated",
)  # fmt: skip
_WRITTEN: Final = (*_READ, "input_tokens", "output_tokens")
# ON CONFLICT and not OR IGNORE, which would pass over what breaks any other rule, too.
_INSERT: Final = (
    f"INSERT INTO spend ({', '.join(_WRITTEN)}) "  # noqa: S608 - words of ours
    f"VALUES ({', '.join('?' * len(_WRITTEN))}) ON CONFLICT (id) DO NOTHING"
)


@attrs.define(eq=False)
class SpendRows(Contents):
    """The steps. Those that write run inside a transaction."""

    def __attrs_post_init__(self) -> None:
        """Let SQL look for tags whose names JSON would have to escape."""
        self.connection.create_function("lamella_tag", 2, tag_of, deterministic=True)

    def append(self, records: Sequence[SpendRecord]) -> int:
        """Append records; how many were new."""
        before = self.connection.total_changes
        self.connection.executemany(_INSERT, map(row_of, records))
        return self.connection.total_changes - before

    def totals(self, query: SpendQuery) -> Sequence[SpendTotal]:
        """What the records amount to, all at one moment."""
        link, unit, totals = self.connection, time_of(query), Totals()
        with nullcontext() if link.in_transaction else transaction(link, writes=False):
            calendar = None if unit is None else self._calendar(query)
            rows = link.execute(*Asked(query, calendar).totals()).fetchall()
        width = len(query.by)
        for row in rows:
            group = tuple(
                label(name, number_of(value, name)) if name == unit else value
                for name, value in zip(query.by, row[:width], strict=True)
            )
            *part, high, low = row[width:]
            totals.add(group, Part._make((*part, (high << 32) + low)))
        return totals.of(query)

    def page(self, query: SpendQuery, after: Place | None) -> Sequence[SpendRecord]:
        """The records after a place, in order."""
        statement = Asked(query).page(_READ, after)
        return [_record(row) for row in self.connection.execute(*statement)]

    def places(self, query: SpendQuery, after: Place | None) -> Sequence[Place]:
        """Where the records after a place are, in order."""
        return self.connection.execute(*Asked(query).page(("at", "id"), after)).fetchall()

    def forget(self, ids: Sequence[str]) -> int:
        """Remove the records with these ids; how many there were."""
        before = self.connection.total_changes
        self.connection.executemany("DELETE FROM spend WHERE id = ?", [(id_,) for id_ in ids])
        return self.connection.total_changes - before

    def look(self) -> None:
        """See that the file can be read."""
        self.connection.execute("SELECT id FROM spend LIMIT 1").fetchone()

    def _calendar(self, query: SpendQuery) -> Calendar:
        """The calendar of the time zone, for as long as there are records."""
        first, last = self.connection.execute(
            "SELECT (SELECT min(at) FROM spend WHERE at >= ?), "
            "(SELECT max(at) FROM spend WHERE at < ?)",
            (
                0.0 if query.since is None else float(query.since),
                math.inf if query.until is None else float(query.until),
            ),
        ).fetchone()
        if first is None or last is None or first > last:
            first = last = 0
        return Calendar.of(query.timezone, first, last).between(first, last)


def row_of(record: SpendRecord) -> tuple[Any, ...]:
    """The values that a record is written as."""
    cost, usage = record.cost, record.usage
    plain = [getattr(record, name) for name in _PLAIN]
    tags = _json(record.tags)
    money = (None, None) if cost is None else (cost.nano, cost.currency)
    if usage is None:
        return (*plain, tags, *money, *[None] * (len(_COUNTS) + 5))
    return (
        *plain,
        tags,
        *money,
        *[getattr(usage, name) for name in _COUNTS],
        _json(usage.cache_write),
        _json(usage.tool_units),
        int(usage.estimated),
        usage.input_tokens,
        usage.output_tokens,
    )


def _json(values: Mapping[str, Any]) -> str | None:
    return json.dumps(dict(values), ensure_ascii=False) if values else None


def _record(row: Sequence[Any]) -> SpendRecord:
    """The record that was written as a row."""
    found: dict[str, Any] = dict(zip(_READ, row, strict=True))
    nano, currency = found.pop("cost_nano"), found.pop("currency")
    counts = {name: found.pop(name) for name in _COUNTS}
    written, units = _mapping(found.pop("cache_write")), _mapping(found.pop("tool_units"))
    estimated, tags = found.pop("estimated"), _mapping(found.pop("tags"))
    usage = None
    if estimated is not None:
        usage = Usage(
            **counts,
            cache_write=written,
            tool_units=units,
            estimated=bool(estimated),
        )
    return SpendRecord(
        **found,
        tags=tags,
        usage=usage,
        cost=None if nano is None else Money(nano, currency),
    )


def _mapping(text: str | None) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(text) if text else NOTHING
    return found
