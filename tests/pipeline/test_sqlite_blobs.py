"""Values in a SQLite file: a store like any other, that never makes a loop wait for the disk."""

from __future__ import annotations

import math
import os
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import pytest
from sqlite_stores import (
    Clock,
    data_of,
    fails,
    file_bytes,
    inline,
    modes_in,
    names_in,
)

from lamella import Blob, ConfigurationError, GuardedBlobs, StoreUnavailableError
from lamella._named_stores import layer_store
from lamella._sqlite_blobs import KIBIBYTE, SQLiteBlobs, sqlite_blobs
from lamella._sqlite_entries import Entries
from lamella.testing import check_blob_store, virtual_ports

pytestmark = pytest.mark.anyio

T = TypeVar("T")


class TestTheStore:
    @pytest.mark.parametrize("thread", [None, virtual_ports().thread])
    async def test_it_keeps_the_rules_of_the_port(self, tmp_path: Path, thread: Any) -> None:
        """Through its own thread or a port for threads, it is a store like any other."""
        clock, numbers = Clock(), count()

        def make() -> SQLiteBlobs:
            return SQLiteBlobs(tmp_path / f"{next(numbers)}.db", wall=clock, thread=thread)

        await check_blob_store(make, clock.advance)

    async def test_the_factory_guards_it(self, tmp_path: Path) -> None:
        """By its name comes a store that is never waited for long, in the same file."""
        path = tmp_path / "cache.sqlite"
        store = layer_store("Cache", "blobs", {"use": "sqlite", "path": str(path)})
        assert isinstance(store, GuardedBlobs)
        assert store.timeout == 1.0
        assert not path.exists()
        await store.put("key", b"value")
        await store.aclose()
        other = sqlite_blobs(path, shared=True)
        assert other.shared
        assert (await other.get_many(["key"]))["key"].data == b"value"
        await other.aclose()

    async def test_what_was_put_is_there_after_closing(self, tmp_path: Path) -> None:
        """A use after `aclose` opens the file anew; so does another store."""
        clock = Clock()
        store = SQLiteBlobs(tmp_path / "a.db", wall=clock)
        await store.aclose()
        await store.put("key", b"value", ttl=100, tags=frozenset({"tag"}))
        await store.aclose()
        clock.advance(10)
        assert await store.get("key") == Blob(b"value", 10.0, frozenset({"tag"}))
        await store.aclose()
        await store.aclose()
        assert names_in(tmp_path) == {"a.db"}

    async def test_nobody_but_the_user_reads_it(self, tmp_path: Path) -> None:
        """The file and those beside it are for their owner only."""
        store = SQLiteBlobs(tmp_path / "a.db")
        await store.put("key", b"value")
        assert names_in(tmp_path) == {"a.db", "a.db-shm", "a.db-wal"}
        assert modes_in(tmp_path) == [0o600] * 3
        await store.aclose()

    async def test_its_health(self, tmp_path: Path) -> None:
        """It is well while its file can be read."""
        path = tmp_path / "a.db"
        store = SQLiteBlobs(path)
        assert (await store.health()).well
        await store.aclose()
        path.write_bytes(b"somebody's notes, which are no database at all")
        health = await store.health()
        assert health.well is False
        assert "file is not a database" in health.detail["error"]


class TestOptions:
    @pytest.mark.parametrize(
        ("path", "says"),
        [
            ("", "the path of a file"),
            (7, "the path of a file"),
            (":memory:", "memory_blobs"),
            ("file:a.db?mode=ro", "memory_blobs"),
            (".", "add a name to it"),
            ("missing/a.db", "make '.*missing'"),
            ("~nobody of that name/a.db", "the path of a file"),
        ],
    )
    def test_a_path_that_cannot_be(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Any, says: str
    ) -> None:
        """What cannot be a file is refused when the store is made, with what to do."""
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ConfigurationError, match=f"SQLiteBlobs.*{says}"):
            sqlite_blobs(path)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() == 0, reason="this user may write anywhere"
    )
    def test_a_read_only_directory(self, tmp_path: Path) -> None:
        """Where nothing can be written there is no store."""
        tmp_path.chmod(0o500)
        with pytest.raises(ConfigurationError, match="read-only for this user"):
            sqlite_blobs(tmp_path / "a.db")

    async def test_the_path_is_as_it_was_when_the_store_was_made(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A program that goes to another directory keeps its file."""
        (tmp_path / "there").mkdir()
        monkeypatch.chdir(tmp_path)
        store = SQLiteBlobs("a.db")
        monkeypatch.chdir(tmp_path / "there")
        await store.put("key", b"")
        await store.aclose()
        assert (tmp_path / "a.db").exists()

    @pytest.mark.parametrize(
        "options",
        [
            {"max_bytes": 1000},
            {"max_bytes": 2.5e9},
            {"max_bytes": 1 << 20, "max_entry_bytes": 1 << 19},
            {"max_entry_bytes": 0},
            {"shared": "no"},
            {"timeout": 0},
        ],
    )
    def test_wrong_options(self, tmp_path: Path, options: Any) -> None:
        """A bound that keeps nothing, and words that are no options, are refused."""
        with pytest.raises(ConfigurationError, match=next(reversed(options))):
            sqlite_blobs(tmp_path / "a.db", **options)

    async def test_values_that_cannot_be_kept(self, tmp_path: Path) -> None:
        """What is too large, or never ends, is a ValueError without the key; nothing changes."""
        store = SQLiteBlobs(tmp_path / "a.db", max_entry_bytes=2000)
        await store.put("ada", b"old")
        for values in ({"ada": b"x" * 2000}, {"ada": b"", "t" * 2000: b""}):
            with pytest.raises(ValueError, match="above max_entry_bytes 2000") as caught:
                await store.put_many(values)
            assert "ada" not in str(caught.value)
        with pytest.raises(ValueError, match="ttl is nan"):
            await store.put("ada", b"new", ttl=math.nan)
        assert await data_of(store, "ada") == b"old"
        await store.aclose()

    @pytest.mark.parametrize("cursor", ["t" + "9" * 30, "t-1", "t", "k", "kx"])
    async def test_cursors_that_no_page_had(self, tmp_path: Path, cursor: str) -> None:
        """A cursor is a whole one of its own listing, or a ValueError."""
        store = SQLiteBlobs(tmp_path / "a.db", thread=inline)
        with pytest.raises(ValueError, match="none of this listing's"):
            await store.entries(tag="tag", cursor=cursor)
        await store.aclose()


class TestTime:
    async def test_a_clock_that_was_set_back(self, tmp_path: Path) -> None:
        """What has a time to live and comes from the future has expired; what has none stays."""
        clock = Clock()
        store = SQLiteBlobs(tmp_path / "a.db", wall=clock, thread=inline)
        await store.put("ends", b"", ttl=1000)
        await store.put("stays", b"")
        clock.advance(-30)
        assert (await store.get_many(["ends", "stays"])).keys() == {"ends", "stays"}
        assert (await store.get("ends") or Blob(b"", -1)).age == 0
        clock.advance(-31)
        assert (await store.get_many(["ends", "stays"])).keys() == {"stays"}
        assert [info.key for info in (await store.entries()).entries] == ["stays"]
        assert not await store.delete("ends")
        await store.aclose()

    @pytest.mark.parametrize("ttl", [math.inf, 1e300, 1e11])
    async def test_an_end_that_is_never(self, tmp_path: Path, ttl: float) -> None:
        """A time to live beyond all clocks is none."""
        clock = Clock()
        store = SQLiteBlobs(tmp_path / "a.db", wall=clock, thread=inline)
        await store.put("key", b"value", ttl=ttl)
        clock.advance(1e9)
        assert await data_of(store, "key") == b"value"
        assert (await store.entries()).entries[0].expires_in is None
        await store.aclose()

    async def test_what_has_expired_leaves_the_file(self, tmp_path: Path) -> None:
        """It goes whenever the store is used, although nobody asks for it."""
        clock, path = Clock(), tmp_path / "a.db"
        store = SQLiteBlobs(path, wall=clock, thread=inline)
        await store.put_many({str(number): b"expires" for number in range(2000)}, ttl=5)
        clock.advance(6)
        await store.get("another")
        await store.aclose()
        with closing(sqlite3.connect(path)) as check:
            assert check.execute("SELECT count(*) FROM blobs").fetchone() == (0,)
        assert b"expires" not in file_bytes(path).replace(b"blobs_by_expiry", b"").replace(
            b"expires INTEGER", b""
        ).replace(b"(expires)", b"").replace(b"WHERE expires", b"")


class TestRoom:
    @pytest.mark.parametrize("size", [10, 700, 2100, 5000, 30_000])
    async def test_the_file_stays_within_its_bounds(self, tmp_path: Path, size: int) -> None:
        """Whatever is put, the file grows to `max_bytes` and a batch more; the newest stay."""
        path, most = tmp_path / "a.db", 512 * KIBIBYTE
        store = SQLiteBlobs(path, max_bytes=most, thread=inline)
        total = 3 * most // (size + 100)
        for start in range(0, total, 20):
            keys = [f"key {number}" for number in range(start, min(start + 20, total))]
            await store.put_many(dict.fromkeys(keys, b"x" * size), tags=frozenset({"tag"}))
            pages = store._file._contents
            assert isinstance(pages, Entries)
            assert pages.used_bytes() <= most + 4096 * 4
            assert (await store.get_many(keys[-3:])).keys() == set(keys[-3:])
        held = len((await store.entries()).entries)
        assert held * (size + 20) > most // 3 or held == 500
        await store.aclose()
        assert path.stat().st_size <= most + 20 * (size + 1000)

    async def test_large_ones_in_place_of_many_small_ones(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Writes wait until there is room, however many have to go; reads go on."""
        monkeypatch.setattr("lamella._sqlite_room._EVICTED", 50)
        most = 1024 * KIBIBYTE
        store = SQLiteBlobs(tmp_path / "a.db", max_bytes=most)
        await store.put_many({f"small {number}": b"x" for number in range(6000)})
        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(store.put, f"large {number}", b"x" * 100_000)
                group.start_soon(store.get, "small 5999")
        pages = store._file._contents
        assert isinstance(pages, Entries)
        assert pages.used_bytes() <= most + most // 4
        await store.aclose()
        assert (tmp_path / "a.db").stat().st_size <= most + most // 4

    async def test_the_least_recently_used_go(self, tmp_path: Path) -> None:
        """What was read lately stays, what expired goes first; a use is noted without writing."""
        clock = Clock()
        store = SQLiteBlobs(tmp_path / "a.db", max_bytes=512 * KIBIBYTE, wall=clock, thread=inline)
        for number in range(20):
            await store.put(f"old {number}", b"x" * 10_000)
        clock.advance(20)
        hot = [f"old {number}" for number in range(0, 20, 2)]
        await store.get_many(hot[:5])
        await store.tagged("none")
        for key in hot[5:]:
            await store.get(key)
        clock.advance(20)
        for number in range(30):
            await store.put(f"new {number}", b"x" * 10_000)
        left = {info.key for info in (await store.entries(prefix="old ")).entries}
        assert set(hot) <= left
        assert len(left) < 20
        await store.aclose()

    async def test_a_clock_that_was_set_back_makes_nothing_last(self, tmp_path: Path) -> None:
        """What was used in the future is not the last to go."""
        clock = Clock()
        store = SQLiteBlobs(tmp_path / "a.db", max_bytes=512 * KIBIBYTE, wall=clock, thread=inline)
        await store.put("future", b"x" * 100_000)
        clock.advance(-1_000_000)
        for number in range(120):
            clock.advance(1)
            await store.put(f"new {number}", b"x" * 10_000)
        assert await store.get("future") is None
        assert await store.get("new 119") is not None
        await store.aclose()

    async def test_a_lower_bound_makes_the_file_smaller(self, tmp_path: Path) -> None:
        """A file that was larger is brought within the bound, and gives its pages back."""
        path = tmp_path / "a.db"
        store = SQLiteBlobs(path, thread=inline)
        await store.put_many({str(number): b"x" * 1000 for number in range(9000)})
        await store.aclose()
        assert path.stat().st_size > 8_000_000
        lower = SQLiteBlobs(path, max_bytes=1024 * KIBIBYTE, thread=inline)
        await lower.get("0")
        await lower.aclose()
        assert path.stat().st_size <= 1024 * KIBIBYTE

    async def test_after_a_purge_the_file_is_small_and_says_nothing(self, tmp_path: Path) -> None:
        """What was forgotten stands nowhere any more: not in the file, nor in its log."""
        path = tmp_path / "a.db"
        store = SQLiteBlobs(path)
        await store.put_many(
            {f"ada {number}": b"secret of ada" * 100 for number in range(3000)},
            tags=frozenset({"tenant ada"}),
        )
        await store.put("bob", b"stays")
        assert b"secret of ada" in file_bytes(path)
        assert await store.purge(tag="tenant ada") == 3000
        left = file_bytes(path)
        assert b"secret of ada" not in left
        assert b"tenant ada" not in left
        assert b"stays" in left
        await store.aclose()
        assert path.stat().st_size < 256 * KIBIBYTE

    @pytest.mark.parametrize("how", ["expired", "deleted", "purged by one that failed"])
    async def test_a_purge_that_finds_nothing_says_nothing_either(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        """The log is emptied whatever is left to forget: what is gone already stands there."""
        clock, path = Clock(), tmp_path / "a.db"
        store = SQLiteBlobs(path, wall=clock, thread=inline)
        await store.put("ada", b"secret of ada", ttl=5, tags=frozenset({"ada"}))
        if how == "expired":
            clock.advance(6)
        elif how == "deleted":
            await store.delete("ada")
        else:
            with monkeypatch.context() as patched, pytest.raises(StoreUnavailableError):
                patched.setattr(Entries, "give_back", fails)
                await store.purge(tag="ada")
        assert b"secret of ada" in file_bytes(path)
        assert await store.purge(tag="ada") == 0
        assert b"secret of ada" not in file_bytes(path)
        await store.aclose()

    async def test_what_is_put_during_a_purge_stays(self, tmp_path: Path) -> None:
        """A purge forgets what is there when it begins, however long it takes."""
        store = SQLiteBlobs(tmp_path / "a.db")
        await store.put_many({f"key {number:04}": b"old" for number in range(3000)})
        done = anyio.Event()
        async with anyio.create_task_group() as group:

            async def put() -> None:
                while not done.is_set():
                    await store.put("key 2999", b"new")
                    await store.put("key 0000", b"new")

            group.start_soon(put)
            await store.get("key 0000")
            await store.purge(prefix="key")
            done.set()
        assert set((await store.get_many(["key 0000", "key 2999"])).values())
        assert all(blob.data == b"new" for blob in (await store.tagged("")).values())
        await store.aclose()
