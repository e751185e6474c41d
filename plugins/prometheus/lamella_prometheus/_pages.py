"""One set of metrics for each registry and prefix, however many layers count into it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import attrs
import prometheus_client
from prometheus_client import values as client_values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from lamella import ConfigurationError
from lamella._fork_locks import fork_safe_lock
from lamella_prometheus._families import BY_NAME, exposed
from lamella_prometheus._live import SHOWN, Live
from lamella_prometheus._recorder import Recorder
from lamella_prometheus._series import Series

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import CollectorRegistry

    from lamella_prometheus._recorder import Readers

DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"


@attrs.frozen
class Terms:
    """What has to be the same for all who count into one set.

    Attributes:
        labels: The caller's own labels, as they were given.
        models: Models that always have a place of their own.
        most: How many values each label may have.
    """

    labels: tuple[str, ...]
    models: tuple[str, ...]
    most: int


class Page(Collector):
    """The metrics of one prefix, as a registry sees them.

    Args:
        prefix: What their names begin with.
        terms: The options they were made with.
        labels: Reads the caller's own labels off a request, by the label's name.
    """

    def __init__(
        self,
        prefix: str,
        terms: Terms,
        labels: Readers,
    ) -> None:
        self.prefix = prefix
        self.terms = terms
        self.shared = several_processes()
        own = tuple([name for name, _ in labels])
        self._series = Series(prefix, own, terms.most, terms.models, shared=self.shared)
        self.recorder = Recorder(self._series, labels)
        self.live = Live(self.recorder)

    def collect(self) -> Iterable[Metric]:
        """Every metric with its samples."""
        yield from self.recorder.collect()
        if not self.shared:
            yield from self.live.collect(self.prefix)

    def describe(self) -> Iterable[Metric]:
        """Every metric without samples, by which a registry finds names that are taken."""
        yield from self._series.described()
        if not self.shared:
            for name in SHOWN:
                family = BY_NAME[name]
                yield GaugeMetricFamily(exposed(family, self.prefix), family.help)


_lock = fork_safe_lock()
_pages: WeakKeyDictionary[Any, dict[str, Page]] = WeakKeyDictionary()
_shared: dict[str, Page] = {}


def page_of(
    registry: CollectorRegistry,
    prefix: str,
    terms: Terms,
    labels: Readers,
) -> Page:
    """The metrics of a registry, made and registered for whoever asks first.

    Where several processes count into one directory, all registries of a process share them: the
    files there have one place for each name.

    Raises:
        ConfigurationError: If they were made with other options, or a name in the registry is taken
            by somebody else.
    """
    shared = several_processes()
    with _lock:
        registered = _pages.setdefault(registry, {})
        made = _shared if shared else registered
        page = made.get(prefix)
        if page is None:
            page = Page(prefix, terms, labels)
        elif page.terms != terms:
            raise ConfigurationError(
                f"Two Prometheus layers count as {prefix!r} with other options: {page.terms} and "
                f"{terms}.",
                hint="Give both the same options, or one another prefix= or registry=.",
            )
        if prefix not in registered:
            _register(page, registry)
            made[prefix] = registered[prefix] = page
    return page


def _register(page: Page, registry: CollectorRegistry) -> None:
    try:
        registry.register(page)
    except ValueError as error:
        raise ConfigurationError(
            f"The registry has metrics already that begin with {page.prefix!r}: {error}.",
            hint="Give Prometheus(prefix=...) another one.",
        ) from None


def several_processes() -> bool:
    """Whether the metrics of several processes are counted into one directory.

    Raises:
        ConfigurationError: If the variable that says so was set too late, or names no directory.
    """
    given, on = os.environ.get(DIRECTORY), client_values.ValueClass is not client_values.MutexValue
    if given and not on:
        raise ConfigurationError(
            f"{DIRECTORY} was set after prometheus_client had been imported, which looks at it "
            "only then: this process would not be counted.",
            hint="Set it in the environment of the process, before Python starts.",
        )
    if on and not (given and Path(given).is_dir()):
        raise ConfigurationError(
            f"{DIRECTORY} is {given!r}, which is no directory.",
            hint="Make it, empty, before the first process starts; every process needs the same.",
        )
    return on


def scraped(registry: CollectorRegistry | None) -> CollectorRegistry:
    """What is scraped: the registry, or, of several processes, all of them together."""
    if not several_processes():
        return prometheus_client.REGISTRY if registry is None else registry
    together = prometheus_client.CollectorRegistry()
    MultiProcessCollector(together)  # type: ignore[no-untyped-call]
    return together
