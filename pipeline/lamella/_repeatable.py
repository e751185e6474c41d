"""Whether sending a request twice does no more than sending it once, and when that may be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lamella._chat import ChatRequest
from lamella._embeddings import EmbeddingRequest
from lamella._errors import LamellaError, TargetsFailedError
from lamella._moderation import ModerationRequest
from lamella._outcomes import Outcome
from lamella._parts import Opaque
from lamella._requests import Request

if TYPE_CHECKING:
    from lamella._context import Context

SOON = 0.001
"""Seconds; who comes back earlier by less than that is in time."""

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
    if type(seen) is not ChatRequest and not isinstance(seen, ChatRequest):
        return True
    return not seen.tools or not any(isinstance(tool, Opaque) for tool in seen.tools)


def repeatable(request: Request[Any]) -> bool:
    """Whether it may be sent again although nobody knows if it has been processed.

    What is stateless may be, and so may anything whose idempotency key tells the provider that the
    two are one.
    """
    return request.context.idempotency_key is not None or stateless(request)


def deterministic(request: Request[Any]) -> bool:
    """Whether the same request is to have the same answer each time."""
    seen: object = request
    if isinstance(seen, ChatRequest):
        return seen.temperature == 0 or seen.seed is not None
    return isinstance(seen, EmbeddingRequest | ModerationRequest)


def maybe_processed(error: LamellaError) -> bool:
    """Whether a provider may have processed the request, although it failed so."""
    if isinstance(error, TargetsFailedError) and error.errors:
        return any(
            not isinstance(one, LamellaError) or maybe_processed(one) for one in error.errors
        )
    return error.outcome in _UNSURE or error.phase == "decode" or error.status in _UNSURE_STATUSES


def valid_hint(hint: float | None) -> float | None:
    """A server's hint in seconds, or None if it is none: zero, negative, or no finite number."""
    return hint if hint is not None and 0 < hint < math.inf else None


def left_alone(context: Context, transport: object, model: str | None) -> LamellaError | None:
    """With what a provider has asked, in this model turn, to be left alone for longer than now.

    Args:
        context: Of the request that would go there.
        transport: Where it would go.
        model: What would be asked for.

    Returns:
        The error, with what is left as its `retry_after`; None if it may be asked.
    """
    if not context.bound.turn.used:
        return None
    now = context.trace.now()
    found, longest = None, SOON
    for attempt in context.trace.of_turn(context.bound):
        error = attempt.error
        if (
            isinstance(error, LamellaError)
            and attempt.end is not None
            and attempt.asks(transport, model)
        ):
            left = attempt.end + (valid_hint(error.retry_after) or 0.0) - now
            if left > longest:
                found, longest = error, left
    return None if found is None else found.copy(retry_after=longest)
