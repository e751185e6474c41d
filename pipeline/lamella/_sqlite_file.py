"""One connection to a store's file: opened when it is needed, used by a thread at a time.

No connection may live through a fork: what SQLite knows of its locks would be wrong in the child,
and its clean-up there would harm the parent's file. So a fork waits for the step under way, closes
the file, and both processes open it anew.
"""

from __future__ import annotations

import os
import sqlite3
import threading  # noqa: TID251 - a lock that a fork waits for; held for milliseconds
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

import attrs

from lamella._errors import StoreUnavailableError
from lamella._sqlite_link import Link, transaction, waiting
from lamella._sqlite_schema import (
    FileForm,
    check_file,
    code_of,
    damaged,
    ends_connection,
    open_file,
    unavailable,
)

_VACUUMED: Final = 1024  # pages that one step gives back
_SPARE: Final = 16  # pages that may be free in any file


@attrs.define(eq=False)
class Contents:
    """What an open file holds, and what is to be done around the steps. By itself nothing is.

    Attributes:
        connection: The open file.
    """

    connection: Link

    @property
    def wants_tidying(self) -> bool:
        """Whether it is time to tidy up."""
        return False

    @property
    def over(self) -> bool:
        """Whether it is to be tidied up before more is written."""
        return False

    def before(self, steps: Sequence[Step]) -> None:
        """Do what has to be done outside the transaction of steps that write, before it."""

    def begin(self, incoming: int) -> Any:
        """Do what goes before steps that write so many bytes, in their transaction.

        What it gives is told to `committed` once the transaction is.
        """

    def end(self) -> None:
        """Write what the steps of a transaction that writes have left to be written, in it."""

    def committed(self, begun: Any) -> None:
        """What `begin` did is in the file."""

    def sweep(self) -> bool:
        """Tidy up some of it, in a transaction; whether there may be more."""
        return False

    def shrink(self) -> bool:
        """Give some pages back, outside of one; whether there may be more."""
        return False

    def put_off(self) -> None:
        """Tidying up has failed: not every step that comes should try it again."""

    def give_back(self) -> bool:
        """Give some free pages back to the file system, if many; then empty the log of changes.

        Whether to go on. What is free otherwise is used by what comes next.
        """
        link = self.connection
        pages, free = link.execute(
            "SELECT page_count, freelist_count FROM pragma_page_count, pragma_freelist_count"
        ).fetchone()
        if free > max(_SPARE, pages // 4):
            link.execute(f"PRAGMA incremental_vacuum({_VACUUMED})").fetchall()
            return True
        link.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return False


@attrs.define(eq=False)
class Step:
    """One thing to do with the file, and what came of it.

    Attributes:
        work: Does it, with the file's `Contents`.
        size: Bytes that it adds, about.
        writes: Whether it changes the file: it is done in a transaction, with others.
        alone: Whether it is about the connection: it is done by itself, outside any transaction.
        closes: Whether it closes the file, which is not opened for that; `alone`, too.
        lasts: Whether what it writes is to survive a loss of power, where not all steps' does.
        result: What `work` gave.
        error: What it raised.
    """

    work: Callable[[Any], Any]
    size: int = 0
    writes: bool = False
    alone: bool = False
    closes: bool = False
    lasts: bool = False
    result: Any = None
    error: Exception | None = None


class SQLiteFile:
    """The file under a path.

    Args:
        path: Where it is.
        form: What such files are like.
        opens: Makes the contents of a connection to it.

    Attributes:
        path: Where it is.
        form: What such files are like.
        in_child: What is done in a forked child.
    """

    def __init__(self, path: Path, form: FileForm, opens: Callable[[Link], Contents]) -> None:
        self.path = path
        self.form = form
        self.in_child: Callable[[], None] = _nothing
        # Nothing is logged under it, nor another lock taken: a fork holds others when it waits.
        self.lock: Final = threading.Lock()
        self._opens = opens
        self._contents: Contents | None = None
        self._identity: tuple[int, int] | None = None
        with _guard:
            _files.add(self)

    @property
    def opened(self) -> bool:
        """Whether it is open."""
        return self._contents is not None

    @property
    def over(self) -> bool:
        """Whether it is to be tidied up before more is written."""
        contents = self._contents
        return contents is not None and contents.over

    def check(self) -> None:
        """See that it is such a file, or that it could be made; nothing is made or changed.

        Raises:
            StoreUnavailableError: If it cannot be used.
        """
        with self.lock:
            check_file(self.path, self.form)

    def run(self, steps: Sequence[Step]) -> None:
        """Do the steps, all of one kind, in their order; each holds what came of it."""
        with self.lock:
            if steps[0].closes:
                self.close_held()
                return
            try:
                contents = self._open()
            except StoreUnavailableError as error:
                for step in steps:
                    step.error = error
                return
            if steps[0].alone:
                self._alone(contents, steps)
            elif steps[0].writes:
                self._write(contents, steps)
            else:
                self._read(contents, steps)

    def run_now(self, step: Step, seconds: float) -> None:
        """Do a step that writes in this thread, after waiting so long for others at most, twice.

        Raises:
            StoreUnavailableError: If the file cannot be opened, or others were at it for so long.
        """
        if not self.lock.acquire(timeout=seconds):
            busy = sqlite3.OperationalError("another thread is using it")
            busy.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise unavailable(self.path, busy, self.form)
        try:
            contents = self._open()
            with waiting(contents.connection, seconds):
                self._write(contents, [step])
        finally:
            self.lock.release()

    def tidy(self) -> bool:
        """Forget what has expired and give pages back, for some milliseconds; whether to go on.

        If another process is writing it is put off, unless those wait for it who write.

        Raises:
            StoreUnavailableError: If that failed. It is put off, too, and for the next step to find
                out whether the file can still be used.
        """
        with self.lock:
            contents = self._contents
            if contents is None or not contents.wants_tidying:
                return False
            try:
                with nullcontext() if contents.over else waiting(contents.connection, 0):
                    with transaction(contents.connection):
                        written = contents.begin(0)
                        more = contents.sweep()
                    contents.committed(written)
                    return more or contents.shrink()
            except (sqlite3.Error, TypeError, ValueError) as error:
                contents.put_off()
                if code_of(error) == sqlite3.SQLITE_BUSY:
                    return False
                raise self._told(error) from error

    def close_held(self) -> None:
        """Close the file, by who holds the lock; the next step opens it again."""
        contents, self._contents = self._contents, None
        if contents is None:
            return
        # Uses that are not written down make eviction less exact, and nothing else.
        link = contents.connection
        with (
            suppress(sqlite3.Error, TypeError, ValueError),
            waiting(link, 0),
            transaction(link),
        ):
            contents.begin(0)
        link.close()

    # --- inside, under the lock ------------------------------------------------------------------

    def _open(self) -> Contents:
        """The open file. It is opened anew if it has been removed or replaced."""
        contents = self._contents
        if contents is not None:
            if self._identity == _identity(self.path):
                return contents
            self._drop()
        connection = open_file(self.path, self.form)
        self._identity = _identity(self.path)
        try:
            self._contents = self._opens(connection)
        except sqlite3.Error as error:
            connection.close()
            raise unavailable(self.path, error, self.form) from error
        return self._contents

    def _read(self, contents: Contents, steps: Sequence[Step]) -> None:
        """All of them see the same state, for they share a transaction."""
        link = contents.connection
        try:
            with transaction(link, writes=False) if len(steps) > 1 else nullcontext():
                for step in steps:
                    step.result = step.work(contents)
        except Exception as error:  # noqa: BLE001 - those who wait are told
            self._each(self._read, steps, error)

    def _write(self, contents: Contents, steps: Sequence[Step]) -> None:
        """All of them or, after a failure, each by itself: one must not fail for another."""
        begun = False
        try:
            contents.before(steps)
            with transaction(contents.connection):
                begun = True
                written = contents.begin(sum(step.size for step in steps))
                for step in steps:
                    step.result = step.work(contents)
                contents.end()
        except Exception as error:  # noqa: BLE001 - those who wait are told
            if begun:
                self._each(self._write, steps, error)
            else:  # another process writes: each would wait as long for it
                self._tell(steps, error)
            return
        contents.committed(written)

    def _alone(self, contents: Contents, steps: Sequence[Step]) -> None:
        for step in steps:
            try:
                step.result = step.work(contents)
            except Exception as error:  # noqa: BLE001 - who waits is told
                self._tell([step], error)

    def _each(
        self,
        again: Callable[[Contents, Sequence[Step]], None],
        steps: Sequence[Step],
        error: Exception,
    ) -> None:
        """Several have failed together: do each by itself, to know which does."""
        if len(steps) < 2 or ends_connection(error):
            self._tell(steps, error)
            return
        for step in steps:
            contents = self._contents
            if contents is None:
                self._tell([step], error)
            else:
                again(contents, [step])

    def _tell(self, steps: Sequence[Step], error: Exception) -> None:
        told = self._told(error)
        for step in steps:
            step.result, step.error = None, told

    def _told(self, error: Exception) -> Exception:
        if ends_connection(error):
            self._drop()
        if isinstance(error, sqlite3.Error):
            return unavailable(self.path, error, self.form)
        if isinstance(error, TypeError | ValueError):
            # What a step is given has been checked: it is a row that no put has written so.
            return damaged(self.path, error, self.form)
        return error

    def _drop(self) -> None:
        contents, self._contents = self._contents, None
        if contents is not None:
            with suppress(sqlite3.Error):  # it could not be used any more
                contents.connection.close()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - three times as fast as Path.stat
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _nothing() -> None:
    """By itself a file has nothing to do in a forked child."""


# --- forks -----------------------------------------------------------------------------------

_files: WeakSet[SQLiteFile] = WeakSet()
_guard: Final = threading.Lock()  # of what is known; see SQLiteFile.lock
_held: list[SQLiteFile] = []


def _close_all() -> None:
    _guard.acquire()
    for file in list(_files):
        file.lock.acquire()
        _held.append(file)
        with suppress(sqlite3.Error):
            file.close_held()


def _go_on() -> None:
    while _held:
        _held.pop().lock.release()
    _guard.release()


def _begin_anew() -> None:
    for file in _held:
        file.in_child()
    _go_on()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(before=_close_all, after_in_parent=_go_on, after_in_child=_begin_anew)
