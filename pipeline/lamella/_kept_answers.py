"""Where a layer keeps answers: by tenant and key, in a store that may be out, damaged or foreign.

Nothing here fails a call. What cannot be read is a miss, what cannot be written is not kept, and
both are counted.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lamella._answer_codec import KeptAnswer
from lamella._answer_wrapping import Found, Wrapping
from lamella._blob_pages import blobs, infos
from lamella._errors import ClosedError, StoreUnavailableError
from lamella._fleet_counts import FleetCounts
from lamella._held_answers import HeldAnswer, held
from lamella._keepable import replayed, why_not_kept
from lamella._memory_blobs import MemoryBlobs
from lamella._packing import Packer
from lamella._ports import Ports, default_ports
from lamella._stores import Blob, BlobInfo, BlobStore
from lamella._tally import CacheStats, Tally

if TYPE_CHECKING:
    from lamella._background import Background

__all__ = [
    "CacheStats",
    "Found",
    "KeptAnswers",
    "Tally",
    "replayed",
    "why_not_kept",
]

T = TypeVar("T")

logger = logging.getLogger("lamella")

_ABSENT: Final = Found(None, "absent")
_UNAVAILABLE: Final = Found(None, "unavailable")
_NO_TAGS: Final[frozenset[str]] = frozenset()
_MOST_TENANTS: Final = 1024
_NOTHING_THERE: Final = frozenset({"absent", "unavailable"})


class KeptAnswers:
    """The answers that a layer keeps in one store and namespace.

    Args:
        layer: The layer's name, the first word of every key.
        namespace: The second one: another one sees nothing of these.
        store: Where they are kept.
        packer: How they are packed.
        tally: What counts; None is one of its own.
        ports: Clock, ids and threads; None are the system's.

    Attributes:
        near: Whether nobody ever waits for the store.
        tally: What has been counted, by this process.
    """

    __slots__ = (
        "_base",
        "_layer",
        "_memory",
        "_own",
        "_packer",
        "_ports",
        "_stats",
        "_store",
        "_tenants",
        "_unpacked",
        "_wrapping",
        "near",
        "tally",
    )

    def __init__(
        self,
        layer: str,
        namespace: str,
        store: BlobStore,
        packer: Packer,
        *,
        tally: Tally | None = None,
        ports: Ports | None = None,
    ) -> None:
        # Colons separate: one of the namespace's own would make two namespaces meet.
        name = namespace.replace("%", "%25").replace(":", "%3A") if namespace else ""
        self._layer = layer
        self._base = f"{layer}:{name}:"
        self._stats = f"{layer}.stats:{name}:"
        self._store = store
        self.near = bool(getattr(store, "instant", False))
        # Of this very class: another one, or one made from it, is asked as any store is.
        self._memory: MemoryBlobs | None = store if type(store) is MemoryBlobs else None
        self._packer = packer
        self._unpacked = None if self._memory is None else packer.unpacked
        self._ports = ports or default_ports()
        self._wrapping = Wrapping(packer, self._ports.thread)
        self._own = f":{self._wrapping.form}:"
        self._tenants: dict[str, tuple[str, frozenset[str]]] = {}
        self.tally = Tally() if tally is None else tally

    def address(self, tenant: str, key: str) -> str:
        """The store's key of an answer: `LAYER:NAMESPACE:DIGEST OF THE TENANT:FORM:KEY`.

        The form is that of this version and packing: others that use the store keep theirs beside.
        """
        return (self._tenants.get(tenant) or self._learn(tenant))[0] + key

    def _learn(self, tenant: str) -> tuple[str, frozenset[str]]:
        """What its addresses begin with, and its tag: both are digests, and asked for each time."""
        found = f"{self.prefix(tenant)[:-1]}{self._own}", frozenset({self._of_tenant(tenant)})
        if len(self._tenants) >= _MOST_TENANTS:
            self._tenants.clear()
        self._tenants[tenant] = found
        return found

    def prefix(self, tenant: str | None = None) -> str:
        """What all addresses begin with, or all of a tenant, whoever has written what is there."""
        return self._base if tenant is None else f"{self._base}{self._packer.digest(tenant)}:"

    # --- reading -------------------------------------------------------------------------------

    async def get(self, address: str, *, counted: bool = True) -> Found:
        """What is kept there. Never raises; what cannot be read is deleted.

        Args:
            address: Where.
            counted: Whether it is a miss if there is nothing: not where no call has asked.
        """
        found = self.look(address, counted=counted)
        return await found if isinstance(found, Coroutine) else found

    def look(self, address: str, *, counted: bool = True) -> Found | Coroutine[Any, Any, Found]:
        """Likewise, without being awaited where what is found is at hand."""
        if self._memory is None:
            return self._asked(address, counted=counted)
        there = self._memory.get_now(address)
        if there is None:
            if counted:
                self.tally.miss("absent")
            return _ABSENT
        kept, age = there
        if kept.__class__ is HeldAnswer:
            return Found(kept.at(age), "", kept)
        return self._asked(address, (kept, age), counted=counted)

    async def _asked(
        self, address: str, there: tuple[Any, float] | None = None, *, counted: bool
    ) -> Found:
        """What a store says, or what was `there` in memory in some form."""
        try:
            if there is None:
                blob = await self._store.get(address)
            else:
                blob = Blob(bytes(there[0]), there[1])
            found = _ABSENT if blob is None else await self._wrapping.opened(address, blob)
        except Exception as error:  # noqa: BLE001 - whatever it is, the call goes on without
            self._failed(error)
            found = _UNAVAILABLE
        if found.answer is None:
            if found is _ABSENT:
                if counted:
                    self.tally.miss("absent")
            else:
                await self._missed({address: found}, counted=counted)
        return found

    async def get_many(
        self, addresses: Sequence[str], *, counted: bool = True
    ) -> Mapping[str, Found]:
        """Likewise of several, in one question; every address has something found."""
        if not addresses:
            return {}
        try:
            blobs = await self._store.get_many(addresses)
            found = {**dict.fromkeys(addresses, _ABSENT), **await self._wrapping.all_opened(blobs)}
        except Exception as error:  # noqa: BLE001 - as above
            self._failed(error)
            found = dict.fromkeys(addresses, _UNAVAILABLE)
        missed = {address: one for address, one in found.items() if one.answer is None}
        await self._missed(missed, counted=counted)
        return found

    async def _missed(self, missed: Mapping[str, Found], *, counted: bool) -> None:
        unreadable: list[str] = []
        for address, found in missed.items():
            if counted:
                self.tally.miss(found.why)
            if found.why not in _NOTHING_THERE:
                self.tally.unreadable(found.why)
                unreadable.append(address)
        await self._delete(unreadable)

    # --- writing -------------------------------------------------------------------------------

    async def put(self, address: str, answer: KeptAnswer, *, ttl: float | None) -> str:
        """Keep an answer. Empty, or why it was not kept.

        Args:
            address: Where.
            answer: What; its tags and tenant are made tags of the store's entry.
            ttl: Seconds until the store may forget it; None for as long as there is room.

        Returns:
            `"formless"` for what has no form, such as an object in `extra`; `"too large"`;
            `"unavailable"`.
        """
        data, why = await self._wrapping.wrapped(address, answer)
        if not why:
            why = await self._put({address: data}, self._tags(answer), ttl)
        self._kept_or_not(len(data), why)
        return why

    def put_now(self, address: str, answer: KeptAnswer, *, ttl: float | None) -> str | None:
        """Likewise, without being awaited; None where `put` has to do it, for it takes a while.

        For stores in memory (`instant`): a callback that nobody waits for costs much less.
        """
        if self._unpacked is not None and self._hold(address, answer, ttl, *self._unpacked):
            return ""
        packed = self._wrapping.wrapped_now(address, answer)
        if packed is None:
            return None
        data, why = packed
        if not why:
            said = _at_once(self._put({address: data}, self._tags(answer), ttl))
            if said is None:
                return None
            why = said
        self._kept_or_not(len(data), why)
        return why

    def _hold(
        self, address: str, answer: KeptAnswer, ttl: float | None, most_text: int, most: int
    ) -> bool:
        """Keep an answer in memory as it is; whether it was."""
        found = held(answer, address, self._wrapping, most_text=most_text, most=most)
        if found is None or self._memory is None:
            return False
        try:
            self._memory.put_now(address, found, ttl=ttl, tags=self._tags(answer))
        except ValueError:
            return False  # as bytes it may be small enough for an entry
        self.tally.stored(found.size)
        return True

    async def put_many(
        self, answers: Mapping[str, KeptAnswer], *, ttl: float | None
    ) -> Mapping[str, str]:
        """Likewise of several with the same time to live: why not, for those that were not."""
        groups: dict[frozenset[str], dict[str, bytes]] = {}
        failed: dict[str, str] = {}
        for address, (data, why) in (await self._wrapping.all_wrapped(answers)).items():
            if why:
                failed[address] = why
                self._kept_or_not(0, why)
            else:
                groups.setdefault(self._tags(answers[address]), {})[address] = data
        for tags, values in groups.items():
            failed.update(await self._put_group(values, tags, ttl))
        return failed

    async def _put_group(
        self, values: Mapping[str, bytes], tags: frozenset[str], ttl: float | None
    ) -> dict[str, str]:
        why = await self._put(values, tags, ttl)
        each = dict.fromkeys(values, why)
        if why == "too large" and len(values) > 1:  # one of them; none of them was put
            each = {
                address: await self._put({address: data}, tags, ttl)
                for address, data in values.items()
            }
        for address, reason in each.items():
            self._kept_or_not(len(values[address]), reason)
        return {address: reason for address, reason in each.items() if reason}

    async def _put(
        self, values: Mapping[str, bytes], tags: frozenset[str], ttl: float | None
    ) -> str:
        try:
            if len(values) == 1:
                for address, data in values.items():
                    await self._store.put(address, data, ttl=ttl, tags=tags)
            else:
                await self._store.put_many(values, ttl=ttl, tags=tags)
        except ValueError:
            return "too large"
        except Exception as error:  # noqa: BLE001 - whatever it is, the call goes on
            self._failed(error)
            return "unavailable"
        return ""

    def _kept_or_not(self, size: int, why: str) -> None:
        if why:
            self.tally.not_stored(why)
        else:
            self.tally.stored(size)

    def _tags(self, answer: KeptAnswer) -> frozenset[str]:
        tenant = answer.tenant
        own = _NO_TAGS
        if tenant is not None:
            own = (self._tenants.get(tenant) or self._learn(tenant))[1]
        return own.union([self._tag(tag) for tag in answer.tags]) if answer.tags else own

    def _tag(self, tag: str) -> str:
        return f"{self._base}tag:{self._packer.digest(tag)}"

    def _of_tenant(self, tenant: str) -> str:
        return f"{self._base}tenant:{self._packer.digest(tenant)}"

    # --- forgetting and listing ----------------------------------------------------------------

    async def delete(self, address: str) -> bool:
        """Forget one; False also if the store does not answer."""
        return await self._delete([address]) > 0

    async def _delete(self, addresses: Iterable[str]) -> int:
        """Forget some, until the store fails to; how many that were."""
        gone = 0
        try:
            for address in addresses:
                gone += await self._store.delete(address)
        except Exception as error:  # noqa: BLE001 - what is left there is unreadable still
            self._failed(error)
        return gone

    async def purge(self, *, tenant: str | None = None, tag: str | None = None) -> int:
        """Forget all of a tenant, of a tag, of a tenant that have the tag, or simply all.

        Raises:
            StoreUnavailableError: If the store does not answer; nothing may be gone.
        """
        prefix, found = self._where(tenant, tag)
        return await self._store.purge(prefix=prefix, tag=found)

    async def listed(
        self, *, tenant: str | None = None, tag: str | None = None
    ) -> AsyncGenerator[tuple[BlobInfo, KeptAnswer | None]]:
        """What is kept, with what it is (None where it cannot be read). Each once.

        Raises:
            StoreUnavailableError: If the store does not answer.
        """
        async with aclosing(blobs(self._store, *self._where(tenant, tag))) as listing:
            async for info, blob in listing:
                yield info, (await self._wrapping.opened(info.key, blob)).answer

    async def infos(
        self, *, tenant: str | None = None, tag: str | None = None
    ) -> AsyncGenerator[BlobInfo]:
        """What is kept in this form, without reading it; something may come more than once.

        Raises:
            StoreUnavailableError: If the store does not answer.
        """
        async with aclosing(infos(self._store, *self._where(tenant, tag))) as listing:
            async for info in listing:
                if self._own in info.key:
                    yield info

    def _where(self, tenant: str | None, tag: str | None) -> tuple[str, str | None]:
        """The prefix and the tag of what belongs to a tenant and has a tag."""
        if tenant is None:
            return self._base, None if tag is None else self._tag(tag)
        if tag is None:
            return self._base, self._of_tenant(tenant)
        return self.prefix(tenant), self._tag(tag)

    # --- counts ----------------------------------------------------------------------------------

    async def stats(self) -> CacheStats:
        """What this process and all others that use the store have counted.

        Others write their counts down every few seconds; those of processes that have ended stay
        for 30 days. Of a store in memory there are no others.

        Raises:
            StoreUnavailableError: If the store does not answer.
        """
        return self.tally.stats if self.near else await self._fleet().total()

    def publish_soon(self, background: Background) -> None:
        """Have this process's counts written where others can read them, if it is time to.

        For layers to call once they have counted: it costs a comparison or two.

        Args:
            background: Where detached work is started.
        """
        if self.near or not self.tally.changed or not self.tally.due(self._ports.monotonic()):
            return
        with suppress(ClosedError):  # the call is among the pipeline's last, and goes on
            background.spawn(self.publish, name=f"{self._layer} counts")

    async def publish(self) -> None:
        """Write this process's counts down, if there are new ones; nothing for stores in memory.

        For layers to call when they are closed. A store that is out is left alone.
        """
        if self.near:
            return
        try:
            await self._fleet().publish()
        except Exception as error:  # noqa: BLE001 - counts are worth nobody's call
            self._failed(error)

    def _fleet(self) -> FleetCounts:
        return FleetCounts(self._stats, self._store, self._packer, self.tally, self._ports)

    def _failed(self, error: Exception) -> None:
        """A store has failed: those that guard one have said so already."""
        if not isinstance(error, StoreUnavailableError):
            _complain(self._store, error)


def _at_once(work: Coroutine[Any, Any, T]) -> T | None:
    """What comes of work that never waits; None if it does, and then it is given up."""
    try:
        work.send(None)
    except StopIteration as end:
        found: T = end.value
        return found
    work.close()
    return None


def _complain(store: object, error: Exception) -> None:
    """Say once of each kind of store and error; not what it says, which may quote what it got."""
    said = type(getattr(store, "store", store)).__name__, type(error).__name__
    if said not in _said and len(_said) < _MOST_SAID:
        _said.add(said)
        logger.warning("The blob store %s failed (%s): nothing is kept or found there.", *said)


_said: set[tuple[str, str]] = set()
_MOST_SAID: Final = 100
