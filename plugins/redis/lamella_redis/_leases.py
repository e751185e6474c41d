"""Leases in Redis: the `LeaseStore` port, one script for each decision."""

from __future__ import annotations

import math
import ssl
from collections import OrderedDict
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import attrs

from lamella import (
    ConfigurationError,
    Dimension,
    GuardedLeases,
    Lease,
    Outcome,
    PartHealth,
    Secret,
    StoreUnavailableError,
)
from lamella._fork_locks import fork_safe_lock
from lamella._loops import PerLoop, current_loop
from lamella._options import is_number, optional_seconds, refused, seconds
from lamella._options import span as is_span
from lamella._store_outages import Outage
from lamella_redis._address import Address, url_of
from lamella_redis._limits import MICROSECONDS, Limit, amounts_of, limit_of, read, span, written
from lamella_redis._scripts import Decision, Script, script

KEEP: Final = 30 * 86400.0
"""Seconds for which a total that nobody touches is kept."""

_REMEMBERED: Final = 10_000


def url_given(value: Secret | str | None) -> Secret | str | None:
    """A URL as an option; None if a client is given instead."""
    return None if value is None else url_of(value)


def name_of_keys(store: object, field: attrs.Attribute[Any], value: Any) -> None:
    """Check what all keys of a store begin with."""
    if not isinstance(value, str) or not value or "{" in value or "}" in value:
        raise refused(store, field, value, "a name without braces")


@attrs.define(eq=False)
class RedisLeases:
    """`LeaseStore` in Redis or Valkey: what all processes that share a server share.

    Each decision is one script, atomic on the server and timed by its clock; a repeated one, after
    a lost answer, changes nothing. It counts exactly as the store in memory does, in microseconds
    instead of nanoseconds. An amount and a total may be 2**53 at most; of a rate, the capacity
    times the seconds 2**52, whatever the numbers, and more if they are round.

    Any number of event loops and threads may use it. Each loop has one connection, opened by the
    first command and again when it has failed; `aclose` closes them all, and a later command opens
    one anew.

    By itself it raises `StoreUnavailableError` when the server does not answer: wrap it in
    `GuardedLeases`, or use `redis_leases`, which does.

    Args:
        url: `"env:REDIS_URL"`, `"file:PATH"`, a `Secret`, or a URL without a password:
            `redis://HOST:PORT/DB`, `rediss://` for TLS, `unix://PATH?db=N`; `USER:PASSWORD@` in
            what a reference leads to. Of a cluster, any node.
        client: A client of coredis, `Redis` or `RedisCluster`, instead of a URL: its settings are
            used, not its connections. None uses the URL.
        namespace: What all keys begin with, in braces, so that a cluster keeps them on one node.
            Stores of the same namespace on the same server are the same store.
        ssl_context: For TLS. None verifies the server's certificate and name against the system's
            authorities, unless the URL has `ssl_...` options.
        timeout: Seconds, or a timedelta, for one answer, connecting apart.
        connect_timeout: Seconds, or a timedelta, for connecting.
        remember: Seconds, or a timedelta, for which ended leases are remembered, to answer
            repetitions.
        keep: Seconds, or a timedelta, after which a total that nobody has used is forgotten, so
            that it is whole again, where its dimension does not say (`Dimension.keep`). Rates are
            forgotten when they are full.

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
    remember: float = attrs.field(default=120.0, kw_only=True, converter=seconds, validator=is_span)
    keep: float = attrs.field(default=KEEP, kw_only=True, converter=seconds, validator=is_span)
    _links: PerLoop[Any] = attrs.field(init=False, repr=False)
    _prefix: str = attrs.field(init=False, repr=False)
    _out: OrderedDict[str, tuple[Dimension, ...]] = attrs.field(
        init=False, factory=OrderedDict[str, "tuple[Dimension, ...]"], repr=False
    )
    _lock: Any = attrs.field(init=False, factory=fork_safe_lock, repr=False)

    def __attrs_post_init__(self) -> None:
        """Load the client: that takes a quarter of a second, in which no call should wait."""
        if (self.url is None) == (self.client is None):
            msg = "RedisLeases: give a url, such as 'env:REDIS_URL', or a client."
            raise ConfigurationError(msg)
        from lamella_redis._link import Link

        address = Address(self.url, self.client, self.ssl_context)
        self._prefix = f"{{{self.namespace}}}:"
        self._links = PerLoop(lambda: Link(address, self.timeout, self.connect_timeout))

    async def reserve(self, lease_id: str, dimensions: Sequence[Dimension], *, ttl: float) -> Lease:
        """Reserve all dimensions or none; see `LeaseStore.reserve`.

        Raises:
            ValueError: If `ttl` is not above 0 and finite, the id was used for other dimensions, or
                a dimension is beyond what the server counts exactly.
            StoreUnavailableError: If the server does not answer.
        """
        wanted = tuple(dimensions)
        life = _life(ttl)
        amounts = amounts_of(tuple([each.amount for each in wanted]))
        words = [lease_id, written(wanted), life]
        answer = await self._decide("reserve", words, wanted, amounts)
        if answer[0] == 2:
            raise ValueError(
                f"LeaseStore.reserve: id {lease_id!r} was used for other dimensions; make a fresh "
                "id for each reservation."
            )
        if answer[0] == 1:
            with self._lock:
                self._out[lease_id] = wanted
                if len(self._out) > _REMEMBERED:
                    self._out.popitem(last=False)
            return Lease(granted=True, remaining=_levels(answer[1]))
        wait = int(answer[1])
        return Lease(
            granted=False,
            retry_after=None if wait < 0 else wait / MICROSECONDS,
            refused=wanted[int(answer[2]) - 1],
            remaining=_levels(answer[3]),
        )

    async def settle(self, lease_id: str, amounts: Sequence[int]) -> bool:
        """Replace the reserved amounts by the real ones; see `LeaseStore.settle`."""
        real = tuple(amounts)
        if any(type(amount) is not int or amount < 0 for amount in real):
            raise ValueError(
                f"LeaseStore.settle: amounts {real!r} must be whole numbers, 0 or more."
            )
        dimensions = await self._dimensions(lease_id)
        if dimensions is None:
            return False
        if len(real) != len(dimensions):
            raise ValueError(
                f"LeaseStore.settle: {len(real)} amounts for {len(dimensions)} reserved "
                "dimensions; give one for each, in the order reserved."
            )
        return await self._finish(lease_id, "settled", dimensions, amounts_of(real))

    async def refund(self, lease_id: str) -> bool:
        """Give everything back, as if it had not been reserved. Whether there was such a lease."""
        dimensions = await self._dimensions(lease_id)
        if dimensions is None:
            return False
        return await self._finish(lease_id, "refunded", dimensions, (0,) * len(dimensions))

    async def renew(self, lease_id: str, *, ttl: float) -> bool:
        """Let the lease live `ttl` seconds from now. Whether it was still there."""
        life = _life(ttl)
        dimensions = await self._dimensions(lease_id)
        if dimensions is None:
            return False
        words = [lease_id, "", life]
        answer = await self._decide("renew", words, dimensions, (0,) * len(dimensions))
        return bool(answer[0] == 1)

    async def level(self, dimension: Dimension) -> int:
        """What could be reserved of the dimension now; negative while in debt."""
        (left,) = await self._decide("level", ["", "", ""], (dimension,), (0,))
        return int(left)

    async def now(self) -> float:
        """The server's clock; see `LeaseStore.now`."""
        answer = await self._link().run(self._script("now"), [self._lease_key("")], [])
        if not isinstance(answer, bytes):
            raise _no_answer()
        return int(answer) / MICROSECONDS

    async def health(self) -> PartHealth:
        """Whether the server answers now."""
        try:
            await self._link().ping()
        except StoreUnavailableError as error:
            return PartHealth(well=False, detail={"error": error.message})
        return PartHealth(well=True)

    async def aclose(self) -> None:
        """Close the connections of all loops."""
        here, links = current_loop(), self._links.items()
        for loop, link in links:
            if loop is not here:
                loop.call_soon(link.cancel)
        for loop, link in links:
            if loop is here:
                await link.aclose()

    # --- commands ----------------------------------------------------------------------------

    def _link(self) -> Any:
        return self._links.get()

    def _script(self, decision: Decision) -> Script:
        return script(decision)

    async def _finish(
        self, lease_id: str, ending: str, dimensions: tuple[Dimension, ...], used: tuple[int, ...]
    ) -> bool:
        words = [lease_id, ending, span(self.remember)]
        answer = await self._decide("finish", words, dimensions, used)
        with self._lock:
            self._out.pop(lease_id, None)
        return bool(answer[0] == 1)

    async def _decide(
        self,
        decision: Decision,
        words: list[str],
        dimensions: tuple[Dimension, ...],
        amounts: tuple[int, ...],
    ) -> Any:
        keys = [self._lease_key(words[0])]
        given = list(words)
        for dimension, amount in zip(dimensions, amounts, strict=True):
            limit = self._limit(dimension)
            keys += (limit.hash, limit.set)
            keep = self.keep if dimension.keep is None else dimension.keep
            given += (str(amount), *limit.words, "1" if dimension.held else "0", span(keep))
        answer: list[Any] | None = await self._link().run(self._script(decision), keys, given)
        if not isinstance(answer, list):
            raise _no_answer()
        return answer

    async def _dimensions(self, lease_id: str) -> tuple[Dimension, ...] | None:
        """What a lease reserved; the server is asked if another process reserved it."""
        with self._lock:
            known = self._out.get(lease_id)
        if known is not None:
            return known
        found = await self._link().field(self._lease_key(lease_id), "words")
        return None if found is None else read(found)

    def _lease_key(self, lease_id: str) -> str:
        return f"{self._prefix}lease:{lease_id}"

    def _limit(self, dimension: Dimension) -> Limit:
        return limit_of(self._prefix, dimension.key, dimension.capacity, dimension.per)


def _no_answer() -> StoreUnavailableError:
    return StoreUnavailableError("Redis: the answer is none of a script.", outcome=Outcome.UNKNOWN)


def _levels(answer: bytes | str) -> tuple[int, ...]:
    return tuple([int(level) for level in answer.split()])


def _life(ttl: float) -> str:
    if not 0 < ttl < math.inf:
        raise ValueError(
            f"LeaseStore: ttl {ttl!r} must be above 0 and finite: the seconds after which a lease "
            "whose holder has died is refunded."
        )
    return span(ttl)


def at_least(timeout: float | timedelta | None, least: float = 1.0) -> float:
    """What the store itself waits: no less than its guard, which refuses what makes no sense.

    A guard that is not told how long waits no more than a second.
    """
    given = optional_seconds(timeout)
    return max(least, given) if given is not None and is_number(given) else least


def redis_leases(  # noqa: PLR0913 - options of a file
    url: str | Secret,
    *,
    namespace: str = "lamella",
    outage: Outage = "local",
    processes: int = 1,
    timeout: float | timedelta | None = None,
    rest: float | timedelta = 2.0,
    keep: float | timedelta = KEEP,
) -> GuardedLeases:
    """Limits in Redis or Valkey, and what happens to them while it is out: the store `redis`.

    Args:
        url: As for `RedisLeases`.
        namespace: As for `RedisLeases`.
        outage: As for `GuardedLeases`.
        processes: As for `GuardedLeases`.
        timeout: As for `GuardedLeases`.
        rest: As for `GuardedLeases`.
        keep: As for `RedisLeases`.

    Raises:
        ConfigurationError: If an option is wrong, or a URL has a password in it.
    """
    store = RedisLeases(
        url,
        namespace=namespace,
        timeout=at_least(timeout),
        connect_timeout=at_least(timeout),
        keep=keep,
    )
    return GuardedLeases(store, outage=outage, processes=processes, timeout=timeout, rest=rest)
