"""One call at one target: counted while it is there, judged at its end."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

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
from lamella_middlewares.route._board import USAGE_HALF_LIFE, Board, Standing, may_eject
from lamella_middlewares.route._ejection import Ejection, Verdict, judge
from lamella_middlewares.route._policies import Candidate

if TYPE_CHECKING:
    from lamella_middlewares.route._middleware import Route

R = TypeVar("R", bound=Response)

logger = logging.getLogger("lamella")

_OF_A_KEY: Final = (AuthenticationError, QuotaError, RateLimitError)
"""What a pool has turned to another credential for."""


Tale: TypeAlias = tuple[str, dict[str, Any], bool]
"""What is to be noted, its fields, and whether it is logged as well."""


class Trip(Generic[R]):
    """A call at one target: what it is there, and what is made of its end.

    One object serves a request for one target after another, for a call ends at each before it
    begins at the next. As a handler it sends; its `settle` is told of the end.

    Args:
        route: The layer.
        request: The request as the layer got it.
        call_next: The handler inside the layer.
        board: What is known of the targets.

    Attributes:
        standing: That of the target, once there is one.
    """

    __slots__ = ("_age", "_attempt", "_board", "_call_next", "_epoch", "_group", "_request",
                 "_route", "_started", "_target", "_turn", "_used", "standing")  # fmt: skip

    standing: Standing
    _target: Target

    def __init__(self, route: Route, request: Request[R], call_next: Handler, board: Board) -> None:
        context = request.context
        self._route = route
        self._request: Request[R] = request
        self._call_next = call_next
        self._board = board
        self._group = board.group(context.provider, route.places)
        bound = context.bound
        self._turn = bound if bound.outer is None else bound.turn

    def depart(self, choice: Candidate) -> None:
        """The call begins at a target."""
        self._target = choice.target
        self.standing = choice.standing
        self._attempt: OpenAttempt | None = None
        self._used = self._turn.used
        self._started = choice.now
        self._age, self._epoch = self._board.depart(self, self._turn)

    @property
    def __name__(self) -> str:  # for the message where what is inside returns no response
        return getattr(self._call_next, "__name__", "transport")

    def __call__(self, request: Request[R], /) -> Awaitable[R]:
        """Send the request to the target."""
        target = self._target
        if target.credentials or target.nested:
            return send(request, target, self._call_next)
        return self._call_next(request.aim(target, branch=target.branch))

    def answered(self, response: Response) -> None:
        """The response has come; its attempt is known from now on."""
        try:
            self._attempt = response.context.attempt
        except (MisuseError, AttributeError):
            return  # a layer inside has made it by hand

    @property
    def branch(self) -> str:
        """Where in the call it stands."""
        return f"{self._request.context.branch}/{self._target.branch}"

    def sent(self) -> bool:
        """Whether anything of it may have reached the provider."""
        return any(one.outcome is not Outcome.NOT_SENT for one in self._attempts())

    def _attempts(self) -> list[OpenAttempt]:
        """Its attempts, in the order opened."""
        if self._turn.used == self._used:
            return []
        branch = self.branch
        # From the end: a flight's trace has none of the attempts that were made before it.
        since = self._request.context.trace.of_turn(self._turn)[self._used - self._turn.used :]
        return [one for one in since if is_within(one.branch, branch)]

    # --- the end -----------------------------------------------------------------------------

    def settle(self, end: Ending) -> None:
        """The call has ended there."""
        now = self._request.context.ports.monotonic()
        board = self._board
        tales: Sequence[Tale] = ()
        with board.lock:
            if self._age == board.age:
                board.arrive(self, self._turn)
            self._measure(end, now)
            if end.outcome is not Outcome.COMPLETE or self._turn.used - self._used > 1:
                tales = self._judged(end, now)
            elif (ejection := self._route.ejection) is not None and self._counts(now):
                self.standing.conduct.succeeded(now, ejection)
        for name, fields, logged in tales:
            target = self._target.name
            self._request.context.note("route", name, target=target, **fields)
            if logged:
                what, lasts, why = name[6:], fields["seconds"], fields["why"]
                logger.warning("target %s: %s for %.3g s (%s)", target, what, lasts, why)

    def _measure(self, end: Ending, now: float) -> None:
        standing, attempt = self.standing, self._attempt
        usage = end.usage
        first = None
        if attempt is not None:
            first = attempt.first_event
            usage = usage or attempt.usage
        if usage is not None:
            standing.tokens.add(usage.input_tokens + usage.output_tokens, now, USAGE_HALF_LIFE)
        latency, half_life = standing.latency[self._request.stream], self._route.half_life
        if first is not None and attempt is not None:
            latency.add(first - attempt.start, now, half_life)
            return
        waited = now - self._started
        if end.outcome is Outcome.COMPLETE:
            latency.add(waited, now, half_life)
        elif end.outcome in {Outcome.TIMED_OUT, Outcome.CANCELLED}:
            # Somebody has given up waiting: it is at least as slow as that, perhaps much slower.
            mean = latency.mean(now)
            if mean is None:
                # Of a limit in time something is known, unless nothing was even tried within it.
                more = end.outcome is Outcome.TIMED_OUT and self._turn.used > self._used
            else:
                more = waited > mean
            if more:
                latency.add(waited, now, half_life)

    def _counts(self, now: float) -> bool:
        """Whether what has become of it says anything of the time since the last ejection."""
        conduct = self.standing.conduct
        return conduct.epoch == self._epoch and now >= conduct.ejected_until

    def _judged(self, end: Ending, now: float) -> list[Tale]:
        """Count what did not simply succeed; what is to be told of the consequences."""
        standing, ejection = self.standing, self._route.ejection
        conduct = standing.conduct
        verdict = judge(end, own_model=self._target.model is not None)
        failures = self._failures(verdict)
        standing.failures += failures
        standing.local += verdict.kind == "local"
        tales: list[Tale] = []
        if ejection is None:
            return tales
        if self._counts(now):
            why = None
            for _ in range(failures):
                why = conduct.failed(now, ejection) or why
            if verdict.kind == "success":
                conduct.succeeded(now, ejection)
                why = None if why == "consecutive failures" else why
            if why is not None:
                tales.append(self._eject(why, now, ejection))
        if verdict.rest is not None:
            # Of many calls that are told so at once, one is logged.
            logged = now >= conduct.resting_until
            hint = ejection.quota if verdict.rest == math.inf else verdict.rest
            lasts = conduct.rest(now, hint, verdict.why)
            tales.append(("route.rests", {"seconds": lasts, "why": verdict.why}, logged))
        return tales

    def _failures(self, verdict: Verdict) -> int:
        """How often it has failed, what a layer inside has tried again included.

        Retry inside turns three failures in four attempts into one success, and a cancellation or
        a refusal may follow on a failure; the trace has them all. A pipeline's own are its own
        affair.
        """
        target, own = self._target, int(verdict.kind == "failure")
        if target.nested:
            return own
        count = 0
        for one in self._attempts():
            error, outcome = one.error, one.outcome
            if outcome is None or (target.credentials and isinstance(error, _OF_A_KEY)):
                continue
            found = judge(Ending(outcome, error), own_model=target.model is not None)
            count += found.kind == "failure"
        return max(count, own)

    def _eject(self, why: str, now: float, ejection: Ejection) -> Tale:
        """Eject it, unless too few would be left."""
        kept = may_eject(self.standing, self._group, now, ejection)
        if kept is not None:
            return "route.not_ejected", {"why": kept}, False
        lasts = self.standing.conduct.eject(now, ejection, why)
        return "route.ejected", {"seconds": lasts, "why": why}, True


def is_within(branch: str, outer: str) -> bool:
    """Whether a branch of a call is another one, or goes on from it."""
    return branch.startswith(outer) and branch[len(outer) :][:1] in {"", "/"}
