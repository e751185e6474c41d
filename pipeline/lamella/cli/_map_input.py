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
import attrs

from lamella.cli._run import STDIN

if TYPE_CHECKING:
    from lamella._ports import ThreadPort

LARGEST: Final = 16 * 1024 * 1024
"""Bytes that a line may have; a longer one is refused and not kept in memory."""

_PIECE: Final = 65_536
_MARK: Final = b"\xef\xbb\xbf"
"""What some programs begin a file in UTF-8 with."""


@attrs.frozen
class Line:
    """One line.

    Attributes:
        index: Which, from 0; empty lines are not counted.
        text: What stands on it; None if that is too long.
    """

    index: int
    text: bytes | None


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


class Lines:
    """The lines of a file or a pipe that are not empty, for any number of takers.

    Args:
        file: What to read.
        thread: Runs blocking work off the loop.
        limit: The most lines to give; None for all.
    """

    def __init__(self, file: BinaryIO, thread: ThreadPort, limit: int | None = None) -> None:
        self._file = file
        self._thread = thread
        self._limit = limit
        self._waits = not stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        self._lock = anyio.Lock()
        self._reading: anyio.CancelScope | None = None
        self._ready: deque[Line] = deque()
        self._begun: list[bytes] = []
        self._size = 0
        self._count = 0
        self._over = limit == 0
        self.stopped = False

    async def take(self) -> Line | None:
        """The next line; None at the end, and as soon as `stop` was called."""
        if not self._ready and not self._over:
            async with self._lock:
                while not self._ready and not self._over:
                    await self._fill()
        return self._ready.popleft() if self._ready else None

    def stop(self) -> None:
        """Give no more lines, also to those who wait for one. Call on the event loop."""
        self.stopped = self._over = True
        self._ready.clear()
        if self._reading is not None:
            self._reading.cancel()

    async def _fill(self) -> None:
        """Read a piece of the file, and find the lines that are whole by then."""
        data: bytes | None = None
        with anyio.CancelScope() as self._reading:
            data = await self._read()
        self._reading = None
        if self.stopped or data is None:
            return
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
        self._ready.append(Line(self._count, text))
        self._count += 1
        if self._count == self._limit:
            self._over = True
