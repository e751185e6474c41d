"""So many at a time: rows are taken as places become free, and each keeps its place until done."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from lamella._bulk_pace import Pace

T = TypeVar("T")


class Work(Generic[T]):
    """Items, worked off by as many tasks as the pace allows. For one event loop.

    Args:
        take: Gives the next items, some at least; None at the end. It is told how many places are
            free, and never asked twice at once.
        do: Does one. What it raises ends the work.
        pace: How many may be under way.

    Attributes:
        running: How many are under way.
    """

    def __init__(
        self,
        take: Callable[[int], Awaitable[list[T] | None]],
        do: Callable[[T], Awaitable[None]],
        pace: Pace,
    ) -> None:
        self._take = take
        self._do = do
        self._pace = pace
        self._ready: deque[T] = deque()
        self._taking = False
        self._taken: anyio.Event | None = None
        self._over = False
        self._workers = 0
        self._group: TaskGroup | None = None
        self.running = 0

    async def run(self) -> None:
        """Do all of them."""
        async with anyio.create_task_group() as group:
            self._group = group
            self._grow()

    def stop(self) -> None:
        """Begin no further one; those under way go on."""
        self._over = True
        self._ready.clear()

    @property
    def over(self) -> bool:
        """Whether no further one will be begun."""
        return self._over and not self._ready

    def _grow(self) -> None:
        group = self._group
        assert group is not None  # noqa: S101 - called from within `run` only
        while self._workers < self._pace.limit and not self.over:
            self._workers += 1
            group.start_soon(self._work)

    async def _work(self) -> None:
        pace = self._pace
        try:
            while self._workers <= pace.limit:
                if not self._ready and not await self._fill():
                    return
                item = self._ready.popleft()
                self.running += 1
                try:
                    await self._do(item)
                finally:
                    self.running -= 1
                if self._workers < pace.limit:
                    self._grow()
        finally:
            self._workers -= 1

    async def _fill(self) -> bool:
        """See to it that something is ready; False if nothing will be, or it is another's turn."""
        while not self._ready:
            if self._over:
                return False
            if self._taking:
                self._taken = self._taken or anyio.Event()
                await self._taken.wait()
                continue
            self._taking = True
            try:
                found = await self._take(max(1, self._pace.limit - self.running))
                if found is None:
                    self._over = True
                elif not self._over:
                    self._ready.extend(found)
            finally:
                self._taking = False
                if self._taken is not None:
                    self._taken.set()
                    self._taken = None
        return True
