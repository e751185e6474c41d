"""Microseconds of CPU time of what runs in this process, put beside a loop that never changes.

A shared machine is fast now and slow then. Each short round stands between two yardsticks; what
counts is the median of what a round would have taken at the machine's usual pace.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from benchmarks.turns import yardstick

Calls: TypeAlias = Mapping[str, Callable[[], Awaitable[Any]]]


async def paced(calls: Calls, *, rounds: int = 15, seconds: float = 0.02) -> dict[str, float]:
    """The microseconds of each call, round after round, all of them in each round."""
    counts = {name: await _fitting(call, seconds) for name, call in calls.items()}
    gc.collect()
    ratios: dict[str, list[float]] = {name: [] for name in calls}
    sticks: list[float] = []
    for _ in range(rounds):
        for name, call in calls.items():
            before = yardstick(10)
            started = time.process_time()
            for _ in range(counts[name]):
                await call()
            spent = (time.process_time() - started) / counts[name] * 1e6
            sticks.append((before + yardstick(10)) / 2)
            ratios[name].append(spent / sticks[-1])
    pace = statistics.median(sticks)
    return {name: statistics.median(values) * pace for name, values in ratios.items()}


async def _fitting(call: Callable[[], Awaitable[Any]], seconds: float) -> int:
    """How many calls fit into so many seconds; it warms up as well."""
    await call()
    started, count = time.process_time(), 0
    while count < 3 or time.process_time() - started < seconds:
        await call()
        count += 1
        if count >= 100_000:
            break
    return count
