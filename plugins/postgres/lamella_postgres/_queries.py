"""What is asked of records of spend, in SQL.

All that a caller says is bound as a value; the statements have nothing but words of ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from lamella import SpendQuery, SpendRecord, SpendTotal
from lamella._spend_pages import Place
from lamella._spend_records import TAG, TIMES
from lamella._spend_totals import DAY, Calendar, Part, Totals, label, seconds_of, time_of
from lamella_postgres._rows import READ, record_of
from lamella_postgres._table import found_by, table_of, unusable

if TYPE_CHECKING:
    from lamella_postgres._link import Link

PAGE: Final = 500
"""Records that are read at once."""

REMOVED: Final = 1000
"""Records that one step forgets."""

_EARLIER: Final = 7 * DAY
"""What days and hours are counted from in SQL, which rounds towards zero: before any instant."""

_SUMS: Final = (
    "count(*), count(*) FILTER (WHERE cost_nano IS NULL), count(*) FILTER (WHERE estimated), "
    "coalesce(sum(input_tokens), 0), coalesce(sum(cache_read), 0), coalesce(sum(output_tokens), 0),"
    " coalesce(sum(reasoning_output), 0), currency, coalesce(sum(cost_nano), 0)"
)


class Asked:
    """A query in SQL."""

    def __init__(self, query: SpendQuery, schema: str) -> None:
        self._query = query
        self._schema = schema
        self._table = table_of(schema).replace("%", "%%")
        self._where: list[str] = []
        self._values: list[Any] = []
        for sign, instant in ((">=", query.since), ("<", query.until)):
            if instant is not None:
                self._ask(f"at {sign} %s::float8", float(instant))
        for name, value in query.where.items():
            column, values = _column(name)
            if not value:
                self._ask(f"coalesce({column}, '') = ''", *values)
            elif name.startswith(TAG):  # as the index has them
                pair = "tags @> jsonb_build_object(%s::text, %s::text)"
                self._ask(pair, *values, value)
            else:
                self._ask(f"{column} = %s{found_by(column, value)}", value)

    def totals(self, link: Link) -> Sequence[SpendTotal]:
        """What the records amount to."""
        query, unit, totals = self._query, time_of(self._query), Totals()
        calendar = Calendar((), (0,)) if unit is None else self._calendar(link)
        columns, values = list[str](), list[Any]()
        for name in query.by:
            if name in TIMES:
                column, some = _number(name, calendar)
                columns.append(column)
            else:
                column, some = _column(name)
                columns.append(f"nullif({column}, '')")
            values += some
        groups = ", ".join([*map(str, range(1, len(columns) + 1)), "currency"])
        what = ", ".join([*columns, _SUMS])
        text = f"SELECT {what} FROM {self._table}{self._clause()} GROUP BY {groups}"  # noqa: S608
        width = len(query.by)
        for row in link.execute(text.encode(), [*values, *self._values]):
            group = tuple(
                label(name, int(value) - _EARLIER // seconds_of(name)) if name == unit else value
                for name, value in zip(query.by, row[:width], strict=True)
            )
            *counts, currency, nano = row[width:]
            totals.add(group, Part._make((*map(int, counts), currency, int(nano))))
        return totals.of(query)

    def page(self, link: Link, after: Place | None) -> Sequence[SpendRecord]:
        """The records after a place, in order."""
        if after is not None:
            self._ask("(at, id) > (%s::float8, %s::text)", *after)
        text = (
            f"SELECT {', '.join(READ)} FROM {self._table}{self._clause()} "  # noqa: S608
            f"ORDER BY at, id LIMIT {PAGE}"
        )
        rows = link.execute(text.encode(), self._values).fetchall()
        try:
            return [record_of(row) for row in rows]
        except (TypeError, ValueError, AttributeError):
            hint = "Somebody else has written it, for no append does: see who writes to the table."
            raise unusable(f"a row of {table_of(self._schema)} is malformed", hint) from None

    def forget_some(self, link: Link, after: Place | None) -> tuple[int, Place | None]:
        """Remove some of the records after a place; how many, and the place of the last.

        There is no such place once there are no more records.
        """
        if after is not None:
            self._ask("(at, id) > (%s::float8, %s::text)", *after)
        text = (
            f"SELECT at, id FROM {self._table}{self._clause()} "  # noqa: S608
            f"ORDER BY at, id LIMIT {REMOVED}"
        )
        places: list[Any] = link.execute(text.encode(), self._values).fetchall()
        if not places:
            return 0, None
        removal = f"DELETE FROM {self._table} WHERE id = ANY(%s)"  # noqa: S608
        ids = sorted(id_ for _, id_ in places)
        return link.execute(removal.encode(), [ids]).rowcount, places[-1]

    def _calendar(self, link: Link) -> Calendar:
        """The calendar of the time zone, for as long as there are records.

        Python's, so that every store has the same days, whatever the server knows of time zones.
        """
        query = self._query
        text = (
            f"SELECT (SELECT min(at) FROM {self._table} WHERE at >= %s::float8), "  # noqa: S608
            f"(SELECT max(at) FROM {self._table} WHERE at < %s::float8)"
        )
        since = 0.0 if query.since is None else float(query.since)
        until = math.inf if query.until is None else float(query.until)
        row: Any = link.execute(text.encode(), [since, until]).fetchone()
        first, last = row
        if first is None or last is None or first > last:
            first = last = 0
        return Calendar.of(query.timezone, first, last).between(first, last)

    def _ask(self, condition: str, *values: Any) -> None:
        self._where.append(condition)
        self._values += values

    def _clause(self) -> str:
        return f" WHERE {' AND '.join(self._where)}" if self._where else ""


def _number(unit: str, calendar: Calendar) -> tuple[str, list[Any]]:
    """In which hour, or day, of a calendar a record is, in SQL, and the values in it."""
    cases, values = "", list[Any]()
    for instant, offset in zip(calendar.instants, calendar.offsets, strict=False):
        cases += "WHEN at < %s::bigint THEN %s::bigint "
        values += (instant, offset)
    ahead = f"CASE {cases}ELSE %s::bigint END" if cases else "%s::bigint"
    values.append(calendar.offsets[-1])
    return f"(floor(at)::bigint + {_EARLIER} + ({ahead})) / {seconds_of(unit)}", values


def _column(name: str) -> tuple[str, list[Any]]:
    """What a name of `SpendQuery.where` is in SQL, and the values in it."""
    if name.startswith(TAG):
        return "(tags ->> %s::text)", [name[len(TAG) :]]
    return ("end_user" if name == "user" else name), []  # `user` is who has logged in
