"""A store's file: how one is made, known again, and opened; and what its errors mean.

Whatever is found under the path is somebody's. Only a file that is not there, or is empty, becomes
a new one; anything else that is not ours is left as it is. What a file that is not there any more
has left beside it belongs to nobody, and goes.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs

from lamella._errors import StoreUnavailableError
from lamella._outcomes import Outcome
from lamella._sqlite_link import Link, transaction
from lamella._whole_files import alone_in


@attrs.frozen(kw_only=True)
class FileForm:
    """What the files of one kind of store are like.

    Attributes:
        store: The store's name, for messages.
        application: What tells such a file from other databases: an id in its header.
        version: Of its tables.
        statements: What makes them.
        pragmas: What is set on every connection to one, besides what is on all.
        additions: What else may be in it that somebody has made there, as SQLite calls it
            (`"index"`, `"view"` ...).
        more_room: What to do when the disk is full.
        moved: What is lost when the file is moved away.
        patience: Seconds for which a step waits for another process that is writing. Half a second
            is for what a call waits for; what must not be lost has longer.
    """

    store: str
    application: int
    version: int = 1
    statements: tuple[str, ...]
    pragmas: tuple[str, ...]
    additions: frozenset[str] = frozenset()
    more_room: str
    moved: str
    patience: float = 0.5


_CANNOT_OPEN: Final = (
    "See that its directory is there, that this user may write to it and to the file, and that "
    "file descriptors are left."
)
_HINTS: Final = {
    sqlite3.SQLITE_BUSY: "Another process holds the file for long: look for a backup, an open "
    "shell, or a network file system, on which SQLite cannot lock.",
    sqlite3.SQLITE_CANTOPEN: _CANNOT_OPEN,
    sqlite3.SQLITE_PERM: _CANNOT_OPEN,
    sqlite3.SQLITE_READONLY: "The file, its directory, or the file system cannot be written to: "
    "give this user the right to, or give another path.",
    sqlite3.SQLITE_NOTADB: "It is no SQLite database, or encrypted, and was left as it is: give "
    "another path.",
    sqlite3.SQLITE_CORRUPT: "The file is damaged and was left as it is: move it away, together "
    "with its -wal and -shm, and the next use begins a new one.",
    sqlite3.SQLITE_IOERR: "The file system failed: look at the disk and at the system's log.",
}
_REOPENED: Final = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_READONLY,
}


def unavailable(
    path: Path, error: sqlite3.Error | OSError, form: FileForm
) -> StoreUnavailableError:
    """What is raised when the file cannot be used, with what to do about it."""
    code = code_of(error)
    said = error.strerror if isinstance(error, OSError) else str(error)
    hint = _CANNOT_OPEN if isinstance(error, OSError) else _HINTS.get(code or 0)
    if code == sqlite3.SQLITE_FULL:
        hint = f"The disk is full: make room, or {form.more_room}."
    return StoreUnavailableError(
        f"{form.store}: the file {str(path)!r} cannot be used ({said or type(error).__name__}).",
        hint=hint,
        phase="local",
        outcome=Outcome.NOT_SENT,
    )


def damaged(path: Path, error: Exception, form: FileForm) -> StoreUnavailableError:
    """What is raised when a row of the file cannot be understood."""
    told = sqlite3.DatabaseError("a row is malformed")
    told.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    found = unavailable(path, told, form)
    found.__cause__ = error
    return found


def code_of(error: BaseException) -> int | None:
    """SQLite's primary result code."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def ends_connection(error: BaseException) -> bool:
    """Whether a connection should be opened anew after this, for somebody may mend the file."""
    return code_of(error) in _REOPENED


def open_file(path: Path, form: FileForm) -> Link:
    """Open the file, after making it if there is none.

    Raises:
        StoreUnavailableError: If it is not such a file, or cannot be used.
    """
    try:
        if not path.exists():
            with alone_in(path.parent):
                if not path.exists():
                    _make(path, form)
        # "rw", not "rwc": SQLite itself never makes a file here.
        connection = _connect(f"{path.as_uri()}?mode=rw", form, uri=True)
    except (sqlite3.Error, OSError) as error:
        raise unavailable(path, error, form) from error
    try:
        _know(connection, path, form)
        _set_up(connection, form)
    except sqlite3.Error as error:
        connection.close()
        raise unavailable(path, error, form) from error
    except BaseException:
        connection.close()
        raise
    return connection


def check_file(path: Path, form: FileForm) -> None:
    """See that the file is such a file, or that it could be made; nothing is made or changed.

    Raises:
        StoreUnavailableError: If it is another one's, or cannot be used.
    """
    try:
        if not path.exists():
            _must_be_writable(path.parent)
            return
        _must_be_writable(path)
        _must_be_writable(path.parent)  # for what is beside it while it is in use
        if not path.stat().st_size:
            return  # it becomes one
        connection = _connect(f"{path.as_uri()}?mode=rw", form, uri=True)
        try:
            found = _found(connection)
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as error:
        raise unavailable(path, error, form) from error
    if any(found):
        _must_be_ours(found, path, form)


def _must_be_writable(place: Path) -> None:
    place.stat()  # a place that is not there says so by itself
    if not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, "no right to write there", str(place))


def _connect(place: str, form: FileForm, *, uri: bool) -> Link:
    link = sqlite3.connect(
        place,
        isolation_level=None,
        check_same_thread=False,  # one thread at a time, whichever
        factory=Link,
        uri=uri,
    )
    link.wait_for_others(form.patience)
    return link


def _make(path: Path, form: FileForm) -> None:
    """Make the file beside its place, then give it its name: nobody sees half of one."""
    # The log of a file that was removed without it: SQLite would take it for the new one's.
    for end in ("-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            os.unlink(f"{path}{end}")  # noqa: PTH108 - as below
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)
    os.close(handle)  # its mode is 0600, and those of -wal and -shm follow it
    try:
        connection = _connect(draft, form, uri=False)
        try:
            _begin(connection, form)
        finally:
            connection.close()
        with suppress(FileExistsError):  # another process was faster, and this one uses its file
            _name(draft, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(draft)  # noqa: PTH108 - a plain string from mkstemp


def _name(draft: str, path: Path) -> None:
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if path.exists():
            raise FileExistsError(str(path)) from None
        os.rename(draft, path)  # noqa: PTH104 - as above


def _begin(connection: Link, form: FileForm) -> None:
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before there is anything in it
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    with transaction(connection):
        for statement in form.statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {form.application}")
        connection.execute(f"PRAGMA user_version = {form.version}")


def _know(connection: Link, path: Path, form: FileForm) -> None:
    """See that this is a file of ours.

    Raises:
        StoreUnavailableError: If it is not.
    """
    found = _found(connection)
    if not any(found):
        with alone_in(path.parent):
            if not any(_found(connection)):
                _begin(connection, form)
        found = _found(connection)
    _must_be_ours(found, path, form)


def _must_be_ours(
    contents: tuple[int, int, set[tuple[str, str | None]]], path: Path, form: FileForm
) -> None:
    application, version, found = contents
    if application != form.application:
        raise _foreign(path, form, "is a database of another program", "Give another path.")
    if version != form.version:
        raise _foreign(
            path,
            form,
            f"has version {version}, and this version of Lamella reads {form.version}",
            f"Give another path, or move the file away: {form.moved}.",
        )
    if not _fits(found, form):
        raise _foreign(
            path,
            form,
            "has other tables, indexes or triggers than such a file has",
            "Remove what was added to it, or move the file away.",
        )


def _found(connection: Link) -> tuple[int, int, set[tuple[str, str | None]]]:
    """Whose file it says it is, of which version, and what was made in it."""
    with transaction(connection, writes=False):  # as they were at one moment
        application = _one(connection, "PRAGMA application_id")
        version = _one(connection, "PRAGMA user_version")
        # What SQLite keeps for itself (sequences, statistics) is named sqlite_...
        made = connection.execute(
            "SELECT type, sql FROM sqlite_master WHERE substr(name, 1, 7) <> 'sqlite_'"
        ).fetchall()
    return application, version, set(made)


def _fits(found: set[tuple[str, str | None]], form: FileForm) -> bool:
    """Whether all is there that such a file has, and no more than it may have."""
    ours = set(form.statements)
    others = {kind for kind, sql in found if sql not in ours}
    return ours <= {sql for _, sql in found} and others <= form.additions


def _foreign(path: Path, form: FileForm, what: str, hint: str) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"{form.store}: the file {str(path)!r} {what}; it was left as it is.",
        hint=hint,
        phase="local",
        outcome=Outcome.NOT_SENT,
    )


def _set_up(connection: Link, form: FileForm) -> None:
    for pragma in (
        "journal_mode = WAL",
        # What is forgotten is overwritten, not only unlinked: it may be about people.
        "secure_delete = ON",
        "journal_size_limit = 16777216",
        "cache_size = -8192",
        "temp_store = MEMORY",
        "cell_size_check = ON",
        "trusted_schema = OFF",
        *form.pragmas,
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _one(connection: Link, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])
