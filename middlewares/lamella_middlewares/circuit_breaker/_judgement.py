"""What the end of a call says about its provider."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeAlias

from lamella import (
    DeadlineExceeded,
    Ending,
    LamellaError,
    NetworkError,
    Outcome,
    ProtocolError,
    ProviderError,
    RateLimitError,
    ResponseTooLargeError,
    StreamTruncated,
    TimedOutError,
)
from lamella_middlewares.circuit_breaker._circuit import Verdict

Judge: TypeAlias = Callable[[Exception], bool | None]
"""True for a failure of the provider, False for a success, None for the layer's own judgement."""

BLOCKED: Final = 0.25
"""Seconds; a limit in time that was noticed later than that was missed by this process."""

_NO_ANSWER: Final = frozenset({408})
_PROVIDERS = (NetworkError, ProtocolError, StreamTruncated)
"""What is nobody's fault but the provider's, or the network's on the way there."""

_NEUTRAL_OUTCOMES: Final = frozenset({Outcome.CANCELLED, Outcome.LEFT})


def verdict_of(end: Ending, *, slow: bool, count_throttles: bool, judge: Judge | None) -> Verdict:
    """What the end of a call says about its provider.

    Args:
        end: The end; that of a stream, not its beginning.
        slow: Whether its first event took too long.
        count_throttles: Whether a throttle is a failure.
        judge: The caller's own judgement of errors, which comes first.
    """
    error = end.error
    if end.outcome in _NEUTRAL_OUTCOMES:
        return "neutral"
    if error is None:
        return "failure" if slow else "success"
    if not isinstance(error, Exception):
        return "neutral"
    word = None if judge is None else judge(error)
    if word is not None:
        return "failure" if word else "success"
    return "failure" if _is_failure(error, count_throttles=count_throttles) else "neutral"


def _is_failure(error: Exception, *, count_throttles: bool) -> bool:
    if isinstance(error, TimedOutError):
        # The deadline is the caller's: a call that had little time left has not been failed.
        return not isinstance(error, DeadlineExceeded) and error.late < BLOCKED
    if isinstance(error, RateLimitError):
        return count_throttles
    if isinstance(error, ProviderError):
        return _is_servers(error)
    if isinstance(error, ResponseTooLargeError):
        return False  # the limit is ours
    if isinstance(error, LamellaError):
        return isinstance(error, _PROVIDERS)
    return isinstance(error, OSError)  # of a plain function: broken connections and timeouts


def _is_servers(error: ProviderError) -> bool:
    """Whether the provider has failed; the caller's mistakes and credentials are no failure."""
    if error.status is not None:
        return error.status >= 500 or error.status in _NO_ANSWER
    return error.retryable or type(error) is ProviderError  # inside an answer, without a status


def hint_of(end: Ending) -> float | None:
    """Seconds that the provider asked to be left alone; None if it did not."""
    error = end.error
    hint = error.retry_after if isinstance(error, LamellaError) else None
    return hint if hint is not None and 0 < hint < math.inf else None
