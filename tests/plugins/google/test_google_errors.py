"""Google's errors by status, reason and quota."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google_wire import CHAT

from lamella import (
    AuthenticationError,
    ContextLengthError,
    InvalidRequestError,
    LamellaError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    QuotaError,
    RateLimitError,
    ServerError,
)

RPC = "type.googleapis.com/google.rpc."
QUOTA_WORDS = "You exceeded your current quota, please check your plan and billing details."
DELAY = {"@type": f"{RPC}RetryInfo", "retryDelay": "26.5s"}


def quota(name: str, value: str = "20") -> dict[str, Any]:
    """The detail that says which quota was exceeded."""
    violation = {"quotaMetric": "g/x", "quotaId": name, "quotaValue": value}
    return {"@type": f"{RPC}QuotaFailure", "violations": [violation]}


def info(reason: str, **metadata: str) -> dict[str, Any]:
    """The detail that says why."""
    return {"@type": f"{RPC}ErrorInfo", "reason": reason, "metadata": metadata}


def error(
    status: int, name: str, *details: Any, words: str = "secret words", wrapped: bool = False
) -> LamellaError:
    """The error that an answer stands for."""
    said = {"error": {"code": status, "message": words, "status": name, "details": list(details)}}
    body = json.dumps([said] if wrapped else said).encode()
    return CHAT.error(status, body, {"x-request-id": "r1"}, now=0.0)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (400, "INVALID_ARGUMENT", InvalidRequestError),
        (400, "FAILED_PRECONDITION", PermissionDeniedError),
        (401, "UNAUTHENTICATED", AuthenticationError),
        (403, "PERMISSION_DENIED", PermissionDeniedError),
        (404, "NOT_FOUND", NotFoundError),
        (429, "RESOURCE_EXHAUSTED", RateLimitError),
        (500, "INTERNAL", ServerError),
        (503, "UNAVAILABLE", OverloadedError),
        (504, "DEADLINE_EXCEEDED", ServerError),
    ],
)
def test_statuses(status: int, name: str, kind: type[LamellaError], *, wrapped: bool) -> None:
    """Each has its class, code and request id; Google's sentence is not repeated."""
    found = error(status, name, wrapped=wrapped)
    assert type(found) is kind
    assert (found.status, found.code, found.request_id) == (status, name, "r1")
    assert "secret" not in str(found)


@pytest.mark.parametrize(
    ("details", "kind", "delay"),
    [
        ((quota("GenerateRequestsPerMinutePerProject"), DELAY), RateLimitError, 26.5),
        ((quota("GenerateRequestsPerMinutePerProject"),), RateLimitError, None),
        ((DELAY,), RateLimitError, 26.5),
        ((quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), DELAY), QuotaError, None),
        ((quota("GenerateRequestsPerMinutePerProject", "0"), DELAY), QuotaError, None),
        ((info("RATE_LIMIT_EXCEEDED", quota_limit="RequestsPerMinute"),), RateLimitError, None),
        ((info("RATE_LIMIT_EXCEEDED", quota_limit="RequestsPerDay"),), QuotaError, None),
        ((), QuotaError, None),
    ],
)
def test_quotas(details: tuple[Any, ...], kind: type[LamellaError], delay: float | None) -> None:
    """By the minute it is a rate limit that says when; by the day, or of nothing, it is none."""
    found = error(429, "RESOURCE_EXHAUSTED", *details, words=QUOTA_WORDS)
    assert type(found) is kind
    assert found.retry_after == delay
    assert found.retryable is (kind is RateLimitError)


@pytest.mark.parametrize(
    ("status", "name", "reason", "kind"),
    [
        (400, "INVALID_ARGUMENT", "API_KEY_INVALID", AuthenticationError),
        (401, "UNAUTHENTICATED", "ACCESS_TOKEN_EXPIRED", AuthenticationError),
        (403, "PERMISSION_DENIED", "BILLING_DISABLED", QuotaError),
        (403, "PERMISSION_DENIED", "SERVICE_DISABLED", PermissionDeniedError),
    ],
)
def test_reasons(status: int, name: str, reason: str, kind: type[LamellaError]) -> None:
    """A wrong key is a 400 at Google's; the reason tells."""
    assert type(error(status, name, info(reason))) is kind


def test_too_long_prompts() -> None:
    """Google says it in words only."""
    words = (
        "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576)."
    )
    assert type(error(400, "INVALID_ARGUMENT", words=words)) is ContextLengthError


@pytest.mark.parametrize("delay", ["", "s", "-3s", "xs", "3", "infs", 30, None])
def test_delays_that_are_none(delay: Any) -> None:
    """What is not positive, not finite or not understood is as good as not said."""
    detail = {"@type": f"{RPC}RetryInfo", "retryDelay": delay}
    assert error(429, "RESOURCE_EXHAUSTED", detail).retry_after is None


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"[1]", b'{"error": 1}', b"\xff", b"{"])
def test_bodies_that_are_none(body: bytes) -> None:
    """The status alone decides."""
    assert type(CHAT.error(502, body, {}, now=0.0)) is ServerError


def test_other_delays() -> None:
    """A header's delay counts where the details have none."""
    assert CHAT.error(503, b"{}", {"retry-after": "7"}, now=0.0).retry_after == 7
    assert error(503, "UNAVAILABLE", DELAY).retry_after == 26.5
