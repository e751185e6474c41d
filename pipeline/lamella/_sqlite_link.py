"""A connection to a store's file, and how long a step waits for another process that writes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final

_POLL_SECONDS: Final = 0.001
"""Between two looks at a lock that another process holds.

SQLite's own waiting (`sqlite3_busy_timeout`) soon looks only every tenth of a second. Beside a
process that commits one transaction after another, free for a moment in between, that took 2 s at
worst where this took 0.07 (one such process, and 3.9 against 0.15 for three).
"""


class Link(sqlite3.Connection):
    """A connection that waits for other processes so long at most.

    Attributes:
        patience: Seconds; 0 for not at all.
    """

    patience: float = 0.0

    def wait_for_others(self, seconds: float) -> None:
        """Set how long a step waits for another process that is writing."""
        self.patience = seconds
        self._wait_in_sqlite(seconds)

    def _wait_in_sqlite(self, seconds: float) -> None:
        self.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}").fetchall()

    def begin_writing(self) -> None:
        """Begin a transaction that nobody else can write beside."""
        # In a thread, on the disk's time: no loop's clock stands still while it works.
        until = time.monotonic() + self.patience  # noqa: TID251 - as above
        self._wait_in_sqlite(0)
        try:
            while not self._begins():
                if time.monotonic() >= until:  # noqa: TID251 - as above
                    self.execute("BEGIN IMMEDIATE")  # for the error, or after all
                    return
                time.sleep(_POLL_SECONDS)  # noqa: TID251 - as above
        finally:
            self._wait_in_sqlite(self.patience)

    def _begins(self) -> bool:
        """Whether nobody else is writing; then the transaction has begun."""
        try:
            self.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return False
        return True


@contextmanager
def transaction(link: Link, *, writes: bool = True) -> Generator[None]:
    """All that is written inside, or nothing; all that is read inside is of one moment."""
    if writes:
        link.begin_writing()
    else:
        link.execute("BEGIN DEFERRED")
    try:
        yield
        link.execute("COMMIT")
    except BaseException:
        if link.in_transaction:
            link.execute("ROLLBACK")
        raise


@contextmanager
def waiting(link: Link, seconds: float) -> Generator[None]:
    """What is done inside waits so long for another process that is writing; 0 for not at all."""
    before = link.patience
    link.wait_for_others(seconds)
    try:
        yield
    finally:
        with suppress(sqlite3.ProgrammingError):  # it was closed inside, after an error
            link.wait_for_others(before)
