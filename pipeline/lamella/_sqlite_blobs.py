"""Keyed bytes on disk: the `BlobStore` port in one SQLite file, which survives the process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import attrs

from lamella._errors import ConfigurationError
from lamella._guarded_blobs import GuardedBlobs
from lamella._options import flag, whole
from lamella._sqlite_entries import (
    ANSWER_BYTES,
    ENTRY_OVERHEAD,
    FORM,
    Entries,
    Facts,
    Value,
)
from lamella._sqlite_file import SQLiteFile, Step
from lamella._sqlite_paths import absolute, usable
from lamella._sqlite_queue import BATCH_BYTES, Queue
from lamella._sqlite_room import ROWS, bytes_of, text_of
from lamella._sqlite_store import SQLiteStore
from lamella._stores import Blob, BlobPage

if TYPE_CHECKING:
    from lamella._ports import ThreadPort

KIBIBYTE: Final = 1024
MEBIBYTE: Final = 1024 * KIBIBYTE
GIBIBYTE: Final = 1024 * MEBIBYTE
MAX_ENTRY_BYTES: Final = 8 * MEBIBYTE
"""What one entry may take unless somebody says otherwise."""

_IDS: Final = range(2**63)  # that SQLite has


@attrs.define(eq=False)
class SQLiteBlobs(SQLiteStore):
    """`BlobStore` in a file, for one machine: it survives the process, and processes share it.

    Nothing is opened before the first use. Any number of event loops, threads, and processes may
    use it at once, and a fork ends nothing. What was put and has returned survives the death of the
    process; a loss of power may take the last seconds, and never damages the file.

    No loop ever waits for the disk: a worker thread does what waits, together. Ages and times to
    live are those of the wall clock: a value with a time to live that was put more than a minute in
    the future, because the clock was set back, counts as expired.

    A file that is damaged, or not such a file, raises `StoreUnavailableError` and is left as it is.
    By itself the store waits as long as the disk does: wrap it in `GuardedBlobs`, or use
    `sqlite_blobs`, which does.

    Args:
        path: The file; its directory must be there. Beside it are a `-wal` and a `-shm` while it is
            in use. Not on a network file system: SQLite cannot lock there.
        max_bytes: What the file's pages in use may take, tables and indexes included; 256 KiB or
            more. Then what has expired goes, and the least recently used, about: a use is noted at
            most every ten seconds. Pages that are free are used again, or given back if many. The
            `-wal` takes up to about 16 MiB more.
        max_entry_bytes: What one value may take, with its key, its tags and 512 bytes; more is
            refused with a ValueError. At most a quarter of `max_bytes`. None is 8 MiB, or that
            quarter if it is less.
        shared: Whether others can write to the file whom readers should not have to trust: caches
            then sign what they keep.
        thread: Runs blocking work off the loop. None is a thread of the store's own, which ends
            when nothing has been asked for some seconds. Give the port of a virtual world
            (`virtual_ports().thread`), where the clock would jump while a thread works.
        wall: The clock, in seconds since the epoch.

    Raises:
        ConfigurationError: If an option is wrong, or there can be no such file.
    """

    path: Path = attrs.field(converter=absolute, validator=usable("memory_blobs"))
    max_bytes: int = attrs.field(default=GIBIBYTE, kw_only=True, validator=whole(256 * KIBIBYTE))
    max_entry_bytes: int | None = attrs.field(
        default=None, kw_only=True, validator=attrs.validators.optional(whole(ENTRY_OVERHEAD + 1))
    )
    shared: bool = attrs.field(default=False, kw_only=True, validator=flag)
    thread: ThreadPort | None = attrs.field(default=None, kw_only=True, repr=False)
    wall: Callable[[], float] = attrs.field(
        default=time.time,  # noqa: TID251 - the real port's clock
        kw_only=True,
        repr=False,
    )
    _most: int = attrs.field(init=False, repr=False)
    _step_bytes: int = attrs.field(init=False, repr=False)
    _file: SQLiteFile = attrs.field(init=False, repr=False)
    _queue: Queue = attrs.field(init=False, repr=False)
    _look: ClassVar[Any] = staticmethod(Entries.newest)

    def __attrs_post_init__(self) -> None:
        """Make the way to the file, which is not opened."""
        quarter = self.max_bytes // 4
        if self.max_entry_bytes is not None and self.max_entry_bytes > quarter:
            raise ConfigurationError(
                f"SQLiteBlobs: max_entry_bytes={self.max_entry_bytes!r} is above a quarter of "
                f"max_bytes={self.max_bytes!r}: raise max_bytes, or keep smaller values."
            )
        self._most = self.max_entry_bytes or min(MAX_ENTRY_BYTES, quarter)
        self._step_bytes = min(ANSWER_BYTES, quarter)
        opens = partial(Entries, wall=self.wall, max_bytes=self.max_bytes)
        self._file = SQLiteFile(self.path, FORM, opens)
        self._queue = Queue(self._file, self.thread, batch_bytes=min(BATCH_BYTES, quarter))

    async def get(self, key: str) -> Blob | None:
        """The value under `key`, or None if there is none or it has expired.

        Raises:
            StoreUnavailableError: If the file cannot be used, as everywhere here.
        """
        word = bytes_of(key)
        work = partial(Entries.get, keys=(word,))
        found, _ = await self._queue.ask_once(word, work)
        blob: Blob | None = found.get(word)
        return blob

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, Blob]:
        """The values under these keys, of those that there are and have not expired.

        They are read in steps of up to 500 keys or about 4 MiB.
        """
        found: dict[str, Blob] = {}
        start = 0
        while start < len(keys):
            words = [bytes_of(key) for key in keys[start : start + ROWS]]
            some, seen = await self._queue.ask(Step(partial(Entries.get, keys=words)))
            found.update({text_of(word): blob for word, blob in some.items()})
            start += seen
        return found

    async def put(
        self, key: str, data: bytes, *, ttl: float | None = None, tags: frozenset[str] = frozenset()
    ) -> None:
        """Keep `data`, replacing what was there; see `BlobStore.put`.

        Raises:
            ValueError: If the value is above `max_entry_bytes`, or `ttl` not a number.
        """
        await self.put_many({key: data}, ttl=ttl, tags=tags)

    async def put_many(
        self,
        values: Mapping[str, bytes],
        *,
        ttl: float | None = None,
        tags: frozenset[str] = frozenset(),
    ) -> None:
        """Keep each of the values; see `BlobStore.put_many`.

        Up to 500 of them, of 4 MiB or a quarter of `max_bytes`, are kept together or not at all.

        Raises:
            ValueError: If a value is above `max_entry_bytes`, or `ttl` not a number.
        """
        if ttl is not None and math.isnan(ttl):
            raise ValueError(
                "SQLiteBlobs.put: ttl is nan; give seconds, or None to keep the value."
            )
        words = sorted(tags)
        beside = ENTRY_OVERHEAD + sum(len(bytes_of(word)) for word in words)
        made = [Value(bytes_of(key), bytes(data)) for key, data in values.items()]
        sizes = [beside + len(value.key) + len(value.data) for value in made]
        if sizes and max(sizes) > self._most:
            # The key is left out of the message: it may name a person.
            raise ValueError(
                f"SQLiteBlobs.put: an entry of {max(sizes)} bytes is above max_entry_bytes "
                f"{self._most}; keep less, or make the store with a higher limit."
            )
        for start, end, size in _groups(sizes, self._step_bytes):
            work = partial(Entries.put, values=made[start:end], ttl=ttl, tags=words)
            await self._queue.ask(Step(work, size=size, writes=True))

    async def delete(self, key: str) -> bool:
        """Forget `key`; whether it was there."""
        step = Step(partial(Entries.delete, key=bytes_of(key)), writes=True)
        return bool(await self._queue.ask(step))

    async def tagged(self, tag: str) -> Mapping[str, Blob]:
        """Every value with the tag that has not expired, by key.

        They are read in steps of up to 500 values or about 4 MiB: what is put meanwhile may be
        among them.
        """
        found: dict[str, Blob] = {}
        after: int | None = 0
        while after is not None:
            work = partial(Entries.tagged, tag=bytes_of(tag), after=after)
            some, after = await self._queue.ask(Step(work))
            found.update(some)
        return found

    async def entries(
        self, *, prefix: str = "", tag: str | None = None, cursor: str = ""
    ) -> BlobPage:
        """A page of what is kept, up to 500 entries; see `BlobStore.entries`.

        Raises:
            ValueError: If the cursor is none that a page with such a prefix and tag has.
        """
        start = _place(cursor, by_tag=tag is not None)
        if tag is None:
            work = partial(Entries.by_key, prefix=bytes_of(prefix), start=start)
        else:
            work = partial(Entries.by_tag, tag=bytes_of(tag), prefix=bytes_of(prefix), after=start)
        facts: Facts = await self._queue.ask(Step(work))
        return BlobPage(facts.found, _cursor(facts.last))

    async def purge(self, *, prefix: str = "", tag: str | None = None) -> int:
        """Forget what is there now with the prefix and the tag; see `BlobStore.purge`.

        It goes in steps of up to 500 entries, between which others are answered; cancelled, it has
        forgotten some. What is forgotten is overwritten in the file, the log of changes emptied,
        unless another process is reading it at that moment, and the file made smaller. That is done
        even if there was nothing to forget: it may have expired, or a purge may have failed.
        """
        upto: int = await self._queue.ask(Step(Entries.newest))
        beginning = bytes_of(prefix)
        count = 0
        place: Any = b"" if tag is None else 0
        while place is not None:
            step = Step(_purging(beginning, tag, place, upto), writes=True)
            forgotten, place = await self._queue.ask(step)
            count += forgotten
        while await self._queue.ask(Step(Entries.give_back, alone=True)):
            pass
        return count


def _groups(sizes: Sequence[int], most: int) -> list[tuple[int, int, int]]:
    """What is put together: where each group begins and ends, and its bytes."""
    groups: list[tuple[int, int, int]] = []
    start = total = 0
    for place, size in enumerate(sizes):
        if place > start and (place - start == ROWS or total + size > most):
            groups.append((start, place, total))
            start, total = place, 0
        total += size
    if sizes:
        groups.append((start, len(sizes), total))
    return groups


def _purging(prefix: bytes, tag: str | None, place: Any, upto: int) -> Callable[[Entries], Any]:
    if tag is None:
        return partial(Entries.purge_keys, prefix=prefix, start=place, upto=upto)
    return partial(Entries.purge_tag, tag=bytes_of(tag), prefix=prefix, after=place, upto=upto)


def _cursor(last: bytes | int | None) -> str:
    if last is None:
        return ""
    return f"t{last}" if isinstance(last, int) else f"k{last.hex()}"


def _place(cursor: str, *, by_tag: bool) -> Any:
    """Where a page begins.

    Raises:
        ValueError: If no page of such a listing has that cursor.
    """
    try:
        if not cursor:
            return 0 if by_tag else b""
        if by_tag and cursor[0] == "t" and (place := int(cursor[1:])) in _IDS:
            return place
        if not by_tag and cursor[0] == "k":
            return bytes.fromhex(cursor[1:])
    except ValueError:
        pass
    raise ValueError(
        "SQLiteBlobs.entries: the cursor is none of this listing's; give the last page's, with the "
        "same prefix and tag, or '' to begin."
    )


def sqlite_blobs(
    path: str | Path,
    *,
    max_bytes: int = GIBIBYTE,
    max_entry_bytes: int | None = None,
    shared: bool = False,
    timeout: float | timedelta = 1.0,
    rest: float | timedelta = 2.0,
) -> GuardedBlobs:
    """Values in a file, and no long waits while its disk is slow: the store `sqlite` for `blobs`.

    Args:
        path: As for `SQLiteBlobs`.
        max_bytes: As for `SQLiteBlobs`.
        max_entry_bytes: As for `SQLiteBlobs`.
        shared: As for `SQLiteBlobs`.
        timeout: As for `GuardedBlobs`.
        rest: As for `GuardedBlobs`.

    Raises:
        ConfigurationError: If an option is wrong, or there can be no such file.
    """
    store = SQLiteBlobs(path, max_bytes=max_bytes, max_entry_bytes=max_entry_bytes, shared=shared)
    return GuardedBlobs(store, timeout=timeout, rest=rest)
