"""Counters and histograms of one process, with the shape of the Prometheus client's.

The client's take a lock for each number, and sum money as floats. These are touched under the
recorder's lock only, a call costs a fifth, and money stays an integer until it is shown. The
client's are used where several processes count into one directory.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Any, Final, TypeAlias, cast

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

    def copied(self) -> float:
        """The number as it is now."""
        return self.value


class Spread:
    """How many numbers fell into each bucket, and their sum."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def copied(self) -> tuple[list[int], float]:
        """The numbers in each bucket, and the sum, as they are now."""
        return self._counts.copy(), self._total


Copied: TypeAlias = "list[tuple[tuple[str, ...], Any]]"
"""The numbers of one metric at one time, by the values of its labels."""


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
        self._bounds = (*map(str, family.buckets), "+Inf")

    def labels(self, *values: str) -> Sum | Spread:
        """The series of these values."""
        family = self._family
        new = Spread(family.buckets) if family.kind == "histogram" else Sum()
        return self._series.setdefault(values, new)

    def describe(self) -> Iterable[Any]:
        """The metric without samples."""
        return [_KINDS[self._family.kind](self._name, self._family.help, labels=self._labels)]

    def copied(self) -> Copied:
        """The numbers as they are now: quickly, as calls wait meanwhile."""
        return [(values, series.copied()) for values, series in self._series.items()]

    def shown(self, copied: Copied) -> Iterable[Any]:
        """The metric with samples of these numbers, which nobody has to wait for."""
        (metric,) = self.describe()
        kind = self._family.kind
        divisor = NANO if kind == "money" else 1
        for values, number in copied:
            if kind == "histogram":
                counts, total = cast("tuple[list[int], float]", number)
                buckets = list(zip(self._bounds, accumulate(counts), strict=True))
                metric.add_metric(values, buckets, total)
            else:
                metric.add_metric(values, number / divisor)
        return [metric]
