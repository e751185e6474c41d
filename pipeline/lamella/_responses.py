"""An answer: open while events are still to come, complete once they are all there.

Both are the same class with the same events. An open response is read through cursors; each level
of the stack that changes events is a response of its own around the one inside it, and keeps what
it let through, once. How it ended is decided here and nowhere else.
"""

# pyright: reportPrivateUsage=false
# A response, its cursors and its makers are one thing in several classes; ruff marks each access.
from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import anyio

from lamella._closing import CLEANUP_SECONDS, close_source
from lamella._cursors import Cursor
from lamella._ending import Callback, Ending, ending_of, note_failure, outcome_of, tell, told
from lamella._errors import (
    BusyError,
    ClosedError,
    LamellaError,
    MisuseError,
    StillOpenError,
    StreamTruncated,
)
from lamella._events import Event, Finish
from lamella._heads import NO_HEAD, Head
from lamella._loops import Loop, current_loop
from lamella._outcomes import Outcome
from lamella._transforms import Source, Transform, TransformSource, transformed

if TYPE_CHECKING:
    from lamella._answer import Answer
    from lamella._bridge import Bridge
    from lamella._clock import Clock
    from lamella._context import Context
    from lamella._guards import Guard
    from lamella._money import Money
    from lamella._requests import Request
    from lamella._trace import Trace
    from lamella._usage import Usage

__all__ = ["NO_HEAD", "Head", "Response"]  # whoever has to do with one has to do with the others


class Response:
    """The base of every operation's response.

    Iterate with `async for`; each loop starts from the first event, and events are kept. Leaving
    `async with pipeline.stream(...)` closes what is still open.

    Attributes:
        head: What is known of the answer besides its events.
    """

    operation: ClassVar[str] = ""

    __slots__ = (
        "__weakref__", "_answer", "_bridge", "_callbacks", "_clock", "_closing", "_context",
        "_ended", "_ender", "_error", "_events", "_guard", "_loop", "_outcome", "_read_over",
        "_reading", "_ready", "_source", "_told", "head",
    )  # fmt: skip

    def __init__(self, events: Sequence[Event] = (), head: Head = NO_HEAD) -> None:
        self._events: list[Event] = list(events)
        self.head = head
        self._source: Source | None = None
        self._ready: Callable[[], Event | None] | None = None  # its events that are there already
        self._context: Context | None = None
        self._callbacks: list[Callback] = []
        self._outcome: Outcome | None = Outcome.COMPLETE
        self._error: BaseException | None = None
        self._answer: Answer | None = None
        self._guard: Guard | None = None
        self._clock: Clock | None = None
        self._bridge: Bridge | None = None
        self._loop: Loop | None = None
        self._reading = False
        self._read_over: anyio.Event | None = None
        self._closing = False
        self._ender: object = None  # the task that is running the callbacks, while it does
        self._ended: anyio.Event | None = None
        self._told: Ending | None = None

    # --- making ------------------------------------------------------------------------------

    @classmethod
    def opened(
        cls, source: Source, context: Context, head: Head = NO_HEAD, guard: Guard | None = None
    ) -> Self:
        """An open response over a source of events; `request.open(source)` is the usual door."""
        response = cls((), head)
        response._outcome = None
        response._source = source
        response._ready = getattr(source, "ready", None)
        response._context = context
        response._guard = guard
        response._loop = current_loop()
        context.call.born(response)
        return response

    def adopt(self, request: Request[Any]) -> Self:
        """This response as an answer to `request`.

        A complete response that a plain function made, or that answers more than one call, is
        copied rather than shared: what a call notes of it is that call's own.
        """
        response = self
        ours, context = self._context, request.context
        if ours is None or ours.call is not context.call:
            response = self if ours is None and self._source is None else self._replica()
            response._context = context  # noqa: SLF001 - its own class
        attempt = context.attempt
        if attempt is not None and (
            response.head.provider is None
            # A target is called what its choose layer calls it, not what its transport does.
            or (attempt.vendor != attempt.provider and response.head.provider == attempt.vendor)
        ):
            response.head = response.head.through(attempt.provider)
        return response

    def _replica(self) -> Self:
        if self.open:
            msg = "An open response of one call was returned as the answer to another."
            hint = "Collect it first, and answer with its events."
            raise MisuseError(msg, hint=hint, outcome=Outcome.UNKNOWN)
        response = type(self)(self._events, self.head)
        response._answer = self._answer  # noqa: SLF001 - its own class
        self._carry_to(response)
        return response

    # --- state -------------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether events may still come."""
        return self._outcome is None

    @property
    def complete(self) -> bool:
        """Whether it has ended well."""
        return self._outcome is Outcome.COMPLETE

    @property
    def events(self) -> tuple[Event, ...]:
        """The events that have come so far."""
        return tuple(self._events)

    @property
    def trace(self) -> Trace:
        """What happened in its call."""
        return self.context.trace

    @property
    def context(self) -> Context:
        """The context of its request, at this level."""
        if self._context is None:
            msg = "This response was made by hand and belongs to no call, so it has no context."
            raise MisuseError(msg)
        return self._context

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while it is open."""
        return self._outcome

    @property
    def cost(self) -> Money | None:
        """What the call has cost: all attempts and child calls. None if a price is not known."""
        return self.trace.cost

    @property
    def model(self) -> str | None:
        """The model that answered, as the provider names it."""
        return self.head.model

    @property
    def served_by(self) -> str | None:
        """The transport that answered."""
        return self.head.provider

    @property
    def headers(self) -> Mapping[str, str]:
        """The provider's headers that the library understands."""
        return self.head.headers

    @property
    def raw(self) -> bytes | None:
        """The provider's answer as it came; None for streams and replays."""
        return self.head.raw

    @property
    def usage(self) -> Usage | None:
        """What this answer consumed; None if nobody said."""
        return self.answer.usage

    @property
    def finish_reason(self) -> str | None:
        """Why the model stopped."""
        return self.answer.finish_reason

    @property
    def answer(self) -> Answer:
        """What all its events amount to.

        Raises:
            StillOpenError: While events may still come.
            LamellaError: What ended it, if it did not end well.
        """
        if self._answer is None or self._outcome is not Outcome.COMPLETE:
            self._must_be_complete()
            self._answer = self._fold(self._events)
        return self._answer

    @property
    def partial(self) -> Answer:
        """What the events that have come so far amount to, however it ends."""
        return self._fold(self._events)

    @classmethod
    def _fold(cls, events: Sequence[Event]) -> Answer:
        raise NotImplementedError

    def _must_be_complete(self) -> None:
        if self._outcome is None:
            msg = "The answer is still open: not all of its events have come."
            hint = "Call `await response.collect()` first, or use `response.partial`."
            raise StillOpenError(msg, hint=hint)
        if isinstance(self._error, LamellaError):
            raise self._error.copy()
        if self._outcome is not Outcome.COMPLETE:
            msg = (
                f"The answer did not end well ({self._outcome}); `response.partial` has what came."
            )
            raise ClosedError(msg) from self._error

    def __repr__(self) -> str:
        state = "open" if self._outcome is None else str(self._outcome)
        return f"<{type(self).__name__} {state}, {len(self._events)} events>"

    # --- reading -----------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Event]:
        return Cursor(self)

    def __iter__(self) -> Iterator[Event]:
        """The same for synchronous code: of complete responses, and inside `stream_sync`."""
        index = 0
        while True:
            if self._ender is not None and self._bridge and index + 1 >= len(self._events):
                self._bridge.call(self.settled)
            if index == len(self._events):
                if not self.open:
                    self._raise_if_broken()
                    return
                if self._bridge is None:
                    msg = "An open response is read with `async for`."
                    raise MisuseError(msg, hint="In synchronous code use pipeline.stream_sync().")
                self._bridge.call(self.pull)
                continue
            yield self._events[index]
            index += 1

    async def collect(self) -> Self:
        """Read to the end; the response itself, complete now.

        Raises:
            LamellaError: What ended it, if it did not end well.
        """
        while self._outcome is None:
            if not self.take():
                await self.pull()
        await self.settled()
        self._raise_if_broken()
        return self

    def collect_sync(self) -> Self:
        """`collect` for synchronous code, inside `stream_sync`."""
        for _ in self:
            continue
        return self

    def _raise_if_broken(self) -> None:
        if self._outcome is not Outcome.COMPLETE:
            self._must_be_complete()

    def take(self) -> bool:
        """Whether the next event was there already; it is then the last of `events`.

        No time passes, so no clock has to run; and what ends the answer is left to `pull`.
        """
        ready = self._ready
        if ready is None or self._reading:
            return False
        event = ready()
        if event is None:
            return False
        if self._guard is not None:
            self._guard.saw(event)
        self._events.append(event)
        return True

    async def pull(self) -> None:
        """Wait for the next event, which is then the last of `events`."""
        if self._outcome is not None:
            await self.settled()
            return
        if self._reading:
            raise _second_reader()
        guard, clock = self._guard, self._clock
        self._reading = True
        if clock is not None:
            clock.release()
        if guard is not None:
            guard.arm()
        try:
            event = await self._source.__anext__()  # type: ignore[union-attr]
            last = type(event) is Finish
            if self._closing and not last:
                raise ClosedError("The source gave an event although it was closed.")
        except BaseException as error:  # noqa: BLE001 - _broke raises in every case
            await self._broke(error)
        else:
            if guard is not None:
                guard.saw(event)
            self._events.append(event)
            if last:
                await self._finished()
        finally:
            self._reading = False
            if clock is not None:
                clock.hold()
            if self._read_over is not None:
                self._read_over.set()

    async def _finished(self) -> None:
        """The answer has ended well, unless a callback objects."""
        await self._end(Outcome.COMPLETE, None)
        if self._clock is not None and self._context is not None:  # the outermost level
            self._context.call.raise_failure()

    # --- ending ------------------------------------------------------------------------------

    async def settled(self) -> None:
        """Wait until the callbacks of an ending under way have run; at once without one.

        Another task may be running them. In a callback itself, and in what it awaits, there is
        nothing to wait for. The wait is as bounded as the callbacks are.
        """
        if self._ender is None or self._ender is current_loop().task():
            return
        self._ended = self._ended or anyio.Event()
        await self._ended.wait()

    async def _broke(self, error: BaseException) -> None:
        """The source raised instead of giving an event: end, and raise what the reader is told."""
        if self._guard is not None:
            self._guard.disarm()
        unread = getattr(self._source, "unread", None)
        if unread is not None:  # what a loop had done before it was broken off
            self._events.extend(unread())
        cause = self._cause(error)
        if isinstance(cause, LamellaError):
            cause = self._at_this_level(cause)
        await self._end(outcome_of(cause), cause)
        if self._clock is not None and isinstance(cause, LamellaError):
            # The outermost level; only now have the attempts ended.
            self._error = cause = cause.copy(attempts=self.trace.attempts)
        if not isinstance(error, Exception) or not isinstance(cause, LamellaError):
            raise error  # cancellation goes on as it is; only the record says why
        ours = isinstance(error, LamellaError | StopAsyncIteration)
        raise cause from (error.__cause__ if ours else error)

    def _cause(self, error: BaseException) -> BaseException:
        """Why the source really stopped."""
        if self._guard is not None and (late := self._guard.error()) is not None:
            return late
        shut = self._context is not None and self._context.call.closing
        if self._closing or shut:
            if isinstance(error, Exception):
                return ClosedError(
                    "The response was closed while its next event was awaited.",
                    outcome=Outcome.CANCELLED if shut else Outcome.LEFT,
                )
            return error
        if isinstance(error, StopAsyncIteration):
            return StreamTruncated(
                "The answer stopped without the provider's terminal signal.",
                hint="`partial` holds what came.",
                phase="stream",
            )
        if not isinstance(error, Exception) and self._context is not None:
            attempt = self._context.attempt
            return (attempt.interrupted() if attempt is not None else None) or error
        return error

    def _at_this_level(self, error: LamellaError) -> LamellaError:
        """The error as this level's reader sees it: with what this level had let through."""
        partial = self._fold(self._events) if self._events else None
        usage = error.usage or (None if partial is None else partial.usage)
        if self._clock is not None:  # the outermost level, after the commitment
            return error.copy(partial=partial, usage=usage, committed=True, retryable=False)
        return error.copy(partial=partial, usage=usage)

    async def aclose(self) -> None:
        """Stop reading and close what the answer comes from. Idempotent; any task may call it.

        A read that another task is waiting in raises `ClosedError`. An ending that another task is
        about is waited for.
        """
        if self._outcome is not None:
            if self._ender is not None:
                with anyio.CancelScope(shield=True):
                    await self.settled()
            return
        if not self._reading:
            await self._end(Outcome.LEFT, None)
            return
        self._closing = True
        interruption = await close_source(self._source, self._context)
        if self._reading:  # no longer, if the source took its time to close
            self._read_over = self._read_over or anyio.Event()
            with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
                await self._read_over.wait()
        if interruption is not None:
            raise interruption

    async def _end(self, outcome: Outcome, error: BaseException | None) -> None:
        if self._outcome is not None:
            return
        self._outcome = outcome
        self._error = error
        self._ready = None
        if self._guard is not None:
            self._guard.close()
        self._ender = True if self._loop is None else self._loop.task() or True
        try:
            interruption = await close_source(self._source, self._context)
            self._source = None
            callbacks, self._callbacks = self._callbacks, []
            if callbacks:
                interruption = await self._tell_all(callbacks) or interruption
        finally:
            self._ender = None
            if self._ended is not None:
                self._ended.set()
        if interruption is not None:
            raise interruption

    async def _tell_all(self, callbacks: Sequence[Callback]) -> BaseException | None:
        """Tell every callback; what interrupted one of them, although it stands under a shield."""
        end = self._ending()
        interruption: BaseException | None = None
        for callback in callbacks:
            try:
                failure = await tell(callback, end)
                if failure is not None:
                    self._callback_failed(failure)
            except BaseException as stronger:  # noqa: BLE001 - raised by the caller
                # Task.cancel() of asyncio goes through shields, and where the call is over a
                # failure is raised here; the others are told first.
                interruption = interruption or stronger
        return interruption

    def _callback_failed(self, failure: Exception) -> None:
        if self._context is None:
            raise failure
        note_failure(self._context, failure)
        if self._outcome is Outcome.COMPLETE:
            self._context.call.failed(failure)

    def _ending(self) -> Ending:
        if self._told is None:  # one for all, however many ask
            self._told = ending_of(self._outcome or Outcome.UNKNOWN, self._error, self._events)
        return self._told

    async def on_end(self, callback: Callback) -> None:
        """Be told, once, how the answer ends; at once if it has already.

        Inner layers are told first. A failing callback stops no other and never replaces an error
        under way; it is raised to the consumer, at the end of the call, only where the answer
        otherwise ended well.
        """
        waiting = self.hear(callback)
        if waiting is not None:
            await waiting

    def hear(self, callback: Callback) -> Awaitable[None] | None:
        """`on_end` for the core: None where nothing is to be awaited, as with plain functions."""
        if self._outcome is None:
            self._callbacks.append(callback)
            return None
        try:
            waiting = callback(self._told or self._ending())
        except Exception as error:  # noqa: BLE001 - raised where there is nobody to note it
            self._callback_failed(error)
            return None
        return None if waiting is None else self._heard(waiting)

    async def _heard(self, waiting: Awaitable[None]) -> None:
        failure = await told(waiting)
        if failure is not None:
            self._callback_failed(failure)

    def __del__(self) -> None:
        """The net under a dropped answer: close it on its own loop, from whatever thread."""
        if self._outcome is None and self._loop is not None and self._source is not None:
            loop, close, context = self._loop, self.aclose, self._context
            if context is not None and not context.trace.finished:
                context.trace.note("core", "leak", response=type(self).__name__)
            loop.call_soon(lambda: loop.spawn(close, "lamella dropped response"))

    # --- changing ----------------------------------------------------------------------------

    def transform(self, transform: Transform) -> Self:
        """This answer with its events changed on the way; a complete one is changed at once.

        Args:
            transform: `feed(event)` and `flush()` return the events to let through instead.
        """
        if self._outcome is None:
            assert self._context is not None  # noqa: S101 - an open response has one
            source = TransformSource(self, transform)
            response = type(self).opened(source, self._context, self.head)
            if self._ready is None:
                # To ask each level in vain would cost more than it saves.
                response._ready = None  # noqa: SLF001 - its own class
            self._carry_to(response)
            return response
        self._must_be_complete()
        response = type(self)(transformed(self._events, transform), self.head)
        response._context = self._context  # noqa: SLF001 - its own class
        self._carry_to(response)
        return response

    def _carry_to(self, response: Any) -> None:
        """Give another level of this answer what is not in its events."""

    def map_text(self, function: Callable[[str], str]) -> Self:
        """This answer with each piece of its text changed.

        Args:
            function: Must not care where the text is cut: `f(a + b) == f(a) + f(b)`.
        """
        from lamella._transforms import MapText

        return self.transform(MapText(function))

    def outermost(self, clock: Clock | None, bridge: Bridge | None = None) -> None:
        """Mark the level that the caller reads; the core does this where a stream is handed out."""
        self._clock = clock
        self._bridge = bridge
        if clock is not None:
            clock.hold()


def _second_reader() -> BusyError:
    return BusyError(
        "Another task is already waiting for this response's next event.",
        hint="Let one task read and hand events on, or iterate again once it is complete.",
    )
