"""What records of spend amount to: how parts of a sum are told apart, and put together.

For stores. One that keeps records in tables adds them up itself, by hours or days of the time zone,
and gives the sums to `Totals`; one in memory gives it every record.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import attrs

from lamella._money import Money
from lamella._spend_records import TAG, TIMES, SpendQuery, SpendRecord, SpendTotal

HOUR: Final = 3600
DAY: Final = 86_400

_YEAR: Final = 366 * DAY  # about; calendars are made for whole ones
_EPOCH: Final = date(1970, 1, 1)


def time_of(query: SpendQuery) -> str | None:
    """The span of the calendar by which totals are told apart; None if by none."""
    return next((name for name in query.by if name in TIMES), None)


def seconds_of(unit: str) -> int:
    """What instants are added up by: the seconds of an hour, or of a day for longer spans."""
    return HOUR if unit == "hour" else DAY


@attrs.frozen
class Calendar:
    """How far the clocks of a time zone are ahead of UTC, over some years.

    Attributes:
        instants: When they were changed, in seconds since the epoch, in order.
        offsets: How many seconds they are ahead; the first is before any change.
    """

    instants: tuple[int, ...]
    offsets: tuple[int, ...]

    @classmethod
    def of(cls, timezone: str, first: float, last: float) -> Calendar:
        """The calendar of a time zone between two instants, in seconds since the epoch."""
        return _calendar(timezone, int(first) // _YEAR, int(last) // _YEAR)

    def between(self, first: float, last: float) -> Calendar:
        """The part of it that is needed between two instants."""
        begin, end = bisect_right(self.instants, first), bisect_right(self.instants, last)
        return Calendar(self.instants[begin:end], self.offsets[begin : end + 1])

    def number(self, at: float, seconds: int) -> int:
        """In which hour, or day, of the time zone an instant is, counted since its 1970."""
        ahead = self.offsets[bisect_right(self.instants, at)]
        return (int(at) + ahead) // seconds


@lru_cache(maxsize=32)
def _calendar(timezone: str, first: int, last: int) -> Calendar:
    zone = ZoneInfo(timezone)
    offsets, instants = [_ahead(zone, first * _YEAR)], list[int]()
    # No time zone has changed its clocks and changed them back within a day.
    for day in range(first * _YEAR, (last + 1) * _YEAR, DAY):
        following = _ahead(zone, day + DAY)
        if following != offsets[-1]:
            instants.append(_change(zone, day, day + DAY))
            offsets.append(following)
    return Calendar(tuple(instants), tuple(offsets))


def _ahead(zone: tzinfo, second: int) -> int:
    ahead = datetime.fromtimestamp(second, zone).utcoffset()
    return 0 if ahead is None else int(ahead.total_seconds())


def _change(zone: tzinfo, before: int, after: int) -> int:
    """The first second that has the offset of `after`."""
    old = _ahead(zone, before)
    while after - before > 1:
        middle = (before + after) // 2
        if _ahead(zone, middle) == old:
            before = middle
        else:
            after = middle
    return after


@lru_cache(maxsize=4096)
def label(unit: str, number: int) -> str:
    """What the span is called in which the hour, or day, of that number is: its beginning."""
    if unit == "hour":
        days, hour = divmod(number, 24)
        return f"{_EPOCH + timedelta(days=days)}T{hour:02}:00"
    day = _EPOCH + timedelta(days=number)
    if unit == "week":
        day -= timedelta(days=day.weekday())
    elif unit == "month":
        day = day.replace(day=1)
    return day.isoformat()


def field_of(record: SpendRecord, name: str) -> str | None:
    """What a record has under a name of `SpendQuery.where`; None if nothing."""
    if name == "currency":
        return None if record.cost is None else record.cost.currency
    if name.startswith(TAG):
        return record.tags.get(name[len(TAG) :]) or None
    value: str | None = getattr(record, name)
    return value or None


def asked_for(query: SpendQuery, record: SpendRecord) -> bool:
    """Whether a record is one of those that a query asks for."""
    if query.since is not None and record.at < query.since:
        return False
    if query.until is not None and record.at >= query.until:
        return False
    return all(field_of(record, name) == (value or None) for name, value in query.where.items())


class Part(NamedTuple):
    """What some records amount to, all of one group and one currency, if of any.

    The attributes are those of `SpendTotal`, and the cost of those that have one.
    """

    attempts: int = 0
    unpriced: int = 0
    estimated: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    currency: str | None = None
    nano: int = 0

    @classmethod
    def of(cls, record: SpendRecord) -> Part:
        """What one record amounts to."""
        usage, cost = record.usage, record.cost
        return cls(
            1,
            int(cost is None),
            0 if usage is None else int(usage.estimated),
            0 if usage is None else usage.input_tokens,
            0 if usage is None else usage.cache_read,
            0 if usage is None else usage.output_tokens,
            0 if usage is None else usage.reasoning_output,
            None if cost is None else cost.currency,
            0 if cost is None else cost.nano,
        )


_COUNTS: Final = 7  # of a part, before its money


@attrs.define
class _Sum:
    counts: list[int] = attrs.field(factory=lambda: [0] * _COUNTS)
    nano: dict[str, int] = attrs.field(factory=dict[str, int])


class Totals:
    """The totals of a query, put together from parts."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str | None, ...], _Sum] = {}

    def add(self, group: tuple[str | None, ...], part: Part) -> None:
        """Add what some records of a group amount to."""
        found = self._sums.get(group)
        if found is None:
            found = self._sums[group] = _Sum()
        counts: tuple[int, ...] = part[:_COUNTS]
        for place in range(_COUNTS):
            found.counts[place] += counts[place]
        if part.currency is not None:
            found.nano[part.currency] = found.nano.get(part.currency, 0) + part.nano

    def of(self, query: SpendQuery) -> Sequence[SpendTotal]:
        """The totals, in order of their groups; without groups one, of nothing if there is none."""
        if not self._sums and not query.by:
            return [SpendTotal()]
        return [_total(group, self._sums[group]) for group in sorted(self._sums, key=_place)]


def _total(group: tuple[str | None, ...], found: _Sum) -> SpendTotal:
    attempts, unpriced, estimated, inputs, cached, outputs, reasoning = found.counts
    return SpendTotal(
        group=group,
        attempts=attempts,
        unpriced=unpriced,
        estimated=estimated,
        input_tokens=inputs,
        cached_tokens=cached,
        output_tokens=outputs,
        reasoning_tokens=reasoning,
        costs={currency: Money(nano, currency) for currency, nano in sorted(found.nano.items())},
    )


def _place(group: tuple[str | None, ...]) -> tuple[tuple[bool, str], ...]:
    return tuple((value is not None, value or "") for value in group)
