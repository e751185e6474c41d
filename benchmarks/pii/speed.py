"""How quickly texts are looked into, on one core, by CPU time."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence

from benchmarks.pii.chat import conversation
from benchmarks.pii.finders import Finder


def megabytes_a_second(
    work: Callable[[str], object], texts: Sequence[str], *, rounds: int = 3
) -> float:
    """Megabytes of UTF-8 that one core looks into in a second, in the quickest round.

    Others on the machine make a round slower, never quicker.
    """
    size = sum(len(text.encode()) for text in texts)
    for text in texts[:50]:
        work(text)
    return size / 1e6 / min(_seconds(work, texts) for _ in range(rounds))


def _seconds(work: Callable[[str], object], texts: Sequence[str]) -> float:
    gc.collect()
    started = time.process_time()
    for text in texts:
        work(text)
    return max(time.process_time() - started, 1e-9)


def throughput(finder: Finder, *, kilobytes: int, seed: int) -> dict[str, float]:
    """Over chats of several languages.

    In the usual ones, one message in four has something: two values and a look-alike. In the dense
    ones, every message of a kilobyte has.
    """
    return {
        "usual chats": megabytes_a_second(finder.timed, conversation(kilobytes, seed, every=4)),
        "dense chats": megabytes_a_second(finder.timed, conversation(kilobytes, seed)),
    }


def of_ours(*, kilobytes: int, seed: int) -> dict[str, float]:
    """What only our own has: the quick look, and findings that are kept."""
    from lamella_middlewares.pii._detect._builtin import BUILTIN, DEFAULT_KINDS
    from lamella_middlewares.pii._detect._kept import KeptFindings
    from lamella_middlewares.pii._detect._scanner import Scanner

    detectors = [BUILTIN[kind]() for kind in DEFAULT_KINDS]
    scanner = Scanner(detectors)
    prose = conversation(kilobytes, seed, every=0)
    turns = conversation(min(50, kilobytes), seed)
    keeping = Scanner(detectors, cache=KeptFindings(bytes(32)))
    first, again = (_seconds(keeping.scan, turns) for _ in range(2))
    return {
        "quick look at prose, MB/s": megabytes_a_second(scanner.maybe, prose),
        "prose that it lets pass, share": sum(not scanner.maybe(t) for t in prose) / len(prose),
        "scan of prose, MB/s": megabytes_a_second(scanner.scan, prose),
        f"first scan of {len(turns)} messages of 1 kB, ms": first * 1e3,
        "second scan of the same, ms": again * 1e3,
    }
