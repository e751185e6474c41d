"""What the end of a call says about the target that it went to."""

from __future__ import annotations

import math
from typing import Final, Literal, TypeAlias

import attrs

from lamella import (
    AuthenticationError,
    ClosedError,
    ConfigurationError,
    ConflictError,
    CredentialsExhaustedError,
    DeadlineExceeded,
    Ending,
    InvalidRequestError,
    LamellaError,
    MisuseError,
    NotFoundError,
    Outcome,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    QuotaError,
    RateLimitError,
    RefusedError,
    ResponseTooLargeError,
    TimedOutError,
    UnpricedError,
)

Kind: TypeAlias = Literal["success", "failure", "local", "neutral"]

_NEUTRAL = (
    # Ours, or the caller's: the target has nothing to do with it.
    ClosedError, MisuseError, ConfigurationError, UnpricedError,
    InvalidRequestError, ConflictError, ResponseTooLargeError,
)  # fmt: skip
_LOCAL = (RefusedError, DeadlineExceeded)

_OF_THE_SERVER: Final = frozenset({408, 425})
"""Statuses below 500 that are nobody's mistake."""

BLOCKED: Final = 0.25
"""Seconds; a limit in time that was noticed later than that was missed by this process."""


@attrs.frozen
class Verdict:
    """What an ending says about the target.

    Attributes:
        kind: `success`; `failure` counts towards ejection; `local` arose here and is counted apart;
            `neutral` says nothing.
        rest: For how many seconds the provider wants to be left alone; infinite where it does not
            say how long; None if it does not want to be.
        why: Why it rests.
    """

    kind: Kind
    rest: float | None = None
    why: str = ""


SUCCESS = Verdict("success")
FAILURE = Verdict("failure")
LOCAL = Verdict("local")
NEUTRAL = Verdict("neutral")


def judge(end: Ending, *, own_model: bool) -> Verdict:
    """What an ending says about the target.

    Args:
        end: How the call ended there.
        own_model: Whether the target, and not the caller, says which model is asked: then it is
            the target's fault if that is not there or not permitted.
    """
    if end.outcome is Outcome.COMPLETE:
        return SUCCESS
    error = end.error
    if end.outcome in {Outcome.CANCELLED, Outcome.LEFT} or not isinstance(error, Exception):
        return NEUTRAL
    if not isinstance(error, LamellaError):
        return FAILURE  # a plain function's own: the connection error of another library
    if isinstance(error, _LOCAL):
        return LOCAL
    if isinstance(error, _NEUTRAL):
        return NEUTRAL
    return _of_provider(error, own_model=own_model)


def _of_provider(error: LamellaError, *, own_model: bool) -> Verdict:
    if isinstance(error, TimedOutError) and error.late >= BLOCKED:
        return LOCAL
    hint = error.retry_after
    valid = hint is not None and 0 < hint < math.inf
    if isinstance(error, QuotaError | CredentialsExhaustedError):
        return Verdict("neutral", hint if valid else math.inf, "quota")
    if isinstance(error, RateLimitError):
        return Verdict("neutral", hint, "throttled") if valid else FAILURE
    if isinstance(error, OverloadedError) and valid:
        return Verdict("failure", hint, "overloaded")
    if isinstance(error, NotFoundError | PermissionDeniedError):
        return FAILURE if own_model else NEUTRAL
    if isinstance(error, AuthenticationError):
        return FAILURE
    if isinstance(error, ProviderError) and error.status is not None:
        return FAILURE if error.status >= 500 or error.status in _OF_THE_SERVER else NEUTRAL
    return FAILURE
