"""Records on their way: a bounded queue, and a job that takes what is in it to a thread.

Whoever finds nobody writing starts a job, on its own loop, that takes what is queued to a thread,
batch by batch, until nothing is left: those who come during one batch share the next, and its
fsync. The job belongs to nobody, so a caller that is cancelled leaves nobody waiting, and its
record is written all the same. If the job's loop ends before the thread has begun, those who wait
start another on theirs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs

from lamella import AuditError, Waiter
from lamella._fork_locks import fork_safe_lock
from lamella._loops import current_loop
from lamella_middlewares.audit._record import MAX_RECORD, Draft
from lamella_middlewares.audit._writer import Writer, name_of_error

if TYPE_CHECKING:
    from lamella import Ports
    from lamella_middlewares.audit._chain import Position

BATCH_BYTES: Final = 1024 * 1024
"""How much goes to the file in one write, one larger record aside."""
WAITING_BYTES: Final = 4 * MAX_RECORD
"""How much may wait in memory."""


class Entry:
    """A record on its way. Its log writes it exactly once, whoever waits for it or not."""

    __slots__ = ("closing", "draft", "error", "ports", "position", "queue", "settled", "waiters")

    def __init__(self, queue: Queue, ports: Ports, draft: Draft, *, closing: bool = False) -> None:
        self.queue = queue
        self.ports = ports
        self.draft = draft
        self.closing = closing
        self.settled = False
        self.position: Position | None = None
        self.error: BaseException | None = None
        self.waiters: list[Waiter] = []

    async def durable(self) -> Position | None:
        """Wait until the record is as durable as the log's policy says; where it stands.

        It may be waited for again, by anybody, on any loop; to give up waiting changes nothing.

        Raises:
            AuditError: If it could not be written. It does not count then, and is not tried again:
                enter another one.
        """
        while not self.settled:
            waiter = Waiter()
            if self.queue.awaits(self, waiter):
                await waiter.wait()
        if self.error is not None:
            raise self.queue.refusal(self.error) from self.error
        return self.position


@attrs.define(eq=False)
class _Job:
    """What takes the queue to a thread.

    Attributes:
        begun: Whether the thread is at it.
        alone: Whether nobody waits for the thread any more: it goes on until nothing is left.
        over: Whether it has been given up: a thread that begins now has nothing to do.
    """

    begun: bool = False
    alone: bool = False
    over: bool = False


@attrs.define(eq=False)
class Queue:
    """What waits to be written. Thread-safe, for any number of event loops.

    Attributes:
        writer: Writes it.
        each: Whether each record is a batch of its own.
        group_seconds: How long the first of a batch waits for company.
        max_waiting: How many records may wait; more are refused.
        entries: What waits, in order.
        problem: Why the last batch could not be written; None if it was.
    """

    writer: Writer
    each: bool
    group_seconds: float
    max_waiting: int
    entries: deque[Entry] = attrs.field(factory=deque[Entry], init=False)
    problem: str | None = attrs.field(default=None, init=False)
    _lock: AbstractContextManager[bool] = attrs.field(factory=fork_safe_lock, init=False)
    _bytes: int = attrs.field(default=0, init=False)
    _job: _Job | None = attrs.field(default=None, init=False)

    def put(self, entry: Entry) -> None:
        """Queue a record, stamped with the present instant.

        Raises:
            AuditError: If too many wait.
        """
        ports, draft = entry.ports, entry.draft
        with self._lock:
            full = len(self.entries) >= self.max_waiting or self._bytes > WAITING_BYTES
            if not full or entry.closing:
                # Stamped in the order of the queue, or the clock would seem to go back.
                draft.stamp(_micros(ports.wall()), _micros(ports.monotonic()))
                self.entries.append(entry)
                self._bytes += draft.size
                return
        raise AuditError(
            f"The audit log in {str(self.writer.directory)!r} has {len(self.entries)} records "
            "waiting to be written, and takes no more.",
            hint="The disk is slower than the requests: raise max_waiting, use fsync='group', or "
            "let fewer requests through.",
            phase="local",
        )

    def withdraw(self, entry: Entry) -> None:
        """Take a record back, if it is not on its way yet."""
        with self._lock:
            if entry in self.entries:
                self.entries.remove(entry)
                self._bytes -= entry.draft.size

    def awaits(self, entry: Entry, waiter: Waiter) -> bool:
        """Have a waiter woken once an entry is settled; False if it is already."""
        with self._lock:
            if entry.settled:
                return False
            entry.waiters.append(waiter)
        self.see_to_it(entry.ports)
        return True

    def refusal(self, error: BaseException) -> AuditError:
        """The error of a record that could not be written."""
        what = f"{name_of_error(error)}: {_sentence(error)}"
        return AuditError(
            f"The audit log in {str(self.writer.directory)!r} could not write a record ({what}).",
            hint="The next record is tried in a new segment. See that the directory can be written "
            "to and has space.",
            phase="local",
        )

    def see_to_it(self, ports: Ports) -> None:
        """Start a job if there is something to write and nobody at it."""
        with self._lock:
            if self._job is not None or not self.entries:
                return
            job = self._job = _Job()
        try:
            current_loop().spawn(partial(self._work, ports, job), "lamella audit")
        except BaseException:
            self._give_up(job)
            raise

    async def _work(self, ports: Ports, job: _Job) -> None:
        group = self.group_seconds
        problem: Exception | None = None
        try:
            while True:
                if group:
                    await ports.sleep(group)
                if not await ports.thread(self._drain, ports, job):
                    return
        except Exception as error:  # noqa: BLE001 - those who wait are told
            problem = error
        finally:
            self._give_up(job, problem)

    def _give_up(self, job: _Job, problem: Exception | None = None) -> None:
        """The job's task has ended: by itself, with its loop, or because there are no threads."""
        failed: list[Entry] = []
        woken: list[Waiter] = []
        with self._lock:
            if job.over:
                return
            if job.begun:
                job.alone = True
                return
            job.over = True
            self._job = None
            if problem is not None:
                failed.extend(self.entries)
                self.entries.clear()
                self._bytes = 0
            else:
                for entry in self.entries:
                    woken += entry.waiters
                    entry.waiters = []
        if problem is not None:
            self._settle(failed, problem)
        for waiter in woken:
            waiter.wake()

    # --- in the thread ---------------------------------------------------------------------------

    def _drain(self, ports: Ports, job: _Job) -> bool:
        """Write what is queued, until nothing is; whether the job should come again instead.

        Segments of dead processes are looked after where nothing else is to be done.
        """
        with self._lock:
            if job.over:
                return False
            job.begun = True
        try:
            more = True
            while True:
                with self._lock:
                    batch = self._take()
                    if not batch and not more:
                        job.over = True
                        self._job = None
                        return False
                if not batch:
                    more = self.writer.look_after()
                    continue
                self._write(ports, batch)
                more = True
                with self._lock:
                    if self.group_seconds and not job.alone and self.entries:
                        job.begun = False
                        return True
        except BaseException:
            with self._lock:
                job.over = True
                self._job = None
            raise

    def _take(self) -> list[Entry]:
        """The next batch. One that closes goes by itself."""
        queue = self.entries
        batch: list[Entry] = []
        size = 0
        while queue:
            entry = queue[0]
            if batch and (self.each or entry.closing or size + entry.draft.size > BATCH_BYTES):
                break
            size += entry.draft.size
            batch.append(queue.popleft())
            if entry.closing:
                break
        self._bytes -= size
        return batch

    def _write(self, ports: Ports, batch: Sequence[Entry]) -> None:
        first = batch[0]
        positions: Sequence[Position | None] = [None]
        try:
            if first.closing:
                self.writer.close(first.draft)
            else:
                drafts = [entry.draft for entry in batch]
                positions = self.writer.write(ports.new_id, drafts)
        except BaseException as error:
            self._settle(batch, error)
            if not isinstance(error, Exception):
                raise
        else:
            self._settle(batch, None, positions)

    def _settle(
        self,
        batch: Sequence[Entry],
        error: BaseException | None,
        positions: Sequence[Position | None] = (),
    ) -> None:
        woken: list[Waiter] = []
        with self._lock:
            self.problem = None if error is None else name_of_error(error)
            for place, entry in enumerate(batch):
                entry.error = error
                entry.position = None if error is not None else positions[place]
                entry.settled = True
                woken += entry.waiters
                entry.waiters = []
        for waiter in woken:
            waiter.wake()  # False: its loop has ended, and with it whoever waited

    def forget(self) -> None:
        """In a forked child: what is queued and the segment are the parent's."""
        self.entries.clear()
        self._bytes = 0
        self._job = None
        self.problem = None
        self.writer.forget()


def _micros(instant: float) -> int:
    return int(instant * 1_000_000)


def _sentence(error: BaseException) -> str:
    """What the system says; nothing of an error that might quote a record."""
    said = error.strerror or str(error) if isinstance(error, OSError) else None
    return said or "this is a mistake in the library"
