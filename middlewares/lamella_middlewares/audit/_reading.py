"""Reading a segment's file line by line: never an exception, but where it stops and why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from lamella_middlewares.audit._disk import LocalDisk
from lamella_middlewares.audit._record import MAX_RECORD, MalformedRecord, Record, read_record

if TYPE_CHECKING:
    from os import PathLike

    from lamella_middlewares.audit._disk import Disk

SUFFIX: Final = ".audit"
"""What the names of segments end with."""
TORN: Final = ".torn"
"""What the names of files end with that hold what was cut off a segment."""
FRESH: Final = ".new"
"""What is added to the name of a file that is not whole yet."""

_BLOCK: Final = 256 * 1024

Reason: TypeAlias = Literal["malformed", "torn", "unreadable"]


@attrs.frozen
class Stop:
    """Why the reading of a segment has stopped before its end.

    Attributes:
        offset: Of the first byte that could not be read as a record.
        reason: `"torn"`: the last line has no end, as after a crash. `"malformed"`: a line is no
            record. `"unreadable"`: the system gave an error.
        detail: What is wrong, in words.
    """

    offset: int
    reason: Reason
    detail: str


class Reading:
    """The records of one file in order, each as (offset, line without its line feed, record).

    It checks that every line is one record in canonical form, and nothing across lines. It may be
    iterated again, from the beginning.

    Attributes:
        end: The offset after the last record that was read.
        stopped: Why it did not get to the end of the file; None if it did, or has not yet.
    """

    def __init__(self, path: str | PathLike[str], disk: Disk | None = None) -> None:
        self.end = 0
        self.stopped: Stop | None = None
        self._path = Path(path)
        self._disk: Disk = LocalDisk() if disk is None else disk

    def __iter__(self) -> Iterator[tuple[int, bytes, Record]]:
        """Read from the beginning."""
        self.end, self.stopped = 0, None
        try:
            yield from self._records()
        except OSError as error:
            what = error.strerror or type(error).__name__
            self.stopped = Stop(self.end, "unreadable", f"the system says: {what}")

    def _records(self) -> Iterator[tuple[int, bytes, Record]]:
        for line in self._lines():
            try:
                record = read_record(line)
            except MalformedRecord as error:
                self.stopped = Stop(self.end, "malformed", str(error))
                return
            offset = self.end
            self.end = offset + len(line) + 1
            yield offset, line, record

    def _lines(self) -> Iterator[bytes]:
        """Lines without line feeds; the one without an end is not given."""
        rest, offset = b"", 0
        # Opened for each block, so that a reading that is left early holds nothing open.
        while block := self._block(offset):
            offset += len(block)
            *lines, rest = (rest + block).split(b"\n")
            yield from lines
            if len(rest) > MAX_RECORD:
                self.stopped = Stop(self.end, "malformed", "the line is longer than any record")
                return
        if rest:
            self.stopped = Stop(self.end, "torn", "the last line has no end")

    def _block(self, offset: int) -> bytes:
        disk = self._disk
        file = disk.open_to_read(self._path)
        try:
            return disk.read(file, offset, _BLOCK)
        finally:
            disk.close(file)


def read_segment(path: str | PathLike[str]) -> Reading:
    """Read a segment's file: an iterable of (offset, line, record), which says why it stopped."""
    return Reading(path)
