"""Google's errors: `google.rpc.Status` in JSON, with details that say more than the status does.

A status of 429 is every limit of Google's. Which one it was stands in `QuotaFailure`: a limit by
the minute is mended by waiting as long as `RetryInfo` says; one by the day is not, and one of zero
never is (the model is not in the free tier). Google's sentence is the same for all of them, so that
it tells nothing. A wrong key is a status of 400, told by the reason in `ErrorInfo`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import msgspec

from lamella._errors import (
    AuthenticationError,
    LamellaError,
    PermissionDeniedError,
    QuotaError,
    RateLimitError,
)
from lamella.transports._http_errors import in_band_error, status_error
from lamella.transports._wire_json import NOT_THAT, is_list, is_object, mapping_of, objects_of

_KEY_REASONS: Final = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED", "ACCESS_TOKEN_EXPIRED"})

_HINTS: Final[Mapping[type[LamellaError], str]] = {
    AuthenticationError: "Check the key, and that it is one of Google AI Studio or of the project.",
    PermissionDeniedError: "Check that the API is enabled, billed and offered where you are.",
    QuotaError: "Waiting does not help today: check the project's plan and quotas.",
    RateLimitError: "Come back later, or ask for a higher limit by the minute.",
}


@attrs.frozen
class _Details:
    """What an error's details say.

    Attributes:
        status: The code's name, such as `RESOURCE_EXHAUSTED`.
        reason: Google's reason, such as `API_KEY_INVALID`.
        delay: Seconds after which to come back.
        violations: The quotas that were exceeded.
    """

    status: str | None = None
    reason: str | None = None
    delay: float | None = None
    violations: Sequence[Mapping[str, Any]] = ()

    @property
    def lasting(self) -> bool:
        """Whether waiting for seconds does not help: a quota by the day, or of nothing at all."""
        return any(
            "PerDay" in str(violation.get("quotaId")) or violation.get("quotaValue") == "0"
            for violation in self.violations
        )


def google_status_error(
    status: int, body: bytes, headers: Mapping[str, str], *, provider: str, now: float
) -> LamellaError:
    """The error of an answer whose status is not a success.

    Args:
        status: The HTTP status.
        body: The beginning of the answer's body; anything.
        headers: With lower-case names.
        provider: Who answered, for messages.
        now: Seconds since the epoch.
    """
    error = status_error(status, body, headers, provider=provider, now=now)
    try:
        found: Any = msgspec.json.decode(body)
    except NOT_THAT:
        return error
    if is_list(found) and found:
        found = found[0]
    return _refined(error, found.get("error")) if is_object(found) else error


def google_in_band_error(given: Mapping[str, Any], *, provider: str) -> LamellaError:
    """The error of an error object inside an answer whose status was a success."""
    return _refined(in_band_error(given, provider=provider), given)


def _refined(error: LamellaError, given: object) -> LamellaError:
    """The error that the details stand for."""
    if not is_object(given):
        return error
    details = _details(given)
    delay = details.delay or error.retry_after
    if details.reason in _KEY_REASONS:
        return _as(AuthenticationError, error, None, details.reason)
    if details.reason == "BILLING_DISABLED":
        return _as(QuotaError, error, None, details.reason)
    if error.status == 429 or details.status == "RESOURCE_EXHAUSTED":
        if details.lasting:
            return _as(QuotaError, error, None)
        if details.delay is not None or details.violations:
            return _as(RateLimitError, error, delay)
    if error.status == 400 and details.status == "FAILED_PRECONDITION":
        return _as(PermissionDeniedError, error, None)  # not offered in that country, or unbilled
    return error.copy(retry_after=delay)


def _as(
    kind: type[LamellaError], error: LamellaError, delay: float | None, code: str | None = None
) -> LamellaError:
    return kind(
        error.message,
        provider=error.provider,
        status=error.status,
        code=code or error.code,
        retryable=kind.retryable,
        retry_after=delay,
        request_id=error.request_id,
        hint=_HINTS[kind],
    )


def _details(given: Mapping[str, Any]) -> _Details:
    status, reason, delay = given.get("status"), None, None
    violations: Sequence[Mapping[str, Any]] = ()
    for detail in objects_of(given, "details"):
        kind = str(detail.get("@type")).rpartition(".")[2]
        if kind == "RetryInfo":
            delay = _seconds(detail.get("retryDelay"))
        elif kind == "QuotaFailure":
            violations = objects_of(detail, "violations")
        elif kind == "ErrorInfo" and isinstance(detail.get("reason"), str):
            reason = detail["reason"]
            if reason == "RATE_LIMIT_EXCEEDED" and not violations:
                named = mapping_of(detail, "metadata").get("quota_limit")
                violations = () if named is None else ({"quotaId": named},)
    return _Details(status if isinstance(status, str) else None, reason, delay, violations)


def _seconds(given: object) -> float | None:
    """A duration as protocol buffers write it in JSON: `26s`, `0.5s`."""
    if not isinstance(given, str) or not given.endswith("s"):
        return None
    try:
        seconds = float(given[:-1])
    except ValueError:
        return None
    return seconds if seconds > 0 and math.isfinite(seconds) else None
