"""Values in a SQLite file, asked for by many at the same time, some of whom are cancelled."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import pytest
from sqlite_stores import (
    Gate,
    data_of,
    in_a_thread,
    inline,
    names_in,
)

from lamella import Blob, StoreUnavailableError
from lamella._sqlite_blobs import SQLiteBlobs, sqlite_blobs
from lamella._sqlite_entries import Entries
from lamella._sqlite_file import Step
from lamella._sqlite_queue import _Waiting

pytestmark = pytest.mark.anyio

T = TypeVar("T")


class TestAtTheSameTime:
    async def test_thousands_that_ask_for_one_key(self, tmp_path: Path) -> None:
        """Identical gets that wait together read the file together, and none fails."""
        store = sqlite_blobs(tmp_path / "a.db", timeout=20)
        await store.put("key", b"value")
        found: list[bytes] = []

        async def get() -> None:
            blob = await store.get("key")
            assert blob is not None
            found.append(blob.data)

        async with anyio.create_task_group() as group:
            for _ in range(2_000):
                group.start_soon(get)
        assert found == [b"value"] * 2_000
        await store.aclose()

    async def test_what_waits_together_is_one_step(self, tmp_path: Path) -> None:
        """Ten gets of one key are one, and writes that wait share a transaction."""
        gate = Gate()
        store = SQLiteBlobs(tmp_path / "a.db", thread=gate)
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(store.get, "key")
                group.start_soon(store.put, "key", b"value")
            await anyio.wait_all_tasks_blocked()
            assert (len(store._queue._reads), len(store._queue._writes)) == (1, 10)
            gate.opened.set()
        assert gate.asked == 1
        await store.aclose()

    async def test_a_write_has_its_turn_however_many_reads_come(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Reads go first, and never for ever."""
        gate = Gate()
        store = SQLiteBlobs(tmp_path / "a.db", thread=gate)
        run, done = store._file.run, list[str]()

        def reading(steps: Sequence[Step]) -> None:
            done.append("write" if steps[0].writes else "read")
            if len(done) < 100:
                store._queue._enter(_Waiting(Step(Entries.newest)))
            run(steps)

        monkeypatch.setattr(store._file, "run", reading)
        async with anyio.create_task_group() as group:
            group.start_soon(store.get, "key")
            group.start_soon(store.put, "key", b"value")
            await anyio.wait_all_tasks_blocked()
            gate.opened.set()
        assert done.count("write") == 1
        assert 0 < done.index("write") < 10
        await store.aclose()

    async def test_a_large_answer_is_several_steps(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Others are answered in between; all of it comes."""
        monkeypatch.setattr("lamella._sqlite_entries.ANSWER_BYTES", 10_000)
        store = SQLiteBlobs(tmp_path / "a.db", thread=inline)
        values = {str(number): b"x" * 3000 for number in range(20)}
        await store.put_many(values, tags=frozenset({"tag"}))
        run, batches = store._file.run, list[Sequence[Step]]()

        def counted(steps: Sequence[Step]) -> None:
            batches.append(steps)
            run(steps)

        monkeypatch.setattr(store._file, "run", counted)
        found = await store.get_many([*values, "absent", "0"])
        assert {key: blob.data for key, blob in found.items()} == values
        assert len(batches) == 6
        await store.aclose()

    async def test_loops_and_threads(self, tmp_path: Path) -> None:
        """Loops in several threads use one store, and each sees what the others have put."""
        store = SQLiteBlobs(tmp_path / "a.db")

        async def use(name: str) -> None:
            for number in range(50):
                await store.put(f"{name} {number}", name.encode())
                assert await data_of(store, f"{name} {number}") == name.encode()

        async with anyio.create_task_group() as group:
            for name, backend in (("a", "asyncio"), ("b", "trio"), ("c", "asyncio")):
                group.start_soon(in_a_thread, use, name, backend)
            await use("d")
        assert len((await store.entries()).entries) == 200
        await store.aclose()

    async def test_a_loop_that_ends_leaves_nobody_waiting(self, tmp_path: Path) -> None:
        """If the loop that began the work goes away first, those who wait on others go on."""
        entered = threading.Event()
        shut = [True]

        async def port(function: Callable[..., T], /, *args: Any) -> T:
            if shut[0]:
                entered.set()
                await anyio.sleep_forever()
            return function(*args)

        store = SQLiteBlobs(tmp_path / "a.db", thread=port)
        leaving, here = threading.Event(), anyio.Event()

        async def ends(key: str) -> None:
            async with anyio.create_task_group() as loop:
                loop.start_soon(store.put, key, b"")
                await anyio.to_thread.run_sync(leaving.wait)
                loop.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(in_a_thread, ends, "other", "asyncio")
            await anyio.to_thread.run_sync(entered.wait)

            async def put() -> None:
                await store.put("key", b"value")
                here.set()

            group.start_soon(put)
            await anyio.wait_all_tasks_blocked()
            shut[0] = False
            leaving.set()
            await here.wait()
        assert await data_of(store, "key") == b"value"
        await store.aclose()

    async def test_too_much_that_waits_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While the disk does not keep up, memory does not fill up."""
        monkeypatch.setattr("lamella._sqlite_queue.WAITING_BYTES", 100_000)
        gate = Gate()
        store = SQLiteBlobs(tmp_path / "a.db", thread=gate)
        async with anyio.create_task_group() as group:
            group.start_soon(store.put, "a", b"x" * 90_000)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(StoreUnavailableError, match="bytes wait to be written"):
                await store.put("b", b"x" * 90_000)
            gate.opened.set()
        await store.put("b", b"x" * 90_000)
        await store.aclose()

    async def test_the_thread_ends_when_the_store_is_closed(self, tmp_path: Path) -> None:
        """Nothing is left running."""
        before = set(threading.enumerate())
        store = SQLiteBlobs(tmp_path / "a.db")
        await store.put("key", b"")
        (mine,) = [
            thread
            for thread in set(threading.enumerate()) - before
            if thread.name == "lamella sqlite"
        ]
        await store.aclose()
        await anyio.to_thread.run_sync(mine.join, 30)
        assert not mine.is_alive()
        assert await data_of(store, "key") == b""
        await store.aclose()

    async def test_a_store_that_is_closed_while_it_is_opened(self, tmp_path: Path) -> None:
        """Closing waits for what waits, the first use as well; nothing stays open."""
        gate = Gate()
        store = SQLiteBlobs(tmp_path / "a.db", thread=gate)
        async with anyio.create_task_group() as group:
            group.start_soon(store.put, "key", b"value")
            await anyio.wait_all_tasks_blocked()
            group.start_soon(store.aclose)
            await anyio.wait_all_tasks_blocked()
            gate.opened.set()
        assert not store._file.opened
        assert names_in(tmp_path) == {"a.db"}


class TestCancelled:
    async def test_before_the_thread_has_it(self, tmp_path: Path) -> None:
        """What nobody waits for any more is not done, and no memory is kept for it."""
        gate = Gate()
        store = SQLiteBlobs(tmp_path / "a.db", thread=gate)
        async with anyio.create_task_group() as group:
            group.start_soon(store.put, "kept", b"value")
            await anyio.wait_all_tasks_blocked()
            with anyio.CancelScope() as scope:
                scope.cancel()
                await store.put("left", b"x" * 10_000)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await store.get("left")
            assert store._queue._bytes < 10_000
            gate.opened.set()
        assert await data_of(store, "left") is None
        assert await data_of(store, "kept") == b"value"
        await store.aclose()

    async def test_one_of_several_that_ask_the_same(self, tmp_path: Path) -> None:
        """The others have their answer."""
        gate = Gate()
        store = SQLiteBlobs(tmp_path / "a.db", thread=gate)
        answers: list[Blob | None] = []
        async with anyio.create_task_group() as group:

            async def get() -> None:
                answers.append(await store.get("key"))

            with anyio.CancelScope() as scope:
                group.start_soon(get)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
                await store.get("key")
            gate.opened.set()
        assert answers == [None]
        await store.aclose()

    async def test_in_the_middle(self, tmp_path: Path) -> None:
        """Wherever puts are cut off, what returned is there and the store works."""
        store = SQLiteBlobs(tmp_path / "a.db")
        returned: set[str] = set()
        enough: list[anyio.Event] = []

        async def put(name: str) -> None:
            for number in count():
                await store.put(f"{name} {number}", name.encode() * 500)
                returned.add(f"{name} {number}")
                if number == 9:
                    enough[-1].set()

        for round_number in range(5):
            async with anyio.create_task_group() as group:
                for name in "abc":
                    group.start_soon(put, f"{round_number}{name}")
                enough.append(anyio.Event())
                await enough[-1].wait()
                group.cancel_scope.cancel()
        assert (await store.get_many(sorted(returned))).keys() == returned
        await store.aclose()
        check = sqlite3.connect(tmp_path / "a.db")
        assert check.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        check.close()
