"""What the record of a request says: facts of the trace, no message of an error, no content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lamella import (
    Ending,
    Head,
    LamellaError,
    MisuseError,
    Note,
    Outcome,
    Request,
    Response,
    Trace,
)
from lamella._spent import Tried, cost_of

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_NO_HEAD = Head()
_COMPLETE = Outcome.COMPLETE
_QUIET = frozenset({Outcome.COMPLETE, Outcome.LEFT, Outcome.CANCELLED})
"""A caller who stops, or is cancelled, has not failed."""


def level_of(outcome: Outcome) -> str:
    """How loud an ending is: `warning` for what was refused here, `error` for what failed."""
    if outcome is _COMPLETE or outcome in _QUIET:
        return "info"
    return "warning" if outcome is Outcome.NOT_SENT else "error"


def record_of(
    request: Request[Any], response: Response | None, end: Ending, began: float
) -> dict[str, Any]:
    """The record of a request that has ended.

    Args:
        request: As it came to this layer.
        response: The answer; None if there was none.
        end: How it ended.
        began: When it came here, in seconds since the call began.
    """
    context = request.context
    trace = context.trace
    now = trace.now()
    attempts: Sequence[Tried] = trace.attempts if trace.adopted else trace.own_attempts
    head = _NO_HEAD if response is None else response.head
    served = _served(response, attempts)
    provider = head.provider
    if provider is None and served is not None:
        provider = served.provider
    outcome = end.outcome
    facts: dict[str, Any] = {
        "level": level_of(outcome),
        "event": "call",
        "at": trace.started + now,
        "call_id": context.call_id,
        "operation": request.operation,
        "stream": request.stream,
        "model": request.model,
        "provider": provider,
        "outcome": "complete" if outcome is _COMPLETE else outcome.value,
        "finish_reason": end.finish_reason,
        "duration": round(now - began, 6),
        "attempts": len(attempts),
    }
    if served is not None and served.first_event is not None:
        facts["time_to_first_event"] = round(served.first_event - began, 6)
    if context.tenant is not None:
        facts["tenant"] = context.tenant
    if context.parent_id is not None:
        facts["parent_id"] = context.parent_id
    if context.branch:
        facts["branch"] = context.branch
    if head.model is not None and head.model != request.model:
        facts["served_model"] = head.model
    if head.cached:
        facts["cached"] = True
    _add_spent(facts, trace, attempts)
    if end.error is not None and isinstance(end.error, Exception):
        _add_failure(facts, end.error)
    return facts


def _served(response: Response | None, attempts: Sequence[Tried]) -> Tried | None:
    """The attempt whose answer the caller got; without an answer, the last one."""
    if response is None:
        return attempts[-1] if attempts else None
    try:
        attempt = response.context.attempt
    except MisuseError:
        return None  # some layer has made it by hand
    return attempts[attempt.index] if attempt is not None else None


def _add_spent(facts: dict[str, Any], trace: Trace, attempts: Sequence[Tried]) -> None:
    """What the call has consumed and cost: all its attempts, losers and child calls included."""
    usage = attempts[0].usage if len(attempts) == 1 else trace.usage
    if usage is not None:
        read, written = usage.input_tokens, usage.output_tokens
        if read or written:
            facts["input_tokens"] = read
            facts["output_tokens"] = written
            if usage.cache_read:
                facts["cache_read_tokens"] = usage.cache_read
            if usage.reasoning_output:
                facts["reasoning_tokens"] = usage.reasoning_output
            if usage.estimated:
                facts["estimated"] = True
    cost = cost_of(attempts)
    if cost is not None:
        facts["cost"] = _decimal(cost.nano)
        facts["currency"] = cost.currency


def _decimal(nano: int) -> str:
    """Whole units without an exponent. Decimals would leave a context variable in the caller's."""
    padded = f"{nano:010d}" if nano >= 0 else f"{nano:011d}"  # the sign counts
    return f"{padded[:-9]}.{padded[-9:]}".rstrip("0").rstrip(".")


def _add_failure(facts: dict[str, Any], error: Exception) -> None:
    facts["error"] = type(error).__name__
    if isinstance(error, LamellaError):
        known = {
            "status": error.status,
            "code": error.code,
            "phase": error.phase,
            "retry_after": error.retry_after,
            "request_id": error.request_id,
            "refused_by": error.layer,
        }
        facts.update({name: fact for name, fact in known.items() if fact is not None})


def notes_of(notes: Sequence[Note]) -> list[dict[str, Any]]:
    """The trace's notes, which never hold content."""
    return [
        {"note": note.name, "layer": note.layer, "at": round(note.at, 6), **note.fields}
        for note in notes
    ]
