"""The file of answers: made beside its place, and whole by the time it stands there."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from lamella._whole_files import drop_drafts
from lamella.cli._map_output import cannot_be_written
from lamella.cli._map_tables import TABLES

if TYPE_CHECKING:
    from lamella._ports import ThreadPort
    from lamella.cli._map import Format

_TOGETHER: Final = 500
"""Lines that one step writes."""

_numbers = count()


def must_be_free(path: Path, source: Path | None, journal: Path | None, *, overwrite: bool) -> None:
    """Refuse to replace what is there, unless it is what an earlier part of this work has written.

    Args:
        path: The file of answers.
        source: What is read, which is never replaced; None for standard input.
        journal: Of the work; if it is there, so may be the file.
        overwrite: Whether whatever is there is replaced.

    Raises:
        UsageError: If it is not to be.
    """
    from lamella.cli._errors import UsageError

    try:
        if path.is_file():
            if source is not None and source.exists() and path.samefile(source):
                raise UsageError(f"{path} is read, and cannot be written as well.")
            if not overwrite and (journal is None or not journal.exists()):
                msg = f"{path} is there already and is not replaced."
                raise UsageError(msg, hint="Give another name, or --overwrite.")
        elif not path.parent.is_dir():
            raise FileNotFoundError(2, os.strerror(2))
    except OSError as error:
        raise cannot_be_written(str(path), error) from None


class AnswerFile:
    """Writes lines off the event loop, and gives the file its name when all are there.

    Args:
        path: Where.
        form: What it is to be.
        thread: Runs blocking work off the loop.

    Raises:
        UsageError: If it cannot be written.
    """

    def __init__(self, path: Path, form: Format, thread: ThreadPort) -> None:
        self._path = path.resolve()
        self._thread = thread
        self._lines: list[bytes] = []
        drop_drafts(self._path)
        number = f"{os.getpid()}.{next(_numbers)}"
        self._draft = self._path.with_name(f".{self._path.name[:40]}.{number}.draft")
        try:
            self._file: BinaryIO = self._draft.open("xb")
        except OSError as error:
            raise cannot_be_written(str(path), error) from None
        try:
            self._table: Any = TABLES[form](self._file)
        except BaseException:
            self.drop()
            raise

    async def add(self, line: bytes) -> None:
        """Add a line.

        Raises:
            OSError: If it cannot be written.
        """
        self._lines.append(line)
        if len(self._lines) >= _TOGETHER:
            lines, self._lines = self._lines, []
            await self._thread(self._table.add, lines)

    async def finish(self) -> None:
        """Put the file in its place.

        Raises:
            OSError: If it cannot be written.
        """
        await self._thread(self._finish)

    def _finish(self) -> None:
        self._table.add(self._lines)
        self._table.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        with suppress(FileNotFoundError):
            self._draft.chmod(self._path.stat().st_mode & 0o777)
        self._draft.replace(self._path)

    def drop(self) -> None:
        """Leave nothing of it, if it has not been finished."""
        with suppress(OSError, ValueError):
            self._file.close()
        with suppress(OSError):
            self._draft.unlink()
