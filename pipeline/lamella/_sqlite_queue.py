"""Steps on their way to the thread that has the file: those that wait together are done together.

Whoever finds nobody at work begins a job: a thread that takes the steps, batch by batch, until none
is left. Reads go before writes, but only some batches of them; identical ones are done once, and
the writes of a batch share a transaction. The job belongs to nobody: a caller that is cancelled
leaves nobody waiting.

Where there is a port for threads, a task on the caller's loop takes the job there. If that loop
ends before the job has begun, those who wait begin another on theirs.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs

from lamella._errors import StoreUnavailableError, copy_of
from lamella._fork_locks import fork_safe_lock
from lamella._loops import Loop, current_loop
from lamella._outcomes import Outcome
from lamella._sqlite_file import SQLiteFile, Step
from lamella._sqlite_worker import Worker

if TYPE_CHECKING:
    from lamella._ports import ThreadPort

BATCH_STEPS: Final = 1000
BATCH_BYTES: Final = 8 * 1024 * 1024
PASSED: Final = 4
"""Batches of reads that go before writes that wait."""
WAITING_BYTES: Final = 64 * 1024 * 1024
"""How much may wait in memory to be written, one larger step aside."""

logger = logging.getLogger("lamella")


@attrs.define(eq=False)
class _Waiting:
    """A step, and who waits for it.

    Attributes:
        step: What is to be done.
        key: What identical steps have in common; None for none.
        keeps: Whether it is done even if nobody waits any more.
        callers: How many wait.
        events: What is set for them, on each loop.
        begun: Whether it is at the thread, or was.
        settled: Whether it is done.
    """

    step: Step
    key: Hashable = None
    keeps: bool = False
    callers: int = 0
    events: dict[Loop, anyio.Event] = attrs.field(factory=dict[Loop, anyio.Event])
    begun: bool = False
    settled: bool = False


@attrs.define(eq=False)
class _Job:
    """What takes the queue to a thread.

    Attributes:
        begun: Whether the thread is at it: then it goes on until nothing is left, whoever waits.
        over: Whether it has ended, or been given up: a thread that begins now has nothing to do.
    """

    begun: bool = False
    over: bool = False


class Queue:
    """The way to one file. Thread-safe, for any number of event loops.

    Args:
        file: The file.
        thread: Runs a blocking function off the loop. None is a thread of the queue's own.
        batch_bytes: How much is written in one transaction, one larger step aside.
    """

    def __init__(
        self, file: SQLiteFile, thread: ThreadPort | None, *, batch_bytes: int = BATCH_BYTES
    ) -> None:
        self._file = file
        self._thread = thread
        self._batch_bytes = batch_bytes
        self._worker = Worker("lamella sqlite", self._serve)
        self._lock = fork_safe_lock()
        self._reads: deque[_Waiting] = deque()
        self._writes: deque[_Waiting] = deque()
        self._same: dict[Hashable, _Waiting] = {}
        self._bytes = 0
        self._passed = 0
        self._job: _Job | None = None
        file.in_child = self._forget

    @property
    def busy(self) -> bool:
        """Whether something is done or waits to be."""
        return self._job is not None

    async def ask(self, step: Step, *, keeps: bool = False) -> Any:
        """What the step gives, once it is done.

        A caller that is cancelled takes its step back, unless the thread has it already.

        Args:
            step: What is to be done.
            keeps: Whether it is done even if the caller is cancelled.

        Raises:
            StoreUnavailableError: If the file cannot be used, or too much waits for it.
        """
        with self._lock:
            waiting = self._enter(_Waiting(step, keeps=keeps))
        return await self._wait(waiting)

    async def ask_once(self, key: Hashable, work: Callable[[Any], Any]) -> Any:
        """What the work gives, which is done once for all that wait for it at a time.

        Args:
            key: What those have in common that ask for the same.
            work: Reads it.

        Raises:
            StoreUnavailableError: As `ask` does.
        """
        with self._lock:
            waiting = self._same.get(key)
            if waiting is None:
                waiting = self._same[key] = self._enter(_Waiting(Step(work), key))
            else:
                waiting.callers += 1
        return await self._wait(waiting)

    async def _wait(self, waiting: _Waiting) -> Any:
        loop = current_loop()
        try:
            while True:
                with self._lock:
                    if waiting.settled:
                        break
                    event = waiting.events.get(loop)
                    if event is None:
                        event = waiting.events[loop] = anyio.Event()
                self._see_to_it(loop)
                await event.wait()
        finally:
            self._leave(waiting)
        done = waiting.step
        if done.error is not None:
            raise copy_of(done.error)  # errors are never given to two receivers
        return done.result

    def _enter(self, waiting: _Waiting) -> _Waiting:
        """Queue it, for one caller; under the lock."""
        step = waiting.step
        if self._bytes and self._bytes + step.size > WAITING_BYTES:
            raise self._full()
        self._bytes += step.size
        waiting.callers = 1
        (self._writes if step.writes or step.alone else self._reads).append(waiting)
        return waiting

    def _leave(self, waiting: _Waiting) -> None:
        """A caller waits no longer. What nobody waits for is not done, and not kept in memory."""
        with self._lock:
            waiting.callers -= 1
            if waiting.callers or waiting.begun or waiting.keeps:
                return
            waiting.settled = True  # its place in the queue is passed over
            self._bytes -= waiting.step.size
            waiting.step = Step(_nothing)
            if waiting.key is not None:
                self._same.pop(waiting.key, None)

    def _full(self) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"{self._file.form.store}: {self._bytes} bytes wait to be written to "
            f"{str(self._file.path)!r}, and no more are taken.",
            hint="The disk is slower than what is written: look at the disk, or write less.",
            phase="local",
            outcome=Outcome.NOT_SENT,
        )

    def _see_to_it(self, loop: Loop) -> None:
        """Start a job if there is something to do and nobody at it."""
        with self._lock:
            if self._job is not None or not (self._reads or self._writes):
                return
            job = self._job = _Job()
        try:
            if self._thread is None:
                self._worker.wake()
            else:
                work = partial(self._work, self._thread, job)
                loop.spawn(work, "lamella sqlite", Context())
        except BaseException:
            self._give_up(job)
            raise

    async def _work(self, thread: ThreadPort, job: _Job) -> None:
        problem: Exception | None = None
        try:
            await thread(self._drain, job)
        except Exception as error:  # noqa: BLE001 - those who wait are told
            problem = error
        finally:
            self._give_up(job, problem)

    def _give_up(self, job: _Job, problem: Exception | None = None) -> None:
        """The job's task has ended: by itself, with its loop, or because there are no threads."""
        with self._lock:
            if job.over or job.begun:
                return
            job.over = True
            self._job = None
            left = [*self._reads, *self._writes]
            events = _events(left)
            if problem is not None:
                self._reads.clear()
                self._writes.clear()
                self._begin(left)
                for waiting in left:
                    waiting.step.error = problem
                    waiting.settled = True
        _wake(events)

    def rest(self) -> None:
        """Nothing is to be expected soon: the thread, if there is one, may end."""
        self._worker.rest()

    # --- in the thread ---------------------------------------------------------------------------

    def _serve(self) -> None:
        job = self._job
        if job is not None:
            try:
                self._drain(job)
            except Exception:
                logger.exception("the work on a SQLite store has failed")

    def _drain(self, job: _Job) -> None:
        """Do what waits, until nothing does; then tidy up, as long as nothing comes."""
        with self._lock:
            if job.over:
                return
            job.begun = True
        batch: list[_Waiting] = []
        more = True
        try:
            while True:
                with self._lock:
                    batch = self._take()
                    if not (batch or more or self._reads or self._writes):
                        job.over = True
                        self._job = None
                        return
                if not batch:
                    more = self._tidy()
                    continue
                self._file.run([waiting.step for waiting in batch])
                self._settle(batch)
                more = True
        except BaseException as error:
            self._fail(job, batch, error)
            raise

    def _take(self) -> list[_Waiting]:
        """The next batch; a step about the connection goes by itself.

        There is none if writes have to wait until there is room for more.
        """
        queue = self._reads
        if self._writes and (not self._reads or self._passed >= PASSED):
            self._passed = 0
            if self._file.over:
                return []
            queue = self._writes
        elif self._writes:
            self._passed += 1
        batch: list[_Waiting] = []
        size = 0
        while queue and len(batch) < BATCH_STEPS:
            waiting = queue[0]
            if batch and (waiting.step.alone or size + waiting.step.size > self._batch_bytes):
                break
            queue.popleft()
            if waiting.settled:
                continue
            size += waiting.step.size
            batch.append(waiting)
            if waiting.step.alone:
                break
        self._begin(batch)
        return batch

    def _begin(self, batch: Sequence[_Waiting]) -> None:
        for waiting in batch:
            if not waiting.settled:
                waiting.begun = True
                self._bytes -= waiting.step.size
                if waiting.key is not None:
                    self._same.pop(waiting.key, None)

    def _tidy(self) -> bool:
        try:
            return self._file.tidy()
        except StoreUnavailableError as error:
            logger.warning("%s It was not tidied up.", error)
            return False

    def _settle(self, batch: Sequence[_Waiting]) -> None:
        with self._lock:
            for waiting in batch:
                waiting.settled = True
            events = _events(batch)
        _wake(events)

    def _fail(self, job: _Job, batch: Sequence[_Waiting], error: BaseException) -> None:
        """A mistake of the library, or the end of the process: nobody is left waiting."""
        with self._lock:
            job.over = True
            self._job = None
            left = [*batch, *self._reads, *self._writes]
            self._reads.clear()
            self._writes.clear()
            self._same.clear()
            self._bytes = 0
        for waiting in left:
            told = error if isinstance(error, Exception) else RuntimeError(repr(error))
            waiting.step.error = waiting.step.error or told
            waiting.begun = True
        self._settle(left)

    def _forget(self) -> None:
        """In a forked child: whoever waits does so in the parent."""
        self._reads.clear()
        self._writes.clear()
        self._same.clear()
        self._bytes = 0
        self._job = None
        self._worker.forget()


def _nothing(_: object) -> None:
    """What is left of a step that was taken back."""


def _events(batch: Sequence[_Waiting]) -> dict[Loop, list[anyio.Event]]:
    """What is to be set, by loop; under the queue's lock."""
    events: dict[Loop, list[anyio.Event]] = {}
    for waiting in batch:
        for loop, event in waiting.events.items():
            events.setdefault(loop, []).append(event)
        waiting.events = {}
    return events


def _wake(events: dict[Loop, list[anyio.Event]]) -> None:
    for loop, found in events.items():
        # False: the loop has ended, and with it whoever waited.
        loop.call_soon(partial(_set, found))


def _set(events: Sequence[anyio.Event]) -> None:
    for event in events:
        event.set()
