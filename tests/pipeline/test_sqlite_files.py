"""What is found under the path of a SQLite store: one's own file, somebody else's, or a wreck."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import anyio
import attrs
import pytest

from lamella import StoreUnavailableError
from lamella._outcomes import Outcome
from lamella._sqlite_blobs import SQLiteBlobs
from lamella._sqlite_entries import FORM
from lamella._sqlite_schema import open_file

pytestmark = pytest.mark.anyio

T = TypeVar("T")


async def filled(path: Path, count: int = 400) -> None:
    """Make a file with some values."""
    store = SQLiteBlobs(path)
    await store.put_many({f"key {number}": b"x" * 2000 for number in range(count)})
    await store.aclose()


def executed(store: SQLiteBlobs, statement: str) -> list[Any]:
    """What the store's own connection says, while its thread leaves it alone."""
    with store._file.lock:
        assert store._file._contents is not None
        return store._file._contents.connection.execute(statement).fetchall()


def assert_whole(path: Path) -> None:
    """SQLite finds nothing wrong with the file."""
    check = sqlite3.connect(path)
    assert check.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    check.close()


def names_in(folder: Path) -> list[str]:
    """What is in a folder."""
    return [path.name for path in folder.iterdir()]


def remove(path: Path) -> None:
    """Remove a file and those beside it."""
    for file in list(path.parent.glob(path.name + "*")):
        file.unlink()


async def inline(function: Callable[..., T], /, *args: Any) -> T:
    """A port for threads that has none: what is tidied up is so before the step returns."""
    return function(*args)


def text(path: Path) -> None:
    """A text."""
    path.write_text("Dear diary, this is no database. " * 100)


def short(path: Path) -> None:
    """A file that is shorter than any database."""
    path.write_bytes(b"hello")


def database(path: Path) -> None:
    """Another program's database."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (text)")
    connection.commit()
    connection.close()


async def test_a_file_that_is_empty_becomes_one(tmp_path: Path) -> None:
    """An empty file is nobody's data."""
    path = tmp_path / "a.db"
    path.touch()
    await SQLiteBlobs(path).check()
    assert path.stat().st_size == 0
    await filled(path)
    assert names_in(tmp_path) == ["a.db"]


async def test_looking_makes_nothing(tmp_path: Path) -> None:
    """A file may be there or not, if it could be made; one whose folder went away could not."""
    folder = tmp_path / "folder"
    folder.mkdir()
    store = SQLiteBlobs(folder / "a.db", thread=inline)
    await store.check()
    assert names_in(folder) == []
    await store.put("key", b"value")
    await store.check()  # while it is in use
    await store.aclose()
    before = (folder / "a.db").read_bytes()
    await store.check()
    assert (names_in(folder), (folder / "a.db").read_bytes()) == (["a.db"], before)
    shutil.rmtree(folder)
    with pytest.raises(StoreUnavailableError, match=r"No such file.*its directory is there"):
        await store.check()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (text, "file is not a database.*give another path"),
        (short, "file is not a database.*give another path"),
        (database, "database of another program.*Give another path"),
    ],
)
async def test_somebody_elses_file(tmp_path: Path, make: Callable[[Path], None], says: str) -> None:
    """It is left as it is, whatever is asked, and the error says what to do."""
    path = tmp_path / "a.db"
    make(path)
    before = path.read_bytes()
    store = SQLiteBlobs(path)
    with pytest.raises(StoreUnavailableError, match=says):
        await store.check()
    assert names_in(tmp_path) == ["a.db"]
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match=says) as caught:
            await store.put("key", b"value")
        assert str(path) in str(caught.value)
        assert caught.value.outcome is Outcome.NOT_SENT
        with pytest.raises(StoreUnavailableError, match=says):
            await store.get("key")
    await store.aclose()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("PRAGMA user_version = 99", "has version 99, and this version of Lamella reads 1"),
        ("CREATE TRIGGER t AFTER INSERT ON blobs BEGIN DELETE FROM tags; END", "other tables"),
        ("DROP INDEX blobs_by_use", "other tables, indexes or triggers"),
    ],
)
async def test_a_file_that_was_changed(tmp_path: Path, change: str, says: str) -> None:
    """Another version's file, or one that was tampered with, is not used."""
    path = tmp_path / "a.db"
    await filled(path)
    connection = sqlite3.connect(path)
    connection.execute(change)
    connection.close()
    with pytest.raises(StoreUnavailableError, match=says):
        await SQLiteBlobs(path).get("key")


async def test_statistics_are_no_change(tmp_path: Path) -> None:
    """Somebody may look into the file, and analyse it."""
    path = tmp_path / "a.db"
    await filled(path)
    connection = sqlite3.connect(path)
    connection.execute("ANALYZE")
    connection.close()
    store = SQLiteBlobs(path)
    assert await store.get("key 1") is not None
    await store.aclose()


@pytest.mark.parametrize("share", [0.0005, 0.3, 0.9])
async def test_a_truncated_file(tmp_path: Path, share: float) -> None:
    """A file of which a part is missing is told as damaged, and left as it is."""
    path = tmp_path / "a.db"
    await filled(path)
    size = path.stat().st_size
    os.truncate(path, int(size * share))
    before = path.read_bytes()
    store = SQLiteBlobs(path)
    with pytest.raises(StoreUnavailableError, match=r"move it away|another path"):
        await store.put("key", b"")
    await store.aclose()
    assert path.read_bytes() == before


async def test_a_damaged_file(tmp_path: Path) -> None:
    """Where pages are overwritten, an operation fails or answers rightly; none invents a value."""
    path = tmp_path / "a.db"
    await filled(path)
    content = bytearray(path.read_bytes())
    for start in range(8192, len(content), 3 * 4096):
        content[start : start + 4096] = b"\xa5" * 4096
    path.write_bytes(content)
    store = SQLiteBlobs(path)
    errors: list[StoreUnavailableError] = []
    for number in range(400):
        try:
            blob = await store.get(f"key {number}")
        except StoreUnavailableError as error:
            errors.append(error)
        else:
            assert blob is None or set(blob.data) <= {0xA5, ord("x")}
    assert errors
    assert all("damaged" in str(error.hint) for error in errors)
    await store.aclose()


@pytest.mark.parametrize(
    "change",
    ["tags = 'text'", "tags = x'5b22'", "put_at = 'text'", "data = 'text'", "key = x'80'"],
)
async def test_a_row_that_no_put_has_written(
    tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Where SQLite sees no damage and the store does, it says the same; nothing else fails."""
    path, now = tmp_path / "a.db", [1_700_000_000.0]
    store = SQLiteBlobs(path, wall=lambda: now[0])
    await store.put_many({"bad": b"value", "good": b"value"}, ttl=100, tags=frozenset({"tag"}))
    executed(store, f"UPDATE blobs SET {change} WHERE key = CAST('bad' AS BLOB)")
    with pytest.raises(StoreUnavailableError, match=r"a row is malformed.*move it away"):
        await store.tagged("tag")
    assert (await store.get_many(["good"])).keys() == {"good"}
    now[0] += 101  # it cannot be tidied up either, and nobody who asks meanwhile is told so
    for _ in range(5):
        assert await store.get("good") is None
    await store.aclose()
    assert len(caplog.records) <= 1


async def test_once_the_wreck_is_moved_away_a_new_file_begins(tmp_path: Path) -> None:
    """The store needs no restart to find that somebody has mended it."""
    path = tmp_path / "a.db"
    text(path)
    store = SQLiteBlobs(path)
    with pytest.raises(StoreUnavailableError):
        await store.get("key")
    path.rename(tmp_path / "wreck")
    await store.put("key", b"value")
    assert (await store.get_many(["key"]))["key"].data == b"value"
    await store.aclose()


async def test_a_file_that_is_removed_or_replaced_under_it(tmp_path: Path) -> None:
    """The store goes on with what is there now."""
    path, other = tmp_path / "a.db", tmp_path / "b.db"
    await filled(other, 3)
    store = SQLiteBlobs(path)
    await store.put("key", b"value")
    remove(path)
    assert await store.get("key") is None
    await store.put("key", b"again")
    remove(path)
    shutil.move(other, path)
    assert len((await store.entries()).entries) == 3
    await store.aclose()
    assert_whole(path)


async def test_a_file_that_is_removed_without_its_log(tmp_path: Path) -> None:
    """The log of the old file is not taken for the new one's, by any who use it."""
    path = tmp_path / "a.db"
    stores = [SQLiteBlobs(path) for _ in range(3)]
    for store in stores:
        await store.put_many({f"key {number}": b"x" * 2000 for number in range(50)})
    path.unlink()
    for number, store in enumerate(stores):
        assert len((await store.entries()).entries) == number
        await store.put(f"new {number}", b"value")
    for store in stores:
        assert len((await store.entries()).entries) == 3
        await store.aclose()
    assert_whole(path)


def test_an_empty_file_that_several_begin_together(tmp_path: Path) -> None:
    """Of stores that find it at one moment one makes it, and all use it."""
    for number in range(5):
        path = tmp_path / str(number)
        path.touch()
        together = threading.Barrier(6)

        def begin(path: Path, together: threading.Barrier, number: int) -> None:
            together.wait()
            connection = open_file(path, FORM)
            connection.execute("INSERT INTO tags VALUES (?, 1)", (bytes([number]),))
            connection.close()

        with ThreadPoolExecutor(6) as pool:
            for done in [pool.submit(begin, path, together, number) for number in range(6)]:
                done.result(30)
        assert_whole(path)


async def test_a_full_disk(tmp_path: Path) -> None:
    """A put that finds no room fails with what to do; what fits is put, and all else stays."""
    store = SQLiteBlobs(tmp_path / "a.db")
    await store.put("old", b"value")
    ((pages,),) = executed(store, "PRAGMA page_count")
    executed(store, f"PRAGMA max_page_count = {pages + 3}")
    with pytest.raises(StoreUnavailableError, match=r"disk is full.*make room"):
        await store.put("large", b"x" * 100_000)
    await store.put("small", b"x")
    assert (await store.get_many(["old", "large", "small"])).keys() == {"old", "small"}
    await store.aclose()


async def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """What is there can be read; a put says why it fails."""
    path = tmp_path / "a.db"
    await filled(path, 3)
    store = SQLiteBlobs(path, thread=inline)  # so that nothing is tidied up, and opened anew, here
    assert await store.get("key 1") is not None
    executed(store, "PRAGMA query_only = ON")
    with pytest.raises(StoreUnavailableError, match=r"readonly.*give this user the right"):
        await store.put("key", b"")
    await store.put("key", b"")  # opened anew, for somebody may have mended it
    await store.aclose()


async def test_another_process_that_writes_for_long(tmp_path: Path) -> None:
    """Who cannot write says so soon; reading goes on."""
    path = tmp_path / "a.db"
    store = SQLiteBlobs(path)
    store._file.form = attrs.evolve(store._file.form, patience=0.01)
    await store.put("key", b"value")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="database is locked"):
        await store.put("key", b"other")
    assert (await store.get_many(["key"]))["key"].data == b"value"
    other.execute("ROLLBACK")
    await store.put("key", b"other")
    other.close()
    await store.aclose()


async def test_nobody_waits_for_what_can_be_tidied_up_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While another process writes, reads neither wait for it nor fill the log."""
    path, now = tmp_path / "a.db", [1_700_000_000.0]
    store = SQLiteBlobs(path, wall=lambda: now[0], thread=inline)
    store._file.form = attrs.evolve(store._file.form, patience=30.0)  # nobody has so much time
    await store.put("key", b"value", ttl=10)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    now[0] += 20
    with anyio.fail_after(10):
        for _ in range(5):
            assert await store.get("key") is None
    assert caplog.records == []
    other.execute("ROLLBACK")
    now[0] += 11
    await store.get("key")
    await store.aclose()
    assert other.execute("SELECT count(*) FROM blobs").fetchone() == (0,)
    other.close()


async def test_the_directory_goes_away(tmp_path: Path) -> None:
    """Without a directory there is no file; an error says so, and once it is back all is well."""
    place = tmp_path / "there"
    place.mkdir()
    store = SQLiteBlobs(place / "a.db")
    place.rmdir()
    with pytest.raises(StoreUnavailableError, match="See that its directory is there"):
        await store.put("key", b"")
    place.mkdir()
    await store.put("key", b"")
    await store.aclose()
