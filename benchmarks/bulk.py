"""`python -m benchmarks.bulk --rows 100000`: what many rows cost, with a journal and without.

The provider answers at once and in this process, so that what is measured is the machinery: rows a
second, and CPU microseconds a row beside those of the same calls through `run_many` and without
either. Bytes are those of the journal a row; memory is the most that the process has had. Each form
runs in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from lamella import ChatRequest, ChatResponse, Money, Pipeline, Usage
from lamella._bulk_map import MapRun
from lamella._bulk_options import MapOptions
from lamella._bulk_results import Lines

PROMPT: Final = "Say in one sentence what stands in this review, and whether it is good or bad. "
ANSWER: Final = "It says that the delivery was late, but that the shoes fit well, and is good. " * 3
PLACES: Final = 64


class Provider:
    """Answers at once, as a provider would."""

    name = "at once"
    model = "m"

    async def __call__(self, request: Any) -> Any:
        """One answer, with usage and a cost."""
        attempt = request.context.attempt
        response = ChatResponse.of(ANSWER, usage=Usage(uncached_input=120, text_output=60))
        if attempt is not None:
            attempt.cost = Money(12_345)
        await asyncio.sleep(0)
        return response


def rows(count: int) -> Iterator[dict[str, Any]]:
    """So many rows."""
    for number in range(count):
        yield {"id": f"row-{number}", "prompt": f"{PROMPT}{number}"}


async def calls(count: int, _: Path) -> None:
    """The calls alone, one after another."""
    pipeline = Pipeline([], Provider())
    for row in rows(count):
        await pipeline.run(ChatRequest.of(row["prompt"]))


async def many(count: int, _: Path) -> None:
    """`run_many`, which keeps all responses."""
    pipeline = Pipeline([], Provider())
    requests = (ChatRequest.of(row["prompt"]) for row in rows(count))
    found = await pipeline.run_many(requests, concurrency=PLACES)
    assert len(found) == count


async def without(count: int, _: Path) -> None:
    """`map` without a journal, read in order."""
    await _read(Pipeline([], Provider()).map(rows(count), concurrency=PLACES), count)


async def journaled(count: int, folder: Path) -> None:
    """`map` with a journal, read in order."""
    journal = folder / "work.journal"
    pipeline = Pipeline([], Provider())
    await _read(pipeline.map(rows(count), journal=journal, concurrency=PLACES), count)


async def lines(count: int, folder: Path) -> None:
    """As `lamella map` does it: lines of JSON, kept and written."""
    options = MapOptions(journal=folder / "work.journal", concurrency=PLACES)
    given = (json.dumps(row).encode() for row in rows(count))
    work: MapRun[Any] = MapRun(Pipeline([], Provider()), given, options, form=Lines())
    with (folder / "answers.jsonl").open("wb") as file:
        async with work:
            line: Any
            async for line in work:
                file.write(line)


async def resumed(count: int, folder: Path) -> None:
    """A journal that has all of them, gone on from."""
    journal = folder / "work.journal"
    pipeline = Pipeline([], Provider())
    report = await pipeline.map(rows(count), journal=journal).report()
    assert report.restored == count


async def _read(work: Any, count: int) -> None:
    async with work:
        index = 0
        async for result in work:
            assert result.index == index
            index += 1
    assert index == count


FORMS: Final[dict[str, Callable[[int, Path], Any]]] = {
    "calls": calls,
    "run_many": many,
    "map": without,
    "map with a journal": journaled,
    "resumed": resumed,
    "lines": lines,
}


def measured(form: str, count: int, folder: Path) -> dict[str, Any]:
    """The figures of one form, in this process."""
    asyncio.run(FORMS[form](min(count, 200), Path(tempfile.mkdtemp(dir=folder)))) if (
        form != "resumed"
    ) else None
    cpu, wall = time.process_time(), time.perf_counter()
    asyncio.run(FORMS[form](count, folder))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    size = sum(path.stat().st_size for path in folder.glob("work.journal*"))
    return {
        "form": form,
        "rows": count,
        "rows a second": round(count / wall),
        "CPU microseconds a row": round(cpu / count * 1e6, 1),
        "journal bytes a row": round(size / count),
        "peak memory MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main() -> None:
    """Measure each form in a process of its own, or one of them in this."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bulk")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--form", choices=list(FORMS))
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.form is not None:
        print(json.dumps(measured(given.form, given.rows, given.folder)))
        return
    with tempfile.TemporaryDirectory() as name:
        for form in FORMS:
            folder = Path(name) / ("journal" if form == "resumed" else form.replace(" ", "-"))
            if form == "resumed":
                folder = Path(name) / "map-with-a-journal"
            folder.mkdir(exist_ok=True)
            command = [sys.executable, "-m", "benchmarks.bulk", "--rows", str(given.rows)]
            done = subprocess.run(  # noqa: S603 - itself
                [*command, "--form", form, "--folder", str(folder)],
                check=True,
                stdout=subprocess.PIPE,
            )
            print(done.stdout.decode().strip(), flush=True)


if __name__ == "__main__":
    main()
