"""One contender in a process of its own, which does what it is told on standard input.

    python -m benchmarks.child benchmarks.clients:floor

Each line is a JSON object: `{"do": "turn", "url": ..., "plan": {...}}` measures a turn,
`{"do": "flight", ...}` many calls at once (`benchmarks.flights`), `{"do": "load", ...}` an offered
load (`benchmarks.loads`). Each is answered by a line: `{"ok": {...}}` or `{"error": "..."}`. What
a contender prints goes to standard error. The process ends with its input. Standard library only:
this runs in the environment of every peer.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import IO, Any

from benchmarks.flights import flight
from benchmarks.loads import load
from benchmarks.turns import Opener, Plan, turn


def found(name: str) -> Opener:
    """The contender of a name such as `benchmarks.clients:floor`."""
    module, _, attribute = name.partition(":")
    opener: Opener = getattr(importlib.import_module(module), attribute)
    return opener


def serve(opener: Opener, source: IO[str], answers: IO[str], runner: asyncio.Runner) -> None:
    """Do what each line says, until there are no more."""
    for line in source:
        try:
            answer: dict[str, Any] = {"ok": runner.run(_done(opener, json.loads(line)))}
        except Exception as error:  # noqa: BLE001 - told to the driver, whatever it is
            answer = {"error": f"{type(error).__name__}: {error}"[:400]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


async def _done(opener: Opener, order: dict[str, Any]) -> Any:
    kind, url = order.pop("do"), order.pop("url")
    if kind == "turn":
        return asdict(await turn(opener, Plan(**order["plan"]), url))
    if kind == "flight":
        return await flight(opener, url, **order)
    if kind == "load":
        return await load(opener, url, **order)
    raise ValueError(f"{kind!r} is nothing that a child does: say turn, flight or load")


def _loop(*, fast: bool) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if not fast:
        return None
    made: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    return made


def main() -> None:
    """Serve standard input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.child")
    parser.add_argument("contender", help="MODULE:NAME")
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with asyncio.Runner(loop_factory=_loop(fast=options.uvloop)) as runner:
        serve(found(options.contender), sys.stdin, answers, runner)


if __name__ == "__main__":
    main()
