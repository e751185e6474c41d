"""Whether sending a request twice does no more than sending it once."""

from __future__ import annotations

from typing import Any

from lamella._chat import ChatRequest
from lamella._errors import LamellaError
from lamella._outcomes import Outcome
from lamella._parts import Opaque
from lamella._requests import Request

_STATEFUL_FIELDS = ("store", "background", "previous_response_id", "conversation")
_STATEFUL_OPERATIONS = frozenset({"video"})

_UNSURE = frozenset({Outcome.UNKNOWN, Outcome.TIMED_OUT, Outcome.TRUNCATED})
_UNSURE_STATUSES = frozenset({408, 504})


def stateless(request: Request[Any]) -> bool:
    """Whether it leaves nothing behind at the provider, so that two copies of it may run at once.

    Plain generation does not, function tools included: those run here, if at all. What the
    provider stores, runs in the background or does with tools of its own does.
    """
    if request.operation in _STATEFUL_OPERATIONS:
        return False
    extra = request.extra
    if extra and any(extra.get(name) for name in _STATEFUL_FIELDS):
        return False
    seen: object = request
    if not isinstance(seen, ChatRequest) or not seen.tools:
        return True
    return not any(isinstance(tool, Opaque) for tool in seen.tools)


def repeatable(request: Request[Any]) -> bool:
    """Whether it may be sent again although nobody knows if it has been processed.

    What is stateless may be, and so may anything whose idempotency key tells the provider that the
    two are one.
    """
    return request.context.idempotency_key is not None or stateless(request)


def maybe_processed(error: LamellaError) -> bool:
    """Whether the provider may have processed the request, although it failed so."""
    return error.outcome in _UNSURE or error.phase == "decode" or error.status in _UNSURE_STATUSES
