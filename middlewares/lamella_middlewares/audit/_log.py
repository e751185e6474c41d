"""The log of a directory, as the layer sees it: what is appended is durable, or an error says not.

Records wait in a bounded queue. Whoever finds nobody writing starts a job, on its own loop, that
takes what is queued to a thread, batch by batch, until nothing is left: those who come during one
batch share the next, and its fsync. The job belongs to nobody, so a caller that is cancelled leaves
nobody waiting, and its record is written all the same. If the job's loop ends before the thread has
begun, those who wait start another on theirs.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast
from weakref import WeakSet

import attrs

from lamella import AuditError, Waiter
from lamella._fork_locks import fork_safe_lock
from lamella._loops import current_loop
from lamella._options import number, one_of, refused, seconds, whole
from lamella_middlewares.audit._disk import Disk, LocalDisk
from lamella_middlewares.audit._record import MAX_RECORD, Draft
from lamella_middlewares.audit._writer import Writer, name_of_error

if TYPE_CHECKING:
    from lamella import Ports
    from lamella_middlewares.audit._chain import Position, Root

Fsync: TypeAlias = Literal["each", "group", "none"]

MEBIBYTE: Final = 1024 * 1024
BATCH_BYTES: Final = MEBIBYTE
"""How much goes to the file in one write, one larger record aside."""
WAITING_BYTES: Final = 4 * MAX_RECORD
"""How much may wait in memory."""


class Entry:
    """A record on its way. Its log writes it exactly once, whoever waits for it or not."""

    __slots__ = (
        "closing",
        "draft",
        "error",
        "log",
        "ports",
        "position",
        "settled",
        "stamp",
        "waiters",
    )

    def __init__(self, log: AuditLog, ports: Ports, draft: Draft, *, closing: bool = False) -> None:
        self.log = log
        self.ports = ports
        self.draft = draft
        self.closing = closing
        self.stamp: tuple[int, int] = (0, 0)
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
        log = self.log
        while not self.settled:
            waiter = Waiter()
            if log.awaits(self, waiter):
                await waiter.wait()
        if self.error is not None:
            raise log.refusal(self.error) from self.error
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


def _absolute(directory: str | os.PathLike[str]) -> Path:
    return Path(directory).expanduser().resolve()


def _fits_header(log: object, option: attrs.Attribute[Any], value: Mapping[str, Any]) -> None:
    try:
        Draft.of("segment", value)
    except (AttributeError, TypeError, ValueError) as error:
        raise refused(log, option, "...", f"fields that a record can have ({error})") from error


@attrs.define(eq=False)
class AuditLog:
    """Appends records to the segments of a directory. Thread-safe, for any number of event loops.

    Attributes:
        directory: Where the segments are. It is made when the first record is written.
        fsync: What durable means. `"group"`: it survives a loss of power, and records that wait
            together share an fsync. `"each"`: the same with an fsync for each record. `"none"`: the
            system has taken it, so it survives the end of the process; the system writes it to the
            disk when it likes.
        max_bytes: Once a segment has so many bytes, the next batch begins another.
        group_seconds: With `"group"`, how long the first of a batch waits for company. At 0 those
            who come during one batch share the next.
        max_waiting: How many records may wait to be written; more are refused.
        header: Fields that every segment's header has besides its own.
        disk: The file system.

    Raises:
        ConfigurationError: If an option cannot be.
    """

    directory: Path = attrs.field(converter=_absolute)
    fsync: Fsync = attrs.field(
        default="group", kw_only=True, validator=one_of("each", "group", "none")
    )
    max_bytes: int = attrs.field(default=64 * MEBIBYTE, kw_only=True, validator=whole(1024))
    group_seconds: float | timedelta = attrs.field(
        default=0.0, kw_only=True, converter=seconds, validator=number(0)
    )
    max_waiting: int = attrs.field(default=10_000, kw_only=True, validator=whole(1))
    header: Mapping[str, Any] = attrs.field(
        factory=dict[str, Any], kw_only=True, validator=_fits_header
    )
    disk: Disk = attrs.field(factory=LocalDisk, kw_only=True, repr=False)
    _lock: AbstractContextManager[bool] = attrs.field(
        factory=fork_safe_lock, init=False, repr=False
    )
    _queue: deque[Entry] = attrs.field(factory=deque[Entry], init=False, repr=False)
    _bytes: int = attrs.field(default=0, init=False, repr=False)
    _job: _Job | None = attrs.field(default=None, init=False, repr=False)
    _writer: Writer = attrs.field(init=False, repr=False)
    _problem: str | None = attrs.field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Be known to forked children."""
        self._writer = Writer(
            self.directory, self.disk, self.fsync != "none", self.max_bytes, dict(self.header)
        )
        _logs.add(self)

    async def append(self, ports: Ports, kind: str, fields: Mapping[str, Any]) -> Position:
        """Append a record; where it stands, once it is durable.

        Cancelled meanwhile, it is written all the same.

        Args:
            ports: The doors to the world: clocks, ids, threads.
            kind: What the record tells.
            fields: JSON values, with whole numbers only.

        Raises:
            AuditError: If it could not be written, or too many wait.
            TypeError: If the fields have no canonical form.
            ValueError: Likewise, or if they are too large.
        """
        position = await self.enter(ports, kind, fields).durable()
        assert position is not None  # noqa: S101 - only an entry that closes has none
        return position

    def enter(self, ports: Ports, kind: str, fields: Mapping[str, Any]) -> Entry:
        """Queue a record, and see to it that it is written. Call on an event loop.

        Args:
            ports: As for `append`.
            kind: As for `append`.
            fields: As for `append`.

        Returns:
            What can be waited for, or not.

        Raises:
            AuditError: If too many wait.
            RuntimeError: Outside an event loop, or if it is ending.
            TypeError: As `append`.
            ValueError: As `append`.
        """
        current_loop()  # without one nobody would write it
        entry = Entry(self, ports, Draft.of(kind, fields))
        self._put(entry)
        try:
            self._see_to_it(ports)
        except BaseException:  # the loop is ending
            self._withdraw(entry)
            raise
        return entry

    def root(self) -> Root | None:
        """What the segment written to last has come to; None before the first record.

        It covers what is durable, and so all that was acknowledged in that segment.
        """
        return self._writer.root()

    @property
    def waiting(self) -> int:
        """How many records wait to be written."""
        return len(self._queue)

    @property
    def problem(self) -> str | None:
        """Why the last batch could not be written (`"ENOSPC"`); None if it was."""
        return self._problem

    async def aclose(self, ports: Ports) -> None:
        """Write what is queued, and end the segment. A later record begins another.

        Raises:
            AuditError: If the end of the segment could not be written down.
        """
        entry = Entry(self, ports, Draft.of("closed", {"why": "closed"}), closing=True)
        self._put(entry)
        await entry.durable()

    # --- for entries -----------------------------------------------------------------------------

    def awaits(self, entry: Entry, waiter: Waiter) -> bool:
        """Have a waiter woken once an entry is settled; False if it is already."""
        with self._lock:
            if entry.settled:
                return False
            entry.waiters.append(waiter)
        self._see_to_it(entry.ports)
        return True

    def refusal(self, error: BaseException) -> AuditError:
        """The error of a record that could not be written."""
        what = f"{name_of_error(error)}: {_sentence(error)}"
        return AuditError(
            f"The audit log in {str(self.directory)!r} could not write a record ({what}).",
            hint="The next record is tried in a new segment. See that the directory can be written "
            "to and has space.",
            phase="local",
        )

    # --- the queue -------------------------------------------------------------------------------

    def _put(self, entry: Entry) -> None:
        ports, draft = entry.ports, entry.draft
        with self._lock:
            full = len(self._queue) >= self.max_waiting or self._bytes > WAITING_BYTES
            if not full or entry.closing:
                # Stamped in the order of the queue, or the clock would seem to go back.
                at, mono = _micros(ports.wall()), _micros(ports.monotonic())
                entry.stamp = at, mono
                draft.stamp(at, mono)
                self._queue.append(entry)
                self._bytes += draft.size
                return
        raise AuditError(
            f"The audit log in {str(self.directory)!r} has {len(self._queue)} records waiting to "
            "be written, and takes no more.",
            hint="The disk is slower than the requests: raise max_waiting, use fsync='group', or "
            "let fewer requests through.",
            phase="local",
        )

    def _withdraw(self, entry: Entry) -> None:
        with self._lock:
            if entry in self._queue:
                self._queue.remove(entry)
                self._bytes -= entry.draft.size

    def _see_to_it(self, ports: Ports) -> None:
        """Start a job if there is something to write and nobody at it."""
        with self._lock:
            if self._job is not None or not self._queue:
                return
            job = self._job = _Job()
        try:
            current_loop().spawn(partial(self._work, ports, job), "lamella audit")
        except BaseException:
            self._give_up(job)
            raise

    async def _work(self, ports: Ports, job: _Job) -> None:
        group = cast("float", self.group_seconds) if self.fsync == "group" else 0.0
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
                failed.extend(self._queue)
                self._queue.clear()
                self._bytes = 0
            else:
                for entry in self._queue:
                    woken += entry.waiters
                    entry.waiters = []
        if problem is not None:
            self._settle(failed, problem)
        for waiter in woken:
            waiter.wake()

    # --- in the thread ---------------------------------------------------------------------------

    def _drain(self, ports: Ports, job: _Job) -> bool:
        """Write what is queued, until nothing is; whether the job should come again instead."""
        with self._lock:
            if job.over:
                return False
            job.begun = True
        try:
            while True:
                with self._lock:
                    batch = self._take()
                    if not batch:
                        job.over = True
                        self._job = None
                        return False
                self._write(ports, batch)
                with self._lock:
                    if self.group_seconds and not job.alone and self._queue:
                        job.begun = False
                        return True
        except BaseException:
            with self._lock:
                job.over = True
                self._job = None
            raise

    def _take(self) -> list[Entry]:
        """The next batch. One that closes goes by itself."""
        queue, each = self._queue, self.fsync == "each"
        batch: list[Entry] = []
        size = 0
        while queue:
            entry = queue[0]
            if batch and (each or entry.closing or size + entry.draft.size > BATCH_BYTES):
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
                self._writer.close(first.draft)
            else:
                drafts = [entry.draft for entry in batch]
                positions = self._writer.write(ports.new_id, drafts, first.stamp)
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
            self._problem = None if error is None else name_of_error(error)
            for place, entry in enumerate(batch):
                entry.error = error
                entry.position = None if error is not None else positions[place]
                entry.settled = True
                woken += entry.waiters
                entry.waiters = []
        for waiter in woken:
            waiter.wake()  # False: its loop has ended, and with it whoever waited

    def forked(self) -> None:
        """In a forked child: what is queued and the segment are the parent's."""
        self._queue.clear()
        self._bytes = 0
        self._job = None
        self._problem = None
        self._writer.forget()


def shared_log(ports: Ports, log: AuditLog) -> AuditLog:
    """The log of this process with the same directory and options; the first one that was given."""
    options = (log.fsync, log.max_bytes, log.group_seconds, log.max_waiting, dict(log.header))
    return ports.stores.local.get(
        ("lamella", "audit", str(log.directory), repr(options)), lambda: log
    )


def _micros(instant: float) -> int:
    return int(instant * 1_000_000)


def _sentence(error: BaseException) -> str:
    """What the system says; nothing of an error that might quote a record."""
    said = error.strerror or str(error) if isinstance(error, OSError) else None
    return said or "this is a mistake in the library"


_logs: WeakSet[AuditLog] = WeakSet()


def _in_child() -> None:
    for log in list(_logs):
        log.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
