"""Slow work that a process does once: in a thread, however many calls come to need it at once.

An import or the reading of files takes tens of milliseconds, for which no event loop should stand
still. What it comes to is not handed on: who has waited asks again, and finds it done.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from lamella._errors import DeadlineExceeded
from lamella._fork_locks import fork_safe_lock
from lamella._loops import Waiter

if TYPE_CHECKING:
    from lamella._context import Context


class Warm:
    """One such work. Thread-safe, for any number of event loops.

    Args:
        work: What is done; it may be done twice after a cancellation.

    Attributes:
        done: Whether it has been done.
    """

    __slots__ = ("_busy", "_lock", "_started", "_waiting", "_work", "done")

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._lock = fork_safe_lock()
        self._busy: int | None = None  # the process in which a thread does it
        self._started = False
        self._waiting: list[Waiter] = []
        self.done = False

    async def ready(self, context: Context) -> None:
        """Return once it has been done, or where the deadline leaves no time for that.

        Raises:
            ClosedError: If the pipeline closes meanwhile.
            Exception: What the work raised; the next to come does it anew.
        """
        try:
            while not self.done:
                waiter = self._join()
                if waiter is not None:
                    await context.wait(waiter.wait, what="something was loaded")
                    continue
                try:
                    await context.wait(
                        lambda: context.ports.thread(self._run), what="something was loaded"
                    )
                finally:
                    if not self._started:  # cancelled before the thread took it up
                        self._over()
        except DeadlineExceeded:
            return

    def _join(self) -> Waiter | None:
        """What to wait with for whoever does it; None if it is for the caller to do."""
        with self._lock:
            if self._busy != os.getpid():  # a fork leaves the thread behind
                self._busy, self._started = os.getpid(), False
                return None
            waiter = Waiter()
            self._waiting.append(waiter)
            return waiter

    def _run(self) -> None:
        self._started = True
        try:
            self._work()
            self.done = True
        finally:
            self._over()

    def _over(self) -> None:
        with self._lock:
            self._busy = None
            waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.wake()
