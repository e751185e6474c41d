"""What a call costs, beside everyone: one at a time, many at once, and streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from benchmarks.driver import Field, field
from benchmarks.figures import figure, pace_of
from benchmarks.parts import Setting
from benchmarks.roster import ENTRIES, SDK
from benchmarks.turns import CHUNKS, Plan, Turn

ONE, MANY, CROWD = "one call at a time", "64 calls at once", "512 calls at once"
STREAM: Final = "a stream of 200 chunks"
FIRST: Final = "the first event of a stream"
GAP: Final = 0.005
"""Seconds between a stream's first chunk and its others, where the first event is watched."""

PLANS: Final[Mapping[str, Plan]] = {
    ONE: Plan(5, 2_000, seconds=0.25),
    MANY: Plan(5, 4_000, concurrency=64, seconds=0.25),
    CROWD: Plan(2, 4_000, concurrency=512, seconds=0.25),
    STREAM: Plan(5, 200, kind="stream", seconds=0.25),
    FIRST: Plan(5, 40, kind="first", seconds=0.3),
}


def run(setting: Setting) -> dict[str, Any]:
    """Tables by plan, each kept as soon as a round of it is done."""
    tables: dict[str, Any] = {}
    with (
        setting.upstream() as url,
        field(ENTRIES, core=setting.core, log=setting.log, say=setting.say) as contenders,
    ):
        for name, plan in PLANS.items():
            setting.say(f" {name}")
            _race(setting, contenders, name, url, tables, plan)
    return {"tables": tables, "skipped": contenders.skipped}


def _race(
    setting: Setting,
    contenders: Field,
    name: str,
    url: str,
    tables: dict[str, Any],
    plan: Plan,
) -> None:
    if setting.quick:
        plan = Plan(1, plan.calls, min(plan.concurrency, 32), plan.kind, 0.05)
    if plan.kind == "first":
        url = f"{url.removesuffix('/v1')}/begun/{GAP}/v1"

    def done(turns: Mapping[str, Sequence[Turn]]) -> None:
        tables[name] = table(turns, plan)
        setting.keep("calls", {"tables": tables, "skipped": contenders.skipped})

    contenders.race(plan, url, done)


def table(turns: Mapping[str, Sequence[Turn]], plan: Plan) -> list[dict[str, Any]]:
    """A row for each contender that has had a turn: CPU and wall time, and the share of the SDK."""
    ran = {name: each for name, each in turns.items() if each}
    pace = pace_of([one for each in ran.values() for one in each])
    found = [figure(name, each, pace) for name, each in ran.items()]
    sdk = next((one.cpu for one in found if one.name == SDK), None)
    unit = CHUNKS if plan.kind == "stream" else 1
    rounded = partial(round, ndigits=3 if unit > 1 else 1)
    return [
        {
            "name": one.name,
            "cpu_us": rounded(one.cpu / unit),
            "wall_us": rounded(one.wall / unit),
            "of_sdk": None if sdk is None else round(one.cpu / sdk, 4),
            "spread": round(one.spread, 3),
        }
        for one in found
    ]
