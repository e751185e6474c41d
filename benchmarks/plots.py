"""The results of a run as drawings: SVG, one look, and text that stays text.

They need matplotlib: `uv run --group plots python -m benchmarks.report`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.promises import MANY, ONE, STREAM

OURS, OTHERS, LIGHT, INK = "#0f766e", "#94a3b8", "#5eead4", "#1f2937"
LINES: Final = {"openai SDK": OTHERS, "Lamella, eight layers": LIGHT}

_LOOK: Final[Mapping[str, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lamella",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": OTHERS,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.facecolor": "#ffffff",
}

Row = tuple[str, float]


def draw(found: Mapping[str, Any], folder: Path) -> list[str]:
    """Draw what the results have; the names of the files.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[str] = []
    with matplotlib.rc_context(dict(_LOOK)):
        for name, one in DRAWINGS.items():
            figure = one(found, pyplot)
            if figure is not None:
                file = folder / f"{name}.svg"
                figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
                pyplot.close(figure)
                drawn.append(file.name)
    return drawn


# --- bars ---------------------------------------------------------------------------------------


def _bars(axes: Any, rows: Sequence[Row], title: str, *, log: bool = False) -> None:
    """Horizontal bars with their figures; Lamella's are in its colour."""
    rows = sorted(rows, key=lambda row: row[1])
    names, values = [row[0].replace("`", "") for row in rows], [row[1] for row in rows]
    colours = [OURS if "Lamella" in name else OTHERS for name in names]
    bars = axes.barh(names, values, color=colours, height=0.7)
    axes.bar_label(bars, [_short(value) for value in values], padding=3, fontsize=8)
    axes.set_title(title)
    if log:
        axes.set_xscale("log")
    axes.margins(x=0.18, y=0.01)
    axes.xaxis.set_visible(False)  # each bar says its figure
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _tall(rows: int) -> float:
    return 0.7 + 0.24 * rows


def _calls(found: Mapping[str, Any], pyplot: Any) -> Any:
    tables = found.get("calls", {}).get("tables", {})
    plans = [plan for plan in (ONE, MANY) if plan in tables]
    if not plans:
        return None
    size = (5.2 * len(plans), _tall(len(tables[plans[0]])))
    figure, axes = pyplot.subplots(1, len(plans), figsize=size, squeeze=False, layout="tight")
    for each, plan in zip(axes[0], plans, strict=True):
        rows = [(row["name"], row["cpu_us"]) for row in tables[plan]]
        _bars(each, rows, f"CPU µs a call, {plan}", log=True)
    return figure


def _streams(found: Mapping[str, Any], pyplot: Any) -> Any:
    rows = found.get("calls", {}).get("tables", {}).get(STREAM)
    return _one(
        pyplot,
        [(row["name"], row["cpu_us"]) for row in rows or []],
        "CPU µs a chunk of a stream",
        log=True,
    )


def _flight(found: Mapping[str, Any], pyplot: Any) -> Any:
    given = found.get("flight", {})
    rows = [
        (f"{row['name']} ({row['at_once']:,} at once)", row["kb_each"])
        for row in given.get("rows", [])
        if row["kb_each"] is not None
    ]
    return _one(pyplot, rows, f"KB for each of {given.get('calls', 0):,} calls in flight")


def _imports(found: Mapping[str, Any], pyplot: Any) -> Any:
    rows = [(row["name"], row["ms"]) for row in found.get("imports", {}).get("rows", [])]
    return _one(pyplot, rows, "ms of CPU time to import", log=True)


def _layers(found: Mapping[str, Any], pyplot: Any) -> Any:
    given = found.get("layers", {}).get("microseconds added by layer", {})
    rows = [(name, max(0.0, value)) for name, value in given.items()]
    return _one(pyplot, rows, "CPU µs that a layer adds to a call with a new text of 1 KB")


def _one(pyplot: Any, rows: Sequence[Row], title: str, *, log: bool = False) -> Any:
    if not rows:
        return None
    figure, axes = pyplot.subplots(figsize=(6.4, _tall(len(rows))), layout="tight")
    _bars(axes, rows, title, log=log)
    return figure


# --- lines --------------------------------------------------------------------------------------


def _growth(found: Mapping[str, Any], pyplot: Any) -> Any:
    layers = found.get("layers", {})
    depth = layers.get("microseconds by depth")
    empty = layers.get("microseconds by kilobytes, eight empty layers")
    classic = layers.get("microseconds by kilobytes, eight classic layers")
    if not (depth and empty and classic):
        return None
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3), layout="tight")
    left.plot([int(n) for n in depth], list(depth.values()), "o-", color=OURS)
    left.set(title="CPU µs of a call", xlabel="empty layers")
    left.set_ylim(bottom=0)
    for rows, label, colour in ((classic, "classic", OURS), (empty, "empty", OTHERS)):
        values = [max(value, 0.1) for value in rows.values()]
        right.plot(
            [int(n) for n in rows], values, "o-", color=colour, label=f"eight {label} layers"
        )
    right.set(title="CPU µs of a call", xlabel="KB of message, new each time")
    _logarithmic(right, "xy")
    right.legend()
    return figure


def _scaling(found: Mapping[str, Any], pyplot: Any) -> Any:
    series = found.get("scaling", {}).get("series")
    if not series:
        return None
    figure, axes = pyplot.subplots(2, 2, figsize=(9.6, 6), layout="tight")
    for column, processes in zip((0, 1), (1, 2), strict=True):
        top, bottom = axes[0][column], axes[1][column]
        for one in series:
            if one["processes"] == processes:
                _line(top, bottom, one)
        plural = "process" if processes == 1 else "processes"
        top.set(title=f"{processes} {plural}: answered a second", xlabel="offered a second")
        bottom.set(title=f"{processes} {plural}: latency, p99, ms", xlabel="offered a second")
        _logarithmic(top, "xy")
        _logarithmic(bottom, "xy")
    axes[0][0].legend(fontsize=7)
    return figure


def _logarithmic(axes: Any, which: str) -> None:
    """Logarithmic axes with plain numbers at 1, 2 and 5."""
    ticker: Any = importlib.import_module("matplotlib.ticker")
    for letter in which:
        getattr(axes, f"set_{letter}scale")("log")
        axis = getattr(axes, f"{letter}axis")
        axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(lambda value, _: f"{value:,g}")
        axis.set_minor_formatter(ticker.NullFormatter())


def _line(top: Any, bottom: Any, one: Mapping[str, Any]) -> None:
    points = sorted(one["points"], key=lambda point: point["offered"])
    offered = [point["offered"] for point in points]
    look = {
        "color": LINES.get(one["name"], OURS),
        "linestyle": "-" if one["loop"] == "uvloop" else "--",
        "marker": "o",
        "markersize": 3,
        "label": f"{one['name']}, {one['loop']}",
    }
    top.plot(offered, [point["answered"] for point in points], **look)
    bottom.plot(offered, [point["p99"] for point in points], **look)


DRAWINGS: Final[Mapping[str, Callable[[Mapping[str, Any], Any], Any]]] = {
    "calls": _calls,
    "streams": _streams,
    "flight": _flight,
    "imports": _imports,
    "layers": _layers,
    "growth": _growth,
    "scaling": _scaling,
}
