"""Walking a pool: one provider, several credentials.

A credential that is refused or throttled is left for the next one at once: that is no retry, and
waiting for one key while another is idle is a loss. A refused one is not visited again in the call,
and later calls avoid it for a while; a throttled one is avoided until its limit allows more.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from lamella._errors import (
    AuthenticationError,
    CircuitOpenError,
    CredentialsExhaustedError,
    LamellaError,
    LimitedError,
    PermissionDeniedError,
    QuotaError,
    RateLimitError,
    RefusedError,
)
from lamella._fork_locks import fork_safe_lock
from lamella._repeatable import left_alone, valid_hint
from lamella._responses import Response

if TYPE_CHECKING:
    from lamella._handlers import Handler
    from lamella._requests import Request
    from lamella._targets import Target

R = TypeVar("R", bound=Response)

DEAD: Final = (AuthenticationError, PermissionDeniedError, QuotaError)
"""What no wait mends: the credential is wrong, may not do this, or is out of money."""

BUSY: Final = (RateLimitError, LimitedError, CircuitOpenError)
"""What passes by itself: throttled by the provider, or held back here."""

THROTTLE_SECONDS: Final = 5.0
"""For how long a throttled credential is avoided if the provider does not say."""

LONGEST_SECONDS: Final = 86_400.0
"""For how long at most a throttled credential is avoided, whatever the provider says."""


@attrs.frozen
class _Rest:
    """That a credential is left alone: until when, since when, and whether it was refused."""

    until: float = -math.inf
    since: float = -math.inf
    dead: bool = False


_NONE: Final = _Rest()


class Rests:
    """Which credentials of a pool are left alone, and until when. Thread-safe.

    Args:
        count: How many credentials there are.
    """

    __slots__ = ("_lock", "_rests", "_turn")

    def __init__(self, count: int) -> None:
        self._lock = fork_safe_lock()
        self._rests = [_NONE] * count
        self._turn = 0

    def order(self, now: float, *, spread: bool) -> list[int]:
        """The credentials to visit, best first. At least one: the next to be free, if none is.

        Args:
            now: The monotonic instant, in seconds.
            spread: Whether calls take turns at which one is first.
        """
        with self._lock:
            rests = self._rests
            count = len(rests)
            first = self._turn % count if spread else 0
            self._turn += spread
            turned = [*range(first, count), *range(first)]
            free = [number for number in turned if rests[number].until <= now]
            return free or [min(turned, key=lambda one: (rests[one].dead, rests[one].until))]

    def rest(self, number: int, until: float, *, asked: float, now: float, dead: bool) -> None:
        """Leave a credential alone until then.

        Args:
            number: Which.
            until: Until when.
            asked: When it was asked. Of what calls at once are told the strictest holds.
            now: The monotonic instant, in seconds.
            dead: Whether it was refused; otherwise it was throttled.
        """
        with self._lock:
            known = self._rests[number]
            if known.since > asked:
                until, dead = max(until, known.until), dead or known.dead
            self._rests[number] = _Rest(until, now, dead)

    def revive(self, number: int, asked: float) -> None:
        """A credential has been accepted.

        Args:
            number: Which.
            asked: When it was asked: what was said of it since then is news, and stays.
        """
        if self._rests[number] is not _NONE:
            with self._lock:
                if self._rests[number].since <= asked:
                    self._rests[number] = _NONE

    def wait(self, now: float, besides: Collection[int] = ()) -> float | None:
        """Seconds until the first throttled credential is free again; None if there is none.

        Args:
            now: The monotonic instant, in seconds.
            besides: Which ones do not matter.
        """
        with self._lock:
            waits = [
                rest.until - now
                for number, rest in enumerate(self._rests)
                if not rest.dead and number not in besides
            ]
        return max(min(waits), 0.0) if waits else None


async def walk(request: Request[R], pool: Target, call_next: Handler) -> R:
    """Send a request to a pool.

    Raises:
        CredentialsExhaustedError: If no credential is accepted.
        RateLimitError: If those that are accepted are all throttled; `retry_after` is the least.
        LamellaError: What else a credential's attempt failed with.
    """
    ports = request.context.ports
    rests = _rests_of(request, pool)
    order = _may_be_asked(request, pool, rests)
    request = request.branch(pool.branch)
    failures: list[LamellaError] = []
    for place, number in enumerate(order):
        member = pool.credentials[number]
        sent = request.aim(member, branch=f"key{number + 1}")
        spare = len(order) - place - 1
        if spare:
            sent = sent.evolve(context=sent.context.evolve(spare_credentials=spare))
        asked = ports.monotonic()
        try:
            response = await call_next(sent)
        except (*DEAD, *BUSY) as error:
            if error.committed:
                raise
            failures.append(error)
            _put_to_rest(request, pool, rests, number, asked, error)
            if spare and request.context.bound.left <= 0:
                raise _cut_short(error, spare) from error.__cause__
        else:
            rests.revive(number, asked)
            return response
    raise _as_a_whole(request, pool, rests, failures, order)


def _may_be_asked(request: Request[R], pool: Target, rests: Rests) -> list[int]:
    """The credentials to visit, best first: at least one.

    Raises:
        RateLimitError: If each has asked, in this model turn, to be left alone for longer.
    """
    context = request.context
    now = context.ports.monotonic()
    order = rests.order(now, spread=pool.spread)
    if context.bound.turn.used:
        model = pool.model or request.model
        members = pool.credentials
        found = [one for one in order if not left_alone(context, members[one].transport, model)]
        wait = None if found else rests.wait(now)
        if wait:
            raise _all_throttled(pool, wait)
        order = found or order
    return order


def _all_throttled(pool: Target, wait: float) -> LamellaError:
    msg = f"The credentials of {pool.name!r} that are accepted are all throttled."
    return RateLimitError(msg, status=429, retry_after=wait, provider=pool.name)


def _rests_of(request: Request[R], pool: Target) -> Rests:
    # A credential may be refused for one model only.
    model = pool.model or request.model or ""
    count = len(pool.credentials)
    key = ("shared", "pool", pool.name, str(count), request.operation, model)
    return request.context.ports.stores.local.get(key, lambda: Rests(count))


def _put_to_rest(
    request: Request[R], pool: Target, rests: Rests, number: int, asked: float, error: LamellaError
) -> None:
    dead = isinstance(error, DEAD)
    if isinstance(error, RefusedError):
        return  # what holds it back here says so again, and costs nothing
    hint = valid_hint(error.retry_after) or THROTTLE_SECONDS
    seconds = pool.rest if dead else min(hint, LONGEST_SECONDS)
    now = request.context.ports.monotonic()
    rests.rest(number, now + seconds, asked=asked, now=now, dead=dead)
    request.context.note(
        "pool",
        "pool.refused" if dead else "pool.throttled",
        pool=pool.name,
        credential=number + 1,
        error=type(error).__name__,
        status=error.status,
        rest=seconds,
    )


def _cut_short(error: LamellaError, spare: int) -> LamellaError:
    """The last failure of a walk that the bound on attempts has ended."""
    hint = f"The bound on attempts left none for {spare} more credentials; raise max_attempts=."
    return error.copy(hint=hint)


def _as_a_whole(
    request: Request[R],
    pool: Target,
    rests: Rests,
    failures: list[LamellaError],
    visited: Collection[int],
) -> LamellaError:
    """What the failures of all credentials amount to."""
    last = failures[-1]
    busy = [error for error in failures if isinstance(error, BUSY)]
    wait = rests.wait(request.context.ports.monotonic(), besides=visited)
    if busy:
        hints = [valid_hint(hint) for hint in (*[one.retry_after for one in busy], wait)]
        return busy[0].copy(retry_after=min([one for one in hints if one], default=None))
    if wait is not None:
        error = _all_throttled(pool, wait)
        error.__cause__ = last
        return error
    kinds = ", ".join(dict.fromkeys(type(error).__name__ for error in failures))
    error = CredentialsExhaustedError(
        f"No credential of {pool.name!r} is accepted ({len(pool.credentials)} in all; {kinds}).",
        hint="Renew the keys or the account; the trace says which ones were refused.",
        status=last.status,
        code=last.code,
        provider=last.provider or pool.name,
        request_id=last.request_id,
    )
    error.__cause__ = last
    return error
