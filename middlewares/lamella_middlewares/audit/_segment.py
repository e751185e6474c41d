"""One file, written by one process during one life.

`<directory>/<id>.audit` is there under its name only once its header is, durably, so a file without
a whole header was damaged afterwards. While it is written to it is locked. Whatever fails about
writing ends it: after a failed fsync nobody knows what the disk holds, and trying again would only
report success (the page cache forgets what it could not write). The next segment's header then says
up to where this one counts.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from weakref import finalize

import attrs

from lamella_middlewares.audit._chain import Chain, Position, Root
from lamella_middlewares.audit._disk import write_all
from lamella_middlewares.audit._reading import FRESH, SUFFIX
from lamella_middlewares.audit._record import Draft

if TYPE_CHECKING:
    from lamella_middlewares.audit._disk import Disk

FORMAT: Final = 1
"""The version of the format, in every header."""

_TRIES: Final = 8
"""How many names are tried. They cannot be guessed, but ids of tests repeat themselves."""


@attrs.frozen
class Link:
    """The segment before, as a header knows it: up to there it counts.

    Attributes:
        segment: Its id.
        chain: What it had come to.
        why: `"rotated"` when it was full, `"closed"`, or `"failed"`.
        error: What failed, by the system's name for it.
    """

    segment: str
    chain: Chain
    why: str
    error: str | None = None

    def fields(self) -> dict[str, Any]:
        """What a header says of it."""
        said = {
            "previous": self.segment,
            "previous_size": self.chain.size,
            "previous_digest": self.chain.last,
            "previous_root": self.chain.tree.root().hex(),
            "why": self.why,
        }
        return said if self.error is None else {**said, "error": self.error}


class Segment:
    """A segment that this process writes to. Used by one thread at a time.

    Attributes:
        id: Its name, without the suffix.
        chain: What it has come to, as far as it is durable. Never changed, only replaced.
        size: How many bytes that are.
    """

    def __init__(self, disk: Disk, name: str, file: int, chain: Chain, size: int) -> None:
        self.id = name
        self.chain = chain
        self.size = size
        self._disk = disk
        self._file = file
        self._closing = finalize(self, disk.close, file)

    def append(self, drafts: Sequence[Draft], *, sync: bool) -> list[Position]:
        """Write records, all in one go.

        Args:
            drafts: At least one.
            sync: Whether to return only when they will survive a loss of power.

        Raises:
            OSError: If that failed. What is in the file is unknown then: `abandon` it.
        """
        ahead = self.chain.copy()
        lines: list[bytes] = []
        positions: list[Position] = []
        for draft in drafts:
            seq = ahead.size
            line, leaf = ahead.add(draft)
            lines.append(line)
            positions.append(Position(self.id, seq, leaf))
        lines.append(b"")
        data = b"\n".join(lines)
        write_all(self._disk, self._file, data)
        if sync:
            self._disk.sync(self._file)
        if not self._disk.linked(self._file):
            raise FileNotFoundError(errno.ENOENT, "the segment's file was removed")
        self.chain, self.size = ahead, self.size + len(data)
        return positions

    def root(self) -> Root:
        """What stands for its records."""
        return Root(self.id, self.chain.size, self.chain.tree.root())

    def abandon(self) -> None:
        """Write no more, and take back what may have been half written."""
        # If that fails too, readers still know from the next header up to where it counts.
        with suppress(OSError):
            self._disk.truncate(self._file, self.size)
        self.close()

    def close(self) -> None:
        """Let go of the file, and so of its lock; done twice it does nothing."""
        with suppress(OSError):  # the descriptor is gone either way, and what it was for is durable
            self._closing()


def begin(
    disk: Disk,
    directory: Path,
    new_id: Callable[[], str],
    fields: Mapping[str, Any],
    stamp: tuple[int, int],
) -> Segment:
    """Begin a segment; its header is durable when this returns.

    Args:
        disk: The file system.
        directory: Where; it is made if it is not there.
        new_id: Makes unguessable ids.
        fields: What its header says besides.
        stamp: When, by the wall clock and the monotonic one, in microseconds.

    Raises:
        OSError: If that is not possible; nothing is left of it then, if that is possible.
        TypeError: If the fields have no canonical form.
        ValueError: Likewise.
    """
    if not disk.exists(directory):
        disk.make_directory(directory)
        disk.sync_directory(directory.parent)
    for _ in range(_TRIES):
        name = _name(new_id(), stamp[0])
        said = {**fields, "format": FORMAT, "segment": name}
        chain = Chain()
        line, _leaf = chain.add(Draft.of("segment", said).stamp(*stamp))
        path = directory / f"{name}{SUFFIX}"
        if not _put_in_place(disk, path, line + b"\n"):
            continue
        with _or_removed(disk, path):
            disk.sync_directory(directory)
            file = disk.open(path)
        # Another process may look after dead segments right now, and take it for one.
        if _taken(disk, path, file) and disk.size(file) == len(line) + 1:
            return Segment(disk, name, file, chain, len(line) + 1)
        disk.close(file)
    raise FileExistsError(f"no free name for a segment was found in {_TRIES} tries")


def _taken(disk: Disk, path: Path, file: int) -> bool:
    """Whether the lock of a new segment is ours; where there are no locks, there is no segment."""
    try:
        return disk.lock(file)
    except OSError:
        disk.close(file)
        with suppress(OSError):
            disk.remove(path)
        raise


def _put_in_place(disk: Disk, path: Path, data: bytes) -> bool:
    """Make a file that is there either whole or not at all; False if the name is taken."""
    fresh = path.with_name(f"{path.name}{FRESH}")
    try:
        file = disk.create(fresh)
    except FileExistsError:
        return False
    with _or_removed(disk, fresh):
        try:
            write_all(disk, file, data)
            disk.sync(file)
        finally:
            disk.close(file)
        # Who holds the fresh name is the only one to give the other: this overwrites nothing.
        if not disk.exists(path):
            disk.rename(fresh, path)
            return True
    disk.remove(fresh)
    return False


@contextmanager
def _or_removed(disk: Disk, path: Path) -> Generator[None]:
    """If anything fails, the file goes, if it can."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            disk.remove(path)
        raise


def _name(new_id: str, at: int) -> str:
    """A name that sorts by time and that nobody else takes."""
    try:
        when = datetime.fromtimestamp(at // 1_000_000, UTC).strftime("%Y%m%dT%H%M%SZ")
    except (OSError, OverflowError, ValueError):  # a clock that is far off
        when = "00000000T000000Z"
    return f"{when}-{sha256(new_id.encode()).hexdigest()[:16]}"
