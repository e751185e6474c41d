"""Places under any schedule, on several loops, in a fleet, and when a loop or process ends."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lamella import (
    ChatRequest,
    ChatResponse,
    Context,
    Dimension,
    Ending,
    LimitedError,
    Outcome,
    OverloadedError,
    Pipeline,
    Ports,
    RateLimitError,
    ServerError,
)
from lamella._memory_stores import memory_stores
from lamella.testing import Scripted, run_virtual, virtual_ports
from lamella_middlewares.concurrency import Concurrency, Gauge
from lamella_middlewares.concurrency._aimd import AIMD
from lamella_middlewares.concurrency._gate import Gate, Place
from lamella_middlewares.concurrency._gradient import Gradient

KINDS = (None, "aimd", "gradient")

KEY = ("scripted", "m")

ASK = ChatRequest.of("hello", model="m")


def limited(limit: int, adaptive: Any = None, **options: Any) -> Concurrency:
    """The layer with a limit that stays."""
    if adaptive is not None:
        options |= {"adaptive": adaptive, "min_limit": limit, "max_limit": limit}
    return Concurrency(limit, **options)


# --- the gate ---------------------------------------------------------------------------------

ENDINGS = [
    Ending(Outcome.COMPLETE),
    Ending(Outcome.LEFT),
    Ending(Outcome.CANCELLED),
    Ending(Outcome.FAILED, ServerError("x", status=500)),
    Ending(Outcome.FAILED, RateLimitError("x", status=429)),
    Ending(Outcome.FAILED, OverloadedError("x", status=529)),
]


class Alive:
    """An event loop that goes on."""

    closed = False


class GateMachine(RuleBasedStateMachine):
    """The gate against a plain list, whatever the algorithm learns."""

    algorithm: type[AIMD] = AIMD

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.gate = Gate(self.algorithm(3, 1, 6), max_waiting=0)
        call: Any = SimpleNamespace(loop=Alive())
        ports = Ports(monotonic=lambda: self.now)
        self.context = Context().evolve(ports=ports, call=call)
        self.inside: list[Place] = []

    @rule(seconds=st.floats(0, 5))
    def pass_time(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule(streamed=st.booleans())
    def come(self, streamed: bool) -> None:
        """Whoever comes is let in if, and only if, fewer are inside than may be."""
        place = Place(self.gate, self.context, streamed=streamed)
        room = len(self.inside) < self.gate.limit
        assert self.gate.admit(place) is room
        if room:
            self.inside.append(place)

    @precondition(lambda self: self.inside)
    @rule(data=st.data(), ending=st.sampled_from(ENDINGS), first=st.none() | st.floats(0, 100))
    def go(self, data: Any, ending: Ending, first: float | None) -> None:
        """Somebody goes, once, whatever is said of it later. Only throttles lower the limit."""
        place = data.draw(st.sampled_from(self.inside))
        place.first_event = first
        before = self.gate.limit
        lowered = self.gate.leave(place, ending, self.now)
        assert not self.gate.leave(place, ending, self.now)
        self.inside.remove(place)
        if not isinstance(ending.error, RateLimitError | OverloadedError):
            assert not lowered
            assert self.gate.limit == before or ending.outcome is Outcome.COMPLETE

    @invariant()
    def counts(self) -> None:
        """The gauge is what is inside, and the limit within its bounds."""
        assert self.gate.in_flight == len(self.inside)
        assert 1 <= self.gate.limit <= 6


class GradientMachine(GateMachine):
    """The same with the other algorithm."""

    algorithm = Gradient


TestGateMachine = GateMachine.TestCase
TestGateMachine.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestGradientMachine = GradientMachine.TestCase
TestGradientMachine.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


# --- schedules --------------------------------------------------------------------------------

CALLS = st.lists(
    st.tuples(
        st.floats(0, 20),  # when it comes
        st.floats(0, 5),  # how long it takes
        st.sampled_from("abc"),
        st.integers(-1, 1),
        st.none() | st.floats(0, 10),  # when it is cancelled
    ),
    max_size=20,
)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("adaptive", KINDS)
@given(calls=CALLS, limit=st.integers(1, 3), max_waiting=st.integers(0, 6))
@settings(max_examples=20, deadline=None)
def test_under_any_schedule_no_more_are_in_flight_than_may_be(
    adaptive: Any, backend: str, calls: list[Any], limit: int, max_waiting: int
) -> None:
    """And nobody is forgotten, and in the end all places are free."""

    async def scenario() -> None:
        layer = limited(limit, adaptive, max_waiting=max_waiting, max_wait=8)
        ports = virtual_ports()
        ended: list[str] = []
        running = 0

        async def answer(request: ChatRequest) -> Any:
            nonlocal running
            running += 1
            assert running <= limit
            try:
                await ports.sleep(float(request.messages[0].text))
            finally:
                running -= 1
            return "ok"

        pipe = Pipeline([layer], Scripted([answer], repeat=True), ports=ports)

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
        assert len(ended) == len(calls)
        assert await layer.gauge(*KEY, stores=ports.stores) == Gauge(limit, 0, 0)

    run_virtual(scenario, backend=backend, limit=1000)


# --- loops, threads, processes ----------------------------------------------------------------


@pytest.mark.parametrize("adaptive", KINDS)
def test_two_asyncio_loops_and_a_trio_loop_share_the_limit(adaptive: Any) -> None:
    """A place that one gives back wakes who waits on another; nobody hangs."""
    layer = limited(3, adaptive)
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
        pipe = Pipeline([layer], Scripted([answer], repeat=True), ports=ports)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(pipe.run, ASK)
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

    async def check() -> None:
        assert await layer.gauge(*KEY, stores=ports.stores) == Gauge(3, 0, 0)

    anyio.run(check)


@pytest.mark.parametrize("adaptive", KINDS)
def test_a_loop_that_ends_in_the_middle_keeps_nobody_out(adaptive: Any) -> None:
    """Its answer can no longer be closed; its place comes back where it is wanted."""
    layer = limited(1, adaptive, max_waiting=0)
    ports = Ports(stores=memory_stores())
    pipe = Pipeline([layer], Scripted(["an answer"], repeat=True), ports=ports)

    async def forget() -> Any:
        block = pipe.stream(ASK)
        await block.__aenter__()
        return block

    loop = asyncio.new_event_loop()
    block = loop.run_until_complete(forget())
    loop.close()
    assert anyio.run(pipe.run, ASK).text == "an answer"
    del block
    gc.collect()
    assert anyio.run(pipe.run, ASK).text == "an answer"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("adaptive", ["aimd", "gradient"])
def test_a_forked_child_has_none_of_its_parents_places(adaptive: Any) -> None:
    """None of the parent's calls will give a place back to it."""
    layer = limited(1, adaptive, max_waiting=0)
    ports = Ports(stores=memory_stores())
    pipe = Pipeline([layer], Scripted(["an answer"], repeat=True), ports=ports)

    async def go() -> int:
        async with pipe.stream(ASK):
            before = await layer.gauge(*KEY, stores=ports.stores)
            assert before.in_flight == 1
            child = os.fork()
            if child == 0:
                found = await layer.gauge(*KEY, stores=ports.stores)
                os._exit(found.in_flight)
            return os.waitpid(child, 0)[1]  # noqa: ASYNC222 - it ends at once

    assert anyio.run(go) == 0


# --- a fleet ----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_processes_with_a_shared_store_share_a_fixed_limit(backend: str) -> None:
    """Each waits in a line of its own; together they are never more than the limit."""

    async def scenario() -> None:
        running = most = 0
        first = virtual_ports()
        leases = first.stores.leases

        async def answer(_: ChatRequest) -> Any:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await anyio.sleep(1)
            running -= 1
            return "ok"

        async def process(number: int) -> None:
            own = virtual_ports(number)
            stores = memory_stores(monotonic=own.monotonic)
            object.__setattr__(stores, "leases", Shared(leases))
            pipe = Pipeline(
                [Concurrency(3)],
                Scripted([answer], repeat=True),
                ports=Ports(
                    monotonic=own.monotonic, sleep=own.sleep, new_id=own.new_id, stores=stores
                ),
            )
            found = await pipe.run_many([ASK] * 8)
            assert all(isinstance(response, ChatResponse) for response in found)

        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(process, number + 1)
        assert most == 3

    run_virtual(scenario, backend=backend, limit=1000)


class Shared:
    """A lease store that answers from afar: every operation takes a moment."""

    def __init__(self, leases: Any) -> None:
        self._leases = leases

    async def reserve(self, *args: Any, **more: Any) -> Any:
        """Reserve, after a while."""
        await anyio.sleep(0.01)
        return await self._leases.reserve(*args, **more)

    async def settle(self, *args: Any) -> Any:
        """Settle, after a while."""
        await anyio.sleep(0.01)
        return await self._leases.settle(*args)

    async def refund(self, *args: Any) -> Any:
        """Refund, after a while."""
        await anyio.sleep(0.01)
        return await self._leases.refund(*args)

    async def renew(self, *args: Any, **more: Any) -> Any:
        """Renew, after a while."""
        await anyio.sleep(0.01)
        return await self._leases.renew(*args, **more)

    async def level(self, *args: Any) -> Any:
        """What is left, after a while."""
        await anyio.sleep(0.01)
        return await self._leases.level(*args)

    async def aclose(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_place_in_use_is_renewed_and_a_dead_ones_comes_back(backend: str) -> None:
    """A stream keeps its place as long as it lasts; one that nobody renews is free after `ttl`."""

    async def scenario() -> None:
        layer = Concurrency(2, ttl=30, max_waiting=0)
        ports = virtual_ports()
        pipe = Pipeline([layer], Scripted(["an answer"], repeat=True), ports=ports)
        dimension = Dimension(
            ("shared", "concurrency", "provider+model", *KEY, "2", "attempts in flight"),
            1,
            2,
            held=True,
        )
        await ports.stores.leases.reserve("of one who died", [dimension], ttl=30)
        async with pipe.stream(ASK) as response:
            assert (await layer.gauge(*KEY, stores=ports.stores)).in_flight == 2
            with pytest.raises(LimitedError):
                await pipe.run(ASK)
            await anyio.sleep(31)
            assert (await layer.gauge(*KEY, stores=ports.stores)).in_flight == 1
            await anyio.sleep(500)
            assert (await layer.gauge(*KEY, stores=ports.stores)).in_flight == 1
            await response.collect()
        assert (await layer.gauge(*KEY, stores=ports.stores)).in_flight == 0

    run_virtual(scenario, backend=backend, limit=10_000)
