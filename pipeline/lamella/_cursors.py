"""One reader's place in an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from lamella._events import Finish

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from lamella._events import Event
    from lamella._responses import Response


class Cursor:
    """Gives the events of a response from the first one on, and waits for those still to come.

    It is the response's other half, and looks inside it: it runs once for each event.
    """

    __slots__ = ("_index", "_response")

    def __init__(self, response: Response) -> None:
        self._response = response
        self._index = 0

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Coroutine[Any, Any, Event]:
        # A plain function, so that an event costs one coroutine. Its place moves on in there: a
        # read that is cancelled before it has begun has read nothing.
        response = self._response
        if response._ready is not None and self._index >= len(response._events):  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            response.take()
        return self.wait()

    async def wait(self) -> Event:
        """The next event, where the source has none at hand besides those that have been taken."""
        response = self._response
        index = self._index
        events = response._events  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        while index >= len(events):
            if response._outcome is not None:  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
                await response.settled()
                response._raise_if_broken()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
                raise StopAsyncIteration
            await response.pull()
        if response._ender is not None and index + 1 == len(events):  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            await response.settled()  # `Finish` is handed out once the callbacks have run
        self._index = index + 1
        return events[index]

    def ready(self) -> Event | None:
        """The next event if nothing has to be awaited for it; None also where that is the end."""
        response = self._response
        index = self._index
        events = response._events  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        if index >= len(events) and not response.take():
            return None
        event = events[index]
        if response._ender is not None or type(event) is Finish:  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            return None
        self._index = index + 1
        return event

    def unread(self) -> list[Event]:
        """What has come and was not handed out, for a level that was broken off; not the end."""
        events = self._response._events[self._index :]  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        self._index += len(events)
        return [event for event in events if type(event) is not Finish]
