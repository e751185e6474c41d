"""What a file of kept values holds, one step at a time. Blocks; one thread at a time.

Instants are whole microseconds of the wall clock, for a file outlives every monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from lamella._sqlite_room import (
    MICROSECONDS,
    ROWS,
    TOLERANCE,
    Room,
    bytes_of,
    bytes_of_words,
    text_of,
    words_of,
)
from lamella._sqlite_schema import FileForm
from lamella._stores import Blob, BlobInfo

FORM: Final = FileForm(
    store="SQLiteBlobs",
    application=0x4C4D4C42,  # "LMLB"
    statements=(
        # The ids only rise, also for a key that is put again: what a purge or a listing has seen is
        # told from what came later. The data come last, so that nobody reads them on the way to the
        # rest. Keys and tags are bytes, for they may be any text, lone surrogates included.
        """CREATE TABLE blobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL UNIQUE,
    put_at INTEGER NOT NULL,
    expires INTEGER,
    used INTEGER NOT NULL,
    tags BLOB,
    data BLOB NOT NULL
)""",
        "CREATE INDEX blobs_by_expiry ON blobs (expires) WHERE expires IS NOT NULL",
        "CREATE INDEX blobs_by_use ON blobs (used)",
        """CREATE TABLE tags (
    tag BLOB NOT NULL,
    id INTEGER NOT NULL,
    PRIMARY KEY (tag, id)
) WITHOUT ROWID""",
    ),
    # A killed process loses nothing; a loss of power may lose the last commits, never more.
    pragmas=("synchronous = NORMAL",),
    more_room="make the store with a lower max_bytes",
    moved="what it keeps is then forgotten",
)
"""The files of this store."""

ENTRY_OVERHEAD: Final = 512
"""Bytes an entry counts beside its own: rows and indexes, rounded up."""
ANSWER_BYTES: Final = 4 * 1024 * 1024
"""After so many bytes of values a step ends, and the rest is another one."""

_MOST_TIMES: Final = 10**17  # microseconds; an end beyond three thousand years is none

_ROW: Final = "SELECT key, put_at, expires, used, tags, data FROM blobs WHERE id = ?"
_FACTS: Final = "SELECT key, put_at, expires, tags, length(data) FROM blobs "


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
    """What a step of a listing has seen.

    Attributes:
        found: What is there, of what was asked for.
        last: Where the next step goes on; None after the last.
    """

    found: Sequence[BlobInfo]
    last: bytes | int | None


@attrs.define(eq=False)
class Entries(Room):
    """The steps. Those that write run inside a transaction."""

    # --- reading -------------------------------------------------------------------------------

    def get(self, keys: Sequence[bytes]) -> tuple[dict[bytes, Blob], int]:
        """The values under the first keys that have not expired; how many keys those were."""
        now, found, size = self._now(), dict[bytes, Blob](), 0
        for place, key in enumerate(keys):
            if size >= ANSWER_BYTES:
                return found, place
            row = self.connection.execute(
                "SELECT id, put_at, expires, used, tags, data FROM blobs WHERE key = ?", (key,)
            ).fetchone()
            if row is not None:
                number, put_at, expires, used, tags, data = row
                if _alive(put_at, expires, now):
                    self._touch(number, used, now)
                    found[key] = _blob(data, put_at, tags, now)
                    size += len(data)
        return found, len(keys)

    def tagged(self, tag: bytes, after: int) -> tuple[dict[str, Blob], int | None]:
        """Values with the tag, from above an id on; and where to go on, None at the end."""
        now, found, size = self._now(), dict[str, Blob](), 0
        numbers = self._numbers(tag, after)
        for number in numbers:
            row = self.connection.execute(_ROW, (number,)).fetchone()
            if row is not None:
                key, put_at, expires, used, tags, data = row
                if _alive(put_at, expires, now):
                    self._touch(number, used, now)
                    found[text_of(key)] = _blob(data, put_at, tags, now)
                    size += len(data)
            if size >= ANSWER_BYTES:
                return found, number
        return found, numbers[-1] if len(numbers) == ROWS else None

    def by_key(self, prefix: bytes, start: bytes) -> Facts:
        """What the keys with the prefix have, from one on, in their order."""
        # No UTF-8 has the byte 0xFF, so this is above all that begin with the prefix.
        rows = self.connection.execute(
            _FACTS + "WHERE key >= ? AND key < ? ORDER BY key LIMIT ?",
            (max(prefix, start), prefix + b"\xff", ROWS),
        ).fetchall()
        return Facts(self._facts(rows), rows[-1][0] + b"\0" if len(rows) == ROWS else None)

    def by_tag(self, tag: bytes, prefix: bytes, after: int) -> Facts:
        """What the keys with the tag and the prefix have, from above an id on."""
        numbers = self._numbers(tag, after)
        rows = [
            row
            for number in numbers
            for row in self.connection.execute(_FACTS + "WHERE id = ?", (number,)).fetchall()
            if row[0].startswith(prefix)
        ]
        return Facts(self._facts(rows), numbers[-1] if len(numbers) == ROWS else None)

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
        expires = None
        if ttl is not None and now + ttl * MICROSECONDS <= _MOST_TIMES:
            expires = now + int(max(ttl, 0) * MICROSECONDS)
        words = bytes_of_words(tags)
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
            (max(prefix, start), prefix + b"\xff", ROWS),
        ).fetchall()
        rest = rows[-1][4] + b"\0" if len(rows) == ROWS else None
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
        return self._purge(found), numbers[-1] if len(numbers) == ROWS else None

    # --- inside --------------------------------------------------------------------------------

    def _numbers(self, tag: bytes, after: int) -> list[int]:
        return [
            number
            for (number,) in self.connection.execute(
                "SELECT id FROM tags WHERE tag = ? AND id > ? ORDER BY id LIMIT ?",
                (tag, after, ROWS),
            ).fetchall()
        ]

    def _facts(
        self, rows: Iterable[tuple[bytes, int, int | None, bytes | None, int]]
    ) -> list[BlobInfo]:
        now = self._now()
        return [
            BlobInfo(
                text_of(key),
                size,
                _age(put_at, now),
                None if expires is None else (expires - now) / MICROSECONDS,
                words_of(tags),
            )
            for key, put_at, expires, tags, size in rows
            if _alive(put_at, expires, now)
        ]

    def _forget_key(self, key: bytes) -> tuple[int, int | None] | None:
        row = self.connection.execute(
            "SELECT id, tags, put_at, expires FROM blobs WHERE key = ?", (key,)
        ).fetchone()
        if row is None:
            return None
        self._forget_rows([row[:2]])
        return row[2], row[3]

    def _purge(self, rows: Sequence[tuple[int, int, int | None, bytes | None, bytes]]) -> int:
        now = self._now()
        self._forget_rows([(row[0], row[3]) for row in rows])
        self._swept = None
        return sum(_alive(row[1], row[2], now) for row in rows)


def _blob(data: object, put_at: int, tags: bytes | None, now: int) -> Blob:
    if not isinstance(data, bytes):  # a damaged row may hold anything
        raise TypeError("the data of a row are no bytes")
    return Blob(data, _age(put_at, now), words_of(tags))


def _alive(put_at: int, expires: int | None, now: int) -> bool:
    """Whether a value has not expired.

    One from the future was put before the clock went back: nobody knows how old it is.
    """
    return expires is None or (now < expires and put_at <= now + TOLERANCE)


def _age(put_at: int, now: int) -> float:
    return max(0, now - put_at) / MICROSECONDS
