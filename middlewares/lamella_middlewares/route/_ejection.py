"""Ejection: a target that fails more than it answers is left alone for a while.

The rules are those of Envoy's outlier detection: consecutive failures or a share of failures eject,
for a time that grows with each ejection up to a cap and shrinks again with good conduct, and never
more targets than a declared share. What the provider itself says about time (a throttle's
`retry_after`, a quota that is used up) is kept to exactly and is no ejection.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal, TypeAlias

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
from lamella._options import is_number, number, refused, seconds, span, whole
from lamella._sliding_counts import SlidingCounts

Status: TypeAlias = Literal["ok", "ejected", "resting", "isolated"]
Kind: TypeAlias = Literal["success", "failure", "local", "neutral"]

_GOOD: Final = 0
_BAD: Final = 1

LEAST_RAMP: Final = 0.1
"""The share of its weight with which a target comes back."""

LONGEST_REST: Final = 86_400.0
"""Seconds that a provider's word about time can last; one that says more is asked again then."""


def _whole_or_none(ejection: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        whole(1)(ejection, option, value)


def _share_or_none(ejection: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not is_number(value) or not 0 < value <= 1):
        raise refused(ejection, option, value, "a share above 0 and at most 1, or None")


@attrs.frozen
class Ejection:
    """When a target is ejected, and for how long.

    Args:
        consecutive: So many failures in a row eject; 1 or more. None: none do.
        ratio: This share of failures among the calls of `window` ejects; above 0, at most 1. None:
            none does.
        min_calls: How many calls the window must hold for its share to mean something; 1 or more.
        window: How far back the share looks, in seconds above 0.
        base: For how long the first ejection lasts, in seconds above 0; the n-th lasts n times as
            long. Each `base` seconds without another one forgive one.
        cap: The longest ejection, in seconds above 0.
        max_ejected: The share of targets that may be ejected at the same time, 0 to 1; above 0 it
            is at least one. One target is always left. 0 ejects none.
        quota: For how long a target rests whose money or quota is used up, in seconds above 0,
            where the provider does not say.
        slow_start: Seconds over which a target that comes back gets its full weight again; 0 gives
            it at once.
    """

    consecutive: int | None = attrs.field(default=5, validator=_whole_or_none)
    ratio: float | None = attrs.field(default=0.5, validator=_share_or_none)
    min_calls: int = attrs.field(default=10, validator=whole(1))
    window: float = attrs.field(default=30.0, converter=seconds, validator=span)
    base: float = attrs.field(default=30.0, converter=seconds, validator=span)
    cap: float = attrs.field(default=300.0, converter=seconds, validator=span)
    max_ejected: float = attrs.field(default=0.5, validator=number(0, 1))
    quota: float = attrs.field(default=300.0, converter=seconds, validator=span)
    slow_start: float = attrs.field(default=30.0, converter=seconds, validator=number(0))

    def most(self, targets: int) -> int:
        """How many of so many targets may be ejected at the same time."""
        if self.max_ejected == 0:
            return 0
        return min(max(1, int(self.max_ejected * targets)), targets - 1)


class Conduct:
    """How one target behaves. Changed under the lock of its board.

    Attributes:
        consecutive: Failures in a row.
        ejections: How often it was ejected, counted at the last ejection.
        ejected_until: The instant until which it is ejected; 0 if it never was.
        resting_until: The instant until which the provider wants to be left alone.
        why: Why it rests or was ejected.
        isolated: Whether somebody has taken it out by hand.
        spotless: Whether nothing has ever spoken against it, which needs no look at the clock.
        epoch: Rises with each ejection: what began before it says nothing about the time after.
    """

    __slots__ = ("_counts", "_window", "consecutive", "ejected_until", "ejections", "epoch",
                 "isolated", "resting_until", "spotless", "why")  # fmt: skip

    def __init__(self) -> None:
        self.consecutive = 0
        self.ejections = 0
        self.ejected_until = 0.0
        self.resting_until = 0.0
        self.why = ""
        self.isolated = False
        self.spotless = True
        self.epoch = 0
        self._counts: SlidingCounts | None = None
        self._window = 0.0

    def status(self, now: float) -> Status:
        """How it stands: by hand first, then the provider's word, then our own judgement."""
        if self.isolated:
            return "isolated"
        if now < self.resting_until:
            return "resting"
        return "ejected" if now < self.ejected_until else "ok"

    def back_in(self, now: float) -> float | None:
        """Seconds until it may be chosen again; None if only a hand can bring it back."""
        if self.isolated:
            return None
        return max(0.0, self.resting_until - now, self.ejected_until - now)

    def ramp(self, now: float, slow_start: float) -> float:
        """The share of its weight that it gets since it came back."""
        back = self.ejected_until
        if back == 0.0 or slow_start == 0 or now >= back + slow_start:
            return 1.0
        return max(LEAST_RAMP, (now - back) / slow_start)

    def forgiven(self, now: float, base: float) -> int:
        """How many of its ejections still count."""
        healthy = max(0.0, now - self.ejected_until)
        return max(0, self.ejections - int(healthy // base))

    def succeeded(self, now: float, ejection: Ejection) -> None:
        """It has answered."""
        self.consecutive = 0
        counts = self._counts
        if counts is None or self._window < ejection.window:
            counts = self._counts_of(ejection.window)
        counts.add(now, _GOOD)

    def failed(self, now: float, ejection: Ejection) -> str | None:
        """It has failed.

        Returns:
            Why it should be ejected, None if it should not.
        """
        self.consecutive += 1
        good, bad = self._counts_of(ejection.window).add(now, _BAD)
        if ejection.consecutive is not None and self.consecutive >= ejection.consecutive:
            return "consecutive failures"
        if ejection.ratio is None:
            return None
        calls = good + bad
        enough = calls >= ejection.min_calls and bad >= ejection.ratio * calls
        return "share of failures" if enough else None

    def eject(self, now: float, ejection: Ejection, why: str) -> float:
        """Leave it alone for a while; for how many seconds."""
        self.ejections = self.forgiven(now, ejection.base) + 1
        lasts = min(ejection.base * self.ejections, ejection.cap)
        self.ejected_until = now + lasts
        self.spotless = False
        self.why = why
        self._forget()
        return lasts

    def rest(self, now: float, lasts: float, why: str) -> float:
        """Leave it alone for as long as the provider wants; for how many seconds."""
        lasts = min(lasts, LONGEST_REST)
        self.rest_until(now + lasts, why)
        return lasts

    def rest_until(self, instant: float, why: str) -> None:
        """Leave it alone until then, at least."""
        if instant > self.resting_until:
            self.resting_until = instant
            self.spotless = False
            self.why = why

    def isolate(self) -> None:
        """Leave it alone until `restore`."""
        self.isolated = True
        self.spotless = False

    def restore(self) -> None:
        """Forget all that speaks against it."""
        self.isolated = False
        self.spotless = True
        self.ejections = 0
        self.ejected_until = 0.0
        self.resting_until = 0.0
        self.why = ""
        self._forget()

    def _forget(self) -> None:
        self.epoch += 1
        self.consecutive = 0
        if self._counts is not None:
            self._counts.clear()

    def _counts_of(self, window: float) -> SlidingCounts:
        """The counts of a window: of the longest, where layers of a namespace do not agree."""
        if self._counts is None or self._window < window:
            self._counts, self._window = SlidingCounts(window, 2), window
        return self._counts


# --- what the end of a call says of its target ------------------------------------------------

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
    valid = hint is not None and is_number(hint) and hint > 0
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
