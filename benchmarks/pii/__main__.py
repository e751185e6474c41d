"""`python -m benchmarks.pii`: measure, print a table, write JSON and Markdown."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import pin
from benchmarks.pii import finders, speed
from benchmarks.pii.chat import labelled
from benchmarks.pii.child import without_extras
from benchmarks.pii.gold import Sample, Span, presidio_samples
from benchmarks.pii.metrics import scores
from benchmarks.pii.report import markdown, missed, row
from benchmarks.pii.values import VALUES

RESULTS: Final = Path(__file__).parents[1] / "results"
SEED: Final = 42
BARE: Final = "Lamella, no extras"
VERSIONS: Final = (
    "phonenumbers",
    "google-re2",
    "presidio-analyzer",
    "presidio-evaluator",
    "langchain",
)


def corpora(sentences: int) -> dict[str, list[Sample]]:
    """The texts, by the name of where they come from."""
    made = {"our own chats": labelled(sentences, SEED)}
    if importlib.util.find_spec("presidio_evaluator"):
        return {"Presidio's templates": presidio_samples(sentences, SEED), **made}
    sys.stderr.write("presidio-evaluator is not installed: uv run --group comparisons ...\n")
    return made


def run(*, sentences: int, kilobytes: int) -> dict[str, Any]:
    """All figures of one run on this machine."""
    pin()
    texts = corpora(sentences)
    compared = [finders.ours(), *finders.installed()]
    every = [sample.text for samples in texts.values() for sample in samples]
    bare = without_extras(every, kilobytes=kilobytes, seed=SEED)
    quality: dict[str, dict[str, Any]] = {}
    place = 0
    for corpus, samples in texts.items():
        here = bare.found[place : place + len(samples)]
        place += len(samples)
        found = {compared[0].name: _found(compared[0], samples), BARE: here}
        found |= {one.name: _found(one, samples) for one in compared[1:]}
        kinds = {one.name: one.kinds for one in compared} | {BARE: frozenset(VALUES)}
        quality[corpus] = {
            name: table(samples, spans, kinds[name]) for name, spans in found.items()
        }
    quick = {one.name: speed.throughput(one, kilobytes=kilobytes, seed=SEED) for one in compared}
    return {
        "machine": {
            "python": platform.python_version(),
            "system": platform.system(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
        },
        "versions": {name: _version(name) for name in VERSIONS},
        "samples": {corpus: len(samples) for corpus, samples in texts.items()},
        "quality": quality,
        "MB/s": {compared[0].name: quick.pop(compared[0].name), BARE: bare.speed, **quick},
        "ours": speed.of_ours(kilobytes=kilobytes, seed=SEED),
    }


def table(
    samples: Sequence[Sample], found: Sequence[Sequence[Span]], kinds: Iterable[str]
) -> dict[str, Any]:
    """The figures of each kind that is there, or was said to be."""
    chosen = sorted(kinds)
    plain = scores(samples, found, chosen)
    strict = scores(samples, found, chosen, strict=True)
    return {
        kind: row(score, strict[kind]) for kind, score in plain.items() if score.gold or score.wrong
    }


def _found(finder: finders.Finder, samples: Sequence[Sample]) -> list[list[Span]]:
    return [finder.find(sample.text) for sample in samples]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def main() -> int:
    """Measure, print, write; the number of targets that were missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pii")
    parser.add_argument("--quick", action="store_true", help="500 texts of each corpus")
    parser.add_argument("--sentences", type=int, help="texts of each corpus; 10000")
    options = parser.parse_args()
    quick: bool = options.quick
    sentences: int = options.sentences or (500 if quick else 10_000)
    results = run(sentences=sentences, kilobytes=100 if quick else 1_000)
    text = markdown(results)
    sys.stdout.write(text + "\n")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "pii.json").write_text(json.dumps(results, indent=2) + "\n")
    (RESULTS / "pii.md").write_text(text + "\n")
    return len(missed(results))


if __name__ == "__main__":
    raise SystemExit(main())
