"""Measuring in this process: the provider beside it, turns interleaved, medians.

Wall times on a shared machine mean little; the CPU time of the client's process, with the upstream
in another process on another core, is the figure to compare, and a ratio in one run is the figure
to quote. Peers are measured in processes of their own: `benchmarks.driver`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from benchmarks.contenders import Contender
from benchmarks.figures import Figure, figure, pace_of
from benchmarks.turns import Plan, Turn, turn

__all__ = ["Figure", "Plan", "import_milliseconds", "measure", "pin", "upstream"]


@contextlib.contextmanager
def upstream(core: int | None) -> Iterator[str]:
    """The provider in a process of its own; its address."""
    command = [sys.executable, "-m", "benchmarks.upstream"]
    if core is not None:
        command += ["--core", str(core)]
    with subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.terminate()


def pin() -> int | None:
    """Keep this process on one core; the core left for the upstream, None where that is not so."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return None
    os.sched_setaffinity(0, {cores[0]})
    return cores[1]


def measure(contenders: Sequence[Contender], plan: Plan, url: str) -> list[Figure]:
    """Give each contender its turn, round after round."""
    turns: dict[str, list[Turn]] = {contender.name: [] for contender in contenders}
    for number in range(plan.rounds + 1):
        for contender in contenders:
            one = asyncio.run(turn(contender.open, plan, url))
            if number > 0:  # the first round only warms up
                turns[contender.name].append(one)
    pace = pace_of([one for each in turns.values() for one in each])
    return [figure(name, each, pace) for name, each in turns.items()]


def import_milliseconds(statement: str, rounds: int = 5) -> float:
    """How long a statement takes in a fresh interpreter, less the interpreter's own start."""

    def once(code: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - as above
        return time.perf_counter() - started

    bare = statistics.median([once("pass") for _ in range(rounds)])
    return (statistics.median([once(statement) for _ in range(rounds)]) - bare) * 1e3
