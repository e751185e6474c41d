"""From statuses, codes and error objects to the library's errors."""

from __future__ import annotations

import json
from typing import Any

import pytest

import lamella
from lamella import LamellaError
from lamella.transports._http_errors import in_band_error, status_error

SECRET = "sk-proj-abcdefgh12345678"
PROMPT = "my grandmother's maiden name is Smith"


def body(**error: Any) -> bytes:
    """A body with an error object."""
    return json.dumps({"error": error}).encode()


@pytest.mark.parametrize(
    ("status", "sent", "kind", "retryable"),
    [
        (400, body(code="context_length_exceeded"), lamella.ContextLengthError, False),
        (400, body(message="This model's maximum context length is 8192 tokens"),
         lamella.ContextLengthError, False),
        (400, body(code=400, type="exceed_context_size_error"), lamella.ContextLengthError, False),
        (400, body(message="The input token count (9) exceeds the maximum number"),
         lamella.ContextLengthError, False),
        (400, body(message="This model's maximum prompt length is 8"),
         lamella.ContextLengthError, False),
        (413, b"", lamella.InvalidRequestError, False),
        (400, body(code="content_filter"), lamella.ContentFilteredError, False),
        (400, body(innererror={"code": "ResponsibleAIPolicyViolation"}),
         lamella.ContentFilteredError, False),
        (400, body(type="invalid_request_error"), lamella.InvalidRequestError, False),
        (400, body(message="Your credit balance is too low"), lamella.QuotaError, False),
        (400, b"<html>", lamella.InvalidRequestError, False),
        (401, body(code="invalid_api_key"), lamella.AuthenticationError, False),
        (402, b"", lamella.QuotaError, False),
        (403, b"", lamella.PermissionDeniedError, False),
        (404, body(code="model_not_found"), lamella.NotFoundError, False),
        (408, b"", lamella.ProviderError, True),
        (409, b"", lamella.ConflictError, True),
        (415, b"", lamella.InvalidRequestError, False),
        (422, b'{"detail":[{"loc":["body"]}]}', lamella.InvalidRequestError, False),
        (425, b"", lamella.ProviderError, True),
        (429, b"", lamella.RateLimitError, True),
        (429, body(code="insufficient_quota"), lamella.QuotaError, False),
        (429, body(type="insufficient_quota", code=None), lamella.QuotaError, False),
        (429, body(message="You exceeded your current quota"), lamella.QuotaError, False),
        (429, b'{"error":"insufficient_quota"}', lamella.QuotaError, False),
        (500, b"", lamella.ServerError, True),
        (502, b"<html>", lamella.ServerError, True),
        (503, b"", lamella.OverloadedError, True),
        (504, b"", lamella.ServerError, True),
        (524, b"", lamella.ServerError, True),
        (529, b"", lamella.OverloadedError, True),
        (307, b"", lamella.ProviderError, False),
        (418, b"", lamella.ProviderError, False),
    ],
)  # fmt: skip
def test_statuses(status: int, sent: bytes, kind: type[LamellaError], retryable: bool) -> None:
    """Status and code make the class; whether it may pass if tried again follows."""
    error = status_error(status, sent, {}, provider="openai")
    assert type(error) is kind
    assert error.retryable is retryable
    assert error.status == status
    assert error.provider == "openai"


@pytest.mark.parametrize(
    ("given", "kind", "status"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, lamella.OverloadedError, 529),
        ({"code": "rate_limit_exceeded"}, lamella.RateLimitError, 429),
        ({"code": "rate_limit_exceeded", "type": "tokens"}, lamella.RateLimitError, 429),
        ({"type": "requests", "code": "rate_limit_exceeded"}, lamella.RateLimitError, 429),
        ({"code": "insufficient_quota", "type": "insufficient_quota"}, lamella.QuotaError, 429),
        ({"type": "server_error", "code": "server_error"}, lamella.ServerError, 500),
        ({"code": "context_length_exceeded"}, lamella.ContextLengthError, 400),
        ({"code": "content_filter"}, lamella.ContentFilteredError, 400),
        ({"type": "invalid_request_error"}, lamella.InvalidRequestError, 400),
        ({"type": "authentication_error"}, lamella.AuthenticationError, 401),
        ({"code": 503, "message": "busy"}, lamella.OverloadedError, 503),
        ({"code": "429"}, lamella.RateLimitError, 429),
        ({"status": 429}, lamella.RateLimitError, 429),
        ({"status_code": 400}, lamella.InvalidRequestError, 400),
        ({"code": "vector_store_timeout"}, lamella.ServerError, 500),
        ({"code": "invalid_image_url"}, lamella.InvalidRequestError, 400),
        ({"code": "image_too_large"}, lamella.InvalidRequestError, 400),
        ({"code": "unsupported_image_media_type"}, lamella.InvalidRequestError, 400),
        ({"code": "failed_to_download_image"}, lamella.InvalidRequestError, 400),
        ({"code": "data_residency_mismatch"}, lamella.InvalidRequestError, 400),
        ({"code": "image_content_policy_violation"}, lamella.ContentFilteredError, 400),
        ({"code": "bio_policy"}, lamella.ContentFilteredError, 400),
        ({"status": "UNAVAILABLE"}, lamella.OverloadedError, 503),
        ({"http_status_code": 422}, lamella.InvalidRequestError, 422),
        ({"error": "no such model", "code": 404}, lamella.NotFoundError, 404),
        ({"error": "rate_limit_exceeded"}, lamella.RateLimitError, 429),
        ({"message": "?"}, lamella.ServerError, 500),
        ({}, lamella.ServerError, 500),
    ],
)
def test_in_band(given: dict[str, Any], kind: type[LamellaError], status: int) -> None:
    """An error inside an answer maps to the status that it stands for."""
    error = in_band_error(given, provider="openai")
    assert type(error) is kind
    assert error.status == status


@pytest.mark.parametrize(
    "sent",
    [
        body(message=f"{PROMPT} {SECRET}", code="x", type="y", param="messages[0].content"),
        body(message="m", code=PROMPT, type=SECRET, param=PROMPT),
        body(code=SECRET),
        json.dumps({"error": PROMPT}).encode(),
        json.dumps({"message": PROMPT, "type": PROMPT, "code": SECRET}).encode(),
        json.dumps({"detail": PROMPT}).encode(),
        PROMPT.encode(),
        json.dumps([{"error": {"message": PROMPT, "status": SECRET}}]).encode(),
    ],
)
def test_nothing_said_is_repeated(sent: bytes) -> None:
    """A provider's sentence may quote the prompt or the key, so that it stands nowhere."""
    for error in (
        status_error(400, sent, {"x-request-id": SECRET}, provider="openai"),
        status_error(401, sent, {}, provider="openai"),
    ):
        shown = f"{error} {error!r} {error.code} {error.hint}"
        assert "Smith" not in shown
        assert SECRET not in shown


def test_what_helps_is_repeated() -> None:
    """Status, code, type, parameter and request id stand in the message; hints in the fields."""
    error = status_error(
        429,
        body(
            message="Please try again in 2s", type="tokens", code="rate_limit_exceeded", param="n"
        ),
        {"x-request-id": "req_1", "x-should-retry": "false"},
        provider="groq",
    )
    assert str(error) == (
        "groq answered with status 429 (code rate_limit_exceeded, type tokens, parameter n, "
        "request req_1)."
    )
    assert (error.retry_after, error.should_retry, error.request_id) == (2.0, False, "req_1")


@pytest.mark.parametrize(
    "sent", [b"[" * 10_000, b"\xff\xfe", b"null", b"[]", b"3", b'{"error":[1]}']
)
def test_strange_bodies(sent: bytes) -> None:
    """No body makes reading an error fail."""
    assert type(status_error(500, sent, {}, provider="p")) is lamella.ServerError
