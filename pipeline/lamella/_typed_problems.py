"""Where a JSON value does not fit a type, in words that a model can mend it by.

A problem has two texts. `str(problem)` is for logs and errors: names that the type declares, kinds
of JSON, nothing that stood in the value. `problem.told` is for whoever wrote the value: it also has
the keys of mappings, and what a validator of the program said, which often repeats the value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import attrs

MOST_PROBLEMS: Final = 20
"""How many problems of one value are collected; of 10,000 wrong items 20 say enough."""

NOTHING_THERE: Final = "nothing"
"""What was got where something required is missing."""

_KINDS: Final[Mapping[type, str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
    list: "array",
    dict: "object",
}


class Key(str):
    """A step of a path that the value chose, not the type: the key of a mapping."""

    __slots__ = ()


Step = str | int


@attrs.frozen
class Problem:
    """One place where a value does not fit.

    Attributes:
        steps: The way to it: names of properties, places in arrays, keys of mappings.
        expected: What the type wants there: `integer >= 0`.
        got: The kind of JSON that stands there: `string`, or `nothing`. Never the value.
        detail: What a validator said of the value; may repeat it, so it is in no log.
    """

    steps: tuple[Step, ...] = attrs.field(repr=lambda steps: repr([*map(_shown, steps)]))
    expected: str
    got: str
    detail: str = attrs.field(default="", repr=False)

    @property
    def path(self) -> str:
        """The way to it, as `$.kids[0].age`; keys of mappings, which are data, stand as `[*]`."""
        return "$" + "".join(map(_shown, self.steps))

    @property
    def place(self) -> str:
        """The way to it with the keys of mappings: for whoever wrote the value."""
        return "$" + "".join(map(_exact, self.steps))

    @property
    def told(self) -> str:
        """The problem for whoever wrote the value."""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.place}: expected {self.expected}, got {self.got}{detail}"

    def under(self, step: Step) -> Problem:
        """The same problem, seen from one step further out."""
        return Problem((step, *self.steps), self.expected, self.got, self.detail)

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, got {self.got}"


class FormError(ValueError):
    """Raised when a text or a value does not fit a type.

    Attributes:
        name: Of the form.
        problems: Every place that was found, at least one and at most `MOST_PROBLEMS`.
    """

    def __init__(self, name: str, problems: Iterable[Problem]) -> None:
        self.name = name
        self.problems = tuple(problems)
        more = len(self.problems) - 1
        rest = f"; and {more} more" if more else ""
        super().__init__(f"The value does not fit {name!r}: {self.problems[0]}{rest}.")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.problems)


class Misfit(Exception):
    """What a node raises: problems as seen from the value that it was given."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__()
        self.problems = problems


class Findings:
    """The problems of one object or array, while its items are read."""

    __slots__ = ("problems",)

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def add(self, step: Step, misfit: Misfit) -> None:
        """Add what an item has; enough ends the reading.

        Raises:
            Misfit: If there are as many as are collected.
        """
        self.problems.extend(each.under(step) for each in misfit.problems)
        if len(self.problems) >= MOST_PROBLEMS:
            raise Misfit(self.problems[:MOST_PROBLEMS])


def kind_of(value: object) -> str:
    """The kind of JSON that a value is."""
    return _KINDS.get(value.__class__, "something that is not JSON")


def misfit(expected: str, value: object, kinds: Collection[str] = (), detail: str = "") -> Misfit:
    """The misfit of a whole value; where its kind is right, `another string` was got."""
    kind = kind_of(value)
    got = f"another {kind}" if kind in kinds else kind
    return Misfit([Problem((), expected, got, detail)])


def missing(name: Step, expected: str) -> Problem:
    """The problem of a required property that is not there."""
    return Problem((name,), expected, NOTHING_THERE)


def _exact(step: Step) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if step.isidentifier() else f"[{step!r}]"


def _shown(step: Step) -> str:
    return "[*]" if isinstance(step, Key) else _exact(step)
