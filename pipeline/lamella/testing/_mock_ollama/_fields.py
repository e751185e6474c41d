"""Fields of a body as Ollama's server reads them: null is nothing, and another type an error."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as BadBase64
from math import inf
from typing import Any, cast

from lamella._mock_rejections import Rejection
from lamella.testing._mock_openai._requests import JSON

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "bool": (bool,),
    "int": (int,),
    "array": (list,),
    "object": (dict,),
}
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SPAN = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|ms|s|m|h))+")
_SPAN_PIECE = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")
_PICTURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
)


def field(holder: JSON, name: str, kind: str, where: str) -> Any:
    """What a field says; None if it is absent or null.

    Args:
        holder: The object that has it.
        name: Its name.
        kind: `string`, `bool`, `int`, `array` or `object`.
        where: What the holder is called in errors.

    Raises:
        Rejection: If it is of another type.
    """
    value = holder.get(name)
    if value is not None:
        typed(value, kind, f"{where}.{name}")
    return value


def typed(value: Any, kind: str, where: str) -> None:
    """Refuse a value of another type.

    Raises:
        Rejection: If it is one.
    """
    fits = isinstance(value, _TYPES[kind]) and (kind == "bool" or not isinstance(value, bool))
    if not fits:
        message = f"json: cannot unmarshal {json_kind(value)} into Go struct field {where}"
        raise Rejection(400, None, f"{message} of type {kind}", where)


def text(holder: JSON, name: str, where: str) -> str:
    """A field that is text, empty if it is absent.

    Raises:
        Rejection: If it is something else.
    """
    return cast("str", field(holder, name, "string", where) or "")


def listed(holder: JSON, name: str, where: str) -> list[Any]:
    """A field that is a list, empty if it is absent.

    Raises:
        Rejection: If it is something else.
    """
    return cast("list[Any]", field(holder, name, "array", where) or [])


def fields(holder: JSON, name: str, where: str) -> JSON:
    """A field that is an object, empty if it is absent.

    Raises:
        Rejection: If it is something else.
    """
    return cast("JSON", field(holder, name, "object", where) or {})


def objects(holder: JSON, name: str, where: str) -> list[JSON]:
    """A field that is a list of objects, empty if it is absent.

    Raises:
        Rejection: If it is something else.
    """
    found = listed(holder, name, where)
    for item in found:
        typed(item, "object", f"{where}.{name}")
    return found


def json_kind(value: Any) -> str:
    """What a value is called in JSON."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object" if isinstance(value, dict) else "null"


def span(value: Any) -> float | None:
    """The seconds of a duration such as `300`, `"5m"` or `"1h30m"`; infinite below 0.

    Raises:
        Rejection: If it is no duration.
    """
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return inf if value < 0 else float(value)
    if not isinstance(value, str):
        raise Rejection(400, None, f"Unsupported type: '{json_kind(value)}'", "keep_alive")
    if value in {"0", "+0", "-0"}:
        return 0.0
    if not _SPAN.fullmatch(value):
        lacks = re.fullmatch(r"[+-]?(?:\d+\.?\d*|\.\d+)", value)
        problem = "missing unit in" if lacks else "invalid"
        raise Rejection(400, None, f'time: {problem} duration "{value}"', "keep_alive")
    if value.startswith("-"):
        return inf
    return sum(float(number) * _UNITS[unit] for number, unit in _SPAN_PIECE.findall(value))


def picture(given: Any, where: str) -> tuple[bytes, str]:
    """The bytes of a picture in base64, and its media type.

    Raises:
        Rejection: If it is no base64, or no picture.
    """
    typed(given, "string", where)
    try:
        data = b64decode(given, validate=True)
    except (BadBase64, ValueError):
        message = "illegal base64 data: a picture is standard base64 with its padding"
        raise Rejection(400, None, message, where) from None
    for start, kind in _PICTURES:
        if data.startswith(start):
            return data, kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return data, "image/webp"
    raise Rejection(400, None, "Failed to load image or audio file", where)
