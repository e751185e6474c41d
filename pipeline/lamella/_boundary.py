"""Where the wire phase begins: each passage is one attempt, recorded and bounded.

The attempt's limits are enforced here until the transport has returned, and by the response's guard
afterwards, so that an attempt that ran out of time is recorded as *timed out*, not as *cancelled*,
and so that a plain function is as bounded as the library's own transports.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from lamella._attempts import OpenAttempt
from lamella._calls import closed_error
from lamella._context import Context
from lamella._ending import Ending, not_a_response, outcome_of
from lamella._errors import (
    AttemptTimeout,
    AuthenticationError,
    CallEndedError,
    DeadlineExceeded,
    FirstEventTimeout,
    IdleTimeout,
    LamellaError,
    TemplateError,
    TimedOutError,
)
from lamella._events import Finish
from lamella._evolve import informed
from lamella._layers import name_of
from lamella._limits import NO_LIMITS
from lamella._observers import tell_closed, tell_opened
from lamella._outcomes import Outcome
from lamella._own_models import model_of
from lamella._responses import Response
from lamella._watchdog import Alarm

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import anyio

    from lamella._requests import Request

R = TypeVar("R", bound=Response)


async def attempt(
    request: Request[R],
    call_next: Callable[[Request[R]], Awaitable[R]],
    provider: str,
    transport: object = None,
) -> R:
    """Send a request once; once more, as an attempt of its own, if its key was exchanged meanwhile.

    A provider that refuses a key has not worked on the request: nothing is done or billed twice.

    Args:
        request: What is sent.
        call_next: The wire layers around the transport.
        provider: What the transport is called, or the target that it is of.
        transport: The transport.

    Raises:
        AttemptLimitError: If the model turn has used up its attempts.
        CallEndedError: If the call is over.
        TimedOutError: If one of the attempt's limits passes.
        ClosedError: If the pipeline closes meanwhile.
    """
    record = _opened(request, provider, transport)
    try:
        return await _sent(request, call_next, record)
    except AuthenticationError:
        # Without an attempt left, the provider's word is what the caller has to know.
        if not record.key_renewed or request.context.bound.left < 1:
            raise
    record = _opened(request, provider, transport)
    record.may_renew = False
    return await _sent(request, call_next, record)


async def _sent(
    request: Request[R], call_next: Callable[[Request[R]], Awaitable[R]], record: OpenAttempt
) -> R:
    context = request.context
    call = context.call
    scope = call.loop.scope()
    vigil = _Vigil(context, record, scope)
    record.interruption = vigil.why
    request = informed(request, "attempt", record)
    call.scopes.add(scope)
    response: R | None = None
    try:
        with scope:
            response = await call_next(request)
        if response is None and scope.cancelled_caught:
            raise vigil.why() or closed_error("an attempt ran")
        if not isinstance(response, Response):
            raise not_a_response(response, call_next)
        response = response.adopt(request)
        head = response.head
        record.served_model = head.model
        record.answer_id = head.id
    except BaseException as error:
        if record.usage is None:
            told = error.usage if isinstance(error, LamellaError) else None
            record.usage = told or record.broken_off()
        record.close(outcome_of(error), error)
        if context.observers:
            tell_closed(record, request)
        raise
    finally:
        if vigil.alarm is not None:
            vigil.alarm.disarm()
        record.interruption = None
        call.scopes.discard(scope)
    record.committed = request.stream
    response.hear(partial(_close, record, request))
    return response


def _refuse_if_over(context: Context) -> None:
    call = context.call
    if call.ended:
        msg = "An attempt was made on behalf of a call that has ended."
        hint = "Work that outlives its call runs on request.detach(purpose)."
        raise CallEndedError(msg, hint=hint)
    if call.closing:
        raise closed_error("an attempt was about to be made")
    if context.left() <= 0:
        msg = "The call's deadline had passed before this attempt could start."
        raise DeadlineExceeded(msg, phase="local", outcome=Outcome.NOT_SENT)


def _opened(request: Request[Any], provider: str, transport: object) -> OpenAttempt:
    context = request.context
    call = context.call
    if call.ended or call.closing or context.deadline is not None:
        _refuse_if_over(context)
    if request.unwritten is not None:
        msg = f"{request.unwritten!r} has not become messages, so that there is nothing to send."
        raise TemplateError(msg, hint="Put Template(folder) among the layers.")
    bound, model = context.bound, request.model
    bound.take()
    record = context.trace.open_attempt(context.branch, provider, model)
    if model is None:
        record.model = model_of(request, transport)
    record.bound = bound
    record.transport = transport
    record.substitute = context.substitute
    record.service = getattr(request, "service_tier", None)
    if request.target is not None and transport is not None:
        record.vendor = name_of(transport)
    record.asked_by = context.asked_by
    record.streamed = request.stream or (context.limits.stream_runs and request.streams)
    if context.observers:
        tell_opened(record, request)
    return record


def _close(record: OpenAttempt, request: Request[Any], ending: Ending) -> None:
    if record.usage is None:
        record.usage = ending.usage or record.broken_off()
    if ending.finish_reason is not None:
        events = ending.events
        last = events[-1] if events else None
        several = last.reasons if type(last) is Finish else ()
        record.finish_reasons = several or (ending.finish_reason,)
    record.close(ending.outcome, ending.error)
    if request.context.observers:
        tell_closed(record, request)


class _Vigil:
    """Ends an attempt with a limit that passes before the transport has returned.

    Which limit that was, and how late it was noticed, is written down then and there: afterwards
    the first event may have come after all, and the transport takes its time to clean up.
    """

    __slots__ = ("_began", "_context", "_left", "_passed", "_record", "_scope", "alarm")

    def __init__(self, context: Context, record: OpenAttempt, scope: anyio.CancelScope) -> None:
        self._context = context
        self._record = record
        self._scope = scope
        self._passed: tuple[type[TimedOutError], float, float] | None = None
        self.alarm: Alarm | None = None
        if context.deadline is None and context.limits is NO_LIMITS:
            return
        self._left = context.left()
        span, _ = self._due()
        if span != math.inf:
            self._began = context.call.loop.now()
            self.alarm = Alarm(self._ring)
            self.alarm.arm(span)

    def _due(self) -> tuple[float, type[TimedOutError]]:
        """The limit that passes next: so many seconds after the start."""
        limits, record = self._context.limits, self._record
        span: float = self._left
        kind: type[TimedOutError] = DeadlineExceeded
        if limits.attempt is not None and limits.attempt < span:
            span, kind = limits.attempt, AttemptTimeout
        if (
            limits.first_event is not None
            and limits.first_event < span
            and record.streamed
            and record.first_event is None
        ):
            span, kind = limits.first_event, FirstEventTimeout
        return span, kind

    def _ring(self) -> None:
        span, kind = self._due()
        late = self._context.call.loop.now() - (self._began + span)
        if late >= 0:
            self._passed = kind, span, late
            self._scope.cancel()
        elif self.alarm is not None and span != math.inf:
            self.alarm.arm(-late)  # the first event has come, or is not waited for

    def why(self) -> LamellaError | None:
        """Why the attempt's scope was cancelled, None if it was not."""
        if not self._scope.cancel_called:
            return None
        if self._context.call.closing:
            return closed_error("an attempt was under way")
        if self._passed is None:
            return None
        kind, span, late = self._passed
        return timed_out(kind, span, sent=self._record.sent, late=late)


def timed_out(
    kind: type[TimedOutError], span: float, *, sent: bool = True, late: float = 0.0
) -> TimedOutError:
    """The error of a limit that has passed.

    Args:
        kind: Which limit.
        span: The limit in seconds.
        sent: Whether the request had left this process: then it may have been billed.
        late: Seconds that have passed since.
    """
    what = _WHAT[kind].format(span=span)
    error = kind(what, outcome=Outcome.TIMED_OUT, phase="first_event" if sent else "send")
    error.late = max(0.0, late)
    return error


_WHAT: dict[type[TimedOutError], str] = {
    AttemptTimeout: "The attempt was not over within its limit of {span:.3g} s.",
    DeadlineExceeded: "The call's deadline passed during this attempt, after {span:.3g} s.",
    FirstEventTimeout: "The provider sent nothing of an answer within {span:.3g} s.",
    IdleTimeout: "The provider fell silent in the middle of its answer for {span:.3g} s.",
}
