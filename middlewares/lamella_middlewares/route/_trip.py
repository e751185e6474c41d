"""One call at one target: counted while it is there, judged at its end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lamella import (
    AuthenticationError,
    Ending,
    Handler,
    MisuseError,
    OpenAttempt,
    Outcome,
    QuotaError,
    RateLimitError,
    Request,
    Response,
    Target,
)
from lamella._targets import send
from lamella_middlewares.route._board import Board, Standing, may_eject
from lamella_middlewares.route._verdicts import Verdict, judge

if TYPE_CHECKING:
    from lamella_middlewares.route._middleware import Route

R = TypeVar("R", bound=Response)

logger = logging.getLogger("lamella")

_MEASURED: Final = frozenset({Outcome.COMPLETE, Outcome.TIMED_OUT})

_OF_A_KEY: Final = (AuthenticationError, QuotaError, RateLimitError)
"""What a pool has turned to another credential for."""


class Trip:
    """One call at one target. As a handler it sends; its `settle` is told of the end.

    Args:
        route: The layer.
        request: What is sent, as the layer got it.
        call_next: The handler inside the layer.
        board: Where it is counted.
        group: All targets of the layer.
        target: Where it goes.
        standing: That target's standing.
    """

    __slots__ = ("__name__", "_attempt", "_board", "_call_next", "_epoch", "_group", "_request",
                 "_route", "_standing", "_started", "_target", "_turn", "_used")  # fmt: skip

    def __init__(
        self,
        route: Route,
        request: Request[Any],
        call_next: Handler,
        board: Board,
        group: tuple[Standing, ...],
        place: tuple[Target, Standing],
    ) -> None:
        self.__name__ = getattr(call_next, "__name__", "transport")
        self._route = route
        self._request = request
        self._call_next = call_next
        self._board = board
        self._group = group
        self._target, self._standing = place
        self._turn = request.context.bound.turn
        self._used = self._turn.used
        self._attempt: OpenAttempt | None = None
        self._started = request.context.ports.monotonic()
        self._epoch = board.depart(self._standing, self._turn)

    async def __call__(self, request: Request[R], /) -> R:
        """Send the request to the target."""
        response = await send(request, self._target, self._call_next)
        self._attempt = _attempt_of(response)
        return response

    def sent(self) -> bool:
        """Whether anything of it may have reached the provider."""
        return any(one.outcome is not Outcome.NOT_SENT for one in self._attempts())

    def _attempts(self) -> list[OpenAttempt]:
        """Its attempts, in the order opened."""
        if self._turn.used == self._used:
            return []
        branch = f"{self._request.context.branch}/{self._target.branch}"
        since = self._request.context.trace.of_turn(self._turn)[self._used :]
        return [
            one
            for one in since
            if one.branch.startswith(branch) and one.branch[len(branch) :][:1] in {"", "/"}
        ]

    # --- the end -----------------------------------------------------------------------------

    def settle(self, end: Ending) -> None:
        """The call has ended there."""
        now = self._request.context.ports.monotonic()
        verdict = judge(end, own_model=self._target.model is not None)
        hidden = self._hidden_failures() if self._turn.used - self._used > 1 else 0
        with self._board.lock:
            self._board.arrive(self._standing, self._turn)
            self._measure(end, now)
            why = self._count(verdict, hidden, now)
            ejected, kept = self._eject(why, now)
            rests = self._rest(verdict, now)
        self._tell(verdict, why, ejected, kept, rests)

    def _measure(self, end: Ending, now: float) -> None:
        standing, attempt = self._standing, self._attempt
        first = None if attempt is None else attempt.first_event
        latency = standing.latency[self._request.stream]
        half_life = self._route.half_life
        usage = end.usage
        if attempt is not None:
            usage = usage or attempt.usage
            if first is not None:
                latency.add(first - attempt.start, now, half_life)
        if usage is not None:
            standing.tokens.add(usage.input_tokens + usage.output_tokens, now)
        if first is not None:
            return
        waited = now - self._started
        if end.outcome in _MEASURED:
            latency.add(waited, now, half_life)
        elif end.outcome is Outcome.CANCELLED:
            # Somebody has given up waiting: it is at least as slow as that.
            mean = latency.mean(now, float("inf"))
            if mean is not None and waited > mean:
                latency.add(waited, now, half_life)

    def _count(self, verdict: Verdict, hidden: int, now: float) -> str | None:
        """Count a success or a failure; why it should be ejected, if it should."""
        standing, ejection = self._standing, self._route.ejection
        conduct = standing.conduct
        standing.failures += hidden + (verdict.kind == "failure")
        standing.local += verdict.kind == "local"
        if ejection is None or conduct.epoch != self._epoch or now < conduct.ejected_until:
            return None
        why = None
        for _ in range(hidden):
            why = conduct.failed(now, ejection) or why
        if verdict.kind == "failure":
            why = conduct.failed(now, ejection) or why
        elif verdict.kind == "success":
            conduct.succeeded(now, ejection)
            why = None if why == "consecutive failures" else why
        return why

    def _eject(self, why: str | None, now: float) -> tuple[float | None, str | None]:
        """Eject if it should be; for how many seconds, or else why not."""
        ejection = self._route.ejection
        if why is None or ejection is None:
            return None, None
        kept = may_eject(self._standing, self._group, now, ejection)
        if kept is not None:
            return None, kept
        return self._standing.conduct.eject(now, ejection, why), None

    def _rest(self, verdict: Verdict, now: float) -> float | None:
        ejection = self._route.ejection
        if verdict.rest is None or ejection is None:
            return None
        lasts = ejection.quota if verdict.rest == float("inf") else verdict.rest
        return self._standing.conduct.rest(now, lasts, verdict.why)

    def _hidden_failures(self) -> int:
        """How many attempts inside have failed besides the last one, and were tried again.

        Retry inside turns three failures in four attempts into one success; the trace has them all.
        A pipeline's own are its own affair.
        """
        if self._target.nested:
            return 0
        count = 0
        for one in self._attempts()[:-1]:
            error, outcome = one.error, one.outcome
            if outcome is None or (self._target.credentials and isinstance(error, _OF_A_KEY)):
                continue
            own_model = self._target.model is not None
            count += judge(Ending(outcome, error), own_model=own_model).kind == "failure"
        return count

    def _tell(
        self,
        verdict: Verdict,
        why: str | None,
        ejected: float | None,
        kept: str | None,
        rests: float | None,
    ) -> None:
        note, name = self._request.context.note, self._target.name
        if ejected is not None:
            note("route", "route.ejected", target=name, seconds=ejected, why=why)
            logger.warning("target %s: ejected for %.3g s (%s)", name, ejected, why)
        elif kept is not None:
            note("route", "route.not_ejected", target=name, why=kept)
        if rests is not None:
            note("route", "route.rests", target=name, seconds=rests, why=verdict.why)
            logger.warning("target %s: rests for %.3g s (%s)", name, rests, verdict.why)


def _attempt_of(response: Any) -> OpenAttempt | None:
    """The attempt that an answer came from; None of one that a layer inside has made by hand."""
    try:
        found: OpenAttempt | None = response.context.attempt
    except (MisuseError, AttributeError):
        return None
    return found
