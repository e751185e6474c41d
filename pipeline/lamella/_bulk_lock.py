"""One run at a time has a journal: a lock that the system takes back when a process dies."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from lamella._errors import JournalError


class JournalLock:
    """The lock of a journal: a file beside it, which goes with the lock. Blocks for no time.

    Args:
        journal: The journal's path.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._path = f"{journal}.lock"
        self._handle: int | None = None

    def take(self) -> None:
        """Take it.

        Raises:
            JournalError: If another run has it, in this process or in another.
            OSError: If there can be no such file.
        """
        while True:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                self._lock(handle)
                if self._is_there(handle):
                    self._handle = handle
                    return
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)  # who had it before has removed the file meanwhile

    def release(self) -> None:
        """Give it back, and remove the file."""
        handle, self._handle = self._handle, None
        if handle is None:
            return
        with suppress(OSError):  # some systems keep a file while it is open
            os.unlink(self._path)  # noqa: PTH108 - a plain string
        os.close(handle)
        if sys.platform == "win32":
            with suppress(OSError):
                os.unlink(self._path)  # noqa: PTH108 - as above

    def _lock(self, handle: int) -> None:
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            msg = f"The journal {str(self._journal)!r} is in use by another run."
            hint = "Wait for its end, or give this one a journal of its own."
            raise JournalError(msg, hint=hint) from None

    def _is_there(self, handle: int) -> bool:
        try:
            found = os.stat(self._path)  # noqa: PTH116 - a plain string
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(handle))
