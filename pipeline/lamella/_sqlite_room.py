"""How a file of kept values keeps to its size: what goes, and which pages are given back.

Blocks; one thread at a time. What writes runs inside a transaction, unless it says otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import attrs

from lamella._sqlite_file import Contents

MICROSECONDS: Final = 1_000_000
TOLERANCE: Final = 60 * MICROSECONDS
"""How far the clock may have gone back since a value was put, if its time to live is to count."""
ROWS: Final = 500
"""Rows that one step looks at, so that none takes long."""

_TOUCHED_AFTER: Final = 10  # seconds of which a use is written down at most once
_TOUCHES: Final = 1000  # uses that wait in memory for the next write, before they make one
_EVICTED: Final = 4096  # entries that one step makes room by at most
_SWEPT_EVERY: Final = MICROSECONDS
_PUT_OFF: Final = 10 * MICROSECONDS
_VACUUMED: Final = 256  # pages a step
_WORST: Final = "SELECT id, tags, length(data) + length(key) + ifnull(length(tags), 0) FROM blobs "


@attrs.define(eq=False)
class Room(Contents):
    """The room of one open file.

    Attributes:
        wall: The clock, in seconds since the epoch.
        max_bytes: What the pages in use may take together.
    """

    wall: Callable[[], float]
    max_bytes: int
    _touched: dict[int, int] = attrs.field(factory=dict[int, int], init=False)
    _page: int = attrs.field(init=False)
    _swept: int | None = attrs.field(default=None, init=False)
    _over: bool = attrs.field(default=False, init=False)
    _shrinks: bool = attrs.field(default=False, init=False)
    _failed: int | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        """Look how large the file's pages are."""
        self._page = int(self.connection.execute("PRAGMA page_size").fetchone()[0])

    def used_bytes(self) -> int:
        """What the pages in use take."""
        pages, free = self._pages()
        return (pages - free) * self._page

    def make_room(self, incoming: int) -> bool:
        """Forget what has expired or was not used for longest, for so many bytes to come.

        Whether there is more to forget: one step does not take long.
        """
        self._over = self._forget_for(incoming)
        return self._over

    def begin(self, incoming: int) -> list[int]:
        """Write down what was used, and make room for so many bytes, if any."""
        touched = list(self._touched.items())
        if touched:
            self.connection.executemany(
                "UPDATE blobs SET used = ? WHERE id = ?", [(used, id_) for id_, used in touched]
            )
        if incoming:
            self.make_room(incoming)
        return [number for number, _ in touched]

    def committed(self, begun: Iterable[int]) -> None:
        """Their use has been written down."""
        for number in begun:
            self._touched.pop(number, None)

    @property
    def wants_tidying(self) -> bool:
        """Whether it is time to look for what has expired, and for pages to give back."""
        now = self._now()
        if self._failed is not None and abs(now - self._failed) < _PUT_OFF:
            return False
        return (
            self._over
            or self._shrinks
            or len(self._touched) >= _TOUCHES
            or self._swept is None
            or abs(now - self._swept) >= _SWEPT_EVERY
        )

    @property
    def over(self) -> bool:
        """Whether to tidy up before more is put: the last step could not make all its room."""
        return self._over and self.wants_tidying

    def put_off(self) -> None:
        """Tidying has failed: not every step that comes should try it again."""
        self._failed = self._now()

    def sweep(self) -> bool:
        """Forget some of what has expired or is too much; whether there may be more."""
        now = self._now()
        rows = self.connection.execute(
            "SELECT id, tags FROM blobs WHERE expires <= ? LIMIT ?", (now, ROWS)
        ).fetchall()
        self._forget_rows(rows)
        if len(rows) == ROWS or self.make_room(0):
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

    def _forget_for(self, incoming: int) -> bool:
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
            rows = self._worst(now, want, min(most, ROWS))
            if not rows:
                return False
            self._forget_rows([(number, tags) for number, tags, _ in rows])
            most -= len(rows)
            before = excess
            excess = self.used_bytes() + incoming - self.max_bytes
            # Pages are freed once nothing is left on them, so more may have to go than is wanted.
            want = excess if excess < before else want * 2
        return excess > 0

    def _worst(self, now: int, want: int, most: int) -> list[tuple[int, bytes | None, int]]:
        """What goes next, until so many bytes are reached."""
        picked: list[tuple[int, bytes | None, int]] = []
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

    def _forget_rows(self, rows: Sequence[tuple[int, bytes | None]]) -> None:
        if not rows:
            return
        self.connection.executemany("DELETE FROM blobs WHERE id = ?", [row[:1] for row in rows])
        tags = [(bytes_of(tag), number) for number, words in rows for tag in words_of(words)]
        if tags:
            self.connection.executemany("DELETE FROM tags WHERE tag = ? AND id = ?", tags)
        for row in rows:
            self._touched.pop(row[0], None)


def bytes_of(word: str) -> bytes:
    """A key's or a tag's bytes."""
    return word.encode("utf-8", "surrogatepass")


def text_of(word: bytes) -> str:
    """The text that `bytes_of` was given."""
    return str(word, "utf-8", "surrogatepass")


def bytes_of_words(tags: Sequence[str]) -> bytes | None:
    """An entry's tags, in one."""
    # Not as JSON's escapes: they would make one letter of two lone surrogates that follow another.
    return bytes_of(json.dumps(tags, ensure_ascii=False)) if tags else None


def words_of(tags: bytes | None) -> frozenset[str]:
    """The tags that `bytes_of_words` was given."""
    return frozenset(json.loads(text_of(tags))) if tags else frozenset()
