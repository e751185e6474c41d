"""Whether a JSON value fits a JSON Schema (draft 2020-12), with every problem that it has.

Checked are types, constants, bounds, patterns, arrays, objects, the ways to combine schemas, and
references inside the schema. As the standard has it, `format` and words that it does not know say
something to a reader and check nothing. What would have to be checked and is not, is refused when
the checker is made: a reference to another document, `$dynamicRef`, and the `unevaluated` ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, cast

import msgspec

from lamella._errors import ConfigurationError
from lamella._schema_shapes import pointed
from lamella._typed_nodes import schema_words
from lamella._typed_problems import MOST_PROBLEMS, NOTHING_THERE, Key, Problem, Step, kind_of

_REFUSED: Final = ("$dynamicRef", "$recursiveRef", "unevaluatedItems", "unevaluatedProperties")
_SCHEMAS: Final = (
    "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then",
)  # fmt: skip
_LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED: Final = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")
_HINT: Final = "Take it out of the schema, or check the value after it came."


class Checker:
    """Checks values against one schema.

    Args:
        schema: A JSON Schema; an object.

    Raises:
        ConfigurationError: If it is not valid, or says what is not checked.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = schema
        self._patterns: dict[str, re.Pattern[str]] = {}
        self._ended: set[int] = set()
        self._look(schema, "#", set())

    def problems(self, value: Any, schema: Any = None) -> list[Problem]:
        """What does not fit the schema, or a part of it; empty if everything does.

        Raises:
            RecursionError: If the value, or the schema by itself, nests too deeply.
        """
        whole = self._root if schema is None else schema
        return list(self._found(value, whole, ()))[:MOST_PROBLEMS]

    def _found(self, value: Any, schema: Any, steps: tuple[Step, ...]) -> Iterator[Problem]:
        if not isinstance(schema, Mapping):
            if schema is False:
                yield Problem(steps, "nothing here", kind_of(value))
            return
        schema = cast("Mapping[str, Any]", schema)
        if "$ref" in schema:
            yield from self._found(value, pointed(self._root, schema["$ref"]), steps)
        wrong = self._scalar_problem(value, schema)
        if wrong is not None:
            kind = kind_of(value)
            got = f"another {kind}" if _is_kind(value, schema.get("type", kind)) else kind
            yield Problem(steps, wrong, got)
            return
        yield from self._combined(value, schema, steps)
        if isinstance(value, list):
            yield from self._items(cast("Any", value), schema, steps)
        elif isinstance(value, dict):
            yield from self._properties(cast("dict[str, Any]", value), schema, steps)

    def _scalar_problem(self, value: Any, schema: Mapping[str, Any]) -> str | None:
        """What is expected where a value by itself does not fit."""
        if "type" in schema and not _is_kind(value, schema["type"]):
            return _words(schema)
        if "const" in schema and not same(value, schema["const"]):
            return msgspec.json.encode(schema["const"]).decode()
        if "enum" in schema and not any(same(value, each) for each in schema["enum"]):
            return schema_words(schema)
        if isinstance(value, str):
            return self._text_problem(value, schema)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _number_problem(value, schema)
        sizes = _SIZES.get(value.__class__)
        if sizes is not None:
            for word, fits, text in sizes:
                if word in schema and not fits(len(cast("Any", value)), schema[word]):
                    return f"{kind_of(value)} of {text} {schema[word]} {sizes[0][0][3:].lower()}"
            if schema.get("uniqueItems") is True and isinstance(value, list):
                return _unique_problem(cast("Any", value))
        return None

    def _text_problem(self, value: str, schema: Mapping[str, Any]) -> str | None:
        size = len(value)
        if size < schema.get("minLength", 0) or size > schema.get("maxLength", size):
            return schema_words({"type": "string", **schema})
        pattern = schema.get("pattern")
        if pattern is not None and not self._patterns[pattern].search(value):
            return schema_words({"type": "string", **schema})
        return None

    def _combined(
        self, value: Any, schema: Mapping[str, Any], steps: tuple[Step, ...]
    ) -> Iterator[Problem]:
        for each in schema.get("allOf", ()):
            yield from self._found(value, each, steps)
        for word in ("anyOf", "oneOf"):
            if word not in schema:
                continue
            tries = [list(self._found(value, each, steps)) for each in schema[word]]
            fitting = sum(not each for each in tries)
            if not fitting:
                yield from min(tries, key=_closeness)
            elif word == "oneOf" and fitting > 1:
                yield Problem(steps, "value that fits only one of several", kind_of(value))
        if "not" in schema and not any(self._found(value, schema["not"], steps)):
            yield Problem(steps, "value that does not fit what is excluded", kind_of(value))
        if "if" in schema:
            branch = "else" if any(self._found(value, schema["if"], steps)) else "then"
            yield from self._found(value, schema.get(branch, True), steps)

    def _items(
        self, value: list[Any], schema: Mapping[str, Any], steps: tuple[Step, ...]
    ) -> Iterator[Problem]:
        fixed: Sequence[Any] = schema.get("prefixItems", ())
        rest = schema.get("items", True)
        for place, each in enumerate(value):
            inner = fixed[place] if place < len(fixed) else rest
            if inner is not True:
                yield from self._found(each, inner, (*steps, place))
        if "contains" in schema:
            count = sum(not any(self._found(each, schema["contains"], steps)) for each in value)
            least, most = schema.get("minContains", 1), schema.get("maxContains", len(value))
            if not least <= count <= most:
                yield Problem(steps, "array that contains what it has to", "another array")

    def _properties(
        self, value: dict[str, Any], schema: Mapping[str, Any], steps: tuple[Step, ...]
    ) -> Iterator[Problem]:
        properties: Mapping[str, Any] = schema.get("properties", {})
        for name in schema.get("required", ()):
            if name not in value:
                expected = properties.get(name, {})
                yield Problem((*steps, name), _words(expected), NOTHING_THERE)
        for name, wanted in schema.get("dependentRequired", {}).items():
            for other in wanted if name in value else ():
                if other not in value:
                    yield Problem((*steps, other), f"a value beside {name!r}", NOTHING_THERE)
        for name, inner in schema.get("dependentSchemas", {}).items():
            if name in value:
                yield from self._found(value, inner, steps)
        for name, each in value.items():
            step = (*steps, name if name in properties else Key(name))
            yield from self._property(name, each, schema, step)

    def _property(
        self, name: str, value: Any, schema: Mapping[str, Any], steps: tuple[Step, ...]
    ) -> Iterator[Problem]:
        properties: Mapping[str, Any] = schema.get("properties", {})
        patterns: Mapping[str, Any] = schema.get("patternProperties", {})
        if any(self._found(name, schema.get("propertyNames", True), steps)):
            yield Problem(steps, "another name of the property", "string")
        inner = [properties[name]] if name in properties else []
        inner += [each for text, each in patterns.items() if self._patterns[text].search(name)]
        if not inner:
            inner = [schema.get("additionalProperties", True)]
            if inner == [False]:
                yield Problem(steps, "no such property", kind_of(value))
                return
        for each in inner:
            yield from self._found(value, each, steps)

    def _look(self, schema: Any, where: str, seen: set[int]) -> None:
        """Look through the whole schema once, for what cannot be checked."""
        if isinstance(schema, bool):
            return
        if not isinstance(schema, Mapping):
            msg = f"A JSON Schema has {type(schema).__name__} at {where}, where a schema has to be."
            raise ConfigurationError(msg, hint="A schema is an object, or true or false.")
        if id(schema) in seen:  # pyright: ignore[reportUnknownArgumentType]
            return
        seen.add(id(schema))  # pyright: ignore[reportUnknownArgumentType]
        known = cast("Mapping[str, Any]", schema)
        for word in _REFUSED:
            if word in known:
                msg = f"A JSON Schema has {word!r} at {where}, which is not checked here."
                raise ConfigurationError(msg, hint=_HINT)
        self._look_at_words(known, where)
        self._look_for_an_end(known, where, set())
        for word in _SCHEMAS:
            if word in known:
                self._look(known[word], f"{where}/{word}", seen)
        for word in _LISTS:
            for place, each in enumerate(known.get(word, ())):
                self._look(each, f"{where}/{word}/{place}", seen)
        for word in _NAMED:
            for name, each in known.get(word, {}).items():
                self._look(each, f"{where}/{word}/{name}", seen)

    def _look_for_an_end(self, schema: Any, where: str, within: set[int]) -> None:
        """Refuse a schema that is checked by checking itself, of the same value, without end."""
        if not isinstance(schema, Mapping) or id(cast("Any", schema)) in self._ended:
            return
        known = cast("Mapping[str, Any]", schema)
        if id(known) in within:
            msg = f"A JSON Schema refers to itself without end at {where}."
            hint = "Have it refer to itself only from within a property or an item."
            raise ConfigurationError(msg, hint=hint)
        same_value = [known[word] for word in ("not", "if", "then", "else") if word in known]
        for word in ("allOf", "anyOf", "oneOf"):
            same_value += known.get(word, ())
        same_value += known.get("dependentSchemas", {}).values()
        if "$ref" in known:
            with suppress(LookupError, ValueError):  # its own place says what is wrong with it
                same_value.append(pointed(self._root, known["$ref"]))
        for each in same_value:
            self._look_for_an_end(each, where, {*within, id(known)})
        self._ended.add(id(known))

    def _look_at_words(self, schema: Mapping[str, Any], where: str) -> None:
        for word, kinds in _KINDS_OF_WORDS.items():
            if word in schema and not isinstance(schema[word], kinds):
                msg = f"A JSON Schema has {type(schema[word]).__name__} as {word!r} at {where}."
                raise ConfigurationError(msg, hint="See json-schema.org for what it has to be.")
        types: Any = schema.get("type", "null")
        for kind in cast("Any", types if isinstance(types, list) else [types]):
            if kind not in _TYPES:
                msg = f"A JSON Schema has the type {kind!r} at {where}, which JSON does not have."
                raise ConfigurationError(msg, hint=f"The types are {', '.join(sorted(_TYPES))}.")
        if "$ref" in schema:
            try:
                pointed(self._root, schema["$ref"])
            except (LookupError, ValueError):
                msg = f"A JSON Schema refers to {schema['$ref']!r} at {where}, which is not in it."
                hint = "Put what it refers to under '$defs', and refer to '#/$defs/<name>'."
                raise ConfigurationError(msg, hint=hint) from None
        for pattern in [schema.get("pattern"), *schema.get("patternProperties", ())]:
            if pattern is not None and pattern not in self._patterns:
                try:
                    self._patterns[pattern] = re.compile(pattern)
                except re.error as error:
                    msg = f"A JSON Schema has the pattern {pattern!r} at {where}: {error}."
                    raise ConfigurationError(
                        msg, hint="Write it as Python's `re` reads it."
                    ) from None


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal: true is not 1, and 1.0 is."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list | tuple):
        mine, theirs = cast("Any", one), cast("Sequence[Any]", other)
        return len(mine) == len(theirs) and all(map(same, mine, theirs))
    if isinstance(one, dict) and isinstance(other, Mapping):
        left, right = cast("dict[str, Any]", one), cast("Mapping[str, Any]", other)
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    return bool(one == other)


def _is_kind(value: Any, kinds: str | Sequence[str]) -> bool:
    kind = kind_of(value)
    wanted = [kinds] if isinstance(kinds, str) else kinds
    if kind in wanted or (kind == "integer" and "number" in wanted):
        return True
    return kind == "number" and "integer" in wanted and float(value).is_integer()


def _number_problem(value: float, schema: Mapping[str, Any]) -> str | None:
    for word, fits in _NUMBERS.items():
        if word in schema and not fits(value, schema[word]):
            return schema_words({"type": "number", **schema})
    return None


def _multiple(value: float, of: float) -> bool:
    if isinstance(value, int) and isinstance(of, int):
        return value % of == 0
    share = value / of
    return abs(share - round(share)) < 1e-9  # 0.3 is a multiple of 0.1


def _unique_problem(value: list[Any]) -> str | None:
    seen: set[bytes] = set()
    for each in value:
        key = msgspec.json.encode(_countable(each), order="deterministic")
        if key in seen:
            return "array of items that are all different"
        seen.add(key)
    return None


def _countable(value: Any) -> Any:
    """The value with 1.0 written as 1."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_countable(each) for each in cast("Any", value)]
    if isinstance(value, dict):
        return {name: _countable(each) for name, each in cast("dict[str, Any]", value).items()}
    return value


def _words(given: Any) -> str:
    schema: Mapping[str, Any] = cast("Any", given) if isinstance(given, Mapping) else {}
    if not {"type", "enum", "const"} & schema.keys():
        return "a value"
    if "const" in schema:
        return msgspec.json.encode(schema["const"]).decode()
    kinds: Any = schema.get("type")
    return schema_words(
        {**schema, "type": " or ".join(cast("Any", kinds))} if isinstance(kinds, list) else schema
    )


def _closeness(problems: list[Problem]) -> tuple[int, int]:
    """The member of a union that was likely meant: the one that fits deepest, then most."""
    return -max(len(each.steps) for each in problems), len(problems)


_TYPES: Final = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})
_NUMBERS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "minimum": lambda value, bound: value >= bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
    "multipleOf": _multiple,
}
_SIZES: Final[Mapping[type, Sequence[tuple[str, Callable[[int, int], bool], str]]]] = {
    list: (
        ("minItems", lambda size, bound: size >= bound, ">="),
        ("maxItems", lambda size, bound: size <= bound, "<="),
    ),
    dict: (
        ("minProperties", lambda size, bound: size >= bound, ">="),
        ("maxProperties", lambda size, bound: size <= bound, "<="),
    ),
}
_NUMBER: Final = (int, float)
_KINDS_OF_WORDS: Final[Mapping[str, Any]] = {
    "$ref": str, "type": (str, list), "enum": (list, tuple), "properties": Mapping,
    "patternProperties": Mapping, "$defs": Mapping, "definitions": Mapping,
    "required": (list, tuple), "allOf": (list, tuple), "anyOf": (list, tuple),
    "oneOf": (list, tuple), "prefixItems": (list, tuple), "pattern": str,
    "dependentRequired": Mapping, "dependentSchemas": Mapping,
    "minimum": _NUMBER, "maximum": _NUMBER, "exclusiveMinimum": _NUMBER,
    "exclusiveMaximum": _NUMBER, "multipleOf": _NUMBER, "minLength": int, "maxLength": int,
    "minItems": int, "maxItems": int, "minProperties": int, "maxProperties": int,
}  # fmt: skip
