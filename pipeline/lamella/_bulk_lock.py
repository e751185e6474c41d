"""One run at a time has a journal: a lock that the system takes back when a process dies."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from lamella._bulk_errors import JournalError
from lamella._fork_locks import fork_safe_lock

_guard: Final = fork_safe_lock()  # no fork between taking a lock and noting that it is held
_held: set[JournalLock] = set()


class JournalLock:
    """The lock of a journal: a file beside it, which goes with the lock. Blocks for no time.

    A forked child has no part in it, so that it is free once the process that took it has ended.

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
        with _guard:
            self._take()
            _held.add(self)

    def _take(self) -> None:
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
        with _guard:
            _held.discard(self)
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

    def forget(self) -> None:
        """In a forked child: the lock is the parent's, and stays with it."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


def _forget_all() -> None:
    while _held:
        _held.pop().forget()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_forget_all)
