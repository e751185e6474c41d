"""The events of a scripted answer, one by one, and whether anybody closed it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

import anyio

from lamella._errors import ClosedError, LamellaError
from lamella._events import Event, TextDelta

Item: TypeAlias = Event | str | float | BaseException | type[BaseException]
"""A piece of a scripted answer: an event, text, a pause in seconds, or an exception to raise."""


def raised(scripted: BaseException | type[BaseException]) -> BaseException:
    """An exception of the script as an object that nobody else has."""
    if isinstance(scripted, type):
        return scripted("As the script says.")
    return scripted.copy() if isinstance(scripted, LamellaError) else scripted.with_traceback(None)


class ScriptedSource:
    """Plays the items of one answer.

    Args:
        items: What comes, in order. Their end without a `Finish` is a truncation.
        gap: Seconds before each event.
        sleep: Waits for seconds; a pause of 0 lets others run.

    Attributes:
        closed: Whether `aclose` has been called.
        closings: How often.
        given: How many events it has given.
    """

    def __init__(
        self, items: Iterable[Item], gap: float, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._items = iter(tuple(items))
        self._gap = gap
        self._sleep = sleep
        self._pause: anyio.CancelScope | None = None
        self._reading = False
        self.closings = 0
        self.given = 0

    @property
    def closed(self) -> bool:
        """Whether it has been closed, as every source has to be."""
        return self.closings > 0

    async def __anext__(self) -> Event:
        """The next event.

        Raises:
            ClosedError: If it was closed before, or meanwhile.
            StopAsyncIteration: At the end of the script.
        """
        if self._reading:
            raise AssertionError("A source was read by two tasks at once.")
        self._reading = True
        try:
            await self._wait(self._gap)
            for item in self._items:
                if isinstance(item, int | float):
                    await self._wait(item)
                elif isinstance(item, BaseException | type):
                    raise raised(item)
                else:
                    self.given += 1
                    return TextDelta(item) if isinstance(item, str) else item
            raise StopAsyncIteration
        finally:
            self._reading = False

    async def _wait(self, seconds: float) -> None:
        self._refuse_if_closed()
        with anyio.CancelScope() as pause:
            self._pause = pause
            try:
                await self._sleep(seconds)
            finally:
                self._pause = None
        self._refuse_if_closed()

    def _refuse_if_closed(self) -> None:
        if self.closed:
            raise ClosedError("The scripted answer was closed.")

    async def aclose(self) -> None:
        """Close it; a read that is waiting raises."""
        self.closings += 1
        if self._pause is not None:
            self._pause.cancel()
