"""From Bedrock's exceptions, as answers or inside a stream, to errors of the library's tree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from lamella._errors import AuthenticationError, LamellaError, QuotaError
from lamella.transports._http_errors import in_band_error, status_error

_HINTS: Final = (
    (
        "on-demand throughput",
        "The model is served through inference profiles only: use the id or ARN of one.",
    ),
    ("model identifier is invalid", "Check the model's id, and that this region has the model."),
    ("toolconfig field must be defined", "Give the request the tools that its calls refer to."),
    ("must start with a user message", "The first message behind the system's must be a user's."),
    ("expected toolresult blocks", "Answer every call in the message right behind it."),
    ("assistant message prefill", "The last message must be a user's: this model continues none."),
    ("signature expired", "The clock of this machine is off: AWS allows some minutes."),
)
"""What sentences of Bedrock mean to the caller."""


_KINDS: Final[tuple[tuple[int, str, type[LamellaError], str], ...]] = (
    (
        403,
        "authentication failed",
        AuthenticationError,
        "Check the API key, and that it is one of this region.",
    ),
    (
        429,
        "tokens per day",
        QuotaError,
        "Waiting for seconds does not help: the day's tokens are spent.",
    ),
)
"""Errors of which only the sentence says what they are: a status, words, and what to do."""


def http_error(
    status: int, body: bytes, headers: Mapping[str, str], *, provider: str, now: float | None = None
) -> LamellaError:
    """The error of an answer whose status is not a success.

    The exception's name stands in a header, or in the body as `__type` behind a namespace.
    """
    said = _object(body)
    name = _bare(headers.get("x-amzn-errortype") or said.get("__type") or said.get("code"))
    message = _message(said)
    shaped = msgspec.json.encode({"error": {"code": name, "message": message}})
    error = status_error(status, shaped, headers, provider=provider, now=now)
    for of, phrase, kind, hint in _KINDS:
        if of == status and phrase in message.lower():
            return kind(
                error.message,
                provider=provider,
                status=status,
                code=error.code,
                request_id=error.request_id,
                retry_after=error.retry_after,
                hint=hint,
            )
    return _with_hint(error, message)


def stream_error(name: str, body: bytes, *, provider: str) -> LamellaError:
    """The error of an exception inside a stream."""
    message = _message(_object(body))
    error = in_band_error({"code": _bare(name), "message": message}, provider=provider)
    return _with_hint(error, message)


def raise_exception(answer: Mapping[str, Any], *, provider: str) -> None:
    """Raise the exception that a document is, which came where an answer should be.

    Args:
        answer: What came with a status of success.
        provider: Who sent it, for messages.
    """
    inner = answer.get("Output")  # so says Amazon's own framework of what it does not know
    said: Mapping[str, Any] = inner if isinstance(inner, Mapping) else answer  # pyright: ignore[reportUnknownVariableType]
    name, message = _bare(said.get("__type") or said.get("code")), _message(said)
    if name or message:
        error = in_band_error({"code": name, "message": message}, provider=provider)
        raise _with_hint(error, message)


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _message(said: Mapping[str, Any]) -> str:
    found = said.get("message") or said.get("Message") or said.get("originalMessage")
    return found if isinstance(found, str) else ""


def _bare(name: object) -> str:
    """`ThrottlingException` of `com.amazon.coral#ThrottlingException:http://internal.../`."""
    return name.partition(":")[0].rpartition("#")[2].strip() if isinstance(name, str) else ""


def _with_hint(error: LamellaError, message: str) -> LamellaError:
    words = message.lower()
    for phrase, hint in _HINTS:
        if phrase in words:
            return error.copy(hint=hint)
    return error
