"""Values that conform to a JSON Schema, always the same ones for the same seed.

The simple types with their bounds, formats, enums, arrays, objects, `anyOf`, `oneOf`, `allOf` and
references are held to. A `pattern` is held to where one of a few common texts fits it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import attrs

from lamella._mock_rejections import Rejection
from lamella._mock_tokens import Draw

_DEPTH = 6
"""How deep a recursive schema is followed before everything optional is left out."""

_FORMATS: Mapping[str, str] = {
    "date": "2025-01-01",
    "date-time": "2025-01-01T12:00:00Z",
    "duration": "PT1H",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "time": "12:00:00Z",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}

_LIKELY = (*_FORMATS.values(), "", "a", "A", "1", "12", "123", "1234", "12345", "abc", "ABC", "a1",
           "a-b", "a_b", "+10000000000", "2025", "12:00", "1.0", "1.0.0", "#000000")  # fmt: skip


def sample(schema: Mapping[str, Any], draw: Draw, hints: str = "") -> Any:
    """A value that conforms to `schema`.

    Args:
        schema: A JSON Schema; `{}` takes an object.
        draw: Where it is free to choose.
        hints: A text in which `name=value` or `name: value` gives the value of a simple property.

    Raises:
        Rejection: If a keyword of the schema has a value that it cannot have.
    """
    try:
        return _Sampler(schema, draw, hints).value(schema, "", 0)
    except (TypeError, ValueError) as error:
        message = f"The JSON Schema is not valid: {error}"
        raise Rejection(400, "invalid_json_schema", message) from error


def _object(given: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", given) if isinstance(given, Mapping) else {}


def _list(given: Any) -> Sequence[Any]:
    return cast("Sequence[Any]", given) if isinstance(given, list | tuple) else ()


@attrs.frozen
class _Sampler:
    root: Mapping[str, Any]
    draw: Draw
    hints: str

    def value(self, given: Any, path: str, depth: int) -> Any:
        schema = self._resolved(_object(given), depth)
        for fixed in ("const", "default"):
            if fixed in schema:
                return schema[fixed]
        for listed in ("enum", "examples"):
            if _list(schema.get(listed)):
                return self.draw.pick(path, _list(schema[listed]))
        kind = _kind(schema, depth)
        match kind:
            case "object":
                return self._object(schema, path, depth)
            case "array":
                return self._array(schema, path, depth)
            case "null":
                return None
            case _:
                return self._simple(schema, path, kind)

    def _simple(self, schema: Mapping[str, Any], path: str, kind: str) -> str | float | bool:
        hint = self._hint(path)
        if kind == "boolean":
            return hint.lower() == "true" if hint else self.draw.number(path, 2) == 1
        if kind not in {"integer", "number"}:
            return self._text(schema, path, hint)
        low, high = _bounds(schema, whole=kind == "integer")
        number = _number(hint, whole=kind == "integer")
        if number is not None and low <= number <= high:
            return number
        return _multiple(schema, low + self.draw.number(path, int(high - low) + 1), low)

    def _resolved(self, schema: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
        """The schema without references and alternatives."""
        for _ in range(20):
            if isinstance(schema.get("$ref"), str):
                rest = {key: value for key, value in schema.items() if key != "$ref"}
                schema = {**_pointed(self.root, schema["$ref"]), **rest}
            elif _list(schema.get("allOf")):
                schema = self._merged(schema, depth)
            elif options := _list(schema.get("anyOf")) or _list(schema.get("oneOf")):
                simple = [item for item in options if _object(item).get("type") == "null"]
                full = [item for item in options if item not in simple]
                chosen = simple if depth >= _DEPTH and simple else (full or simple)
                rest = {k: v for k, v in schema.items() if k not in {"anyOf", "oneOf"}}
                schema = {**rest, **_object(chosen[0])}
            else:
                break
        return schema

    def _merged(self, schema: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
        merged: dict[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
        for each in _list(schema["allOf"]):
            item = self._resolved(_object(each), depth)
            properties = {**_object(merged.get("properties")), **_object(item.get("properties"))}
            required = [*_list(merged.get("required")), *_list(item.get("required"))]
            merged.update(item)
            if properties:
                merged.update(properties=properties, required=required)
        return merged

    def _object(self, schema: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
        properties = _object(schema.get("properties"))
        required = _list(schema.get("required"))
        return {
            name: self.value(inner, f"{path}/{name}", depth + 1)
            for name, inner in properties.items()
            if depth < _DEPTH or name in required
        }

    def _array(self, schema: Mapping[str, Any], path: str, depth: int) -> list[Any]:
        fixed = _list(schema.get("prefixItems"))
        least = int(schema.get("minItems", 0))
        most = int(schema.get("maxItems", max(least, 2)))
        length = max(least, len(fixed), 0 if depth >= _DEPTH else min(2, most))
        rest = schema.get("items", {})
        return [
            self.value(fixed[place] if place < len(fixed) else rest, f"{path}/{place}", depth + 1)
            for place in range(length)
        ]

    def _text(self, schema: Mapping[str, Any], path: str, hint: str) -> str:
        least = int(schema.get("minLength", 0))
        most = int(schema.get("maxLength", max(least, 1_000)))
        names = [step for step in path.split("/") if step and not step.isdecimal()]
        text = _FORMATS.get(str(schema.get("format")), "")
        text = text or hint or f"example {names[-1] if names else 'text'}".replace("_", " ")
        pattern = schema.get("pattern")
        if isinstance(pattern, str):
            text = _fitting(pattern, text)
        return text.ljust(least, ".")[:most]

    def _hint(self, path: str) -> str:
        name = path.rpartition("/")[2]
        if not name or not self.hints:
            return ""
        pattern = rf"(?<!\w){re.escape(name)}\s*[=:]\s*(?:\"([^\"]*)\"|([^\s,;)]+))"
        found = re.search(pattern, self.hints)
        return (found[1] or found[2] or "").rstrip(".?!") if found else ""


def _kind(schema: Mapping[str, Any], depth: int) -> str:
    given = schema.get("type")
    if isinstance(given, str):
        return given
    kinds = [str(kind) for kind in _list(given)]
    if kinds:
        if depth >= _DEPTH and "null" in kinds:
            return "null"
        return next((kind for kind in kinds if kind != "null"), "null")
    if "items" in schema or "prefixItems" in schema:
        return "array"
    return "object" if "properties" in schema or not schema else "string"


def _pointed(root: Mapping[str, Any], pointer: str) -> Mapping[str, Any]:
    """What a reference inside the schema (`#/$defs/Name`) stands for; `{}` if it is elsewhere."""
    found: Any = root
    for step in pointer.removeprefix("#").split("/")[1:]:
        found = _object(found).get(step.replace("~1", "/").replace("~0", "~"))
    return _object(found)


def _bounds(schema: Mapping[str, Any], *, whole: bool) -> tuple[float, float]:
    step = 1 if whole else 0.5
    low = schema.get("minimum")
    high = schema.get("maximum")
    if isinstance(schema.get("exclusiveMinimum"), int | float):
        low = schema["exclusiveMinimum"] + step
    if isinstance(schema.get("exclusiveMaximum"), int | float):
        high = schema["exclusiveMaximum"] - step
    if low is None:
        low = 1 if high is None else min(1, high)
    if whole:
        low = math.ceil(low)
    return low, max(low, low + 99 if high is None else high)


def _multiple(schema: Mapping[str, Any], number: float, low: float) -> float:
    base = schema.get("multipleOf")
    if not isinstance(base, int | float) or base <= 0:
        return number
    return max(number // base, math.ceil(low / base)) * base


def _number(text: str, *, whole: bool) -> float | None:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        return None


def _fitting(pattern: str, text: str) -> str:
    try:
        fits = re.compile(pattern)
    except re.error:
        return text
    return next((each for each in (text, *_LIKELY) if fits.search(each)), text)
