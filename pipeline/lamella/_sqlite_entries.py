"""What a file of kept values holds, one step at a time. Blocks; one thread at a time.

Instants are whole microseconds of the wall clock, for a file outlives every monotonic clock.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import attrs

from lamella._stores import Blob, BlobInfo

MICROSECONDS: Final = 1_000_000
ENTRY_OVERHEAD: Final = 512
"""Bytes an entry counts beside its own: rows and indexes, rounded up."""
TOLERANCE: Final = 60 * MICROSECONDS
"""How far the clock may have gone back since a value was put, if its time to live is to count."""
ANSWER_BYTES: Final = 4 * 1024 * 1024
"""After so many bytes of values a step ends, and the rest is another one."""

_TOUCHED_AFTER: Final = 10  # seconds of which a use is written down at most once
_TOUCHES: Final = 1000  # uses that wait in memory for the next write, before they make one
_ROWS: Final = 500
_EVICTED: Final = 4096  # entries that one step makes room by at most, so that none takes long
_SWEPT_EVERY: Final = MICROSECONDS
_VACUUMED: Final = 256  # pages a step
_MOST_TIMES: Final = 10**17  # microseconds; an end beyond three thousand years is none

_ROW: Final = "SELECT key, put_at, expires, used, tags, data FROM blobs WHERE id = ?"
_FACTS: Final = "SELECT id, key, put_at, expires, tags, length(data) FROM blobs "
_WORST: Final = "SELECT id, tags, length(data) + length(key) + ifnull(length(tags), 0) FROM blobs "


@attrs.frozen
class Value:
    """What is put.

    Attributes:
        key: The key's bytes.
        data: The value.
    """

    key: bytes
    data: bytes


@attrs.frozen
class Facts:
    """What a step of a listing or a purge has seen.

    Attributes:
        found: What is there, of what was asked for.
        last: Where the next step goes on; None after the last.
    """

    found: Sequence[tuple[int, BlobInfo]]
    last: bytes | int | None


@attrs.define(eq=False)
class Entries:
    """The steps. Those that write run inside a transaction.

    Attributes:
        connection: The open file.
        wall: The clock, in seconds since the epoch.
        max_bytes: What the pages in use may take together.
    """

    connection: sqlite3.Connection
    wall: Callable[[], float]
    max_bytes: int
    _touched: dict[int, int] = attrs.field(factory=dict[int, int], init=False)
    _page: int = attrs.field(init=False)
    _swept: int | None = attrs.field(default=None, init=False)
    _shrinks: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        """Look how large the file's pages are."""
        self._page = int(self.connection.execute("PRAGMA page_size").fetchone()[0])

    # --- reading -------------------------------------------------------------------------------

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Blob]:
        """The values under these keys that have not expired."""
        now, found = self._now(), dict[bytes, Blob]()
        for key in keys:
            row = self.connection.execute(
                "SELECT id, put_at, expires, used, tags, data FROM blobs WHERE key = ?", (key,)
            ).fetchone()
            if row is not None:
                number, put_at, expires, used, tags, data = row
                if _alive(put_at, expires, now):
                    self._touch(number, used, now)
                    found[key] = Blob(data, _age(put_at, now), _words(tags))
        return found

    def tagged(self, tag: bytes, after: int) -> tuple[dict[bytes, Blob], int | None]:
        """Values with the tag, from above an id on; and where to go on, None at the end."""
        now, found, size = self._now(), dict[bytes, Blob](), 0
        numbers = self._numbers(tag, after)
        for number in numbers:
            row = self.connection.execute(_ROW, (number,)).fetchone()
            if row is not None:
                key, put_at, expires, used, tags, data = row
                if _alive(put_at, expires, now):
                    self._touch(number, used, now)
                    found[key] = Blob(data, _age(put_at, now), _words(tags))
                    size += len(data)
            if size >= ANSWER_BYTES:
                return found, number
        return found, numbers[-1] if len(numbers) == _ROWS else None

    def by_key(self, prefix: bytes, start: bytes) -> Facts:
        """What the keys with the prefix have, from one on, in their order."""
        # No UTF-8 has the byte 0xFF, so this is above all that begin with the prefix.
        rows = self.connection.execute(
            _FACTS + "WHERE key >= ? AND key < ? ORDER BY key LIMIT ?",
            (max(prefix, start), prefix + b"\xff", _ROWS),
        ).fetchall()
        return Facts(self._facts(rows), rows[-1][1] + b"\0" if len(rows) == _ROWS else None)

    def by_tag(self, tag: bytes, prefix: bytes, after: int) -> Facts:
        """What the keys with the tag and the prefix have, from above an id on."""
        numbers = self._numbers(tag, after)
        rows = [
            row
            for number in numbers
            for row in self.connection.execute(_FACTS + "WHERE id = ?", (number,)).fetchall()
            if row[1].startswith(prefix)
        ]
        return Facts(self._facts(rows), numbers[-1] if len(numbers) == _ROWS else None)

    def newest(self) -> int:
        """The highest id that was ever given: what is put from now on has a higher one."""
        row = self.connection.execute(
            "SELECT seq FROM sqlite_sequence WHERE name = 'blobs'"
        ).fetchone()
        return 0 if row is None else int(row[0])

    # --- writing -------------------------------------------------------------------------------

    def put(self, values: Iterable[Value], ttl: float | None, tags: Sequence[str]) -> None:
        """Keep the values, replacing what was there."""
        now = self._now()
        expires = None if ttl is None else now + int(min(ttl * MICROSECONDS, 10 * _MOST_TIMES))
        if expires is not None and expires > _MOST_TIMES:
            expires = None
        words = json.dumps(tags) if tags else None
        for value in values:
            self._forget_key(value.key)
            if expires is not None and expires <= now:
                continue
            number = self.connection.execute(
                "INSERT INTO blobs (key, put_at, expires, used, tags, data) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (value.key, now, expires, now // MICROSECONDS, words, value.data),
            ).lastrowid
            for tag in tags:
                self.connection.execute("INSERT INTO tags VALUES (?, ?)", (bytes_of(tag), number))

    def delete(self, key: bytes) -> bool:
        """Forget a key; whether it was there and had not expired."""
        row = self._forget_key(key)
        return row is not None and _alive(row[0], row[1], self._now())

    def purge_keys(self, prefix: bytes, start: bytes, upto: int) -> tuple[int, bytes | None]:
        """Forget some of those with the prefix that have no higher id; how many, and the rest."""
        rows = self.connection.execute(
            "SELECT id, put_at, expires, tags, key FROM blobs "
            "WHERE key >= ? AND key < ? ORDER BY key LIMIT ?",
            (max(prefix, start), prefix + b"\xff", _ROWS),
        ).fetchall()
        rest = rows[-1][4] + b"\0" if len(rows) == _ROWS else None
        return self._purge([row for row in rows if row[0] <= upto]), rest

    def purge_tag(self, tag: bytes, prefix: bytes, after: int, upto: int) -> tuple[int, int | None]:
        """Forget some of those with the tag and the prefix; as `purge_keys`."""
        numbers = self._numbers(tag, after)
        found = [
            row
            for number in numbers
            if number <= upto
            for row in self.connection.execute(
                "SELECT id, put_at, expires, tags, key FROM blobs WHERE id = ?", (number,)
            ).fetchall()
            if row[4].startswith(prefix)
        ]
        return self._purge(found), numbers[-1] if len(numbers) == _ROWS else None

    def make_room(self, incoming: int) -> bool:
        """Forget what has expired or was not used for longest, for so many bytes to come.

        Whether there is more to forget: one step does not take long.
        """
        excess = self.used_bytes() + incoming - self.max_bytes
        if excess <= 0:
            return False
        now, want, most = self._now(), excess, _EVICTED
        # A clock that has gone back must not make what was used before it the last to go.
        self.connection.execute(
            "UPDATE blobs SET used = ? WHERE used > ?",
            (now // MICROSECONDS, (now + TOLERANCE) // MICROSECONDS),
        )
        while excess > 0 and most > 0:
            rows = self._worst(now, want, min(most, _ROWS))
            if not rows:
                return False
            self._forget_rows([(number, tags) for number, tags, _ in rows])
            most -= len(rows)
            before = excess
            excess = self.used_bytes() + incoming - self.max_bytes
            # Pages are freed once nothing is left on them, so more may have to go than is wanted.
            want = excess if excess < before else want * 2
        return excess > 0

    def flush(self) -> list[int]:
        """Write down what was used; those to be told to `flushed` once that is committed."""
        touched = list(self._touched.items())
        if touched:
            self.connection.executemany(
                "UPDATE blobs SET used = ? WHERE id = ?", [(used, id_) for id_, used in touched]
            )
        return [number for number, _ in touched]

    def flushed(self, numbers: Iterable[int]) -> None:
        """Their use has been written down."""
        for number in numbers:
            self._touched.pop(number, None)

    # --- tidying -------------------------------------------------------------------------------

    @property
    def wants_tidying(self) -> bool:
        """Whether it is time to look for what has expired, and for pages to give back."""
        return (
            self._shrinks
            or len(self._touched) >= _TOUCHES
            or self._swept is None
            or abs(self._now() - self._swept) >= _SWEPT_EVERY
        )

    def sweep(self) -> bool:
        """Forget some of what has expired or is too much; whether there may be more."""
        now = self._now()
        rows = self.connection.execute(
            "SELECT id, tags FROM blobs WHERE expires <= ? LIMIT ?", (now, _ROWS)
        ).fetchall()
        self._forget_rows(rows)
        if len(rows) == _ROWS or self.make_room(0):
            return True
        self._swept = now
        self._look(_VACUUMED)
        return False

    def shrink(self) -> bool:
        """Give some free pages back to the file system; whether there are more. No transaction."""
        if not self._shrinks:
            return False
        self.connection.execute(f"PRAGMA incremental_vacuum({_VACUUMED})").fetchall()
        self._shrinks = self._pages()[1] > 0
        if not self._shrinks:
            self._checkpoint()
        return self._shrinks

    def give_back(self) -> bool:
        """After a purge: as `shrink`, and empty the log, in which what was forgotten still stands.

        Whether to go on.
        """
        if not self._shrinks:
            self._look(0)
        if self._shrinks:
            return self.shrink()
        self._checkpoint()
        return False

    def used_bytes(self) -> int:
        """What the pages in use take."""
        pages, free = self._pages()
        return (pages - free) * self._page

    # --- inside --------------------------------------------------------------------------------

    def _now(self) -> int:
        return int(self.wall() * MICROSECONDS)

    def _pages(self) -> tuple[int, int]:
        pages, free = self.connection.execute(
            "SELECT page_count, freelist_count FROM pragma_page_count, pragma_freelist_count"
        ).fetchone()
        return pages, free

    def _look(self, kept: int) -> None:
        """See whether pages are to be given back: so many are kept for what comes, or a quarter."""
        pages, free = self._pages()
        over = pages * self._page > self.max_bytes
        self._shrinks = free > 0 and (over or free > max(kept, pages // 4))

    def _checkpoint(self) -> None:
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _touch(self, number: int, used: int, now: int) -> None:
        second = now // MICROSECONDS
        if abs(second - used) >= _TOUCHED_AFTER:
            self._touched[number] = second

    def _numbers(self, tag: bytes, after: int) -> list[int]:
        return [
            number
            for (number,) in self.connection.execute(
                "SELECT id FROM tags WHERE tag = ? AND id > ? ORDER BY id LIMIT ?",
                (tag, after, _ROWS),
            ).fetchall()
        ]

    def _facts(
        self, rows: Iterable[tuple[int, bytes, int, int | None, str | None, int]]
    ) -> list[tuple[int, BlobInfo]]:
        now = self._now()
        return [
            (
                number,
                BlobInfo(
                    text_of(key),
                    size,
                    _age(put_at, now),
                    None if expires is None else (expires - now) / MICROSECONDS,
                    _words(tags),
                ),
            )
            for number, key, put_at, expires, tags, size in rows
            if _alive(put_at, expires, now)
        ]

    def _worst(self, now: int, want: int, most: int) -> list[tuple[int, str | None, int]]:
        """What goes next, until so many bytes are reached."""
        picked: list[tuple[int, str | None, int]] = []
        rows = self.connection.execute(
            _WORST + "WHERE expires <= ? LIMIT ?", (now, most)
        ).fetchall()
        if not rows:
            rows = self.connection.execute(_WORST + "ORDER BY used, id LIMIT ?", (most,)).fetchall()
        for row in rows:
            picked.append(row)
            want -= row[2]
            if want <= 0:
                break
        return picked

    def _forget_key(self, key: bytes) -> tuple[int, int | None] | None:
        row = self.connection.execute(
            "SELECT id, tags, put_at, expires FROM blobs WHERE key = ?", (key,)
        ).fetchone()
        if row is None:
            return None
        self._forget_rows([row[:2]])
        return row[2], row[3]

    def _purge(self, rows: Sequence[tuple[int, int, int | None, str | None, bytes]]) -> int:
        now = self._now()
        self._forget_rows([(row[0], row[3]) for row in rows])
        self._swept = None
        return sum(_alive(row[1], row[2], now) for row in rows)

    def _forget_rows(self, rows: Sequence[tuple[int, str | None]]) -> None:
        if not rows:
            return
        self.connection.executemany("DELETE FROM blobs WHERE id = ?", [row[:1] for row in rows])
        tags = [(bytes_of(tag), number) for number, words in rows for tag in _words(words)]
        if tags:
            self.connection.executemany("DELETE FROM tags WHERE tag = ? AND id = ?", tags)
        for row in rows:
            self._touched.pop(row[0], None)


def bytes_of(word: str) -> bytes:
    """A key's or a tag's bytes."""
    return word.encode("utf-8", "surrogatepass")


def text_of(word: bytes) -> str:
    """The text that `bytes_of` was given."""
    return word.decode("utf-8", "surrogatepass")


def _alive(put_at: int, expires: int | None, now: int) -> bool:
    """Whether a value has not expired.

    One from the future was put before the clock went back: nobody knows how old it is.
    """
    return expires is None or (now < expires and put_at <= now + TOLERANCE)


def _age(put_at: int, now: int) -> float:
    return max(0, now - put_at) / MICROSECONDS


def _words(tags: str | None) -> frozenset[str]:
    return frozenset(json.loads(tags)) if tags else frozenset()
