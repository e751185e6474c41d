"""What the commands print with `--json`. Names stay; more may be added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import attrs

from lamella._errors import LamellaError
from lamella.cli._errors import exit_code, paragraph

if TYPE_CHECKING:
    from lamella._attempts import Attempt
    from lamella._chat import ChatResponse
    from lamella._explain import Explanation
    from lamella._money import Money
    from lamella._trace import Note, Trace
    from lamella._usage import Usage


def answer_form(response: ChatResponse) -> dict[str, Any]:
    """A complete answer. Costs are decimals in texts, times seconds since the call began."""
    return {
        "text": response.text,
        "refusal": response.refusal,
        "finish_reason": response.finish_reason,
        "model": response.model,
        "served_by": response.served_by,
        "usage": usage_form(response.usage),
        "error": None,
        **_trace_form(response.trace),
    }


def failure_form(error: Exception, trace: Trace | None = None) -> dict[str, Any]:
    """A failed call: the same names, with what had arrived."""
    known = error if isinstance(error, LamellaError) else LamellaError(str(error))
    partial = known.partial
    attempts = [_attempt_form(attempt) for attempt in known.attempts]
    return {
        "text": partial.text if partial is not None else "",
        "refusal": None,
        "finish_reason": None,
        "model": None,
        "served_by": known.provider,
        "usage": usage_form(known.usage),
        "error": {
            "type": type(error).__name__,
            "message": paragraph(error),
            "status": known.status,
            "code": known.code,
            "retryable": known.retryable,
            "retry_after": known.retry_after,
            "request_id": known.request_id,
            "exit_code": exit_code(error),
        },
        **_trace_form(trace, attempts),
    }


def _trace_form(trace: Trace | None, attempts: Sequence[Any] = ()) -> dict[str, Any]:
    """What happened; of a call that was never begun, nothing but the attempts of its error."""
    if trace is None:
        nothing = dict.fromkeys(("call_id", "seconds", "cost"))
        return {**nothing, "attempts": [*attempts], "notes": [], "layers": []}
    return {
        "call_id": trace.call_id,
        "seconds": trace.duration,
        "cost": _money_form(trace.cost),
        "attempts": [_attempt_form(attempt) for attempt in trace.attempts],
        "notes": [_note_form(note) for note in trace.notes],
        "layers": [attrs.asdict(span) for span in trace.spans],
    }


def usage_form(usage: Usage | None) -> dict[str, Any] | None:
    """Totals, and the parts that are not 0."""
    if usage is None:
        return None
    parts = {name: _plain(value) for name, value in attrs.asdict(usage, recurse=False).items()}
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "estimated": parts.pop("estimated"),
        "parts": {name: value for name, value in parts.items() if value},
    }


def _money_form(money: Money | None) -> dict[str, str] | None:
    return None if money is None else {"amount": f"{money.amount:f}", "currency": money.currency}


def _attempt_form(attempt: Attempt) -> dict[str, Any]:
    return {
        **attrs.asdict(attempt, recurse=False),
        "outcome": None if attempt.outcome is None else str(attempt.outcome),
        "usage": usage_form(attempt.usage),
        "cost": _money_form(attempt.cost),
    }


def _note_form(note: Note) -> dict[str, Any]:
    return {"layer": note.layer, "name": note.name, "at": note.at, "fields": _plain(note.fields)}


def explanation_form(explanation: Explanation) -> dict[str, Any]:
    """A pipeline's layers, transport and doubts."""
    transport = explanation.transport
    return {
        "name": explanation.name,
        "layers": [
            {
                "name": layer.name,
                "phase": layer.phase,
                "options": {name: _shown(value) for name, value in layer.options.items()},
                "requests": layer.requests,
                "effects": list(layer.effects),
                "distribution": layer.distribution,
            }
            for layer in explanation.layers
        ],
        "transport": transport if isinstance(transport, str) else explanation_form(transport),
        "doubts": [doubt.message for doubt in explanation.doubts],
        "allowed": list(explanation.allowed),
    }


def _shown(value: object) -> object:
    """A value that JSON has; others by their repr, which never shows a secret."""
    return value if value is None or isinstance(value, str | int | float | bool) else repr(value)


def _plain(value: Any) -> Any:
    return dict(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else value
