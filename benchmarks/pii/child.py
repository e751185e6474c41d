"""The built-in detectors in a process without the extras: `python -m benchmarks.pii.child`.

Reads texts as JSON from the standard input; writes what was found, and how quickly.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

import attrs

from benchmarks.pii import finders, speed
from benchmarks.pii.gold import Span


@attrs.frozen
class Bare:
    """What the process found.

    Attributes:
        found: The spans of each text.
        speed: Megabytes a second, by corpus.
    """

    found: list[list[Span]]
    speed: dict[str, float]


def without_extras(texts: Sequence[str], *, kilobytes: int, seed: int) -> Bare:
    """What is found, and how quickly, where `lamella[pii]` is not installed."""
    asked = json.dumps({"texts": texts, "kilobytes": kilobytes, "seed": seed})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.pii.child"],
        input=asked,
        capture_output=True,
        check=False,
        text=True,
        encoding="utf-8",
    )
    if done.returncode:
        raise RuntimeError(f"The run without extras failed:\n{done.stderr}")
    answer = json.loads(done.stdout)
    found = [[Span(*span) for span in spans] for spans in answer["found"]]
    return Bare(found, answer["speed"])


def main() -> None:
    """Read, look, write."""
    finders.hide_extras()
    asked = json.load(sys.stdin)
    finder = finders.ours()
    found = [[(s.start, s.end, s.kind) for s in finder.find(text)] for text in asked["texts"]]
    quick = speed.throughput(finder, kilobytes=asked["kilobytes"], seed=asked["seed"])
    assert not [name for name in finders.EXTRAS if name in sys.modules]
    json.dump({"found": found, "speed": quick}, sys.stdout)


if __name__ == "__main__":
    main()
