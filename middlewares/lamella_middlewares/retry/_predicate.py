"""Which failures deserve another try."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, cast

import attrs

from lamella import (
    AuthenticationError,
    ClosedError,
    ConfigurationError,
    ConnectError,
    LamellaError,
    MisuseError,
    Outcome,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    ProviderError,
    QuotaError,
    RateLimitError,
    RefusedError,
    Request,
    StreamTruncated,
    TargetsFailedError,
    TimedOutError,
)
from lamella._options import is_async
from lamella._repeatable import maybe_processed, repeatable, valid_hint

Foreign: TypeAlias = Callable[[Exception], bool]
"""Whether an exception that is not the library's own may be retried."""

RETRYABLE_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""For provider errors that no transport has classified."""

_OURS = (RefusedError, MisuseError, ConfigurationError, ClosedError)
"""Said by this process, not by the provider: asking again gives the same answer."""


@attrs.frozen
class Verdict:
    """What is to be done about a failure.

    Attributes:
        again: Whether it may pass if tried again.
        reason: Why, in a word for the trace.
        throttled: Whether the provider asked for fewer requests.
        free: Whether nothing has left this process, so that a try costs nobody anything.
        hint: Seconds that the provider wants one to wait; None if it did not say.
    """

    again: bool
    reason: str
    throttled: bool = False
    free: bool = False
    hint: float | None = None


_FINAL = Verdict(again=False, reason="final")
_STATEFUL = Verdict(again=False, reason="stateful")
_SPARE = Verdict(again=False, reason="spare credential")
_ELSEWHERE = Verdict(again=False, reason="alternative")

_OF_CREDENTIAL = (AuthenticationError, PermissionDeniedError, QuotaError, RateLimitError)
"""Failures that concern the credential: with another one at hand, waiting for it is a loss."""


def judge(error: Exception, request: Request[Any], foreign: Foreign | None) -> Verdict:
    """What is to be done about an error that `await call_next(request)` raised.

    Args:
        error: The error. It is uncommitted, or it would not have come that way.
        request: What was sent; a request that changes something at the provider is not repeated
            where nobody knows whether it was processed.
        foreign: The caller's word on exceptions that are not the library's own.
    """
    if not isinstance(error, LamellaError):
        if foreign is None or not foreign(error):
            return _FINAL
        return Verdict(again=True, reason="foreign") if repeatable(request) else _STATEFUL
    if isinstance(error, TargetsFailedError) and error.errors:
        return _together([judge(one, request, foreign) for one in error.errors])
    return _judged(error, request)


def _judged(error: LamellaError, request: Request[Any]) -> Verdict:
    if error.committed or isinstance(error, _OURS):
        return _FINAL
    if request.context.spare_credentials and isinstance(error, _OF_CREDENTIAL):
        return _SPARE
    if error.should_retry:
        return _verdict(error, "asked")
    if error.should_retry is False or not _retryable(error):
        return _FINAL
    if isinstance(error, TimedOutError) and request.context.alternatives:
        return _ELSEWHERE  # a target that is silent now will be silent for a second limit, too
    if error.outcome is Outcome.NOT_SENT:
        hint = valid_hint(error.retry_after)
        return Verdict(again=True, reason="not_sent", free=True, hint=hint)
    if maybe_processed(error) and not repeatable(request):
        return _STATEFUL
    return _verdict(error, _reason(error))


def _together(verdicts: list[Verdict]) -> Verdict:
    """What is to be done after several targets have failed: a further try asks all of them."""
    again = [verdict for verdict in verdicts if verdict.again]
    if not again or _STATEFUL in verdicts:
        return _STATEFUL if _STATEFUL in verdicts else _FINAL
    hints = [verdict.hint for verdict in again if verdict.hint is not None]
    return Verdict(
        again=True,
        reason=again[0].reason,
        throttled=all(verdict.throttled for verdict in again),
        free=all(verdict.free for verdict in verdicts),
        # One of them may be asked at once; the others are left alone for as long as they said.
        hint=min(hints) if len(hints) == len(again) else None,
    )


def _verdict(error: LamellaError, reason: str) -> Verdict:
    throttled = isinstance(error, RateLimitError | OverloadedError) or error.status == 429
    hint = valid_hint(error.retry_after)
    return Verdict(again=True, reason=reason, throttled=throttled, hint=hint)


def _retryable(error: LamellaError) -> bool:
    if error.retryable:
        return True
    return type(error) is ProviderError and error.status in RETRYABLE_STATUSES


def _reason(error: LamellaError) -> str:
    for kind, word in _REASONS.items():
        if isinstance(error, kind):
            return word
    return "server_error" if isinstance(error, ProviderError) else "network"


_REASONS: Mapping[type[LamellaError], str] = {
    RateLimitError: "rate_limited",
    OverloadedError: "overloaded",
    ConnectError: "not_sent",
    TimedOutError: "timed_out",
    StreamTruncated: "truncated",
    ProtocolError: "malformed",
}


def foreign_predicate(on: object) -> Foreign | None:
    """The predicate that `Retry(on=...)` asks for.

    Raises:
        ConfigurationError: If it is neither exception types nor a plain function, or names the
            library's own errors, which know themselves whether they may be retried.
    """
    if on is None:
        return None
    if isinstance(on, type):
        on = (on,)
    if callable(on):
        if is_async(on):
            msg = "Retry(on=...) was given an async function."
            raise ConfigurationError(msg, hint="Give a plain function of the exception.")
        return cast("Foreign", on)
    hint = "Give exception types, such as on=(ConnectionError,), or a function of the exception."
    if not isinstance(on, Iterable):
        raise ConfigurationError(f"Retry(on={on!r}) cannot be understood.", hint=hint)
    types = tuple(cast("Iterable[object]", on))
    if not types:
        raise ConfigurationError(f"Retry(on={on!r}) names no exception.", hint=hint)
    for kind in types:
        if not isinstance(kind, type) or not issubclass(kind, Exception):
            raise ConfigurationError(f"Retry(on=...): {kind!r} is no exception type.", hint=hint)
        if issubclass(kind, LamellaError):
            raise ConfigurationError(
                f"Retry(on=...): {kind.__name__} is the library's own, and knows itself whether it "
                "may be retried.",
                hint="Give only exceptions of other libraries.",
            )
    kinds = cast("tuple[type[Exception], ...]", types)
    return lambda error: isinstance(error, kinds)
