"""The lines of a file, read off the event loop and a few at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import anyio

from lamella import ConfigurationError
from lamella._ports import ThreadPort

LARGEST: Final = 16 * 1024 * 1024
"""Bytes that a line may have; a longer one is refused and not read into memory."""
_BATCH: Final = 64
"""Lines that are read at a time."""


class Lines:
    """The lines that are not empty, each with its number.

    Args:
        path: The file.
        thread: Runs blocking work off the loop.
    """

    def __init__(self, path: Path, thread: ThreadPort) -> None:
        self._path = path
        self._thread = thread
        self._lock = anyio.Lock()
        self._file: Any = None
        self._closed = False
        self._number = 0
        self._ready: list[tuple[int, bytes | None]] = []
        self._over = False

    async def take(self) -> tuple[int, bytes | None] | None:
        """The next line and its number, its text None if it is too long; None at the end."""
        async with self._lock:
            while not self._ready and not self._over:
                self._ready = await self._thread(self._read)
            return self._ready.pop() if self._ready else None

    def close(self) -> None:
        """Close the file, even if a thread that nobody waits for any more is just opening it."""
        self._closed = True
        if self._file is not None:
            self._file.close()

    def _read(self) -> list[tuple[int, bytes | None]]:
        """A few lines, the last one first."""
        if self._file is None:
            try:
                self._file = self._path.open("rb")
            except OSError as error:
                why = error.strerror or type(error).__name__
                msg = f"The file {str(self._path)!r} cannot be read: {why}."
                hint = "Give a file of JSON lines, one request each."
                raise ConfigurationError(msg, hint=hint) from None
            if self._closed:
                self._file.close()
                return []
        found: list[tuple[int, bytes | None]] = []
        while len(found) < _BATCH:
            text = self._file.readline(LARGEST + 1)
            if not text:
                self._over = True
                break
            self._number += 1
            if len(text) > LARGEST and not text.endswith(b"\n"):
                self._skip()
                found.append((self._number, None))
            elif text.strip():
                found.append((self._number, text.removeprefix(b"\xef\xbb\xbf")))
        return found[::-1]

    def _skip(self) -> None:
        """Leave the rest of a line out."""
        while True:
            more = self._file.readline(LARGEST)
            if not more or more.endswith(b"\n"):
                return
