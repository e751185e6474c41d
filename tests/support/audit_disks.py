"""A disk that fails where a test says, and what there is in a directory of segments."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lamella_middlewares.audit._chain import Chain
from lamella_middlewares.audit._disk import LocalDisk
from lamella_middlewares.audit._reading import SUFFIX, Reading, Stop, read_segment

CHANGES = (
    "make_directory", "create", "open", "lock", "write", "truncate", "sync", "sync_directory",
    "rename",
)  # fmt: skip
"""The calls of a disk without which nothing can be written."""


class FailingDisk(LocalDisk):
    """The real one, but for what it is told.

    Attributes:
        calls: The names of the calls so far.
        fails: Names of calls, each with the error number that it fails with from now on.
        fail_at: The number of the call, from 0, that fails with EIO; None for none.
        takes: How many bytes a write takes at most.
        room: How many bytes can still be written before the disk is full; None for any number.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fails: dict[str, int] = {}
        self.fail_at: int | None = None
        self.takes: int | None = None
        self.room: int | None = None

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        return self._checked(name, found) if name in CHANGES else found

    def _checked(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            number = len(self.calls)
            self.calls.append(name)
            if name in self.fails:
                raise OSError(self.fails[name], os.strerror(self.fails[name]))
            if number == self.fail_at:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return call(*given)

        return run

    def sync(self, file: int) -> None:
        """Nothing: it would take most of a test's time, and only a loss of power could tell."""

    def sync_directory(self, path: Path) -> None:
        """Nothing, likewise."""

    def write(self, file: int, data: bytes) -> int:
        """Append what there is room for."""
        if self.room is not None:
            if self.room == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            data = data[: self.room]
            self.room -= len(data)
        return super().write(file, data if self.takes is None else data[: self.takes])


def segments(directory: Path) -> list[Path]:
    """The files of segments, in the order of their names."""
    return sorted(directory.glob(f"*{SUFFIX}"))


def good(path: Path) -> list[dict[str, Any]]:
    """The records of a segment, which must be whole and follow each other to its end."""
    records, stop = followed(read_segment(path))
    assert stop is None
    return records


def followed(reading: Reading) -> tuple[list[dict[str, Any]], Stop | None]:
    """The records of a segment, which must follow each other, and why there are no more."""
    chain, records = Chain(), list[dict[str, Any]]()
    for _, line, record in reading:
        assert chain.follow(line, record) is None
        records.append(record)
    return records, reading.stopped


def told(directory: Path, kind: str = "intent", field: str = "n") -> list[Any]:
    """A field of all records of a kind, in every segment of a directory, which must be good."""
    return [
        record[field]
        for path in segments(directory)
        for record in good(path)
        if record["kind"] == kind
    ]


def in_use(path: Path) -> bool:
    """Whether a living process writes to a segment now."""
    disk = LocalDisk()
    file = disk.open_to_read(path)
    try:
        return not disk.lock(file)
    finally:
        disk.close(file)
