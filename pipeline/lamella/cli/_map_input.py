"""The lines that `lamella map` reads: a few at a time, and only when there is room for more."""

from __future__ import annotations

import os
import stat
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import anyio

from lamella._bulk_rows import LARGEST
from lamella._bulk_source import Source
from lamella.cli._run import STDIN

if TYPE_CHECKING:
    from lamella._ports import ThreadPort

_PIECE: Final = 262_144
_MARK: Final = b"\xef\xbb\xbf"
"""What some programs begin a file in UTF-8 with."""


def open_input(name: str) -> BinaryIO:
    """Open the file, or standard input, without anything that reads ahead.

    Raises:
        UsageError: If it cannot be read.
    """
    from lamella.cli._errors import UsageError

    try:
        if name == STDIN:
            return cast("BinaryIO", open(sys.stdin.fileno(), "rb", buffering=0, closefd=False))
        return cast("BinaryIO", Path(name).open("rb", buffering=0))
    except OSError as error:
        shown = "Standard input" if name == STDIN else name
        msg = f"{shown} cannot be read: {error.strerror or error}."
        raise UsageError(msg, hint="Give a file of JSON lines, one request each.") from None


class Lines(Source):
    """The lines of a file or a pipe that are not empty: bytes, or None for one that is too long.

    Args:
        file: What to read.
        thread: Runs blocking work off the loop.
        limit: The most lines to give; None for all.
    """

    def __init__(self, file: BinaryIO, thread: ThreadPort, limit: int | None = None) -> None:
        self._file = file
        self._thread = thread
        self._limit = limit
        found = os.fstat(file.fileno())
        self._waits = not stat.S_ISREG(found.st_mode)
        self._whole = 0 if self._waits else found.st_size
        self._come = 0
        self._reading: anyio.CancelScope | None = None
        self._ready: deque[bytes | None] = deque()
        self._begun: list[bytes] = []
        self._size = 0
        self._count = 0
        self._over = limit == 0

    async def take(self, most: int) -> list[Any]:
        """The next lines; none at the end, and as soon as `stop` was called."""
        while not self._ready and not self._over:
            await self._fill()
        ready = self._ready
        return [ready.popleft() for _ in range(min(most, len(ready)))]

    def stop(self) -> None:
        """Give no more lines, also to who waits for some. Call on the event loop."""
        self._over = True
        self._ready.clear()
        if self._reading is not None:
            self._reading.cancel()

    @property
    def total(self) -> int | None:  # type: ignore[override]
        """How many lines there are, from how long those are that were read; None of a pipe."""
        if self._over and not self._ready:
            return self._count
        if not self._whole or not self._count:
            return None
        found = round(self._count * self._whole / max(self._come - self._size, 1))
        return found if self._limit is None else min(found, self._limit)

    async def _fill(self) -> None:
        """Read a piece of the file, and find the lines that are whole by then."""
        data: bytes | None = None
        with anyio.CancelScope() as self._reading:
            data = await self._read()
        self._reading = None
        if data is None or self._over:
            return
        self._come += len(data)
        if not data:
            self._over = True
            self._end_line()
            return
        first, *rest = data.split(b"\n")
        self._add(first)
        for piece in rest:
            self._end_line()
            self._add(piece)

    async def _read(self) -> bytes:
        if not self._waits:
            return await self._thread(self._piece)
        # Not in a thread: one that waits for a pipe could not be ended. Some systems wait for
        # sockets only, and some devices make nobody wait.
        with suppress(OSError, NotImplementedError):
            await anyio.wait_readable(cast("Any", self._file))
        return self._piece()

    def _piece(self) -> bytes:
        return self._file.read(_PIECE) or b""

    def _add(self, piece: bytes) -> None:
        """More of the line that has begun."""
        self._size += len(piece)
        if self._size <= LARGEST:
            self._begun.append(piece)
        else:
            self._begun.clear()

    def _end_line(self) -> None:
        text = None if self._size > LARGEST else b"".join(self._begun)
        self._begun.clear()
        self._size = 0
        if text is not None and not self._count:
            text = text.removeprefix(_MARK)
        if text is not None and not text.strip():
            return
        if self._limit is not None and self._count >= self._limit:
            return
        self._ready.append(text)
        self._count += 1
        if self._count == self._limit:
            self._over = True
