"""The lines that `lamella map` writes: each is whole there, or not at all."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import anyio

from lamella.cli._map_input import STREAM

if TYPE_CHECKING:
    from lamella._ports import ThreadPort


def open_output(name: str, source: BinaryIO, *, overwrite: bool) -> BinaryIO:
    """Open the file, or standard output, without a buffer that could be lost.

    Args:
        name: Where.
        source: What is read, which is not replaced.
        overwrite: Whether a file that is there is.

    Raises:
        UsageError: If a file is there, or it cannot be written.
    """
    from lamella.cli._errors import UsageError

    if name == STREAM:
        return cast("BinaryIO", sys.stdout.buffer)
    path = Path(name)
    try:
        if path.is_file():
            if os.path.samestat(path.stat(), os.fstat(source.fileno())):
                raise UsageError(f"{name} is read, and cannot be written as well.")
            if not overwrite:
                msg = f"{name} is there already and is not replaced."
                raise UsageError(msg, hint="Give another name, or --overwrite.")
        mode = "wb" if path.exists() else "xb"
        return cast("BinaryIO", path.open(mode, buffering=0))
    except OSError as error:
        raise UsageError(f"{name} cannot be written: {error.strerror or error}.") from None


class Results:
    """Writes lines off the event loop, those that come meanwhile together.

    Args:
        file: Where.
        thread: Runs blocking work off the loop.
    """

    def __init__(self, file: BinaryIO, thread: ThreadPort) -> None:
        self._file = file
        self._thread = thread
        self._lock = anyio.Lock()
        self._waiting: list[bytes] = []

    async def write(self, line: bytes) -> None:
        """Write a line; on return the system has it. Its row is done, so nothing cuts it off.

        Raises:
            OSError: If it cannot be written.
        """
        self._waiting.append(line)
        with anyio.CancelScope(shield=True):
            async with self._lock:
                if line_is_written := not self._waiting:
                    return
                assert not line_is_written
                lines, self._waiting = self._waiting, []
                await self._thread(self._write, b"".join(lines))

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            self._file.flush()
        except OSError:
            self._take_back(len(data) - len(rest), data)
            raise
