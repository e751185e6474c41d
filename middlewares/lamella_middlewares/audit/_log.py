"""The log of a directory: what is appended is durable, or an error says that it is not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast
from weakref import WeakSet

import attrs

from lamella._loops import current_loop
from lamella._options import number, one_of, refused, seconds, whole
from lamella_middlewares.audit._disk import Disk, LocalDisk
from lamella_middlewares.audit._queue import Entry, Queue
from lamella_middlewares.audit._record import Draft
from lamella_middlewares.audit._writer import Writer

if TYPE_CHECKING:
    from lamella import Ports
    from lamella_middlewares.audit._chain import Position, Root

Fsync: TypeAlias = Literal["each", "group", "none"]

MEBIBYTE: Final = 1024 * 1024


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
    _writer: Writer = attrs.field(init=False, repr=False)
    _queue: Queue = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Be known to forked children."""
        self._writer = Writer(
            self.directory, self.disk, self.fsync != "none", self.max_bytes, dict(self.header)
        )
        self._queue = Queue(
            self._writer,
            each=self.fsync == "each",
            group_seconds=cast("float", self.group_seconds) if self.fsync == "group" else 0.0,
            max_waiting=self.max_waiting,
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
        entry = Entry(self._queue, ports, Draft.of(kind, fields))
        self._queue.put(entry)
        try:
            self._queue.see_to_it(ports)
        except BaseException:  # the loop is ending
            self._queue.withdraw(entry)
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
        return len(self._queue.entries)

    @property
    def problem(self) -> str | None:
        """Why the last batch could not be written (`"ENOSPC"`); None if it was."""
        return self._queue.problem

    async def aclose(self, ports: Ports) -> None:
        """Write what is queued, and end the segment. A later record begins another.

        Raises:
            AuditError: If the end of the segment could not be written down.
        """
        entry = Entry(self._queue, ports, Draft.of("closed", {"why": "closed"}), closing=True)
        self._queue.put(entry)
        await entry.durable()

    def forked(self) -> None:
        """In a forked child: what is queued and the segment are the parent's."""
        self._queue.forget()


_logs: WeakSet[AuditLog] = WeakSet()


def _in_child() -> None:
    for log in list(_logs):
        log.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
