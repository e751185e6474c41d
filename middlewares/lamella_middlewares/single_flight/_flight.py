"""A flight: one call upstream, whose answer several calls are waiting for.

It runs as detached work on a call of its own, so that nobody's cancellation ends it but that of the
last one who waits. Its events are kept once; each passenger reads them at its own pace.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from lamella import (
    ClosedError,
    Event,
    Finish,
    Handler,
    Head,
    LamellaError,
    Outcome,
    Request,
    Response,
    outcome_of,
)
from lamella._background import Work
from lamella._closing import CLEANUP_SECONDS
from lamella._ending import not_a_response
from lamella._errors import copy_of
from lamella._loops import Loop
from lamella._responses import NO_HEAD
from lamella_middlewares.single_flight._passenger import Passenger
from lamella_middlewares.single_flight._weights import weight

LAYER = "single_flight"


class Flight:
    """One shared call. Everything but its own task's waits is synchronous, on one event loop.

    Args:
        request: What is sent: detached from the call that asked first.
        call_next: Where to.
        read_ahead: Bytes that it reads beyond the passenger who has read most.
        forget: Called once it can take no more passengers.

    Attributes:
        call_id: The id of its call.
        streamed: Whether its answer is asked for as a stream.
        events: What has come of a streamed answer.
        head: What is known of the answer besides its events.
        answer: The whole answer, once it is there.
        error: What ended it, if it did not end well.
        ended: Whether nothing more will come.
    """

    __slots__ = (
        "_abandoned", "_call_next", "_end_of_it", "_event", "_forget", "_furthest", "_given",
        "_landed", "_landing", "_passengers", "_patient", "_payer", "_read_ahead", "_response",
        "_room", "_totals", "_waiting", "_work", "answer", "call_id", "ended", "error", "events",
        "head", "request", "streamed",
    )  # fmt: skip

    def __init__(
        self,
        request: Request[Any],
        call_next: Handler,
        *,
        read_ahead: int,
        forget: Callable[[Flight], None],
    ) -> None:
        self.request = request
        self.call_id = request.context.call_id
        self.streamed = request.stream
        self.events: list[Event] = []
        self.head: Head = NO_HEAD
        self.answer: Response | None = None
        self.error: BaseException | None = None
        self.ended = False
        self._call_next = call_next
        self._read_ahead = read_ahead
        self._forget = forget
        self._passengers: dict[str, Passenger] = {}  # by their calls, as they came
        self._payer: Passenger | None = None
        self._response: Response | None = None  # while it is read
        self._work: Work | None = None
        self._abandoned = False
        self._landed = False
        # Events are made by who waits for them, which for most is nobody.
        self._end_of_it: anyio.Event | None = None
        self._landing: anyio.Event | None = None
        self._waiting: dict[Passenger, anyio.Event] = {}  # for the next event
        self._event = event_of(request.context.call.loop)
        self._totals: list[int] = []  # the weight of the events up to each
        self._furthest = 0  # how many events the quickest passenger has taken
        self._patient = 0  # how many passengers wait for the end only
        self._room: anyio.Event | None = None  # while it is paused
        self._given = False

    def has_call(self, call_id: str) -> bool:
        """Whether a request of that call is aboard."""
        return call_id in self._passengers

    # --- its task ----------------------------------------------------------------------------

    def start(self) -> None:
        """Start its task.

        Raises:
            ClosedError: If the pipeline has been closed.
        """
        self._work = self.request.context.background.spawn(self._fly, name=LAYER)

    async def _fly(self) -> None:
        outcome = Outcome.CANCELLED
        try:
            if not self._abandoned:  # or everybody had left before it began
                await self._ask()
                outcome = Outcome.COMPLETE
        except BaseException as error:
            outcome = outcome_of(error)
            if isinstance(error, anyio.get_cancelled_exc_class()):
                closed = "The pipeline was closed while calls were waiting for a shared answer."
                self._end(ClosedError(closed, outcome=Outcome.CANCELLED))
                raise
            self._end(error)  # raised in every call that waits for it
        finally:
            self._end(None)
            try:
                closing = self.request.context.call.over(outcome)
                if closing is not None:
                    await closing
            finally:
                self._landed = True
                if self._landing is not None:
                    self._landing.set()

    async def _ask(self) -> None:
        response: Any = await self._call_next(self.request)
        if not isinstance(response, Response):
            raise not_a_response(response, self._call_next)
        response = response.adopt(self.request)
        if response.open and not self.streamed:
            await response.collect()
        if response.open:
            await self._stream(response)
        else:
            await response.collect()  # raises, if it did not end well
        self.request.context.call.raise_failure()
        self.answer = response
        self._end(None)

    async def _stream(self, response: Response) -> None:
        """Keep the events, and hand them on as they come."""
        self._response = response
        self.head = response.head
        try:
            async for event in response:
                if type(event) is Finish:
                    self.request.context.call.raise_failure()  # a callback's, inside
                self.events.append(event)
                self._totals.append((self._totals[-1] if self._totals else 0) + weight(event))
                if response.open:
                    self._announce()
                    if self._too_far():
                        await self._pause()
        finally:
            self._response = None
            if response.open:
                await response.aclose()

    def _end(self, error: BaseException | None) -> None:
        """Nothing more will come. Only the first ending counts."""
        if self.ended:
            return
        self._forget(self)
        self.error = error
        self.ended = True
        if self._end_of_it is not None:
            self._end_of_it.set()
        self._announce()

    # --- waiting for it ----------------------------------------------------------------------

    def until_ended(self) -> Awaitable[object]:
        """Wait until nothing more will come."""
        end = self._end_of_it
        if end is None:
            end = self._end_of_it = self._event()
            if self.ended:
                end.set()
        return end.wait()

    async def until_begun(self, passenger: Passenger) -> None:
        """Wait until there is something to hand on: an event, an answer or an error."""
        while not self.events and not self.ended:
            await self.news(passenger)

    async def news(self, passenger: Passenger) -> None:
        """Wait for the next event, or until `wake`."""
        event = self._waiting[passenger] = self._event()
        await event.wait()

    def wake(self, passenger: Passenger) -> None:
        """End one passenger's wait, and leave the others alone: thousands may be waiting."""
        event = self._waiting.pop(passenger, None)
        if event is not None:
            event.set()

    def _announce(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for event in waiting.values():
            event.set()

    # --- the passengers' pace ----------------------------------------------------------------

    def taken(self, count: int) -> None:
        """A passenger has taken so many events."""
        if count > self._furthest:
            self._furthest = count
            self._go_on()

    def _too_far(self) -> bool:
        if self._patient:
            return False  # whoever wants all of it is never behind
        taken = self._totals[self._furthest - 1] if self._furthest else 0
        return self._totals[-1] - taken > self._read_ahead

    async def _pause(self) -> None:
        """Wait until somebody has read on: nobody's memory fills up with what nobody reads.

        That time is the readers' and not the provider's, so the flight's clock stands still.
        """
        clock = self.request.context.clock
        self._room = self._event()
        clock.hold()
        try:
            await self._room.wait()
        finally:
            self._room = None
            clock.release()

    def _go_on(self) -> None:
        if self._room is not None and not self._too_far():
            self._room.set()

    # --- boarding and leaving ----------------------------------------------------------------

    def board(self, request: Request[Any]) -> Passenger:
        """Take a call aboard; the first one pays."""
        passenger = Passenger(self, request)
        context = request.context
        self._passengers[context.call_id] = passenger
        if passenger.patient:
            self._patient += 1
            if self._room is not None:
                self._go_on()
        if self._payer is None:
            context.trace.note(LAYER, "single_flight.started", flight=self.call_id)
            self._charge(passenger)
        else:
            others = len(self._passengers) - 1
            context.note(LAYER, "single_flight.joined", flight=self.call_id, others=others)
        return passenger

    def _charge(self, passenger: Passenger) -> None:
        self._payer = passenger
        context = passenger.request.context
        context.trace.adopt(self.request.context.trace, context.branch, context.bound)

    def serve(self, passenger: Passenger) -> None:
        """A call has had all of the answer: the two need not know of each other any more.

        Else each flight would be left to the garbage collector, with all that belongs to its call.
        """
        passenger.served = True
        self._passengers.pop(passenger.request.context.call_id, None)
        if passenger is self._payer:
            self._payer = None

    async def leave(self, passenger: Passenger) -> None:
        """Let a call go. With the last one the flight ends, and its books are closed."""
        context = passenger.request.context
        if self._passengers.get(context.call_id) is not passenger:
            if not self._passengers and not self.ended:
                # The last one is leaving in another task: its call ends after the books are closed.
                with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
                    await self._until_landed()
            return
        del self._passengers[context.call_id]
        self._waiting.pop(passenger, None)
        self._patient -= passenger.patient
        if not self._passengers and not self.ended:
            await self._abandon()
        elif passenger is self._payer and not passenger.served:
            # Though the answer may be there: it is kept by who pays for it, and so by nobody else.
            for heir in self._passengers.values():
                self._hand_on(passenger, heir)
                break

    def _hand_on(self, leaver: Passenger, heir: Passenger) -> None:
        """Another one pays from now on."""
        leaver.request.context.trace.disown(self.request.context.trace)
        leaver.request.context.note(LAYER, "single_flight.handed_on", flight=self.call_id)
        heir.request.context.note(LAYER, "single_flight.pays", flight=self.call_id)
        self._charge(heir)

    async def _abandon(self) -> None:
        """Nobody is waiting any more. The last one still pays for what has been spent."""
        self._forget(self)
        with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
            try:
                if self._response is not None:
                    await self._response.aclose()
            finally:
                self._abandoned = True
                if self._work is not None:
                    self._work.cancel()
            await self._until_landed()

    async def _until_landed(self) -> None:
        if not self._landed:
            self._landing = self._landing or self._event()
            await self._landing.wait()

    def error_for_passenger(self) -> BaseException:
        """What ended it, as an object of the receiver's own."""
        error = self.error
        if error is None:
            return ClosedError("The shared answer ended without its last event.")
        if isinstance(error, LamellaError):
            return error.copy()
        if not self._given:  # the first one gets what was raised, which is all that most ever see
            self._given = True
            return error
        return copy_of(error)


_EVENTS: dict[type[Loop], type[anyio.Event]] = {}


def event_of(loop: Loop) -> type[anyio.Event]:
    """The backend's own class of events. `anyio.Event()` looks for the backend each time."""
    kind = type(loop)
    found = _EVENTS.get(kind)
    if found is None:
        found = _EVENTS[kind] = type(anyio.Event())
    return found
