"""Throughput and latency against offered load, for one process and for two.

A process is first asked as fast as it goes (64 at once); then calls arrive at parts of that rate,
and somewhat above it, whether or not earlier ones have been answered: see `benchmarks.loads`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

from benchmarks.driver import Child, ChildError, command_of
from benchmarks.environments import UnavailableError
from benchmarks.parts import Setting
from benchmarks.roster import EIGHT, EIGHT_FAST, SDK, entries
from benchmarks.turns import Plan

PARTS: Final = (0.25, 0.5, 0.7, 0.85, 1.0, 1.2)
SECONDS: Final = 2.0
WHO: Final = (SDK, EIGHT, EIGHT_FAST)


def run(setting: Setting) -> dict[str, Any]:
    """A series for each contender and event loop, and with uvloop for two processes as well."""
    found: dict[str, Any] = {"series": [], "skipped": {}}
    cores = [setting.core] if setting.spare is None else [setting.core, setting.spare]
    with setting.upstream() as url:
        for entry in entries(WHO):
            for loop in ("uvloop",) if setting.quick else ("asyncio", "uvloop"):
                title = f"{entry.name}, {loop}"
                try:
                    fast = loop == "uvloop"
                    command = command_of(entry, uvloop=fast)
                    each = _each_count(setting, command, url, cores if fast else cores[:1])
                    for processes, points in each:
                        series = {"name": entry.name, "loop": loop, "processes": processes}
                        found["series"].append({**series, "points": points})
                        most = max(point["answered"] for point in points)
                        setting.say(f"  {title}, {processes} process(es): {most:.0f} a second")
                        setting.keep("scaling", found)
                except (ChildError, UnavailableError) as error:
                    found["skipped"][title] = str(error)
                    setting.say(f"  {title}: skipped: {error}")
    return found


def _each_count(
    setting: Setting, command: list[str], url: str, cores: list[int | None]
) -> Iterator[tuple[int, list[dict[str, float]]]]:
    """The points of one process, and then of all of them side by side."""
    with ExitStack() as stack:
        children: list[Child] = []
        rates: list[float] = []
        for core in cores:
            child = Child(command, core=core, log=setting.log)
            stack.callback(child.close)
            children.append(child)
            rates.append(1e6 / child.turn(url, Plan(1, 100 if setting.quick else 1_000, 64)).wall)
        for processes in range(1, len(cores) + 1):
            yield processes, _points(setting, children[:processes], url, rates)


def _points(
    setting: Setting, children: list[Child], url: str, rates: list[float]
) -> list[dict[str, float]]:
    parts, seconds = ((0.5, 1.2), 0.5) if setting.quick else (PARTS, SECONDS)
    points: list[dict[str, float]] = []
    for part in parts:
        for seed, (child, rate) in enumerate(zip(children, rates, strict=False), start=1):
            child.tell(do="load", url=url, rate=rate * part, seconds=seconds, seed=seed)
        points.append(together([child.answer() for child in children]))
    return points


def together(each: list[dict[str, float]]) -> dict[str, float]:
    """What processes have done side by side: rates add up, and the slowest says the latency."""
    added = {
        key: sum(one[key] for one in each) for key in ("offered", "answered", "failed", "left")
    }
    worst = {key: max(one[key] for one in each) for key in ("p50", "p90", "p99", "busy")}
    return {name: round(value, 2) for name, value in {**added, **worst}.items()}
