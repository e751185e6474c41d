"""A report as text: figures, one plot for each thing that changes over time, and the laws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import attrs

from lamella.testing._simulated_laws import ALL_LAWS
from lamella.testing._simulated_spread import clock_time

if TYPE_CHECKING:
    from lamella.testing._simulation_report import Moment, Report

_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_ASCII: Final = " .:-=+*#@"
_ROWS: Final = 3
_LABEL: Final = 22
_SMALLEST: Final = 60


@attrs.frozen
class Series:
    """One thing that changes over time.

    Attributes:
        name: What it is.
        of: Its value at one moment.
        unit: Of the values.
        joined: How the values of several moments in one column make one.
    """

    name: str
    of: Callable[[Moment, float], float]
    unit: str = ""
    joined: Callable[[Sequence[float]], float] = max


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


SERIES: Final = (
    Series("calls a second", lambda moment, width: moment.arrived / width, "/s", _mean),
    Series("ended well", lambda moment, width: moment.complete / width, "/s", _mean),
    Series("failed", lambda moment, width: moment.failed / width, "/s", _mean),
    Series("attempts", lambda moment, width: moment.attempts / width, "/s", _mean),
    Series("throttled (429)", lambda moment, width: moment.throttled / width, "/s", _mean),
    Series("calls under way", lambda moment, _: float(moment.in_flight)),
    Series("of them waiting", lambda moment, _: float(max(0, moment.in_flight - moment.upstream))),
    Series("latency p95", lambda moment, _: moment.latency, " s"),
)
"""What is plotted, from above to below."""


def short(value: float) -> str:
    """A number in few characters."""
    if value >= 1_000_000:
        return f"{value / 1_000_000:.3g}M"
    if value >= 10_000:
        return f"{value / 1_000:.3g}k"
    return f"{value:.3g}" if value < 1_000 else f"{value:.0f}"


def draw(report: Report, *, width: int, ascii_only: bool) -> str:
    """The report as text."""
    width = max(_SMALLEST, width)
    parts = [_head(report), _figures(report)]
    if report.timeline:
        parts.append(_plots(report, width, ascii_only=ascii_only))
    parts += [_tables(report), _laws(report)]
    return "\n\n".join(part for part in parts if part)


def _head(report: Report) -> str:
    lines = [report.title, "  stack     " + " > ".join(report.stack or ("(no layers)",))]
    lines += [f"  fault     {fault}" for fault in report.faults]
    lines.append(
        f"  run       seed {report.seed}, {report.backend}, {report.mode}, "
        f"digest {report.digest}{', INTERRUPTED' if report.interrupted else ''}"
    )
    return "\n".join(lines)


def _figures(report: Report) -> str:
    cost = "unknown" if report.cost is None else str(report.cost)
    if report.unpriced:
        cost += f", and {report.unpriced} calls without a known price"
    rate = report.calls / report.seconds if report.seconds else 0.0
    rows = [
        ("success", f"{report.success_rate:.2%} of {report.judged} calls"),
        ("attempts", f"{report.attempts_per_call:.3f} a call; {report.throttled} throttled"),
        ("latency", percentiles(report.latency)),
        ("failures after", percentiles(report.failure_latency)),
        ("first event", percentiles(report.first_event)),
        ("cost", cost),
        (
            "time",
            f"{report.elapsed:.0f} s simulated in {report.seconds:.1f} s ({rate:.0f} calls/s)",
        ),
    ]
    return "\n".join(f"  {name:<15} {value}" for name, value in rows if value)


def percentiles(found: Mapping[str, float]) -> str:
    """The usual percentiles in one line; empty if nothing was measured."""
    if not found["max"]:
        return ""
    names = ("p50", "p95", "p99", "max")
    return "  ".join(f"{name} {found[name]:.3g} s" for name in names)


def _plots(report: Report, width: int, *, ascii_only: bool) -> str:
    columns = width - _LABEL - 12
    lines: list[str] = []
    for series in SERIES:
        values = [series.of(moment, report.moment_seconds) for moment in report.timeline]
        if any(values):
            lines += _plot(series, _fitted(values, columns, series.joined), ascii_only=ascii_only)
    end = clock_time(round(len(report.timeline) * report.moment_seconds, 3))
    drawn = min(columns, len(report.timeline))
    lines.append(" " * _LABEL + "0s" + end.rjust(max(1, drawn - 2)))
    return "\n".join(lines)


def _fitted(
    values: Sequence[float], columns: int, joined: Callable[[Sequence[float]], float]
) -> list[float]:
    """As many values as there are columns, or fewer."""
    if len(values) <= columns:
        return list(values)
    edges = [index * len(values) // columns for index in range(columns + 1)]
    return [joined(values[a:b]) for a, b in pairwise(edges)]


def _plot(series: Series, values: Sequence[float], *, ascii_only: bool) -> list[str]:
    top = max(values)
    steps = _ASCII if ascii_only else _BLOCKS
    full = len(steps) - 1
    heights = [round(value / top * _ROWS * full) for value in values]
    # What is there is seen, however little it is.
    heights = [
        max(height, 1) if value else 0 for height, value in zip(heights, values, strict=True)
    ]
    lines: list[str] = []
    for row in reversed(range(_ROWS)):
        cells = "".join(steps[max(0, min(full, height - row * full))] for height in heights)
        label = series.name if row == _ROWS - 1 else ""
        scale = f"{short(top)}{series.unit}" if row == _ROWS - 1 else ""
        lines.append(f"  {label:<{_LABEL - 2}}{cells} {scale}".rstrip())
    return lines


def _tables(report: Report) -> str:
    lines = ["  outcome of calls"]
    lines += [f"    {count:>10}  {name}" for name, count in report.outcomes.items()]
    lines.append("  attempts a call")
    lines += [f"    {count:>10}  {number}" for number, count in report.attempts.items()]
    lines.append("  providers")
    for name, ledger in report.providers.items():
        answers = ", ".join(f"{count} {how}" for how, count in sorted(ledger.answers.items()))
        lines.append(
            f"    {name}: {ledger.received} requests ({answers}), at most {ledger.most_open} at "
            f"once and {ledger.peak_per_minute} a minute"
        )
    if len(report.tenants) > 1:
        shares = sorted(well / max(calls, 1) for calls, well in report.tenants.values())
        lines.append(
            f"  tenants: {len(report.tenants)}; ended well from {shares[0]:.1%} to {shares[-1]:.1%}"
        )
    return "\n".join(lines)


def _laws(report: Report) -> str:
    if report.holds:
        return f"  All {len(ALL_LAWS)} laws held."
    lines = ["  BROKEN LAWS"]
    lines += [f"    {count:>10}  {law}" for law, count in report.broken.items()]
    for violation in report.violations:
        lines += ["", f"  {violation.law}: {violation.what}"]
        lines += [f"    {line}" for line in violation.trace.splitlines()]
    return "\n".join(lines)
