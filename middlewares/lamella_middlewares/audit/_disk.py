"""The file system, as far as the log needs it, so that tests can have one that fails.

All of it blocks, and raises OSError.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final, Protocol

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_FAR: Final = 2**62
"""Where Windows' lock is: beyond all content, for there a locked byte cannot be read."""
_BINARY: Final[int] = getattr(os, "O_BINARY", 0)


class Disk(Protocol):
    """What is asked of a file system."""

    def make_directory(self, path: Path) -> None:
        """Make a directory and those above it, for its owner only; one that is there is fine."""
        ...

    def names(self, directory: Path) -> list[str]:
        """What is in a directory, in no order."""
        ...

    def exists(self, path: Path) -> bool:
        """Whether there is such a file."""
        ...

    def create(self, path: Path) -> int:
        """Open a new file to append to; FileExistsError if it is there."""
        ...

    def open(self, path: Path) -> int:
        """Open a file that is there, to read and to append to."""
        ...

    def open_to_read(self, path: Path) -> int:
        """Open a file that is there, to read."""
        ...

    def lock(self, file: int) -> bool:
        """Take the file's lock for this process's life, without waiting; whether it was free."""
        ...

    def size(self, file: int) -> int:
        """How many bytes it has."""
        ...

    def linked(self, file: int) -> bool:
        """Whether it still has a name: what is written to one that was removed is lost."""
        ...

    def modified(self, path: Path) -> float:
        """When it was changed last, in seconds since the epoch."""
        ...

    def read(self, file: int, offset: int, count: int) -> bytes:
        """At most `count` bytes from `offset`; none at the end."""
        ...

    def write(self, file: int, data: bytes) -> int:
        """Append; how many bytes were taken."""
        ...

    def truncate(self, file: int, size: int) -> None:
        """Cut it off."""
        ...

    def sync(self, file: int) -> None:
        """Return when all that was written will survive a loss of power."""
        ...

    def sync_directory(self, path: Path) -> None:
        """The same for the names in a directory."""
        ...

    def close(self, file: int) -> None:
        """Close it, which frees its lock."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Give a file its name."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a file."""
        ...


class LocalDisk:
    """The real one."""

    def make_directory(self, path: Path) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def names(self, directory: Path) -> list[str]:
        return [entry.name for entry in directory.iterdir()]

    def exists(self, path: Path) -> bool:
        return path.exists()

    def create(self, path: Path) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | _BINARY
        return os.open(path, flags, 0o600)

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_APPEND | _BINARY)

    def open_to_read(self, path: Path) -> int:
        return os.open(path, os.O_RDONLY | _BINARY)

    def lock(self, file: int) -> bool:
        try:
            if sys.platform == "win32":
                os.lseek(file, _FAR, os.SEEK_SET)
                msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
            else:
                # Not lockf: its locks are lost when this process closes the file anywhere else.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        except OSError as error:
            said = f"the file system has no locks, it seems ({error.strerror})"
            raise OSError(error.errno, said) from error
        return True

    def size(self, file: int) -> int:
        return os.fstat(file).st_size

    def linked(self, file: int) -> bool:
        return sys.platform == "win32" or os.fstat(file).st_nlink > 0  # there it cannot be removed

    def modified(self, path: Path) -> float:
        return path.stat().st_mtime

    def read(self, file: int, offset: int, count: int) -> bytes:
        os.lseek(file, offset, os.SEEK_SET)
        return os.read(file, count)

    def write(self, file: int, data: bytes) -> int:
        return os.write(file, data)

    def truncate(self, file: int, size: int) -> None:
        os.ftruncate(file, size)

    def sync(self, file: int) -> None:
        if sys.platform == "darwin":  # where fsync leaves it in the drive's own memory
            fcntl.fcntl(file, fcntl.F_FULLFSYNC)
        elif sys.platform == "win32":
            os.fsync(file)
        else:
            os.fdatasync(file)  # the content and its length; when it was changed may be lost

    def sync_directory(self, path: Path) -> None:
        if sys.platform == "win32":  # which opens no directories, and needs none
            return
        directory = os.open(path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def close(self, file: int) -> None:
        os.close(file)

    def rename(self, old: Path, new: Path) -> None:
        old.rename(new)

    def remove(self, path: Path) -> None:
        path.unlink()


def write_all(disk: Disk, file: int, data: bytes) -> None:
    """Append all of it.

    Raises:
        OSError: If not all of it could be written; part of it may have been.
    """
    rest = memoryview(data)
    while rest:
        taken = disk.write(file, bytes(rest) if len(rest) < len(data) else data)
        if taken <= 0:
            raise OSError("the file takes no more bytes")
        rest = rest[taken:]
