"""Closing: once, and whatever else goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella._loops import Waiter, current_loop
from lamella._transforms import TransformSource

if TYPE_CHECKING:
    from lamella._context import Context
    from lamella._transforms import Source

CLEANUP_SECONDS = 1.0
"""How long closing a source may take, under a shield."""


class Closing:
    """Who closes a thing, and who waits for that: any tasks, on any event loops."""

    __slots__ = ("_done", "_first", "_task", "_waiters")

    def __init__(self) -> None:
        self._first = iter((True,))  # taken in one step: two threads may close at once
        self._task: object = None
        self._done = False
        self._waiters: list[Waiter] = []

    def begin(self) -> bool:
        """Whether the caller is the first, and is to close."""
        first = next(self._first, False)
        if first:
            self._task = current_loop().task()
        return first

    async def wait(self) -> None:
        """Wait until the first has closed; at once for what the first itself calls meanwhile."""
        if self._done or self._task is current_loop().task():
            return
        waiter = Waiter()
        self._waiters.append(waiter)
        if not self._done:
            await waiter.wait()

    def finish(self) -> None:
        """The first has closed, well or not."""
        self._done = True
        self._task = None
        for waiter in self._waiters:
            waiter.wake()


async def close_source(source: Source | None, context: Context | None) -> BaseException | None:
    """Close a source; what interrupted that, although it stands under a shield.

    That it failed, or took too long, is noted in the trace: the answer's own end matters more.
    """
    if source is None or (type(source) is TransformSource and source.over):
        return None
    failure: Exception | None = None
    loop = current_loop()
    with loop.scope(deadline=loop.now() + CLEANUP_SECONDS, shield=True) as scope:
        try:
            await source.aclose()
        except Exception as error:  # noqa: BLE001 - noted below
            failure = error
        except BaseException as error:
            if scope.cancel_called:
                raise
            # Task.cancel() of asyncio goes through shields: a task of its own closes it.
            loop.spawn(source.aclose, "lamella interrupted close")
            return error
    if (failure is not None or scope.cancelled_caught) and context is not None:
        name = type(failure).__name__ if failure is not None else "TimeoutError"
        context.trace.note("core", "close.failed", error=name)
    return None
