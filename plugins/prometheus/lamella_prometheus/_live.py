"""How things are now: circuits, limits and queues, as their layers show them.

Of one process they are read when somebody scrapes. Where several processes count into one
directory, whoever is scraped cannot ask the others: then each writes them down after its calls.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from prometheus_client.core import GaugeMetricFamily

from lamella import Reading, pipelines_of, readings
from lamella._fork_locks import fork_safe_lock
from lamella_prometheus._families import BY_NAME, exposed

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from lamella_prometheus._recorder import Recorder

EVERY: Final = 1.0
"""Seconds after which a process among several writes down anew how things are."""

SHOWN: Final = (
    "breaker_state",
    "rate_limiter_available",
    "rate_limiter_limit",
    "queue_depth",
    "layer_reading",
)

Samples = dict[str, dict[tuple[str, ...], float]]


class Live:
    """What the pipelines show that a registry's layers are in.

    Args:
        recorder: Makes label values clean, and keeps what several processes share.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._layers: WeakSet[Any] = WeakSet()
        self._lock = fork_safe_lock()
        self._written = -math.inf
        self._written_busy = False

    def add(self, layer: object) -> None:
        """The pipelines of this layer are shown too. Thread-safe."""
        with self._lock:
            self._layers.add(layer)

    def collect(self, prefix: str) -> Iterable[Metric]:
        """Each metric with its samples.

        Args:
            prefix: What their names begin with.
        """
        for name, samples in self.samples().items():
            family = BY_NAME[name]
            metric = GaugeMetricFamily(exposed(family, prefix), family.help, labels=family.labels)
            for values, value in samples.items():
                metric.add_metric(values, value)
            yield metric

    def write(self, now: float, *, busy: bool) -> None:
        """Write them down for the other processes, unless that was done a moment ago.

        The last call of several writes in any case: nobody comes after it to say that no other
        waits any more.

        Args:
            now: The monotonic clock, in seconds.
            busy: Whether calls are under way.
        """
        if 0 <= now - self._written < EVERY and (busy or not self._written_busy):
            return
        self._written, self._written_busy = now, busy
        for name, samples in self.samples().items():
            self._recorder.show(name, samples)

    def samples(self) -> Samples:
        """The values, by metric and label values."""
        found: Samples = {name: {} for name in SHOWN}
        for reading in self._readings():
            name, values = _place(reading)
            clean = self._recorder.clean(BY_NAME[name], values)
            _add(found[name], name, clean, reading.value)
        return found

    def _readings(self) -> Iterable[Reading]:
        seen: set[Any] = set()
        with self._lock:
            layers = list(self._layers)
        for layer in layers:
            for pipeline in pipelines_of(layer):
                for one in readings(pipeline):
                    key = (one.layer, one.name, *_labels(one), one.source)
                    if key not in seen:
                        seen.add(key)
                        yield one


def _labels(reading: Reading) -> tuple[str, str, str]:
    return reading.resource, reading.provider, reading.model


def _place(reading: Reading) -> tuple[str, tuple[str, ...]]:
    """The metric of a reading, and the values of its labels."""
    if reading.name == "state":
        return "breaker_state", (reading.provider, reading.model)
    if reading.name == "waiting":
        return "queue_depth", (reading.layer,)
    if reading.name in _ROOM:
        return _ROOM[reading.name], (reading.layer, reading.resource)
    return "layer_reading", (reading.layer, reading.name, *_labels(reading))


_ROOM: Final[Mapping[str, str]] = {
    "available": "rate_limiter_available",
    "limit": "rate_limiter_limit",
}


def _add(
    samples: dict[tuple[str, ...], float], name: str, key: tuple[str, ...], value: float
) -> None:
    """Several limits of one name show the least of them, queues the sum, the rest the most."""
    known = samples.get(key)
    if known is None:
        samples[key] = value
    elif name == "queue_depth":
        samples[key] = known + value
    elif name in _ROOM.values():
        samples[key] = min(known, value)
    else:
        samples[key] = max(known, value)
