"""Whether a JSON value fits a JSON Schema (draft 2020-12), with every problem that it has.

Checked are types, constants, bounds, patterns, arrays, objects, the ways to combine schemas, and
references inside the schema. As the standard has it, `format` and words that it does not know say
something to a reader and check nothing. What would have to be checked and is not, is refused when
the checker is made: a reference to another document, `$dynamicRef`, and the `unevaluated` ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, cast

import attrs
import msgspec

from lamella._schema_validity import Looked
from lamella._typed_problems import MOST_PROBLEMS, NOTHING_THERE, Key, Problem, Step, kind_of
from lamella._typed_scalars import is_multiple, schema_words


class Checker:
    """Checks values against one schema.

    Args:
        schema: A JSON Schema; an object.

    Raises:
        ConfigurationError: If it is not valid, or says what is not checked.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = schema
        self._looked = Looked(schema)

    def problems(self, value: Any, schema: Any = None) -> list[Problem]:
        """What does not fit the schema, or a part of it; empty if everything does.

        Raises:
            RecursionError: If the value, or the schema by itself, nests too deeply.
        """
        check = _Check(self._looked)
        whole = self._root if schema is None else schema
        return list(islice(check.found(value, whole, ()), MOST_PROBLEMS))


class _Check:
    """The check of one value.

    What is tried (the members of a union) is tried once for each part of the value: a schema that
    refers to itself from two members would else double the work at every level.
    """

    def __init__(self, looked: Looked) -> None:
        self._looked = looked
        self._patterns = looked.patterns
        self._tries: dict[tuple[int, int], list[Problem]] = {}

    def _tried(self, value: Any, schema: Any) -> list[Problem]:
        """What does not fit, as seen from the value itself."""
        key = (id(value), id(schema))  # both live as long as the check
        found = self._tries.get(key)
        if found is None:
            found = list(islice(self.found(value, schema, ()), MOST_PROBLEMS))
            if isinstance(value, dict | list):
                self._tries[key] = found
        return found

    def found(self, value: Any, schema: Any, steps: tuple[Step, ...]) -> Iterator[Problem]:
        """What does not fit, one by one."""
        if not isinstance(schema, Mapping):
            if schema is False:
                yield Problem(steps, "nothing here", kind_of(value))
            return
        schema = cast("Mapping[str, Any]", schema)
        if "$ref" in schema:
            yield from self.found(value, self._looked.references[schema["$ref"]], steps)
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
        if pattern is not None and self._patterns[pattern].search(value) is None:
            return schema_words({"type": "string", **schema})
        return None

    def _combined(
        self, value: Any, schema: Mapping[str, Any], steps: tuple[Step, ...]
    ) -> Iterator[Problem]:
        for each in schema.get("allOf", ()):
            yield from self.found(value, each, steps)
        for word in ("anyOf", "oneOf"):
            if word not in schema:
                continue
            tries = [self._tried(value, each) for each in schema[word]]
            fitting = sum(not each for each in tries)
            if not fitting:
                nearest = min(tries, key=_closeness)
                yield from [attrs.evolve(each, steps=(*steps, *each.steps)) for each in nearest]
            elif word == "oneOf" and fitting > 1:
                yield Problem(steps, "value that fits only one of several", kind_of(value))
        if "not" in schema and not self._tried(value, schema["not"]):
            yield Problem(steps, "value that does not fit what is excluded", kind_of(value))
        if "if" in schema:
            branch = "else" if self._tried(value, schema["if"]) else "then"
            yield from self.found(value, schema.get(branch, True), steps)

    def _items(
        self, value: list[Any], schema: Mapping[str, Any], steps: tuple[Step, ...]
    ) -> Iterator[Problem]:
        fixed: Sequence[Any] = schema.get("prefixItems", ())
        rest = schema.get("items", True)
        for place, each in enumerate(value):
            inner = fixed[place] if place < len(fixed) else rest
            if inner is not True:
                yield from self.found(each, inner, (*steps, place))
        if "contains" in schema:
            count = sum(not self._tried(each, schema["contains"]) for each in value)
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
                yield from self.found(value, inner, steps)
        for name, each in value.items():
            step = (*steps, name if name in properties else Key(name))
            yield from self._property(name, each, schema, step)

    def _property(
        self, name: str, value: Any, schema: Mapping[str, Any], steps: tuple[Step, ...]
    ) -> Iterator[Problem]:
        properties: Mapping[str, Any] = schema.get("properties", {})
        patterns: Mapping[str, Any] = schema.get("patternProperties", {})
        if "propertyNames" in schema and self._tried(name, schema["propertyNames"]):
            yield Problem(steps, "another name of the property", "string")
        inner = [properties[name]] if name in properties else []
        inner += [each for text, each in patterns.items() if self._patterns[text].search(name)]
        if not inner:
            inner = [schema.get("additionalProperties", True)]
            if inner == [False]:
                yield Problem(steps, "no such property", kind_of(value))
                return
        for each in inner:
            yield from self.found(value, each, steps)


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


_NUMBERS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "minimum": lambda value, bound: value >= bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
    "multipleOf": is_multiple,
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
