"""Keyed bytes in memory, bounded in bytes, least recently used first out."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs

from lamella._fork_locks import fork_safe_lock
from lamella._memory_expiry import Expiries
from lamella._stores import Blob, BlobInfo, BlobPage

ENTRY_OVERHEAD = 512
"""Bytes an entry counts beside its own: what the tables around it take, rounded up."""

_SWEEP = 128  # expired entries that one operation clears away, so that none of them takes long
_CHUNK = 500  # keys that a purge forgets before it lets others run


@attrs.define(eq=False)
class _Entry:
    data: bytes
    put_at: float
    expires: float
    tags: frozenset[str]
    size: int


class MemoryBlobs:
    """The memory default of `BlobStore`: thread-safe, for any number of event loops.

    Args:
        monotonic: The clock, in seconds.
        max_bytes: What all entries may take together. An entry counts its data, key, tags and
            `ENTRY_OVERHEAD`. Beyond that the least recently used go.
        max_entry_bytes: What one entry may take; more is refused with a ValueError.

    Attributes:
        instant: That nobody ever waits for it, so that it needs no guard.
    """

    instant: Final = True

    def __init__(
        self, *, monotonic: Callable[[], float], max_bytes: int, max_entry_bytes: int
    ) -> None:
        if not ENTRY_OVERHEAD < max_entry_bytes <= max_bytes:
            raise ValueError(
                f"MemoryBlobs: max_entry_bytes {max_entry_bytes!r} must be above {ENTRY_OVERHEAD} "
                f"and no more than max_bytes {max_bytes!r}."
            )
        self._monotonic = monotonic
        self._max_bytes = max_bytes
        self._max_entry_bytes = max_entry_bytes
        self._lock = fork_safe_lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._tagged: dict[str, set[str]] = {}
        self._expiries = Expiries()
        self._size = 0

    @property
    def size(self) -> int:
        """The bytes that the entries take, as `max_bytes` counts them."""
        return self._size

    async def get(self, key: str) -> Blob | None:
        """The value under `key`, or None if there is none or it has expired."""
        with self._lock:
            now = self._monotonic()
            self._sweep(now)
            entry = self._entries.get(key)
            if entry is None:
                return None
            if entry.expires <= now:
                self._forget(key, entry)
                return None
            self._entries.move_to_end(key)
        return Blob(entry.data, max(0.0, now - entry.put_at), entry.tags)

    async def put(
        self, key: str, data: bytes, *, ttl: float | None = None, tags: frozenset[str] = frozenset()
    ) -> None:
        """Keep `data`, replacing what was there; see `BlobStore.put`.

        Raises:
            ValueError: If the entry is above `max_entry_bytes`, or `ttl` not a number.
        """
        if ttl is not None and math.isnan(ttl):
            raise ValueError(
                "MemoryBlobs.put: ttl is nan; give seconds, or None to keep the value."
            )
        data, tags = bytes(data), frozenset(tags)
        size = ENTRY_OVERHEAD + len(data) + _text_size(key) + sum(map(_text_size, tags))
        if size > self._max_entry_bytes:
            # The key is left out of the message: it may name a person.
            raise ValueError(
                f"MemoryBlobs.put: an entry of {size} bytes is above max_entry_bytes "
                f"{self._max_entry_bytes}; keep less, or make the store with a higher limit."
            )
        with self._lock:
            now = self._monotonic()
            self._sweep(now)
            old = self._entries.get(key)
            if old is not None:
                self._forget(key, old)
            if ttl is None or ttl > 0:
                expires = math.inf if ttl is None else now + ttl
                self._keep(key, _Entry(data, now, expires, tags, size))

    async def delete(self, key: str) -> bool:
        """Forget `key`; whether it was there."""
        with self._lock:
            return self._delete(key, self._entries.get(key), self._monotonic())

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, Blob]:
        """The values under these keys, of those that there are."""
        found = {key: await self.get(key) for key in keys}
        return {key: blob for key, blob in found.items() if blob is not None}

    async def put_many(
        self,
        values: Mapping[str, bytes],
        *,
        ttl: float | None = None,
        tags: frozenset[str] = frozenset(),
    ) -> None:
        """Keep each of the values; see `BlobStore.put_many`."""
        for key, data in values.items():
            await self.put(key, data, ttl=ttl, tags=tags)

    async def entries(
        self, *, prefix: str = "", tag: str | None = None, cursor: str = ""
    ) -> BlobPage:
        """What is kept, on one page; see `BlobStore.entries`."""
        with self._lock:
            now = self._monotonic()
            keys = self._entries if tag is None else self._tagged.get(tag, ())
            found = [(key, self._entries[key]) for key in keys if key.startswith(prefix)]
        return BlobPage(
            [
                BlobInfo(
                    key,
                    len(entry.data),
                    max(0.0, now - entry.put_at),
                    None if entry.expires == math.inf else entry.expires - now,
                    entry.tags,
                )
                for key, entry in found
                if entry.expires > now
            ]
        )

    async def tagged(self, tag: str) -> Mapping[str, Blob]:
        """Every value with the tag that has not expired, by key."""
        with self._lock:
            now = self._monotonic()
            self._sweep(now)
            found = [(key, self._entries[key]) for key in self._tagged.get(tag, ())]
            for key, _ in found:
                self._entries.move_to_end(key)
        return {
            key: Blob(entry.data, max(0.0, now - entry.put_at), entry.tags)
            for key, entry in found
            if entry.expires > now
        }

    async def purge(self, *, prefix: str = "", tag: str | None = None) -> int:
        """Forget what is there now with the prefix and the tag; see `BlobStore.purge`.

        It lets the loop run between chunks; cancelled there, it has forgotten some of the keys.
        """
        import anyio.lowlevel

        with self._lock:
            entries = self._entries
            keys = entries if tag is None else self._tagged.get(tag, ())
            # The entries too: what is put while a long purge runs is newer than the purge.
            found = [(key, entries[key]) for key in keys if key.startswith(prefix)]
        count = 0
        for start in range(0, len(found), _CHUNK):
            if start:
                await anyio.lowlevel.checkpoint()
            with self._lock:
                now = self._monotonic()
                for key, entry in found[start : start + _CHUNK]:
                    if self._entries.get(key) is entry:
                        count += self._delete(key, entry, now)
        return count

    async def aclose(self) -> None:
        """Nothing is held open. What is kept stays, for others may use the same store."""

    def _delete(self, key: str, entry: _Entry | None, now: float) -> bool:
        if entry is None:
            return False
        self._forget(key, entry)
        return entry.expires > now

    def _keep(self, key: str, entry: _Entry) -> None:
        self._size += entry.size
        while self._size > self._max_bytes:
            oldest = next(iter(self._entries))
            self._forget(oldest, self._entries[oldest])
        self._entries[key] = entry
        for tag in entry.tags:
            self._tagged.setdefault(tag, set()).add(key)
        if entry.expires < math.inf:
            self._expiries.set(key, entry.expires)

    def _forget(self, key: str, entry: _Entry) -> None:
        del self._entries[key]
        self._size -= entry.size
        self._expiries.discard(key)
        for tag in entry.tags:
            keys = self._tagged[tag]
            keys.discard(key)
            if not keys:
                del self._tagged[tag]

    def _sweep(self, now: float) -> None:
        for key in self._expiries.due(now, most=_SWEEP):
            self._forget(key, self._entries[key])


def _text_size(text: str) -> int:
    """An upper bound of the bytes of a text, without encoding it."""
    return len(text) * (1 if text.isascii() else 4)
