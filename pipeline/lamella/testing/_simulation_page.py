"""A report as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Final

from lamella._page_parts import document, pairs
from lamella.testing._simulated_laws import ALL_LAWS
from lamella.testing._simulated_spread import clock_time
from lamella.testing._simulation_drawing import SERIES, Series, percentiles, short

if TYPE_CHECKING:
    from lamella.testing._simulation_report import Report

_WIDTH: Final = 720
_HEIGHT: Final = 96
_LEFT: Final = 8
_FOOT: Final = 18

_STYLE: Final = """
svg { margin-bottom: .75rem; }
svg text { font: 11px system-ui, sans-serif; fill: var(--dim); }
svg .name { fill: var(--ink); } svg .area { fill: var(--fill); }
svg .edge { fill: none; stroke: var(--plot); stroke-width: 1.5; }
svg .axis { stroke: var(--line); }
"""


def page(report: Report) -> str:
    """The whole page."""
    body = [
        f"<h1>{escape(report.title)}</h1>",
        f"<p>{escape(' > '.join(report.stack) or '(no layers)')}</p>",
        _faults(report),
        pairs(_figures(report)),
        "<h2>Over time</h2>",
        *_plots(report),
        "<h2>How calls ended</h2>",
        pairs((name, str(count)) for name, count in report.outcomes.items()),
        "<h2>Attempts a call</h2>",
        pairs((str(number), str(count)) for number, count in report.attempts.items()),
        "<h2>What providers saw</h2>",
        pairs(_providers(report)),
        "<h2>Laws</h2>",
        _laws(report),
        f"<p>Seed {report.seed}, {report.backend}, {report.mode}, digest {report.digest}.</p>",
    ]
    return document(report.title, body, _STYLE)


def _faults(report: Report) -> str:
    items = "".join(f"<li>{escape(fault)}</li>" for fault in report.faults)
    return f"<ul>{items}</ul>" if items else ""


def _figures(report: Report) -> list[tuple[str, str]]:
    rows = [
        ("calls", str(report.calls) + (", interrupted" if report.interrupted else "")),
        ("success", f"{report.success_rate:.2%} of {report.judged}"),
        ("attempts", f"{report.attempts_per_call:.3f} a call, {report.throttled} throttled"),
        ("latency", percentiles(report.latency)),
        ("failures after", percentiles(report.failure_latency)),
        ("first event", percentiles(report.first_event)),
        ("cost", "unknown" if report.cost is None else str(report.cost)),
        ("simulated", f"{report.elapsed:.0f} s in {report.seconds:.1f} s"),
    ]
    return [row for row in rows if row[1]]


def _providers(report: Report) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, ledger in report.providers.items():
        answers = ", ".join(f"{count} {how}" for how, count in sorted(ledger.answers.items()))
        peaks = f"at most {ledger.most_open} at once, {ledger.peak_per_minute} a minute"
        found.append((name, f"{ledger.received} requests: {answers}; {peaks}"))
    return found


def _plots(report: Report) -> list[str]:
    end = clock_time(round(len(report.timeline) * report.moment_seconds, 3))
    plots: list[str] = []
    for series in SERIES:
        values = [series.of(moment, report.moment_seconds) for moment in report.timeline]
        if any(values):
            plots.append(_plot(series, values, end))
    return plots


def _plot(series: Series, values: Sequence[float], end: str) -> str:
    """A step plot: each piece of time is as wide as it lasts."""
    top, floor = max(values), _HEIGHT - _FOOT
    step = (_WIDTH - 2 * _LEFT) / len(values)
    points: list[str] = []
    for index, value in enumerate(values):
        height = floor - value / top * (floor - _FOOT)
        points += (
            f"{_LEFT + index * step:.1f},{height:.1f}",
            f"{_LEFT + (index + 1) * step:.1f},{height:.1f}",
        )
    edge = " ".join(points)
    right = _WIDTH - _LEFT
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(series.name)}">'
        f'<polygon class="area" points="{_LEFT},{floor} {edge} {right},{floor}"/>'
        f'<polyline class="edge" points="{edge}"/>'
        f'<line class="axis" x1="{_LEFT}" y1="{floor}" x2="{right}" y2="{floor}"/>'
        f'<text class="name" x="{_LEFT}" y="12">{escape(series.name)}</text>'
        f'<text x="{right}" y="12" text-anchor="end">at most {short(top)}{series.unit}</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 4}">0s</text>'
        f'<text x="{right}" y="{_HEIGHT - 4}" text-anchor="end">{end}</text></svg>'
    )


def _laws(report: Report) -> str:
    if report.holds:
        return f'<p class="good">All {len(ALL_LAWS)} laws held.</p>'
    parts = [
        pairs((law, f"broken {count} times") for law, count in report.broken.items()),
        *[
            f'<p class="bad">{escape(each.law)}: {escape(each.what)}</p>'
            + (f"<pre>{escape(each.trace)}</pre>" if each.trace else "")
            for each in report.violations
        ],
    ]
    return "".join(parts)
