"""Rows and results as the columns of a table: flat, with the same names and types in every row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import msgspec

from lamella._bulk_rows import FLAG, KNOWN, NUMBER, TEXT, WHOLE

COLUMNS: Final[Mapping[str, type]] = {
    "index": int,
    "id": str,
    "text": str,
    "refusal": str,
    "tool_calls": str,
    "finish_reason": str,
    "model": str,
    "served_by": str,
    "system_fingerprint": str,
    "input_tokens": int,
    "output_tokens": int,
    "usage": str,
    "cost": str,
    "currency": str,
    "attempts": int,
    "seconds": float,
    "error_type": str,
    "error_code": str,
    "error_status": int,
    "error_message": str,
    "retryable": bool,
}
"""The columns of results, with the types of their values; any may be null. `tool_calls` and `usage`
are JSON, and `cost` is a decimal, exactly."""

_PLAIN: Final = (
    "text", "refusal", "finish_reason", "model", "served_by", "system_fingerprint", "attempts",
    "seconds",
)  # fmt: skip
_NOTHING: Final[Mapping[str, Any]] = {}


def flat(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result, as its line says it, as the values of the columns."""
    usage: Mapping[str, Any] = result["usage"] or _NOTHING
    cost: Mapping[str, Any] = result["cost"] or _NOTHING
    error: Mapping[str, Any] = result["error"] or _NOTHING
    given, calls = result["id"], result["tool_calls"]
    found = dict.fromkeys(COLUMNS)
    found |= {name: result[name] for name in _PLAIN}
    found |= {
        "index": result["index"],
        "id": None if given is None else str(given),
        "tool_calls": _json(calls) if calls else None,
        "input_tokens": usage.get("input_tokens"),
        "output_tokens": usage.get("output_tokens"),
        "usage": _json(usage) if usage else None,
        "cost": cost.get("amount"),
        "currency": cost.get("currency"),
        "error_type": error.get("type"),
        "error_code": error.get("code"),
        "error_status": error.get("status"),
        "error_message": error.get("message"),
        "retryable": error.get("retryable"),
    }
    return found


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def from_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a table as a row of `lamella map`.

    What is empty is not said. Numbers, flags and nested JSON may be text, as they are in CSV; what
    cannot be read as what it is to be stays as it is, and becomes a row that says so.
    """
    found: dict[str, Any] = {}
    for name, value in row.items():
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            continue
        found[name] = _READ[name](value) if name in _READ else value
    return found


def _as_json(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return msgspec.json.decode(value)
        except (ValueError, RecursionError):
            return value
    return plain(value)


def plain(value: Any) -> Any:
    """Nested values as JSON has them: the names of a structure that are null are not said."""
    given: Any = value
    if isinstance(value, Mapping):
        return {str(key): plain(given[key]) for key in given if given[key] is not None}
    if hasattr(given, "tolist"):  # an array, as some readers of tables give
        given = given.tolist()
    return [plain(item) for item in given] if type(given) in {list, tuple} else given


def _as_map(value: Any) -> Any:
    """A column of maps gives pairs."""
    found = _as_json(value)
    if not isinstance(found, list):
        return found
    pairs: Any = found  # pyright: ignore[reportUnknownVariableType]
    if pairs and all(isinstance(pair, list) and len(cast("Any", pair)) == 2 for pair in pairs):
        return {str(key): item for key, item in pairs}
    return pairs


def _as_words(value: Any) -> Any:
    """Text, or a list of texts as JSON."""
    return _as_json(value) if not isinstance(value, str) or value.startswith("[") else value


def _as_choice(value: Any) -> Any:
    return _as_json(value) if not isinstance(value, str) or value.startswith("{") else value


def _as_number(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _as_whole(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return value
    if isinstance(value, float) and value.is_integer():  # a column with nulls
        return int(value)
    return value


def _as_flag(value: Any) -> Any:
    words = {"true": True, "false": False}
    return words.get(value.strip().lower(), value) if isinstance(value, str) else value


def _as_id(value: Any) -> Any:
    return _as_whole(value) if isinstance(value, float) else value


def _reader(name: str, check: Any) -> Callable[[Any], Any] | None:
    special = {"id": _as_id, "stop": _as_words, "tool_choice": _as_choice, "tags": _as_map}
    if name in special:
        return special[name]
    plainly = {NUMBER: _as_number, WHOLE: _as_whole, FLAG: _as_flag, TEXT: None}
    return plainly.get(check, _as_json)


_READ: Final[Mapping[str, Callable[[Any], Any]]] = {
    name: read for name, check in KNOWN.items() if (read := _reader(name, check)) is not None
}
