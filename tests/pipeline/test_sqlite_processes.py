"""Processes that share a SQLite store, fork with it, and die with it open."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from lamella._sqlite_blobs import SQLiteBlobs

pytestmark = pytest.mark.anyio


def script(tmp_path: Path, source: str) -> list[str]:
    """The command that runs a program with the path of a store."""
    file = tmp_path / "program.py"
    file.write_text(source)
    return [sys.executable, "-W", "ignore::DeprecationWarning", str(file), str(tmp_path / "a.db")]


def start(command: list[str], *, stdin: int | None = None) -> subprocess.Popen[str]:
    """A child process, to whom one may talk."""
    return subprocess.Popen(
        command, stdin=stdin, stdout=subprocess.PIPE, text=True, env=environment()
    )


def environment() -> dict[str, str]:
    """A measurement of coverage has locks of its own, which a fork may leave shut."""
    return {name: value for name, value in os.environ.items() if "COVERAGE" not in name}


def assert_whole(path: Path) -> None:
    """SQLite finds nothing wrong with the file, and every tag belongs to a value."""
    check = sqlite3.connect(path)
    assert check.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    orphans = "SELECT count(*) FROM tags WHERE id NOT IN (SELECT id FROM blobs)"
    assert check.execute(orphans).fetchone() == (0,)
    check.close()


PUTTING = """
import sys
import anyio
from lamella._sqlite_blobs import SQLiteBlobs

async def put(store, name):
    for number in range(10**6):
        key = f"{name} {number}"
        await store.put(key, key.encode() * 200, ttl=3600, tags=frozenset({"tag", name}))
        print(key, flush=True)

async def main():
    store = SQLiteBlobs(sys.argv[1], max_bytes=2**30)
    async with anyio.create_task_group() as group:
        for name in "abcdef":
            group.start_soon(put, store, name)

anyio.run(main)
"""


@pytest.mark.parametrize("lines", [1, 60, 800])
async def test_a_process_that_is_killed_loses_nothing_that_returned(
    tmp_path: Path, lines: int
) -> None:
    """However it dies among its puts: the file is whole, and each put that returned is there."""
    said: list[str] = []
    for _ in range(2):
        child = start(script(tmp_path, PUTTING))
        assert child.stdout is not None
        said += [child.stdout.readline().strip() for _ in range(lines)]
        child.kill()
        said += child.stdout.read().splitlines()[:-1]  # the last line may be half a line
        child.wait()
        child.stdout.close()
    store = SQLiteBlobs(tmp_path / "a.db")
    found = await store.get_many(said)
    assert {key: blob.data for key, blob in found.items()} == {
        key: key.encode() * 200 for key in said
    }
    assert set(said) <= set(await store.tagged("tag"))
    await store.aclose()
    assert_whole(tmp_path / "a.db")


SHARING = """
import sys
import anyio
import attrs
from lamella._sqlite_blobs import SQLiteBlobs

async def main():
    store = SQLiteBlobs(sys.argv[1])
    # However long the other has it: a busy machine may let it stand still in the middle.
    store._file.form = attrs.evolve(store._file.form, patience=60.0)
    sys.stdin.readline()
    for number in range(100):
        await store.put(f"{sys.argv[2]} {number}", b"x" * 500, tags=frozenset({"tag"}))
        await store.put("shared", sys.argv[2].encode() * 1000)
    await store.aclose()

anyio.run(main, backend=sys.argv[3])
"""


async def test_processes_share_a_file(tmp_path: Path) -> None:
    """They begin it together and put into it together; nothing is lost and nothing mixed."""
    command = script(tmp_path, SHARING)
    children = [
        start([*command, name, backend], stdin=subprocess.PIPE)
        for name, backend in (("a", "asyncio"), ("b", "trio"), ("c", "asyncio"))
    ]
    for child in children:
        child.communicate("go\n")
    assert [child.returncode for child in children] == [0, 0, 0]
    store = SQLiteBlobs(tmp_path / "a.db")
    assert len(await store.tagged("tag")) == 300
    shared = await store.get("shared")
    assert shared is not None
    assert shared.data in {name.encode() * 1000 for name in "abc"}
    await store.aclose()
    assert_whole(tmp_path / "a.db")


FORKING = """
import faulthandler, os, signal, sys, threading
import anyio
from lamella._sqlite_blobs import SQLiteBlobs

faulthandler.dump_traceback_later(60, exit=True)
store = SQLiteBlobs(sys.argv[1])
stop = threading.Event()
all_imported = threading.Barrier(3)  # Python itself cannot fork while another thread imports

async def busy(name):
    number = 0
    await store.put(f"{name} first", b"")
    all_imported.wait()
    while not stop.is_set():
        await store.put(f"{name} {number % 50}", b"x" * 3000)
        assert (await store.get(f"{name} {number % 50}")) is not None
        number += 1

async def in_child(number):
    with anyio.fail_after(30):
        await store.put(f"child {number}", b"child")
        assert (await store.get(f"child {number}")).data == b"child"
        await store.aclose()

threads = [threading.Thread(target=anyio.run, args=(busy, name)) for name in "ab"]
for thread in threads:
    thread.start()
all_imported.wait()
children = 0
for number in range(20):
    child = os.fork()
    if child == 0:
        signal.alarm(40)
        anyio.run(in_child, number)
        os._exit(0)
    children += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop.set()
for thread in threads:
    thread.join()

async def look():
    found = [number for number in range(20) if await store.get(f"child {number}")]
    print(children, "children", len(found), "found")
    await store.aclose()

anyio.run(look)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_process_that_forks_in_the_middle(tmp_path: Path) -> None:
    """Both go on, each with a connection of its own, and see what the other puts."""
    done = subprocess.run(
        script(tmp_path, FORKING),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=environment(),
    )
    assert (done.returncode, done.stdout) == (0, "20 children 20 found\n"), done.stderr
    assert_whole(tmp_path / "a.db")
