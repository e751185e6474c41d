"""Each order of eviction keeps what it is chosen for, and the same in every process."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
import threading
import tracemalloc
from bisect import bisect
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from itertools import accumulate, islice
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella._errors import ConfigurationError
from lamella._eviction_lfu import MOST_USES, LeastOften
from lamella._frequency_sketch import HIGHEST, FrequencySketch, spot_of
from lamella._memory_blobs import ENTRY_OVERHEAD, MemoryBlobs
from lamella._memory_eviction import EVICTIONS, EvictionName
from lamella._memory_stores import MEBIBYTE, memory_blobs, memory_stores
from lamella._named_stores import layer_store
from lamella._stores import BlobInfo
from lamella.testing._blob_conformance import check_blob_store

T = TypeVar("T")

each_order = pytest.mark.parametrize("eviction", EVICTIONS)


def blobs_of(eviction: EvictionName, entries: int, **options: Any) -> MemoryBlobs:
    """Room for so many entries, and a clock that stands still."""
    return MemoryBlobs(
        **{
            "monotonic": lambda: 1000.0,
            "max_bytes": MEBIBYTE * 64,
            "max_entry_bytes": MEBIBYTE,
            "max_entries": entries,
            "eviction": eviction,
            **options,
        }
    )


def now(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of an operation, which never suspends: no loop is needed."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("the operation suspended")


def ask(blobs: MemoryBlobs, key: str, data: bytes = b"") -> bool:
    """Use a key as a cache does: what is not there is put. Whether it was."""
    if now(blobs.get(key)) is not None:
        return True
    now(blobs.put(key, data))
    return False


def listed(blobs: MemoryBlobs) -> list[str]:
    """The keys that are there."""
    return [entry.key for entry in now(blobs.entries()).entries]


def trace(seed: int, *, popular: int = 3_000, scans: float = 0.3) -> Iterator[str]:
    """Keys by Zipf's law with exponent 0.9, and runs of 200 keys that are asked for once."""
    rng = random.Random(seed)
    shares = list(accumulate(1 / (rank + 1) ** 0.9 for rank in range(popular)))
    once = 0
    while True:
        if rng.random() < scans / (1 - scans) / 200:
            for _ in range(200):
                once += 1
                yield f"once {once}"
        yield f"popular {bisect(shares, rng.random() * shares[-1])}"


def hits(eviction: EvictionName, keys: Iterator[str], **options: Any) -> int:
    """How often a key was there."""
    blobs = blobs_of(eviction, 200, **options)
    return sum([ask(blobs, key, b"x" * 1000) for key in keys])


class TestOptions:
    @pytest.mark.parametrize("word", ["LRU", "random", "", None, 5, ["lru"]])
    def test_a_wrong_word_is_told_with_the_right_ones(self, word: Any) -> None:
        """The order is checked when the store is made."""
        for make in (memory_blobs, memory_stores):
            with pytest.raises(ConfigurationError, match="one of 'lru', 'lfu', 'fifo', 'tinylfu'"):
                make(eviction=word)

    @pytest.mark.parametrize("number", [0, -1, 1.5, True, "5"])
    def test_a_number_of_entries_is_a_whole_one(self, number: Any) -> None:
        """A store that keeps nothing is a mistake."""
        with pytest.raises(ConfigurationError, match=r"max_entries=.*1 or more, or None"):
            memory_blobs(max_entries=number)

    @pytest.mark.parametrize("number", [1e9, math.inf, "64 MiB", [], True])
    @pytest.mark.parametrize("bound", ["max_bytes", "max_entry_bytes"])
    def test_bytes_are_a_whole_number(self, bound: str, number: Any) -> None:
        """It is told when the store is made, whatever the order, and not by its inner parts."""
        for eviction in EVICTIONS:
            with pytest.raises(ConfigurationError, match=rf"{bound}=.*: give a whole number"):
                memory_blobs(eviction=eviction, **{bound: number})

    def test_a_small_store_needs_no_second_option(self) -> None:
        """What one entry may take is no more than what all may, unless somebody says so."""
        assert memory_blobs(max_bytes=100_000).size == 0
        with pytest.raises(ValueError, match="no more than max_bytes"):
            memory_blobs(max_bytes=100_000, max_entry_bytes=100_001)

    def test_a_table_names_them(self) -> None:
        """A file can say all of it, and a wrong word there names its place."""
        table = {"use": "memory_blobs", "eviction": "tinylfu", "max_entries": 3}
        store = layer_store("Cache", "blobs", table)
        for number in range(5):
            now(store.put(str(number), b""))
        assert store.count == 3
        with pytest.raises(ConfigurationError, match="eviction"):
            layer_store("Cache", "blobs", {"use": "memory_blobs", "eviction": "random"})


class TestEveryOrder:
    @each_order
    @pytest.mark.anyio
    async def test_it_keeps_the_rules_of_the_port(self, eviction: EvictionName) -> None:
        """Whoever goes first, a store is a store."""
        seconds = [1000.0]

        def advance(by: float) -> None:
            seconds[0] += by

        def make() -> MemoryBlobs:
            return blobs_of(eviction, 2_000, monotonic=lambda: seconds[0])

        await check_blob_store(make, advance)

    @each_order
    def test_the_newest_is_there(self, eviction: EvictionName) -> None:
        """What has just been put can be read, even by a store that has room for one thing."""
        for size in (1, 2, 3, 10):
            blobs = blobs_of(eviction, size)
            for number in range(50):
                now(blobs.put(str(number), b"x" * number))
                assert now(blobs.get(str(number))) is not None
            assert blobs.count == size
            assert blobs.evicted == 50 - size

    @each_order
    @settings(max_examples=50, deadline=None, database=None)
    @given(sizes=st.lists(st.integers(0, 3000), max_size=200), keys=st.integers(1, 40))
    def test_bytes_never_exceed_the_budget(
        self, eviction: EvictionName, sizes: list[int], keys: int
    ) -> None:
        """Whatever the sizes, what is kept takes no more than there is room for."""
        limit = 4 * (ENTRY_OVERHEAD + 3002)
        blobs = blobs_of(eviction, 1000, max_bytes=limit, max_entry_bytes=limit // 4)
        for number, size in enumerate(sizes):
            ask(blobs, str(number * number % keys), bytes(size))
            assert blobs.size <= limit

    @each_order
    def test_entries_take_what_they_count(self, eviction: EvictionName) -> None:
        """The memory that is really used stays within the bytes that are counted."""
        blobs = blobs_of(eviction, 4_000)
        tracemalloc.start()
        try:
            for number in range(3_000):
                tags = frozenset(f"tag {number} {each}" for each in range(number % 3))
                now(blobs.put(f"key {number}", bytes(number % 100 + 1), ttl=60.0, tags=tags))
            assert tracemalloc.get_traced_memory()[0] <= blobs.size
        finally:
            tracemalloc.stop()

    def test_a_key_that_is_gone_takes_no_memory(self) -> None:
        """However long it was and whatever became of it: what no entry counts is not held."""
        blobs = blobs_of("lru", 4_000)
        tracemalloc.start()
        try:
            key = ""
            for number in range(60):
                key = f"{number:03}" * 30_000
                now(blobs.put(key, b"", ttl=60.0))
                now(blobs.put(key, b"", ttl=30.0))
                if number % 2:
                    now(blobs.delete(key))
                else:
                    now(blobs.put(key, b""))
                    now(blobs.purge(prefix=key))
            key = ""
            assert blobs.size == 0
            assert tracemalloc.get_traced_memory()[0] < 100_000
            assert len(blobs._expiries._heap) < 70
        finally:
            tracemalloc.stop()

    @each_order
    def test_threads_leave_it_whole(self, eviction: EvictionName) -> None:
        """Bytes, tags and the order of eviction agree after threads have used the same keys."""
        blobs = blobs_of(eviction, 30)
        failed: list[BaseException] = []

        def work(seed: int) -> None:
            rng = random.Random(seed)
            try:
                for _ in range(400):
                    key = str(rng.randrange(60))
                    now(blobs.put(key, bytes(rng.randrange(50)), tags=frozenset({key[:1]})))
                    now(blobs.get_many([str(rng.randrange(60)) for _ in range(5)]))
                    now(blobs.tagged(str(rng.randrange(6))))
                    now(blobs.delete(str(rng.randrange(60))))
                    assert blobs.count <= 30
            except BaseException as error:  # noqa: BLE001 - told below
                failed.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert blobs.size == sum(entry.size for entry in blobs._entries.values())
        count = blobs.count
        assert now(blobs.purge()) == count
        assert (blobs.size, blobs.count, blobs._tagged) == (0, 0, {})
        for number in range(40):  # which asks the order for who goes, ten times
            now(blobs.put(f"new {number}", b""))
        assert blobs.count == 30

    def test_what_is_kept_depends_on_the_operations_alone(self) -> None:
        """Two processes, whose texts hash differently, keep the same keys."""
        script = """
import random
from lamella import memory_blobs
from lamella._memory_eviction import EVICTIONS

def now(operation):
    try:
        operation.send(None)
    except StopIteration as stop:
        return stop.value

for eviction in EVICTIONS:
    rng, blobs = random.Random(5), memory_blobs(max_entries=100, eviction=eviction)
    for _ in range(3_000):
        key = str(int(rng.paretovariate(0.5)) % 1_000)
        if now(blobs.get(key)) is None:
            now(blobs.put(key, b""))
    print([entry.key for entry in now(blobs.entries()).entries])
"""
        kept = [
            subprocess.run(
                [sys.executable, "-c", script],
                env={**os.environ, "PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            ).stdout
            for seed in ("1", "2")
        ]
        assert kept[0] == kept[1]
        assert len(set(kept[0].splitlines())) == len(EVICTIONS)


class TestHitRatio:
    def test_a_scan_costs_tinylfu_little(self) -> None:
        """With a third of the keys asked for once, it has far more of the others than LRU."""
        keys = list(islice(trace(1), 20_000))
        assert sum(key.startswith("once") for key in keys) > 4_000
        found = {eviction: hits(eviction, iter(keys)) for eviction in EVICTIONS}
        assert found["tinylfu"] > 1.25 * found["lru"]
        assert found["tinylfu"] > found["lfu"] > found["lru"] > found["fifo"]

    def test_bytes_or_entries_bound_it_alike(self) -> None:
        """A budget of bytes for 200 entries does what a limit of 200 does."""
        keys = list(islice(trace(2), 10_000))
        limit = 200 * (ENTRY_OVERHEAD + 1000 + 12)
        bounds = {"max_entries": None, "max_bytes": limit, "max_entry_bytes": limit}
        by_bytes = hits("tinylfu", iter(keys), **bounds)
        assert by_bytes == pytest.approx(hits("tinylfu", iter(keys)), rel=0.05)

    @pytest.mark.parametrize("eviction", ["lfu", "tinylfu"])
    def test_what_was_popular_is_forgotten(self, eviction: EvictionName) -> None:
        """When other keys become popular, they get the room: counts age."""
        blobs = blobs_of(eviction, 100)
        for _ in range(20):
            for number in range(100):
                ask(blobs, f"old {number}")
        for _ in range(60):
            for number in range(90):
                ask(blobs, f"new {number}")
        assert sum(key.startswith("new") for key in listed(blobs)) > 80

    def test_one_large_entry_wins_against_several_small_ones(self) -> None:
        """What is asked for often finds room, however much it needs."""
        limit = 20 * (ENTRY_OVERHEAD + 1000)
        blobs = blobs_of("tinylfu", 1000, max_bytes=limit, max_entry_bytes=limit)
        for number in range(100):
            ask(blobs, f"once {number}", b"x" * 990)
            ask(blobs, "large", b"x" * 9_000)
        before = listed(blobs)
        assert "large" in before
        for number in range(100, 200):
            ask(blobs, f"once {number}", b"x" * 990)
        assert "large" in listed(blobs)

    def test_a_large_newcomer_lets_in_nothing_else(self) -> None:
        """Each entry that leaves the window for it has to be popular enough by itself."""
        each = ENTRY_OVERHEAD + 5
        blobs = blobs_of("tinylfu", 100_000, max_bytes=500 * each, max_entry_bytes=500 * each)
        for _ in range(4):
            for number in range(495):
                ask(blobs, f"{number:05}")
        for key in ("new 0", *["new 0"] * 9, "new 1", "new 2", "new 3", "new 4"):
            ask(blobs, key)
        assert (blobs.count, blobs.evicted) == (500, 0)
        now(blobs.put("large", bytes(5 * each - ENTRY_OVERHEAD - 5)))
        kept = listed(blobs)
        assert [key for key in kept if key.startswith("new")] == ["new 0"]
        assert len(kept) == 494 + 2


class TestLeastOften:
    def test_uses_count_up_to_a_limit(self) -> None:
        """However often something is used, so many other uses outlive it."""
        blobs = blobs_of("lfu", 2)
        for _ in range(3 * MOST_USES):
            ask(blobs, "often")
        order = blobs._eviction
        assert isinstance(order, LeastOften)
        assert max(order._ranks) <= order._age + MOST_USES
        for number in range(MOST_USES - 1):
            ask(blobs, f"once {number}")
        assert "often" in listed(blobs)
        for number in range(5):
            ask(blobs, f"then {number}")
        assert "often" not in listed(blobs)
        assert len(order._ranks) <= 2

    def test_a_new_value_keeps_the_uses_of_its_key(self) -> None:
        """A refresh of what is popular does not make it a newcomer."""
        blobs = blobs_of("lfu", 2)
        for _ in range(5):
            ask(blobs, "often")
        now(blobs.put("often", b"fresh"))
        for number in range(3):
            ask(blobs, f"once {number}")
        assert "often" in listed(blobs)


class TestSketch:
    @settings(max_examples=100, deadline=None, database=None)
    @given(st.lists(st.integers(0, 30), max_size=300))
    def test_an_estimate_is_never_too_low(self, keys: list[int]) -> None:
        """Before ageing it says at least how often a key was counted, up to the highest."""
        sketch = FrequencySketch(8)
        for key in keys:
            sketch.add(spot_of(str(key)))
        for key in range(31):
            estimate = sketch.count(spot_of(str(key)))
            assert min(HIGHEST, keys.count(key)) <= estimate <= HIGHEST
        assert sketch.counted == len(keys)

    @settings(max_examples=100, deadline=None, database=None)
    @given(st.lists(st.integers(0, 30), max_size=300))
    def test_ageing_halves_each_count(self, keys: list[int]) -> None:
        """No counter takes anything over from its neighbour."""
        sketch = FrequencySketch(8)
        for key in keys:
            sketch.add(spot_of(str(key)))
        before = list(sketch._cells)
        sketch.halve()
        nibbles = [[cell >> shift & 15 for shift in (0, 4, 8, 12)] for cell in before]
        halves = [sum(each // 2 << 4 * row for row, each in enumerate(four)) for four in nibbles]
        assert list(sketch._cells) == halves
        assert sketch.counted == len(keys) // 2

    def test_it_tells_as_many_keys_apart_as_it_is_made_for(self) -> None:
        """Of keys that were counted once few seem to have been counted more often."""
        sketch = FrequencySketch(4_000)
        for number in range(4_000):
            sketch.add(spot_of(f"key {number}"))
        wrong = sum(sketch.count(spot_of(f"key {number}")) > 1 for number in range(4_000))
        assert wrong < 40
        assert sum(sketch.count(spot_of(f"other {number}")) > 0 for number in range(4_000)) < 40

    @pytest.mark.parametrize(
        ("keys", "width"), [(0, 64), (16, 64), (17, 128), (100_000, 524_288), (10**12, 1 << 20)]
    )
    def test_its_memory_is_bounded(self, keys: int, width: int) -> None:
        """Eight bytes for each key and up to twice that, and never more than 2 MiB."""
        assert FrequencySketch(keys).width == width

    def test_any_text_has_a_spot(self) -> None:
        """The same one in any process; half a surrogate pair is text too."""
        assert spot_of("key") == 0xF54CA9C3ADCC7CCE
        assert spot_of("\ud800") != spot_of("\udc00")


class TestListing:
    @each_order
    def test_listing_is_no_use(self, eviction: EvictionName) -> None:
        """Nothing stays longer for having been listed."""
        blobs, silent = blobs_of(eviction, 3), blobs_of(eviction, 3)
        for key in "abcdeabcfgha":
            ask(blobs, key)
            ask(silent, key)
            now(blobs.entries())
            assert listed(blobs) == listed(silent)

    @pytest.mark.anyio
    @pytest.mark.parametrize("tag", [None, "t"])
    async def test_pages_find_what_is_there_throughout(self, tag: str | None) -> None:
        """While others put, replace and delete, what stays is found, and nothing that never was."""
        rng = random.Random(3)
        blobs = blobs_of("lru", 100_000)
        tags = frozenset({"t"})
        await blobs.put_many({f"k{number}": b"" for number in range(4_500)}, tags=tags)
        stay = {f"k{number}" for number in range(4_500)}
        ever, found, pages, cursor = set(stay), set[str](), 0, ""
        while True:
            page = await blobs.entries(tag=tag, prefix="k", cursor=cursor)
            found |= {entry.key for entry in page.entries}
            pages, cursor = pages + 1, page.cursor
            if not cursor:
                break
            for _ in range(150):
                key = f"k{rng.randrange(6_000)}"
                ever.add(key)
                if rng.random() < 0.3:
                    await blobs.delete(key)
                    stay.discard(key)
                else:
                    await blobs.put(key, b"new", tags=tags)
        assert stay <= found <= ever
        assert 4 < pages < 10

    @pytest.mark.anyio
    async def test_a_listing_with_few_matches_takes_short_steps(self) -> None:
        """A page looks at a part of the entries, and lets others run before the next one."""
        blobs = blobs_of("lru", 100_000)
        await blobs.put_many({f"k{number}": b"" for number in range(2_500)})
        await blobs.put("last", b"!", tags=frozenset({"t"}))
        pages: list[list[BlobInfo]] = []
        ran = 0

        async def other() -> None:
            nonlocal ran
            while True:
                ran += 1
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as group:
            group.start_soon(other)
            cursor = ""
            while cursor or not pages:
                page = await blobs.entries(prefix="last", cursor=cursor)
                pages.append(list(page.entries))
                cursor = page.cursor
            group.cancel_scope.cancel()
        assert [len(page) for page in pages] == [0, 0, 1]
        assert ran >= 1
        assert pages[-1] == [BlobInfo("last", 1, 0.0, None, frozenset({"t"}))]

    @pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "²", "9" * 30])
    def test_a_cursor_of_another_store_is_refused(self, cursor: str) -> None:
        """It is told rather than taken for the beginning."""
        with pytest.raises(ValueError, match="is no cursor"):
            now(blobs_of("lru", 3).entries(cursor=cursor))


class TestMany:
    @pytest.mark.anyio
    @pytest.mark.parametrize("by", ["put_many", "get_many", "tagged", "entries", "purge"])
    async def test_many_values_do_not_block_the_loop(
        self, by: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Others run between each few hundred of them, and no value is passed over."""
        monkeypatch.setattr("lamella._memory_blobs._PAGE", 2_000)
        blobs = blobs_of("lru", 10_000)
        values = {f"k{number}": b"" for number in range(2_000)}
        tags = frozenset({"t"})
        await blobs.put_many(values, tags=tags)
        did: dict[str, Callable[[], Awaitable[Any]]] = {
            "put_many": lambda: blobs.put_many(values, tags=tags),
            "get_many": lambda: blobs.get_many(list(values)),
            "tagged": lambda: blobs.tagged("t"),
            "entries": lambda: blobs.entries(tag="t"),
            "purge": lambda: blobs.purge(tag="t"),
        }
        ran = 0

        async def other() -> None:
            nonlocal ran
            while True:
                ran += 1
                await anyio.lowlevel.checkpoint()

        found: Any = None
        async with anyio.create_task_group() as group:
            group.start_soon(other)
            while not ran:
                await anyio.lowlevel.checkpoint()
            before = ran
            found = await did[by]()
            assert ran - before >= 2
            group.cancel_scope.cancel()
        assert blobs.count == (0 if by == "purge" else 2_000)
        if by in ("get_many", "tagged"):
            assert set(found) == set(values)
        if by == "entries":
            assert {each.key for each in found.entries} == set(values)

    def test_all_sizes_are_checked_before_anything_is_put(self) -> None:
        """One that is too large leaves all as it was."""
        blobs = blobs_of("lru", 10, max_entry_bytes=ENTRY_OVERHEAD + 10)
        now(blobs.put("a", b"old"))
        with pytest.raises(ValueError, match="above max_entry_bytes"):
            now(blobs.put_many({"a": b"new", "b": b"x" * 11}))
        with pytest.raises(ValueError, match="ttl is nan"):
            now(blobs.put_many({"a": b"new"}, ttl=float("nan")))
        found = now(blobs.get_many(["a", "b", "a"]))
        assert {key: blob.data for key, blob in found.items()} == {"a": b"old"}

    @pytest.mark.anyio
    async def test_many_are_many_puts(self) -> None:
        """More than one chunk of them, with a time to live and tags."""
        seconds = [0.0]
        blobs = blobs_of("lru", 10_000, monotonic=lambda: seconds[0])
        values = {str(number): str(number).encode() for number in range(1_300)}
        await blobs.put_many(values, ttl=5.0, tags=frozenset({"t"}))
        found = await blobs.get_many([*values, "absent"])
        assert {key: blob.data for key, blob in found.items()} == values
        assert {blob.tags for blob in found.values()} == {frozenset({"t"})}
        await blobs.put_many({"5": b"gone"}, ttl=0.0)
        assert await blobs.get("5") is None
        seconds[0] = 5.0
        assert await blobs.get_many(list(values)) == {}

    @pytest.mark.anyio
    async def test_what_has_expired_goes_before_any_other(self) -> None:
        """However many have expired at once, none that lives makes room for them."""
        seconds = [0.0]
        for eviction in EVICTIONS:
            blobs = blobs_of(eviction, 1_000, monotonic=lambda: seconds[0])
            await blobs.put_many({f"living {number}": b"" for number in range(200)})
            await blobs.put_many({f"dying {number}": b"" for number in range(800)}, ttl=1.0)
            seconds[0] += 1.0
            await blobs.put_many({f"new {number}": b"" for number in range(800)})
            assert blobs.count == 1_000
            assert blobs.evicted == 0
