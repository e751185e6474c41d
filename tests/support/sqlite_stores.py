"""What tests of SQLite files look at, and clocks and threads that they move."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import attrs

from lamella._sqlite_blobs import SQLiteBlobs
from lamella._sqlite_entries import Entries

T = TypeVar("T")


@attrs.define
class Clock:
    """A wall clock that a test moves."""

    seconds: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


async def inline(function: Callable[..., T], /, *args: Any) -> T:
    """A port for threads that has none."""
    return function(*args)


@attrs.define
class Gate:
    """A port for threads that lets a test say when the work begins."""

    opened: anyio.Event = attrs.field(factory=anyio.Event)
    asked: int = 0

    async def __call__(self, function: Callable[..., T], /, *args: Any) -> T:
        self.asked += 1
        await self.opened.wait()
        return function(*args)


async def data_of(store: SQLiteBlobs, key: str) -> bytes | None:
    """The value under a key."""
    blob = await store.get(key)
    return None if blob is None else blob.data


async def in_a_thread(
    function: Callable[[str], Awaitable[None]], argument: str, backend: str
) -> None:
    """Run a function on an event loop in another thread."""
    await anyio.to_thread.run_sync(lambda: anyio.run(function, argument, backend=backend))


def fails(_: Entries) -> bool:
    """What another process stands in the way of."""
    raise sqlite3.OperationalError("database is locked")


def names_in(folder: Path) -> set[str]:
    """What is in a folder."""
    return {path.name for path in folder.iterdir()}


def modes_in(folder: Path) -> list[int]:
    """Who may read and write each of the files in a folder."""
    return [path.stat().st_mode & 0o777 for path in folder.iterdir()]


def file_bytes(path: Path) -> bytes:
    """What stands in the file and in those beside it."""
    return b"".join(part.read_bytes() for part in path.parent.glob(path.name + "*"))
