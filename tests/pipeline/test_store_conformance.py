"""The conformance suites pass the memory stores and name the rule that a broken store breaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio.lowlevel
import attrs
import pytest

from lamella._errors import MisuseError
from lamella._memory_blobs import MemoryBlobs
from lamella._memory_buckets import Bucket
from lamella._memory_leases import MemoryLeases
from lamella._memory_stores import memory_stores
from lamella._stores import Blob, BlobInfo, BlobPage, Dimension, Lease, LeaseStore
from lamella.testing._blob_conformance import check_blob_store
from lamella.testing._lease_conformance import check_lease_store

pytestmark = pytest.mark.anyio


@attrs.define
class ManualClock:
    """A monotonic clock that a test moves."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds

    def wall(self) -> float:
        """The wall clock, which goes with it."""
        return 1_700_000_000.0 + self.seconds


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still until it is moved."""
    return ManualClock()


def memory_leases(clock: ManualClock) -> LeaseStore:
    """The leases in memory, on this clock."""
    return memory_stores(monotonic=clock, wall=clock.wall).leases


class TestConformance:
    async def test_memory_blobs_conform(self, clock: ManualClock) -> None:
        """The blobs keep every rule of the port."""
        await check_blob_store(lambda: memory_stores(monotonic=clock).blobs, clock.advance)

    async def test_memory_leases_conform(self, clock: ManualClock) -> None:
        """The leases keep every rule of the port."""
        await check_lease_store(lambda: memory_leases(clock), clock.advance)

    async def test_make_and_advance_may_be_asynchronous(self, clock: ManualClock) -> None:
        """A store may take a round trip to be made, and its clock one to be moved."""

        async def make() -> LeaseStore:
            await anyio.lowlevel.checkpoint()
            return memory_leases(clock)

        async def advance(seconds: float) -> None:
            await anyio.lowlevel.checkpoint()
            clock.advance(seconds)

        await check_lease_store(make, advance)

    async def test_without_advance_time_is_left_out(self, clock: ManualClock) -> None:
        """A store whose clock stands still passes the rules that are not about time."""
        await check_blob_store(lambda: memory_stores(monotonic=clock).blobs)
        await check_lease_store(lambda: memory_stores(monotonic=clock).leases)


class GrantsInPart(MemoryLeases):
    """Keeps the dimensions before the one that stood in the way."""

    async def reserve(self, lease_id: str, dimensions: Sequence[Dimension], *, ttl: float) -> Lease:
        lease = await super().reserve(lease_id, dimensions, ttl=ttl)
        if not lease.granted and dimensions[0] != lease.refused:
            await super().reserve(lease_id + "+", dimensions[:1], ttl=ttl)
        return lease


class ReservesAnew(MemoryLeases):
    """Takes a repeated reserve for a new one."""

    async def reserve(self, lease_id: str, dimensions: Sequence[Dimension], *, ttl: float) -> Lease:
        if lease_id in self._held:
            return await super().reserve(lease_id + "'", dimensions, ttl=ttl)
        return await super().reserve(lease_id, dimensions, ttl=ttl)


class GivesBackTwice(MemoryLeases):
    """Refunds what has flowed back already: a second burst."""

    async def refund(self, lease_id: str) -> bool:
        held = self._held.get(lease_id)
        for dimension in held.dimensions if held else ():
            await self.level(dimension)
        taken = zip(held.parts, held.dimensions, strict=True) if held else ()
        rates = [
            (part[0], part[0]._shares + dimension.amount * part[0]._unit)
            for part, dimension in taken
            if isinstance(part[0], Bucket)
        ]
        known = await super().refund(lease_id)
        for bucket, shares in rates:
            bucket._shares = min(bucket._full, shares)
        return known


class ForgetsDebt(MemoryLeases):
    """Charges no more than was reserved."""

    async def settle(self, lease_id: str, amounts: Sequence[int]) -> bool:
        held = self._held.get(lease_id)
        if held is not None and len(amounts) == len(held.dimensions):
            amounts = [min(a, d.amount) for a, d in zip(amounts, held.dimensions, strict=True)]
        return await super().settle(lease_id, amounts)


class NeverExpires(MemoryLeases):
    """Keeps the leases of dead holders."""

    async def reserve(self, lease_id: str, dimensions: Sequence[Dimension], *, ttl: float) -> Lease:
        return await super().reserve(lease_id, dimensions, ttl=ttl if not ttl > 0 else ttl * 1e9)


class SplitsTotals(MemoryLeases):
    """Takes a total of another capacity for another total."""

    def _take_total(self, dimension: Dimension, now: int) -> Any:
        return super()._take_total(self._split(dimension), now)

    def _level(self, dimension: Dimension, now: int) -> int:
        return super()._level(dimension if dimension.per else self._split(dimension), now)

    @staticmethod
    def _split(dimension: Dimension) -> Dimension:
        return attrs.evolve(dimension, key=(*dimension.key, str(dimension.capacity)))


class KeepsTotals(MemoryLeases):
    """Never forgets what is out of a total."""

    async def reserve(self, lease_id: str, dimensions: Sequence[Dimension], *, ttl: float) -> Lease:
        kept = [attrs.evolve(each, keep=None) for each in dimensions]
        return await super().reserve(lease_id, kept, ttl=ttl)


class KeepsWhatIsLookedAt(MemoryLeases):
    """Takes a look for a use."""

    async def level(self, dimension: Dimension) -> int:
        if dimension.keep is not None:
            name = f"look {len(self._ended)}"
            await self.reserve(name, [dimension], ttl=1.0)
            await self.refund(name)
        return await super().level(dimension)


class PurgesAnywhere(MemoryBlobs):
    """Takes a tag for enough."""

    async def purge(self, *, prefix: str = "", tag: str | None = None) -> int:
        return await super().purge(prefix=prefix if tag is None else "", tag=tag)


class KeepsForEver(MemoryBlobs):
    """Knows no time to live."""

    async def put(
        self, key: str, data: bytes, *, ttl: float | None = None, tags: frozenset[str] = frozenset()
    ) -> None:
        await super().put(key, data, ttl=None if ttl is not None and ttl > 0 else ttl, tags=tags)


class KeepsOldTags(MemoryBlobs):
    """Finds what had the tag once."""

    async def put(
        self, key: str, data: bytes, *, ttl: float | None = None, tags: frozenset[str] = frozenset()
    ) -> None:
        old = self._entries.get(key)
        await super().put(key, data, ttl=ttl, tags=tags | (old.tags if old else frozenset()))


class FindsTheDead(MemoryBlobs):
    """Finds by tag what has expired."""

    async def tagged(self, tag: str) -> Mapping[str, Blob]:
        now = self._monotonic
        self._monotonic = lambda: now() - 2.0
        try:
            return await super().tagged(tag)
        finally:
            self._monotonic = now


class FindsAFew(MemoryBlobs):
    """Takes the first page for all."""

    async def tagged(self, tag: str) -> Mapping[str, Blob]:
        return dict(list((await super().tagged(tag)).items())[:1000])


class GetsAFew(MemoryBlobs):
    """Answers for as many keys as one question has."""

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, Blob]:
        return await super().get_many(keys[:1000])


class MixesTagsUp(MemoryBlobs):
    """Keeps many values, but the tags with the first only."""

    async def put_many(
        self,
        values: Mapping[str, bytes],
        *,
        ttl: float | None = None,
        tags: frozenset[str] = frozenset(),
    ) -> None:
        await super().put_many(values, ttl=ttl)
        for key in list(values)[:1]:
            await self.put(key, values[key], ttl=ttl, tags=tags)


class ListsAPage(MemoryBlobs):
    """Forgets to say that there is more."""

    async def entries(
        self, *, prefix: str = "", tag: str | None = None, cursor: str = ""
    ) -> BlobPage:
        page = await super().entries(prefix=prefix, tag=tag, cursor=cursor)
        return BlobPage(page.entries)


class ListsByNumber(MemoryBlobs):
    """Goes on at a number of entries, which others have moved meanwhile."""

    async def entries(
        self, *, prefix: str = "", tag: str | None = None, cursor: str = ""
    ) -> BlobPage:
        found = [
            BlobInfo(key, len(bytes(entry.data)), 0.0, None, entry.tags)
            for key, entry in sorted(self._entries.items())
            if key.startswith(prefix) and (tag is None or tag in entry.tags)
        ]
        start = int(cursor or 0)
        return BlobPage(
            found[start : start + 300], str(start + 300) if start + 300 < len(found) else ""
        )


class TakesAnyCursor(MemoryBlobs):
    """Begins anew where it does not know where it was."""

    async def entries(
        self, *, prefix: str = "", tag: str | None = None, cursor: str = ""
    ) -> BlobPage:
        try:
            return await super().entries(prefix=prefix, tag=tag, cursor=cursor)
        except ValueError:
            return await super().entries(prefix=prefix, tag=tag)


class ListsTheDead(MemoryBlobs):
    """Lists what has expired."""

    async def entries(
        self, *, prefix: str = "", tag: str | None = None, cursor: str = ""
    ) -> BlobPage:
        now = self._monotonic
        self._monotonic = lambda: now() - 2.0
        try:
            return await super().entries(prefix=prefix, tag=tag, cursor=cursor)
        finally:
            self._monotonic = now


class TestConformanceFinds:
    @pytest.mark.parametrize(
        ("broken", "rule"),
        [
            (GrantsInPart, "A refusal takes nothing"),
            (ReservesAnew, "A repeated reserve takes nothing more"),
            (GivesBackTwice, "What has flowed back already is not given back again"),
            (ForgetsDebt, "takes what was used beyond the lease"),
            (SplitsTotals, "What does not flow back is one thing"),
            (KeepsTotals, "A total is whole again when nobody has used it"),
            (KeepsWhatIsLookedAt, "A total is whole again when nobody has used it"),
            (NeverExpires, "A lease that is not settled in time counts as refunded"),
        ],
    )
    async def test_broken_leases(
        self, clock: ManualClock, broken: type[MemoryLeases], rule: str
    ) -> None:
        """A lease store that breaks a rule is told which."""
        with pytest.raises(AssertionError, match=rule):
            await check_lease_store(
                lambda: broken(monotonic=clock, max_buckets=100, wall=clock.wall), clock.advance
            )

    @pytest.mark.parametrize(
        ("broken", "rule"),
        [
            (PurgesAnywhere, "A purge by prefix and tag"),
            (KeepsForEver, "After its time to live a value is absent"),
            (KeepsOldTags, "A put replaces the value and the tags"),
            (FindsTheDead, "By a tag come only values that have not expired"),
            (FindsAFew, "Of many values with one tag"),
            (GetsAFew, "Of more values than one question has"),
            (MixesTagsUp, "Many values are kept as each would be"),
            (ListsAPage, "Of more values than one question has"),
            (ListsByNumber, "What is there from the first page to the last"),
            (TakesAnyCursor, "A cursor that no page had"),
            (ListsTheDead, "Of many values only those come and are listed"),
        ],
    )
    async def test_broken_blobs(
        self, clock: ManualClock, broken: type[MemoryBlobs], rule: str
    ) -> None:
        """A blob store that breaks a rule is told which."""

        def make() -> MemoryBlobs:
            return broken(monotonic=clock, max_bytes=2**21, max_entry_bytes=2**20)

        with pytest.raises(AssertionError, match=rule):
            await check_blob_store(make, clock.advance)

    async def test_an_error_says_the_rule(self, clock: ManualClock) -> None:
        """What a store raises of itself passes through, with the rule noted on it."""

        class Refuses(MemoryLeases):
            async def refund(self, lease_id: str) -> bool:
                raise MisuseError("never")

        with pytest.raises(MisuseError) as caught:
            await check_lease_store(lambda: Refuses(monotonic=clock, max_buckets=9), clock.advance)
        assert caught.value.__notes__
