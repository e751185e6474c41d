"""The Grafana dashboard, made of its panels.

`dashboards/lamella.json` in this package is the same with the default prefix, ready for import.
"""

from __future__ import annotations

from typing import Any, Final

from lamella_prometheus._names import prefixed
from lamella_prometheus._panels import ROWS, Panel

_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

_WIDTH: Final = 24


def dashboard(*, prefix: str = "lamella") -> dict[str, Any]:
    """The Grafana dashboard, to be written as JSON and imported.

    Args:
        prefix: What the metrics' names begin with, as `Prometheus(prefix=...)`.
    """
    panels: list[dict[str, Any]] = []
    down = 0
    for title, row in ROWS:
        panels.append(_row(len(panels) + 1, title, down))
        down += 1
        across = tall = 0
        for panel in row:
            wide, high = (6, 4) if panel.kind == "stat" else (12, 8)
            if across + wide > _WIDTH:
                across, down = 0, down + tall
            place = {"x": across, "y": down, "w": wide, "h": high}
            panels.append(_panel(len(panels) + 1, panel, place, prefix))
            across, tall = across + wide, high
        down += tall
    return {
        "uid": prefix,
        "title": "Lamella",
        "tags": ["lamella", "llm"],
        "timezone": "browser",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _variables(prefix)},
        "panels": panels,
    }


def _row(number: int, title: str, down: int) -> dict[str, Any]:
    place = {"x": 0, "y": down, "w": _WIDTH, "h": 1}
    return {"id": number, "type": "row", "title": title, "gridPos": place, "panels": []}


def _panel(number: int, panel: Panel, place: dict[str, int], prefix: str) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.unit == "percentunit":
        defaults["max"] = 1
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + place_),
                "datasource": _SOURCE,
                "expr": prefixed(query, prefix),
                "legendFormat": legend or "__auto",
            }
            for place_, (query, legend) in enumerate(panel.queries)
        ],
    }


def _variables(prefix: str) -> list[dict[str, Any]]:
    return [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source"},
        *[_variable(name, prefix) for name in ("provider", "model")],
    ]


def _variable(name: str, prefix: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "label": name.capitalize(),
        "datasource": _SOURCE,
        "query": prefixed(f"label_values(@attempts_total, {name})", prefix),
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }
