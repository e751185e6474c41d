"""The tries after the first one. Imported, as tenacity is, only once something has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tenacity import AsyncRetrying, RetryCallState

from lamella import LamellaError, Request, Response
from lamella._retry_budget import balance_of, count_call
from lamella_middlewares.retry._predicate import Verdict, judge
from lamella_middlewares.retry._waits import backoff, jittered, obeying

if TYPE_CHECKING:
    from lamella import Handler
    from lamella_middlewares.retry._middleware import Retry

R = TypeVar("R", bound=Response)

THROTTLE_BASE = 1.0
"""Seconds; limits are counted per minute, so that shorter waits only use up tries."""

EXHAUSTED = "retry_budget_exhausted"

_ENDS = {
    "stateful": "it may have been processed, and doing it twice is not the same",
    "spare credential": "another credential of the provider is there",
    "alternative": "another target is there, and this one has just let a limit in time pass",
}
"""Why what might pass is not tried again, by the verdict's reason."""


class Again(Generic[R]):
    """One call's further tries. tenacity runs the loop; what it is to do is decided here.

    Args:
        retry: The options.
        request: What failed.
        call_next: Where to send it.
        failure: How the first try ended.
    """

    def __init__(
        self, retry: Retry, request: Request[R], call_next: Handler, failure: Exception
    ) -> None:
        self._retry = retry
        self._request = request
        self._call_next = call_next
        self._failure: Exception | None = failure  # the first try's, until tenacity has been told
        self._balance = balance_of(retry.budget, request, request.context.provider)
        self._tries = 1  # sent, of whatever kind
        self._counted = 0  # of those that failed
        self._wait = 0.0
        self._stop: str | None = None
        self._reason = ""

    async def run(self) -> R:
        """Try until it succeeds or makes no more sense.

        Raises:
            Exception: What the last try raised.
        """
        count_call(self._balance, self._request)
        loop = AsyncRetrying(
            sleep=self._sleep,
            retry=self._worth_it,
            wait=lambda _: self._wait,
            stop=lambda _: self._stop is not None,
            before_sleep=self._note_wait,
            retry_error_callback=self._give_up,
        )
        try:
            response: R = await loop(self._try)
        finally:
            # It refers to itself, and so kept the whole call until the garbage collector came.
            vars(loop).clear()
        return response

    async def _try(self) -> R:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        self._tries += 1
        return await self._call_next(self._request.branch(f"try{self._tries}", asked_by="retry"))

    def _worth_it(self, state: RetryCallState) -> bool:
        """Whether the last try failed in a way that may pass; decides the wait as well."""
        error = _failure_of(state)
        if not isinstance(error, Exception):
            return False  # an answer; or a cancellation, which goes on as it came
        try:
            verdict = judge(error, self._request, self._retry.foreign)
        except Exception as failure:  # noqa: BLE001 - it must not stand before the real error
            self._note_end(error, f"on=... raised {type(failure).__name__}")
            return False
        if verdict.again:
            self._reason = verdict.reason
            self._stop = self._decide(verdict)
        elif verdict.reason in _ENDS:
            self._note_end(error, _ENDS[verdict.reason])
        return verdict.again

    def _decide(self, verdict: Verdict) -> str | None:
        """Set the wait; why there must be no further try, None if there may be."""
        retry, context = self._retry, self._request.context
        turn = context.bound.turn
        free = verdict.free and not turn.free_used and retry.attempts > 1
        if free:
            turn.free_used = True
        else:
            self._counted += 1
        if self._counted >= retry.attempts:
            return "attempts"
        if context.bound.left <= 0:
            return "attempt bound"
        room = context.left() - retry.min_useful
        hint = verdict.hint
        if hint is not None and hint > retry.max_wait:
            return "retry_after is longer than max_wait"
        self._wait = 0.0 if free else self._backoff(throttled=verdict.throttled)
        self._wait = obeying(self._wait, hint, min(room, retry.max_wait), context.ports.random)
        if self._wait > room:
            return "deadline"
        if not free and self._balance is not None:
            return None if self._balance.withdraw(context.ports.monotonic()) else EXHAUSTED
        return None

    def _backoff(self, *, throttled: bool) -> float:
        retry = self._retry
        wait = backoff(
            retry.strategy,
            self._counted,
            base=max(retry.base, THROTTLE_BASE) if throttled else retry.base,
            multiplier=retry.growth,
            cap=retry.max_wait,
        )
        jitter = "equal" if throttled and retry.jitter == "full" else retry.jitter
        return jittered(wait, jitter, self._request.context.ports.random)

    async def _sleep(self, seconds: float) -> None:
        await self._request.context.sleep(seconds, what="waiting for the next try")

    def _note_wait(self, state: RetryCallState) -> None:
        facts = _facts(_failure_of(state))
        self._request.context.note(
            "retry", "retry.wait", seconds=self._wait, reason=self._reason, **facts
        )

    def _note_end(self, error: BaseException | None, why: str) -> None:
        self._request.context.note("retry", "retry.gave_up", why=why, **_facts(error))

    def _give_up(self, state: RetryCallState) -> Any:
        error = _failure_of(state)
        assert error is not None  # noqa: S101 - tenacity stops after a failure only
        self._note_end(error, self._stop or "")
        if self._stop == EXHAUSTED and isinstance(error, LamellaError):
            hint = "Too many calls fail for each to be retried; see RetryBudget."
            raise error.copy(code=EXHAUSTED, hint=hint) from error.__cause__
        raise error


def _failure_of(state: RetryCallState) -> BaseException | None:
    return None if state.outcome is None else state.outcome.exception()


def _facts(error: BaseException | None) -> dict[str, Any]:
    """What the trace may know of an error: never its message, which may quote the provider."""
    facts: dict[str, Any] = {"error": type(error).__name__}
    if isinstance(error, LamellaError):
        known = {"status": error.status, "code": error.code, "retry_after": error.retry_after}
        facts.update({name: value for name, value in known.items() if value is not None})
    return facts
