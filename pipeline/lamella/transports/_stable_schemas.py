"""One order of words in a JSON Schema, however it was built.

Prompt caches compare bytes, and a schema that was put together in another order is another one to
them. JSON says that the order of an object's names means nothing, so keywords go into one order
here, and so do named definitions, and sets wherever they stand. What a model can read something
from stays as it was given: the order under `properties`, in which models think and answer, lists,
and data such as `default`.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

_FIRST: Final = (
    "$schema", "$id", "$anchor", "$ref", "title", "type", "format", "description", "const", "enum",
)  # fmt: skip
_LAST: Final = (
    "items", "properties", "patternProperties", "required", "additionalProperties", "$defs",
    "definitions",
)  # fmt: skip
_RANKS: Final[Mapping[str, int]] = {
    **{word: rank for rank, word in enumerate(_FIRST)},
    **{word: 100 + rank for rank, word in enumerate(_LAST)},
}
_OTHERS: Final = 50

_SCHEMAS: Final = frozenset(
    {
        "additionalItems", "additionalProperties", "allOf", "anyOf", "contains", "contentSchema",
        "else", "if", "items", "not", "oneOf", "prefixItems", "propertyNames", "then",
        "unevaluatedItems", "unevaluatedProperties",
    }
)  # fmt: skip
"""Keywords that hold a schema, or a list of them."""
_NAMED: Final = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties"})
"""Keywords that hold schemas by names whose order means nothing."""
_PROPERTIES: Final = "properties"


def stable_schema(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema that says the same, in the one order; what is nested too deep stays as it is."""
    try:
        return _schema(schema)
    except RecursionError:
        return schema


def in_order(given: Mapping[str, Any]) -> dict[str, Any]:
    """An object with its names, and sets in it, in the order of the alphabet; else as it was."""
    names = sorted(given, key=str)
    try:
        return {name: _data(given[name]) for name in names}
    except RecursionError:
        return {name: given[name] for name in names}


def _schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {word: _value(word, schema[word]) for word in sorted(schema, key=_rank)}


def _rank(word: object) -> tuple[int, str]:
    text = str(word)
    return _RANKS.get(text, _OTHERS), text


def _value(word: str, value: Any) -> Any:
    if word in _SCHEMAS:
        return _one_or_more(value)
    if word == _PROPERTIES and isinstance(value, Mapping):
        return {name: _one_or_more(inner) for name, inner in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if word in _NAMED and isinstance(value, Mapping):
        named: Mapping[Any, Any] = value  # pyright: ignore[reportUnknownVariableType]
        return {name: _one_or_more(named[name]) for name in sorted(named, key=str)}
    return _data(value)


def _data(value: Any) -> Any:
    """Data as they are, but for sets, which have another order in each process."""
    if isinstance(value, AbstractSet):
        items: list[Any] = [_data(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
        return sorted(items, key=lambda item: (str(item), type(item).__name__))
    if isinstance(value, Mapping):
        return {name: _data(inner) for name, inner in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list | tuple):
        return [_data(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def _one_or_more(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _schema(value)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, list | tuple):
        return [_one_or_more(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return _data(value)
