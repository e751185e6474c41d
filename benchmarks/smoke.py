"""A short run that guards ratios loosely, and detectors by counts: `python -m benchmarks.smoke`.

The bounds of times are far above what is measured, so that a busy machine does not fail it; a
change that makes the stack several times slower does. Everything runs in this process: what is
exact is `python -m benchmarks`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks import layers, long_conversations, observers, stores
from benchmarks.bounds import A_CHUNK, A_HIT, ONE, OWN, STREAM, broken
from benchmarks.contenders import BARE, EIGHT, EIGHT_FAST, PRODUCTION, SDK, Contender
from benchmarks.figures import Figure
from benchmarks.harness import Plan, measure, pin, upstream
from benchmarks.pii import smoke as pii
from benchmarks.providers import PAIRS
from benchmarks.semantic import smoke as semantic
from benchmarks.turns import yardstick

PLANS: Final[Mapping[str, Plan]] = {ONE: Plan(3, 30), STREAM: Plan(1, 10, kind="stream")}
OURS: Final = (SDK, EIGHT, EIGHT_FAST, BARE, PRODUCTION)


def main() -> int:
    """Run; the number of bounds broken."""
    lines = [*_calls(), *_own()]
    tables = observers.run(quick=True)
    sys.stdout.write(observers.markdown(tables) + "\n")
    checks = (pii, stores, semantic, long_conversations)
    lines += [line for check in checks for line in check.broken()]
    for line in lines:
        sys.stdout.write(f"{line}\n")
    return len(lines)


def _calls() -> list[str]:
    """What calls over a socket cost beside each SDK."""
    found: list[str] = []
    with upstream(pin()) as url:
        for what, plan in PLANS.items():
            pairs = [OURS, *(PAIRS.values() if what == STREAM else ())]
            for contenders in pairs:
                found += broken(what, _measured(contenders, plan, url))
    return found


def _measured(contenders: Sequence[Contender], plan: Plan, url: str) -> list[Figure]:
    figures = measure(contenders, plan, url)
    for one in figures:
        share = one.cpu / figures[0].cpu
        sys.stdout.write(f"{plan.kind}: {one.name}: {one.cpu:.0f} us, {share:.3f} of the SDK\n")
    return figures


def _own() -> list[str]:
    """What the layers cost without a network, in yardsticks."""
    unit = yardstick(200)
    eight = layers.eight(rounds=3)
    chunk = layers.by_chunk(rounds=3)
    figures = {
        "eight layers besides the scan": (eight["eight layers besides the scan"], OWN),
        "a chunk through eight layers": (chunk["eight layers"] - chunk["no layer"], A_CHUNK),
        "a cache hit": (eight["a cache hit, the whole call"], A_HIT),
    }
    found: list[str] = []
    for name, (value, bound) in figures.items():
        sys.stdout.write(f"{name}: {value:.2f} us, {value / unit:.2f} yardsticks\n")
        if value > bound * unit:
            found.append(f"TOO SLOW: {name}: {value / unit:.2f} yardsticks, over {bound}")
    return found


if __name__ == "__main__":
    raise SystemExit(main())
