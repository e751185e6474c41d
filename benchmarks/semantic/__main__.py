"""`python -m benchmarks.semantic`: measure, print tables, write JSON and Markdown."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import pin
from benchmarks.semantic.quality import counts, quality
from benchmarks.semantic.speed import DIMENSIONS, hit, search

RESULTS: Final = Path(__file__).parents[1] / "results"
LEGEND: Final = (
    "Hits are the share of paraphrases that get the right answer, false hits the share of all "
    "questions that get a wrong one. The embedder hashes words and pieces of words, and knows no "
    "synonyms: with a model the figures differ. Measure over your own questions."
)


def run(*, quick: bool) -> dict[str, Any]:
    """All figures of one run on this machine."""
    pin()
    sizes = (1_000, 10_000) if quick else (1_000, 10_000, 50_000, 100_000)
    return {
        "machine": {
            "python": platform.python_version(),
            "system": platform.system(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
        },
        "versions": {"numpy": importlib.metadata.version("numpy")},
        "questions": counts(),
        "quality": quality(),
        "search": search(sizes),
        "hit": hit(),
    }


def markdown(results: Mapping[str, Any]) -> str:
    """The figures as a page."""
    counted = ", ".join([f"{count} {kind}" for kind, count in results["questions"].items()])
    quality_rows = [
        {
            name: value if name == "threshold" else f"{100 * value:.1f} %"
            for name, value in row.items()
        }
        for row in results["quality"]
    ]
    return "\n\n".join(
        [
            "# The semantic cache",
            _machine(results),
            "## Hits and false hits by threshold",
            f"Questions: {counted}. {LEGEND}",
            _table(quality_rows),
            f"## Searching, vectors of {DIMENSIONS} coordinates",
            _table(results["search"]),
            "## A hit",
            _table([{"what": name, "median": value} for name, value in results["hit"].items()]),
        ]
    )


def _machine(results: Mapping[str, Any]) -> str:
    machine, numpy = results["machine"], results["versions"]["numpy"]
    return f"Python {machine['python']}, numpy {numpy}, {machine['cores']} cores, pinned to one."


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(rows[0])
    lines = [names, ["---", *["---:"] * (len(names) - 1)]]
    lines += [[str(row[name]) for name in names] for row in rows]
    return "\n".join([f"| {' | '.join(line)} |" for line in lines])


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.semantic")
    parser.add_argument("--quick", action="store_true", help="small indexes only; nothing written")
    quick: bool = parser.parse_args().quick
    results = run(quick=quick)
    text = markdown(results)
    sys.stdout.write(text + "\n")
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "semantic.json").write_text(json.dumps(results, indent=2) + "\n")
        (RESULTS / "semantic.md").write_text(text + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
