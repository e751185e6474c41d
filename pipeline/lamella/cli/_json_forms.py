"""What the commands print with `--json`. Names stay; more may be added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lamella._errors import LamellaError
from lamella._trace_forms import attempt_form, money_form, note_form, span_form, usage_form
from lamella.cli._errors import exit_code, paragraph

if TYPE_CHECKING:
    from lamella._chat import ChatResponse
    from lamella._explain import Explanation
    from lamella._trace import Trace


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
    attempts = [attempt_form(attempt) for attempt in known.attempts]
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
        "cost": money_form(trace.cost),
        "attempts": [attempt_form(attempt) for attempt in trace.attempts],
        "notes": [note_form(note) for note in trace.notes],
        "layers": [span_form(span) for span in trace.spans],
    }


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
