"""Spans and metrics of calls and attempts, for Lamella, with OpenTelemetry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella._lazy import lazily

if TYPE_CHECKING:
    from lamella_opentelemetry._middleware import OpenTelemetry

_HOMES = {"OpenTelemetry": "_middleware"}

__all__ = ["OpenTelemetry"]

__getattr__, __dir__ = lazily(__name__, _HOMES)
