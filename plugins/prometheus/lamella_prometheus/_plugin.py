"""What this distribution registers; nothing here imports the Prometheus client."""

from __future__ import annotations

from collections.abc import Mapping


def lamella_middlewares() -> Mapping[str, str]:
    """The layer `prometheus`."""
    return {"prometheus": "lamella_prometheus:Prometheus"}
