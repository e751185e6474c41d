"""Google's errors: `google.rpc.Status` with the details that clients read."""

from __future__ import annotations

from typing import Any

from lamella._mock_answers import CONTEXT_TOKENS
from lamella._mock_rejections import Rejection
from lamella.testing._mock_google._routes import Place
from lamella.testing._mock_openai._requests import JSON

_TYPE = "type.googleapis.com/google.rpc."

_OF_STATUS: dict[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "FAILED_PRECONDITION",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    416: "OUT_OF_RANGE",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}

_NUMBERS: dict[str, int] = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNKNOWN": 500,
    "DATA_LOSS": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}

_WORDS: dict[str, str] = {
    "INVALID_ARGUMENT": "Request contains an invalid argument.",
    "FAILED_PRECONDITION": "The request cannot be served in the project's present state.",
    "UNAUTHENTICATED": "Request had invalid authentication credentials.",
    "PERMISSION_DENIED": "The caller does not have permission.",
    "NOT_FOUND": "Requested entity was not found.",
    "ABORTED": "The operation was aborted.",
    "RESOURCE_EXHAUSTED": "You exceeded your current quota.",
    "CANCELLED": "The operation was cancelled.",
    "INTERNAL": "An internal error has occurred.",
    "UNAVAILABLE": "The model is overloaded. Please try again later.",
    "DEADLINE_EXCEEDED": "Deadline expired before operation could complete.",
}

_SENSITIVE = "sensitive words that violate Google's Responsible AI practices"
"""What Vertex AI says of a prompt that its filter does not take."""

_REASONS: dict[str, str] = {
    "invalid_api_key": "API_KEY_INVALID",
    "permission_denied": "API_KEY_SERVICE_BLOCKED",
}
"""The reasons in `ErrorInfo` that OpenAI's codes stand for."""

_SERVER_FAULTS: dict[str, str] = {
    "server_error": "INTERNAL",
    "api_error": "INTERNAL",
    "overloaded_error": "UNAVAILABLE",
    "overloaded": "UNAVAILABLE",
    "service_unavailable": "UNAVAILABLE",
    "timeout_error": "DEADLINE_EXCEEDED",
    "rate_limit_exceeded": "RESOURCE_EXHAUSTED",
    "rate_limit_error": "RESOURCE_EXHAUSTED",
    "insufficient_quota": "RESOURCE_EXHAUSTED",
    "invalid_request_error": "INVALID_ARGUMENT",
    "authentication_error": "UNAUTHENTICATED",
    "permission_error": "PERMISSION_DENIED",
    "not_found_error": "NOT_FOUND",
}
"""The statuses that other providers' codes stand for, in the verb `error`."""


def error_body(rejection: Rejection, place: Place | None) -> JSON:
    """The body of an error answer.

    Args:
        rejection: What is wrong, in OpenAI's codes, Google's statuses or Google's reasons.
        place: The address; None if there is nothing at it.
    """
    code = rejection.code or ""
    status = code if code in _NUMBERS else _OF_STATUS.get(rejection.status)
    if status is None:
        status = "INTERNAL" if rejection.status >= 500 else "INVALID_ARGUMENT"
    details = _details(rejection, status)
    return _document(rejection.status, status, _message(rejection, status, place), details)


def in_band_body(code: str) -> JSON:
    """The error that comes with a status of success, in the middle of a stream or instead of it.

    Args:
        code: One of Google's statuses, or the code of another provider that means the same.
    """
    status = _SERVER_FAULTS.get(code, code.upper())
    words = _WORDS.get(status, "An error has occurred.")
    return _document(_NUMBERS.get(status, 500), status, words, [])


def _document(number: int, status: str, message: str, details: list[JSON]) -> JSON:
    said: dict[str, Any] = {"code": number, "message": message, "status": status}
    if details:
        said["details"] = details
    return {"error": said}


def _message(rejection: Rejection, status: str, place: Place | None) -> str:
    if rejection.code == "context_length_exceeded":
        most = f"the maximum number of tokens allowed ({CONTEXT_TOKENS})"
        return f"The input token count exceeds {most}."
    if rejection.code == "content_filter":
        return f"The prompt could not be submitted: it contains {_SENSITIVE}."
    if rejection.code == "model_not_found" and place is not None:
        if place.vertex:
            return f"Publisher Model `{place.resource}` was not found or may not be used."
        return (
            f"{place.resource} is not found for API version {place.version}, or is not supported "
            f"for {place.method}."
        )
    return rejection.message or f"{_WORDS.get(status, _WORDS['INTERNAL'])} The mock provider says."


def _details(rejection: Rejection, status: str) -> list[JSON]:
    found: list[JSON] = []
    code = rejection.code or ""
    reason = _REASONS.get(code, code)
    if reason.isupper() and reason not in _NUMBERS:
        found.append(
            {
                "@type": f"{_TYPE}ErrorInfo",
                "reason": reason,
                "domain": "googleapis.com",
                "metadata": {"service": "generativelanguage.googleapis.com"},
            }
        )
    if status == "INVALID_ARGUMENT" and rejection.param is not None:
        violation = {"field": rejection.param, "description": rejection.message}
        found.append({"@type": f"{_TYPE}BadRequest", "fieldViolations": [violation]})
    if status == "RESOURCE_EXHAUSTED":
        span = "PerDay" if code == "insufficient_quota" else "PerMinute"
        violation = {
            "quotaMetric": "generativelanguage.googleapis.com/generate_content_requests",
            "quotaId": f"GenerateRequests{span}PerProjectPerModel",
        }
        found.append({"@type": f"{_TYPE}QuotaFailure", "violations": [violation]})
    if rejection.retry_after is not None:
        found.append({"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{rejection.retry_after}s"})
    return found
