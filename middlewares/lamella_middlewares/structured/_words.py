"""What is said to a model: which shape its answer is to have, and what was wrong with the last."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from lamella._typed_problems import Problem

TOOL_DESCRIPTION: Final = "Gives the answer. Call it once, with the whole answer as arguments."

_LONGEST_PROBLEM: Final = 300
"""Characters. A validator of the program may say a lot; what it wants stands at the beginning."""

_LONGEST_SCHEMA: Final = 4_000
"""Characters of schema that are said again."""

_REFERENCES: Final = 20
"""How many references or alternatives are followed to one place: a schema may point at itself."""


def instruction(schema: Mapping[str, Any]) -> str:
    """The shape of the answer, where the provider has no field for it."""
    return (
        "Answer with JSON that fits this JSON Schema, and with nothing before or after it:\n"
        f"{compact(schema)}"
    )


def correction(
    problems: Sequence[Problem], *, tool: str | None = None, schema: Mapping[str, Any] | None = None
) -> str:
    """What was wrong, and nothing else: the model has the rest before it.

    Args:
        problems: Where the answer does not fit.
        tool: The tool that is to be called again; None where the answer is text.
        schema: The part of the schema to say again; None says none.
    """
    lines = ["This answer must be mended:"]
    lines += [_cut(problem.told, _LONGEST_PROBLEM) for problem in problems]
    if schema is not None:
        lines.append(f"There the schema says: {_cut(compact(schema), _LONGEST_SCHEMA)}")
    if tool is None:
        lines.append("Give all of it again as JSON, and nothing else.")
    else:
        lines.append(f"Call {tool} again with all of it.")
    return "\n".join(lines)


def part_at(schema: Mapping[str, Any], problem: Problem) -> Mapping[str, Any]:
    """The part of a schema that says what belongs where a problem is; all of it if none does."""
    found: Mapping[str, Any] = schema
    for step in problem.steps:
        inner = _inner(schema, found, step)
        if inner is None:
            break
        found = inner
    return _resolved(schema, found)


def compact(value: object) -> str:
    """As JSON without blanks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]} ..."


def _inner(
    root: Mapping[str, Any], schema: Mapping[str, Any], step: str | int, left: int = _REFERENCES
) -> Mapping[str, Any] | None:
    """The schema one step further in, also inside of alternatives."""
    if left == 0:
        return None
    schema = _resolved(root, schema)
    if isinstance(step, int):
        fixed = schema.get("prefixItems")
        if isinstance(fixed, list) and step < len(fixed):  # pyright: ignore[reportUnknownArgumentType]
            return _table(fixed[step])
        found = schema.get("items")
    else:
        properties = _table(schema.get("properties")) or {}
        found = properties.get(step, schema.get("additionalProperties"))
    if (inner := _table(found)) is not None:
        return inner
    options = schema.get("anyOf") or schema.get("oneOf") or ()
    for each in options:
        option = _table(each)
        found = None if option is None else _inner(root, option, step, left - 1)
        if found is not None:
            return found
    return None


def _resolved(root: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    for _ in range(_REFERENCES):
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            break
        target: Any = root
        for step in reference.removeprefix("#").split("/")[1:]:
            target = (_table(target) or {}).get(step.replace("~1", "/").replace("~0", "~"))
        table = _table(target)
        if table is None:
            break
        schema = table
    return schema


def _table(given: Any) -> Mapping[str, Any] | None:
    return cast("Mapping[str, Any]", given) if isinstance(given, Mapping) else None
