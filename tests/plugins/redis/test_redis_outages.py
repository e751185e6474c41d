"""Limits through a guard while a real server dies, freezes, forgets, or is slow."""

from __future__ import annotations

import itertools
import re
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from redis_peers import PATIENCE, Proxy, Valkey, command, impatient

from lamella import Dimension, GuardedLeases, Secret
from lamella_redis import RedisLeases, redis_leases

pytestmark = pytest.mark.anyio

_numbers = itertools.count()
LIMIT = Dimension(("a",), 1, 100)
LATE = 10.0
"""Seconds that no call takes; one that waits for a server takes `PATIENCE`."""


def guarded(url: str, timeout: float = PATIENCE, **options: Any) -> GuardedLeases:
    """The registered store, which tries again soon."""
    namespace = f"outage{next(_numbers)}"
    return redis_leases(url, namespace=namespace, timeout=timeout, rest=0.2, **options)


async def timed(store: GuardedLeases, lease_id: str, limit: Dimension = LIMIT) -> bool:
    """Whether it was granted; never late."""
    began = time.monotonic()
    lease = await store.reserve(lease_id, [limit], ttl=600.0)
    assert time.monotonic() - began < LATE
    return lease.granted


async def until_well(store: GuardedLeases) -> None:
    """Wait until the store answers again, with operations that use nothing."""
    with anyio.fail_after(PATIENCE):
        while not store.health().well:
            await store.level(LIMIT)
            await anyio.sleep(0.02)


async def until_told(store: GuardedLeases) -> None:
    """Wait until the store has heard of all ends of leases."""
    with anyio.fail_after(PATIENCE):
        while store.health().detail["untold"]:  # noqa: ASYNC110 - the store tells nobody
            await anyio.sleep(0.02)


async def test_a_killed_server(own_valkey: Valkey) -> None:
    """Its clients count their share by themselves, and go back to it when it is there again."""
    store = guarded(own_valkey.url, processes=4)
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
        with impatient(store):
            began = time.monotonic()
            granted = [await timed(store, f"during {n}") for n in range(400)]
            assert sum(granted) == 10
            assert time.monotonic() - began < 20.0  # if each waited, it would be 40
            assert await store.settle("before", [1])
    finally:
        own_valkey.thaw()
    await until_well(store)
    await until_told(store)
    assert await store.level(LIMIT) == 99
    await store.aclose()


async def test_an_emptied_server(own_valkey: Valkey) -> None:
    """After FLUSHALL limits are full, leases unknown, and nothing fails."""
    store = guarded(own_valkey.url)
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
        with impatient(store):
            granted = [await timed(store, f"during {n}") for n in range(50)]
        assert sum(granted) == 10
        assert store.health().well is False
        proxy.delay = 0.0
        await until_well(store)
        await until_told(store)
        assert await store.level(LIMIT) == 99
        await store.aclose()


async def test_a_patient_guard_is_not_cut_short(valkey: Valkey) -> None:
    """A timeout of more than a second is waited for whole."""
    async with Proxy(valkey.port) as proxy:
        store = guarded(f"redis://127.0.0.1:{proxy.port}")
        await store.level(LIMIT)
        proxy.delay = 1.1
        assert await store.level(LIMIT) == 100
        assert store._asking._breaker.failures == 0
        await store.aclose()


async def test_a_user_with_few_rights(own_valkey: Valkey) -> None:
    """The commands and keys that the documentation names are enough."""
    page = (Path(__file__).parents[3] / "docs" / "shared-state.md").read_text("utf-8")
    names = page.partition("A restricted user needs")[2].partition("- **One script")[0]
    commands = re.findall(r"`([A-Z]+)`", names)
    admin = RedisLeases(own_valkey.url)
    rights = ["-@all", *[f"+{name.lower()}" for name in commands], "~{few}:*"]
    await command(admin, "ACL SETUSER", "few", "on", ">pw", *rights)
    url = Secret.of_value(f"redis://few:pw@127.0.0.1:{own_valkey.port}")
    store = RedisLeases(url, namespace="few")
    limits = [Dimension(("slot",), 1, 2, held=True), Dimension(("rate",), 4, 9, per=60.0)]
    for lease_id, ttl in (("a", 60.0), ("b", 0.05), ("c", 60.0)):
        assert (await store.reserve(lease_id, limits[: 1 + (lease_id != "c")], ttl=ttl)).granted
        await anyio.sleep(0.1 if lease_id == "b" else 0.0)
    assert not (await store.reserve("d", limits, ttl=60.0)).granted
    assert await store.renew("a", ttl=60.0)
    assert await RedisLeases(url, namespace="few").settle("a", [1, 6])
    assert await store.refund("c")
    assert await store.level(limits[0]) == 2
    assert (await store.health()).well
    await store.aclose()
    await admin.aclose()


async def test_a_crashed_holder(own_valkey: Valkey) -> None:
    """What a process held when it died is given back when its time is over."""
    store = RedisLeases(own_valkey.url)
    slot = Dimension(("slots",), 1, 1, held=True)
    assert (await store.reserve("dead", [slot], ttl=60.0)).granted
    assert not (await store.reserve("next", [slot], ttl=60.0)).granted
    assert await store.renew("dead", ttl=0.05)  # the last time that it could
    await anyio.sleep(0.1)
    assert (await store.reserve("next", [slot], ttl=60.0)).granted
    await store.aclose()
