"""LoadShed's room under any schedule, on several loops at once, and when a loop or process ends."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lamella import ChatRequest, Context, LimitedError, Pipeline, Ports
from lamella._memory_stores import memory_stores
from lamella.testing import Scripted, run_virtual, virtual_ports
from lamella_middlewares.load_shed import Load, LoadShed
from lamella_middlewares.load_shed._overload import Overload
from lamella_middlewares.load_shed._queue import AGING, Queue, Waiting


def ask(tenant: str | None = None, priority: int = 0) -> ChatRequest:
    """A request of somebody's."""
    return ChatRequest.of("hello", model="m", context=Context(tenant=tenant, priority=priority))


# --- the queue --------------------------------------------------------------------------------


class QueueMachine(RuleBasedStateMachine):
    """The queue against a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue()
        self.calls: list[Waiting] = []
        self.now = 0.0

    def _new(self, tenant: str, priority: int) -> Waiting:
        self.now += 1.0
        context: Any = Context(tenant=tenant, priority=priority)
        waiter: Any = None
        return Waiting(context, self.now, waiter)

    @rule(tenant=st.sampled_from("abc"), priority=st.integers(-1, 1))
    def come(self, tenant: str, priority: int) -> None:
        """Somebody comes."""
        call = self._new(tenant, priority)
        self.queue.add(call)
        self.calls.append(call)

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def go(self, data: Any) -> None:
        """Somebody gives up."""
        call = data.draw(st.sampled_from(self.calls))
        assert self.queue.discard(call)
        assert not self.queue.discard(call)
        self.calls.remove(call)

    @rule(newest_first=st.booleans())
    def turn(self, newest_first: bool) -> None:
        """The order turns."""
        self.queue.newest_first = newest_first

    @precondition(lambda self: self.calls)
    @rule()
    def serve(self) -> None:
        """Of the one that is served, no other of its tenant and priority came before, or after."""
        call = self.queue.next()
        assert call is not None
        same = [
            each
            for each in self.calls
            if (each.tenant, each.priority) == (call.tenant, call.priority)
        ]
        assert call is (same[-1] if self.queue.newest_first else same[0])
        if not self.queue.newest_first and any(one.priority > call.priority for one in self.calls):
            assert call.arrived <= self.now - AGING  # so much waiting outweighs a level
        self.calls.remove(call)

    @rule(tenant=st.sampled_from("abcd"), priority=st.integers(-2, 1))
    def too_many(self, tenant: str, priority: int) -> None:
        """Who has to go is of the lowest priority, and no more important than the newcomer."""
        newcomer = self._new(tenant, priority)
        least = self.queue.least(newcomer)
        assert least.priority == min([each.priority for each in [*self.calls, newcomer]])
        if least is not newcomer:
            own = [each for each in self.calls if each.tenant == least.tenant]
            assert least is [each for each in own if each.priority == least.priority][-1]

    @rule(age=st.floats(0, 10))
    def stale(self, age: float) -> None:
        """The stale are those of the lowest priority that came before."""
        lowest = min([each.priority for each in self.calls], default=0)
        expected = [
            each for each in self.calls if each.priority == lowest and each.arrived < self.now - age
        ]
        assert set(self.queue.stale(self.now - age)) == set(expected)

    @invariant()
    def counts(self) -> None:
        """All are there, once."""
        assert len(self.queue) == len(self.calls)
        assert set(self.queue) == set(self.calls)


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_it_goes_round_between_tenants() -> None:
    """However many one of them has."""
    queue = Queue()
    waiter: Any = None
    for number, tenant in enumerate("aaaaabbc"):
        queue.add(Waiting(Context(tenant=tenant), float(number), waiter))
    order = [call.tenant for call in iter(queue.next, None)]
    assert "".join(order) == "abcabaaa"


def test_a_newcomer_counts_only_those_that_go_before_it() -> None:
    """A tenant that floods the queue does not make the wait of another look long."""
    queue = Queue()
    waiter: Any = None
    for number in range(100):
        queue.add(Waiting(Context(tenant="loud"), float(number), waiter))
    assert queue.ahead(Waiting(Context(tenant="quiet"), 200.0, waiter)) == 1
    assert queue.ahead(Waiting(Context(tenant="loud"), 200.0, waiter)) == 100
    assert queue.ahead(Waiting(Context(tenant="vip", priority=1), 200.0, waiter)) == 0
    queue.newest_first = True
    assert queue.ahead(Waiting(Context(tenant="loud"), 200.0, waiter)) == 0


# --- overload ---------------------------------------------------------------------------------


def test_only_a_queue_that_stands_is_a_sign() -> None:
    """One who has waited less than the target within the interval shows that it drains."""
    overload = Overload(1.0, 10.0)
    for now in range(9):
        overload.entered(float(now), 5.0)
    overload.entered(9.0, 0.5)
    for now in range(10, 20):
        overload.entered(float(now), 5.0)
        assert not overload.on
    overload.entered(20.0, 5.0)
    assert overload.on


def test_it_is_over_when_nobody_waits_or_nobody_had_to_go_for_an_interval() -> None:
    """Both mean that what is asked can be done again."""
    for waiting, now in ((0, 11.0), (5, 25.0)):
        overload = Overload(1.0, 10.0)
        overload.entered(0.0, 5.0)
        overload.entered(10.0, 5.0)
        overload.shed(14.0)
        overload.look(15.0 if waiting else now, waiting)
        assert overload.on is bool(waiting)
        overload.look(now, waiting)
        assert not overload.on


# --- schedules --------------------------------------------------------------------------------

CALLS = st.lists(
    st.tuples(
        st.floats(0, 20),  # when it comes
        st.floats(0, 5),  # how long it takes
        st.sampled_from("abc"),
        st.integers(-1, 1),
        st.none() | st.floats(0, 10),  # when it is cancelled
    ),
    max_size=25,
)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(calls=CALLS, size=st.integers(1, 3), max_waiting=st.integers(0, 6))
@settings(max_examples=40, deadline=None)
def test_under_any_schedule_no_more_are_inside_than_may_and_nobody_is_forgotten(
    backend: str, calls: list[Any], size: int, max_waiting: int
) -> None:
    """And no place is free while somebody waits, and in the end all are free."""

    async def scenario() -> None:
        shed = LoadShed(size, max_waiting=max_waiting, max_wait=8, target=1, interval=3)
        ports = virtual_ports()
        ended: list[str] = []

        def check() -> None:
            load = shed.load(ports.stores)
            assert 0 <= load.in_flight <= size
            assert 0 <= load.waiting <= max_waiting
            assert not load.waiting or load.in_flight == size

        async def answer(request: ChatRequest) -> Any:
            check()
            await ports.sleep(float(request.messages[0].text))
            check()
            return "ok"

        pipe = Pipeline([shed], Scripted([answer], repeat=True), ports=ports)

        async def call(
            at: float, takes: float, tenant: str, priority: int, cancelled: float | None
        ) -> None:
            await anyio.sleep(at)
            context = Context(tenant=tenant, priority=priority)
            request = ChatRequest.of(str(takes), model="m", context=context)
            with anyio.move_on_after(float("inf") if cancelled is None else cancelled):
                try:
                    await pipe.run(request)
                except LimitedError:
                    ended.append("refused")
                else:
                    ended.append("answered")
                return
            ended.append("cancelled")

        async with anyio.create_task_group() as group:
            for each in calls:
                group.start_soon(call, *each)
        check()
        assert len(ended) == len(calls)
        load = shed.load(ports.stores)
        assert (load.in_flight, load.waiting) == (0, 0)

    run_virtual(scenario, backend=backend, limit=1000)


# --- loops, threads, processes ----------------------------------------------------------------


def test_two_asyncio_loops_and_a_trio_loop_share_the_room() -> None:
    """A place that one gives back goes to one who waits on another; nobody hangs."""
    shed = LoadShed(3, max_wait=None)
    ports = Ports(stores=memory_stores())
    lock, state = threading.Lock(), {"now": 0, "most": 0}

    async def answer(_: ChatRequest) -> Any:
        with lock:
            state["now"] += 1
            state["most"] = max(state["most"], state["now"])
        await anyio.sleep(0.001)
        with lock:
            state["now"] -= 1
        return "ok"

    done: list[int] = []

    async def work() -> None:
        pipe = Pipeline([shed], Scripted([answer], repeat=True), ports=ports)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(pipe.run, ask())
        done.append(20)

    threads = [
        threading.Thread(target=anyio.run, args=(work,), kwargs={"backend": backend})
        for backend in ("asyncio", "asyncio", "trio")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(done) == 60
    assert state["most"] <= 3
    assert shed.load(ports.stores) == Load(3, 0, 0, overloaded=False)


def test_a_loop_that_ends_in_the_middle_keeps_nobody_out() -> None:
    """Its answer can no longer be closed; its place comes back with the garbage."""
    shed = LoadShed(1, max_waiting=0)
    ports = Ports(stores=memory_stores())
    pipe = Pipeline([shed], Scripted(["an answer"], repeat=True), ports=ports)

    async def forget() -> Any:
        block = pipe.stream(ask())
        await block.__aenter__()
        return block

    loop = asyncio.new_event_loop()
    block = loop.run_until_complete(forget())
    loop.close()
    assert shed.load(ports.stores).in_flight == 1
    del block
    gc.collect()
    assert shed.load(ports.stores).in_flight == 0
    assert anyio.run(pipe.run, ask()).text == "an answer"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_begins_with_an_empty_room() -> None:
    """It has none of its parent's calls, so none of them will give a place back to it."""
    shed = LoadShed(1, max_waiting=0)
    ports = Ports(stores=memory_stores())
    pipe = Pipeline([shed], Scripted(["an answer"], repeat=True), ports=ports)

    async def go() -> int:
        async with pipe.stream(ask()):
            child = os.fork()
            if child == 0:
                os._exit(0 if shed.load(ports.stores).in_flight == 0 else 1)
            assert shed.load(ports.stores).in_flight == 1
            return os.waitpid(child, 0)[1]  # noqa: ASYNC222 - it ends at once

    assert anyio.run(go) == 0
