"""From what a provider answered to an error of the library's tree.

An error is told by its status and by its code, and the code counts more: a 429 with
`insufficient_quota` is no rate limit, an `overloaded_error` inside a stream is a 529. The
provider's own sentence may quote the prompt or the key, so that it is read to tell errors apart and
never repeated; status, code, type and request id are, if they look like identifiers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import attrs
import msgspec

from lamella._errors import (
    AuthenticationError,
    ConflictError,
    ContentFilteredError,
    ContextLengthError,
    InvalidRequestError,
    LamellaError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    QuotaError,
    RateLimitError,
    ServerError,
)
from lamella.transports._retry_hints import retry_after, should_retry, stated_in

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_.\-\[\]]{0,63}")
_SECRET = re.compile(r"(?i)(?:sk|pk|rk|gsk|xai|key|bearer)[-_]|AKIA|eyJ")

_MOST_DIGITS = 3

_QUOTA = frozenset(
    {
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "billing_error",
        "insufficient_balance",
        "insufficient_credits",
        "contract_spend_limit_reached",
        "enforced_spend_limit_reached",
        "linked_organization_billing_unavailable",
        "linked_organization_spend_limit_reached",
        "payment_required",
        "quota_exceeded",
        "servicequotaexceededexception",
    }
)
_CONTENT = frozenset(
    {
        "content_filter",
        "content_policy_violation",
        "image_content_policy_violation",
        "misalignment_policy_violation",
        "bio_policy",
        "moderation_blocked",
        "responsibleaipolicyviolation",
    }
)
_CONTEXT = frozenset(
    {
        "context_length_exceeded",
        "context_window_exceeded",
        "exceed_context_size_error",
        "input_too_long",
    }
)
_AUTHENTICATION = frozenset(
    {
        "invalid_api_key",
        "authentication_error",
        "expiredtoken",
        "expiredtokenexception",
        "incompletesignatureexception",
        "invalidclienttokenid",
        "invalidsignatureexception",
        "missingauthenticationtokenexception",
        "signaturedoesnotmatch",
        "unrecognizedclientexception",
    }
)
"""What says that the credential itself is at fault, and not what it may do: AWS answers 403."""

_NOT_READY = frozenset({"modelnotreadyexception"})
"""A model that is being loaded, which Bedrock reports as 429: no limit was reached."""

_STATUS_OF: Final[Mapping[str, int]] = {
    "overloaded_error": 529,
    "overloaded": 529,
    "engine_overloaded": 503,
    "service_unavailable": 503,
    "service_unavailable_error": 503,
    "insufficient_system_resource": 503,
    "over_capacity": 503,
    "unavailable": 503,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "rate_limit_reached": 429,
    "rate_limit": 429,
    "too_many_requests": 429,
    "requests": 429,
    "tokens": 429,
    "resource_exhausted": 429,
    "server_error": 500,
    "internal_error": 500,
    "internal_server_error": 500,
    "api_error": 500,
    "timeout_error": 504,
    "timeout": 504,
    "invalid_request_error": 400,
    "invalid_request": 400,
    "invalid_prompt": 400,
    "badrequesterror": 400,
    "data_residency_mismatch": 400,
    "empty_image_file": 400,
    "failed_to_download_image": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "invalid_authentication": 401,
    "unauthorized": 401,
    "unauthenticated": 401,
    "permission_error": 403,
    "permission_denied": 403,
    "forbidden": 403,
    "model_not_found": 404,
    "not_found_error": 404,
    "deploymentnotfound": 404,
    "not_found": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "validationexception": 400,
    "accessdeniedexception": 403,
    "resourcenotfoundexception": 404,
    "modeltimeoutexception": 408,
    "modelerrorexception": 424,
    "modelstreamerrorexception": 424,
    "throttlingexception": 429,
    "modelnotreadyexception": 429,
    "internalserverexception": 500,
    "serviceunavailableexception": 503,
}
_CALLERS = ("invalid_", "unsupported_", "image_")
"""How codes begin that mean the request: `invalid_image_url`, `image_too_large` and many more."""

_KNOWN = _QUOTA | _CONTENT | _CONTEXT | _STATUS_OF.keys()
_CONTEXT_WORDS = (
    "maximum context length",
    "context window",
    "context length",
    "context size",
    "exceed context limit",
    "maximum prompt length",
    "input token count",
    "prompt is too long",
    "input is too long",
    "too many input tokens",
)
_QUOTA_WORDS = ("credit balance", "exceeded your current quota", "insufficient balance")
_FILTER_WORDS = (
    "content management policy",
    "content filtering",
    "safety system",
    "responsible ai practices",
)
_HINTS: Final[Mapping[type[LamellaError], str]] = {
    AuthenticationError: "Check the key, and that it belongs to this endpoint.",
    PermissionDeniedError: "The key is known but may not do this: check its project and rights.",
    NotFoundError: "Check the model's name and base_url; the endpoint knows no such thing.",
    QuotaError: "Waiting does not help: check the account's billing and quota.",
    ContextLengthError: "Shorten the conversation, or choose a model with a larger window.",
    ContentFilteredError: "The provider's filter rejected the request; change its content.",
}


@attrs.frozen
class _Said:
    """What the provider's error object says, as far as it may be repeated (`message` may not)."""

    code: str | None = None
    kind: str | None = None
    param: str | None = None
    status: int | None = None
    message: str = ""

    @property
    def words(self) -> frozenset[str]:
        return frozenset(word.lower() for word in (self.code, self.kind) if word)


def status_error(
    status: int,
    body: bytes,
    headers: Mapping[str, str],
    *,
    provider: str,
    now: float | None = None,
) -> LamellaError:
    """The error of an answer whose status is not a success.

    Args:
        status: The HTTP status.
        body: The answer's body; anything.
        headers: With lower-case names.
        provider: Who answered, for messages.
        now: Seconds since the epoch, for `retry-after` dates of answers without a `date`.
    """
    said = _read(body)
    kind = _kind(status, said)
    known = request_id(headers)
    hint = _HINTS.get(kind)
    if 300 <= status < 400:
        hint = "The endpoint redirects, which is not followed: set base_url to the final address."
    return kind(
        _sentence(f"{provider} answered with status {status}", said, known),
        provider=provider,
        status=status,
        code=said.code or said.kind,
        retryable=_retryable(kind, status),
        retry_after=retry_after(headers, now) or stated_in(said.message),
        should_retry=should_retry(headers),
        request_id=known,
        hint=hint,
    )


def in_band_error(error: Mapping[str, Any], *, provider: str) -> LamellaError:
    """The error of an error object inside an answer whose status was a success.

    Args:
        error: The object itself: what stands under `error`, or the whole event.
        provider: Who answered, for messages.
    """
    said = _said(error)
    status = said.status or _status_of(said)
    kind = _kind(status, said)
    return kind(
        _sentence(f"{provider} reported an error in its answer", said, None),
        provider=provider,
        status=status,
        code=said.code or said.kind,
        retryable=_retryable(kind, status),
        retry_after=stated_in(said.message),
        hint=_HINTS.get(kind),
    )


def request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's id of the request, whatever it calls it."""
    for name in (
        "x-request-id",
        "request-id",
        "apim-request-id",
        "x-ms-request-id",
        "x-amzn-requestid",
        "cf-ray",
    ):
        value = headers.get(name)
        if value:
            return value
    return None


def _kind(status: int, said: _Said) -> type[LamellaError]:
    words, message = said.words, said.message.lower()
    if words & _QUOTA or (status in {400, 402, 403, 429} and _has(message, _QUOTA_WORDS)):
        return QuotaError
    if status in {400, 413, 422}:
        if words & _CONTEXT or _has(message, _CONTEXT_WORDS):
            return ContextLengthError
        if words & _CONTENT or _has(message, _FILTER_WORDS):
            return ContentFilteredError
    if status in {400, 403, 413, 422} and words & _AUTHENTICATION:
        return AuthenticationError
    if words & _NOT_READY:
        return OverloadedError
    kind = _BY_STATUS.get(status)
    if kind is not None:
        return kind
    return ServerError if status >= 500 else ProviderError


_BY_STATUS: Final[Mapping[int, type[LamellaError]]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    402: QuotaError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    410: NotFoundError,
    413: InvalidRequestError,
    415: InvalidRequestError,
    422: InvalidRequestError,
    424: ServerError,  # Bedrock: the model failed, not the service
    429: RateLimitError,
    503: OverloadedError,
    529: OverloadedError,
}


def _retryable(kind: type[LamellaError], status: int) -> bool:
    # 408 (the server waited too long for the request) and 425 (too early) have no class.
    return kind.retryable or status in {408, 425}


def _status_of(said: _Said) -> int:
    """The status that an error without one stands for."""
    words = said.words
    if words & _QUOTA:
        return 429
    if words & (_CONTEXT | _CONTENT):
        return 400
    for word in (said.code, said.kind):
        status = _STATUS_OF.get((word or "").lower())
        if status is not None:
            return status
    return 400 if any(word.startswith(_CALLERS) for word in words) else 500


def _has(message: str, phrases: Iterable[str]) -> bool:
    return any(phrase in message for phrase in phrases)


def _sentence(start: str, said: _Said, known: str | None) -> str:
    facts = [
        f"{name} {value}"
        for name, value in (
            ("code", said.code),
            ("type", said.kind),
            ("parameter", said.param),
            ("request", _identifier(known, digits_first=True)),
        )
        if value
    ]
    return f"{start} ({', '.join(facts)})." if facts else f"{start}."


def _read(body: bytes) -> _Said:
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Said()
    if isinstance(found, list) and found:  # Google's compatible endpoint sends a list of one
        found = found[0]  # pyright: ignore[reportUnknownVariableType]
    return _said(cast("dict[str, Any]", found)) if isinstance(found, dict) else _Said()


def _said(found: Mapping[str, Any]) -> _Said:
    """Read any of the shapes in which errors come."""
    inner = found.get("error", found)
    if isinstance(inner, str):  # a sentence, or a code in its place
        code = inner if inner.lower() in _KNOWN else None
        rest = {name: value for name, value in found.items() if value is not None}
        inner = {"code": code, **rest, "message": f"{inner} {found.get('message')}"}
    if not isinstance(inner, Mapping):
        return _Said()
    error = cast("Mapping[str, Any]", inner)
    code, kind, status = error.get("code"), error.get("type"), error.get("status")
    details = error.get("details")
    if code is None and isinstance(details, Mapping):  # Anthropic's word for the cause
        code = cast("Mapping[str, Any]", details).get("error_code")
    deeper = error.get("innererror")
    if kind is None and isinstance(deeper, Mapping):
        kind = cast("Mapping[str, Any]", deeper).get(
            "code"
        )  # Azure says here that a filter was at work
    stated = (error.get("status_code"), error.get("http_status_code"), status, code)
    numbers = (_status(value) for value in stated)
    detail = found.get("detail")
    message = error.get("message") or (detail if isinstance(detail, str) else "")
    return _Said(
        code=_identifier(code) or _identifier(status),
        kind=_identifier(kind),
        param=_identifier(error.get("param")),
        status=next((number for number in numbers if number is not None), None),
        message=message if isinstance(message, str) else "",
    )


def _status(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
        value = int(value)
    known = isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599
    return value if known and isinstance(value, int) else None


def _identifier(value: object, *, digits_first: bool = False) -> str | None:
    """A word of the provider's that may be repeated; None for what may be a sentence or secret."""
    if not isinstance(value, str):
        return None
    checked = f"x{value}" if digits_first else value
    if _IDENTIFIER.fullmatch(checked) is None or _SECRET.match(value) is not None:
        return None
    if not digits_first and sum(letter.isdigit() for letter in value) > _MOST_DIGITS:
        return None  # codes are words; what is full of digits is a number of somebody's
    return value
