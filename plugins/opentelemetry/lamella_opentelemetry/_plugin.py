"""What this distribution registers; nothing here imports OpenTelemetry."""

from __future__ import annotations

from collections.abc import Mapping


def lamella_middlewares() -> Mapping[str, str]:
    """The layer `opentelemetry`."""
    return {"opentelemetry": "lamella_opentelemetry._middleware:OpenTelemetry"}
