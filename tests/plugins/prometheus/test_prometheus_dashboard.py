"""Prometheus: the dashboard and the alerts ask for metrics and labels that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.resources import files

import pytest

from lamella_prometheus import alert_rules, dashboard
from lamella_prometheus.__main__ import main
from lamella_prometheus._families import FAMILIES, exposed

KEPT = files("lamella_prometheus") / "dashboards"

LABELS = {
    name: {*family.labels, *({"le"} if family.kind == "histogram" else ())}
    for family in FAMILIES
    for name in (
        [f"{exposed(family, 'lamella')}_bucket"]
        if family.kind == "histogram"
        else [exposed(family, "lamella")]
    )
}

USES = re.compile(r"(?<![a-z_])(lamella_[a-z_]+)(?:\{([^}]*)\})?")
GROUPS = re.compile(r"by \(([^)]*)\)")


def queries() -> Iterator[str]:
    """Every query of the dashboard and of the alerts."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"]
    for line in alert_rules().splitlines():
        key, _, value = line.strip().partition(": ")
        if key == "expr":
            yield json.loads(value)  # such a text is one in YAML too


def test_every_query_asks_for_what_exists() -> None:
    """Names, selected labels, and labels that are grouped by."""
    asked: set[str] = set()
    for query in queries():
        used = USES.findall(query)
        assert used, query
        known: set[str] = set()
        for name, selected in used:
            asked.add(name)
            assert name in LABELS, query
            known |= LABELS[name]
            labels = {re.split("[=!]", each)[0] for each in selected.split(",") if each}
            assert labels <= LABELS[name], query
        for group in GROUPS.findall(query):
            assert {label.strip() for label in group.split(",") if label.strip()} <= known, query
        assert query.count("(") == query.count(")")
        assert query.count("{") == query.count("}")
    assert set(LABELS) == asked, "each metric has a place on the dashboard"


def test_the_kept_files_are_what_is_made() -> None:
    """Grafana and Prometheus read them as they are."""
    assert json.loads((KEPT / "lamella.json").read_text("utf-8")) == dashboard()
    assert (KEPT / "lamella.rules.yml").read_text("utf-8") == alert_rules()


def test_panels_have_places_and_numbers_of_their_own() -> None:
    """None covers another, none is wider than the page; variables choose source and series."""
    made = dashboard()
    numbers = [panel["id"] for panel in made["panels"]]
    assert len(set(numbers)) == len(numbers)
    cells: set[tuple[int, int]] = set()
    for panel in made["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        mine = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & mine
        cells |= mine
    names = [variable["name"] for variable in made["templating"]["list"]]
    assert names == ["datasource", "provider", "model"]


def test_they_are_written_out_with_any_prefix(capsys: pytest.CaptureFixture[str]) -> None:
    """As the layer's option says."""
    assert main(["dashboard", "--prefix", "mine"]) == 0
    written = capsys.readouterr().out
    assert "mine_requests_total" in written
    assert "lamella_" not in written
    assert main(["rules", "--prefix", "mine"]) == 0
    assert "lamella_" not in capsys.readouterr().out
