"""Any sequence of operations on the memory store does what a plain model does, however it evicts.

The model keeps a list and looks at all of it each time. For three orders it says itself who goes;
for `tinylfu`, whose estimates it does not repeat, it follows who went, and holds that only as many
did as were counted, and never what had just been put.
"""

from __future__ import annotations

import math
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lamella._eviction_lfu import MOST_USES
from lamella._eviction_tinylfu import TinyLfu
from lamella._memory_blobs import ENTRY_OVERHEAD, TAG_OVERHEAD, MemoryBlobs
from lamella._memory_eviction import EvictionName
from lamella._stores import Blob, BlobInfo

T = TypeVar("T")

LARGEST = 1000
"""Bytes of data that fit an entry without tags, and none with."""

KEYS = st.sampled_from([f"{family}{number}" for family in "abc" for number in range(4)])
PREFIXES = st.sampled_from(["", "a", "b", "c1", "z"])
DATA = st.sampled_from([0, 10, 100, LARGEST]).map(bytes)
TAGS = st.frozensets(st.sampled_from(["x", "y"]), max_size=2)
TAG = st.sampled_from(["x", "y", "z"])
TTL = st.sampled_from([None, None, 0.0, -1.0, 1.0, 2.0, 8.0])


def now(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of an operation, which never suspends: no loop is needed."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("the operation suspended")


@attrs.define(eq=False)
class Kept:
    """What the model knows of a value."""

    key: str
    data: bytes
    put_at: float
    expires: float
    tags: frozenset[str]
    put: int
    used: int
    uses: int = 1
    rank: int = 1

    @property
    def size(self) -> int:
        tags = sum(TAG_OVERHEAD + len(tag) for tag in self.tags)
        return ENTRY_OVERHEAD + len(self.data) + len(self.key) + tags


class BlobMachine(RuleBasedStateMachine):
    """Random operations on the store and on the model, which must agree after each."""

    eviction: EvictionName = "lru"
    max_bytes = 5 * (ENTRY_OVERHEAD + LARGEST)
    max_entries: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 64.0
        self.store = MemoryBlobs(
            monotonic=lambda: self.seconds,
            max_bytes=self.max_bytes,
            max_entry_bytes=ENTRY_OVERHEAD + LARGEST + 2,
            max_entries=self.max_entries,
            eviction=self.eviction,
        )
        self.kept: list[Kept] = []
        self.steps = self.age = self.evicted = 0

    # --- the model ------------------------------------------------------------------------------

    def alive(self) -> list[Kept]:
        self.kept = [each for each in self.kept if each.expires > self.seconds]
        return self.kept

    def find(self, key: str) -> Kept | None:
        return next((each for each in self.alive() if each.key == key), None)

    def use(self, each: Kept) -> Blob:
        self.steps += 1
        each.used = self.steps
        each.uses = min(each.uses + 1, MOST_USES)
        each.rank = self.age + each.uses
        return Blob(each.data, self.seconds - each.put_at, each.tags)

    def fits(self, new: Kept) -> bool:
        size = sum(each.size for each in self.kept) + new.size
        return size <= self.max_bytes and len(self.kept) < (self.max_entries or math.inf)

    def worst(self) -> Kept:
        if self.eviction == "fifo":
            return min(self.kept, key=lambda each: each.put)
        if self.eviction == "lru":
            return min(self.kept, key=lambda each: each.used)
        worst = min(self.kept, key=lambda each: (each.rank, each.used))
        self.age = worst.rank
        return worst

    def keep(self, new: Kept, old: Kept | None) -> None:
        """Before the store has it: for `tinylfu` the model follows in `follow`."""
        if self.eviction != "tinylfu":
            while not self.fits(new):
                self.kept.remove(self.worst())
                self.evicted += 1
        new.uses = 1 if old is None else min(old.uses + 1, MOST_USES)
        new.rank = self.age + new.uses
        self.kept.append(new)

    def follow(self, new: Kept) -> None:
        there = {each.key for each in now(self.store.entries()).entries}
        assert new.key in there
        gone = [each for each in self.kept if each.key not in there]
        for each in gone:
            self.kept.remove(each)
        self.evicted += len(gone)

    def put_in_model(self, key: str, data: bytes, ttl: float | None, tags: frozenset[str]) -> Any:
        self.steps += 1
        old = self.find(key)
        if old is not None:
            self.kept.remove(old)
        if ttl is not None and ttl <= 0:
            return None
        expires = math.inf if ttl is None else self.seconds + ttl
        new = Kept(key, data, self.seconds, expires, tags, self.steps, self.steps)
        self.keep(new, old)
        return new

    # --- operations -----------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0]))
    def wait(self, seconds: float) -> None:
        self.seconds += seconds

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        found = self.find(key)
        assert now(self.store.get(key)) == (None if found is None else self.use(found))

    @rule(keys=st.lists(KEYS, max_size=4))
    def get_many(self, keys: list[str]) -> None:
        expected = {}
        for key in keys:
            if (found := self.find(key)) is not None:
                expected[key] = self.use(found)
        assert now(self.store.get_many(keys)) == expected

    @rule(key=KEYS, data=DATA, ttl=TTL, tags=TAGS)
    def put(self, key: str, data: bytes, ttl: float | None, tags: frozenset[str]) -> None:
        if len(data) == LARGEST and tags:
            with pytest.raises(ValueError, match="above max_entry_bytes"):
                now(self.store.put(key, data, ttl=ttl, tags=tags))
            return
        new = self.put_in_model(key, data, ttl, tags)
        now(self.store.put(key, data, ttl=ttl, tags=tags))
        if new is not None and self.eviction == "tinylfu":
            self.follow(new)

    @rule(values=st.dictionaries(KEYS, DATA, max_size=4), ttl=TTL, tags=TAGS)
    def put_many(
        self, values: Mapping[str, bytes], ttl: float | None, tags: frozenset[str]
    ) -> None:
        if tags and any(len(data) == LARGEST for data in values.values()):
            with pytest.raises(ValueError, match="above max_entry_bytes"):
                now(self.store.put_many(values, ttl=ttl, tags=tags))
            return
        new = None
        for key, data in values.items():
            new = self.put_in_model(key, data, ttl, tags)
        now(self.store.put_many(values, ttl=ttl, tags=tags))
        if new is not None and self.eviction == "tinylfu":
            self.follow(new)
            # What went before it would have been replaced is missing from the model's count.
            assert 0 <= self.store.evicted - self.evicted < len(values)
            self.evicted = self.store.evicted

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        found = self.find(key)
        if found is not None:
            self.kept.remove(found)
        assert now(self.store.delete(key)) == (found is not None)

    @rule(tag=TAG)
    def tagged(self, tag: str) -> None:
        found = [each for each in self.alive() if tag in each.tags]
        expected = {each.key: self.use(each) for each in sorted(found, key=lambda each: each.put)}
        assert now(self.store.tagged(tag)) == expected

    @rule(prefix=PREFIXES, tag=st.one_of(st.none(), TAG))
    def purge(self, prefix: str, tag: str | None) -> None:
        found = self.matching(prefix, tag)
        self.kept = [each for each in self.kept if each not in found]
        assert now(self.store.purge(prefix=prefix, tag=tag)) == len(found)

    @rule(prefix=PREFIXES, tag=st.one_of(st.none(), TAG))
    def entries(self, prefix: str, tag: str | None) -> None:
        """A listing says what there is, and uses nothing."""
        page = now(self.store.entries(prefix=prefix, tag=tag))
        expected = [
            BlobInfo(
                each.key,
                len(each.data),
                self.seconds - each.put_at,
                None if each.expires == math.inf else each.expires - self.seconds,
                each.tags,
            )
            for each in sorted(self.matching(prefix, tag), key=lambda each: each.put)
        ]
        assert (list(page.entries), page.cursor) == (expected, "")

    def matching(self, prefix: str, tag: str | None) -> list[Kept]:
        return [
            each
            for each in self.alive()
            if each.key.startswith(prefix) and (tag is None or tag in each.tags)
        ]

    # --- what always holds ----------------------------------------------------------------------

    @invariant()
    def bounds_are_kept(self) -> None:
        """Neither bytes nor entries are ever more than there is room for."""
        assert self.store.size <= self.max_bytes
        assert self.store.count <= (self.max_entries or math.inf)
        assert self.store.size == sum(each.size for each in self.store._entries.values())

    @invariant()
    def what_went_is_counted(self) -> None:
        """Nothing goes but by an operation, by its time, or to make room."""
        assert self.store.evicted == self.evicted

    @precondition(lambda self: self.eviction == "tinylfu")
    @invariant()
    def parts_add_up(self) -> None:
        """Each entry is in one part, and the parts know their sizes and keep to their shares."""
        eviction = self.store._eviction
        assert isinstance(eviction, TinyLfu)
        parts = (eviction._window, eviction._probation, eviction._protected)
        assert sum(part.size for part in parts) == self.store.size
        assert sum(len(part.entries) for part in parts) == self.store.count == eviction._kept
        for part in parts:
            assert part.size == sum(each.size for each in part.entries.values())
            assert not part.over() or len(part.entries) == 1


class LruFewMachine(BlobMachine):
    """Bounded in number."""

    max_entries = 3


class FifoMachine(BlobMachine):
    """First in, first out."""

    eviction = "fifo"


class LfuMachine(BlobMachine):
    """The least frequently used, with ageing."""

    eviction = "lfu"


class TinyMachine(BlobMachine):
    """W-TinyLFU, bounded in bytes."""

    eviction = "tinylfu"


class TinyFewMachine(BlobMachine):
    """W-TinyLFU, bounded in number."""

    eviction = "tinylfu"
    max_entries = 4


SETTINGS = settings(max_examples=60, stateful_step_count=40, deadline=None, database=None)

BlobMachine.TestCase.settings = SETTINGS
LruFewMachine.TestCase.settings = SETTINGS
FifoMachine.TestCase.settings = SETTINGS
LfuMachine.TestCase.settings = SETTINGS
TinyMachine.TestCase.settings = SETTINGS
TinyFewMachine.TestCase.settings = SETTINGS

TestLru = BlobMachine.TestCase
TestLruFew = LruFewMachine.TestCase
TestFifo = FifoMachine.TestCase
TestLfu = LfuMachine.TestCase
TestTiny = TinyMachine.TestCase
TestTinyFew = TinyFewMachine.TestCase
"""The store agrees with the model, however it evicts."""
