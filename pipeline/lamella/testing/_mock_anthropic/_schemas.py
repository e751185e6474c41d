"""JSON Schemas as Anthropic's API takes them for structured output and strict tools.

Only a part of JSON Schema can be held to; the rest is refused. Which part is what the official SDK
leaves in a schema when it prepares one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

from lamella.testing._mock_anthropic._fields import mapping, wrong
from lamella.testing._mock_openai._requests import JSON

FORMATS: Final = frozenset(
    {
        "date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6",
        "uuid",
    }
)  # fmt: skip
_UNSUPPORTED: Final = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength",
    "maxLength", "maxItems", "uniqueItems", "contains", "minProperties", "maxProperties",
    "patternProperties", "propertyNames", "not", "if", "dependentRequired", "dependentSchemas",
    "prefixItems",
)  # fmt: skip
_SEVERAL: Final = ("anyOf", "oneOf", "allOf")
_NAMED: Final = ("properties", "$defs", "definitions")


def check_schema(given: Any, where: str) -> None:
    """Refuse a schema that answers cannot be held to.

    Raises:
        Rejection: If a provider would not accept it.
    """
    schema = mapping(given, where)
    kind = schema.get("type")
    if kind == "object" and schema.get("additionalProperties") is not False:
        message = "For 'object' type, 'additionalProperties' must be explicitly set to false"
        raise wrong(where, message)
    for name in _UNSUPPORTED:
        if name in schema:
            raise wrong(where, f"For '{kind}' type, property '{name}' is not supported")
    if schema.get("minItems") not in {None, 0, 1}:
        message = "For 'array' type, 'minItems' values other than 0 or 1 are not supported"
        raise wrong(where, message)
    if "format" in schema and kind == "string" and schema["format"] not in FORMATS:
        raise wrong(where, f"For 'string' type, format '{schema['format']}' is not supported")
    reference = schema.get("$ref")
    if reference is not None and not str(reference).startswith("#"):
        raise wrong(where, f"External $ref '{reference}' is not supported")
    for inner in _inner(schema):
        check_schema(inner, where)


def _inner(schema: JSON) -> Iterator[Any]:
    for name in _NAMED:
        if isinstance(schema.get(name), dict):
            yield from cast("JSON", schema[name]).values()
    for name in _SEVERAL:
        if isinstance(schema.get(name), list):
            yield from cast("list[Any]", schema[name])
    if isinstance(schema.get("items"), dict):
        yield schema["items"]
