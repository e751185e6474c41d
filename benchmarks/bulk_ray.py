"""`python -m benchmarks.bulk_ray --rows 100000`: many rows on a local Ray, beside `Pipeline.map`.

Needs an environment with `lamella-ray`. The provider answers at once and in the process of who
asks, as in `benchmarks.bulk`; a worker is a process, and Ray's own processes take a part of the
same cores. Wall time counts, from the first row to the last answer, without the seconds in which
Ray starts.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import time
from typing import Any

from benchmarks.bulk import PLACES, Provider, rows
from lamella import Pipeline, RowOptions


def pipeline() -> Pipeline:
    """What each worker has."""
    return Pipeline([], Provider())


async def alone(count: int) -> float:
    """Seconds of `Pipeline.map` in this process, without a journal."""
    began = time.perf_counter()
    async with pipeline().map(rows(count), concurrency=PLACES) as work:
        done = [result.index async for result in work if result.error is None]
    assert len(done) == count
    return time.perf_counter() - began


def on_ray(count: int, workers: int) -> float:
    """Seconds of so many workers on a local Ray."""
    from lamella_ray import Workers, map_rows

    data: Any = importlib.import_module("ray.data")
    dataset = data.from_items(list(rows(count)), override_num_blocks=16).materialize()
    options = RowOptions(model="m", concurrency=PLACES)
    spread = Workers(least=workers, most=workers, batch_size=1024)
    began = time.perf_counter()
    answers = map_rows(dataset, pipeline, options=options, workers=spread).materialize()
    passed = time.perf_counter() - began
    assert answers.count() == count
    return passed


def main() -> None:
    """Measure both, and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bulk_ray")
    parser.add_argument("--rows", type=int, default=100_000)
    count = parser.parse_args().rows
    _tell("Pipeline.map", count, asyncio.run(alone(count)))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray: Any = importlib.import_module("ray")
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error")
    try:
        for workers in (1, 2):
            on_ray(min(count, 2_000), workers)  # imports, and processes that are kept
            _tell(f"Ray, workers: {workers}", count, on_ray(count, workers))
    finally:
        ray.shutdown()


def _tell(form: str, count: int, seconds: float) -> None:
    figures = {"form": form, "rows": count, "rows a second": round(count / seconds)}
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
