"""A bounded queue with a thread behind it, so that a slow sink never holds a request up.

The thread is a daemon, begins with the first record and ends when there has been nothing to do for
a while. When the queue is full the oldest record goes, and is counted. It is a thread of its own,
not one of a port's: the request path must not wait for a disk, a pipe, or somebody's function.
"""

from __future__ import annotations

import atexit
import os
import threading  # noqa: TID251 - see above
import time
from collections import deque
from collections.abc import Callable, Mapping
from threading import get_ident  # noqa: TID251 - which thread it is, and no other
from typing import Any, TypeAlias
from weakref import WeakSet, WeakValueDictionary

import anyio

from lamella._fork_locks import fork_safe_lock

Sink: TypeAlias = Callable[[Mapping[str, Any]], object]

IDLE_SECONDS = 2.0
"""After so long without a record the thread ends; the next record starts another."""
GATHER_SECONDS = 0.1
"""How long the thread lets records gather. Waking it for each would cost more than writing it; and
while it writes, it and the event loop take the interpreter from each other."""
EXIT_SECONDS = 1.0
"""How long the end of the process waits for records that are still queued, of all writers."""


class Writer:
    """Hands records to a sink, in order, in its own thread.

    Args:
        sink: Takes one record. What it raises is counted and goes no further. A record that it
            brings about itself is dropped, or there would be no end of them.
        limit: How many records may wait; at least 1.
    """

    def __init__(self, sink: Sink, limit: int) -> None:
        self.sink = sink
        self._limit = limit
        self._lock = fork_safe_lock()
        self._begin()
        self.written = 0
        self.dropped = 0
        self.failed = 0
        self.last_failure: str | None = None
        with _lock:
            _all.add(self)

    def _begin(self) -> None:
        """A fresh queue; also for a forked child, which has no thread and repeats no records."""
        self._queue: deque[Mapping[str, Any]] = deque()
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        self._ident = 0  # the thread's, while it runs
        self._put = 0  # how many have been queued
        self._under_way = 0  # the number of the one that the sink has now; 0 if none
        self._waiting: list[tuple[int, threading.Event]] = []  # for all up to that number
        self._unreported = 0

    @property
    def queued(self) -> int:
        """How many records wait."""
        return len(self._queue)

    def put(self, record: Mapping[str, Any]) -> None:
        """Queue a record; never waits, never raises."""
        with self._lock:
            if self._ident == get_ident():
                self._drop()
                return
            if len(self._queue) >= self._limit:
                self._queue.popleft()
                self._drop()
            self._queue.append(record)
            self._put += 1
            if self._thread is None:
                self._ensure_thread()
        if not self._wake.is_set():
            self._wake.set()

    def flush(self, timeout: float = EXIT_SECONDS) -> bool:
        """Wait, at most `timeout` seconds, until what is queued now has left the queue.

        Returns:
            Whether it has: written, failed, or dropped (see the counters).
        """
        done = threading.Event()
        with self._lock:
            if self._settled() >= self._put:
                return True
            if self._ident == get_ident():
                return False  # the sink would wait for itself
            waiter = (self._put, done)
            self._waiting.append(waiter)
            started = self._ensure_thread()
        self.hurry()
        if not started:  # the interpreter is ending: threads cannot start any more
            self._drain()
        try:
            return done.wait(timeout)
        finally:
            with self._lock:
                if waiter in self._waiting:
                    self._waiting.remove(waiter)

    async def aflush(self, timeout: float = EXIT_SECONDS) -> None:
        """Wait, at most `timeout` seconds, until nothing is queued or being written."""
        if self.drained():
            return
        self.hurry()
        with anyio.move_on_after(timeout):
            while not self.drained():  # noqa: ASYNC110 - a thread, which sets no anyio.Event
                await anyio.sleep(0.001)

    def state(self) -> dict[str, Any]:
        """How many records wait, were written, were dropped, and made the sink fail."""
        found: dict[str, Any] = {
            "queued": self.queued,
            "written": self.written,
            "dropped": self.dropped,
            "failed": self.failed,
        }
        return found if self.last_failure is None else found | {"error": self.last_failure}

    def hurry(self) -> None:
        """Write what is queued now rather than soon."""
        self._hurry.set()
        self._wake.set()

    def drained(self) -> bool:
        """Whether nothing is queued or being written."""
        return not self._queue and not self._under_way

    # --- with the lock held, or in the thread ----------------------------------------------------

    def _drop(self) -> None:
        self.dropped += 1
        self._unreported += 1

    def _settled(self) -> int:
        """Up to which number nothing is queued or being written."""
        return (self._under_way or self._put - len(self._queue) + 1) - 1

    def _ensure_thread(self) -> bool:
        if self._thread is not None:
            return True
        thread = threading.Thread(target=self._run, name="lamella writer", daemon=True)
        _flush_at_exit()
        try:
            thread.start()
        except RuntimeError:
            self._thread = None
            return False
        self._thread = thread
        return True

    def _run(self) -> None:
        wake, hurry = self._wake, self._hurry
        self._ident = get_ident()
        while True:
            if wake.wait(IDLE_SECONDS):
                hurry.wait(GATHER_SECONDS)
                hurry.clear()
                wake.clear()  # before the queue is looked at: what comes later wakes again
                self._drain()
                continue
            with self._lock:
                if not self._queue:
                    self._thread, self._ident = None, 0
                    return

    def _drain(self) -> None:
        while True:
            with self._lock:
                self._under_way = 0
                if self._waiting:
                    self._tell_waiting()
                if not self._queue:
                    return
                self._under_way = self._put - len(self._queue) + 1
                item = self._queue.popleft()
                unreported, self._unreported = self._unreported, 0
            self._write({**item, "dropped": unreported} if unreported else item)

    def _tell_waiting(self) -> None:
        settled = self._settled()
        for number, done in self._waiting:
            if number <= settled:
                done.set()

    def _write(self, record: Mapping[str, Any]) -> None:
        try:
            self.sink(record)
        except BaseException as error:  # noqa: BLE001 - nothing, SystemExit neither, ends the thread
            self.failed += 1
            self.last_failure = type(error).__name__
        else:
            self.written += 1


_all: WeakSet[Writer] = WeakSet()
_writers: WeakValueDictionary[tuple[object, ...], Writer] = WeakValueDictionary()
_lock = fork_safe_lock()
_registered = False


def writer_for(key: tuple[object, ...], make: Callable[[], Writer]) -> Writer:
    """The writer under a key: layers that write to one place share its thread and its order."""
    made = make()  # it makes a lock, which must not happen with another one held
    with _lock:
        return _writers.setdefault(key, made)


def _flush_at_exit() -> None:
    global _registered  # noqa: PLW0603 - once a process
    if not _registered:
        _registered = True
        atexit.register(flush_all)


def flush_all(timeout: float = EXIT_SECONDS) -> bool:
    """Write what all writers have queued, within `timeout` seconds for all of them together.

    Returns:
        Whether all of it has left the queues.
    """
    writers = list(_writers.values())
    for writer in writers:
        writer.hurry()
    end = time.monotonic() + timeout  # noqa: TID251 - there is no pipeline any more
    done = True
    for writer in writers:  # each is asked, also when the time is over: it may have nothing to do
        left = end - time.monotonic()  # noqa: TID251
        done = writer.flush(max(0.0, left)) and done
    return done


def _begin_anew() -> None:
    for writer in list(_all):
        writer._begin()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_begin_anew)
