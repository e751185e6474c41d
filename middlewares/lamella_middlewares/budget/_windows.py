"""Windows: the spans of time after which a budget starts anew, by a store's clock.

Days, weeks and months begin at midnight in a time zone; minutes, hours and other spans are counted
from the beginning of the epoch, so that a clock that goes back in autumn repeats none of them.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import Any, Final, TypeAlias

import attrs

from lamella import ConfigurationError
from lamella._options import is_number

UTC: Final = "UTC"

Zone: TypeAlias = dt.tzinfo

_SECONDS: Final = {"minute": 60.0, "hour": 3600.0}
_DAYS: Final = ("day", "week", "month")
_LONGEST: Final = {"day": 90_000.0, "week": 608_400.0, "month": 2_682_000.0}
"""Seconds, with the hour that a change of the clock may add."""

WORDS: Final = (*_SECONDS, *_DAYS)


@attrs.frozen
class Span:
    """One window.

    Attributes:
        label: Names it in keys.
        start: When it begins, in seconds since the epoch.
        end: When the next one begins; infinite for a total.
    """

    label: str
    start: float
    end: float


TOTAL: Final = Span("", -math.inf, math.inf)


class Window:
    """How an allowance starts anew.

    Args:
        given: `"minute"`, `"hour"`, `"day"`, `"week"`, `"month"`, seconds, or None for never.
        zone: Where days begin.
        zone_name: What that is called.

    Attributes:
        name: Names it in keys and messages; empty for a total.
        length: Seconds that it takes at most; infinite for a total.
    """

    __slots__ = ("_last", "_seconds", "_word", "_zone", "length", "name")

    def __init__(self, given: str | float | None, zone: Zone, zone_name: str) -> None:
        self._last: Span | None = None  # no sentinel: a copy of one would be another object
        self._zone = zone
        self._word: str | None = None
        self._seconds = 0.0
        if given is None:
            self.name, self.length = "", math.inf
            self._last = TOTAL
        elif isinstance(given, str) and given in _DAYS:
            self._word = given
            self.name = given if zone_name == UTC else f"{given} in {zone_name}"
            self.length = _LONGEST[given]
        else:
            self._seconds = _SECONDS[given] if isinstance(given, str) else float(given)
            self.name = given if isinstance(given, str) else f"{_digits(self._seconds)} s"
            self.length = self._seconds

    def at(self, now: float) -> Span:
        """The window of an instant, in seconds since the epoch."""
        last = self._last
        if last is not None and last.start <= now < last.end:
            return last
        found = self._last = self._found(now)
        return found

    def _found(self, now: float) -> Span:
        if self._word is not None:
            return self._of_days(now, self._word)
        number = math.floor(now / self._seconds)
        return Span(str(number), number * self._seconds, (number + 1) * self._seconds)

    def _of_days(self, now: float, word: str) -> Span:
        day = dt.datetime.fromtimestamp(now, self._zone).date()
        if word == "week":
            day -= dt.timedelta(days=day.weekday())
        elif word == "month":
            day = day.replace(day=1)
        after = day + dt.timedelta(days=1 if word == "day" else 7)
        if word == "month":
            after = (day + dt.timedelta(days=31)).replace(day=1)
        return Span(day.isoformat(), self._midnight(day), self._midnight(after))

    def _midnight(self, day: dt.date) -> float:
        return dt.datetime.combine(day, dt.time(), self._zone).timestamp()


def _digits(seconds: float) -> str:
    """A number of seconds, in full: other windows must not meet under one name."""
    return str(int(seconds)) if seconds.is_integer() else repr(seconds)


def window_given(value: Any) -> str | float | None:
    """What an option `window` says, as text or seconds.

    Raises:
        ConfigurationError: If it is nothing of the kind.
    """
    if isinstance(value, dt.timedelta):
        value = value.total_seconds()
    if value is None or value in WORDS:
        return value  # type: ignore[no-any-return]
    if is_number(value) and value >= 1:
        return float(value)
    words = ", ".join(map(repr, WORDS))
    raise ConfigurationError(
        f"Budget(window={value!r}): give {words}, seconds (1 or more), a timedelta, or None for a "
        "total that never starts anew."
    )


def zone_of(name: str) -> Zone:
    """The time zone of a name such as `"Europe/Berlin"`.

    Raises:
        ConfigurationError: If this machine knows none of that name.
    """
    if name == UTC:
        return dt.UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (LookupError, OSError, TypeError, ValueError):
        raise ConfigurationError(
            f"Budget(timezone={name!r}): this machine knows no such time zone.",
            hint="Give a name such as 'Europe/Berlin'; on Windows, install the package tzdata.",
        ) from None
