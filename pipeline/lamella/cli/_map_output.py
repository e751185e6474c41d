"""The lines that `lamella map` writes: each is whole there, or not at all."""

from __future__ import annotations

import select
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import anyio

from lamella.cli._run import STDIN

if TYPE_CHECKING:
    from lamella._ports import ThreadPort
    from lamella.cli._errors import UsageError


@contextmanager
def opened_stream(name: str) -> Generator[BinaryIO, None, None]:
    """Open standard output, a device or a pipe, without a buffer that could be lost.

    Raises:
        UsageError: If it cannot be written.
    """
    if name == STDIN:  # the word `-`, as for what is read
        buffered = sys.stdout.buffer
        yield cast("BinaryIO", getattr(buffered, "raw", buffered))
        return
    try:
        file = Path(name).open("wb", buffering=0)  # noqa: SIM115 - closed below
    except OSError as error:
        raise cannot_be_written(name, error) from None
    with file:
        yield cast("BinaryIO", file)


def cannot_be_written(name: str, error: OSError) -> UsageError:
    """What is told of a file that cannot be written."""
    from lamella.cli._errors import UsageError

    return UsageError(f"{name} cannot be written: {error.strerror or error}.")


class AnswerStream:
    """Lines that go to who reads them: none can be taken back, and nothing is put in its place.

    Args:
        file: Where.
        thread: Runs blocking work off the loop.
    """

    def __init__(self, file: BinaryIO, thread: ThreadPort) -> None:
        self._results = Results(file, thread)

    async def add(self, line: bytes) -> None:
        """Write a line; on return the system has it.

        Raises:
            OSError: If it cannot be written.
        """
        await self._results.write(line)

    async def finish(self) -> None:
        """All is written."""


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
        self._broken: OSError | None = None

    async def write(self, line: bytes) -> None:
        """Write a line; on return the system has it. Its row is done, so nothing cuts it off.

        Raises:
            OSError: If it cannot be written.
        """
        self._waiting.append(line)
        with anyio.CancelScope(shield=True):
            async with self._lock:
                lines, self._waiting = self._waiting, []
                if self._broken is not None:
                    broken = self._broken
                    raise OSError(broken.errno, broken.strerror, broken.filename)
                if lines:  # otherwise who wrote before has taken this one along
                    await self._thread(self._write, b"".join(lines))

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                written = cast("int | None", self._file.write(rest))
                if written is None:  # whoever shares the terminal has it not wait
                    select.select([], [self._file], [])
                rest = rest[written or 0 :]
            self._file.flush()
        except OSError as error:
            error.filename = error.filename or self._file.name
            self._broken = error
            self._take_back(data[: len(data) - len(rest)])
            raise

    def _take_back(self, written: bytes) -> None:
        """Leave no half line where a disk is full. What went into a pipe stays."""
        half = len(written) - (written.rfind(b"\n") + 1)
        with suppress(OSError, ValueError):
            if half and self._file.seekable():
                self._file.truncate(self._file.tell() - half)
