"""The thread that has a file: one for each store that is in use, and none once it rests.

A thread of its own is woken by the caller itself, at once. Through the event loop it would begin
only after all tasks that are ready have run: of ten thousand that ask together, the first would
have waited for too long before anybody had looked into the file.
"""

from __future__ import annotations

import threading  # noqa: TID251 - see above; where threads are not real, the port is used instead
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

from lamella._fork_locks import fork_safe_lock

REST_SECONDS: Final = 5.0
"""How long the thread waits for more to do before it ends."""


class Worker:
    """Calls a function in its thread, whenever it is woken.

    Args:
        name: What the thread is called.
        function: What it calls; may block, and must not raise.
    """

    def __init__(self, name: str, function: Callable[[], None]) -> None:
        self._name = name
        self._function = function
        self._lock = fork_safe_lock()
        self._calls: SimpleQueue[bool] = SimpleQueue()
        self._lives = False

    def wake(self) -> None:
        """Have the function called soon, from any thread."""
        self._tell(works=True)

    def rest(self) -> None:
        """Have the thread end, once it has done what it was woken for."""
        if self._lives:
            self._tell(works=False)

    def forget(self) -> None:
        """In a forked child, which has no such thread."""
        self._calls = SimpleQueue()
        self._lives = False

    def _tell(self, *, works: bool) -> None:
        with self._lock:
            self._calls.put(works)
            if self._lives:
                return
            self._lives = True
        try:
            # A daemon: the end of a program waits for nobody's next write. What is cut off then has
            # not returned, and is not in the file.
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        except BaseException:
            self.forget()
            raise

    def _work(self) -> None:
        while True:
            try:
                works = self._calls.get(timeout=REST_SECONDS)
            except Empty:
                works = False
            if works:
                self._function()
                continue
            with self._lock:
                if self._calls.empty():
                    self._lives = False
                    return
