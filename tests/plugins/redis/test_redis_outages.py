"""Limits through a guard while a real server dies, freezes, forgets, or is slow."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from typing import Any

import anyio
import pytest
from redis_peers import Proxy, Valkey, command

from lamella import Dimension, GuardedLeases
from lamella_redis import RedisLeases, redis_leases

pytestmark = pytest.mark.anyio

_numbers = itertools.count()
LIMIT = Dimension(("a",), 1, 100)
BOUND = 0.1
SLACK = 0.3  # of a busy machine


def guarded(url: str, timeout: float = BOUND, **options: Any) -> GuardedLeases:
    """The registered store, which tries again soon."""
    namespace = f"outage{next(_numbers)}"
    return redis_leases(url, namespace=namespace, timeout=timeout, rest=0.2, **options)


async def timed(store: GuardedLeases, lease_id: str, limit: Dimension = LIMIT) -> bool:
    """Whether it was granted; never late."""
    began = time.monotonic()
    lease = await store.reserve(lease_id, [limit], ttl=60.0)
    assert time.monotonic() - began < store._timeout + SLACK
    return lease.granted


async def until_well(store: GuardedLeases) -> None:
    """Wait until the store answers again, with operations that use nothing."""
    with anyio.fail_after(5):
        while not store.health().well:
            await store.level(LIMIT)
            await anyio.sleep(0.02)


async def until_told(store: GuardedLeases) -> None:
    """Wait until the store has heard of all ends of leases."""
    with anyio.fail_after(5):
        while store.health().detail["untold"]:  # noqa: ASYNC110 - the store tells nobody
            await anyio.sleep(0.02)


async def test_a_killed_server(own_valkey: Valkey) -> None:
    """Its clients count their share by themselves, and go back to it when it is there again."""
    store = guarded(own_valkey.url, timeout=1.0, processes=4)
    assert all([await timed(store, f"before {n}") for n in range(10)])
    own_valkey.kill()
    granted = [await timed(store, f"during {n}") for n in range(100)]
    assert sum(granted) == 25
    assert store.health().well is False
    own_valkey.restart()
    await until_well(store)
    # It is empty: within one window no more passes than a full limit.
    assert await store.level(LIMIT) == 100
    assert not await store.settle("before 1", [1])
    await store.aclose()


async def test_a_frozen_server(own_valkey: Valkey) -> None:
    """No call waits longer than the bound; what it did in its sleep is given back."""
    store = guarded(own_valkey.url, processes=10)
    assert await timed(store, "before")
    own_valkey.freeze()
    try:
        began = time.monotonic()
        granted = [await timed(store, f"during {n}") for n in range(200)]
        assert sum(granted) == 10
        assert time.monotonic() - began < 3.0
        assert await store.settle("before", [1])
    finally:
        own_valkey.thaw()
    await until_well(store)
    await until_told(store)
    assert await store.level(LIMIT) == 99
    await store.aclose()


async def test_an_emptied_server(own_valkey: Valkey) -> None:
    """After FLUSHALL limits are full, leases unknown, and nothing fails."""
    store = guarded(own_valkey.url, timeout=1.0)
    for number in range(100):
        assert await timed(store, str(number))
    assert not await timed(store, "more")
    inner: Any = store.store
    await command(inner, "FLUSHALL")
    granted = [await timed(store, f"again {n}") for n in range(150)]
    assert sum(granted) == 100
    assert not await store.settle("1", [1])
    assert not await store.renew("2", ttl=60.0)
    assert await store.settle("again 1", [1])
    assert store.health().well
    await store.aclose()


async def test_a_slow_server(valkey: Valkey) -> None:
    """Answers later than the bound are none: calls go on, and unheard grants are given back."""
    async with Proxy(valkey.port) as proxy:
        store = guarded(f"redis://127.0.0.1:{proxy.port}", processes=10)
        assert await timed(store, "before")
        proxy.delay = 0.25
        granted = [await timed(store, f"during {n}") for n in range(50)]
        assert sum(granted) == 10
        assert store.health().well is False
        proxy.delay = 0.0
        await until_well(store)
        await until_told(store)
        assert await store.level(LIMIT) == 99
        await store.aclose()


async def test_a_crashed_holder(own_valkey: Valkey) -> None:
    """What a process held when it died is given back when its time is over."""
    store = RedisLeases(own_valkey.url)
    slot = Dimension(("slots",), 1, 1, held=True)
    assert (await store.reserve("dead", [slot], ttl=0.2)).granted
    assert not (await store.reserve("next", [slot], ttl=60.0)).granted
    await anyio.sleep(0.25)
    assert (await store.reserve("next", [slot], ttl=60.0)).granted
    await store.aclose()


BURST = """
import sys, time
import anyio
from lamella import Dimension
from lamella_redis import RedisLeases

backend, url, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
limit = Dimension(("burst",), 1, 50, per=2.0)  # in any two seconds 50 and what flows back: 100
granted = 0

async def ask(store, name, end):
    global granted
    while time.monotonic() < end:
        lease = await store.reserve(name, [limit], ttl=60)
        if lease.granted:
            granted += 1
            return
        await anyio.sleep(min(lease.retry_after, 0.05))

async def main():
    store = RedisLeases(url, namespace="burst")
    await store.level(limit)
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    end = began + seconds
    async with anyio.create_task_group() as group:
        for number in range(150):
            group.start_soon(ask, store, f"{backend} {number}", end)
    print(granted, began, time.monotonic(), flush=True)
    await store.aclose()

anyio.run(main, backend=backend)
"""


@pytest.mark.parametrize("anyio_backend", [None])
def test_two_processes_keep_one_limit(own_valkey: Valkey, anyio_backend: None) -> None:
    """Of a burst of 300 over two processes, 100 at most pass in two seconds, and nearly that."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", BURST, backend, own_valkey.tcp, "1.5"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for backend in ("asyncio", "trio")
    ]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        answers = [child.communicate(timeout=20)[0] for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    granted, began, ended = zip(*[map(float, answer.split()) for answer in answers], strict=True)
    # A busy machine may take longer than two seconds, in which more flows back.
    seconds = max(2.0, max(ended) - min(began))
    assert 75 <= sum(granted) <= 50 + 25 * seconds
    assert all(granted)
