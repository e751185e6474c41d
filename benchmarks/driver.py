"""Contenders in processes of their own, on one core, which take turns.

Only one of them works at a time; the others wait for their next order. So all of them are measured
in the same minutes of the same machine, each with no more in its memory than it needs.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from benchmarks.environments import UnavailableError, python_of
from benchmarks.roster import Entry
from benchmarks.turns import Plan, Turn

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {
    "PYTHONDONTWRITEBYTECODE": "",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # it would ask the network for prices
}
LEAST = 4
Say = Callable[[str], object]


def on_stderr(line: str) -> None:
    """Progress."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


class ChildError(Exception):
    """A contender could not do what it was told, or its process has ended."""


class Child:
    """A contender's process. `ask` orders something and waits until it is done.

    Attributes:
        patience: Seconds after which a process that says nothing is given up.
    """

    patience = 120.0

    def __init__(
        self, command: Sequence[str], *, core: int | None = None, log: Path | None = None
    ) -> None:
        self._log = None if log is None else log.open("ab")
        self._process = subprocess.Popen(  # noqa: S603 - our own module in an environment of ours
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if self._log is None else self._log,
            text=True,
            env={**os.environ, **ENVIRONMENT},
        )
        if core is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self._process.pid, {core})

    def ask(self, **order: Any) -> Any:
        """The answer to an order.

        Raises:
            ChildError: If it failed there, or the process has ended.
        """
        self.tell(**order)
        return self.answer()

    def tell(self, **order: Any) -> None:
        """Give an order; `answer` waits for it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise ChildError(self._ended()) from error

    def answer(self) -> Any:
        """The answer to the order before; one order at a time."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], self.patience)
        if not ready:
            raise ChildError(f"it said nothing for {self.patience:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise ChildError(self._ended())
        said = json.loads(line)
        if "error" in said:
            raise ChildError(said["error"])
        return said["ok"]

    def turn(self, url: str, plan: Plan) -> Turn:
        """One turn of a plan."""
        return Turn(**self.ask(do="turn", url=url, plan=as_object(plan)))

    def close(self) -> None:
        """End the process, and wait until it has."""
        self._process.kill()
        self._process.communicate()
        if self._log is not None:
            self._log.close()

    def _ended(self) -> str:
        return f"its process ended with status {self._process.wait()}"


def as_object(plan: Plan) -> dict[str, Any]:
    """A plan as a JSON object."""
    return {name: getattr(plan, name) for name in Plan.__dataclass_fields__}


def command_of(entry: Entry, *, uvloop: bool = False) -> list[str]:
    """What starts a contender.

    Raises:
        UnavailableError: If its environment cannot be made.
    """
    command = [python_of(entry.environment), "-m", "benchmarks.child", entry.opener]
    return [*command, "--uvloop"] if uvloop else command


@attrs.define
class Field:
    """Those who take part, by name, and why others do not."""

    children: dict[str, Child]
    skipped: dict[str, str]
    say: Say = on_stderr

    def drop(self, name: str, why: object) -> None:
        """One of them can no longer take part."""
        self.children.pop(name).close()
        self.skipped[name] = str(why)
        self.say(f"  {name}: skipped: {why}")

    def race(
        self, plan: Plan, url: str, done: Callable[[Mapping[str, list[Turn]]], object]
    ) -> None:
        """Rounds of turns, each of about `plan.seconds`; what there is, after each round.

        Args:
            plan: What is measured; `plan.calls` is the most calls of a turn.
            url: The provider.
            done: Told of the turns so far, by contender.
        """
        counts: dict[str, int] = {}
        for name in list(self.children):  # warms up, too
            first = self._turn(name, with_calls(plan, calls=max(LEAST, plan.concurrency)), url)
            if first is not None:
                few = max(1, int(plan.seconds * 1e6 / max(first.cpu, first.wall, 1.0)))
                counts[name] = min(plan.calls, max(few, plan.concurrency, LEAST))
        turns: dict[str, list[Turn]] = {name: [] for name in counts}
        for number in range(plan.rounds):
            for name, count in counts.items():
                if name in self.children:
                    one = self._turn(name, with_calls(plan, calls=count), url)
                    if one is not None:
                        turns[name].append(one)
            self.say(f"  round {number + 1} of {plan.rounds}")
            done(turns)

    def _turn(self, name: str, plan: Plan, url: str) -> Turn | None:
        try:
            return self.children[name].turn(url, plan)
        except ChildError as error:
            self.drop(name, error)
            return None


def with_calls(plan: Plan, *, calls: int) -> Plan:
    """The same plan with so many calls in a turn."""
    return Plan(**{**as_object(plan), "calls": calls})


@contextmanager
def field(
    chosen: Iterable[Entry], *, core: int | None, log: Path | None = None, say: Say = on_stderr
) -> Iterator[Field]:
    """Start those contenders that can be had here, and end them."""
    found = Field({}, {}, say)
    try:
        for entry in chosen:
            try:
                found.children[entry.name] = Child(command_of(entry), core=core, log=log)
            except UnavailableError as error:
                found.skipped[entry.name] = str(error)
                say(f"  {entry.name}: skipped: {error}")
        yield found
    finally:
        for child in found.children.values():
            child.close()
