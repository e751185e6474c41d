"""What an import takes in a fresh interpreter: time, memory, and whether it starts anything."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from typing import Any, Final

from benchmarks.driver import ENVIRONMENT, ROOT
from benchmarks.environments import UnavailableError, python_of
from benchmarks.parts import Setting
from benchmarks.roster import ENTRIES, Entry

PRESET: Final = "import lamella; lamella.Pipeline.preset('production', transport='mock')"

_PROGRAM: Final = """
import json, sys, time
started, clock = time.process_time(), time.perf_counter()
{statement}
spent, passed = time.process_time() - started, time.perf_counter() - clock
threading = sys.modules.get("threading")
try:
    memory = open("/proc/self/status").read().partition("VmRSS:")[2].split()[0]
except OSError:
    memory = 0
print(json.dumps([
    spent * 1e3, passed * 1e3, int(memory) / 1024, len(sys.modules),
    "openai" in sys.modules, 1 if threading is None else threading.active_count(),
]))
"""


def run(setting: Setting) -> dict[str, Any]:
    """Medians of fresh interpreters, in turns; the interpreter's own memory is taken off."""
    rounds = 1 if setting.quick else 5
    wanted = [Entry("(nothing)", "", None, (), "pass")]
    wanted += [entry for entry in ENTRIES if entry.imports]
    wanted.append(Entry("Lamella, a production pipeline made", "", None, (), PRESET))
    found: dict[str, list[list[float]]] = {}
    skipped: dict[str, str] = {}
    for number in range(rounds + 1):
        for entry in wanted:
            if entry.name in skipped:
                continue
            try:
                figures = once(python_of(entry.environment), entry.imports)
            except (UnavailableError, subprocess.CalledProcessError) as error:
                skipped[entry.name] = str(error)
            else:
                if number > 0:  # the first round writes bytecode
                    found.setdefault(entry.name, []).append(figures)
        setting.say(f"  round {number} of {rounds}")
    rows = {
        name: [statistics.median(column) for column in zip(*each, strict=True)]
        for name, each in found.items()
    }
    base = rows.pop("(nothing)")[2]
    return {
        "rows": [
            {
                "name": name,
                "ms": round(row[0], 1),
                "wall_ms": round(row[1], 1),
                "mb": round(row[2] - base, 1),
                "modules": int(row[3]),
                "openai": bool(row[4]),
                "threads": int(row[5]),
            }
            for name, row in rows.items()
        ],
        "skipped": skipped,
    }


def once(python: str, statement: str) -> list[float]:
    """Milliseconds of CPU and of the wall, MB, modules, 1 if the SDK is among them, threads."""
    said = subprocess.run(  # noqa: S603 - an interpreter of ours, a statement of ours
        [python, "-c", _PROGRAM.format(statement=statement)],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
    )
    figures: list[float] = json.loads(said.stdout.splitlines()[-1])
    return figures
