"""Measuring: interleaved rounds, medians, CPU time for each call.

Wall times on a shared machine mean little; the CPU time of the client's process, with the upstream
in another process on another core, is the figure to compare, and a ratio in one run is the figure
to quote.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import attrs

from benchmarks.contenders import Call, Contender, Kind


@attrs.frozen
class Plan:
    """How much to measure.

    Attributes:
        rounds: How often each contender gets its turn; the median counts.
        calls: Calls in a turn.
        concurrency: How many at once.
        kind: Whether each call gets an answer or reads a stream.
    """

    rounds: int = 5
    calls: int = 400
    concurrency: int = 1
    kind: Kind = "answer"


@attrs.frozen
class Figure:
    """What a contender needed.

    Attributes:
        name: The contender.
        cpu: Microseconds of CPU time for each call, the median of the rounds.
        wall: Microseconds of wall time for each call, the median of the rounds.
        spread: The largest CPU time of a round over the smallest.
    """

    name: str
    cpu: float
    wall: float
    spread: float


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
    cpu: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    wall: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(plan.rounds + 1):
        for contender in contenders:
            cost = asyncio.run(_turn(contender, plan, url))
            if number > 0:  # the first round only warms up
                cpu[contender.name].append(cost[0])
                wall[contender.name].append(cost[1])
    return [
        Figure(
            name,
            statistics.median(values),
            statistics.median(wall[name]),
            max(values) / max(min(values), 1e-9),
        )
        for name, values in cpu.items()
    ]


async def _turn(contender: Contender, plan: Plan, url: str) -> tuple[float, float]:
    async with contender.open(url, plan.kind) as call:
        await call()  # connect before the clock runs
        gc.collect()
        started, clock = time.process_time(), time.perf_counter()
        await _drive(call, plan)
        spent, passed = time.process_time() - started, time.perf_counter() - clock
    return spent / plan.calls * 1e6, passed / plan.calls * 1e6


async def _drive(call: Call, plan: Plan) -> None:
    if plan.concurrency == 1:
        for _ in range(plan.calls):
            await call()
        return

    async def work(share: int) -> None:
        for _ in range(share):
            await call()

    share = plan.calls // plan.concurrency
    await asyncio.gather(*[work(share) for _ in range(plan.concurrency)])


def import_milliseconds(statement: str, rounds: int = 5) -> float:
    """How long a statement takes in a fresh interpreter, less the interpreter's own start."""

    def once(code: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - as above
        return time.perf_counter() - started

    bare = statistics.median([once("pass") for _ in range(rounds)])
    return (statistics.median([once(statement) for _ in range(rounds)]) - bare) * 1e3
