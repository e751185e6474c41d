"""Errors in the words of Anthropic's API."""

from __future__ import annotations

from typing import Final

from lamella._mock_answers import CONTEXT_TOKENS
from lamella._mock_rejections import Rejection
from lamella.testing._mock_openai._requests import JSON
from lamella.testing._mock_sse import Frame, json_text

_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_WORDS: Final = {
    "invalid_request_error": "The request is malformed.",
    "authentication_error": "The API key is not accepted.",
    "billing_error": "The credit balance is too low.",
    "permission_error": "The key may not do this.",
    "not_found_error": "There is nothing at this address.",
    "conflict_error": "The resource is in another state.",
    "request_too_large": "The request is too large.",
    "rate_limit_error": "The rate limit is reached.",
    "api_error": "The server had an error.",
    "timeout_error": "The request took too long.",
    "overloaded_error": "Overloaded.",
}
_TRANSLATED: Final = {
    "content_filter": "invalid_request_error",
    "context_length_exceeded": "invalid_request_error",
    "insufficient_quota": "billing_error",
    "invalid_api_key": "authentication_error",
    "invalid_value": "invalid_request_error",
    "missing_required_parameter": "invalid_request_error",
    "mock_fault": "invalid_request_error",
    "model_not_found": "not_found_error",
    "not_found": "not_found_error",
    "overloaded": "overloaded_error",
    "permission_denied": "permission_error",
    "rate_limit_exceeded": "rate_limit_error",
    "requests": "rate_limit_error",
    "server_error": "api_error",
    "service_unavailable": "api_error",
    "unsupported_parameter": "invalid_request_error",
    "unsupported_value": "invalid_request_error",
}
"""What OpenAI's codes, in which rejections are written, are called here."""

_SENTENCES: Final = {
    "content_filter": "Output blocked by content filtering policy",
    "context_length_exceeded": (
        f"prompt is too long: {CONTEXT_TOKENS + 1} tokens > {CONTEXT_TOKENS} maximum"
    ),
}
"""What alone tells some errors from others of their type, and so is said as it is there."""


def request_id(number: int) -> str:
    """What the answer to a request is called, in its headers and in errors."""
    return f"req_mock_{number:06}"


def error_document(code: str | None, number: int, *, status: int = 200, message: str = "") -> JSON:
    """The body of an error.

    Args:
        code: One of the API's types, a code of OpenAI's, or else a code of the API's own, which
            then stands in its details.
        number: Which request it answers.
        status: The HTTP status that it goes with, which says the type where the code does not.
        message: What is wrong; empty for the usual sentence.
    """
    kind = code if code in _WORDS or (code or "").endswith("_error") else None
    kind = kind or _TRANSLATED.get(code or "")
    named = code is not None and kind is None
    if kind is None:
        others = "invalid_request_error" if 400 <= status < 500 else "api_error"
        kind = _TYPES.get(status, others)
    words = _WORDS.get(kind, "Something went wrong.")
    usual = message or f"{words} This is said by the mock provider."
    said = _SENTENCES.get(code or "", usual)
    error: JSON = {"type": kind, "message": said}
    if named:
        error["details"] = {"error_code": code}
    return {"type": "error", "error": error, "request_id": request_id(number)}


def rejection_document(rejection: Rejection, number: int) -> JSON:
    """The body of the answer to a request that is not accepted."""
    return error_document(
        rejection.code, number, status=rejection.status, message=rejection.message
    )


def error_frame(code: str, number: int) -> Frame:
    """The provider's error in the middle of a stream."""
    return Frame(json_text(error_document(code, number)), "error")
