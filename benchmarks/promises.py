"""What is promised, what a run has measured, and whether it is kept.

Promises are ratios within one run on one core, or microseconds of a quiet machine of today.
Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.roster import BARE, EIGHT, EIGHT_FAST, LITELLM, SDK, TENSORZERO

ONE, MANY, STREAM = "one call at a time", "64 calls at once", "a stream of 200 chunks"

Found = dict[str, Any]


class MissingError(Exception):
    """The run has not measured what a promise is about."""


@dataclass(frozen=True)
class Promise:
    """A bound on one figure of a run.

    Attributes:
        what: What it is about.
        bound: The most that it may be.
        measured: The figure of a run.
        unit: What figure and bound are of; empty for a ratio.
    """

    what: str
    bound: float
    measured: Callable[[Found], float]
    unit: str = ""


def table(found: Found, slack: float = 1.0) -> list[dict[str, Any]]:
    """A row for each promise: `what`, `promise`, `measured`, and `kept`, None if not measured.

    Args:
        found: The results of a run.
        slack: How many times a bound may be passed.
    """
    return [_row(promise, found, slack) for promise in PROMISES]


def _row(promise: Promise, found: Found, slack: float) -> dict[str, Any]:
    row = {"what": promise.what, "promise": f"≤ {_said(promise.bound, promise.unit)}"}
    try:
        measured = promise.measured(found)
    except MissingError as error:
        return {**row, "measured": f"not measured: {error}", "kept": None}
    kept = measured <= promise.bound * slack
    return {**row, "measured": _said(measured, promise.unit), "kept": kept}


def _said(value: float, unit: str) -> str:
    places = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2
    if not unit and 0 < value < 1:
        places = 3 if value < 0.1 and round(value, 2) != value else 2
    return f"{value:.{places}f} {unit}".rstrip()


# --- where figures are --------------------------------------------------------------------------


def _part(found: Found, *keys: str) -> Any:
    value: Any = found
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            raise MissingError(f"no {key!r}")
        value = value[key]
    return value


def _named(rows: Iterable[dict[str, Any]], name: str) -> dict[str, Any]:
    for row in rows:
        if row["name"] == name:
            return row
    raise MissingError(f"{name} did not take part")


def _cpu(plan: str, name: str) -> Callable[[Found], float]:
    def cpu(found: Found) -> float:
        value: float = _named(_part(found, "calls", "tables", plan), name)["cpu_us"]
        return value

    return cpu


def _ratio(name: str, other: str, *plans: str) -> Callable[[Found], float]:
    """The CPU time of one over that of the other; of several plans the worst."""
    pairs = [(_cpu(plan, name), _cpu(plan, other)) for plan in plans]
    return lambda found: max(one(found) / beside(found) for one, beside in pairs)


def _eight(key: str) -> Callable[[Found], float]:
    return lambda found: float(_part(found, "layers", "eight classic layers", key))


def _chunk(found: Found) -> float:
    each = _part(found, "layers", "microseconds a chunk")
    return float(_part(each, "eight layers") - _part(each, "no layer"))


def _empty(found: Found) -> float:
    """The slope between the fewest and the most empty layers."""
    depths = {int(n): v for n, v in _part(found, "layers", "microseconds by depth").items()}
    few, many = min(depths), max(depths)
    return float((depths[many] - depths[few]) / (many - few))


def _missing_at_provider(found: Found) -> float:
    row = _named(_part(found, "flight", "rows"), EIGHT_FAST)
    return float(_part(found, "flight", "calls") - min(row["at_once"], row["answered"]))


def _each(found: Found) -> float:
    each = _named(_part(found, "flight", "rows"), EIGHT_FAST)["kb_each"]
    if each is None:
        raise MissingError("this system does not say")
    return float(each)


def _import(key: str) -> Callable[[Found], float]:
    return lambda found: float(_named(_part(found, "imports", "rows"), BARE)[key])


PROMISES: Final = (
    Promise(
        "eight classic layers, besides the scan of 1 KB for personal data",
        40,
        _eight("eight layers besides the scan"),
        "µs",
    ),
    Promise("eight classic layers, a chunk of a stream", 0.5, _chunk, "µs"),
    Promise("an empty layer", 0.3, _empty, "µs"),
    Promise("a cache hit in memory", 40, _eight("a cache hit, the whole call"), "µs"),
    Promise("eight layers, of the openai SDK: a call", 0.55, _ratio(EIGHT, SDK, ONE, MANY)),
    Promise("eight layers, of the openai SDK: a chunk", 0.15, _ratio(EIGHT, SDK, STREAM)),
    Promise(
        "eight layers, fast transport, of the openai SDK: a call",
        0.12,
        _ratio(EIGHT_FAST, SDK, ONE, MANY),
    ),
    Promise(
        "eight layers, fast transport, of the openai SDK: a chunk",
        0.06,
        _ratio(EIGHT_FAST, SDK, STREAM),
    ),
    Promise(
        "eight layers, fast transport, of the Rust peer: a call",
        1,
        _ratio(EIGHT_FAST, TENSORZERO, ONE, MANY),
    ),
    Promise(
        "eight layers, fast transport, of the Rust peer: a chunk",
        1,
        _ratio(EIGHT_FAST, TENSORZERO, STREAM),
    ),
    Promise("eight layers, of LiteLLM: a call", 0.28, _ratio(EIGHT, LITELLM, ONE, MANY)),
    Promise(
        "eight layers, fast transport, of LiteLLM: a call",
        0.06,
        _ratio(EIGHT_FAST, LITELLM, ONE, MANY),
    ),
    Promise(
        "of 5,000 calls, not at the provider at once or not answered (fast)",
        0,
        _missing_at_provider,
    ),
    Promise("memory of a call in flight (fast, eight layers)", 30, _each, "KB"),
    Promise("import of `lamella`", 100, _import("ms"), "ms"),
    Promise("openai SDKs loaded by that", 0, _import("openai")),
    Promise("threads after it", 1, _import("threads")),
)
