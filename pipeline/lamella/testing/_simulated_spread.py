"""Quantities that vary, and spans of time as people write them."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from random import Random
from typing import Final

import attrs

from lamella._errors import ConfigurationError
from lamella._options import is_number, number, seconds

_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_SPAN: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+|\d+(?:\.\d+)?")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "": 1.0}


@attrs.frozen
class Spread:
    """A quantity that varies from one request to the next: log-normal, as latencies are.

    Attributes:
        median: Half of the values are below it; above 0.
        sigma: How far they spread: about two thirds lie between `median / e**sigma` and
            `median * e**sigma`. 0 gives the median each time.
        most: No value is above it.
    """

    median: float = attrs.field(validator=number(1e-9))
    sigma: float = attrs.field(default=0.0, validator=number(0, 5))
    most: float = math.inf

    def draw(self, random: Random) -> float:
        """One value."""
        if self.sigma == 0:
            return min(self.median, self.most)
        return min(self.median * math.exp(random.gauss(0.0, self.sigma)), self.most)


def as_spread(value: float | timedelta | Spread, sigma: float) -> Spread:
    """A quantity: a plain number, or a timedelta, is the median of a `Spread` with this sigma.

    Raises:
        ConfigurationError: If it is none.
    """
    if isinstance(value, Spread):
        return value
    median = seconds(value)
    if not is_number(median) or median <= 0:
        raise ConfigurationError(
            f"{value!r} is no quantity: give a number above 0, or a Spread(median, sigma)."
        )
    return Spread(median, sigma)


def span_of(text: str) -> float:
    """Seconds of a span of time such as `90`, `2m`, `1h30m` or `250ms`.

    Raises:
        ConfigurationError: If it is none.
    """
    if _SPAN.fullmatch(text.strip()) is None:
        raise ConfigurationError(
            f"{text!r} is no span of time: write seconds (90), or 250ms, 30s, 2m, 1h30m, 2d."
        )
    return sum(float(amount) * _UNITS[unit] for amount, unit in _PART.findall(text))


def clock_time(instant: float) -> str:
    """An instant of a simulation as people write it: `0s`, `90s`, `2m`, `1h30m`."""
    if math.isinf(instant):
        return "end"
    if instant < 120 or instant % 1:
        return f"{instant:g}s"
    hours, rest = divmod(int(instant), 3600)
    minutes, left = divmod(rest, 60)
    parts = [(hours, "h"), (minutes, "m"), (left, "s")]
    return "".join(f"{amount}{unit}" for amount, unit in parts if amount)
