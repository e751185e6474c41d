"""Keyed bytes in memory, bounded in bytes and, if wanted, in number."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from lamella._errors import ConfigurationError
from lamella._fork_locks import fork_safe_lock
from lamella._memory_eviction import Entry, EvictionName, Lasting, Room, eviction_of
from lamella._memory_expiry import Expiries
from lamella._stores import Blob, BlobInfo, BlobPage

T = TypeVar("T")

ENTRY_OVERHEAD = 832
"""Bytes an entry counts beside its own: what the tables around it take at most, as measured."""

TAG_OVERHEAD = 288
"""Bytes that each of its tags counts beside its text, likewise."""

_SWEEP = 128  # expired entries that one operation clears away, so that none of them takes long
_CHUNK = 500  # keys that are looked at before others get the lock, or the loop
_PAGE = 1_000  # entries that a page of a listing looks at, and at least ...
_PAGES = 64  # ... this share of all: each page copies a list of them


class MemoryBlobs:
    """The memory default of `BlobStore`: thread-safe, for any number of event loops.

    What goes when there is no more room depends on the operations alone, not on chance, on the
    process or on how fast they come; expired entries go before any other.

    Args:
        monotonic: The clock, in seconds.
        max_bytes: What all entries may take together. An entry counts its data, its key and
            `ENTRY_OVERHEAD`, and for each tag its text and `TAG_OVERHEAD`. Beyond that, some go.
        max_entry_bytes: What one entry may take; more is refused with a ValueError.
        max_entries: How many there may be; None for as many as the bytes allow.
        eviction: Who goes: `"lru"`, `"lfu"`, `"fifo"` or `"tinylfu"`. What has just been put
            stays at least until the next put.

    Attributes:
        instant: That nobody ever waits for it, so that it needs no guard.

    Raises:
        ConfigurationError: If there is no such order of eviction, or a bound is no whole number.
        ValueError: If a bound is too small to keep anything.
    """

    instant: Final = True

    def __init__(
        self,
        *,
        monotonic: Callable[[], float],
        max_bytes: int,
        max_entry_bytes: int,
        max_entries: int | None = None,
        eviction: EvictionName = "lru",
    ) -> None:
        for name, given in (("max_bytes", max_bytes), ("max_entry_bytes", max_entry_bytes)):
            if type(given) is not int:
                raise ConfigurationError(f"MemoryBlobs({name}={given!r}): give a whole number.")
        if not ENTRY_OVERHEAD < max_entry_bytes <= max_bytes:
            raise ValueError(
                f"MemoryBlobs: max_entry_bytes {max_entry_bytes!r} must be above {ENTRY_OVERHEAD} "
                f"and no more than max_bytes {max_bytes!r}."
            )
        if max_entries is not None and (type(max_entries) is not int or max_entries < 1):
            raise ConfigurationError(
                f"MemoryBlobs(max_entries={max_entries!r}): give a whole number, 1 or more, or "
                "None for as many as max_bytes allows."
            )
        room = Room(max_bytes, max_entries, ENTRY_OVERHEAD)
        self._eviction = eviction_of("MemoryBlobs", eviction, room)
        self._monotonic = monotonic
        self._max_bytes = max_bytes
        self._max_entry_bytes = max_entry_bytes
        self._max_entries = room.most
        self._lock = fork_safe_lock()
        self._entries: dict[str, Entry] = {}  # in the order of their numbers, as all tables here
        self._tagged: dict[str, dict[str, Entry]] = {}
        self._expiries = Expiries()
        self._number = 0
        self._size = 0
        self._evicted = 0

    @property
    def size(self) -> int:
        """The bytes that the entries take, as `max_bytes` counts them."""
        return self._size

    @property
    def count(self) -> int:
        """How many entries there are, those included that have expired and are not cleared yet."""
        return len(self._entries)

    @property
    def evicted(self) -> int:
        """How many entries had to make room so far, though they had not expired."""
        return self._evicted

    async def get(self, key: str) -> Blob | None:
        """The value under `key`, or None if there is none or it has expired."""
        with self._lock:
            now = self._monotonic()
            entry = self._look(key, now)
        return None if entry is None else _blob(entry, now)

    def get_now(self, key: str) -> tuple[Any, float] | None:
        """As `get`, without being awaited: the value as it was put, and its age in seconds."""
        with self._lock:
            now = self._monotonic()
            entry = self._look(key, now)
        if entry is None:
            return None
        return entry.data, (now - entry.put_at if now > entry.put_at else 0.0)

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, Blob]:
        """The values under these keys, of those that there are and have not expired.

        If they are many it lets the loop run meanwhile, as `put_many` and `tagged` do.
        """
        found: dict[str, Blob] = {}
        for start in range(0, len(keys), _CHUNK):
            chunk = await _chunk(keys, start)
            with self._lock:
                now = self._monotonic()
                entries = [self._look(key, now) for key in chunk]
            found.update((entry.key, _blob(entry, now)) for entry in entries if entry is not None)
        return found

    async def put(
        self, key: str, data: bytes, *, ttl: float | None = None, tags: frozenset[str] = frozenset()
    ) -> None:
        """Keep `data`, replacing what was there; see `BlobStore.put`.

        Raises:
            ValueError: If the entry is above `max_entry_bytes`, or `ttl` not a number.
        """
        data = bytes(data)
        self._put_all((self._checked(key, data, len(data), ttl, frozenset(tags)),), ttl)

    def put_now(
        self,
        key: str,
        value: Lasting,
        *,
        ttl: float | None = None,
        tags: frozenset[str] = frozenset(),
    ) -> None:
        """Keep an object that never changes, replacing what was there, without being awaited.

        It counts its `size`, and is written as bytes only for who asks for these.

        Raises:
            ValueError: If the entry is above `max_entry_bytes`, or `ttl` not a number.
        """
        entry = self._checked(key, value, value.size, ttl, tags)
        with self._lock:
            now = self._monotonic()
            if self._expiries.soonest <= now:
                self._sweep(now)
            self._put(entry, ttl, now)

    async def put_many(
        self,
        values: Mapping[str, bytes],
        *,
        ttl: float | None = None,
        tags: frozenset[str] = frozenset(),
    ) -> None:
        """Keep each of the values; see `BlobStore.put_many`.

        Raises:
            ValueError: If one of them is above `max_entry_bytes`, or `ttl` not a number; then none
                was put.
        """
        tags = frozenset(tags)
        items = list(values.items())
        entries: list[Entry] = []
        for start in range(0, len(items), _CHUNK):
            chunk = await _chunk(items, start)
            entries += [
                self._checked(key, data, len(data), ttl, tags)
                for key, data in [(key, bytes(given)) for key, given in chunk]
            ]
        for start in range(0, len(entries), _CHUNK):
            self._put_all(await _chunk(entries, start), ttl)

    async def delete(self, key: str) -> bool:
        """Forget `key`; whether it was there."""
        with self._lock:
            entry = self._entries.get(key)
            return entry is not None and self._delete(entry, self._monotonic())

    async def entries(
        self, *, prefix: str = "", tag: str | None = None, cursor: str = ""
    ) -> BlobPage:
        """A page of what is kept, in the order in which it was put; see `BlobStore.entries`.

        It lets the loop run before each page but the first.
        """
        after = _after(cursor)
        if cursor:
            await _let_others_run()
        with self._lock:
            now = self._monotonic()
            there = self._all(tag)
        # What is put anew while the listing goes on gets a higher number: it is still to come.
        first = bisect_right(there, after, key=_number)
        page = there[first : first + max(_PAGE, len(there) // _PAGES)]
        more = first + len(page) < len(there)
        found: list[BlobInfo] = []
        for start in range(0, len(page), _CHUNK):
            chunk = await _chunk(page, start)
            found += [
                _info(entry, now)
                for entry in chunk
                if entry.expires > now and entry.key.startswith(prefix)
            ]
        return BlobPage(found, str(page[-1].number) if more else "")

    async def tagged(self, tag: str) -> Mapping[str, Blob]:
        """Every value with the tag that has not expired, by key."""
        with self._lock:
            now = self._monotonic()
            self._sweep(now)
            found = self._all(tag)
        blobs: dict[str, Blob] = {}
        for start in range(0, len(found), _CHUNK):
            chunk = await _chunk(found, start)
            with self._lock:
                for entry in chunk:
                    if self._entries.get(entry.key) is entry:
                        self._eviction.used(entry)
            blobs.update((each.key, _blob(each, now)) for each in chunk if each.expires > now)
        return blobs

    async def purge(self, *, prefix: str = "", tag: str | None = None) -> int:
        """Forget what is there now with the prefix and the tag; see `BlobStore.purge`.

        It lets the loop run between chunks; cancelled there, it has forgotten some of the keys.
        """
        with self._lock:
            # The entries too: what is put while a long purge runs is newer than the purge.
            found = self._all(tag)
        count = 0
        for start in range(0, len(found), _CHUNK):
            chunk = await _chunk(found, start)
            those = [entry for entry in chunk if entry.key.startswith(prefix)]
            with self._lock:
                now = self._monotonic()
                for entry in those:
                    if self._entries.get(entry.key) is entry:
                        count += self._delete(entry, now)
        return count

    async def aclose(self) -> None:
        """Nothing is held open. What is kept stays, for others may use the same store."""

    def _checked(
        self, key: str, data: Any, length: int, ttl: float | None, tags: frozenset[str]
    ) -> Entry:
        if ttl is not None and ttl != ttl:  # noqa: PLR0124 - nan, told without a call
            raise ValueError(
                "MemoryBlobs.put: ttl is nan; give seconds, or None to keep the value."
            )
        # Of texts an upper bound of their bytes, without encoding them.
        size = ENTRY_OVERHEAD + length + len(key) * (1 if key.isascii() else 4)
        for tag in tags:
            size += TAG_OVERHEAD + len(tag) * (1 if tag.isascii() else 4)
        if size > self._max_entry_bytes:
            # The key is left out of the message: it may name a person.
            raise ValueError(
                f"MemoryBlobs.put: an entry of {size} bytes is above max_entry_bytes "
                f"{self._max_entry_bytes}; keep less, or make the store with a higher limit."
            )
        return Entry(key, data, 0.0, math.inf, tags, size, 0)

    def _put_all(self, entries: Iterable[Entry], ttl: float | None) -> None:
        """Keep what `_checked` has made, at once."""
        with self._lock:
            now = self._monotonic()
            if self._expiries.soonest <= now:
                self._sweep(now)
            for entry in entries:
                self._put(entry, ttl, now)

    def _put(self, entry: Entry, ttl: float | None, now: float) -> None:
        old = self._entries.get(entry.key)
        if old is not None:
            self._forget(old)
        if ttl is None or ttl > 0:
            entry.put_at = now
            if ttl is not None:
                entry.expires = now + ttl
            self._keep(entry, old, now)

    def _look(self, key: str, now: float) -> Entry | None:
        if self._expiries.soonest <= now:
            self._sweep(now)
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires <= now:
            self._forget(entry)
            return None
        self._eviction.used(entry)
        return entry

    def _all(self, tag: str | None) -> list[Entry]:
        """Those that there are, or that have the tag, the first put first."""
        return list((self._entries if tag is None else self._tagged.get(tag, {})).values())

    def _delete(self, entry: Entry, now: float) -> bool:
        self._forget(entry)
        return entry.expires > now

    def _keep(self, entry: Entry, old: Entry | None, now: float) -> None:
        while self._size + entry.size > self._max_bytes or len(self._entries) >= self._max_entries:
            self._make_room(entry, now)
        self._number += 1
        entry.number = self._number
        self._size += entry.size
        self._entries[entry.key] = entry
        for tag in entry.tags:
            if tag in self._tagged:
                self._tagged[tag][entry.key] = entry
            else:
                self._tagged[tag] = {entry.key: entry}
        if entry.expires < math.inf:
            self._expiries.set(entry.key, entry.expires)
        self._eviction.added(entry, old)

    def _make_room(self, coming: Entry, now: float) -> None:
        for key in self._expiries.due(now, most=1):
            self._forget(self._entries[key])
            return
        self._evicted += 1
        self._forget(self._eviction.next_out(coming))

    def _forget(self, entry: Entry) -> None:
        key = entry.key
        del self._entries[key]
        self._size -= entry.size
        self._eviction.removed(entry)
        if entry.expires < math.inf:
            self._expiries.discard(key)
        for tag in entry.tags:
            same = self._tagged[tag]
            del same[key]
            if not same:
                del self._tagged[tag]

    def _sweep(self, now: float) -> None:
        for key in self._expiries.due(now, most=_SWEEP):
            self._forget(self._entries[key])


def _blob(entry: Entry, now: float) -> Blob:
    return Blob(bytes(entry.data), max(0.0, now - entry.put_at), entry.tags)


def _info(entry: Entry, now: float) -> BlobInfo:
    expires_in = None if entry.expires == math.inf else entry.expires - now
    age = max(0.0, now - entry.put_at)
    data = entry.data
    size = len(data) if isinstance(data, bytes) else data.size
    return BlobInfo(entry.key, size, age, expires_in, entry.tags)


def _number(entry: Entry) -> int:
    return entry.number


def _after(cursor: str) -> int:
    """The number that a page ended with.

    Raises:
        ValueError: If the cursor is none of a listing's.
    """
    if cursor and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 20):
        raise ValueError(
            f"MemoryBlobs.entries: {cursor!r} is no cursor; give the last page's, or none."
        )
    return int(cursor) if cursor else 0


async def _chunk(items: Sequence[T], start: int) -> Sequence[T]:
    """Some of the items. Before each chunk but the first the loop runs: few are not waited for."""
    if start:
        await _let_others_run()
    return items[start : start + _CHUNK]


async def _let_others_run() -> None:
    import anyio.lowlevel

    await anyio.lowlevel.checkpoint()
