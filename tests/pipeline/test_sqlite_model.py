"""Values in a SQLite file, beside a plain dictionary that does the same."""

from __future__ import annotations

import asyncio
import math
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lamella._sqlite_blobs import SQLiteBlobs

T = TypeVar("T")

KEYS = st.sampled_from(["", "a", "a%", "ab", "b", "ключ", "a\0b", "\ud800", "\ud83d\udd11"])
TAGS = st.frozensets(st.sampled_from(["", "x", "y", "ключ", "\ud83d\udd11"]), max_size=3)
TTLS = st.sampled_from([None, -math.inf, 0.0, 5.0, 20.0, math.inf])
DATA = st.sampled_from([b"", b"\x00\xff", b"x" * 3000])


@attrs.frozen
class Kept:
    """What the dictionary has of a value."""

    data: bytes
    put_at: float
    expires: float | None
    tags: frozenset[str]


class Values(RuleBasedStateMachine):
    """A store with more room than is used, and what it should hold."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_700_000_000.0
        self.loop = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.model: dict[str, Kept] = {}
        self.store = self.make()

    def make(self) -> SQLiteBlobs:
        async def inline(function: Callable[..., T], /, *args: Any) -> T:
            return function(*args)

        return SQLiteBlobs(self.folder / "a.db", wall=lambda: self.now, thread=inline)

    def run(self, operation: Coroutine[Any, Any, T]) -> T:
        """Its answer, on the machine's event loop."""
        return self.loop.run(operation)

    def alive(self) -> dict[str, Kept]:
        return {
            key: kept
            for key, kept in self.model.items()
            if kept.expires is None or kept.expires > self.now
        }

    @rule(keys=st.lists(KEYS, max_size=3), data=DATA, ttl=TTLS, tags=TAGS)
    def put(self, keys: list[str], data: bytes, ttl: float | None, tags: frozenset[str]) -> None:
        """Each replaces what was there."""
        self.run(self.store.put_many(dict.fromkeys(keys, data), ttl=ttl, tags=tags))
        for key in keys:
            expires = None if ttl in (None, math.inf) else self.now + ttl
            self.model[key] = Kept(data, self.now, expires, tags)

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        """It says whether the key was there."""
        assert self.run(self.store.delete(key)) == (key in self.alive())
        self.model.pop(key, None)

    @rule(prefix=KEYS, tag=st.none() | st.sampled_from(["", "x", "ключ"]))
    def purge(self, prefix: str, tag: str | None) -> None:
        """It forgets what has both, and says how many."""
        found = [
            key
            for key, kept in self.alive().items()
            if key.startswith(prefix) and (tag is None or tag in kept.tags)
        ]
        assert self.run(self.store.purge(prefix=prefix, tag=tag)) == len(found)
        for key in found:
            del self.model[key]

    @rule(seconds=st.sampled_from([1.0, 6.0, 30.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule()
    def reopen(self) -> None:
        """Another store on the same file holds the same."""
        self.run(self.store.aclose())
        self.store = self.make()

    @rule(tag=st.sampled_from(["", "x", "y", "\ud83d\udd11"]))
    def tagged(self, tag: str) -> None:
        """By a tag come the values that have it."""
        found = self.run(self.store.tagged(tag))
        expected = {key: kept.data for key, kept in self.alive().items() if tag in kept.tags}
        assert {key: blob.data for key, blob in found.items()} == expected

    @invariant()
    def holds_the_same(self) -> None:
        """Values, tags, ages and ends are those of the dictionary."""
        alive = self.alive()
        found = self.run(self.store.get_many([*self.model, "absent"]))
        assert {key: (blob.data, blob.tags) for key, blob in found.items()} == {
            key: (kept.data, kept.tags) for key, kept in alive.items()
        }
        page = self.run(self.store.entries())
        seen = {info.key: (info.size, info.age, info.expires_in) for info in page.entries}
        assert seen == {
            key: (
                len(kept.data),
                self.now - kept.put_at,
                None if kept.expires is None else kept.expires - self.now,
            )
            for key, kept in alive.items()
        }

    def teardown(self) -> None:
        """At the end the file is whole, and no tag is without its value."""
        self.run(self.store.aclose())
        self.loop.close()
        if (self.folder / "a.db").exists():
            check = sqlite3.connect(self.folder / "a.db")
            assert check.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            orphans = "SELECT count(*) FROM tags WHERE id NOT IN (SELECT id FROM blobs)"
            assert check.execute(orphans).fetchone() == (0,)
            check.close()
        shutil.rmtree(self.folder)


TestValues = Values.TestCase
TestValues.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)
