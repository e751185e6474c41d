"""The series of all metrics, by the values of their labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import prometheus_client

from lamella_prometheus._families import BY_NAME, FAMILIES, Family
from lamella_prometheus._label_values import LabelValues
from lamella_prometheus._sums import NANO, Sums

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_ALWAYS: Final = "in_flight"
"""The gauge that is counted as calls come and go; the others are read when somebody looks."""


class Series:
    """The metrics of one prefix. Not thread-safe: the recorder's lock covers it.

    Args:
        prefix: What all names begin with.
        own: The names of the caller's own labels.
        most: How many values each label may have.
        models: Models that have a place of their own whatever comes first.
        shared: Whether other processes count into the same directory.
    """

    def __init__(
        self, prefix: str, own: tuple[str, ...], most: int, models: Sequence[str], *, shared: bool
    ) -> None:
        self.value = LabelValues(most, {"model": models}, self._overflowed).of
        self._shared = shared
        self._metrics: dict[str, Any] = {}
        self._found: dict[str, dict[tuple[str, ...], Any]] = {}
        for family in FAMILIES:
            if shared or family.kind != "gauge" or family.name == _ALWAYS:
                self._metrics[family.name] = _metric(family, prefix, own, shared=shared)
                self._found[family.name] = {}

    def __iter__(self) -> Iterator[Any]:
        return iter(self._metrics.values())

    def of(self, family: str, *values: str) -> Any:
        """The series of a metric with these values, which are clean."""
        found = self._found[family].get(values)
        if found is None:
            metric = self._metrics[family]
            found = metric.labels(*values)
            if self._shared and BY_NAME[family].kind == "money":
                found = _Money(found)
            self._found[family][values] = found
        return found

    def clean(self, family: Family, values: Iterable[object]) -> tuple[str, ...]:
        """The values to use for a metric's labels."""
        pairs = zip(family.labels, values, strict=True)
        return tuple([self.value(label, value) for label, value in pairs])

    def show(self, family: str, samples: dict[tuple[str, ...], float]) -> None:
        """Set a gauge; what is not among the samples any more says nothing, as the client's stay.

        That is 0 where the highest counts, or the sum, and infinity where the lowest does: 0 there
        would be a limit without room, and hide those of the other processes.
        """
        gone = math.inf if BY_NAME[family].mode == "livemin" else 0
        for values in self._found[family].keys() - samples.keys():
            self.of(family, *values).set(gone)
        for values, sample in samples.items():
            self.of(family, *values).set(sample)

    def described(self) -> Iterable[Metric]:
        """Every metric without samples."""
        for metric in self._metrics.values():
            yield from metric.describe()

    def forked(self) -> None:
        """This is a child: no call is under way, and what it shares it begins at nothing."""
        if not self._shared:
            for gauge in self._found[_ALWAYS].values():
                gauge.set(0)
            return
        for family in FAMILIES:  # the client begins a file of its own at the first number
            if family.kind == "money":
                self._found[family.name].clear()

    def _overflowed(self, label: str) -> None:
        self.of("label_overflows", label).inc()


class _Money:
    """Adds nano-units to a counter of the client, which is a float of whole units.

    The sum is an integer, and each time what is missing to it is added, so that roundings do not
    add up.
    """

    __slots__ = ("_counter", "_nano", "_shown")

    def __init__(self, counter: Any) -> None:
        self._counter = counter
        self._nano = 0
        self._shown = 0.0

    def inc(self, nano: int) -> None:
        self._nano += nano
        more = max(0.0, self._nano / NANO - self._shown)
        self._shown += more
        self._counter.inc(more)


def _metric(family: Family, prefix: str, own: tuple[str, ...], *, shared: bool) -> Any:
    name, labels = f"{prefix}_{family.name}", family.labels + (own if family.labelled else ())
    if not shared:
        return Sums(family, name, labels)
    if family.kind == "histogram":
        return prometheus_client.Histogram(
            name, family.help, labels, registry=None, buckets=family.buckets
        )
    if family.kind == "gauge":
        return prometheus_client.Gauge(
            name, family.help, labels, registry=None, multiprocess_mode=family.mode
        )
    return prometheus_client.Counter(name, family.help, labels, registry=None)
