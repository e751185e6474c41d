"""Whether a JSON Schema is one, and says nothing that would have to be checked and is not."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, cast

from lamella._errors import ConfigurationError
from lamella._safe_patterns import SafePattern, compile_pattern
from lamella._schema_shapes import pointed
from lamella._typed_nodes import KINDS

_REFUSED: Final = (
    "$dynamicRef", "$recursiveRef", "dependencies", "unevaluatedItems", "unevaluatedProperties",
)  # fmt: skip
_SCHEMAS: Final = (
    "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then",
)  # fmt: skip
_LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED: Final = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")
_HINT: Final = "Take it out of the schema, or check the value after it came."
_KINDS_OF_WORDS: Final[Mapping[str, Any]] = {
    "$ref": str, "type": (str, list), "enum": (list, tuple), "properties": Mapping,
    "patternProperties": Mapping, "$defs": Mapping, "definitions": Mapping,
    "required": (list, tuple), "allOf": (list, tuple), "anyOf": (list, tuple),
    "oneOf": (list, tuple), "prefixItems": (list, tuple), "pattern": str,
    "dependentRequired": Mapping, "dependentSchemas": Mapping,
}  # fmt: skip
_MEASURES: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_NUMBERS: Final = (
    *_MEASURES, "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties",
    "minContains", "maxContains",
)  # fmt: skip


class Looked:
    """A look through a whole schema.

    Args:
        schema: A JSON Schema; an object.

    Attributes:
        patterns: Every pattern in it, ready to search with.
        references: What each reference in it stands for.

    Raises:
        ConfigurationError: If it is not valid, or says what is not checked; it names the place.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = schema
        self.patterns: dict[str, SafePattern] = {}
        self.references: dict[str, Mapping[str, Any]] = {}
        self._ended: set[int] = set()
        self._look(schema, "#", set())

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
        _look_at_numbers(schema, where)
        types: Any = schema.get("type", "null")
        for kind in cast("Any", types if isinstance(types, list) else [types]):
            if kind not in KINDS:
                msg = f"A JSON Schema has the type {kind!r} at {where}, which JSON does not have."
                raise ConfigurationError(msg, hint=f"The types are {', '.join(sorted(KINDS))}.")
        if "$ref" in schema:
            try:
                self.references[schema["$ref"]] = pointed(self._root, schema["$ref"])
            except (LookupError, ValueError):
                msg = f"A JSON Schema refers to {schema['$ref']!r} at {where}, which is not in it."
                hint = "Put what it refers to under '$defs', and refer to '#/$defs/<name>'."
                raise ConfigurationError(msg, hint=hint) from None
        for pattern in [schema.get("pattern"), *schema.get("patternProperties", ())]:
            if pattern is not None and pattern not in self.patterns:
                try:
                    self.patterns[pattern] = compile_pattern(pattern)
                except ConfigurationError as error:
                    msg = f"A JSON Schema has a pattern at {where}. {error.message}"
                    raise ConfigurationError(msg, hint=error.hint) from None


def _look_at_numbers(schema: Mapping[str, Any], where: str) -> None:
    for word in _NUMBERS:
        bound = schema.get(word, 1)
        is_count = word not in _MEASURES
        if isinstance(bound, bool) or not isinstance(bound, int if is_count else int | float):
            msg = f"A JSON Schema has {bound!r} as {word!r} at {where}, which has to be a number."
            hint = "Since draft 6, bounds and sizes are numbers; sizes are whole ones."
            raise ConfigurationError(msg, hint=hint)
    if schema.get("multipleOf", 1) <= 0:
        msg = f"A JSON Schema has {schema['multipleOf']!r} as 'multipleOf' at {where}."
        raise ConfigurationError(msg, hint="It has to be above 0.")
