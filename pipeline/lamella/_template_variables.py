"""The variables of a prompt template: what each may be, and how it is written.

A value is data and nothing else: it is checked against its type, and written as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any, Final, cast

import attrs

from lamella._checked_tables import Table
from lamella._messages import ROLES
from lamella._template_values import INLINE, MOST_CHARACTERS, TYPES, Unfit, as_json


class _Default(Enum):
    REQUIRED = "required"


REQUIRED: Final = _Default.REQUIRED
"""Stands for the default of a variable that has none."""

_UNTRUSTED: Final = ("user", "assistant", "tool", "function")
"""Who may speak in a list of messages, unless the template says otherwise."""


@attrs.frozen
class Variable:
    """One variable of a prompt template.

    Attributes:
        name: Its name.
        type: `"text"`; `"number"`; `"flag"`, true or false; `"json"`, anything that JSON has;
            `"messages"`, a conversation; `"image"`, `"audio"`, `"file"`, one such part; `"parts"`,
            any of these and texts, one or several.
        default: What it is where nothing is given; `REQUIRED` if something must be.
        description: What it is for.
        one_of: The only values that a text or number may have; empty for any.
        roles: Who may speak in `"messages"`.
    """

    name: str
    type: str = "text"
    default: Any = attrs.field(default=REQUIRED, hash=False)
    description: str = ""
    one_of: tuple[Any, ...] = ()
    roles: tuple[str, ...] = _UNTRUSTED

    @property
    def inline(self) -> bool:
        """Whether it stands within a text. The others are inserted."""
        return self.type in INLINE

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is REQUIRED

    def value(self, given: Any, most: int = MOST_CHARACTERS) -> Any:
        """What was given, checked and detached from the caller's objects.

        Args:
            given: The value.
            most: How many characters JSON may take.

        Raises:
            Unfit: If it is not of the type.
        """
        value = TYPES[self.type](given, self.roles, most)
        if self.one_of and value not in self.one_of:
            words = ", ".join(map(repr, self.one_of))
            raise Unfit(f"is not one of {words}")
        return value

    def written(self, value: Any) -> str:
        """A value that `value` has given, as text."""
        if self.type == "json":
            return as_json(value)
        if self.type == "flag":
            return "true" if value else "false"
        return value if isinstance(value, str) else str(value)

    def __str__(self) -> str:
        return f"{self.name} ({self.type}{'' if self.required else ', may be left out'})"


def read_variable(name: str, table: Table) -> Variable:
    """The variable that a table describes; what is wrong with it is written down."""
    kind = table.text("type") or "text"
    if kind not in TYPES:
        table.wrong("type", f"one of {', '.join(map(repr, TYPES))}")
        kind = "text"
    description = table.text("description") or ""
    roles: tuple[str, ...] = _UNTRUSTED
    if kind == "messages" and table.has("roles"):
        roles = tuple(sorted(table.names("roles", ROLES)))
    variable = Variable(name, kind, description=description, roles=roles)
    one_of = _one_of(variable, table) if kind in {"text", "number"} else ()
    variable = attrs.evolve(variable, one_of=one_of)
    if "default" not in table.values:  # null is a default of JSON
        return variable
    try:
        return attrs.evolve(variable, default=variable.value(table.raw("default")))
    except Unfit as error:
        table.mistakes.add(f"{table.at('default')} {error}.")
        return variable


def _one_of(variable: Variable, table: Table) -> tuple[Any, ...]:
    if not table.has("one_of"):
        return ()
    given = table.raw("one_of")
    if not isinstance(given, list | tuple) or not given:
        table.wrong("one_of", "a list that is not empty")
        return ()
    try:
        return tuple([variable.value(item) for item in cast("Iterable[Any]", given)])
    except Unfit as error:
        table.mistakes.add(f"{table.at('one_of')} {error}.")
        return ()
