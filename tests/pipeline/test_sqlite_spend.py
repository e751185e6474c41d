"""Records of spend in a SQLite file: what is found under its path, and who dies with it open."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
from sqlite_stores import file_bytes, modes_in

from lamella import (
    ConfigurationError,
    Money,
    SpendQuery,
    SpendRecord,
    SpendTotal,
    SQLiteSpend,
    StoreUnavailableError,
    Usage,
    sqlite_spend,
)
from lamella.testing import virtual_ports

pytestmark = pytest.mark.anyio


def records(first: int, count: int = 1) -> list[SpendRecord]:
    """Records of attempts that ended a second after another, of one nano-dollar each."""
    return [
        SpendRecord(id=f"{n}", at=1.79e9 + n, call_id="call", cost=Money(1), user="ada")
        for n in range(first, first + count)
    ]


async def ids(store: SQLiteSpend) -> list[str]:
    """All records' ids."""
    return [record.id async for record in store.read(SpendQuery())]


def held(store: SQLiteSpend, statement: str) -> list[Any]:
    """What the store's own connection says, while its thread leaves it alone."""
    with store._file.lock:
        assert store._file._contents is not None
        return store._file._contents.connection.execute(statement).fetchall()


def asked(path: Path, statement: str) -> list[Any]:
    """What somebody is told who asks the file."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


async def test_people_may_ask_the_file(tmp_path: Path) -> None:
    """Its columns are named as the fields are; views and indexes of their own do no harm."""
    path = tmp_path / "spend.db"
    store = sqlite_spend(path)
    usage = Usage(uncached_input=5, cache_write={"1h": 7}, text_output=3)
    await store.append(
        [SpendRecord(id="a", at=1.79e9, call_id="c", usage=usage, tags={"team": "x"})]
    )
    found = "SELECT user, input_tokens, output_tokens, cache_write, tags ->> 'team', "
    found += "datetime(at, 'unixepoch') FROM spend"
    assert asked(path, found) == [(None, 12, 3, '{"1h": 7}', "x", "2026-09-21 14:13:20")]
    asked(path, "CREATE VIEW mine AS SELECT * FROM spend")
    asked(path, "CREATE INDEX by_model ON spend (model)")
    await store.aclose()
    assert await store.append(records(1)) == 1
    await store.aclose()


async def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    """The file and what is beside it are for its user only."""
    store = SQLiteSpend(tmp_path / "spend.db")
    await store.append(records(1))
    assert set(modes_in(tmp_path)) == {0o600}
    await store.aclose()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("PRAGMA application_id = 1280134210", "database of another program.*Give another path"),
        ("PRAGMA user_version = 2", "has version 2.*no longer counted"),
        ("CREATE TRIGGER t AFTER INSERT ON spend BEGIN DELETE FROM spend; END", "other tables"),
        ("DROP INDEX spend_by_user", "other tables, indexes or triggers"),
    ],
)
async def test_a_file_that_is_not_such_a_file(tmp_path: Path, change: str, says: str) -> None:
    """It is left as it is, and the error names the store and what to do."""
    path = tmp_path / "spend.db"
    store = SQLiteSpend(path)
    await store.append(records(1))
    await store.aclose()
    asked(path, change)
    before = path.read_bytes()
    for work in (lambda: store.append(records(2)), lambda: store.totals(SpendQuery())):
        with pytest.raises(StoreUnavailableError, match=f"(?s)SQLiteSpend: .*{says}"):
            await work()
    with pytest.raises(StoreUnavailableError, match=says):
        store.append_now(records(2))
    assert not (await store.health()).well
    await store.aclose()
    assert path.read_bytes() == before


async def test_a_damaged_row_is_told(tmp_path: Path) -> None:
    """Where SQLite sees no damage and the store does, it says so."""
    store = SQLiteSpend(tmp_path / "spend.db")
    await store.append(records(1))
    held(store, "UPDATE spend SET tags = 'no JSON'")
    with pytest.raises(StoreUnavailableError, match=r"a row is malformed.*move it away"):
        await ids(store)
    await store.aclose()


async def test_a_full_disk(tmp_path: Path) -> None:
    """An append that finds no room writes nothing and says what to do; what fits is written."""
    store = SQLiteSpend(tmp_path / "spend.db")
    await store.append(records(1))
    ((pages,),) = held(store, "PRAGMA page_count")
    held(store, f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreUnavailableError, match=r"disk is full.*have old records forgotten"):
        await store.append(records(2, 1000))
    assert await store.append(records(1002)) == 1
    assert await ids(store) == ["1", "1002"]
    await store.aclose()


async def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """What is there can be added up; an append says why it fails."""
    store = SQLiteSpend(tmp_path / "spend.db")
    await store.append(records(1))
    held(store, "PRAGMA query_only = ON")
    assert (await store.totals(SpendQuery()))[0].attempts == 1
    with pytest.raises(StoreUnavailableError, match=r"readonly.*give this user the right"):
        await store.append(records(2))
    await store.append(records(2))  # opened anew, for somebody may have mended it
    await store.aclose()


@pytest.mark.parametrize("path", ["", ":memory:", "no/such/directory/spend.db", "."])
def test_a_path_that_can_be_no_file(path: str) -> None:
    """It is refused when the store is made."""
    with pytest.raises(ConfigurationError, match="SQLiteSpend"):
        SQLiteSpend(path)


async def test_what_is_forgotten_leaves_the_file(tmp_path: Path) -> None:
    """Neither the file nor its log has it any more, and the file is smaller."""
    path = tmp_path / "spend.db"
    store = SQLiteSpend(path)
    await store.append(records(0, 3000))
    size = len(file_bytes(path))
    assert await store.forget(before=1.79e9 + 2999) == 2999
    content = file_bytes(path)
    assert content.count(b"ada") < 20  # the one that is left, in the table and its indexes
    assert len(content) < size / 2
    assert await ids(store) == ["2999"]
    await store.aclose()


async def test_without_a_loop_while_others_are_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for another process and for another thread, for a while, and then says so."""
    path = tmp_path / "spend.db"
    store = SQLiteSpend(path)
    store._file.form = attrs.evolve(store._file.form, patience=0.0)
    assert store.append_now(records(1)) == 1
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr("lamella._sqlite_spend._NOW_SECONDS", 60.0)
    soon = threading.Timer(0.05, other.execute, ["ROLLBACK"])
    soon.start()
    assert store.append_now(records(2)) == 1
    soon.join()
    monkeypatch.setattr("lamella._sqlite_spend._NOW_SECONDS", 0.01)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="database is locked"):
        store.append_now(records(3))
    other.close()
    with store._file.lock, pytest.raises(StoreUnavailableError, match="another thread"):
        store.append_now(records(3))
    assert store.append_now(records(3)) == 1
    assert await ids(store) == ["1", "2", "3"]
    await store.aclose()


async def test_in_a_virtual_world(tmp_path: Path) -> None:
    """With the world's threads the clock stands still while the disk works."""
    store = SQLiteSpend(tmp_path / "spend.db", thread=virtual_ports().thread)
    begun = anyio.current_time()
    assert await store.append(records(1, 10)) == 10
    assert (await store.totals(SpendQuery()))[0] == SpendTotal(
        attempts=10, costs={"USD": Money(10)}
    )
    await store.aclose()
    assert anyio.current_time() - begun < 1


async def test_a_caller_that_is_cancelled_leaves_whole_appends(tmp_path: Path) -> None:
    """What it asked for is in the file as a whole or not at all, and the store goes on."""
    store = SQLiteSpend(tmp_path / "spend.db")
    await store.append(records(900, 100))
    for number in range(9):
        with anyio.move_on_after(0.001 * number):
            await store.append(records(number * 100, 100))
    (total,) = await store.totals(SpendQuery())
    assert total.attempts % 100 == 0
    assert await store.append(records(0, 1000)) == 1000 - total.attempts
    await store.aclose()


PROCESS = """
import atexit, os, sys, threading
import anyio
from lamella import Money, SpendQuery, SpendRecord, SQLiteSpend

store = SQLiteSpend(sys.argv[1])
name = sys.argv[2]

def record(number):
    return SpendRecord(id=f"{name} {number}", at=1.79e9, call_id="call", cost=Money(1))

async def append():
    for number in range(0, 10**6, 5):
        await store.append([record(number + each) for each in range(5)])
        print(number, flush=True)

async def again():
    await store.append([record(1)])
    assert (await store.totals(SpendQuery()))[0].attempts

if name == "killed":
    anyio.run(append)
else:
    atexit.register(lambda: store.append_now([record(2), record(3)]))
    anyio.run(again)
    child = os.fork()
    if child == 0:
        name = "child"
        anyio.run(again, backend="trio")
    else:
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
        anyio.run(again)
"""


def run(tmp_path: Path, name: str) -> subprocess.Popen[str]:
    """A process that uses the file."""
    script = tmp_path / "program.py"
    script.write_text(PROCESS)
    environment = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", str(script), str(tmp_path / "spend.db"), name],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_processes_that_share_it_fork_end_and_are_killed(tmp_path: Path) -> None:
    """What had returned is there; a process that ends writes its last records without a loop."""
    killed, other = run(tmp_path, "killed"), run(tmp_path, "forks")
    assert killed.stdout is not None
    said = [int(killed.stdout.readline()) for _ in range(10)]
    assert other.wait(60) == 0
    killed.kill()
    said += [int(line) for line in killed.stdout.read().splitlines()[:-1]]
    killed.wait()
    for process in (killed, other):
        assert process.stdout is not None
        process.stdout.close()
    path = tmp_path / "spend.db"
    found = {id_ for (id_,) in asked(path, "SELECT id FROM spend")}
    expected = {f"killed {number + each}" for number in said for each in range(5)}
    assert expected <= found
    assert len([id_ for id_ in found if id_.startswith("killed")]) % 5 == 0
    assert {id_ for id_ in found if not id_.startswith("killed")} == {
        "forks 1", "forks 2", "forks 3", "child 1", "child 2", "child 3",
    }  # fmt: skip
    assert asked(path, "PRAGMA integrity_check") == [("ok",)]
