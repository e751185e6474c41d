"""The vectors of what is kept in one store, as one process sees them.

Where the index is in memory and the store is not, the index is a mirror of the store: what was kept
by an earlier process, or is kept by others, is read from there. It is done partition by partition,
when one is asked about, in the background.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import anyio
import anyio.lowlevel
import attrs

from lamella import (
    ClosedError,
    Context,
    Near,
    StoreUnavailableError,
    VectorIndex,
    Waiter,
)
from lamella._fork_locks import fork_safe_lock
from lamella._kept_answers import KeptAnswers
from lamella_middlewares.semantic_cache._places import Places, within

EVERY: Final = 5.0
"""Seconds after which what others have kept is looked for again, in a partition that is in use."""

SHARE: Final = 20.0
"""How many times as long as looking took nobody looks again, if that is longer."""

FIRST_SECONDS: Final = 0.5
"""How long a question may wait for the first look into its partition."""

_MOST_KEYS: Final = 20_000  # of one partition that are mirrored
_MOST: Final = 100_000  # of all partitions, and partitions, that are remembered: some 40 MB
_CHUNK: Final = 32  # answers that are read before others have their turn
_STUCK: Final = 120.0  # seconds after which a look counts as dead: its loop has ended


@attrs.frozen
class _Known:
    """A vector that the index has: when it expires, and how many coordinates it has."""

    until: float
    length: int


@attrs.define(eq=False)
class _Part:
    """What of the store is known of one partition.

    Attributes:
        keys: What the index has, by address.
        due: When to look again.
        busy: Since when somebody looks; None while nobody does.
        seen: Whether somebody has looked.
        waiting: Who waits for the first look.
    """

    keys: dict[str, _Known] = attrs.field(factory=dict[str, _Known])
    due: float = -math.inf
    busy: float | None = None
    seen: bool = False
    waiting: list[Waiter] = attrs.field(factory=list[Waiter])


@attrs.frozen
class Where:
    """Where what is kept of one partition can be read.

    Attributes:
        kept: The answers.
        tenant: Whose they are.
        tag: The word by which those of the partition are found.
    """

    kept: KeptAnswers
    tenant: str
    tag: str


class Shelf:
    """An index of what is kept in one store; it does not hold that.

    Args:
        index: The vectors.
        given: What the index was made of, which is held with it.
        near: Whether nobody ever waits for the store.
        monotonic: The clock, in seconds.

    Attributes:
        near: Whether nobody ever waits for the store.
        own: Whether the index knows only what this process has put there; what another one says is
            to be checked.
        mirrors: Whether the index is to hold what is in the store.
    """

    def __init__(
        self, index: VectorIndex, *, given: Any, near: bool, monotonic: Callable[[], float]
    ) -> None:
        self._places = Places(index)
        self._given = given
        self.near = near
        self.own = self._places.own
        self.mirrors = self.own and not near
        self._monotonic = monotonic
        self._lock = fork_safe_lock()
        self._parts: OrderedDict[str, _Part] = OrderedDict()  # the longest unused first
        self._keys = 0

    # --- using it ----------------------------------------------------------------------------

    async def nearest(
        self, partition: str, vector: Sequence[float], *, most: int, at_least: float
    ) -> Sequence[Near]:
        """The nearest of a partition, `most` at most; see `Places.nearest`."""
        return await self._places.nearest(partition, vector, most=most, at_least=at_least)

    async def add(
        self, partition: str, address: str, vector: Sequence[float], *, ttl: float | None
    ) -> None:
        """Keep a vector; see `Places.add`."""
        await self._places.add(partition, address, vector, ttl=ttl)
        if self.mirrors:
            length = len(vector)
            until = math.inf if ttl is None else self._monotonic() + ttl
            with self._lock:
                known = self._know(self._part(partition), address, _Known(until, length))
            if known is not None and known.length != length:
                await self._places.remove(partition, address, known.length)

    async def remove(self, partition: str, address: str, length: int) -> None:
        """Forget a vector of so many coordinates, whose answer is gone."""
        if self.mirrors:
            with self._lock:
                self._unknow(self._part(partition), address)
        await self._places.remove(partition, address, length)

    async def purge(self, prefix: str) -> None:
        """Forget all vectors of the partitions that begin so; see `Places.purge`."""
        with self._lock:
            for name in [name for name in self._parts if name.startswith(prefix)]:
                self._keys -= len(self._parts.pop(name).keys)
        await self._places.purge(prefix)

    # --- mirroring ---------------------------------------------------------------------------

    def look(self, context: Context, partition: str, where: Where) -> None:
        """Have somebody look for what others have kept, if it is time; returns at once.

        Args:
            context: Of the call that asks about the partition.
            partition: Which.
            where: Where what is kept of it can be read.
        """
        if not self.mirrors:
            return
        now = self._monotonic()
        with self._lock:
            part = self._part(partition)
            stuck = part.busy is not None and now - part.busy > _STUCK
            if now < part.due or (part.busy is not None and not stuck):
                return
            part.busy = now
        try:
            context.background.spawn(self._mirror, partition, part, where, name="semantic_cache")
        except ClosedError:  # the pipeline closes: this call is among its last
            self._over(part, now)

    async def ready(self, context: Context, partition: str) -> None:
        """Wait for the first look into a partition, but not for long.

        Raises:
            ClosedError: If the pipeline closes meanwhile.
        """
        if not self.mirrors:
            return
        with self._lock:
            part = self._part(partition)
            if part.seen or part.busy is None:
                return
            waiter = Waiter()
            part.waiting.append(waiter)
        bound = min(FIRST_SECONDS, max(context.left(), 0.0) / 2)
        with anyio.move_on_after(bound):
            await context.wait(waiter.wait, what="reading what was kept")

    async def _mirror(self, partition: str, part: _Part, where: Where) -> None:
        began = self._monotonic()
        try:
            with suppress(StoreUnavailableError):  # logged by its guard, and tried again later
                await self._read(partition, part, where)
        finally:
            self._over(part, began)

    async def _read(self, partition: str, part: _Part, where: Where) -> None:
        now = self._monotonic()
        with self._lock:
            before = dict(part.keys)
        found: dict[str, float] = {}
        complete = True
        async for info in where.kept.infos(tenant=where.tenant, tag=where.tag):
            if not within(info.key, partition):
                continue  # a caller's own tag is the same word
            found[info.key] = math.inf if info.expires_in is None else now + info.expires_in
            if len(found) >= _MOST_KEYS:
                complete = False
                break
        if complete:
            for address in before.keys() - found.keys():
                await self.remove(partition, address, before[address].length)
        # What was kept anew has the same vector, and lives longer.
        new = [
            address
            for address, until in found.items()
            if address not in before or until > before[address].until + 1
        ]
        for start in range(0, len(new), _CHUNK):
            await self._take(partition, new[start : start + _CHUNK], found, where.kept)
            await anyio.lowlevel.checkpoint()

    async def _take(
        self,
        partition: str,
        addresses: Sequence[str],
        until: Mapping[str, float],
        kept: KeptAnswers,
    ) -> None:
        for address, found in (await kept.get_many(addresses)).items():
            vector = () if found.answer is None else found.answer.vector
            if not vector:
                continue
            ttl = until[address] - self._monotonic()
            with suppress(StoreUnavailableError):  # it is damaged
                await self.add(partition, address, vector, ttl=None if ttl == math.inf else ttl)

    def _over(self, part: _Part, began: float) -> None:
        now = self._monotonic()
        with self._lock:
            part.due = now + max(EVERY, SHARE * (now - began))
            part.busy, part.seen = None, True
            waiting, part.waiting = part.waiting, []
        for waiter in waiting:
            waiter.wake()

    # --- under the lock ----------------------------------------------------------------------

    def _part(self, partition: str) -> _Part:
        part = self._parts.get(partition)
        if part is None:
            part = self._parts[partition] = _Part()
            while len(self._parts) + self._keys > _MOST and len(self._parts) > 1:
                _, oldest = self._parts.popitem(last=False)
                self._keys -= len(oldest.keys)
        else:
            self._parts.move_to_end(partition)
        return part

    def _know(self, part: _Part, address: str, known: _Known) -> _Known | None:
        """Remember what the index has; what it had there before."""
        before = part.keys.get(address)
        self._keys += before is None
        part.keys[address] = known
        return before

    def _unknow(self, part: _Part, address: str) -> None:
        self._keys -= part.keys.pop(address, None) is not None
