"""What a JSON Schema says of the objects that it takes, and which nulls in them mean nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

from lamella._typed_nodes import KINDS, NUMBERS, Tag, tag_of
from lamella._typed_problems import Misfit
from lamella._typed_records import Shape

T = TypeVar("T")

_MOST_STEPS = 20


def schema_shape(schema: Mapping[str, Any]) -> Shape | None:
    """The shape of the objects that a schema takes; None if it takes others, or several kinds."""
    found = resolved(schema, schema)
    if "properties" not in found:
        return None
    tags: dict[str, frozenset[Tag]] = {}
    for name, given in _mapping(found["properties"]).items():
        inner = resolved(_mapping(given), schema)
        values: Any = [inner["const"]] if "const" in inner else inner.get("enum")
        if isinstance(values, list):
            scalars = [each for each in cast("Any", values) if not isinstance(each, list | dict)]
            if len(scalars) == len(cast("Any", values)):
                tags[name] = frozenset(map(tag_of, scalars))
    required = frozenset(found.get("required", ()))
    return Shape(frozenset(found["properties"]), required, tags)


def schema_kinds(schema: Mapping[str, Any]) -> frozenset[str]:
    """The kinds of JSON that a schema takes, as far as its type says."""
    given: Any = resolved(schema, schema).get("type")
    if given is None:
        return KINDS
    kinds = frozenset[str]([given] if isinstance(given, str) else given)
    return kinds | NUMBERS if kinds & NUMBERS else kinds


def resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema with its reference followed; what stands beside the reference holds too."""
    for _ in range(_MOST_STEPS):
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            break
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**pointed(root, reference), **rest}
    return schema


def pointed(root: Mapping[str, Any], pointer: str) -> Mapping[str, Any]:
    """What a reference inside a schema (`#/$defs/Name`) stands for.

    Raises:
        LookupError: If it stands for nothing there.
    """
    found: Any = root
    if pointer != "#":
        if not pointer.startswith("#/"):
            raise LookupError(pointer)
        for step in pointer[2:].split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            found = found[int(name)] if found.__class__ is list else _mapping(found)[name]
    return _mapping(found)


def property_names(schema: Any) -> frozenset[str]:
    """The names of all properties that a schema knows, at any depth."""
    found: set[str] = set()
    waiting: list[Any] = [schema]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Mapping):
            found.update(_mapping(cast("Any", each).get("properties", {})))
            waiting.extend(cast("Any", each).values())
        elif isinstance(each, list):
            waiting.extend(cast("Any", each))
    return frozenset(found)


def takes_null(schema: Any, root: Mapping[str, Any]) -> bool:
    """Whether null fits a schema, as far as its types say."""
    if not isinstance(schema, Mapping):
        return schema is not False
    found = resolved(cast("Mapping[str, Any]", schema), root)
    kinds: Any = found.get("type")
    if kinds is not None and kinds != "null" and not (isinstance(kinds, list) and "null" in kinds):
        return False
    if "enum" in found and None not in found["enum"]:
        return False
    if found.get("const") is not None:
        return False
    for word in ("anyOf", "oneOf"):
        if word in found and not any(takes_null(each, root) for each in found[word]):
            return False
    return all(takes_null(each, root) for each in found.get("allOf", ()))


def read_without_nulls(
    read: Callable[[Any], T], value: Any, root: Mapping[str, Any], schema: Any = None
) -> T:
    """What is read of a value; if that fails, of it without the nulls that mean nothing.

    Strict schemas have every property required; null is how a model leaves one out. So nulls are
    left out that stand where a property may be missing, but not be null.

    Args:
        read: Reads it, or raises `Misfit`.
        value: What a model wrote. It stays as it is.
        root: The whole JSON Schema of it.
        schema: The part by which it is read; None is the whole.

    Raises:
        Misfit: If both fail.
    """
    try:
        return read(value)
    except Misfit:
        pruned = _pruned(value, root if schema is None else schema, root)
        if pruned == value:
            raise
    return read(pruned)


def _pruned(value: Any, schema: Any, root: Mapping[str, Any]) -> Any:
    if not isinstance(value, dict | list) or not isinstance(schema, Mapping):
        return value  # pyright: ignore[reportUnknownVariableType]
    found = resolved(cast("Mapping[str, Any]", schema), root)
    for each in _alternatives(cast("Any", value), found, root):
        value = _pruned(value, each, root)
    if isinstance(value, list):
        return _pruned_items(cast("Any", value), found, root)
    return _pruned_properties(cast("dict[str, Any]", value), found, root)


def _pruned_items(
    value: list[Any], schema: Mapping[str, Any], root: Mapping[str, Any]
) -> list[Any]:
    fixed: Sequence[Any] = schema.get("prefixItems", ())
    rest = schema.get("items")
    if not fixed and not isinstance(rest, Mapping):
        return value
    return [
        _pruned(each, fixed[place] if place < len(fixed) else rest, root)
        for place, each in enumerate(value)
    ]


def _pruned_properties(
    value: dict[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any]
) -> dict[str, Any]:
    properties = _mapping(schema.get("properties", {}))
    required = schema.get("required", ())
    rest = schema.get("additionalProperties")
    found: dict[str, Any] = {}
    for name, each in value.items():
        inner = properties.get(name)
        if (
            each is None
            and inner is not None
            and name not in required
            and not takes_null(inner, root)
        ):
            continue
        found[name] = _pruned(each, rest if inner is None else inner, root)
    return found


def _alternatives(
    value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """The members of a union that a value seems to be, if it is only one; all of an `allOf`."""
    yield from schema.get("allOf", ())
    for word in ("anyOf", "oneOf"):
        likely = [each for each in schema.get(word, ()) if _likely(value, each, root)]
        if len(likely) == 1:
            yield likely[0]


def _likely(value: Any, schema: Any, root: Mapping[str, Any]) -> bool:
    found = resolved(_mapping(schema), root)
    if isinstance(value, list):
        return found.get("type") == "array"
    if found.get("type") != "object":
        return False
    shape = schema_shape({**found, "$defs": root.get("$defs", {})})
    return shape is None or (shape.may_be(value) and shape.required <= value.keys())


def _mapping(given: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", given) if isinstance(given, Mapping) else {}
