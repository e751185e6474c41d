"""What is asked of records of spend, in SQL.

All that a caller says is bound as a value; the statements have nothing but words of ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

from lamella._spend_pages import Place
from lamella._spend_records import TAG, TIMES, SpendQuery
from lamella._spend_totals import DAY, Calendar, seconds_of

PAGE: Final = 500
"""Records that are read at once."""

_EARLIER: Final = 7 * DAY
"""What days and hours are counted from in SQL, which rounds towards zero: before any instant."""

_SUMS: Final = (
    "count(*), sum(cost_nano IS NULL), ifnull(sum(estimated), 0), ifnull(sum(input_tokens), 0), "
    "ifnull(sum(cache_read), 0), ifnull(sum(output_tokens), 0), ifnull(sum(reasoning_output), 0), "
    # In two halves: a sum may be more than SQLite's integers hold.
    "currency, ifnull(sum(cost_nano >> 32), 0), ifnull(sum(cost_nano & 4294967295), 0)"
)
_SIMPLE: Final = re.compile(r"[A-Za-z0-9_-]+").fullmatch


class Asked:
    """A query in SQL."""

    def __init__(self, query: SpendQuery, calendar: Calendar | None = None) -> None:
        self._query = query
        self._calendar = calendar
        self._where: list[str] = []
        self._values: list[Any] = []
        for sign, instant in ((">=", query.since), ("<", query.until)):
            if instant is not None:
                self._ask(f"at {sign} ?", float(instant))
        for name, value in query.where.items():
            column, values = _column(name)
            if value:
                self._ask(f"{column} = ?", *values, value)
            else:
                self._ask(f"ifnull({column}, '') = ''", *values)

    def totals(self) -> tuple[str, list[Any]]:
        """The statement that adds up, and its values."""
        columns, values = list[str](), list[Any]()
        for name in self._query.by:
            if name in TIMES:
                column, some = _number(name, self._calendar or Calendar((), (0,)))
                columns.append(column)
            else:
                column, some = _column(name)
                columns.append(f"nullif({column}, '')")
            values += some
        groups = ", ".join([*map(str, range(1, len(columns) + 1)), "currency"])
        what = ", ".join([*columns, _SUMS])
        statement = f"SELECT {what} FROM spend{self._clause()} GROUP BY {groups}"  # noqa: S608
        return statement, [*values, *self._values]

    def page(self, columns: Sequence[str], after: Place | None) -> tuple[str, list[Any]]:
        """The statement that reads a page, and its values."""
        if after is not None:
            at, id_ = after
            self._ask("at >= ?", at)
            self._ask("(at > ? OR id > ?)", at, id_)
        what = ", ".join(columns)
        statement = f"SELECT {what} FROM spend{self._clause()} ORDER BY at, id LIMIT {PAGE}"  # noqa: S608
        return statement, self._values

    def _ask(self, condition: str, *values: Any) -> None:
        self._where.append(condition)
        self._values += values

    def _clause(self) -> str:
        return f" WHERE {' AND '.join(self._where)}" if self._where else ""


def _number(unit: str, calendar: Calendar) -> tuple[str, list[Any]]:
    """In which hour, or day, of a calendar a record is, in SQL, and the values in it."""
    cases, values = "", list[Any]()
    for instant, offset in zip(calendar.instants, calendar.offsets, strict=False):
        cases += "WHEN at < ? THEN ? "
        values += (instant, offset)
    ahead = f"CASE {cases}ELSE ? END" if cases else "?"
    values.append(calendar.offsets[-1])
    return f"(CAST(at AS INTEGER) + {_EARLIER} + ({ahead})) / {seconds_of(unit)}", values


def number_of(value: int, unit: str) -> int:
    """The number of the hour, or day, for what SQL gives."""
    return value - _EARLIER // seconds_of(unit)


def _column(name: str) -> tuple[str, list[Any]]:
    """What a name of `SpendQuery.where` is in SQL, and the values in it."""
    if not name.startswith(TAG):
        return name, []  # one of FIELDS, which are columns
    tag = name[len(TAG) :]
    if _SIMPLE(tag):
        return "json_extract(tags, ?)", [f'$."{tag}"']
    return "lamella_tag(tags, ?)", [tag]


def tag_of(tags: str | None, name: str) -> str | None:
    """The tag of a name that JSON would have to escape, from the column of tags."""
    found: str | None = json.loads(tags).get(name) if tags else None
    return found
