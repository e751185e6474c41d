"""Walking a pool: one provider, several credentials.

A credential that is refused or throttled is left for the next one at once: that is no retry, and
waiting for one key while another is idle is a loss. A refused one is not visited again in the call,
and later calls avoid it for a while; a throttled one is avoided until its limit allows more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

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


class Rests:
    """Which credentials of a pool are left alone, and until when. Thread-safe.

    Args:
        count: How many credentials there are.
    """

    __slots__ = ("_lock", "_turn", "_until")

    def __init__(self, count: int) -> None:
        self._lock = fork_safe_lock()
        self._until: list[tuple[float, bool]] = [(0.0, False)] * count  # until when, and dead
        self._turn = 0

    def order(self, now: float, *, spread: bool) -> list[int]:
        """The credentials to visit, best first. At least one: the next to be free, if none is.

        Args:
            now: The monotonic instant, in seconds.
            spread: Whether calls take turns at which one is first.
        """
        with self._lock:
            count = len(self._until)
            first = self._turn % count if spread else 0
            self._turn += spread
            turned = [*range(first, count), *range(first)]
            free = [number for number in turned if self._until[number][0] <= now]
            return free or [min(turned, key=lambda number: self._until[number][::-1])]

    def rest(self, number: int, until: float, *, dead: bool) -> None:
        """Leave a credential alone until then."""
        with self._lock:
            self._until[number] = (until, dead)

    def revive(self, number: int) -> None:
        """A credential has been accepted."""
        if self._until[number][0]:
            with self._lock:
                self._until[number] = (0.0, False)

    def wait(self, now: float) -> float | None:
        """Seconds until the first throttled credential is free again; None if all are dead."""
        with self._lock:
            waits = [until - now for until, dead in self._until if not dead]
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
    order = rests.order(ports.monotonic(), spread=pool.spread)
    request = request.branch(pool.branch)
    failures: list[LamellaError] = []
    for place, number in enumerate(order):
        member = pool.credentials[number]
        sent = request.branch(f"key{number + 1}").aim(member)
        spare = len(order) - place - 1
        if spare:
            sent = sent.evolve(context=sent.context.evolve(spare_credentials=spare))
        try:
            response = await call_next(sent)
        except (*DEAD, *BUSY) as error:
            if error.committed:
                raise
            failures.append(error)
            _put_to_rest(request, pool, rests, number, error)
        else:
            rests.revive(number)
            return response
    raise _as_a_whole(request, pool, rests, failures)


def _rests_of(request: Request[R], pool: Target) -> Rests:
    # A credential may be refused for one model only.
    model = pool.model or request.model or ""
    count = len(pool.credentials)
    key = ("shared", "pool", pool.name, str(count), request.operation, model)
    return request.context.ports.stores.local.get(key, lambda: Rests(count))


def _put_to_rest(
    request: Request[R], pool: Target, rests: Rests, number: int, error: LamellaError
) -> None:
    dead = isinstance(error, DEAD)
    if isinstance(error, RefusedError):
        return  # what holds it back here says so again, and costs nothing
    seconds = pool.rest if dead else error.retry_after or THROTTLE_SECONDS
    rests.rest(number, request.context.ports.monotonic() + seconds, dead=dead)
    request.context.note(
        "pool",
        "pool.refused" if dead else "pool.throttled",
        pool=pool.name,
        credential=number + 1,
        error=type(error).__name__,
        status=error.status,
        rest=seconds,
    )


def _as_a_whole(
    request: Request[R], pool: Target, rests: Rests, failures: list[LamellaError]
) -> LamellaError:
    """What the failures of all credentials amount to."""
    last = failures[-1]
    busy = [error for error in failures if isinstance(error, BUSY)]
    if busy:
        hints = [error.retry_after for error in busy if error.retry_after is not None]
        return busy[0].copy(retry_after=min(hints, default=None))
    wait = rests.wait(request.context.ports.monotonic())
    if wait is not None:
        msg = f"The credentials of {pool.name!r} that are accepted are all throttled."
        error: LamellaError = RateLimitError(msg, status=429, retry_after=wait, provider=pool.name)
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
