"""The memory stores keep the rules of the ports, within their bounds, from any thread and loop."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pytest

from lamella._local_state import LocalObjects
from lamella._memory_blobs import ENTRY_OVERHEAD, TAG_OVERHEAD, MemoryBlobs
from lamella._memory_leases import MemoryLeases
from lamella._memory_stores import memory_stores, process_stores
from lamella._stores import Dimension, Stores

pytestmark = pytest.mark.anyio


@attrs.define
class ManualClock:
    """A monotonic clock that a test moves."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still until it is moved."""
    return ManualClock()


def blobs_of(clock: ManualClock, entries: int = 3, size: int = 100) -> MemoryBlobs:
    """Room for so many entries of so many bytes, key included."""
    each = ENTRY_OVERHEAD + size
    return MemoryBlobs(monotonic=clock, max_bytes=entries * each, max_entry_bytes=each)


def leases_of(clock: Callable[[], float], max_buckets: int = 100) -> MemoryLeases:
    """A lease store with room for so many limits."""
    return MemoryLeases(monotonic=clock, max_buckets=max_buckets)


class TestBlobs:
    async def test_the_least_recently_used_go_first(self, clock: ManualClock) -> None:
        """Beyond the bytes, what was not read or written for longest makes room."""
        blobs = blobs_of(clock)
        for key in ("a", "b", "c"):
            await blobs.put(key, b"x" * 99)
        await blobs.get("a")
        await blobs.put("d", b"x" * 99)
        assert [key for key in "abcd" if await blobs.get(key)] == ["a", "c", "d"]

    async def test_keys_and_tags_count(self, clock: ManualClock) -> None:
        """The bound holds for all that an entry takes, not for its data alone."""
        blobs = blobs_of(clock, entries=2, size=100 + TAG_OVERHEAD)
        await blobs.put("k" * 50, b"", tags=frozenset({"t" * 50}))
        assert blobs.size == ENTRY_OVERHEAD + TAG_OVERHEAD + 100
        with pytest.raises(
            ValueError, match="an entry of 1221 bytes is above max_entry_bytes 1220"
        ):
            await blobs.put("k" * 50, b"x", tags=frozenset({"t" * 50}))
        with pytest.raises(ValueError, match="keep less"):
            await blobs.put("ключ", b"x" * (85 + TAG_OVERHEAD))

    async def test_a_value_too_large_changes_nothing(self, clock: ManualClock) -> None:
        """What is refused leaves what was there, and the message does not show the key."""
        blobs = blobs_of(clock)
        await blobs.put("secret", b"old")
        with pytest.raises(ValueError, match="an entry of") as caught:
            await blobs.put("secret", b"x" * 101)
        assert "secret" not in str(caught.value)
        blob = await blobs.get("secret")
        assert blob is not None
        assert blob.data == b"old"

    async def test_what_has_expired_makes_room_before_what_lives(self, clock: ManualClock) -> None:
        """An expired entry is removed, with its bytes, before a living one is evicted."""
        blobs = blobs_of(clock, size=100 + TAG_OVERHEAD)
        await blobs.put("living", b"x" * 90)
        for key in ("b", "c"):
            await blobs.put(key, b"x" * 90, ttl=1.0, tags=frozenset({"t"}))
        clock.advance(1.0)
        await blobs.put("d", b"x" * 90)
        assert await blobs.get("living") is not None
        assert blobs.size == 2 * ENTRY_OVERHEAD + 90 + 6 + 90 + 1

    async def test_the_size_comes_back_to_nothing(self, clock: ManualClock) -> None:
        """Replacing, deleting, purging and expiring each give their bytes back."""
        blobs = blobs_of(clock, entries=2000, size=100 + TAG_OVERHEAD)
        for number in range(1500):
            await blobs.put(f"{number}", b"x", ttl=1.0 if number % 3 else None)
            await blobs.put(f"{number}", b"yy", tags=frozenset({f"{number % 7}"}))
        await blobs.delete("3")
        await blobs.purge(tag="1")
        clock.advance(2.0)
        assert await blobs.purge() > 1000  # in chunks, letting the loop run between them
        assert blobs.size == 0
        assert not blobs._tagged

    async def test_a_purge_spares_what_is_put_after_it_began(self, clock: ManualClock) -> None:
        """A long purge forgets what was there when it was asked for."""
        blobs = blobs_of(clock, entries=2000)
        for number in range(1200):
            await blobs.put(f"{number}", b"old")
        async with anyio.create_task_group() as group:
            group.start_soon(blobs.purge)
            while await blobs.get("0"):
                await anyio.lowlevel.checkpoint()
            await blobs.put("1199", b"new")
        blob = await blobs.get("1199")
        assert blob is not None
        assert blob.data == b"new"

    async def test_a_ttl_that_is_no_number_is_refused(self, clock: ManualClock) -> None:
        """NaN would neither keep nor expire."""
        with pytest.raises(ValueError, match="ttl is nan"):
            await blobs_of(clock).put("key", b"", ttl=float("nan"))

    def test_bounds_must_make_sense(self, clock: ManualClock) -> None:
        """An entry must fit the store, and something must fit an entry."""
        for max_bytes, max_entry in ((1000, 2000), (2000, ENTRY_OVERHEAD)):
            with pytest.raises(ValueError, match="max_entry_bytes"):
                MemoryBlobs(monotonic=clock, max_bytes=max_bytes, max_entry_bytes=max_entry)


class TestLeases:
    async def test_idle_limits_make_room(self, clock: ManualClock) -> None:
        """Limits that are full again are forgotten, so that a bound holds any number of keys."""
        leases = leases_of(clock, max_buckets=10)
        for number in range(100):
            dimension = Dimension((str(number),), 1, 10, per=1.0)
            assert (await leases.reserve(str(number), [dimension], ttl=60)).granted
            await leases.settle(str(number), [1])
            clock.advance(0.2)
        assert len(leases._buckets) <= 10

    async def test_totals_that_are_over_make_room(self, clock: ManualClock) -> None:
        """What is kept for a day is forgotten after it, so that each day may have its budgets."""
        leases = leases_of(clock, max_buckets=10)
        lasting = Dimension(("lasting",), 1, 10)
        await leases.reserve("lasting", [lasting], ttl=60)
        await leases.settle("lasting", [1])
        for day in range(30):
            for user in range(4):
                name = f"{day}-{user}"
                spent = Dimension((name,), 1, 10, keep=86_400.0)
                assert (await leases.reserve(name, [spent], ttl=60)).granted
                await leases.settle(name, [1])
            clock.advance(86_400.0)
        assert len(leases._totals) <= 10
        assert await leases.level(lasting) == 9

    async def test_limits_in_use_are_not_forgotten(
        self, clock: ManualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """With no room for a limit it is refused, told once in the log, until one is idle."""
        leases = leases_of(clock, max_buckets=3)
        spent = [Dimension((str(number),), 1, 1) for number in range(5)]
        for number in range(3):
            assert (await leases.reserve(str(number), [spent[number]], ttl=60)).granted
        with caplog.at_level(logging.WARNING, logger="lamella"):
            for number in (3, 4):
                lease = await leases.reserve(str(number), [spent[number]], ttl=60)
                assert (lease.granted, lease.retry_after) == (False, None)
                assert lease.refused == spent[number]
        assert [record.message[:32] for record in caplog.records] == [
            "MemoryLeases: max_buckets 3 limi"
        ]
        assert [await leases.level(each) for each in spent] == [0, 0, 0, 1, 1]
        await leases.refund("1")
        assert (await leases.reserve("3", [spent[3]], ttl=60)).granted

    async def test_an_id_means_one_reservation(self, clock: ManualClock) -> None:
        """An id used for other dimensions is a mistake that is told, not a lease shared."""
        leases = leases_of(clock)
        await leases.reserve("a", [Dimension(("x",), 1, 5)], ttl=60)
        with pytest.raises(ValueError, match="'a' was used for other dimensions"):
            await leases.reserve("a", [Dimension(("x",), 2, 5)], ttl=60)

    async def test_the_memory_of_ended_leases_is_bounded(self, clock: ManualClock) -> None:
        """Only so many ended leases are remembered, and nothing else of them is left."""
        leases = MemoryLeases(monotonic=clock, max_buckets=10, max_ended=5)
        for number in range(1000):
            await leases.reserve(str(number), [Dimension(("x",), 1, 5, per=60)], ttl=60)
            await leases.refund(str(number))
        assert (len(leases._ended), len(leases._held)) == (5, 0)
        assert len(leases._expiries._heap) < 100
        assert await leases.refund("999")
        assert not await leases.refund("1")

    async def test_gaps_are_joined(self, clock: ManualClock) -> None:
        """What a bucket remembers grows with the leases that are out, not with those that were."""
        leases = leases_of(clock)
        dimension = Dimension(("x",), 1, 10_000, per=86_400)
        for number in range(500):
            await leases.reserve(str(number), [dimension], ttl=60)
            if number >= 3:
                await leases.settle(str(number - 3), [1])
            clock.advance(0.001)
        (bucket,) = leases._buckets.values()
        count, gap = 0, bucket._newest
        while gap is not None:
            count, gap = count + 1, gap.older
        assert count <= 5

    async def test_a_clock_that_steps_back_stands_still(self, clock: ManualClock) -> None:
        """Nothing flows back twice when the clock repeats a span."""
        leases = leases_of(clock)
        dimension = Dimension(("x",), 10, 10, per=10.0)
        await leases.reserve("a", [dimension], ttl=600)
        clock.advance(5.0)
        assert await leases.level(dimension) == 5
        clock.advance(-5.0)
        assert await leases.level(dimension) == 5
        clock.advance(5.0)
        assert await leases.level(dimension) == 5

    async def test_after_a_long_pause_the_burst_is_the_capacity(self, clock: ManualClock) -> None:
        """Ten minutes of suspension are worth no more than a full bucket."""
        leases = leases_of(clock)
        dimension = Dimension(("x",), 10, 10, per=10.0)
        await leases.reserve("a", [dimension], ttl=6000)
        clock.advance(600.0)
        assert await leases.level(dimension) == 10

    async def test_extreme_numbers_are_exact(self, clock: ManualClock) -> None:
        """Neither a tiny rate over an age nor money of any size is rounded."""
        leases = leases_of(clock)
        for capacity, per in ((1, 1e300), (10**30, 86_400.0), (10**30, 0.0), (7, 1e-12)):
            dimension = Dimension(("x",), capacity, capacity, per=per)
            await leases.reserve(f"{capacity}{per}", [dimension], ttl=60)
            assert await leases.level(dimension) == 0
            one = attrs.evolve(dimension, amount=1)
            assert not (await leases.reserve("one", [one], ttl=60)).granted

    @pytest.mark.parametrize(
        ("values", "error"),
        [
            ({"amount": -1}, ValueError),
            ({"capacity": -1}, ValueError),
            ({"per": -1.0}, ValueError),
            ({"per": float("nan")}, ValueError),
            ({"per": float("inf")}, ValueError),
            ({"amount": 1.5}, TypeError),
        ],
    )
    def test_a_dimension_must_make_sense(
        self, values: dict[str, Any], error: type[Exception]
    ) -> None:
        """Numbers that no store could count are refused where they are written down."""
        with pytest.raises(error, match="Dimension: amount"):
            attrs.evolve(Dimension(("x",), 1, 10), **values)


class TestLocalObjects:
    def test_an_object_is_made_once(self) -> None:
        """All who ask for a key get the object that the first asking made."""
        local = LocalObjects(max_objects=10)
        first = local.get(("a", "b"), list[int])
        assert local.get(("a", "b"), list[int]) is first
        assert local.get(("a", "c"), list[int]) is not first

    def test_the_least_recently_used_goes(self) -> None:
        """Beyond the bound the object that was not asked for longest is made anew."""
        local = LocalObjects(max_objects=2)
        a, b = (local.get((key,), list[int]) for key in "ab")
        local.get(("a",), list[int])
        local.get(("c",), list[int])
        assert local.get(("a",), list[int]) is a
        assert local.get(("b",), list[int]) is not b

    def test_objects_are_found_by_how_their_keys_begin(self) -> None:
        """Who looks at them makes none, and uses none: the least recently used stays so."""
        local = LocalObjects(max_objects=2)
        first = local.get(("a", "b"), list[int])
        local.get(("b", "a"), list[int])
        assert local.under(("a",)) == {("a", "b"): first}
        assert local.under(("c",)) == {}
        local.get(("c",), list[int])
        assert local.under(("a",)) == {}

    def test_making_may_ask_for_others(self) -> None:
        """An object may be made of others from the same place: no lock is held meanwhile."""
        local = LocalObjects(max_objects=10)
        outer = local.get(("outer",), lambda: [local.get(("inner",), list[int])])
        assert outer[0] is local.get(("inner",), list[int])

    def test_what_fails_to_be_made_is_not_kept(self) -> None:
        """An error while making reaches the one who asked, and the next one tries anew."""
        local = LocalObjects(max_objects=10)
        with pytest.raises(ZeroDivisionError):
            local.get(("a",), lambda: 1 / 0)
        assert local.get(("a",), lambda: 5) == 5

    def test_bounds_must_make_sense(self) -> None:
        """A place that keeps nothing is a mistake."""
        with pytest.raises(ValueError, match="at least 1"):
            LocalObjects(max_objects=0)


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads take turns every few microseconds, so that races show."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run `work(number)` in so many threads at once; the first error is raised here."""
    errors: list[BaseException] = []
    start = threading.Barrier(count)

    def run(number: int) -> None:
        start.wait()
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised below, on the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.usefixtures("eager_threads")
class TestThreads:
    def test_no_dimension_is_over_admitted(self, clock: ManualClock, anyio_backend: str) -> None:
        """Eight loops in eight threads on one dimension get exactly what there is."""
        leases = leases_of(clock)
        dimension = Dimension(("x",), 1, 3000, per=3600.0)
        granted: list[str] = []
        start = threading.Barrier(8)

        async def reserve(number: int) -> None:
            start.wait()
            for each in range(500):
                lease_id = f"{number}-{each}"
                if (await leases.reserve(lease_id, [dimension], ttl=60)).granted:
                    granted.append(lease_id)

        in_threads(8, lambda number: anyio.run(reserve, number, backend=anyio_backend))
        assert len(granted) == 3000

    def test_what_is_given_back_is_not_lost(self, clock: ManualClock, anyio_backend: str) -> None:
        """After threads have reserved, settled, refunded and renewed, the count is exact."""
        leases = leases_of(clock)
        rate = Dimension(("rate",), 3, 40, per=3600.0)
        slots = Dimension(("slots",), 1, 10, held=True)
        used: list[int] = []

        async def work(number: int) -> None:
            for each in range(100):
                lease_id = f"{number}-{each}"
                if not (await leases.reserve(lease_id, [rate, slots], ttl=60)).granted:
                    continue
                assert await leases.level(slots) >= 0
                assert await leases.renew(lease_id, ttl=60)
                if each % 10 == 0:
                    assert await leases.settle(lease_id, [1, 1])
                    used.append(1)
                else:
                    assert await leases.refund(lease_id)

        in_threads(6, lambda number: anyio.run(work, number, backend=anyio_backend))
        level = 40 - len(used)
        assert (await_now(leases.level(rate)), await_now(leases.level(slots))) == (level, 10)

    def test_blobs_stay_whole(self, clock: ManualClock, anyio_backend: str) -> None:
        """Sizes and tags agree after threads have worked on the same keys."""
        blobs = blobs_of(clock, entries=20, size=100 + TAG_OVERHEAD)

        async def work(number: int) -> None:
            for each in range(60):
                await blobs.put(f"{each % 30}", bytes(each), tags=frozenset({str(each % 3)}))
                await blobs.get(f"{(each + number) % 30}")
            await blobs.purge(tag="1")

        in_threads(6, lambda number: anyio.run(work, number, backend=anyio_backend))
        await_now(blobs.purge())
        assert (blobs.size, blobs._tagged) == (0, {})

    def test_all_threads_share_one_object(self) -> None:
        """Threads that make an object at the same time all get the same one."""
        local = LocalObjects(max_objects=100)
        got: list[tuple[int, object]] = []

        def work(number: int) -> None:
            got.extend((key, local.get((str(key),), object)) for key in range(50))

        in_threads(6, work)
        assert len(set(got)) == 50

    def test_the_process_has_one_set(self) -> None:
        """Every thread sees the same process-wide stores, and no test changes them."""
        got: list[Stores] = []
        in_threads(6, lambda _: got.append(process_stores()))
        assert all(stores is got[0] for stores in got)
        assert memory_stores() is not got[0]


def await_now(awaitable: Awaitable[Any]) -> Any:
    """The result of what never suspends, without a loop."""
    try:
        awaitable.__await__().send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it suspended")


class TestStores:
    async def test_closing_keeps_what_others_share(self) -> None:
        """The stores may be closed by one pipeline while another goes on with them."""
        stores = memory_stores()
        await stores.blobs.put("key", b"kept")
        await stores.aclose()
        await stores.aclose()
        assert await stores.blobs.get("key") is not None

    async def test_closing_closes_all_even_if_one_fails(self, clock: ManualClock) -> None:
        """A store that fails to close keeps none of the others open."""
        closed: list[str] = []

        class Failing(MemoryBlobs):
            async def aclose(self) -> None:
                closed.append("blobs")
                raise OSError("unreachable")

        class Recording(MemoryLeases):
            async def aclose(self) -> None:
                closed.append("leases")

        stores = attrs.evolve(
            memory_stores(),
            blobs=Failing(monotonic=clock, max_bytes=1000, max_entry_bytes=1000),
            leases=Recording(monotonic=clock, max_buckets=1),
        )
        with pytest.raises(OSError, match="unreachable"):
            await stores.aclose()
        assert sorted(closed) == ["blobs", "leases"]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
    def test_a_forked_child_finds_the_stores_open(self, tmp_path: Path) -> None:
        """A fork while other threads use the stores leaves no lock shut in the child."""
        script = tmp_path / "forking.py"
        script.write_text(FORKING)
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", script],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            # A measurement of coverage has locks of its own, which a fork may leave shut.
            env={name: value for name, value in os.environ.items() if "COVERAGE" not in name},
        )
        assert (done.returncode, done.stdout) == (0, "60 children\n"), done.stderr


FORKING = """
import os, signal, sys, threading
from lamella._memory_stores import process_stores

sys.setswitchinterval(1e-6)
stores = process_stores()
stop = False

def now(coroutine):
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value

def busy(number):
    while not stop:
        now(stores.blobs.put(f"{number}", b"x" * 100, tags=frozenset({"t"})))

threads = [threading.Thread(target=busy, args=(n,)) for n in range(3)]
for thread in threads:
    thread.start()
children = 0
for _ in range(60):
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        now(stores.blobs.put("child", b"x"))
        process_stores()
        os._exit(0)
    children += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop = True
for thread in threads:
    thread.join()
print(children, "children")
"""
