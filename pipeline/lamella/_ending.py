"""Exactly one ending for whoever accounts for something."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import anyio
import attrs

from lamella._errors import LamellaError
from lamella._events import Finish, UsageReport
from lamella._making import unfrozen
from lamella._outcomes import Outcome

if TYPE_CHECKING:
    from lamella._context import Context
    from lamella._events import Event
    from lamella._requests import Request
    from lamella._responses import Response
    from lamella._usage import Usage

R = TypeVar("R", bound="Response")

CALLBACK_SECONDS = 1.0
"""How long an asynchronous callback may take, under a shield."""


@attrs.frozen
class Ending:
    """How an answer ended, as seen from one layer's place.

    Attributes:
        outcome: What became of it.
        error: What ended it, if it did not end well.
        finish_reason: The provider's reason; None unless complete.
        usage: What it consumed, where the provider said so.
        events: The events that had passed this place. Not to be written to.
    """

    outcome: Outcome
    error: BaseException | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    events: Sequence[Event] = ()


_Ending = unfrozen(Ending)


def ending_of(outcome: Outcome, error: BaseException | None, events: Sequence[Event]) -> Ending:
    """The ending of an answer that has ended so, with these events."""
    reason: str | None = None
    usage: Usage | None = None
    for event in reversed(events):
        if type(event) is Finish:
            reason = event.reason
        elif type(event) is UsageReport:
            usage = event.usage
            break
    if usage is None and isinstance(error, LamellaError):
        usage = error.usage
    end = object.__new__(_Ending)
    end.outcome = outcome
    end.error = error
    end.finish_reason = reason
    end.usage = usage
    end.events = events
    end.__class__ = Ending
    return end  # type: ignore[no-any-return]


Callback: TypeAlias = Callable[[Ending], Awaitable[None] | None]
"""Told of an ending, once. A plain function costs a call; an asynchronous one is shielded."""


async def ending(
    call_next: Callable[[Request[R]], Awaitable[R]],
    request: Request[R],
    callback: Callback,
    *,
    answered: Callable[[R], object] | None = None,
) -> R:
    """Call the next handler and be told of the end exactly once, whatever happens.

    The callback hears of a call that failed or was cancelled before it was committed, as well as of
    an answer that completed, failed, was cancelled or was left afterwards.

    Args:
        call_next: The handler inside.
        request: What to hand to it.
        callback: Told of the end. If it fails, that is noted in the trace, and raised only where
            the answer otherwise ended well.
        answered: Told of the response before the callback is: a plain function, for who wants to
            know when it came and what its head says.
    """
    try:
        response = await call_next(request)
        if answered is not None:
            answered(response)
    except BaseException as error:
        await end_uncommitted(request.context, error, callback)
        raise
    try:
        hear = response.hear
    except AttributeError:
        wrong = not_a_response(response, call_next)
        await end_uncommitted(request.context, wrong, callback)
        raise wrong from None
    waiting = hear(callback)
    if waiting is not None:
        await waiting
    return response


def not_a_response(found: object, handler: object) -> TypeError:
    """The error of a layer that does not return a response."""
    name = getattr(handler, "__name__", type(handler).__name__)
    return TypeError(
        f"Layer {name!r} returned {type(found).__name__} instead of a response. "
        "A layer ends with `return await call_next(request)`, or returns a response of its own."
    )


async def end_uncommitted(context: Context, error: BaseException, callback: Callback) -> None:
    """Tell a callback that its call ended with `error` before anything was handed on."""
    outcome = outcome_of(error)
    if outcome is Outcome.CANCELLED and context.attempt is not None:
        cause = context.attempt.interrupted()
        if cause is not None:
            outcome, error = cause.outcome, cause
    usage = error.usage if isinstance(error, LamellaError) else None
    failure = await tell(callback, Ending(outcome, error, usage=usage))
    if failure is not None:
        note_failure(context, failure)


async def tell(callback: Callback, end: Ending) -> Exception | None:
    """Run one callback; what it raised, if it did."""
    try:
        waiting = callback(end)
    except Exception as error:  # noqa: BLE001 - handed to the caller, who notes or raises it
        return error
    return None if waiting is None else await told(waiting)


async def told(waiting: Awaitable[None]) -> Exception | None:
    """Run the part of a callback that is to be awaited; what it raised, if it did."""
    if not inspect.isawaitable(waiting):
        return None
    try:
        with anyio.move_on_after(CALLBACK_SECONDS, shield=True) as scope:
            await waiting
    except Exception as error:  # noqa: BLE001 - handed to the caller, who notes or raises it
        return error
    if scope.cancelled_caught:
        return TimeoutError(f"An on_end callback took longer than {CALLBACK_SECONDS:g} s.")
    return None


def note_failure(context: Context, failure: Exception) -> None:
    """Write into the trace that a callback failed."""
    context.trace.note("core", "callback.failed", error=type(failure).__name__)


def outcome_of(error: BaseException) -> Outcome:
    """The outcome that an error stands for."""
    if isinstance(error, LamellaError):
        return error.outcome
    # Cancellation, Ctrl-C and a closing generator are no Exception, on either event loop.
    return Outcome.FAILED if isinstance(error, Exception) else Outcome.CANCELLED
