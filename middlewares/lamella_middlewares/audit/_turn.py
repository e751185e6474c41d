"""One at a time, on any loops and threads."""

from __future__ import annotations

from lamella import Waiter
from lamella._fork_locks import fork_safe_lock


class Turn:
    """Whoever enters it waits until nobody else is in it."""

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self.forget()

    def forget(self) -> None:
        """Begin anew, as a forked child."""
        self._taken = False
        self._waiters: list[Waiter] = []

    async def __aenter__(self) -> None:
        while True:
            waiter = Waiter()
            with self._lock:
                if not self._taken:
                    self._taken = True
                    return
                self._waiters.append(waiter)
            await waiter.wait()

    async def __aexit__(self, *_: object) -> None:
        with self._lock:
            self._taken = False
            woken, self._waiters = self._waiters, []
        for waiter in woken:
            waiter.wake()
