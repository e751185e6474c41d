"""What a scrape says, as Prometheus would read it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from lamella_prometheus import metrics_text


def scrape(registry: CollectorRegistry) -> dict[str, dict[tuple[str, ...], float]]:
    """Every sample by name, and by its labels' values in the order of their names."""
    return parsed(metrics_text(registry)[0].decode())


def parsed(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """The same of a text."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for metric in text_string_to_metric_families(text):
        for sample in metric.samples:
            values = tuple([value for _, value in sorted(sample.labels.items())])
            found.setdefault(sample.name, {})[values] = sample.value
    return found
