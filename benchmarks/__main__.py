"""`python -m benchmarks`: run everything, print a table, write JSON and Markdown.

`python -m benchmarks stores` runs what is kept where: see `benchmarks.stores`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from benchmarks import layers as stack
from benchmarks import observers, stores
from benchmarks.contenders import ALL, SDK, every_layer, first_layers
from benchmarks.harness import Figure, Plan, import_milliseconds, measure, pin, upstream
from benchmarks.providers import PAIRS

IMPORTS = ("lamella_anthropic", "anthropic", "lamella_google", "google.genai", "lamella_bedrock")
SDKS = {SDK.name, *(pair[0].name for pair in PAIRS.values())}

RESULTS = Path(__file__).parent / "results"


def run(*, quick: bool) -> dict[str, Any]:
    """All figures of one run on this machine."""
    rounds, calls = (1, 60) if quick else (5, 400)
    plans = {
        "one call at a time": Plan(rounds, calls),
        "64 calls at once": Plan(rounds, max(128, calls), concurrency=64),
        "a stream of 200 chunks": Plan(rounds, max(20, calls // 10), kind="stream"),
    }
    if quick:  # what the smoke has no bound for
        del plans["64 calls at once"]
    spare = pin()
    with upstream(spare) as url:
        figures = {name: measure(ALL, plan, url) for name, plan in plans.items()}
        providers = {
            f"{name}, {plan}": measure(pair, plans[plan], url)
            for name, pair in PAIRS.items()
            for plan in ("one call at a time", "a stream of 200 chunks")
        }
    few = 200 if quick else 2_000
    return {
        "machine": _machine(),
        "calls": {name: [_row(f, rows) for f in rows] for name, rows in figures.items()},
        "providers": {name: [_row(f, rows) for f in rows] for name, rows in providers.items()},
        "microseconds by depth": stack.by_depth(calls=few),
        "microseconds added by layer": stack.by_layer(every_layer(), calls=few),
        **observers.run(quick=quick),
        "microseconds by kilobytes of message": stack.by_size(calls=few // 2),
        "microseconds a chunk": stack.by_chunk(first_layers(), calls=max(10, few // 40)),
        "import milliseconds": {
            name: import_milliseconds(f"import {name}", 1 if quick else 7)
            for name in ("lamella", "openai", *IMPORTS)
        },
    }


def _row(figure: Figure, rows: list[Figure]) -> dict[str, Any]:
    sdk = next(row for row in rows if row.name in SDKS)
    return {
        "name": figure.name,
        "cpu_us": round(figure.cpu, 1),
        "of_sdk": round(figure.cpu / sdk.cpu, 3),
        "wall_us": round(figure.wall, 1),
        "spread": round(figure.spread, 2),
    }


def _machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }


def markdown(results: dict[str, Any]) -> str:
    """The results as tables."""
    lines = [f"Measured on {json.dumps(results['machine'])}.", ""]
    for name, rows in {**results["calls"], **results["providers"]}.items():
        lines += [
            f"### {name}",
            "",
            "| contender | CPU us | of SDK | wall us |",
            "|---|--:|--:|--:|",
        ]
        lines += [
            f"| {row['name']} | {row['cpu_us']} | {row['of_sdk']} | {row['wall_us']} |"
            for row in rows
        ]
        lines.append("")
    for name, values in results.items():
        if name in {"machine", "calls", "providers"}:
            continue
        lines += [f"### {name}", "", "| | |", "|---|--:|"]
        lines += [f"| {key} | {value:.2f} |" for key, value in values.items()]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="a smoke of a few seconds")
    parser.add_argument("what", nargs="?", choices=["calls", "stores"], default="calls")
    options = parser.parse_args()
    if options.what == "stores":
        stores.main(quick=options.quick)
        return
    results = run(quick=options.quick)
    text = markdown(results)
    sys.stdout.write(text + "\n")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latest.json").write_text(json.dumps(results, indent=2) + "\n")
    (RESULTS / "latest.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
