"""How a connection waits for other processes that write."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import attrs
import pytest

from lamella._sqlite_link import Link, transaction, waiting


def links(tmp_path: Path) -> tuple[Link, Link]:
    """Two connections to one file."""
    first, second = (
        sqlite3.connect(tmp_path / "a.db", isolation_level=None, factory=Link) for _ in range(2)
    )
    first.execute("PRAGMA journal_mode = WAL")
    first.execute("CREATE TABLE things (name TEXT)")
    return first, second


@attrs.define
class Clock:
    """The module `time`, as far as a connection uses it; it moves when it is slept by."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def busy_timeout(link: Link) -> int:
    """Milliseconds that SQLite itself waits."""
    return int(link.execute("PRAGMA busy_timeout").fetchone()[0])


def test_it_looks_often_for_a_moment_in_which_nobody_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside somebody who writes all the time a lock is free for moments: SQLite misses most."""
    monkeypatch.setattr("lamella._sqlite_link.time", Clock())
    writer, waiter = links(tmp_path)
    waiter.wait_for_others(0.2)
    seen: list[str] = []
    with transaction(writer):
        waiter.set_trace_callback(seen.append)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            waiter.begin_writing()
    assert 150 < seen.count("BEGIN IMMEDIATE") < 250
    assert busy_timeout(waiter) == 200
    with transaction(waiter):
        waiter.execute("INSERT INTO things VALUES ('one')")
    assert writer.execute("SELECT name FROM things").fetchall() == [("one",)]
    writer.close()
    waiter.close()


def test_without_patience_it_fails_at_once(tmp_path: Path) -> None:
    """And what is read does not wait for who writes."""
    writer, waiter = links(tmp_path)
    waiter.wait_for_others(30)
    with transaction(writer):
        with waiting(waiter, 0), pytest.raises(sqlite3.OperationalError, match="locked"):
            waiter.begin_writing()
        with transaction(waiter, writes=False):
            assert waiter.execute("SELECT name FROM things").fetchall() == []
    assert (waiter.patience, busy_timeout(waiter)) == (30, 30_000)
    writer.close()
    waiter.close()


def test_other_errors_are_not_waited_out(tmp_path: Path) -> None:
    """A transaction inside of another is a mistake, and a closed connection is told of."""
    link, other = links(tmp_path)
    link.wait_for_others(30)
    with transaction(link), pytest.raises(sqlite3.OperationalError, match="within a transaction"):
        link.begin_writing()
    with waiting(link, 0):
        link.close()
    with pytest.raises(sqlite3.ProgrammingError):
        link.begin_writing()
    other.close()
