"""A JSON Schema in the form that every provider with structured output can hold a model to.

The subset is what OpenAI's strict mode and Anthropic's structured output have in common
(platform.openai.com/docs/guides/structured-outputs, docs.claude.com "Structured outputs"): objects
with fixed properties that are all required, arrays of one kind, enums, `anyOf`, references, a few
formats. What they do not enforce (bounds, patterns, lengths, defaults) is put into the description,
where the model reads it, and is checked when the answer comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import msgspec

from lamella._schema_book import with_definitions
from lamella._schema_shapes import pointed, takes_null

FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
)
MOST_LEVELS: Final = 10
MOST_PROPERTIES: Final = 5_000
MOST_OPTIONS: Final = 1_000
MOST_CHARACTERS: Final = 120_000
"""OpenAI's limits, of 2025: levels of nesting, properties, values of enums, letters in names."""

_SAID: Final = (
    ("minimum", "at least {}"), ("exclusiveMinimum", "above {}"), ("maximum", "at most {}"),
    ("exclusiveMaximum", "below {}"), ("multipleOf", "a multiple of {}"),
    ("minLength", "at least {} characters"), ("maxLength", "at most {} characters"),
    ("pattern", "matches {}"), ("minItems", "at least {} items"), ("maxItems", "at most {} items"),
    ("minProperties", "at least {} properties"), ("maxProperties", "at most {} properties"),
    ("contentEncoding", "in {}"), ("default", "{} by default"), ("examples", "for example {}"),
)  # fmt: skip
_COMBINED: Final = ("not", "if", "then", "else", "dependentRequired", "dependentSchemas",
                    "contains", "patternProperties", "unevaluatedProperties", "unevaluatedItems",
                    "$dynamicRef", "additionalItems")  # fmt: skip


class NotStrict(Exception):
    """Raised where a schema says what the strict form cannot."""


def strict_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The strict form of a schema whose root is an object.

    Raises:
        NotStrict: If it cannot be said; with the place and the reason.
    """
    try:
        return _Strict(schema).whole()
    except RecursionError:
        msg = "it is nested too deeply"
        raise NotStrict(msg) from None


class _Strict:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._definitions: dict[str, Any] = {}
        self._waiting: list[str] = []

    def whole(self) -> dict[str, Any]:
        found = self._schema({key: each for key, each in self._root.items() if key != "$defs"}, "$")
        while self._waiting:
            name = self._waiting.pop()
            if name not in self._definitions:
                definition = pointed(self._root, f"#/$defs/{name}")
                self._definitions[name] = self._schema(definition, f"${name}")
        if "$ref" in found:  # a root that refers to itself
            found = dict(self._definitions[found["$ref"].removeprefix("#/$defs/")])
        if found.get("type") != "object":
            msg = "$: its root is no object"
            raise NotStrict(msg)
        order = list(self._root.get("$defs", {}))
        known = sorted(self._definitions.items(), key=lambda each: order.index(each[0]))
        whole = with_definitions(found, dict(known))
        _check_size(whole)
        return whole

    def _schema(self, schema: Any, where: str) -> dict[str, Any]:
        if not isinstance(schema, Mapping) or not schema:
            msg = f"{where}: any value fits"
            raise NotStrict(msg)
        schema = dict(cast("Mapping[str, Any]", schema))
        for word in _COMBINED:
            if word in schema:
                msg = f"{where}: {word!r} has no strict form"
                raise NotStrict(msg)
        if "allOf" in schema:
            schema = self._merged(schema, where)
        if "$ref" in schema:
            return self._reference(schema, where)
        found = self._body(schema, where)
        return _described(schema, found)

    def _reference(self, schema: dict[str, Any], where: str) -> dict[str, Any]:
        reference = schema.pop("$ref")
        name = reference.removeprefix("#/$defs/")
        said = _said(schema)
        if reference == "#" or "/" in name or not reference.startswith("#/$defs/"):
            msg = f"{where}: it refers to {reference!r}, and not to a definition in '$defs'"
            raise NotStrict(msg)
        self._waiting.append(name)
        plain = {"$ref": reference}
        return {"description": said, "anyOf": [plain]} if said else plain

    def _body(self, schema: dict[str, Any], where: str) -> dict[str, Any]:
        if "const" in schema:
            return _options([schema["const"]], where)
        if "enum" in schema:
            return _options(schema["enum"], where)
        options = schema.get("anyOf") or schema.get("oneOf")
        if options:
            if "properties" in schema:
                msg = f"{where}: properties stand beside alternatives"
                raise NotStrict(msg)
            return {"anyOf": [self._schema(each, where) for each in options]}
        kind = schema.get("type") or _guessed(schema)
        if isinstance(kind, list):
            parts = [{**_for_kind(schema, each), "type": each} for each in cast("list[str]", kind)]
            return {"anyOf": [self._schema(each, where) for each in parts]}
        match kind:
            case "object":
                return self._object(schema, where)
            case "array":
                return self._array(schema, where)
            case "string":
                given = schema.get("format")
                return {"type": kind, "format": given} if given in FORMATS else {"type": kind}
            case "integer" | "number" | "boolean" | "null":
                return {"type": kind}
            case _:
                msg = f"{where}: any value fits"
                raise NotStrict(msg)

    def _object(self, schema: dict[str, Any], where: str) -> dict[str, Any]:
        properties = cast("Mapping[str, Any]", schema.get("properties") or {})
        if schema.get("additionalProperties") or (
            "properties" not in schema and "additionalProperties" not in schema
        ):
            msg = f"{where}: its properties may have any names"
            raise NotStrict(msg)
        required = schema.get("required", ())
        if strange := [name for name in required if name not in properties]:
            msg = f"{where}: {strange[0]!r} is required and not described"
            raise NotStrict(msg)
        found: dict[str, Any] = {}
        for name, inner in properties.items():
            each = self._schema(inner, f"{where}.{name}")
            if name not in required and not takes_null(inner, self._root):
                each = _or_null(each)
            found[name] = each
        return {
            "type": "object",
            "properties": found,
            "required": list(found),
            "additionalProperties": False,
        }

    def _array(self, schema: dict[str, Any], where: str) -> dict[str, Any]:
        fixed = schema.get("prefixItems")
        items = schema.get("items")
        if fixed:
            each = {"anyOf": list(fixed)} if len(fixed) > 1 else fixed[0]
            if all(one == fixed[0] for one in fixed):
                each = fixed[0]
            return {"type": "array", "items": self._schema(each, f"{where}[*]")}
        if items is False:
            items = {"type": "null"}  # no item ever; the description says 0 items
        return {"type": "array", "items": self._schema(items, f"{where}[*]")}

    def _merged(self, schema: dict[str, Any], where: str) -> dict[str, Any]:
        """What `allOf` says together with what stands beside it, where that can be put together."""
        merged = {key: each for key, each in schema.items() if key != "allOf"}
        for each in schema["allOf"]:
            given = cast("Mapping[str, Any]", each)
            if "$ref" in given and (len(schema["allOf"]) > 1 or "properties" in merged):
                given = {**pointed(self._root, given["$ref"]), **_without(given, "$ref")}
            for word, value in given.items():
                if word == "properties":
                    merged[word] = {**merged.get(word, {}), **value}
                elif word == "required":
                    merged[word] = list(dict.fromkeys([*merged.get(word, ()), *value]))
                elif word not in merged or word in {"title", "description"}:
                    merged.setdefault(word, value)
                elif merged[word] != value:
                    msg = f"{where}: 'allOf' says two things of {word!r}"
                    raise NotStrict(msg)
        return merged


def _described(schema: Mapping[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    said = _said({**schema, "format": None} if "format" in found else schema)
    return {"description": said, **found} if said else found


def _said(schema: Mapping[str, Any]) -> str:
    """The description, with what the strict form cannot say."""
    words = [
        text.format(_json(schema[word]))
        for word, text in _SAID
        if word in schema and not (word == "default" and schema[word] is None)
    ]
    if schema.get("minItems") is not None and schema.get("minItems") == schema.get("maxItems"):
        words = [each for each in words if not each.endswith(" items")]
        words.append(f"exactly {schema['minItems']} items")
    if schema.get("prefixItems"):
        kinds = [str(each.get("type", "value")) for each in schema["prefixItems"]]
        words.append(f"in this order: {', '.join(kinds)}")
    if schema.get("uniqueItems"):
        words.append("all different")
    if schema.get("format"):
        words.append(f"in the format {schema['format']}")
    description = str(schema.get("description") or "").strip()
    more = f"({'; '.join(words)})" if words else ""
    return " ".join(each for each in (description, more) if each)


def _json(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value:
        return ", ".join(_json(each) for each in cast("Any", value))
    return msgspec.json.encode(value).decode()


def _options(values: Iterable[Any], where: str) -> dict[str, Any]:
    kinds: dict[str, list[Any]] = {}
    for value in values:
        if isinstance(value, bool):
            kind = "boolean"
        elif value is None:
            kind = "null"
        elif isinstance(value, str | int | float):
            kind = {str: "string", int: "integer", float: "number"}[type(value)]
        else:
            msg = f"{where}: a constant that is no scalar"
            raise NotStrict(msg)
        kinds.setdefault(kind, []).append(value)
    parts = [
        {"type": kind} if kind == "null" else {"type": kind, "enum": options}
        for kind, options in kinds.items()
    ]
    return parts[0] if len(parts) == 1 else {"anyOf": parts}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, or null: which stands for the property's being left out."""
    description = schema.get("description", "")
    inner = {key: each for key, each in schema.items() if key != "description"}
    options = inner["anyOf"] if set(inner) == {"anyOf"} else [inner]
    words = f"{description} (null to leave it out)".strip()
    return {"description": words, "anyOf": [*options, {"type": "null"}]}


def _guessed(schema: Mapping[str, Any]) -> str | None:
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema or "prefixItems" in schema else None


def _for_kind(schema: Mapping[str, Any], kind: str) -> dict[str, Any]:
    if kind == "null":
        return {}
    return {key: each for key, each in schema.items() if key not in {"description", "default"}}


def _without(given: Mapping[str, Any], word: str) -> dict[str, Any]:
    return {key: each for key, each in given.items() if key != word}


def _check_size(schema: Mapping[str, Any]) -> None:
    """Refuse what is larger than providers take.

    Raises:
        NotStrict: If it is.
    """
    properties = options = letters = deepest = 0
    waiting: list[tuple[Any, int]] = [(schema, 0)]
    while waiting:
        each, level = waiting.pop()
        if isinstance(each, Mapping):
            given = cast("Mapping[str, Any]", each)
            named = given.get("properties")
            if isinstance(named, Mapping) and given.get("type") == "object":
                level += 1
                properties += len(cast("Any", named))
                letters += sum(map(len, cast("Mapping[str, Any]", named)))
            values = given.get("enum")
            if isinstance(values, list):
                options += len(cast("Any", values))
                letters += sum(len(str(value)) for value in cast("Any", values))
            deepest = max(deepest, level)
            waiting.extend((inner, level) for inner in given.values())
        elif isinstance(each, list):
            waiting.extend((inner, level) for inner in cast("Any", each))
    for count, most, what in (
        (deepest, MOST_LEVELS, "levels of objects"),
        (properties, MOST_PROPERTIES, "properties"),
        (options, MOST_OPTIONS, "values of enums"),
        (letters, MOST_CHARACTERS, "characters in names and enums"),
    ):
        if count > most:
            msg = f"$: it has {count} {what}, and providers take {most}"
            raise NotStrict(msg)
