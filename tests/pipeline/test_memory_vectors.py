"""Vectors in memory: exact, bounded, and the same as comparing one by one."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import anyio
import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamella import ConfigurationError, Near, StoreUnavailableError, VectorIndex
from lamella._guarded_vectors import GuardedVectors, guarded_vectors
from lamella._memory_vectors import PARTITION_OVERHEAD, VECTOR_OVERHEAD, MemoryVectors
from lamella._named_stores import layer_store
from lamella.testing import check_vector_index

pytestmark = pytest.mark.anyio


@attrs.define
class ManualClock:
    """A monotonic clock that a test moves."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


async def test_it_conforms() -> None:
    """It keeps every rule of the port."""
    clock = ManualClock()
    await check_vector_index(lambda: MemoryVectors(monotonic=clock), clock.advance)


async def test_it_conforms_in_threads() -> None:
    """So it does where every search is made in a thread."""
    clock = ManualClock()

    async def thread(function: Callable[..., Any], /, *args: Any) -> Any:
        return await anyio.to_thread.run_sync(function, *args)

    class InThreads(MemoryVectors):
        async def nearest(self, *args: Any, **more: Any) -> Sequence[Near]:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("lamella._memory_vectors._INLINE", 0)
                return await super().nearest(*args, **more)

    await check_vector_index(lambda: InThreads(monotonic=clock, thread=thread), clock.advance)


# --- what a broken index is told ---------------------------------------------------------------


class Unsorted(MemoryVectors):
    """Gives the nearest in any order."""

    async def nearest(self, *args: Any, **more: Any) -> Sequence[Near]:
        return tuple(reversed(await super().nearest(*args, **more)))


class OnePartition(MemoryVectors):
    """Has one partition for all."""

    async def nearest(self, partition: str, *args: Any, **more: Any) -> Sequence[Near]:
        return await super().nearest("", *args, **more)

    async def add(self, partition: str, *args: Any, **more: Any) -> None:
        await super().add("", *args, **more)


class Distances(MemoryVectors):
    """Takes distances for similarities."""

    async def nearest(self, *args: Any, **more: Any) -> Sequence[Near]:
        found = await super().nearest(*args, **more)
        return [Near(one.key, 1 - (1 - one.similarity) / 2) for one in found]


class Immortal(MemoryVectors):
    """Knows no time to live."""

    async def add(
        self, partition: str, key: str, vector: Sequence[float], *, ttl: float | None = None
    ) -> None:
        ttl = None if ttl is not None and ttl > 0 else ttl
        await super().add(partition, key, vector, ttl=ttl)


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (Unsorted, "The nearest come first"),
        (Distances, "The nearest come first"),
        (OnePartition, "Partitions never meet"),
        (Immortal, "After its time to live"),
    ],
)
async def test_a_broken_index_is_told_its_rule(broken: type[MemoryVectors], rule: str) -> None:
    """The kit names the rule that is broken."""
    clock = ManualClock()
    with pytest.raises(AssertionError, match=rule):
        await check_vector_index(lambda: broken(monotonic=clock), clock.advance)


# --- against comparing one by one --------------------------------------------------------------

COORDINATE = st.integers(-3, 3).map(float)
VECTOR = st.lists(COORDINATE, min_size=3, max_size=3).filter(any)
KEY = st.sampled_from("abcdefgh")
STEP = st.one_of(
    st.tuples(
        st.just("add"), st.sampled_from("pq"), KEY, VECTOR, st.sampled_from([None, 1.0, 5.0])
    ),
    st.tuples(st.just("remove"), st.sampled_from("pq"), KEY),
    st.tuples(st.just("purge"), st.sampled_from(["", "p", "q", "r"])),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 1.0, 3.0])),
    st.tuples(st.just("nearest"), st.sampled_from("pq"), VECTOR, st.integers(1, 4)),
)


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """The cosine of the angle between two."""
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / math.hypot(*one) / math.hypot(*other)


@given(st.lists(STEP, max_size=40))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_it_finds_what_comparing_one_by_one_finds(steps: list[tuple[Any, ...]]) -> None:
    """Whatever is added, removed, purged and has expired, the nearest are the nearest."""
    anyio.run(same_as_plain, steps)


async def same_as_plain(steps: list[tuple[Any, ...]]) -> None:
    """Play the steps on both."""
    clock = ManualClock()
    index = MemoryVectors(monotonic=clock)
    plain: dict[tuple[str, str], tuple[list[float], float]] = {}
    for step in steps:
        plain = {place: kept for place, kept in plain.items() if kept[1] > clock()}
        match step:
            case ("add", partition, key, vector, ttl):
                await index.add(partition, key, vector, ttl=ttl)
                plain[partition, key] = vector, math.inf if ttl is None else clock() + ttl
            case ("remove", partition, key):
                was = plain.pop((partition, key), None) is not None
                assert await index.remove(partition, key) == was
            case ("purge", prefix):
                gone = [place for place in plain if place[0].startswith(prefix)]
                assert await index.purge(prefix=prefix) == len(gone)
                for place in gone:
                    del plain[place]
            case ("wait", seconds):
                clock.advance(seconds)
            case ("nearest", partition, vector, count):
                wanted = sorted(
                    [
                        (-round(cosine(vector, kept), 5), key)
                        for (where, key), (kept, _) in plain.items()
                        if where == partition
                    ]
                )
                found = await index.nearest(partition, vector, count=count)
                assert [-round(near.similarity, 5) for near in found] == pytest.approx(
                    [similarity for similarity, _ in wanted[:count]], abs=2e-5
                )
                assert {near.key for near in found} <= {key for _, key in wanted}
            case _:
                raise AssertionError(step)
    await index.purge()
    assert (len(index), index.size) == (0, 0)


async def test_many_vectors_are_found_exactly() -> None:
    """Over several blocks, after removals, each vector finds itself."""
    index, random = MemoryVectors(), Random(7)
    vectors = [[random.gauss(0, 1) for _ in range(8)] for _ in range(3000)]
    for number in range(3000):
        await index.add("p", str(number), vectors[number])
    for number in range(0, 3000, 3):
        assert await index.remove("p", str(number))
    for number in range(0, 3000, 101):
        [near] = await index.nearest("p", vectors[number])
        assert (near.key == str(number)) == (number % 3 != 0)
    assert len(index) == 2000


# --- bounds ------------------------------------------------------------------------------------


async def test_the_longest_unused_go_first() -> None:
    """Beyond a bound those go that have not been near anything for longest."""
    index = MemoryVectors(max_vectors=3)
    for number, key in enumerate("abc"):
        await index.add("p", key, (1.0, float(number)))
    [used] = await index.nearest("p", (1.0, 0.0), at_least=0.9)
    assert used.key == "a"
    await index.add("p", "d", (0.0, 1.0))
    assert {near.key for near in await index.nearest("p", (1.0, 1.0), count=9)} == {"a", "c", "d"}


async def test_the_longest_unused_partition_pays() -> None:
    """What was asked about lately keeps what it has."""
    index = MemoryVectors(max_vectors=2)
    await index.add("old", "a", (1.0, 0.0))
    await index.add("new", "b", (1.0, 0.0))
    await index.nearest("old", (1.0, 0.0))
    await index.add("new", "c", (1.0, 0.0))
    assert len(await index.nearest("old", (1.0, 0.0))) == 1
    assert [near.key for near in await index.nearest("new", (1.0, 0.0), count=9)] == ["c"]


async def test_bytes_are_bounded() -> None:
    """The size never passes the bound, and one that is larger by itself is refused."""
    most = 10 * (VECTOR_OVERHEAD + 100)
    index = MemoryVectors(max_bytes=most)
    for number in range(100):
        await index.add("p", str(number), (1.0, float(number)))
        assert index.size <= most
    assert 5 < len(index) < 100
    with pytest.raises(ValueError, match="above max_bytes"):
        await index.add("p", "large", [1.0] * most)


async def test_partitions_are_bounded_with_what_they_take() -> None:
    """Where each vector has a partition of its own, fewer fit, and the oldest go."""
    index = MemoryVectors(max_bytes=10 * (VECTOR_OVERHEAD + PARTITION_OVERHEAD + 100))
    for number in range(100):
        await index.add(f"p{number}", "key", (1.0, 0.0))
        assert index.size <= 10 * (VECTOR_OVERHEAD + PARTITION_OVERHEAD + 100)
    assert 9 <= len(index) <= 10
    assert len(await index.nearest("p99", (1.0, 0.0))) == 1
    assert len(await index.nearest("p0", (1.0, 0.0))) == 0
    one = MemoryVectors(max_vectors=1)  # makes room in the very partition that it adds to
    for key in "ab":
        await one.add("p", key, (1.0, 0.0))
    assert [near.key for near in await one.nearest("p", (1.0, 0.0), count=9)] == ["b"]
    assert await one.remove("p", "b")
    assert one.size == 0


@pytest.mark.parametrize(
    "bounds", [{"max_bytes": VECTOR_OVERHEAD + PARTITION_OVERHEAD}, {"max_vectors": 0}]
)
async def test_bounds_that_keep_nothing_are_refused(bounds: dict[str, Any]) -> None:
    """An index that could keep nothing is a mistake."""
    with pytest.raises(ValueError, match="MemoryVectors"):
        MemoryVectors(**bounds)


async def test_threads_may_use_it_at_once() -> None:
    """Several threads add, remove and search, and all is counted right in the end."""
    index = MemoryVectors()
    failures: list[BaseException] = []

    async def work(name: str) -> None:
        for number in range(200):
            await index.add("p", f"{name}{number}", (math.cos(number), math.sin(number), 1.0))
            await index.nearest("p", (1.0, 0.0, 1.0), count=3)
            if number % 2:
                assert await index.remove("p", f"{name}{number}")

    def run(name: str) -> None:
        try:
            anyio.run(work, name)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    threads = [threading.Thread(target=run, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join)
    assert failures == []
    assert len(index) == 400
    assert len(await index.nearest("p", (1.0, 0.0, 1.0), count=1000)) == 400


async def test_what_changes_during_a_search_is_not_reported_as_it_was() -> None:
    """A vector that is replaced while a thread searches is judged by what it is then."""
    index: MemoryVectors

    async def thread(function: Callable[..., Any], /, *args: Any) -> Any:
        found = function(*args)
        await index.add("p", "changed", (-1.0, 0.0))
        await index.remove("p", "removed")
        return found

    index = MemoryVectors(thread=thread)
    await index.add("p", "changed", (1.0, 0.0))
    await index.add("p", "removed", (1.0, 0.0))
    await index.add("p", "same", (1.0, 0.5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lamella._memory_vectors._INLINE", 0)
        found = await index.nearest("p", (1.0, 0.0), count=9, at_least=0.0)
    assert [near.key for near in found] == ["same"]


# --- by name, and without numpy ----------------------------------------------------------------


async def test_it_is_registered() -> None:
    """`index="memory"` and a table make one."""
    made = layer_store("SemanticCache", "vectors", {"use": "memory", "max_vectors": 7})
    assert isinstance(made, MemoryVectors)
    with pytest.raises(ConfigurationError, match="max_vectors"):
        layer_store("SemanticCache", "vectors", {"use": "memory", "max_vectors": "many"})


async def test_without_numpy_it_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is said with what to install."""
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'lamella\[semantic\]'"):
        MemoryVectors()


# --- an index elsewhere ------------------------------------------------------------------------


class Elsewhere:
    """An index across a network that may not answer."""

    def __init__(self) -> None:
        self.inner = MemoryVectors()
        self.frozen = False
        self.asked = 0

    async def _answers(self) -> None:
        self.asked += 1
        if self.frozen:
            await anyio.sleep_forever()

    async def add(self, *args: Any, **more: Any) -> None:
        await self._answers()
        await self.inner.add(*args, **more)

    async def nearest(self, *args: Any, **more: Any) -> Sequence[Near]:
        await self._answers()
        return await self.inner.nearest(*args, **more)

    async def remove(self, partition: str, key: str) -> bool:
        await self._answers()
        return await self.inner.remove(partition, key)

    async def purge(self, *, prefix: str = "") -> int:
        await self._answers()
        return await self.inner.purge(prefix=prefix)

    async def aclose(self) -> None:
        await self.inner.aclose()


async def test_a_guarded_index_conforms() -> None:
    """The guard changes nothing while the index answers."""
    await check_vector_index(lambda: guarded_vectors(Elsewhere(), anyio.current_time))


async def test_a_frozen_index_is_left_alone() -> None:
    """Each of five questions waits the timeout, and then none."""
    elsewhere = Elsewhere()
    clock = ManualClock()
    index: VectorIndex = guarded_vectors(elsewhere, clock)
    assert isinstance(index, GuardedVectors)
    elsewhere.frozen = True
    for _ in range(8):
        clock.advance(0.01)
        with pytest.raises(StoreUnavailableError, match="Elsewhere does not answer"):
            await index.nearest("p", (1.0, 0.0))
    assert elsewhere.asked == 5
    assert index.health().well is False
    elsewhere.frozen = False
    clock.advance(5.0)
    assert await index.nearest("p", (1.0, 0.0)) == ()
    assert index.health().well is True
    memory = MemoryVectors()
    assert guarded_vectors(memory, clock) is memory
