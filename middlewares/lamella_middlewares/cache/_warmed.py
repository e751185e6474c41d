"""What is told of warming a cache up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs

if TYPE_CHECKING:
    from lamella import LamellaError

Came: TypeAlias = Literal["fresh", "kept", "asked", "failed"]


@attrs.frozen
class WarmProblem:
    """A line that nothing was kept for.

    Attributes:
        line: Its number; the first one is 1.
        message: Why.
    """

    line: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}"


@attrs.frozen
class WarmProgress:
    """A line is done.

    Attributes:
        line: Its number.
        done: How many are done by now.
        came: `"fresh"` if it was kept already, `"kept"` if its answer was given, `"asked"` if the
            model was, `"failed"` if nothing is kept.
        problem: Why, where it failed.
    """

    line: int
    done: int
    came: Came
    problem: WarmProblem | None = None


@attrs.frozen
class Warmed:
    """What warming up has come to.

    Attributes:
        fresh: Lines whose answer was kept already, or is by a line that asks the same.
        kept: Lines whose answer was given with them, and is kept now.
        asked: Lines that the model has answered, and whose answer is kept now.
        failed: Lines that nothing is kept for.
        problems: Why, for the first thousand of them, in their order.
        stopped: Why the rest of the file was not looked at; None if all of it was.
    """

    fresh: int = 0
    kept: int = 0
    asked: int = 0
    failed: int = 0
    problems: tuple[WarmProblem, ...] = ()
    stopped: LamellaError | None = None

    @property
    def ok(self) -> bool:
        """Whether everything in the file is kept now."""
        return not self.failed and self.stopped is None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "fresh": self.fresh,
            "kept": self.kept,
            "asked": self.asked,
            "failed": self.failed,
            "problems": [attrs.asdict(one) for one in self.problems],
            "stopped": None if self.stopped is None else str(self.stopped),
        }
