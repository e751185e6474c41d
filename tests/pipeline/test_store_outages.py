"""Limits while the store that counts them does not answer."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import pytest
from remote_leases import Remote

from lamella import (
    ConfigurationError,
    Dimension,
    GuardedLeases,
    Lease,
    Pipeline,
    StoreUnavailableError,
)
from lamella._memory_stores import memory_stores
from lamella._stores import LeaseStore
from lamella.testing import Scripted, check_lease_store, virtual_ports

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(lamella_virtual_backend: Any) -> Any:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend


def total(amount: int, capacity: int = 100) -> Dimension:
    """Something that does not flow back."""
    return Dimension(("test", "total"), amount, capacity)


@pytest.fixture
def remote() -> Remote:
    """A store that answers."""
    return Remote()


def guarded(remote: Remote, **options: Any) -> GuardedLeases:
    """The store with a guard, on the same clock."""
    return GuardedLeases(remote, monotonic=remote.monotonic, **options)


async def take(store: LeaseStore, lease_id: str, *dimensions: Dimension) -> Lease:
    """A reservation for an hour."""
    return await store.reserve(lease_id, dimensions, ttl=3600.0)


async def until(done: Callable[[], bool]) -> None:
    """Wait for something that nobody tells."""
    with anyio.fail_after(5):
        while not done():  # noqa: ASYNC110 - see above
            await anyio.sleep(0.01)


def forked(child: Callable[[], Awaitable[None]]) -> int:
    """Run that in a child of this process; how it ended."""
    process = os.fork()
    if not process:
        failed = 1
        try:
            anyio.run(child)
            failed = 0
        finally:
            os._exit(failed)
    return os.waitpid(process, 0)[1]


async def failing(store: GuardedLeases, times: int = 5) -> None:
    """Let the store be asked in vain."""
    for number in range(times):
        await store.reserve(f"vain {number}", [], ttl=1.0)


async def test_while_the_store_answers_it_is_the_store() -> None:
    """A guard adds nothing: every rule of the port holds through it."""

    def make() -> LeaseStore:
        return guarded(Remote(), processes=7, wall=virtual_ports().wall)

    await check_lease_store(make, anyio.sleep)


class TestNow:
    async def test_a_guard_knows_how_far_its_store_is_ahead(self, remote: Remote) -> None:
        """Its clock is the store's, asked every ten seconds, and goes on while the store is out."""
        wall = virtual_ports().wall
        remote.memory._wall = lambda: wall() + 100.0
        store = guarded(remote, wall=wall)
        for _ in range(3):
            assert await store.now() == pytest.approx(wall() + 100.0)
        assert remote.asked == 1
        remote.memory._wall = lambda: wall() + 200.0
        await anyio.sleep(10.0)
        assert await store.now() == pytest.approx(wall() + 200.0)
        assert remote.asked == 2
        remote.state = "gone"
        await anyio.sleep(10.0)
        assert await store.now() == pytest.approx(wall() + 200.0)
        assert remote.asked == 3

    async def test_a_clock_that_was_set_is_no_measure(self, remote: Remote) -> None:
        """Who is set to another hour asks its store again; without one it has only its own."""
        wall, step = virtual_ports().wall, 0.0
        store = guarded(remote, wall=lambda: wall() + step)
        assert await store.now() == pytest.approx(wall())
        step = 3600.0
        assert await store.now() == pytest.approx(wall())
        assert remote.asked == 2
        alone = guarded(Remote(), wall=lambda: wall() + step)
        alone.store.state = "gone"  # type: ignore[attr-defined]
        assert await alone.now() == pytest.approx(wall() + 3600.0)


class TestLocal:
    async def test_a_process_counts_its_share(self, remote: Remote) -> None:
        """Of 100, four processes let through 25 each, whatever the store had granted."""
        store = guarded(remote, processes=4)
        await take(store, "before", total(90))
        remote.state = "gone"
        granted = [(await take(store, str(n), total(1))).granted for n in range(40)]
        assert granted == [True] * 25 + [False] * 15

    async def test_a_share_is_at_least_one(self, remote: Remote) -> None:
        """A limit smaller than the number of processes still lets one through in each."""
        store = guarded(remote, processes=10)
        remote.state = "gone"
        assert (await take(store, "a", total(1, 3))).granted
        assert not (await take(store, "b", total(1, 3))).granted
        assert not (await take(store, "c", total(1, 0))).granted

    async def test_a_rate_smaller_than_the_fleet_comes_more_slowly(self, remote: Remote) -> None:
        """Of 2 a minute, six processes let through one in three minutes each."""
        store = guarded(remote, processes=6)
        remote.state = "gone"
        rate = Dimension(("rate",), 1, 2, per=60.0)
        assert (await take(store, "a", rate)).granted
        lease = await take(store, "b", rate)
        assert (lease.granted, lease.refused, lease.retry_after) == (False, rate, 180.0)

    async def test_what_exceeds_a_share_takes_all_of_it(self, remote: Remote) -> None:
        """A large reservation passes when the share is whole, and its excess is waited out."""
        store = guarded(remote, processes=4)
        remote.state = "gone"
        rate = Dimension(("rate",), 80, 100, per=60.0)
        assert (await take(store, "a", rate)).granted
        assert await store.settle("a", [80])
        assert await store.level(rate) == 25 - 80
        lease = await take(store, "b", rate)
        assert (lease.granted, lease.refused, lease.retry_after) == (False, rate, 192.0)

    async def test_what_exceeds_the_limit_never_fits(self, remote: Remote) -> None:
        """An outage does not make room for what the limit itself refuses."""
        remote.state = "gone"
        for outage in ("local", "allow"):
            lease = await take(guarded(remote, outage=outage), "a", total(101))
            assert (lease.granted, lease.refused, lease.retry_after) == (False, total(101), None)

    async def test_local_leases_stay_local(self, remote: Remote) -> None:
        """What was granted here is settled, refunded and renewed here, whatever comes."""
        store = guarded(remote)
        remote.state = "gone"
        for lease_id in ("a", "b"):
            first = await take(store, lease_id, total(10))
            assert await take(store, lease_id, total(10)) == first
        remote.state, remote.asked = "well", 0
        assert await store.renew("a", ttl=60.0)
        assert await store.settle("a", [4])
        assert await store.refund("b")
        assert await store.settle("a", [4])
        assert not await store.refund("a")
        assert remote.asked == 0
        assert await remote.memory.level(total(0)) == 100
        remote.state = "gone"
        assert await store.level(total(0)) == 96


async def test_deny_refuses_with_a_time(remote: Remote) -> None:
    """Where counting must be exact, a reservation is an error that says when to try again."""
    store = guarded(remote, outage="deny", rest=8.0)
    remote.state = "gone"
    for _ in range(5):
        with pytest.raises(StoreUnavailableError, match=r"Remote does not answer \(.+\)") as caught:
            await take(store, "a", total(1))
        assert isinstance(caught.value.__cause__, StoreUnavailableError)
    await anyio.sleep(3.0)
    with pytest.raises(StoreUnavailableError) as caught:
        await store.level(total(0))
    assert caught.value.retry_after == pytest.approx(5.0)


async def test_who_denies_is_patient(remote: Remote) -> None:
    """Where silence costs a request the store has a second, and elsewhere 50 ms, unless told."""
    times = [guarded(remote, outage=how).timeout for how in ("deny", "local", "allow")]
    assert times == [1.0, 0.05, 0.05]
    assert guarded(remote, outage="deny", timeout=0.2).timeout == 0.2
    answer = remote.memory.reserve

    async def slow(lease_id: str, dimensions: Sequence[Dimension], *, ttl: float) -> Lease:
        await anyio.sleep(0.9)
        return await answer(lease_id, dimensions, ttl=ttl)

    remote.memory.reserve = slow  # type: ignore[method-assign]
    assert (await take(guarded(remote, outage="deny"), "a", total(1))).granted
    remote.state = "silent"
    began = anyio.current_time()
    with pytest.raises(StoreUnavailableError, match="no answer in 1 s"):
        await take(guarded(remote, outage="deny"), "b", total(1))
    assert anyio.current_time() - began == pytest.approx(1.0)


async def test_allow_grants_uncounted(remote: Remote) -> None:
    """Where no call may be lost, everything that could ever pass does."""
    store = guarded(remote, outage="allow")
    remote.state = "gone"
    for number in range(300):
        assert (await take(store, str(number), total(60))).granted
        assert await store.settle(str(number), [70])
        assert await store.settle(str(number), [70])
        assert not await store.refund(str(number))
    assert await store.level(total(0)) == 100


class TestBreaker:
    async def test_no_operation_takes_longer_than_the_timeout(self, remote: Remote) -> None:
        """A silent store costs five operations 50 ms each, then nothing but a try now and then."""
        store = guarded(remote, rest=2.0)
        remote.state = "silent"
        began = anyio.current_time()
        await failing(store)
        assert anyio.current_time() - began <= 0.2500001
        for number in range(100):
            await take(store, str(number), total(1))
        assert anyio.current_time() - began <= 0.2500001
        asked = remote.asked
        await anyio.sleep(2.0)
        assert remote.asked - asked <= 2

    async def test_one_tries_while_others_pass_by(self, remote: Remote) -> None:
        """When the rest is over one operation asks the store; nobody else waits for it."""
        store = guarded(remote, rest=2.0)
        remote.state = "gone"
        await failing(store)
        await anyio.sleep(2.0)
        remote.state, remote.asked = "silent", 0
        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(take, store, str(number), total(1))
        assert remote.asked == 1

    async def test_failures_must_be_in_a_row(self, remote: Remote) -> None:
        """An answer in between starts the count anew."""
        store = guarded(remote)
        for _ in range(3):
            remote.state = "gone"
            await failing(store, 4)
            remote.state = "well"
            assert (await take(store, "a", total(1))).granted
        assert store.health().well

    async def test_what_fails_at_once_counts_once(self, remote: Remote) -> None:
        """A moment in which this process stands still is no proof that the store is out."""
        store = guarded(remote)
        for wave in range(5):
            assert store.health().well
            remote.state = "silent"
            async with anyio.create_task_group() as group:
                for number in range(50):
                    group.start_soon(store.settle, f"{wave} {number}", [])
        assert not store.health().well

    async def test_a_change_is_logged_once(
        self, remote: Remote, caplog: pytest.LogCaptureFixture
    ) -> None:
        """One line when it begins, one when it ends; health says it meanwhile."""
        store = guarded(remote, processes=4, rest=1.0)
        with caplog.at_level(logging.INFO, logger="lamella"):
            remote.state = "broken"
            await failing(store, 20)
            health = store.health()
            assert health.well is False
            assert health.detail["outage"] == "local"
            assert "ConnectionResetError: lost" in health.detail["error"]
            remote.state = "well"
            await anyio.sleep(1.5)
            await take(store, "a", total(1))
        assert len(caplog.messages) == 2
        assert "counts by itself, with 1/4 of each limit" in caplog.messages[0]
        assert "answers again" in caplog.messages[1]
        assert store.health().well

    async def test_a_mistake_is_no_outage(self, remote: Remote) -> None:
        """What is wrong with the question is raised, and does not count against the store."""
        store = guarded(remote)
        for _ in range(20):
            with pytest.raises(ValueError, match="ttl"):
                await store.reserve("a", [total(1)], ttl=0.0)
        assert store.health().well


class TestArrears:
    async def test_ends_that_were_not_heard_are_told_later(self, remote: Remote) -> None:
        """Leases of the store that end in an outage are settled there when it is back."""
        store = guarded(remote)
        for lease_id in ("a", "b", "c"):
            await take(store, lease_id, total(10))
        remote.state = "gone"
        assert await store.renew("c", ttl=60.0)
        assert await store.settle("a", [3])
        assert await store.refund("b")
        await failing(store)
        assert store.health().detail["untold"] == 2
        remote.state = "well"
        await anyio.sleep(5.0)
        assert store.health().detail["untold"] == 0
        assert await remote.memory.level(total(0)) == 100 - 3 - 10

    @pytest.mark.parametrize("state", ["mute", "broken"])
    async def test_a_reservation_with_an_unknown_end_is_taken_back(
        self, remote: Remote, state: str
    ) -> None:
        """What the store granted without being heard does not block the limit for an hour."""
        store = guarded(remote)
        remote.state = state
        assert (await take(store, "a", total(60))).granted
        assert await remote.memory.level(total(0)) == 40
        remote.state = "well"
        await anyio.sleep(1.0)
        assert await remote.memory.level(total(0)) == 100

    async def test_a_cancelled_operation_is_finished(self, remote: Remote) -> None:
        """A caller that is cancelled half-way leaves neither a lease nor an open settlement."""
        store = guarded(remote)
        await take(store, "old", total(10))
        remote.state = "mute"
        with anyio.move_on_after(0.01):
            await take(store, "new", total(10))
        remote.state = "silent"
        with anyio.move_on_after(0.01):
            await store.settle("old", [1])
        remote.state = "well"
        await anyio.sleep(1.0)
        assert await remote.memory.level(total(0)) == 99

    async def test_an_id_that_is_being_taken_back_is_not_asked_for(self, remote: Remote) -> None:
        """The same id again does not find the lease that the store is about to lose."""
        store = guarded(remote, outage="deny")
        remote.state = "mute"
        with pytest.raises(StoreUnavailableError):
            await take(store, "a", total(60))
        remote.state = "well"
        with pytest.raises(StoreUnavailableError):
            await take(store, "a", total(60))
        assert (await take(store, "b", total(40))).granted

    async def test_what_is_too_old_is_left_to_expire(self, remote: Remote) -> None:
        """After a minute nothing is told any more, and the task has ended."""
        store = guarded(remote)
        await take(store, "a", total(10))
        remote.state = "gone"
        await store.refund("a")
        await anyio.sleep(70.0)
        remote.asked = 0
        remote.state = "well"
        await anyio.sleep(60.0)
        assert (remote.asked, store.health().detail["untold"]) == (0, 0)

    async def test_what_was_spent_is_told_however_long_it_takes(self, remote: Remote) -> None:
        """If its lease has expired meanwhile it is charged, once; what comes back is not."""
        store = guarded(remote)
        rate = Dimension(("test", "rate"), 9, 10, per=86_400.0)
        place = Dimension(("test", "place"), 1, 1, held=True)
        assert (await store.reserve("a", [place, total(50), rate], ttl=30.0)).granted
        remote.state = "gone"
        assert await store.settle("a", [1, 30, 9])
        await anyio.sleep(300.0)
        remote.state = "well"
        await anyio.sleep(60.0)
        levels = [await remote.memory.level(each) for each in (place, total(0), rate)]
        assert (levels, store.health().detail["untold"]) == ([1, 70, 10], 0)

    async def test_what_may_have_been_heard_is_not_charged_again(
        self, remote: Remote, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A store that has forgotten the lease would count it twice; the log says that."""
        store = guarded(remote)
        await take(store, "a", total(50))
        remote.state = "gone"
        await store.settle("a", [30])
        remote.state = "mute"
        await anyio.sleep(10.0)
        remote.state = "gone"
        remote.memory._ended.clear()
        await anyio.sleep(120.0)
        remote.state = "well"
        await anyio.sleep(60.0)
        assert (await remote.memory.level(total(0)), store.health().detail["untold"]) == (70, 0)
        assert "may not be counted" in caplog.text

    async def test_closing_tells_what_is_left(self, remote: Remote) -> None:
        """A program that ends after an outage has told what it spent."""
        store = guarded(remote)
        await take(store, "a", total(50))
        remote.state = "gone"
        await store.settle("a", [30])
        remote.state = "well"
        await store.aclose()
        assert (await remote.memory.level(total(0)), remote.closed) == (70, True)

    @pytest.mark.parametrize("anyio_backend", [None])
    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_another_loop_goes_on(self, anyio_backend: None, backend: str) -> None:
        """What a loop that has ended did not tell, the next one tells, once the store answers."""
        remote = Remote(time.monotonic)
        store = guarded(remote)

        async def first() -> None:
            await take(store, "a", total(10))
            remote.state = "gone"
            await store.settle("a", [3])

        async def second() -> None:
            remote.state = "well"
            assert await store.level(total(0)) == 90
            await until(lambda: not store.health().detail["untold"])
            assert await store.level(total(0)) == 97

        anyio.run(first, backend=backend)
        anyio.run(second, backend=backend)

    @pytest.mark.parametrize("anyio_backend", [None])
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
    def test_a_forked_child_tells_by_itself(self, anyio_backend: None) -> None:
        """It does not leave it to a loop that is its parent's."""
        remote = Remote(time.monotonic)
        store = guarded(remote)

        async def child() -> None:
            remote.state = "well"
            await take(store, "b", total(10))
            remote.state = "gone"
            await store.settle("b", [1])
            remote.state = "well"
            await until(lambda: not store.health().detail["untold"])
            assert await store.level(total(0)) == 96

        async def parent() -> int:
            await take(store, "a", total(10))
            remote.state = "gone"
            await store.settle("a", [3])
            return await anyio.to_thread.run_sync(forked, child)

        assert anyio.run(parent) == 0

    @pytest.mark.parametrize("anyio_backend", [None])
    def test_an_operation_may_be_dropped_after_its_loop(self, anyio_backend: None) -> None:
        """There is no loop to tell on then; whoever is answered next sees to it."""
        remote = Remote()
        store = guarded(remote)
        waiting: list[Any] = []

        async def begin() -> None:
            remote.state = "silent"
            for operation in (take(store, "a", total(1)), store.settle("b", [1])):
                operation.send(None)
                waiting.append(operation)

        loop = asyncio.new_event_loop()
        task = loop.create_task(begin())
        loop.run_until_complete(task)
        loop.close()
        for operation in waiting:
            operation.close()
        assert store.health().detail["untold"] == 2

    async def test_closing_ends_it(self, remote: Remote) -> None:
        """A closed guard tells nothing, and its store is closed."""
        store = guarded(remote)
        await take(store, "a", total(10))
        remote.state = "gone"
        await store.refund("a")
        await store.aclose()
        remote.asked, remote.state = 0, "well"
        await anyio.sleep(10.0)
        assert (remote.asked, remote.closed) == (0, True)


class TestPipelines:
    async def test_a_part_of_the_stores_can_be_given(self, remote: Remote) -> None:
        """What is not given is the process's own, and what is given closes with its last user."""
        store = guarded(remote)
        one = Pipeline([], Scripted(["Hello."]), stores={"leases": store})
        other = Pipeline([], Scripted(["Hello."]), stores={"leases": store, "blobs": None})
        assert one.ports.stores.leases is store
        assert one.ports.stores.blobs is Pipeline([], "mock").ports.stores.blobs
        assert (await one.health()).stores["leases"].detail["store"] == "Remote"
        await one.aclose()
        assert not remote.closed
        await other.aclose()
        assert remote.closed

    async def test_an_outage_degrades(self, remote: Remote) -> None:
        """Health says that the store is out, not that the pipeline is."""
        store = guarded(remote)
        async with Pipeline([], "mock", stores={"leases": store}) as pipeline:
            remote.state = "gone"
            await failing(store)
            health = await pipeline.health()
            assert (health.status, health.stores["leases"].well) == ("degraded", False)

    async def test_all_stores_can_be_given(self) -> None:
        """`Stores` replaces them all."""
        stores = memory_stores()
        async with Pipeline([], "mock", stores=stores) as pipeline:
            assert pipeline.ports.stores is stores

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"lease": "redis"}, "stores.lease: is no store. There are blobs, leases."),
            ({"leases": 5}, "stores.leases: got 5, expected a name"),
            ({"leases": "nowhere"}, "There is no store 'nowhere'"),
            ({"blobs": "sqlit"}, "Did you mean 'sqlite'? Known are memory,"),
            ("redis", "got 'redis', expected a table such as"),
        ],
    )
    async def test_what_is_no_store_is_refused(self, given: Any, words: str) -> None:
        """A mistake is named, and what there is."""
        with pytest.raises(ConfigurationError, match="Pipeline") as caught:
            Pipeline([], "mock", stores=given)
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"outage": "hope"},
        {"processes": 0},
        {"processes": 10**9},
        {"timeout": 0.0},
        {"rest": -1.0},
        {"processes": 1.5},
    ],
)
async def test_wrong_options_are_refused(remote: Remote, options: dict[str, Any]) -> None:
    """Each option is checked when the guard is made."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        guarded(remote, **options)
