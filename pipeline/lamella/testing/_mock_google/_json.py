"""Google's requests read as protocol buffers in JSON are: strictly, under either spelling of names.

The Gemini API and Vertex AI refuse a field that they do not know, take `max_output_tokens` for
`maxOutputTokens`, numbers as texts, and base64 in both alphabets. Enumerations are read whatever
their case.
"""

from __future__ import annotations

import math
import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Mapping, Sequence
from typing import Any, cast

import attrs

from lamella._mock_rejections import Rejection
from lamella.testing._mock_google._fields import ENUMS, MESSAGES, STUDIO_ONLY, VERTEX_ONLY
from lamella.testing._mock_openai._requests import JSON

_DEPTH = 100


def read_message(given: Any, message: str, *, vertex: bool = False) -> JSON:
    """A request with its fields checked, named in camel case, and those that are null left out.

    Args:
        given: The body, read as JSON.
        message: What it is to be: a name in `MESSAGES`.
        vertex: Whether the request came to Vertex AI.

    Raises:
        Rejection: If a field is unknown, or is not of its kind.
    """
    return _Reader(vertex).message(given, message, "", 0)


def decoded(data: str) -> bytes:
    """Bytes from base64 in either alphabet, with or without padding.

    Raises:
        ValueError: If it is not base64.
    """
    plain = data.translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        return b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except NotBase64 as error:
        raise ValueError("not base64") from error


@attrs.frozen
class _Reader:
    vertex: bool

    def message(self, given: Any, message: str, path: str, depth: int) -> JSON:
        if not isinstance(given, dict) or depth > _DEPTH:
            raise _invalid(path, message, given)
        fields, found = MESSAGES[message], cast("JSON", {})
        for sent, value in cast("JSON", given).items():
            name = _camel(sent)
            kind = fields.get(name)
            if kind is None or (message, name) in (STUDIO_ONLY if self.vertex else VERTEX_ONLY):
                raise _unknown(sent, path)
            if name in found:
                raise _invalid(path, message, f"{sent!r}, which is set twice")
            if value is not None:
                found[name] = self.value(value, kind, _below(path, sent), depth + 1)
        return found

    def value(self, given: Any, kind: str, path: str, depth: int) -> Any:
        if kind.endswith("[]"):
            if not isinstance(given, list):
                raise _invalid(path, "a list", given)
            inner = kind.removesuffix("[]")
            return [
                self.value(each, inner, f"{path}[{n}]", depth)
                for n, each in enumerate(as_list(given))
            ]
        if kind.startswith("map:"):
            if not isinstance(given, dict):
                raise _invalid(path, "an object", given)
            pairs = cast("JSON", given).items()
            inner = kind.removeprefix("map:")
            return {key: self.value(each, inner, _below(path, key), depth) for key, each in pairs}
        if kind[0].isupper():
            return self.message(given, kind, path, depth)
        return _scalar(given, kind, path)


def _scalar(given: Any, kind: str, path: str) -> Any:
    if kind == "any" or (kind == "object" and isinstance(given, dict)):
        return cast("Any", given)
    if kind in {"string", "bool"} and isinstance(given, str if kind == "string" else bool):
        return given
    if kind in {"int", "number"}:
        return _number(given, kind, path)
    if kind == "bytes" and isinstance(given, str):
        try:
            decoded(given)
        except ValueError:
            raise Rejection(400, None, f"Base64 decoding failed at '{path}'.", path) from None
        return given
    if kind.startswith("enum:") and isinstance(given, str):
        word = given.upper()
        if word in ENUMS[kind.removeprefix("enum:")]:
            return word
    raise _invalid(path, kind.removeprefix("enum:"), given)


def _number(given: Any, kind: str, path: str) -> float:
    try:
        number = math.nan if isinstance(given, bool) else float(given)
        if kind == "number" and math.isfinite(number):
            return number if isinstance(given, str) else given
        if number.is_integer():
            return int(number)
    except (TypeError, ValueError):
        pass
    except OverflowError:
        raise _invalid(path, kind, "a number out of range") from None
    raise _invalid(path, kind, given)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in rest) if head else name


def snake(name: str) -> str:
    """A field's name as the API's own errors spell it."""
    return re.sub(r"(?<=[a-z])([A-Z])", lambda found: f"_{found[1].lower()}", name)


def _below(path: str, name: str) -> str:
    return f"{path}.{snake(name)}" if path else snake(name)


def _unknown(name: str, path: str) -> Rejection:
    where = f" at '{path}'" if path else ""
    message = f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.'
    return Rejection(400, None, message, path or name)


def _invalid(path: str, kind: str, given: Any) -> Rejection:
    if not path:
        return Rejection(400, None, "Invalid JSON payload received. The body is not an object.")
    shown = given if isinstance(given, str | int | float) else type(given).__name__
    return Rejection(400, None, f"Invalid value at '{path}' ({kind}), {str(shown)[:80]!r}", path)


def as_list(given: Any) -> list[Any]:
    """A JSON array, or an empty one."""
    return list(cast("Sequence[Any]", given)) if isinstance(given, list) else []


def as_object(given: Any) -> JSON:
    """A JSON object, or an empty one."""
    return dict(cast("Mapping[str, Any]", given)) if isinstance(given, Mapping) else {}
