"""Vectors in Redis or Valkey: the `VectorIndex` port, on the search that the server has."""

from __future__ import annotations

import math
import ssl
import sys
import time
from array import array
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from hashlib import blake2b
from typing import Any, ClassVar, Final

import attrs

from lamella import ConfigurationError, Near, PartHealth, Secret, StoreUnavailableError
from lamella._guarded_vectors import GuardedVectors
from lamella._loops import PerLoop, current_loop
from lamella._options import is_number, one_of, seconds
from lamella._options import span as is_span
from lamella._store_asking import Asking
from lamella_redis._address import Address
from lamella_redis._leases import at_least, name_of_keys, url_given
from lamella_redis._limits import span
from lamella_redis._scripts import Placing, Script, placing
from lamella_redis._searching import (
    Algorithm,
    cannot_search,
    creation,
    found,
    is_missing,
    is_there,
    question,
)
from lamella_redis._texts import decoded, encoded, pattern

_MORE: Final = 8  # that are asked for besides: some may have ended without being gone
_MANY: Final = 1000  # likewise, when those were not enough
_MOST: Final = 1000  # that one search gives
_DROPPED: Final = 500  # that one script forgets
_SWEPT: Final = 200  # that one script looks at
_SCANNED: Final = 500
_LARGE: Final = 2.0**600


@attrs.define(eq=False)
class RedisVectors:
    """`VectorIndex` in Redis or Valkey: what all processes that share a server share.

    The server needs a search for vectors: Redis 8 has it, Redis 7.2 and later with the search
    module, Valkey with valkey-search. An index is made there by the first vector of each length; it
    holds all partitions, and a search is narrowed to one of them before vectors are compared.
    Coordinates are kept as 32-bit floats.

    Any number of event loops and threads may use it. Each loop has one connection, opened by the
    first command and again when it has failed; `aclose` closes them all, and a later command opens
    one anew.

    By itself it raises `StoreUnavailableError` when the server does not answer within `timeout`;
    `redis_vectors` makes one that is left alone while its server is out.

    Args:
        url: As for `RedisLeases`. Redis searches in its database 0 only.
        client: As for `RedisLeases`.
        namespace: What all keys begin with, in braces, so that a cluster keeps them on one node.
            Stores of the same namespace and algorithm on the same server are the same store.
        algorithm: `"flat"` compares with every vector of the partition, so that nothing is missed;
            `"hnsw"` walks a graph, which is faster from some ten thousand in a partition on, takes
            more memory, and may miss one. What was kept with the other one is not found.
        ssl_context: As for `RedisLeases`.
        timeout: Seconds, or a timedelta, for one answer, connecting apart.
        connect_timeout: Seconds, or a timedelta, for connecting.

    Raises:
        ConfigurationError: If an option is wrong, or a URL has a password in it.
    """

    shared: ClassVar[bool] = True
    """That others can write to it."""

    url: Secret | str | None = attrs.field(default=None, converter=url_given)
    client: Any = attrs.field(default=None, kw_only=True, repr=False)
    namespace: str = attrs.field(default="lamella", kw_only=True, validator=name_of_keys)
    algorithm: Algorithm = attrs.field(
        default="flat", kw_only=True, validator=one_of("flat", "hnsw")
    )
    ssl_context: ssl.SSLContext | None = attrs.field(default=None, kw_only=True, repr=False)
    timeout: float = attrs.field(default=1.0, kw_only=True, converter=seconds, validator=is_span)
    connect_timeout: float = attrs.field(
        default=1.0, kw_only=True, converter=seconds, validator=is_span
    )
    _links: PerLoop[Any] = attrs.field(init=False, repr=False)
    _prefix: str = attrs.field(init=False, repr=False)
    _made: set[int] = attrs.field(init=False, factory=set[int], repr=False)

    def __attrs_post_init__(self) -> None:
        """Load the client: that takes a quarter of a second, in which no call should wait."""
        if (self.url is None) == (self.client is None):
            msg = "RedisVectors: give a url, such as 'env:REDIS_URL', or a client."
            raise ConfigurationError(msg)
        from lamella_redis._link import Link

        address = Address(self.url, self.client, self.ssl_context)
        self._prefix = f"{{{self.namespace}}}:vectors:{self.algorithm}:"
        self._links = PerLoop(lambda: Link(address, self.timeout, self.connect_timeout))

    async def add(
        self, partition: str, key: str, vector: Sequence[float], *, ttl: float | None = None
    ) -> None:
        """Keep a vector, replacing what was there under the key; see `VectorIndex.add`.

        Raises:
            ValueError: If it has another length than those that are there, no length, a coordinate
                that is not finite, or if `ttl` is not a number.
            ConfigurationError: If the server has no search.
            StoreUnavailableError: If it does not answer.
        """
        if ttl is not None and math.isnan(ttl):
            raise ValueError(
                "RedisVectors.add: ttl is nan; give seconds, or None to keep the vector."
            )
        data, length = _directed("add", vector), len(vector)
        if length not in self._made:
            await self._run("length", partition)  # in a cluster, leads to the node of the keys
            await self._make(length)
        life = "" if ttl is None or ttl == math.inf else span(ttl) if ttl > 0 else "0"
        there = await self._run("add", partition, key, str(length), data, life)
        if there:
            raise _other_length("add", length, int(there))

    async def nearest(
        self, partition: str, vector: Sequence[float], *, count: int = 1, at_least: float = -1.0
    ) -> Sequence[Near]:
        """The nearest of a partition, none below `at_least`; see `VectorIndex.nearest`.

        Raises:
            ValueError: If the vector has another length than those that are there, no length, a
                coordinate that is not finite, or if `count` is above 1000.
            ConfigurationError: If the server has no search.
            StoreUnavailableError: If it does not answer.
        """
        if count > _MOST:
            raise ValueError(f"RedisVectors.nearest: count {count!r} is above {_MOST}.")
        data, length = _directed("nearest", vector), len(vector)
        if count < 1:
            return []
        names, ended = await self._search(partition, length, data, count + _MORE)
        if len(names) < count and (ended or (not names and await self._holds(partition, length))):
            # Those that have just ended were in the way of the others.
            names, _ = await self._search(partition, length, data, count + _MANY)
        here = len(self._place(length)) + len(_word(partition)) + 1
        near = [Near(decoded(name[here:]), max(-1.0, min(1.0, 1.0 - far))) for name, far in names]
        near.sort(key=lambda each: (-each.similarity, each.key))
        return [each for each in near[:count] if each.similarity >= at_least]

    async def remove(self, partition: str, key: str) -> bool:
        """Forget a vector; whether it was there.

        Raises:
            StoreUnavailableError: If the server does not answer.
        """
        lengths = [str(length) for length in sorted(self._made)]
        return bool(await self._run("remove", partition, key, *lengths))

    async def purge(self, *, prefix: str = "") -> int:
        """Forget all of the partitions that begin with the prefix; how many vectors.

        It takes as long as there are keys on the server. Other commands are answered meanwhile.

        Raises:
            StoreUnavailableError: If the server does not answer; some may have been forgotten.
        """
        await self._run("length", "")  # in a cluster, leads to the node of the keys
        place, count = encoded(f"{self._prefix}of:"), 0
        async for names in self._pages():
            sets = [name for name in names if name.startswith(place)]
            for partition in [decoded(name[len(place) :]) for name in sets]:
                if partition.startswith(prefix):
                    count += await self._drop(partition)
            # Then what is in no partition any more: those that the server has evicted.
            lone = [name for name in names if not name.startswith(place)]
            for start in range(0, len(lone), _SWEPT):
                count += await self._run("sweep", "", prefix, *lone[start : start + _SWEPT])
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

    def _script(self, operation: Placing) -> Script:
        return placing(operation)

    async def _run(self, operation: Placing, partition: str, *words: str | bytes) -> Any:
        given = [partition, _word(partition), *words]
        return await self._links.get().run(self._script(operation), [self._prefix], given)

    async def _holds(self, partition: str, length: int) -> bool:
        """Whether there are vectors in the partition.

        Raises:
            ValueError: If they have another length.
        """
        there = int(await self._run("length", partition))
        if there not in (0, length):
            raise _other_length("nearest", length, there)
        return there == length

    async def _search(
        self, partition: str, length: int, data: bytes, count: int
    ) -> tuple[list[tuple[bytes, float]], int]:
        """The names of the nearest and how far they are, and how many others have just ended.

        An index that is not there although vectors are has been dropped by somebody: it is made
        anew, and the server fills it in the background.
        """
        word = _word(partition)
        words = question(self._index(length), word, data, count)
        for last in (False, True):
            try:
                return found(await self._links.get().command(b"FT.SEARCH", *words), word)
            except StoreUnavailableError as error:
                if not is_missing(error):
                    raise cannot_search(error) or error from error
            self._made.discard(length)
            if last or int(await self._run("length", partition)) != length:
                break
            await self._make(length)
        return [], 0

    async def _make(self, length: int) -> None:
        """Have the server index vectors of this length."""
        index, place = self._index(length), self._place(length)
        words = creation(index, place, length, self.algorithm)
        try:
            await self._links.get().command(b"FT.CREATE", *words)
        except StoreUnavailableError as error:
            if not is_there(error):
                raise cannot_search(error) or error from error
        self._made.add(length)

    async def _drop(self, partition: str) -> int:
        """Forget the vectors that a partition has now; how many."""
        count, left = await self._run("drop", partition, str(_DROPPED))
        for _ in range(math.ceil(left / _DROPPED)):
            count += (await self._run("drop", partition, str(_DROPPED)))[0]
        return int(count)

    async def _pages(self) -> AsyncIterator[list[bytes]]:
        """The names of all that is kept, as a scan finds them; one may come twice."""
        matching, cursor = pattern(self._prefix), b"0"
        while True:
            words = [cursor, b"MATCH", matching, b"COUNT", b"%d" % _SCANNED]
            cursor, names = await self._links.get().scan(b"SCAN", *words)
            if names:
                yield names
            if cursor == b"0":
                return

    def _index(self, length: int) -> bytes:
        return encoded(f"{self._prefix}{length}")

    def _place(self, length: int) -> bytes:
        return encoded(f"{self._prefix}{length}:")


def _word(partition: str) -> bytes:
    """A partition as a word, which begins with a letter and needs no escapes in a query."""
    return b"p" + blake2b(encoded(partition), digest_size=20).hexdigest().encode()


def _directed(operation: str, vector: Sequence[float]) -> bytes:
    """Where a vector points, as the server has it: of length 1, in 32-bit floats.

    Raises:
        ValueError: If it points nowhere.
    """
    size = math.hypot(*vector)
    if size == math.inf:  # of large coordinates, unless one is infinite
        vector = [each / _LARGE for each in vector]
        size = math.hypot(*vector)
    if not 0.0 < size < math.inf:
        raise ValueError(
            f"RedisVectors.{operation}: a vector of {len(vector)} coordinates and of length {size} "
            "points nowhere; give finite coordinates that are not all 0."
        )
    data = array("f", [each / size for each in vector])
    if sys.byteorder == "big":
        data.byteswap()
    return data.tobytes()


def _other_length(operation: str, given: int, there: int) -> ValueError:
    return ValueError(
        f"RedisVectors.{operation}: the vector has {given} coordinates, and those of its partition "
        f"have {there}; another model needs a partition of its own."
    )


def redis_vectors(
    url: str | Secret,
    *,
    namespace: str = "lamella",
    algorithm: Algorithm = "flat",
    timeout: float | timedelta = 0.25,
    rest: float | timedelta = 2.0,
) -> GuardedVectors:
    """Vectors in Redis or Valkey, and no long waits while it is out: the store `redis_vectors`.

    Args:
        url: As for `RedisVectors`.
        namespace: As for `RedisVectors`.
        algorithm: As for `RedisVectors`.
        timeout: Seconds, or a timedelta, that an operation may take; erasing has half a minute.
        rest: Seconds, or a timedelta, between the tries while the server is out: after five
            operations that failed in a row.

    Raises:
        ConfigurationError: If an option is wrong, or a URL has a password in it.
    """
    index = RedisVectors(
        url,
        namespace=namespace,
        algorithm=algorithm,
        timeout=at_least(timeout),
        connect_timeout=at_least(timeout),
    )
    asking = Asking(
        "The vector index RedisVectors",
        "nothing similar is found",
        timeout=_span("timeout", timeout),
        rest=_span("rest", rest),
        monotonic=time.monotonic,  # noqa: TID251 - the real port's clock
        quoting=False,
    )
    return GuardedVectors(index, asking)


def _span(option: str, given: float | timedelta) -> float:
    span = seconds(given)
    if is_number(span) and 0 < span < math.inf:
        return float(span)
    raise ConfigurationError(
        f"redis_vectors({option}={given!r}): give seconds above 0, or a timedelta."
    )
