"""Counters and histograms of one process, with the shape of the Prometheus client's.

The client's take a lock for each number, and sum money as floats. These are touched under the
recorder's lock only, a call costs a fifth, and money stays an integer until it is shown. The
client's are used where several processes count into one directory.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from lamella_prometheus._families import Family

NANO: Final = 10**9

_KINDS: Final[dict[str, Any]] = {
    "counter": CounterMetricFamily,
    "money": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


class Sum:
    """One number that is added to."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def inc(self, amount: float = 1) -> None:
        """Add to it."""
        self.value += amount

    def dec(self) -> None:
        """Take one away."""
        self.value -= 1

    def set(self, value: float) -> None:
        """Put another in its place."""
        self.value = value


class Spread:
    """How many numbers fell into each bucket, and their sum."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """The number at or below each bound."""
        found: list[tuple[str, float]] = []
        below = 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self.counts, strict=True):
            below += count
            found.append((bound, below))
        return found


class Sums:
    """One metric.

    Args:
        family: What it is.
        name: Its name, prefix included.
        labels: The names of its labels.
    """

    def __init__(self, family: Family, name: str, labels: tuple[str, ...]) -> None:
        self._family = family
        self._name = name
        self._labels = labels
        self._series: dict[tuple[str, ...], Sum | Spread] = {}

    def labels(self, *values: str) -> Sum | Spread:
        """The series of these values."""
        family = self._family
        new = Spread(family.buckets) if family.kind == "histogram" else Sum()
        return self._series.setdefault(values, new)

    def describe(self) -> Iterable[Any]:
        """The metric without samples."""
        return [_KINDS[self._family.kind](self._name, self._family.help, labels=self._labels)]

    def collect(self) -> Iterable[Any]:
        """The metric with its samples."""
        (metric,) = self.describe()
        divisor = NANO if self._family.kind == "money" else 1
        for values, series in self._series.items():
            if isinstance(series, Spread):
                metric.add_metric(values, series.buckets(), series.total)
            else:
                metric.add_metric(values, series.value / divisor)
        return [metric]
