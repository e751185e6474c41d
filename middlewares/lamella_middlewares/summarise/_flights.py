"""Summaries in the making: one at a time for the same beginning of a conversation.

Whoever comes first makes it, in its own call and with its own money. The others wait, each no
longer than it may; if who makes it is cancelled or runs out of its own time, the next one does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import anyio
import attrs

from lamella import Context, PerLoop
from lamella_middlewares.summarise._names import LAYER

LATE: Final = "not over in time"


@attrs.frozen
class Made:
    """A summary, or why there is none.

    Attributes:
        text: The summary; empty if there is none.
        cut: Whether it was longer than it may be.
        why: Why there is none.
        lasting: Whether whoever else asks now would fare no better.
        unfit: Whether the model has answered, and not with what can stand for the conversation, or
            has refused it.
        too_long: Whether it was refused for its length.
        age: Seconds since it was kept; 0 while it is not.
    """

    text: str = attrs.field(default="", repr=False)
    cut: bool = False
    why: str = ""
    lasting: bool = False
    unfit: bool = False
    too_long: bool = False
    age: float = 0.0


class Flight:
    """One that is being made. Everything but the waits is synchronous, on one event loop."""

    __slots__ = ("_over", "made")

    def __init__(self) -> None:
        self._over = anyio.Event()
        self.made: Made | None = None

    async def over(self) -> None:
        """Wait until it is there, or nobody makes it any more."""
        await self._over.wait()

    def end(self) -> None:
        """Nobody makes it any more."""
        self._over.set()


Flights: TypeAlias = dict[str, Flight]
"""Those of one event loop, by what they stand for."""


def flights_of(context: Context, namespace: str) -> Flights:
    """Those that are under way on this event loop."""
    home = (namespace or "shared", LAYER, "flights")
    return context.ports.stores.local.get(home, _flights).get()


async def made_once(
    flights: Flights,
    digest: str,
    context: Context,
    make: Callable[[], Awaitable[Made]],
    seconds: float,
) -> tuple[Made, bool]:
    """A summary that this caller makes, or that another one is making; whether it was another.

    Args:
        flights: Those under way.
        digest: Which.
        context: The caller's.
        make: Makes it.
        seconds: How long this caller waits for others.

    Raises:
        DeadlineExceeded: If the caller's deadline passes.
        ClosedError: If the pipeline closes meanwhile.
    """
    with anyio.move_on_after(seconds):
        while (flight := flights.get(digest)) is not None:
            await context.wait(flight.over, what="another call summarised the conversation")
            made = flight.made
            if made is not None and (made.text or made.lasting):
                return made, True
    if digest in flights:
        return Made(why=LATE), True
    flight = flights[digest] = Flight()
    try:
        flight.made = await make()
        return flight.made, False
    finally:
        del flights[digest]
        flight.end()


def _flights() -> PerLoop[Flights]:
    return PerLoop(dict)
