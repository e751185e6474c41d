"""Threads with a connection each, a few of them: what is asked together is done side by side.

A thread takes one job after another, and ends, with its connection, when there has been nothing to
do for a while. psycopg's connections for event loops need asyncio; these serve every loop. A caller
that is cancelled gives its job up: the thread sees that within a tenth of a second.
"""

from __future__ import annotations

import os
import threading  # noqa: TID251 - a port's threads would keep no connection
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

import anyio
import attrs

from lamella import Outcome, StoreUnavailableError, Waiter
from lamella._fork_locks import fork_safe_lock

if TYPE_CHECKING:
    from lamella_postgres._link import Link

IDLE_SECONDS: Final = 30.0
"""How long a thread and its connection wait for more to do."""

MOST_WAITING: Final = 1000


@attrs.define(eq=False)
class Job:
    """One thing to do with a connection, and what came of it.

    Attributes:
        work: Does it, on a lane; blocks.
        waiter: Who waits.
        given_up: Whether nobody does any more.
        begun: Whether a lane is at it.
        done: Whether it has been.
        result: What `work` gave.
        error: What it raised.
    """

    work: Callable[[Lane, Job], Any]
    waiter: Waiter
    given_up: bool = False
    begun: bool = False
    done: bool = False
    result: Any = None
    error: BaseException | None = None


@attrs.define(eq=False)
class Lane:
    """A thread's place.

    Attributes:
        link: Its connection; None if it has none now.
        jobs: What it is to do; None wakes it, to end.
        ends: Whether it takes no more once nothing waits.
        waiters: Who waits for its end.
    """

    link: Link | None = None
    jobs: SimpleQueue[Job | None] = attrs.field(factory=SimpleQueue["Job | None"])
    ends: bool = False
    waiters: list[Waiter] = attrs.field(factory=list[Waiter])

    def drop(self) -> None:
        """Close its connection; the next job opens another."""
        link, self.link = self.link, None
        if link is not None:
            link.drop()


class Lanes:
    """The lanes of a store. Thread-safe, for any number of event loops.

    Args:
        most: How many there may be.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = fork_safe_lock()
        self._lanes: set[Lane] = set()
        self._idle: list[Lane] = []
        self._waiting: deque[Job] = deque()
        self._parents: list[Lane] = []
        _known.add(self)

    async def ask(self, work: Callable[[Lane, Job], Any], seconds: float) -> Any:
        """What the work gives.

        Args:
            work: Runs in a lane's thread.
            seconds: After which it is given up, wherever it is.

        Raises:
            StoreUnavailableError: If it takes longer, or too much waits.
        """
        job = Job(work, Waiter())
        self._submit(job)
        try:
            with anyio.move_on_after(seconds):
                await job.waiter.wait()
        finally:
            job.given_up = True
            if not job.begun:
                with self._lock, suppress(ValueError):
                    self._waiting.remove(job)  # its place is somebody else's
        if not job.done:
            outcome = Outcome.UNKNOWN if job.begun else Outcome.NOT_SENT
            raise StoreUnavailableError(
                f"PostgresSpend: no answer in {seconds:g} s.",
                hint="See whether the server can be reached, and what it is doing.",
                outcome=outcome,
            )
        if job.error is not None:
            raise job.error
        return job.result

    def now(self, work: Callable[[Lane, Job | None], Any]) -> Any:
        """What the work gives, done in this thread: on a lane that is idle, or one of its own."""
        with self._lock:
            lane = self._idle.pop() if self._idle else None
        if lane is not None:
            try:
                return work(lane, None)
            finally:
                job = self._free(lane)
                if job is not None:
                    lane.jobs.put(job)
        lane = Lane()
        try:
            return work(lane, None)
        finally:
            lane.drop()

    async def aclose(self) -> None:
        """End all lanes, once what waits is done, and wait for that."""
        waiters: list[Waiter] = []
        with self._lock:
            for lane in self._lanes:
                waiter = Waiter()
                lane.ends = True
                lane.waiters.append(waiter)
                waiters.append(waiter)
            for lane in self._idle:
                lane.jobs.put(None)
            self._idle.clear()
            self._lanes.clear()  # who comes now begins others
        for waiter in waiters:
            await waiter.wait()

    # --- lanes -----------------------------------------------------------------------------------

    def _submit(self, job: Job) -> None:
        with self._lock:
            if self._idle:
                self._idle.pop().jobs.put(job)
                return
            if len(self._lanes) >= self._most:
                if len(self._waiting) >= MOST_WAITING:
                    raise StoreUnavailableError(
                        f"PostgresSpend: {MOST_WAITING} operations wait for the server, and no "
                        "more are taken.",
                        hint="It is slower than what is asked: look at the server, or ask less.",
                        outcome=Outcome.NOT_SENT,
                    )
                self._waiting.append(job)
                return
            lane = Lane()
            lane.jobs.put(job)
            self._lanes.add(lane)
        try:
            # A daemon: the end of a program waits for no answer. What was cut off had not returned.
            name = "lamella postgres"
            threading.Thread(target=self._serve, args=(lane,), name=name, daemon=True).start()
        except BaseException:
            with self._lock:
                self._lanes.discard(lane)
            raise

    def _serve(self, lane: Lane) -> None:
        try:
            while True:
                try:
                    job = lane.jobs.get(timeout=IDLE_SECONDS)
                except Empty:
                    if self._retire(lane):
                        return
                    continue
                if job is None:
                    return
                while job is not None:
                    self._do(lane, job)
                    done, job = job, self._free(lane)
                    done.waiter.wake()  # by now the lane is there for what they ask next
                    del done  # nor are its records kept until then
                if lane.ends:
                    return
        finally:
            lane.drop()
            with self._lock:
                self._lanes.discard(lane)
                waiters = list(lane.waiters)
            for waiter in waiters:
                waiter.wake()

    def _retire(self, lane: Lane) -> bool:
        """Whether the lane may end: if it is idle, nobody can give it a job any more."""
        with self._lock:
            if lane not in self._idle:
                return False
            self._idle.remove(lane)
            self._lanes.discard(lane)
            return True

    def _free(self, lane: Lane) -> Job | None:
        """What the lane is to do next; it is idle if there is nothing."""
        with self._lock:
            while self._waiting:
                job = self._waiting.popleft()
                if not job.given_up:
                    return job
            if lane.ends:
                lane.jobs.put(None)  # for one that another thread has used meanwhile
            else:
                self._idle.append(lane)
            return None

    def _do(self, lane: Lane, job: Job) -> None:
        job.begun = True  # before that is looked at: who gives it up looks at this afterwards
        if job.given_up:
            return
        try:
            job.result = job.work(lane, job)
        except BaseException as error:  # noqa: BLE001 - who waits is told
            job.error = error
        job.done = True

    def begin_anew(self) -> None:
        """In a forked child, which has none of the threads. The connections are the parent's."""
        # Kept, and nothing is said on them: what is closed here would be closed for the parent.
        self._parents += self._lanes
        self._lanes = set()
        self._idle = []
        self._waiting = deque()


_known: WeakSet[Lanes] = WeakSet()


def _begin_anew() -> None:
    for lanes in list(_known):
        lanes.begin_anew()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_begin_anew)
