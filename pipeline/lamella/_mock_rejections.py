"""What the embedded provider does not accept, in OpenAI's words for it."""

from __future__ import annotations

from typing import Any


class Rejection(Exception):
    """The provider's own error, before a transport or a server has put it into its form.

    Attributes:
        status: The HTTP status.
        code: The machine-readable reason.
        message: What is wrong; empty for the usual sentence.
        param: The field that is wrong; None if no single one is.
        retry_after: The seconds until another try, as a text, where an API says them in the body.
    """

    def __init__(
        self,
        status: int,
        code: str | None,
        message: str,
        param: str | None = None,
        *,
        retry_after: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after = retry_after

    @property
    def body(self) -> dict[str, Any]:
        """The body of the error answer."""
        return error_body(self.status, self.message or None, code=self.code, param=self.param)


_KNOWN: dict[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", None, "The request is malformed."),
    401: ("invalid_request_error", "invalid_api_key", "The API key is not accepted."),
    402: ("insufficient_quota", "insufficient_quota", "The quota is used up."),
    403: ("invalid_request_error", "permission_denied", "The key may not do this."),
    404: ("invalid_request_error", "not_found", "There is nothing at this address."),
    408: ("timeout_error", "request_timeout", "The request came too slowly."),
    409: ("conflict_error", "conflict", "The resource is in another state."),
    413: ("invalid_request_error", "request_too_large", "The request is too large."),
    422: ("invalid_request_error", "unprocessable", "The request cannot be processed."),
    429: ("requests", "rate_limit_exceeded", "The rate limit is reached."),
    500: ("server_error", "server_error", "The server had an error."),
    503: ("server_error", "service_unavailable", "The service is overloaded."),
    529: ("overloaded_error", "overloaded", "The service is overloaded."),
}

_STATUS_OF: dict[str, int] = {
    "insufficient_quota": 429,
    "overloaded_error": 529,
    "rate_limit_error": 429,
    "requests": 429,
} | {code: status for status, (_, code, _) in _KNOWN.items() if code is not None and status != 402}


def error_body(
    status: int, message: str | None = None, *, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """The body of an error answer, in OpenAI's shape.

    Args:
        status: The HTTP status that it goes with.
        message: What is wrong; None is the usual sentence.
        code: The machine-readable reason; None is the usual one.
        param: The field that is wrong.
    """
    default = _KNOWN.get(status) or _KNOWN[500 if status >= 500 else 400]
    kind, usual, words = default
    if code == "insufficient_quota":
        kind, words = "insufficient_quota", _KNOWN[402][2]
    said = f"{message or words}"
    if message is None:
        said += " This is said by the mock provider."
    return {"error": {"message": said, "type": kind, "param": param, "code": code or usual}}


def in_band_body(code: str) -> dict[str, Any]:
    """The error that comes in the middle of a stream; its type and code say which."""
    status = _STATUS_OF.get(code, 500)
    body = error_body(status, code=code)
    if code.endswith("_error"):
        body["error"]["type"] = code
    return body
