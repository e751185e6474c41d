"""Keyed bytes in Redis: the `BlobStore` port, one script for each step."""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import attrs

from lamella import (
    Blob,
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
from lamella_redis._leases import at_least, name_of_keys, url_given
from lamella_redis._limits import MICROSECONDS, span
from lamella_redis._scripts import Keeping, Script, keeping

MEBIBYTE: Final = 1024 * 1024
_ANSWER: Final = 4 * MEBIBYTE  # after so many bytes an answer ends, and the rest is asked for
_KEYS: Final = 200  # that one script is told, so that none takes long
_SCANNED: Final = 500


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
        now, _, _, found = await self._run("read", "", str(_ANSWER), key)
        return _blobs(now, found).get(key)

    async def put(
        self, key: str, data: bytes, *, ttl: float | None = None, tags: frozenset[str] = frozenset()
    ) -> None:
        """Keep `data`, replacing what was there; see `BlobStore.put`.

        Raises:
            ValueError: If the value is above `max_entry_bytes`, or `ttl` not a number.
            StoreUnavailableError: If the server does not answer.
        """
        if ttl is not None and math.isnan(ttl):
            raise ValueError("RedisBlobs.put: ttl is nan; give seconds, or None to keep the value.")
        data, words = bytes(data), [_bytes(tag) for tag in sorted(tags)]
        size = len(data) + len(_bytes(key)) + sum(map(len, words))
        if size > self.max_entry_bytes:
            # The key is left out of the message: it may name a person.
            raise ValueError(
                f"RedisBlobs.put: a value of {size} bytes is above max_entry_bytes "
                f"{self.max_entry_bytes}; keep less, or make the store with a higher limit."
            )
        await self._run("put", key, data, _life(ttl), *words)

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
        answer = await self._run("read", f"+{tag}", str(_ANSWER))
        if len(answer) > 1:
            now, seen, keys, found = answer
            blobs.update(_blobs(now, found))
            await self._read(tag, keys[seen:], blobs)
            return blobs
        set_ = _bytes(f"{self._prefix}tag:{tag}")
        async for page in self._pages(b"ZSCAN", set_, b"*"):
            await self._read(tag, page[::2], blobs)
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
            set_ = _bytes(f"{self._prefix}tag:{tag}")
            async for page in self._pages(b"ZSCAN", set_, _pattern(prefix)):
                count += await self._forget(upto, f"+{tag}", page[::2])
            return count
        place = _bytes(f"{self._prefix}blob:")
        async for page in self._pages(b"SCAN", None, _pattern(f"{self._prefix}blob:{prefix}")):
            count += await self._forget(upto, "", [key[len(place) :] for key in page])
        return count

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

    async def _read(self, tag: str, keys: Sequence[bytes], blobs: dict[str, Blob]) -> None:
        """Add the values under these keys that have the tag."""
        here = 0
        while here < len(keys):
            some = keys[here : here + _KEYS]
            now, seen, _, found = await self._run("read", f"+{tag}", str(_ANSWER), *some)
            blobs.update(_blobs(now, found))
            here += seen

    async def _forget(self, upto: bytes, tag: str, keys: Sequence[bytes]) -> int:
        count = 0
        for start in range(0, len(keys), _KEYS):
            some = keys[start : start + _KEYS]
            count += int(await self._run("forget", upto, tag, *some))
        return count

    async def _pages(
        self, command: bytes, key: bytes | None, pattern: bytes
    ) -> AsyncIterator[list[bytes]]:
        """What a scan finds, as it comes; something may come twice."""
        before = [] if key is None else [key]
        cursor = b"0"
        while True:
            words = [*before, cursor, b"MATCH", pattern, b"COUNT", b"%d" % _SCANNED]
            cursor, found = await self._links.get().scan(command, *words)
            if found:
                yield found
            if cursor == b"0":
                return


def _blobs(now: bytes, found: Sequence[Any]) -> dict[str, Blob]:
    instant = int(now)
    return {
        _text(key): Blob(
            data,
            max(0.0, (instant - int(at)) / MICROSECONDS),
            frozenset([_text(tag) for tag in tags]),
        )
        for key, data, at, tags in found
    }


def _life(ttl: float | None) -> str:
    if ttl is None or ttl == math.inf:
        return ""
    return span(ttl) if ttl > 0 else "0"


def _pattern(prefix: str) -> bytes:
    """What matches everything that begins with this, taken literally."""
    return _bytes("".join([f"\\{sign}" if sign in "*?[]\\" else sign for sign in prefix])) + b"*"


def _bytes(word: str) -> bytes:
    return word.encode("utf-8", "surrogatepass")


def _text(word: bytes) -> str:
    return word.decode("utf-8", "surrogatepass")


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
