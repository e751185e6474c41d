"""Commit by return: how a transport hands its events to the core."""

# pyright: reportPrivateUsage=false
# A response, its cursors and its makers are one thing in several classes; ruff marks each access.
from __future__ import annotations

import inspect
import math
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio

from lamella._boundary import timed_out
from lamella._errors import (
    AttemptTimeout,
    ClosedError,
    DeadlineExceeded,
    FirstEventTimeout,
    IdleTimeout,
    LamellaError,
    TimedOutError,
)
from lamella._events import Event
from lamella._limits import NO_LIMITS
from lamella._loops import current_loop
from lamella._outcomes import ErrorPhase
from lamella._responses import NO_HEAD, Head, Response
from lamella._transforms import Source
from lamella._watchdog import Alarm

if TYPE_CHECKING:
    from lamella._context import Context
    from lamella._guards import Guard
    from lamella._requests import Request

R = TypeVar("R", bound=Response)


async def begin(
    request: Request[R], source: Source | AsyncIterator[Event], head: Head = NO_HEAD
) -> R:
    """The response to `request` whose events come from `source`.

    It returns an *open* response as soon as the first semantic event is there, and a *complete* one
    if the answer ends before that or the caller did not ask for a stream. In every other case it
    closes the source under a shield and raises: such an error is uncommitted, so that layers
    outside may try again.

    Args:
        request: As the transport got it.
        source: Gives events and ends with `Finish`. An asynchronous generator will do.
        head: What is known of the answer besides its events.

    Raises:
        StreamTruncated: If the source ends without `Finish`.
        TimedOutError: If a limit of the attempt passes.
    """
    events = _as_source(source)
    response = request.open(events, head, _guard(request.context, events))
    attempt = request.context.attempt
    kept = response._events  # noqa: SLF001 - this is the response's other half
    if attempt is not None:
        attempt.received = kept
    while response.open:
        await response.pull()
        if kept[-1].semantic:
            if attempt is not None:
                attempt.saw_event()
            return response if request.stream else await response.collect()
    return response


def _as_source(source: Source | AsyncIterator[Event]) -> Source:
    if inspect.isasyncgen(source):
        return _GeneratorSource(cast("AsyncGenerator[Event, None]", source))
    if hasattr(source, "aclose"):
        return cast("Source", source)
    iterator: Any = source
    return _IteratorSource(iterator)


class _IteratorSource:
    """An iterator that holds nothing open, but may have to be interrupted."""

    def __init__(self, iterator: AsyncIterator[Event]) -> None:
        self._iterator = iterator
        self._scope: anyio.CancelScope | None = None
        self._closed = False

    async def __anext__(self) -> Event:
        if self._closed:
            msg = "The answer's source was closed."
            raise ClosedError(msg)
        # An iterator cannot be closed from outside while it runs; its one step can be cancelled.
        with anyio.CancelScope() as scope:
            self._scope = scope
            try:
                return await anext(self._iterator)
            finally:
                self._scope = None
        msg = "The answer's source was closed while its next event was awaited."
        raise ClosedError(msg)

    async def aclose(self) -> None:
        self._closed = True
        if self._scope is not None:
            self._scope.cancel()


class _GeneratorSource(_IteratorSource):
    """An asynchronous generator, which is closed as well unless it is running."""

    def __init__(self, generator: AsyncGenerator[Event, None]) -> None:
        super().__init__(generator)
        self._generator = generator

    async def aclose(self) -> None:
        running = self._scope is not None
        await super().aclose()
        if not running:
            await self._generator.aclose()


def _guard(context: Context, source: Source) -> _LimitGuard | None:
    limits = context.limits
    if (
        context.deadline is None
        and limits.attempt is None
        and limits.idle is None
        and limits.first_event is None
    ):
        return None
    return _LimitGuard(context, source)


def deadline_guard(context: Context, source: Source) -> Guard | None:
    """Keeps only the call's deadline, for answers that are not of an attempt of this call."""
    if context.deadline is None:
        return None
    return _LimitGuard(context.evolve(limits=NO_LIMITS, attempt=None), source)


class _LimitGuard:
    """The attempt's limits on the reads of its answer; closes the source when one passes."""

    __slots__ = ("_alarm", "_armed", "_attempt_end", "_clock", "_context", "_deadline",
                 "_first_end", "_idle", "_kind", "_late", "_phase", "_reading", "_source", "_span",
                 "_waited")  # fmt: skip

    def __init__(self, context: Context, source: Source) -> None:
        self._context = context
        self._clock = context.clock
        self._source = source
        self._alarm = Alarm(self._ring)
        self._kind: type[TimedOutError] | None = None
        self._late = 0.0  # how long after the limit the alarm rang
        self._span = 0.0
        limits, attempt = context.limits, context.attempt
        elapsed = 0.0 if attempt is None else context.trace.now() - attempt.start
        started = context.clock.now() - elapsed
        self._attempt_end = math.inf if limits.attempt is None else started + limits.attempt
        self._first_end = math.inf if limits.first_event is None else started + limits.first_event
        self._deadline = math.inf if context.deadline is None else context.deadline
        self._idle = math.inf  # counts between semantic events, so from the first one on
        self._waited: float | None = None  # since when a semantic event is awaited
        self._reading = False
        self._armed = math.inf  # the instant, on the call's clock, that the alarm is set for
        self._phase: ErrorPhase = "first_event"

    def arm(self) -> None:
        self._reading = True
        waited = self._waited
        if waited is None:
            waited = self._waited = self._clock.now()
        # An alarm that is set too early finds out when it rings; setting it costs more than that.
        if self._armed > waited + self._idle or self._armed == math.inf:
            self._set(self._clock.now())

    def disarm(self) -> None:
        self._reading = False

    def saw(self, event: Event) -> None:
        self._reading = False
        if event.semantic:
            self._waited = None
            if self._phase == "stream":
                return
            self._phase = "stream"
            self._first_end = math.inf
            idle = self._context.limits.idle
            self._idle = math.inf if idle is None else idle

    def close(self) -> None:
        """The answer has ended: nothing is late any more, and nothing is kept for it."""
        self._reading = False
        self._alarm.disarm()

    def _late_at(self) -> float:
        """The instant, on the call's clock, at which the read under way is late."""
        waited = math.inf if self._waited is None else self._waited
        return min(self._first_end, self._attempt_end, self._deadline, waited + self._idle)

    def _set(self, now: float) -> None:
        """Set the alarm for the read under way."""
        self._armed = self._late_at()
        if not math.isinf(self._armed):
            self._span = self._armed - now
            self._alarm.arm(self._span)

    def error(self) -> LamellaError | None:
        if self._kind is None:
            return None
        limits = self._context.limits
        spans: dict[type[TimedOutError], float | None] = {
            AttemptTimeout: limits.attempt,
            FirstEventTimeout: limits.first_event,
            IdleTimeout: limits.idle,
        }
        span = spans.get(self._kind) or self._span
        return timed_out(self._kind, span, late=self._late).copy(phase=self._phase)

    def _ring(self) -> None:
        """If the read is late: note which limit it was, and close the source, which ends it."""
        self._armed = math.inf
        if not self._reading:
            return  # the consumer has an event in hand; the next read sets the alarm anew
        now = self._clock.now()
        if self._late_at() > now:
            self._set(now)
            return
        waited = math.inf if self._waited is None else self._waited
        ends: list[tuple[float, type[TimedOutError]]] = [
            (self._first_end, FirstEventTimeout),
            (self._attempt_end, AttemptTimeout),
            (self._deadline, DeadlineExceeded),
            (waited + self._idle, IdleTimeout),
        ]
        end, self._kind = min(ends, key=lambda item: item[0])
        self._late = now - end
        current_loop().spawn(self._source.aclose, "lamella late answer")
