"""Keyed bytes in Redis: the `BlobStore` port, one script for each step."""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from itertools import chain
from typing import Any, ClassVar, Final

import attrs

from lamella import (
    Blob,
    BlobInfo,
    BlobPage,
    ConfigurationError,
    GuardedBlobs,
    PartHealth,
    Secret,
    StoreUnavailableError,
)
from lamella._loops import PerLoop, current_loop
from lamella._options import seconds, whole
from lamella._options import span as is_span
from lamella_redis._address import Address
from lamella_redis._blob_words import (
    ANSWER,
    KEYS,
    MEBIBYTE,
    blobs_of,
    cursor_of,
    infos_of,
    life_of,
    portions,
)
from lamella_redis._leases import at_least, name_of_keys, url_given
from lamella_redis._scripts import Keeping, Script, keeping
from lamella_redis._texts import encoded, pattern

_SCANNED: Final = 500
_STEPS: Final = 20  # of a scan for one page, so that none takes long where others keep most keys


@attrs.define(eq=False)
class RedisBlobs:
    """`BlobStore` in Redis or Valkey: what all processes that share a server share.

    Each step is one script, atomic on the server and timed by its clock: a value is there with all
    its tags or not at all. `tagged` and `purge` take several steps where there is much: up to 500
    values of 4 MiB together are one. What is put meanwhile may be among what `tagged` finds, and is
    never forgotten by `purge`. After a lost answer `delete` and `purge` may count too little.

    Any number of event loops and threads may use it. Each loop has one connection, opened by the
    first command and again when it has failed; `aclose` closes them all, and a later command opens
    one anew.

    By itself it raises `StoreUnavailableError` when the server does not answer within `timeout`:
    wrap it in `GuardedBlobs`, or use `redis_blobs`, which does.

    Args:
        url: As for `RedisLeases`.
        client: As for `RedisLeases`.
        namespace: What all keys begin with, in braces, so that a cluster keeps them on one node.
            Stores of the same namespace on the same server are the same store.
        ssl_context: As for `RedisLeases`.
        timeout: Seconds, or a timedelta, for one answer, connecting apart.
        connect_timeout: Seconds, or a timedelta, for connecting.
        max_entry_bytes: What one value may take, with its key and tags; more is refused with a
            ValueError.

    Raises:
        ConfigurationError: If an option is wrong, or a URL has a password in it.
    """

    shared: ClassVar[bool] = True
    """That others can write to it."""

    url: Secret | str | None = attrs.field(default=None, converter=url_given)
    client: Any = attrs.field(default=None, kw_only=True, repr=False)
    namespace: str = attrs.field(default="lamella", kw_only=True, validator=name_of_keys)
    ssl_context: ssl.SSLContext | None = attrs.field(default=None, kw_only=True, repr=False)
    timeout: float = attrs.field(default=1.0, kw_only=True, converter=seconds, validator=is_span)
    connect_timeout: float = attrs.field(
        default=1.0, kw_only=True, converter=seconds, validator=is_span
    )
    max_entry_bytes: int = attrs.field(default=8 * MEBIBYTE, kw_only=True, validator=whole(1))
    _links: PerLoop[Any] = attrs.field(init=False, repr=False)
    _prefix: str = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Load the client: that takes a quarter of a second, in which no call should wait."""
        if (self.url is None) == (self.client is None):
            msg = "RedisBlobs: give a url, such as 'env:REDIS_URL', or a client."
            raise ConfigurationError(msg)
        from lamella_redis._link import Link

        address = Address(self.url, self.client, self.ssl_context)
        self._prefix = f"{{{self.namespace}}}:"
        self._links = PerLoop(lambda: Link(address, self.timeout, self.connect_timeout))

    async def get(self, key: str) -> Blob | None:
        """The value under `key`, or None if there is none or it has expired.

        Raises:
            StoreUnavailableError: If the server does not answer.
        """
        now, _, _, found = await self._run("read", "", str(ANSWER), key)
        return blobs_of(now, found).get(key)

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, Blob]:
        """The values under these keys, of those that there are; see `BlobStore.get_many`.

        Up to 200 values of 4 MiB together are one step.

        Raises:
            StoreUnavailableError: If the server does not answer.
        """
        blobs: dict[str, Blob] = {}
        await self._read("", [encoded(key) for key in dict.fromkeys(keys)], blobs)
        return blobs

    async def put(
        self, key: str, data: bytes, *, ttl: float | None = None, tags: frozenset[str] = frozenset()
    ) -> None:
        """Keep `data`, replacing what was there; see `BlobStore.put`.

        Raises:
            ValueError: If the value is above `max_entry_bytes`, or `ttl` not a number.
            StoreUnavailableError: If the server does not answer.
        """
        await self._put([(encoded(key), bytes(data))], ttl, tags)

    async def put_many(
        self,
        values: Mapping[str, bytes],
        *,
        ttl: float | None = None,
        tags: frozenset[str] = frozenset(),
    ) -> None:
        """Keep each of the values; see `BlobStore.put_many`.

        Up to 200 values of 4 MiB together are one step, of which others see all or nothing.

        Raises:
            ValueError: If a value is above `max_entry_bytes`, or `ttl` not a number; nothing is
                kept then.
            StoreUnavailableError: If the server does not answer; some may be kept.
        """
        await self._put([(encoded(key), bytes(data)) for key, data in values.items()], ttl, tags)

    async def delete(self, key: str) -> bool:
        """Forget `key`; whether it was there.

        Raises:
            StoreUnavailableError: If the server does not answer.
        """
        return bool(await self._run("forget", "", "", key))

    async def tagged(self, tag: str) -> Mapping[str, Blob]:
        """Every value with the tag that has not expired, by key.

        Raises:
            StoreUnavailableError: If the server does not answer.
        """
        blobs: dict[str, Blob] = {}
        answer = await self._run("read", f"+{tag}", str(ANSWER))
        if len(answer) > 1:
            now, seen, keys, found = answer
            blobs.update(blobs_of(now, found))
            await self._read(f"+{tag}", keys[seen:], blobs)
            return blobs
        set_ = encoded(f"{self._prefix}tag:{tag}")
        async for page in self._pages(b"ZSCAN", set_, b"*"):
            await self._read(f"+{tag}", page[::2], blobs)
        return blobs

    async def purge(self, *, prefix: str = "", tag: str | None = None) -> int:
        """Forget what is there now with the prefix and the tag; see `BlobStore.purge`.

        With a tag it takes as long as there are values with it; without one, as there are keys on
        the server. Other commands are answered meanwhile. Cancelled, it has forgotten some.

        Raises:
            StoreUnavailableError: If the server does not answer; some may have been forgotten.
        """
        upto: bytes = await self._run("now")
        count = 0
        if tag is not None:
            set_ = encoded(f"{self._prefix}tag:{tag}")
            async for page in self._pages(b"ZSCAN", set_, pattern(prefix)):
                count += await self._forget(upto, f"+{tag}", page[::2])
            return count
        place = encoded(f"{self._prefix}blob:")
        async for page in self._pages(b"SCAN", None, pattern(f"{self._prefix}blob:{prefix}")):
            count += await self._forget(upto, "", [key[len(place) :] for key in page])
        return count

    async def entries(
        self, *, prefix: str = "", tag: str | None = None, cursor: str = ""
    ) -> BlobPage:
        """What is kept with this prefix and tag; see `BlobStore.entries`.

        With a tag all pages take as long as there are values with it; without one, as there are
        keys on the server. Other commands are answered meanwhile.

        Raises:
            ValueError: If the cursor is none of this store's.
            StoreUnavailableError: If the server does not answer.
        """
        kind = "k" if tag is None else "t"
        place = encoded(f"{self._prefix}blob:")
        if tag is None:
            await self._run("now")  # a scan names no key by which a cluster finds the right node
            command, before = b"SCAN", []
            matching = pattern(f"{self._prefix}blob:{prefix}")
        else:
            command, before = b"ZSCAN", [encoded(f"{self._prefix}tag:{tag}")]
            matching = pattern(prefix)
        at = cursor_of(cursor, kind)
        found: list[bytes] = []
        for _ in range(_STEPS):
            at, some = await self._scan(command, before, at, matching)
            found.extend([key[len(place) :] for key in some] if tag is None else some[::2])
            if at == b"0" or len(found) >= _SCANNED:
                break
        listed = await self._listed("" if tag is None else f"+{tag}", found)
        return BlobPage(listed, "" if at == b"0" else f"{kind}{at.decode()}")

    async def health(self) -> PartHealth:
        """Whether the server answers now."""
        try:
            await self._links.get().ping()
        except StoreUnavailableError as error:
            return PartHealth(well=False, detail={"error": error.message})
        return PartHealth(well=True)

    async def aclose(self) -> None:
        """Close the connections of all loops. What is kept stays."""
        here, links = current_loop(), self._links.items()
        for loop, link in links:
            if loop is not here:
                loop.call_soon(link.cancel)
        for loop, link in links:
            if loop is here:
                await link.aclose()

    # --- commands ----------------------------------------------------------------------------

    def _script(self, operation: Keeping) -> Script:
        return keeping(operation)

    async def _run(self, operation: Keeping, *words: str | bytes) -> Any:
        return await self._links.get().run(self._script(operation), [self._prefix], words)

    async def _put(
        self, values: Sequence[tuple[bytes, bytes]], ttl: float | None, tags: frozenset[str]
    ) -> None:
        if ttl is not None and math.isnan(ttl):
            raise ValueError("RedisBlobs.put: ttl is nan; give seconds, or None to keep the value.")
        words = [encoded(tag) for tag in sorted(tags)]
        own = sum(map(len, words))
        for key, data in values:
            size = len(data) + len(key) + own
            if size > self.max_entry_bytes:
                # The key is left out of the message: it may name a person.
                raise ValueError(
                    f"RedisBlobs.put: a value of {size} bytes is above max_entry_bytes "
                    f"{self.max_entry_bytes}; keep less, or make the store with a higher limit."
                )
        before = [life_of(ttl).encode(), b"%d" % len(words), *words]
        for some in portions(values):
            await self._run("put", *before, *chain.from_iterable(some))

    async def _read(self, wanted: str, keys: Sequence[bytes], blobs: dict[str, Blob]) -> None:
        """Add the values under these keys that have the tag that is wanted, if one is."""
        here = 0
        while here < len(keys):
            some = keys[here : here + KEYS]
            now, seen, _, found = await self._run("read", wanted, str(ANSWER), *some)
            blobs.update(blobs_of(now, found))
            here += seen

    async def _forget(self, upto: bytes, tag: str, keys: Sequence[bytes]) -> int:
        count = 0
        for start in range(0, len(keys), KEYS):
            some = keys[start : start + KEYS]
            count += int(await self._run("forget", upto, tag, *some))
        return count

    async def _pages(
        self, command: bytes, key: bytes | None, matching: bytes
    ) -> AsyncIterator[list[bytes]]:
        """What a scan finds, as it comes; something may come twice."""
        before = [] if key is None else [key]
        cursor = b"0"
        while True:
            cursor, found = await self._scan(command, before, cursor, matching)
            if found:
                yield found
            if cursor == b"0":
                return

    async def _scan(
        self, command: bytes, before: list[bytes], cursor: bytes, matching: bytes
    ) -> tuple[bytes, list[bytes]]:
        words = [*before, cursor, b"MATCH", matching, b"COUNT", b"%d" % _SCANNED]
        found: tuple[bytes, list[bytes]] = await self._links.get().scan(command, *words)
        return found

    async def _listed(self, wanted: str, keys: Sequence[bytes]) -> list[BlobInfo]:
        listed: list[BlobInfo] = []
        for start in range(0, len(keys), KEYS):
            now, found = await self._run("info", wanted, *keys[start : start + KEYS])
            listed += infos_of(now, found)
        return listed


def redis_blobs(
    url: str | Secret,
    *,
    namespace: str = "lamella",
    timeout: float | timedelta = 0.25,
    rest: float | timedelta = 2.0,
    max_entry_bytes: int = 8 * MEBIBYTE,
) -> GuardedBlobs:
    """Values in Redis or Valkey, and no long waits while it is out: the store `redis` for `blobs`.

    Args:
        url: As for `RedisLeases`.
        namespace: As for `RedisBlobs`.
        timeout: As for `GuardedBlobs`.
        rest: As for `GuardedBlobs`.
        max_entry_bytes: As for `RedisBlobs`.

    Raises:
        ConfigurationError: If an option is wrong, or a URL has a password in it.
    """
    store = RedisBlobs(
        url,
        namespace=namespace,
        timeout=at_least(timeout),
        connect_timeout=at_least(timeout),
        max_entry_bytes=max_entry_bytes,
    )
    return GuardedBlobs(store, timeout=timeout, rest=rest)
