"""An answer on its way: its events as they come, and a verdict before its end is handed out."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import attrs

from lamella import ChatResponse
from lamella._events import Event, Finish, UsageReport
from lamella._usage import Usage


class OpenAnswer:
    """The source of an answer that somebody reads while it comes.

    Args:
        inner: The answer, in which calls of the layer's tool are text already.
        before: What earlier turns have added; handed out first.
        spent: What earlier turns have consumed; None if there were none.
        end: Judges the complete answer, and gives its end; raises if it is no value.
    """

    __slots__ = ("_cursor", "_end", "_inner", "_pending", "_spent")

    def __init__(
        self,
        inner: ChatResponse,
        before: Iterable[Event],
        spent: Usage | None,
        end: Callable[[ChatResponse, Finish], Awaitable[Finish]],
    ) -> None:
        self._inner = inner
        self._cursor: Any = aiter(inner)
        self._pending = deque(before)
        self._spent = spent
        self._end = end

    async def __anext__(self) -> Event:
        if self._pending:
            return self._pending.popleft()
        event: Event = await anext(self._cursor)
        if type(event) is Finish:
            return await self._end(self._inner, event)
        if type(event) is UsageReport and self._spent is not None:
            return attrs.evolve(event, usage=self._spent + event.usage)
        return event

    async def aclose(self) -> None:
        """Stop reading the answer inside."""
        await self._inner.aclose()
