"""Virtual time: hours pass in milliseconds, sockets work, the same seed gives the same trace."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from typing import Any

import anyio
import anyio.abc
import pytest

from lamella import ChatRequest, Dimension, Pipeline, Ports
from lamella._loops import current_loop
from lamella._watchdog import Alarm
from lamella.testing import (
    Scripted,
    run_virtual,
    virtual_backend,
    virtual_backends,
    virtual_ports,
)


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    """Both event loops."""
    return str(request.param)


def test_time_jumps(backend: str) -> None:
    """Sleeping and timing out for hours takes no time; the clock is exact, and starts at 0."""

    async def wait() -> list[float]:
        instants = [anyio.current_time()]
        await anyio.sleep(3600)
        instants.append(anyio.current_time())
        with anyio.move_on_after(600):
            await anyio.sleep_forever()
        return [*instants, anyio.current_time()]

    start = time.perf_counter()
    for _ in range(2):
        assert run_virtual(wait, backend=backend) == [0, 3600, 4200]
    assert time.perf_counter() - start < 2


def test_time_does_not_jump_while_something_can_run(backend: str) -> None:
    """A task that is ready runs before any timer, however near that is."""

    async def work() -> float:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0.001)
            for _ in range(500):
                await anyio.lowlevel.checkpoint()
            assert anyio.current_time() == 0
        return anyio.current_time()

    assert run_virtual(work, backend=backend) == pytest.approx(0.001)


def test_no_timer_is_early(backend: str) -> None:
    """A timer runs at its instant and not one float before, or it could set itself for ever."""

    async def wait() -> None:
        early: list[float] = []
        done = anyio.Event()
        second = math.nextafter(4.0, math.inf)

        def look() -> None:
            now = current_loop().now()
            early.extend([now] * (now < second))
            done.set()

        current_loop().call_at(4.0, lambda: None)
        current_loop().call_at(second, look)
        await done.wait()
        assert early == []

    run_virtual(wait, backend=backend)


def test_an_alarm_rings_after_the_shortest_span(backend: str) -> None:
    """Also one that sets itself anew for a span that is lost in the sum with the clock."""

    async def wait() -> None:
        rung: list[float] = []
        done = anyio.Event()

        def ring() -> None:
            rung.append(current_loop().now())
            if len(rung) < 3:
                alarm.arm(1e-30)
            else:
                done.set()

        alarm = Alarm(ring)
        alarm.arm(100.0)
        await done.wait()
        assert len(set(rung)) == 3

    run_virtual(wait, backend=backend)


def test_timers_fire_in_order(backend: str) -> None:
    """Many sleepers wake at their instants, in order, over years."""

    async def sleep() -> list[float]:
        woken: list[float] = []

        async def one(seconds: float) -> None:
            await anyio.sleep(seconds)
            assert anyio.current_time() == pytest.approx(seconds, rel=1e-12)
            woken.append(seconds)

        async with anyio.create_task_group() as group:
            for exponent in reversed(range(-6, 10)):
                group.start_soon(one, 10.0**exponent)
        return woken

    woken = run_virtual(sleep, backend=backend, limit=1e11)
    assert woken == sorted(woken)
    assert len(woken) == 16


def test_loopback_sockets_work(backend: str) -> None:
    """Bytes on their way arrive before time jumps: no false time-out in twenty round trips."""

    async def talk() -> float:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port: int = listener.extra(anyio.abc.SocketAttribute.local_port)

        async def serve(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                async for received in stream:
                    await anyio.sleep(100)
                    await stream.send(received)

        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve)
            async with await anyio.connect_tcp("127.0.0.1", port) as client:
                for _ in range(20):
                    await client.send(b"x")
                    with anyio.fail_after(100.5):
                        assert await client.receive() == b"x"
            group.cancel_scope.cancel()
        return anyio.current_time()

    assert run_virtual(talk, backend=backend) == pytest.approx(2000)


def test_a_deadlock_ends(backend: str) -> None:
    """What waits for something that never comes ends with an error instead of hanging."""
    with pytest.raises(TimeoutError, match="never comes"):
        run_virtual(anyio.sleep_forever, backend=backend)
    with pytest.raises(TimeoutError, match="60 s of virtual time"):
        run_virtual(anyio.sleep, 100, backend=backend, limit=60)


def test_all_tasks_blocked_is_before_the_next_timer(backend: str) -> None:
    """Who waits until nothing can run is woken before time jumps to the sleepers."""

    async def wait() -> list[float]:
        instants: list[float] = []
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 10)
            await anyio.wait_all_tasks_blocked()
            instants.append(anyio.current_time())
        return [*instants, anyio.current_time()]

    blocked, end = run_virtual(wait, backend=backend)
    assert blocked < 1
    assert end == 10


async def _race(seed: int) -> list[int]:
    """The order in which ten tasks that can all run get their turns."""
    ports = virtual_ports(seed)
    order: list[int] = []

    async def one(number: int) -> None:
        for _ in range(5):
            await ports.sleep(ports.random.choice((0.0, 0.5)))
            order.append(number)

    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(one, number)
    return order


def test_a_seed_gives_one_trace(backend: str) -> None:
    """The same seed gives the same order of events, another seed another one."""
    runs = [run_virtual(_race, 1, backend=backend, seed=1) for _ in range(4)]
    assert runs == [runs[0]] * 4
    assert run_virtual(_race, 2, backend=backend, seed=2) != runs[0]


def test_trios_chance_is_given_back() -> None:
    """After a run trio schedules as it did before."""
    import trio._core._run as scheduler

    module: Any = scheduler
    before = (module._ALLOW_DETERMINISTIC_SCHEDULING, module._r.getstate())
    run_virtual(_race, 1, backend="trio")
    assert (module._ALLOW_DETERMINISTIC_SCHEDULING, module._r.getstate()) == before


def test_asyncios_executor_is_waited_for() -> None:
    """Time does not jump while the loop's own executor works."""

    async def resolve() -> float:
        async with asyncio.timeout(5):
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, time.sleep, 0.02)
        return anyio.current_time()

    assert run_virtual(resolve) == 0


def test_unknown_backends_are_refused() -> None:
    """A wrong name or a negative grace is an error that says what there is."""
    with pytest.raises(ValueError, match="'asyncio' or 'trio'"):
        virtual_backend("curio")
    with pytest.raises(ValueError, match="0 or more"):
        virtual_backend("asyncio", grace=-1)
    assert [name for name, _ in virtual_backends()] == ["asyncio", "trio"]


def test_ports_follow_the_loop(backend: str) -> None:
    """Monotonic and wall time are the loop's, ids and chance the seed's."""

    async def look() -> tuple[float, float, float, str]:
        ports = virtual_ports(3, epoch=1_000_000.0)
        before = ports.monotonic()
        await ports.sleep(90)
        return ports.monotonic() - before, ports.wall(), ports.random.random(), ports.new_id()

    seen = run_virtual(look, backend=backend)
    assert seen == run_virtual(look, backend=backend)
    assert seen[:2] == (90, 1_000_090)
    assert seen[3] == "00000003" + "1".rjust(24, "0")


def test_ports_run_blocking_work_inline_and_resolve_no_names(backend: str) -> None:
    """Threads would not be seen by the clock; names would leave the machine."""

    async def use() -> None:
        ports = virtual_ports()
        assert await ports.thread(math.hypot, 3, 4) == 5
        assert await ports.resolve("localhost", 80) == ["127.0.0.1"]
        assert await ports.resolve("::1", 80) == ["::1"]
        with pytest.raises(socket.gaierror, match=r"Ports\(resolve=") as unknown:
            await ports.resolve("example.com", 80)
        assert unknown.value.errno == socket.EAI_NONAME

    run_virtual(use, backend=backend)


def test_ports_share_no_store(backend: str) -> None:
    """Each set of ports has stores of its own, on the loop's clock."""

    async def reserve() -> None:
        limit = [Dimension(("k",), 1, capacity=1, per=60)]

        async def granted(ports: Ports) -> bool:
            return (await ports.stores.leases.reserve(ports.new_id(), limit, ttl=10)).granted

        one, other = virtual_ports(), virtual_ports()
        assert [await granted(one), await granted(one), await granted(other)] == [
            True, False, True,
        ]  # fmt: skip
        await one.sleep(61)
        assert await granted(one)

    run_virtual(reserve, backend=backend)


def test_ports_outside_a_loop() -> None:
    """Outside any loop time stands still: what is made there may read it."""
    ports = virtual_ports()
    assert ports.monotonic() == 0
    with pytest.raises(ValueError, match="no instant"):
        virtual_ports(epoch=math.nan)


def test_a_day_of_traffic(backend: str) -> None:
    """A real stack runs through a day in a moment."""

    async def day() -> int:
        transport = Scripted(["hello there"], repeat=True, delay=1, gap=0.5)
        pipeline = Pipeline([], transport, ports=virtual_ports())
        for _ in range(24 * 12):
            await pipeline.run(ChatRequest.of("hi"))
            await anyio.sleep(300)
        return len(transport.requests)

    assert run_virtual(day, backend=backend) == 288
