"""An answer on its way: its events as they come, and a verdict before its end is handed out."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import attrs

from lamella import ChatResponse, LamellaError, Usage
from lamella._events import Event, Finish, UsageReport
from lamella_middlewares.structured._failures import both


class OpenAnswer:
    """The source of an answer that somebody reads while it comes.

    Args:
        inner: The answer, in which calls of the layer's tool are text already.
        before: What earlier turns have added; handed out first.
        spent: What earlier turns have consumed; None if there were none.
        end: Judges the complete answer, and gives its last events; raises if it is no value.
    """

    __slots__ = ("_cursor", "_end", "_inner", "_pending", "_spent")

    def __init__(
        self,
        inner: ChatResponse,
        before: Iterable[Event],
        spent: Usage | None,
        end: Callable[[Finish], Awaitable[list[Event]]],
    ) -> None:
        self._inner = inner
        self._cursor: Any = aiter(inner)
        self._pending = deque(before)
        self._spent = spent
        self._end = end

    async def __anext__(self) -> Event:
        if self._pending:
            return self._pending.popleft()
        try:
            event: Event = await anext(self._cursor)
        except LamellaError as error:
            raise error.copy(usage=both(self._spent, error.usage)) from error.__cause__
        if type(event) is Finish:
            self._pending.extend(await self._end(event))
            return self._pending.popleft()
        if type(event) is UsageReport and self._spent is not None:
            return attrs.evolve(event, usage=self._spent + event.usage)
        return event

    def unread(self) -> list[Event]:
        """What had come when a read was broken off."""
        events = [*self._pending, *self._cursor.unread()]
        self._pending.clear()
        return [event for event in events if type(event) is not Finish]

    async def aclose(self) -> None:
        """Stop reading the answer inside."""
        await self._inner.aclose()
