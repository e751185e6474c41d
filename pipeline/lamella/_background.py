"""Work that outlives the request that started it: flights, refreshes, flushes.

Tasks run on the loop that spawned them, belong to the pipeline, and end with it. There is no task
group to enter, so a pipeline needs no `async with`, and any task may close it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any

import anyio
import attrs

from lamella._errors import ClosedError
from lamella._loops import Loop, current_loop


@attrs.define(eq=False)
class Work:
    """One piece of it, under way.

    Attributes:
        name: What it is called.
        loop: Where it runs.
        scope: What it runs in.
        done: Set when it is over, if somebody waits for that.
    """

    name: str
    loop: Loop
    scope: anyio.CancelScope
    done: anyio.Event | None = None

    def cancel(self) -> None:
        """End it, also before it has begun. Call on its own loop."""
        self.scope.cancel()


class Background:
    """The detached tasks of one pipeline, on whichever loops it is used."""

    def __init__(self) -> None:
        self._running: set[Work] = set()
        self._closed = False

    def spawn(
        self, function: Callable[..., Awaitable[None]], *args: Any, name: str | None = None
    ) -> Work:
        """Start `function(*args)` on the running loop and return at once.

        Its exceptions are logged under the logger `lamella`. Errors that somebody must see are to
        be handed over by the work itself. It sees none of the caller's context variables: it is not
        the caller's alone, and outlives it.

        Args:
            function: What to run; it is cancelled when the pipeline closes.
            *args: Its arguments.
            name: What to call it in logs and in `health()`. None takes the function's name.

        Raises:
            ClosedError: If the pipeline has been closed.
        """
        if self._closed:
            msg = "Background work cannot start: the pipeline has been closed."
            raise ClosedError(msg)
        title = str(name or getattr(function, "__name__", "background work"))
        loop = current_loop()
        work = Work(title, loop, loop.scope())
        self._running.add(work)

        async def run() -> None:
            try:
                with work.scope:
                    await function(*args)
            finally:
                self._running.discard(work)
                if work.done is not None:
                    work.done.set()

        try:
            work.loop.spawn(run, title, Context())
        except BaseException:
            self._running.discard(work)
            raise
        return work

    @property
    def names(self) -> tuple[str, ...]:
        """What is running now."""
        return tuple(sorted(work.name for work in self._running))

    async def aclose(self, timeout: float = 1.0) -> None:
        """Cancel all of it, everywhere, and wait for what runs on this loop.

        Args:
            timeout: Seconds to wait for its clean-up.
        """
        self._closed = True
        here = current_loop()
        work = list(self._running)
        for item in work:
            if item.loop is here:
                item.done = item.done or anyio.Event()
                item.cancel()
            else:
                item.loop.call_soon(item.cancel)
        with anyio.move_on_after(timeout, shield=True):
            for item in work:
                if item.done is not None and item in self._running:
                    await item.done.wait()
