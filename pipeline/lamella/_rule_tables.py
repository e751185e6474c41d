"""Reading parameter rules from the tables of a card file or of the table of endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from lamella._checked_tables import Table, close_to
from lamella._parameter_rules import ACTIONS, Action, ParameterRule, Scalar

APIS: Final = frozenset({"chat", "responses", "embeddings"})
"""The APIs that a rule may be limited to."""


def read_rules(table: Table) -> tuple[ParameterRule, ...]:
    """The table's own rules, after those of its base for other parameters.

    What is wrong with a rule is written down, and it is left out.
    """
    table.raw("rules")
    own = _own_rules(table) if "rules" in table.values else ()
    if table.base is None:
        return own
    stated = {rule.parameter for rule in own}
    inherited = (rule for rule in read_rules(table.base) if rule.parameter not in stated)
    return (*inherited, *own)


def _own_rules(table: Table) -> tuple[ParameterRule, ...]:
    found = (_rule(one) for one in table.tables("rules"))
    return tuple(rule for rule in found if rule is not None)


def scalars(table: Table) -> dict[str, Scalar]:
    """The values of a table that holds only strings, numbers, true and false."""
    found: dict[str, Scalar] = {}
    for name in table.values:
        value = table.raw(name)
        if isinstance(value, str | int | float):
            found[name] = value
        else:
            table.wrong(name, "a string, a number, true or false")
    return found


def _rule(table: Table) -> ParameterRule | None:
    parameter = table.text("parameter", required=True)
    action = _action(table)
    replacements = table.table("replacements")
    rule = ParameterRule(
        parameter=parameter or "",
        action=action or "drop",
        apis=table.names("apis", APIS),
        to=table.text("to"),
        minimum=table.number("minimum"),
        maximum=table.number("maximum"),
        values=_values(table, "values"),
        replacements={} if replacements is None else _texts(replacements),
        when=_conditions(table, "when"),
        unless=_conditions(table, "unless"),
        beside=table.texts("beside"),
        hint=table.text("hint"),
    )
    table.finish()
    if parameter is None or action is None:
        return None
    problem = rule.problem()
    if problem is not None:
        table.mistakes.add(f"{table.path}: {problem}.")
        return None
    return rule


def _action(table: Table) -> Action | None:
    value = table.text("action", required=True)
    for action in ACTIONS:
        if value == action:
            return action
    if value is not None:
        offer = close_to(value, ACTIONS)
        table.wrong("action", f"one of {', '.join(ACTIONS)}. {offer}".rstrip(" ."))
    return None


def _texts(table: Table) -> dict[str, str]:
    found = {name: table.text(name) for name in table.values}
    return {name: text for name, text in found.items() if text is not None}


def _conditions(table: Table, key: str) -> Mapping[str, tuple[Scalar, ...]]:
    inner = table.table(key)
    return {} if inner is None else {name: _values(inner, name) for name in inner.values}


def _values(table: Table, key: str) -> tuple[Scalar, ...]:
    value = table.raw(key)
    if value is None:
        return ()
    if isinstance(value, list):
        items = cast("list[object]", value)
        found = tuple(item for item in items if isinstance(item, str | int | float))
        if found and len(found) == len(items):
            return found
    table.wrong(key, "a list of strings or numbers, such as ['low', 'high']")
    return ()
