"""Segments of processes that died: their torn ends are cut off, kept beside, and written down.

A process that is killed leaves its segment as it is: whole, or with a last line that has no end.
What was acknowledged is before that. The next process to begin a segment in the directory looks for
segments that nobody holds and nobody has finished, whenever it has nothing else to write: a large
one takes seconds to read. It first writes into its own what it found (`adopted`), then moves the
torn bytes to a file of their own and ends the dead segment with a record that says so
(`recovered`). A segment whose chain does not hold is evidence: it is left alone and only noted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import msgspec

from lamella_middlewares.audit._chain import Chain
from lamella_middlewares.audit._disk import write_all
from lamella_middlewares.audit._reading import FRESH, SUFFIX, TORN, Reading
from lamella_middlewares.audit._record import Draft

if TYPE_CHECKING:
    from lamella_middlewares.audit._disk import Disk

FINISHED: Final = ("closed", "recovered")
"""Kinds of records after which a segment has no other."""

_TAIL: Final = 4096
"""Such records are far smaller than this."""
_BLOCK: Final = 1024 * 1024
_PAUSE: Final = 256 * 1024
"""Bytes of records that are read before it is time to look whether there is something to write."""
FORGOTTEN: Final = 3600.0
"""Seconds after which a file that was to be renamed at once was left by a process that died."""


@attrs.frozen
class Dead:
    """A segment that nobody writes to any more, locked by this process.

    Attributes:
        segment: Its id.
        chain: What its whole records come to.
        end: How many bytes those are.
        torn: How many bytes come after them.
        digest: Their SHA-256 in hexadecimal; None if there are none.
        problem: Why it is left alone; None if it is not.
    """

    segment: str
    chain: Chain
    end: int
    torn: int
    digest: str | None
    problem: str | None
    _disk: Disk = attrs.field(repr=False)
    _path: Path = attrs.field(repr=False)
    _file: int = attrs.field(repr=False)

    def found(self) -> Draft:
        """What its finder writes down of it beforehand."""
        said = {
            "segment": self.segment,
            "size": self.chain.size,
            "digest": self.chain.last,
            "root": self.chain.tree.root().hex(),
            "torn": self.torn,
            "torn_digest": self.digest,
        }
        if self.problem is None:
            return Draft.of("adopted", said)
        return Draft.of("note", {**said, "about": "recovery", "problem": self.problem})

    def recover(self, by: str, stamp: tuple[int, int]) -> None:
        """Cut off its torn end, and end it.

        Args:
            by: The segment of who does it.
            stamp: When, by the wall clock and the monotonic one, in microseconds.

        Raises:
            OSError: If that failed. It can be done again then.
        """
        kept = self._keep_torn() if self.digest is not None else None
        chain = self.chain.copy()
        said: dict[str, Any] = {"by": by, "bytes": self.torn, "digest": self.digest, "kept": kept}
        line, _leaf = chain.add(Draft.of("recovered", said).stamp(*stamp))
        self._disk.truncate(self._file, self.end)
        write_all(self._disk, self._file, line + b"\n")
        self._disk.sync(self._file)

    def _keep_torn(self) -> str:
        """Copy the torn end to a file beside; its name. Durable before anything is cut off."""
        disk = self._disk
        path = self._path.with_name(f"{self.segment}.{str(self.digest)[:16]}{TORN}")
        if not disk.exists(path):
            fresh = path.with_name(f"{path.name}{FRESH}")
            if disk.exists(fresh):  # of who died at it; nobody else is: the segment is locked
                disk.remove(fresh)
            copy = disk.create(fresh)
            try:
                for block in _blocks(disk, self._file, self.end):
                    write_all(disk, copy, block)
                disk.sync(copy)
            finally:
                disk.close(copy)
            disk.rename(fresh, path)
            disk.sync_directory(path.parent)
        return path.name


def dead_segments(disk: Disk, directory: Path) -> Iterator[Dead | None]:
    """Segments that nobody holds and nobody has finished, each locked until the next is asked for.

    One that cannot be opened is not given: it may be somebody else's. In between there is None
    again and again, where who asks can do something else first.

    Raises:
        OSError: If the directory cannot be read.
    """
    for name in sorted(disk.names(directory)):
        if not name.endswith(SUFFIX):
            continue
        path = directory / name
        try:
            file = disk.open(path)
        except OSError:
            continue
        try:
            # Looked at before it is locked: whoever begins a segment wants the lock of a fresh one.
            if not _finished(disk, file) and disk.lock(file) and not _finished(disk, file):
                yield from _examine(disk, path, file)
        except OSError:
            continue
        finally:
            with suppress(OSError):
                disk.close(file)
        yield None


def remove_forgotten(disk: Disk, directory: Path, now: float) -> None:
    """Remove what processes that died have left of files that had no name yet.

    Args:
        disk: The file system.
        directory: Of the segments.
        now: In seconds since the epoch.

    Raises:
        OSError: If the directory cannot be read.
    """
    for name in disk.names(directory):
        if name.endswith((f"{SUFFIX}{FRESH}", f"{TORN}{FRESH}")):
            path = directory / name
            with suppress(OSError):  # another process does the same
                if now - disk.modified(path) > FORGOTTEN:
                    disk.remove(path)


def _examine(disk: Disk, path: Path, file: int) -> Iterator[Dead | None]:
    reading, chain = Reading(path, disk), Chain()
    end, pause, problem = 0, _PAUSE, None
    for offset, line, record in reading:
        problem = chain.follow(line, record)
        if problem is not None:
            break
        end = offset + len(line) + 1
        if end >= pause:
            pause = end + _PAUSE
            yield None
    stop = reading.stopped
    if (
        problem is None
        and stop is not None
        and not (stop.reason == "torn" or _hole(disk, file, end))
    ):
        problem = stop.detail
    if problem is None and not chain.size:
        problem = "it has no header"
    torn = disk.size(file) - end
    digest = None
    if torn:
        sums = sha256()
        for block in _blocks(disk, file, end):
            sums.update(block)
            yield None
        digest = sums.hexdigest()
    segment = path.name.removesuffix(SUFFIX)
    yield Dead(segment, chain, end, torn, digest, problem, disk, path, file)


def _hole(disk: Disk, file: int, offset: int) -> bool:
    """Whether zero bytes stand in the line there, as a loss of power leaves them."""
    return b"\0" in disk.read(file, offset, _BLOCK).split(b"\n", 1)[0]


def _finished(disk: Disk, file: int) -> bool:
    """Whether its last record says that there is none after it."""
    size = disk.size(file)
    tail = disk.read(file, max(0, size - _TAIL), _TAIL)
    if not tail.endswith(b"\n"):
        return False
    line = tail[:-1].rpartition(b"\n")[2]
    try:
        record = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return record.get("kind") in FINISHED


def _blocks(disk: Disk, file: int, offset: int) -> Iterator[bytes]:
    while block := disk.read(file, offset, _BLOCK):
        offset += len(block)
        yield block
