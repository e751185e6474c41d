"""Metrics of calls and attempts, for Lamella, with Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella._lazy import lazily

if TYPE_CHECKING:
    from lamella_prometheus._dashboard import dashboard
    from lamella_prometheus._endpoint import (
        MetricsServer,
        metrics_app,
        metrics_text,
        serve_metrics,
    )
    from lamella_prometheus._middleware import Prometheus
    from lamella_prometheus._rules import alert_rules

_HOMES = {
    "MetricsServer": "_endpoint",
    "Prometheus": "_middleware",
    "alert_rules": "_rules",
    "dashboard": "_dashboard",
    "metrics_app": "_endpoint",
    "metrics_text": "_endpoint",
    "serve_metrics": "_endpoint",
}

__all__ = [
    "MetricsServer",
    "Prometheus",
    "alert_rules",
    "dashboard",
    "metrics_app",
    "metrics_text",
    "serve_metrics",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
