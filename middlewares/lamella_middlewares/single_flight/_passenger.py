"""One call's place in a flight: its own wait, its own reader, its own copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lamella import ClosedError, Event, Request, Response
from lamella._begin import deadline_guard

if TYPE_CHECKING:
    from lamella_middlewares.single_flight._flight import Flight


class Passenger:
    """A call that waits for a flight's answer, and then the source of its own response.

    Args:
        flight: The flight.
        request: What it asked; equal to the flight's request but for its context.

    Attributes:
        patient: Whether it waits for the whole answer.
        served: Whether it has all that it waited for.
    """

    __slots__ = ("_closed", "_flight", "_taken", "patient", "request", "served")

    def __init__(self, flight: Flight, request: Request[Any]) -> None:
        self.request = request
        self.patient = not request.stream
        self.served = False
        self._flight = flight
        self._taken = 0
        self._closed = False

    async def response(self) -> Response:
        """Its own response, complete or open.

        Raises:
            BaseException: What ended the flight, as a copy.
            DeadlineExceeded: When this call's deadline passes; the flight goes on for the others.
            ClosedError: If the pipeline closes meanwhile.
        """
        flight, request = self._flight, self.request
        await request.context.wait(
            flight.until_ended if self.patient else self._begun,
            what="waiting for an answer that is shared with other calls",
        )
        if flight.answer is not None:
            flight.serve(self)
            return flight.answer.adopt(request)
        if flight.ended and (self.patient or not flight.events):
            raise flight.error_for_passenger()
        guard = deadline_guard(request.context, self)
        response: Response = request.open(self, flight.head, guard)
        return response

    async def _begun(self) -> None:
        await self._flight.until_begun(self)

    async def leave(self) -> None:
        """It no longer waits."""
        await self._flight.leave(self)

    # --- as a source -------------------------------------------------------------------------

    async def __anext__(self) -> Event:
        """The next event, from what is kept or as it comes."""
        flight, index = self._flight, self._taken
        while index >= len(flight.events):
            self._refuse_if_closed()
            if flight.ended:
                raise flight.error_for_passenger()
            await flight.news(self)
        self._refuse_if_closed()
        self._taken = index + 1
        flight.taken(index + 1)
        if flight.ended and self._taken == len(flight.events) and not self.served:
            flight.serve(self)
        return flight.events[index]

    async def aclose(self) -> None:
        """Stop reading; a read that is waiting raises."""
        self._closed = True
        self._flight.wake(self)
        await self.leave()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            msg = "The reader of a shared answer was closed."
            raise ClosedError(msg)
