"""One call that asks a circuit whether it may pass, and tells it how it ended."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lamella import CircuitOpenError, Ending, Outcome, Request
from lamella._watchdog import Alarm
from lamella_middlewares.circuit_breaker._circuit import (
    Circuit,
    CircuitChange,
    Permit,
    Refusal,
    Verdict,
)
from lamella_middlewares.circuit_breaker._judgement import BLOCKED, hint_of, verdict_of

if TYPE_CHECKING:
    from lamella_middlewares.circuit_breaker._middleware import CircuitBreaker


class GuardedCall:
    """One call that asks a circuit."""

    __slots__ = ("_breaker", "_circuit", "_late_at", "_request", "_slow", "permit")

    def __init__(self, breaker: CircuitBreaker, request: Request[Any], circuit: Circuit) -> None:
        self._breaker = breaker
        self._request = request
        self._circuit = circuit
        self._slow = False
        self._late_at = 0.0
        self.permit: Permit | None = None

    def refused(self, refusal: Refusal) -> CircuitOpenError:
        """The error of a call that may not pass."""
        provider, model = self._request.context.provider, self._request.model
        after = refusal.retry_after
        self._note("circuit_breaker.refused", state=refusal.state, retry_after=after)
        where = f"{provider!r}" if model is None else f"{model!r} of {provider!r}"
        return CircuitOpenError(
            f"{_WHY[refusal.state].format(where=where)} Nothing was sent.",
            hint=_HINTS[refusal.state].format(after=after),
            code=f"circuit_{refusal.state}",
            retry_after=after,
            provider=provider,
            layer="circuit_breaker",
        )

    @contextmanager
    def watched(self, seconds: float) -> Generator[None]:
        """A block that is late if it takes longer."""
        alarm = Alarm(self._too_long)
        self._late_at = self._request.context.ports.monotonic() + seconds
        alarm.arm(seconds)
        try:
            yield
        finally:
            alarm.disarm()

    def _too_long(self) -> None:
        """The time for the first event has passed, and the call has not returned."""
        context = self._request.context
        if context.ports.monotonic() - self._late_at >= BLOCKED:
            return  # this process was busy: an answer may have come long since
        begun = any(
            attempt.first_event is not None and attempt.end is None
            for attempt in context.trace.of_turn(context.bound)
            if attempt.branch == context.branch  # not of another copy of the call
        )
        self._slow = not begun  # begun, and not handed on: a layer inside reads ahead

    def ended(self, end: Ending) -> None:
        """Tell the circuit how the call ended."""
        permit = self.permit
        if permit is None:
            return
        ports = self._request.context.ports
        verdict: Verdict = "success"
        hint = None
        if end.outcome is not Outcome.COMPLETE or end.error is not None or self._slow:
            verdict, hint = self._verdict(end), hint_of(end)
        change = self._circuit.end(permit, verdict, ports.monotonic(), hint, ports.random)
        if change is not None:
            self.tell(change)

    def _verdict(self, end: Ending) -> Verdict:
        breaker = self._breaker
        try:
            return verdict_of(
                end, slow=self._slow, count_throttles=breaker.count_throttles, judge=breaker.judge
            )
        except Exception as failure:  # noqa: BLE001 - the caller's judge; ours is asked instead
            self._note("circuit_breaker.judge_failed", error=type(failure).__name__)
        return verdict_of(end, slow=self._slow, count_throttles=breaker.count_throttles, judge=None)

    def tell(self, change: CircuitChange) -> None:
        """Let everybody know of a change."""
        fields: dict[str, Any] = {"before": change.before}
        if change.state == "open":
            fields.update(seconds=change.seconds, calls=change.calls, failures=change.failures)
        self._note(f"circuit_breaker.{change.state}", **fields)
        failure = self._breaker.announce(change)
        if failure is not None:
            self._note("circuit_breaker.on_change_failed", error=type(failure).__name__)

    def _note(self, name: str, **fields: Any) -> None:
        request = self._request
        request.context.note(
            "circuit_breaker",
            name,
            provider=request.context.provider,
            model=request.model,
            **fields,
        )


_WHY = {
    "open": "{where} has failed lately and is left alone.",
    "half_open": "{where} has failed lately, and another call is finding out whether it is back.",
    "isolated": "{where} was isolated by hand.",
}
_HINTS = {
    "open": "Try again in {after:.3g} s, or put Fallback with another target around it.",
    "half_open": "Try again in a moment, or put Fallback with another target around it.",
    "isolated": "CircuitBreaker.reset(provider) lets calls pass again.",
}
