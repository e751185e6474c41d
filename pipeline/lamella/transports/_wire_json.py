"""Provider JSON, read so that no decoder's own error ever gets out."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import msgspec

from lamella._errors import LamellaError, ProtocolError
from lamella._nothing import NOTHING
from lamella._usage import Usage
from lamella.transports._http_errors import in_band_error

NOT_THAT = (msgspec.MsgspecError, ValueError, RecursionError)
"""What msgspec raises for bytes that are not of the expected type, or no JSON at all."""

_DECODER = msgspec.json.Decoder()
_MALFORMED = object()


def json_object(data: bytes, what: str, *, provider: str) -> Mapping[str, Any]:
    r"""A JSON object out of an answer.

    A lone half of a surrogate pair (`\ud800`) is valid JSON but no text, and cannot be written
    anywhere; it becomes U+FFFD.

    Args:
        data: The bytes.
        what: What they are, for the message: `an answer`, `a stream event`.
        provider: Who sent them.

    Raises:
        ProtocolError: If they are HTML, malformed, not UTF-8, or no object.
    """
    try:
        value = _DECODER.decode(data)
    except NOT_THAT:
        value = _MALFORMED
    if value is _MALFORMED:
        value = _leniently(data, what, provider)
    if is_list(value) and len(value) == 1:
        value = value[0]  # Google's compatible endpoint wraps its errors
    if not is_object(value):
        raise nonsense(what, f"a JSON {_kind(value)} instead of an object", provider=provider)
    return value


def nonsense(
    what: str, found: str, *, provider: str, usage: Usage | None = None, hint: str | None = None
) -> ProtocolError:
    """The error for bytes that make no sense. `found` must quote nothing of the answer."""
    return ProtocolError(
        f"{provider} sent {found} as {what}.", provider=provider, usage=usage, hint=hint
    )


def raise_in_band(given: Mapping[str, Any], *, provider: str, event: str | None = None) -> None:
    """Raise the provider's own error where a body or a stream event is one.

    Known shapes: `{"error": {...}}`, `{"error": "text"}`, `{"object": "error", ...}`, an event of
    type `error`, and a bare `{"message": ..., ...}` without any answer beside it.
    """
    error = given.get("error")
    bare = (
        given.get("object") == "error"
        or given.get("type") == "error"
        or event == "error"
        or ("message" in given and not given.keys() & {"choices", "output", "data", "type"})
    )
    if not error and not bare:
        return
    found = given
    if is_object(error):
        found = error
    elif error:
        found = {**given, "message": str(error)}
    raise in_band_error(found, provider=provider)


def with_usage(error: LamellaError, usage: Usage | None) -> LamellaError:
    """An error that says what was spent on it."""
    return error if usage is None else error.copy(usage=usage)


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a decoded value is a JSON object."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether a decoded value is a JSON array."""
    return isinstance(value, list)


def text_of(given: Mapping[str, Any], name: str) -> str | None:
    """A field that holds text; None where it is absent, empty or something else."""
    value = given.get(name)
    return value if isinstance(value, str) and value else None


def mapping_of(given: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A field that holds an object; empty where it is absent or something else."""
    value = given.get(name)
    return value if is_object(value) else NOTHING


def objects_of(given: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    """The objects of a field that holds a list of them; empty where it is absent."""
    value = given.get(name)
    return [item for item in value if is_object(item)] if is_list(value) else ()


def count_of(given: Mapping[str, Any], name: str) -> int | None:
    """A field that holds a whole number from 0 up; None where it is absent or something else."""
    value = given.get(name)
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if whole else None


def base64_of(given: object, *, provider: str) -> bytes:
    """The bytes of a base64 text; empty where there is none.

    Raises:
        ProtocolError: If it is malformed.
    """
    if not isinstance(given, str):
        return b""
    with contextlib.suppress(binascii.Error, ValueError):
        return base64.b64decode(given, validate=True)
    raise nonsense("binary content", "malformed base64", provider=provider)


def _leniently(data: bytes, what: str, provider: str) -> Any:
    start = data.lstrip()[:1]
    if start == b"<":
        hint = "Check the base URL, and whether a proxy or a login page answers in its place."
        raise nonsense(what, "HTML or XML", provider=provider, hint=hint)
    if not start:
        raise nonsense(what, "nothing", provider=provider)
    value: Any = _MALFORMED
    with contextlib.suppress(ValueError, RecursionError):
        value = mended(json.loads(data))
    if value is _MALFORMED:  # raised out here, as the decoder's own error holds the answer's text
        raise nonsense(what, "malformed JSON", provider=provider)
    return value


def mended(value: Any) -> Any:
    """A decoded value without lone halves of surrogate pairs, which cannot be written as UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if is_list(value):
        return [mended(item) for item in value]
    if is_object(value):
        return {mended(key): mended(item) for key, item in value.items()}
    return value


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return "array" if is_list(value) else "string" if isinstance(value, str) else "number"
