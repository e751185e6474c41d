"""`python -m benchmarks`: everything that can be measured here, in one run of some ten minutes.

    uv run python -m benchmarks [--quick] [--only PART ...] [--output FOLDER]

`python -m benchmarks.report` then makes pages and plots of it. `python -m benchmarks stores` runs
what is kept where: see `benchmarks.stores`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks import promises, tables
from benchmarks.driver import on_stderr
from benchmarks.harness import pin
from benchmarks.kept_results import FOLDER, Results
from benchmarks.machine import all_versions, machine
from benchmarks.parts import Setting


def _of(module: str) -> Callable[[Setting], Any]:
    """A part that is a module of that name."""
    return lambda setting: importlib.import_module(f"benchmarks.{module}").run(setting)


def _quickly(module: str) -> Callable[[Setting], Any]:
    """A part that runs in this process, and wants to know no more than whether to be quick."""
    return lambda setting: importlib.import_module(f"benchmarks.{module}").run(quick=setting.quick)


PARTS: Final[Mapping[str, Callable[[Setting], Any]]] = {
    "calls": _of("calls"),
    "flight": _of("in_flight"),
    "imports": _of("imports"),
    "layers": _quickly("layers"),
    "observers": _quickly("observers"),
    "scaling": _of("offered"),
    "providers": _of("providers"),
}


def run(parts: list[str], *, quick: bool, folder: Path) -> Results:
    """Measure these parts; each is on disk when it is done, and some while they run."""
    results = Results(folder)
    spare = pin()
    core = None if spare is None else min(os.sched_getaffinity(0))
    setting = Setting(quick, results.keep, core, spare, folder / "contenders.log")
    results.keep("machine", machine())
    failed: dict[str, str] = {}
    for part in parts:
        started = time.monotonic()
        on_stderr(part)
        try:
            results.keep(part, PARTS[part](setting))
        except Exception as error:  # noqa: BLE001 - one part that fails loses none of the others
            failed[part] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        on_stderr(f"{part}: {time.monotonic() - started:.0f} s")
    results.keep("failed", failed)
    results.keep("versions", all_versions())
    results.keep("quick", quick)
    results.keep("promises", promises.table(results.found))
    return results


def main() -> int:
    """Parse, run, print; write JSON and Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="whether it runs, not how fast")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="may be repeated")
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="FOLDER")
    parser.add_argument("what", nargs="?", choices=["speed", "stores"], default="speed")
    options = parser.parse_args()
    if options.what == "stores":
        importlib.import_module("benchmarks.stores").main(quick=options.quick)
        return 0
    try:
        results = run(options.only or list(PARTS), quick=options.quick, folder=options.output)
    except KeyboardInterrupt:
        on_stderr("interrupted: what was measured so far is in the folder")
        return 130
    text = tables.markdown(results.found)
    sys.stdout.write(text + "\n")
    results.path.with_suffix(".md").write_text(text + "\n")
    return len(results.found["failed"])


if __name__ == "__main__":
    raise SystemExit(main())
