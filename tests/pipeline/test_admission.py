"""Several limits at once: all or none, nobody overtakes, and everything reserved is ended once."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import Context, LimitedError, Ports, StoreUnavailableError, Trace
from lamella._admission import admit
from lamella._background import Background
from lamella._calls import Call
from lamella._clock import Clock
from lamella._grants import Grant
from lamella._lines import Terms
from lamella._stores import Dimension, Lease, LeaseStore
from lamella._waiting_lines import waiting_lines
from lamella.testing import each_step, run_virtual, virtual_backends, virtual_ports

pytestmark = pytest.mark.anyio

TERMS = Terms("limit", "limited")
RATE = Dimension(("n", "limit", "x", "calls"), 1, 10, 10.0)
BULK = Dimension(("n", "limit", "x", "tokens"), 100, 1000, 10.0)
PLACE = Dimension(("n", "limit", "x", "places"), 1, 2, held=True)


@pytest.fixture(params=virtual_backends(), ids=lambda backend: f"virtual-{backend[0]}")
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both event loops, in virtual time."""
    return request.param


class Remote:
    """A store of this process that answers like one far away: late, and at times not at all."""

    def __init__(self, inner: LeaseStore, delay: float = 0.001) -> None:
        self.inner = inner
        self.delay = delay
        self.lost: list[str] = []  # operations that are applied, but whose reply is lost
        self.out: set[str] = set()
        self.calls: list[str] = []

    async def _reply(self, name: str, operation: Callable[[], Any]) -> Any:
        self.calls.append(name)
        await anyio.sleep(self.delay)
        answer = await operation()
        if name in self.lost:
            self.lost.remove(name)
            raise ConnectionResetError(name)
        await anyio.sleep(self.delay)
        return answer

    async def reserve(self, lease_id: str, dimensions: Sequence[Dimension], *, ttl: float) -> Lease:
        async def apply() -> Lease:
            lease = await self.inner.reserve(lease_id, dimensions, ttl=ttl)
            if lease.granted:
                self.out.add(lease_id)
            return lease

        lease: Lease = await self._reply("reserve", apply)
        return lease

    async def settle(self, lease_id: str, amounts: Sequence[int]) -> bool:
        self.out.discard(lease_id)
        there: bool = await self._reply("settle", lambda: self.inner.settle(lease_id, amounts))
        return there

    async def refund(self, lease_id: str) -> bool:
        self.out.discard(lease_id)
        there: bool = await self._reply("refund", lambda: self.inner.refund(lease_id))
        return there

    async def renew(self, lease_id: str, *, ttl: float) -> bool:
        there: bool = await self._reply("renew", lambda: self.inner.renew(lease_id, ttl=ttl))
        return there

    async def level(self, dimension: Dimension) -> int:
        level: int = await self._reply("level", lambda: self.inner.level(dimension))
        return level

    async def now(self) -> float:
        now: float = await self._reply("now", self.inner.now)
        return now

    async def aclose(self) -> None:
        await self.inner.aclose()


def remote_ports() -> tuple[Ports, Remote]:
    """Ports whose lease store is far away."""
    ports = virtual_ports()
    store = Remote(ports.stores.leases)
    return attrs.evolve(ports, stores=attrs.evolve(ports.stores, leases=store)), store


def begun(ports: Ports, **fields: Any) -> Context:
    """A context as a pipeline hands it to its layers."""
    trace = Trace("call", monotonic=ports.monotonic, wall=0.0)
    return Context(
        call_id="call",
        ports=ports,
        trace=trace,
        clock=Clock(ports.monotonic),
        call=Call(trace),
        background=Background(),
        **fields,
    )


async def end(grant: Grant, amounts: Sequence[int] | None = None) -> None:
    """End a grant, in whichever way its store takes."""
    waiting = grant.finish(amounts)
    if waiting is not None:
        await waiting


async def level(ports: Ports, dimension: Dimension) -> int:
    """What is left of a limit."""
    return await ports.stores.leases.level(dimension)


# --- all or none ------------------------------------------------------------------------------


async def test_with_room_it_is_granted_at_once() -> None:
    """All dimensions are reserved; the grant says what is left of each."""
    ports = virtual_ports()
    grant = await admit(begun(ports), (RATE, BULK), TERMS)
    assert (grant.remaining, grant.waited) == ((9, 900), 0.0)
    await end(grant, (1, 250))
    assert await level(ports, BULK) == 750
    assert len(waiting_lines(ports.stores)) == 0


async def test_a_refusal_reserves_nothing() -> None:
    """What one limit refuses costs nothing of the others."""
    ports = virtual_ports()
    greedy = attrs.evolve(BULK, amount=1001)
    with pytest.raises(LimitedError, match="it wants 1001 tokens, and the limit is 1000") as caught:
        await admit(begun(ports), (RATE, greedy), TERMS)
    assert caught.value.retry_after is None
    assert await level(ports, RATE) == 10


async def test_ending_twice_is_ending_once() -> None:
    """Only the first ending counts, whatever the second one says."""
    ports = virtual_ports()
    grant = await admit(begun(ports), (RATE,), TERMS)
    await end(grant)
    await end(grant, (1,))
    assert grant.settle((1,)) is grant.refund() is None
    assert await level(ports, RATE) == 10


async def test_it_waits_for_what_flows_back() -> None:
    """The eleventh of ten in ten seconds enters after one second."""
    ports = virtual_ports()
    for _ in range(10):
        await end(await admit(begun(ports), (RATE,), TERMS), (1,))
    grant = await admit(begun(ports), (RATE,), TERMS)
    assert grant.waited == pytest.approx(1.0, abs=0.01)


async def test_what_is_given_back_wakes_who_waits_for_it() -> None:
    """A place that comes free is taken in the same instant."""
    ports = virtual_ports()
    held = [await admit(begun(ports), (PLACE,), TERMS) for _ in range(2)]
    entered: list[float] = []

    async def wait() -> None:
        grant = await admit(begun(ports), (PLACE,), TERMS)
        entered.append(grant.waited)
        await end(grant)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(0.25)
        await end(held[0])
    assert entered == [pytest.approx(0.25)]
    await end(held[1])
    assert await level(ports, PLACE) == 2


async def test_a_predicted_wait_counts_those_ahead() -> None:
    """Behind others, what they want has to flow back first."""
    ports = virtual_ports()
    await end(await admit(begun(ports), (attrs.evolve(BULK, amount=1000),), TERMS), (1000,))

    async def want() -> None:
        await end(await admit(begun(ports), (attrs.evolve(BULK, amount=400),), TERMS), (400,))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(want)
            await anyio.lowlevel.checkpoint()
        await anyio.sleep(0.001)
        context = begun(ports, deadline=ports.monotonic() + 12)
        with pytest.raises(LimitedError) as caught:
            await admit(context, (BULK,), TERMS)
        assert caught.value.retry_after == pytest.approx(13.0, abs=0.02)
        later = begun(ports, deadline=ports.monotonic() + 14)
        assert (await admit(later, (BULK,), TERMS)).waited == pytest.approx(13.0, abs=0.02)


async def test_an_empty_bucket_holds_up_nobody_else() -> None:
    """Who waits for its own limit does not stand before those who need only the shared one."""
    ports = virtual_ports()
    own = Dimension(("n", "limit", "a", "own"), 1, 1, 100.0)
    await end(await admit(begun(ports), (own,), TERMS), (1,))
    async with anyio.create_task_group() as group:
        group.start_soon(admit, begun(ports, tenant="a"), (RATE, own), TERMS)
        await anyio.sleep(0.1)
        grant = await admit(begun(ports, tenant="b"), (RATE,), TERMS)
        assert grant.waited == 0
        group.cancel_scope.cancel()


async def test_small_ones_do_not_starve_a_large_one() -> None:
    """Who wants much of one limit gets it although many who want little come after it."""
    ports, order = virtual_ports(), []

    async def want(name: str, amount: int) -> None:
        grant = await admit(begun(ports), (RATE, attrs.evolve(BULK, amount=amount)), TERMS)
        order.append(name)
        await end(grant, (1, amount))

    async with anyio.create_task_group() as group:
        group.start_soon(want, "first", 900)
        await anyio.sleep(0.01)
        group.start_soon(want, "large", 1000)
        await anyio.sleep(0.01)
        for number in range(60):
            group.start_soon(want, f"small {number}", 20)
            await anyio.sleep(0.1)
    assert order[:2] == ["first", "large"]
    assert len(order) == 62


async def test_a_gate_stops_everybody_for_its_time() -> None:
    """While it is closed nobody is admitted; then they go in order."""
    ports, entered = virtual_ports(), []
    opens = ports.monotonic() + 5

    async def want(name: str) -> None:
        grant = await admit(
            begun(ports), (RATE,), TERMS, gate=lambda clock: max(0.0, opens - clock())
        )
        entered.append((name, round(grant.waited, 2)))

    async with anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(want, name)
            await anyio.sleep(0.01)
    assert entered == [("a", 5.0), ("b", 4.99), ("c", 4.98)]


# --- rates hold -------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.floats(0, 20), st.integers(1, 40), st.floats(0, 15), st.sampled_from("abc")),
        max_size=100,
    )
)
@settings(max_examples=25, deadline=None)
def test_no_window_ever_sees_more_than_the_limit(schedule: list[Any]) -> None:
    """Whatever comes when: in any window at most the burst and what flows back meanwhile."""
    rate = Dimension(("n", "limit", "x", "calls"), 1, 5, 5.0)
    entered: list[float] = []

    async def one(ports: Ports, at: float, amount: int, hold: float, tenant: str) -> None:
        await anyio.sleep(at)
        tokens = Dimension(("n", "limit", "x", "tokens"), amount, 50, 5.0)
        grant = await admit(begun(ports, tenant=tenant), (rate, tokens, PLACE), TERMS)
        entered.append(ports.monotonic())
        await anyio.sleep(hold)
        await end(grant, (1, amount // 2, 0))

    async def run() -> None:
        ports = virtual_ports()
        async with anyio.create_task_group() as group:
            for row in schedule:
                group.start_soon(partial(one, ports, *row))
        assert await level(ports, PLACE) == 2
        assert len(waiting_lines(ports.stores)) == 0

    run_virtual(run)
    assert len(entered) == len(schedule)
    for index, start in enumerate(entered):
        for count, stop in enumerate(entered[index:], start=1):
            assert count <= 5 + (stop - start) + 1e-6


# --- renewal ----------------------------------------------------------------------------------


async def test_a_grant_that_lasts_is_renewed() -> None:
    """An hour later it is still there, and is settled as it should be."""
    ports = virtual_ports()
    grant = await admit(begun(ports), (PLACE, BULK), TERMS)
    await anyio.sleep(3600)
    assert await level(ports, PLACE) == 1
    await end(grant, (0, 1000))
    assert await level(ports, PLACE) == 2
    assert await level(ports, BULK) == 100  # 900 more are owed; the 100 have long flowed back


async def test_a_grant_that_was_dropped_lapses() -> None:
    """What nobody can end any more is not renewed either."""
    ports = virtual_ports()
    await admit(begun(ports), (PLACE,), TERMS)
    gc.collect()
    await anyio.sleep(61)
    assert await level(ports, PLACE) == 2


async def test_who_waits_for_a_lapsed_place_gets_it() -> None:
    """Nobody announces that a lease has lapsed, and still the line goes on."""
    ports = virtual_ports()
    leases = ports.stores.leases
    await leases.reserve("dead", [attrs.evolve(PLACE, amount=2)], ttl=30)
    grant = await admit(begun(ports), (PLACE,), TERMS)
    assert 30 <= grant.waited <= 31.1


async def test_what_a_lost_lease_used_is_owed() -> None:
    """If it lapsed after all, its use is charged through a fresh one, and noted."""
    ports, store = remote_ports()
    context = begun(ports)
    grant = await admit(context, (BULK,), TERMS)
    await store.inner.refund(*store.out)
    await end(grant, (300,))
    assert await level(ports, BULK) == 700
    assert [note.name for note in context.trace.notes] == ["limit.lease_lost"]


# --- stores far away --------------------------------------------------------------------------


async def test_a_store_far_away_is_settled_by_what_finish_returns() -> None:
    """There the ending has to be awaited."""
    ports, store = remote_ports()
    grant = await admit(begun(ports), (RATE, BULK), TERMS)
    await end(grant, (1, 40))
    assert store.calls == ["reserve", "settle"]
    assert not store.out


async def test_a_settlement_that_fails_goes_on_in_the_background() -> None:
    """It is tried again until it is done; the answer does not suffer."""
    ports, store = remote_ports()
    context = begun(ports)
    grant = await admit(context, (BULK,), TERMS)
    store.lost = ["settle", "settle"]
    await end(grant, (40,))
    assert [note.fields for note in context.trace.notes] == [{"error": "ConnectionResetError"}]
    await anyio.sleep(1)
    assert store.calls.count("settle") == 3
    assert await level(ports, BULK) == 1000


async def test_a_settlement_that_is_cut_short_goes_on_in_the_background() -> None:
    """A callback may take a second; what takes longer is not lost."""
    ports, store = remote_ports()
    grant = await admit(begun(ports), (PLACE,), TERMS)
    store.delay = 5
    with anyio.move_on_after(1):
        await end(grant)
    store.delay = 0.01
    await anyio.sleep(1)
    assert await store.inner.level(PLACE) == 2


async def test_what_cannot_be_settled_is_left_to_expire(caplog: pytest.LogCaptureFixture) -> None:
    """After the lease's time it gives up, says so, and the place comes back by itself."""
    ports, store = remote_ports()
    grant = await admit(begun(ports), (PLACE,), TERMS)
    store.lost = ["refund"] * 100

    async def broken(lease_id: str) -> bool:
        raise ConnectionResetError

    store.inner.refund = broken  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING, logger="lamella"):
        await end(grant)
        await anyio.sleep(120)
    assert "left to expire" in caplog.text
    assert await store.inner.level(PLACE) == 2


async def test_a_lost_reply_to_a_reservation_is_undone() -> None:
    """Nobody knows whether it was reserved, so it is given back."""
    ports, store = remote_ports()
    store.lost = ["reserve"]
    with pytest.raises(ConnectionResetError):
        await admit(begun(ports), (PLACE,), TERMS)
    await anyio.sleep(1)
    assert await store.inner.level(PLACE) == 2
    assert not store.out


async def test_a_store_that_refuses_to_count_is_not_asked_again() -> None:
    """Its guard says no, and looks after what it may have reserved."""
    ports, store = remote_ports()

    async def down(*_: object, **__: object) -> Lease:
        raise StoreUnavailableError("The store does not answer.")

    store.reserve = down  # type: ignore[method-assign]
    context = begun(ports)
    with pytest.raises(StoreUnavailableError):
        await admit(context, (PLACE,), TERMS)
    assert context.background.names == ()


async def test_a_place_given_back_by_another_process_is_found() -> None:
    """The first in the line asks again, for nobody tells it."""
    ports, store = remote_ports()
    await store.inner.reserve("other", [attrs.evolve(PLACE, amount=2)], ttl=600)
    entered: list[float] = []

    async def wait() -> None:
        entered.append((await admit(begun(ports), (PLACE,), TERMS)).waited)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(2)
        await store.inner.refund("other")
    assert entered[0] == pytest.approx(2, abs=0.1)


# --- cancellation -----------------------------------------------------------------------------


def admitted(far: bool) -> Callable[[], tuple[Any, Any]]:
    """Three that share two places; the check is that all is given back."""

    def make() -> tuple[Any, Any]:
        near, store = remote_ports()
        ports = near if far else virtual_ports()

        async def one() -> None:
            grant = await admit(begun(ports), (PLACE, RATE), TERMS)
            try:
                await anyio.sleep(0.1)
            finally:
                with anyio.CancelScope(shield=True):
                    await end(grant, (0, 1))

        async def run() -> None:
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(one)

        async def check() -> None:
            await anyio.sleep(2)
            assert await level(ports, PLACE) == 2
            assert len(waiting_lines(ports.stores)) == 0
            assert not store.out

        return run, check

    return make


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("far", [False, True])
def test_cancelled_at_each_step(far: bool, backend: str) -> None:
    """Wherever it is cancelled, nothing stays reserved and nobody stays in a line."""
    assert each_step(admitted(far), backend=backend, again=(1,)) > 3
