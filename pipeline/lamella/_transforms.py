"""Changing events on their way, one level of an answer at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from lamella._cursors import Cursor
from lamella._events import Event, Finish, TextDelta, Turn
from lamella._parts import Text

if TYPE_CHECKING:
    from lamella._messages import Message
    from lamella._responses import Response


class Source(Protocol):
    """Where the events of an open response come from.

    `aclose` may be called from another task while `__anext__` is waiting, and must make it raise. A
    source is read by one task at a time and ends with `Finish`; ending without one is a truncation.
    One that works between events, or reads another answer, may have a method `unread()`: the events
    that were ready when a read was broken off, without `Finish`, which the response keeps for
    whoever looks at what had come. One that reads another answer asks its cursor for them.
    One that has several events at a time may have a method `ready()`: the next event if it is there
    already and is no `Finish`, else None. It raises nothing: what ends the answer is `__anext__`'s
    to say. Reading an event so costs a call, and a coroutine less for each level of the answer.
    """

    async def __anext__(self) -> Event:
        """The next event."""
        ...

    async def aclose(self) -> None:
        """Release what it holds open. Idempotent."""
        ...


class Transform(Protocol):
    """Changes events. Synchronous, and made anew for each answer."""

    def feed(self, event: Event, /) -> Iterable[Event]:
        """The events to let through in place of `event`; never called with `Finish`."""
        ...

    def flush(self) -> Iterable[Event]:
        """What was held back, at the end of the answer, good or bad."""
        ...


class TransformSource:
    """The events of an inner response, changed."""

    __slots__ = ("_cursor", "_error", "_failed", "_inner", "_pending", "_transform")

    def __init__(self, inner: Response, transform: Transform) -> None:
        self._inner = inner
        self._cursor = Cursor(inner)
        self._transform = transform
        self._pending: deque[Event] = deque()
        self._error: Exception | None = None
        self._failed: BaseException | None = None  # what the transform raised in `ready`

    def ready(self) -> Event | None:
        pending = self._pending
        while not pending:
            event = None if self._failed is not None else self._cursor.ready()
            if event is None:
                return None
            try:
                pending.extend(self._transform.feed(event))
            except BaseException as error:  # noqa: BLE001 - raised where it ends the answer
                self._failed = error
        return None if type(pending[0]) is Finish else pending.popleft()

    async def __anext__(self) -> Event:
        pending = self._pending
        while not pending:
            if self._failed is not None:
                failed, self._failed = self._failed, None
                raise failed
            if self._error is not None:
                raise self._error
            try:
                event = await self._cursor.wait()
            except Exception as error:  # noqa: BLE001 - raised once what was held back is out
                # Even a truncated or failed answer gives up what was held back first.
                self._error = error
                with suppress(Exception):  # never replaces the error under way
                    self._feed_unread()
                    pending.extend(self._transform.flush())
                continue
            if type(event) is Finish:
                pending.extend(self._transform.flush())
                pending.append(event)
            else:
                pending.extend(self._transform.feed(event))
        return pending.popleft()

    def unread(self) -> list[Event]:
        with suppress(Exception):  # never replaces what has broken it off
            self._feed_unread()
        events = [event for event in self._pending if type(event) is not Finish]
        self._pending.clear()
        return events

    def _feed_unread(self) -> None:
        for event in self._cursor.unread():
            self._pending.extend(self._transform.feed(event))

    @property
    def over(self) -> bool:
        """Whether the answer inside has ended, and who is told has been: closing does nothing."""
        inner = self._inner
        return inner._outcome is not None and inner._ender is None  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]

    async def aclose(self) -> None:
        await self._inner.aclose()


def transformed(events: Sequence[Event], transform: Transform) -> list[Event]:
    """The events of a complete answer, changed."""
    changed: list[Event] = []
    for event in events:
        if type(event) is Finish:
            changed.extend(transform.flush())
            changed.append(event)
        else:
            changed.extend(transform.feed(event))
    return changed


class MapText:
    """Applies a function to each piece of text."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[str], str]) -> None:
        self._function = function

    def feed(self, event: Event) -> Iterable[Event]:
        if type(event) is TextDelta:
            text = self._function(event.text)
            return (attrs.evolve(event, text=text),) if text or event.extra else ()
        if type(event) is Turn:
            return (Turn(tuple([self._message(message) for message in event.messages])),)
        return (event,)

    def flush(self) -> Iterable[Event]:
        return ()

    def _message(self, message: Message) -> Message:
        if message.role != "assistant":
            return message
        parts: list[Any] = [
            attrs.evolve(part, text=self._function(part.text)) if type(part) is Text else part
            for part in message.parts
        ]
        return attrs.evolve(message, parts=parts)
