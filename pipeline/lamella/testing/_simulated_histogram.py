"""Percentiles of any number of values in little memory."""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

_GROWTH: Final = math.log(1.02)


class Histogram:
    """Counts values in classes that are 2 % wide, so that percentiles are right to 1 %."""

    __slots__ = ("_classes", "count", "most", "total")

    def __init__(self) -> None:
        self._classes: Counter[int] = Counter()
        self.count = 0
        self.total = 0.0
        self.most = 0.0

    def add(self, value: float) -> None:
        """Count one value; 0 or more."""
        self.count += 1
        self.total += value
        self.most = max(self.most, value)
        self._classes[math.floor(math.log(value) / _GROWTH) if value > 1e-9 else -100_000] += 1

    def percentile(self, share: float) -> float:
        """The value below which this share of the values lies; 0 if there are none.

        Args:
            share: From 0 to 1.
        """
        rank = max(1, math.ceil(share * self.count))
        seen = 0
        for index in sorted(self._classes):
            seen += self._classes[index]
            if seen >= rank:
                value = math.exp((index + 0.5) * _GROWTH)
                return 0.0 if index == -100_000 else min(value, self.most)
        return 0.0

    @property
    def mean(self) -> float:
        """Their mean; 0 if there are none."""
        return self.total / self.count if self.count else 0.0

    def summary(self) -> dict[str, float]:
        """The usual percentiles by name."""
        shares = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
        found = {name: round(self.percentile(share), 6) for name, share in shares.items()}
        return {**found, "max": round(self.most, 6), "mean": round(self.mean, 6)}
