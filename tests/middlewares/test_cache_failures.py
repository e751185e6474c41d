"""Cache: what a store does wrong, what is cancelled, and what closes is nobody's harm."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pytest
from caches import (
    ANSWER,
    ASK,
    Unreliable,
    by,
    called,
    embed,
    names,
    notes,
    saying,
    stack,
    streamed,
    texts,
)

from lamella import (
    CacheMissError,
    ChatResponse,
    ClosedError,
    ConfigurationError,
    DeadlineExceeded,
    Finish,
    GuardedBlobs,
    Packing,
    Pipeline,
    Ports,
    Secret,
    StoreUnavailableError,
    TextDelta,
)
from lamella._memory_blobs import MemoryBlobs
from lamella._memory_stores import memory_stores
from lamella.testing import Scripted, cancelled_at
from lamella_middlewares.cache import Cache, Stale
from lamella_middlewares.deadline import Deadline

pytestmark = pytest.mark.anyio


def memory(**options: Any) -> MemoryBlobs:
    """A store in memory."""
    given = {"max_bytes": 1 << 24, "max_entry_bytes": 1 << 22, **options}
    return MemoryBlobs(monotonic=anyio.current_time, **given)


def shaky(**options: Any) -> tuple[Pipeline, Scripted, Unreliable, Cache]:
    """A pipeline whose cache has a store that can be told to fail."""
    store = Unreliable(memory())
    cache = Cache(store=store, **options)
    pipeline, transport = stack(cache=cache)
    return pipeline, transport, store, cache


# --- the store ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "error", [OSError("gone"), ValueError("odd"), StoreUnavailableError("out")]
)
async def test_a_store_that_fails_is_a_miss(error: Exception, stream: bool) -> None:
    """The call goes on, is not kept, and the store is asked once only."""
    pipeline, _transport, store, _cache = shaky()
    store.failing = error
    response = await called(pipeline, stream)
    assert response.text == "It is up."
    assert notes(response, "miss") == [{"why": "unavailable"}]
    assert store.asked == ["get"]
    store.failing = None
    await called(pipeline, stream)
    assert (await called(pipeline, stream)).head.cached


async def test_a_store_that_fails_only_to_keep_is_no_error() -> None:
    """The caller has the answer; it is counted and noted."""
    pipeline, _transport, store, cache = shaky()

    async def no(*args: Any, **options: Any) -> None:
        raise OSError("full")

    store.inner.put = no
    response = await pipeline.run(ASK)
    assert (response.text, notes(response, "not_stored")) == ("It is up.", [{"why": "unavailable"}])
    assert (await cache.stats(pipeline)).not_stored == {"unavailable": 1}


@pytest.mark.parametrize("request_", [ASK, texts("a", "b")], ids=["chat", "batch"])
async def test_a_frozen_store_costs_its_timeout_and_then_nothing(request_: Any) -> None:
    """One wait of 50 ms a call; after five of them the store is left alone."""
    store = Unreliable(memory())
    pipeline, _ = stack(ANSWER if request_ is ASK else embed, cache=Cache(store=store))
    store.hanging = True
    waits = []
    for _ in range(8):
        before = anyio.current_time()
        await pipeline.run(request_)
        waits.append(round(anyio.current_time() - before, 3))
    # The counts that are written down behind the calls' back are one of the five.
    assert waits in ([0.05] * 5 + [0.0] * 3, [0.05] * 4 + [0.0] * 4)
    assert len(store.asked) <= 6
    health = await pipeline.health()
    assert (health.status, health.layers["cache"].well) == ("degraded", False)
    store.hanging = False
    await anyio.sleep(3)
    await pipeline.run(request_)
    assert (await pipeline.run(request_)).head.cached
    assert (await pipeline.health()).status == "ok"


async def test_a_store_that_freezes_while_it_keeps_costs_its_timeout() -> None:
    """And the answer is the caller's."""
    pipeline, _, store, _ = shaky()
    inner_put = store.inner.put

    async def frozen(*args: Any, **options: Any) -> None:
        await anyio.sleep_forever()

    store.inner.put = frozen
    before = anyio.current_time()
    response = await streamed(pipeline)
    assert (response.text, anyio.current_time() - before) == ("It is up.", 0.05)
    assert names(response) == ["miss", "not_stored"]
    store.inner.put = inner_put


async def test_a_slow_guard_is_not_waited_for_longer_than_the_core_waits() -> None:
    """A store with a timeout of its own of many seconds makes no call fail."""
    store = Unreliable(memory())
    patient = GuardedBlobs(store, timeout=60, monotonic=anyio.current_time)
    cache = Cache(store=patient)
    pipeline, _ = stack(cache=cache)

    async def slow(*args: Any, **options: Any) -> None:
        await anyio.sleep(30)

    store.inner.put = slow
    before = anyio.current_time()
    response = await pipeline.run(ASK)
    assert response.text == "It is up."
    assert anyio.current_time() - before < 1
    assert notes(response, "not_stored") == [{"why": "it took too long"}]
    assert (await cache._kept(pipeline.ports)).tally.stats.not_stored == {"it took too long": 1}


async def test_a_deadline_ends_waiting_for_the_store() -> None:
    """The store's own timeout may be longer."""
    store = Unreliable(memory())
    store.hanging = True
    patient = GuardedBlobs(store, timeout=60, monotonic=anyio.current_time)
    pipeline, _ = stack(layers=[Deadline(2), Cache(store=patient)])
    before = anyio.current_time()
    with pytest.raises(DeadlineExceeded):
        await pipeline.run(ASK)
    assert anyio.current_time() - before == 2


class Pausing(MemoryBlobs):
    """A store in memory that lets others have their turn, though it says that nobody waits."""

    async def put(self, *args: Any, **options: Any) -> None:
        """See `BlobStore`."""
        await anyio.lowlevel.checkpoint()
        await super().put(*args, **options)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_store_in_memory_may_pause(stream: bool) -> None:
    """What it was given is kept, and counted once."""
    store = Pausing(monotonic=anyio.current_time, max_bytes=1 << 24, max_entry_bytes=1 << 22)
    cache = Cache(store=store)
    pipeline, _ = stack(cache=cache)
    await called(pipeline, stream)
    assert (await called(pipeline, stream)).head.cached
    assert (await cache.stats(pipeline)).stored == 1


@pytest.mark.parametrize(
    ("damage", "why"),
    [(b"", "corrupt"), (b"nonsense", "foreign"), ("cut", "corrupt"), ("flip", "corrupt")],
    ids=["empty", "nonsense", "cut", "flip"],
)
async def test_what_cannot_be_read_is_a_counted_miss(damage: Any, why: str) -> None:
    """It is asked for again, and replaced."""
    store = memory()
    cache = Cache(store=store)
    pipeline, _transport = stack("one", "two", cache=cache)
    await pipeline.run(ASK)
    (key,) = store._entries
    good: bytes = (await store.get(key)).data  # type: ignore[union-attr]
    bad: Any = {"cut": good[:-1], "flip": bytes([*good[:-1], good[-1] ^ 1])}.get(damage, damage)
    await store.put(key, bad)
    response = await pipeline.run(ASK)
    assert (response.text, notes(response, "miss")) == ("two", [{"why": why}])
    assert (await pipeline.run(ASK)).text == "two"
    assert (await cache.stats(pipeline)).unreadable == {why: 1}


async def test_what_was_put_elsewhere_is_not_believed() -> None:
    """An entry that was moved to another tenant's key is a miss."""
    store = memory()
    pipeline, transport = stack("one", "two", cache=Cache(store=store))
    await pipeline.run(by(tenant="a"))
    (first,) = store._entries
    await pipeline.run(by(tenant="b"))
    (second,) = set(store._entries) - {first}
    await store.put(second, (await store.get(first)).data)  # type: ignore[union-attr]
    response = await pipeline.run(by(tenant="b"))
    assert (response.text, len(transport.requests)) == ("one", 3)
    assert not response.head.cached


async def test_a_shared_store_needs_a_key() -> None:
    """Its own is refused at once, the pipeline's with that; with another key all is foreign."""
    store = Unreliable(memory(), shared=True)
    with pytest.raises(ConfigurationError, match="CACHE_KEY"):
        Cache(store=store)
    own = Ports(stores=attrs.evolve(memory_stores(monotonic=anyio.current_time), blobs=store))
    with pytest.raises(ConfigurationError, match="CACHE_KEY"):
        stack(ports=own)
    outer = Pipeline([], stack()[0], ports=own)  # whose stores the inner one uses
    with pytest.raises(ConfigurationError, match="CACHE_KEY"):
        await outer.run(ASK)
    keyed = [
        Cache(store=store, packing=Packing(key=Secret.of_value(letter * 32))) for letter in "abb"
    ]
    cached = [(await stack(cache=one)[0].run(ASK)).head.cached for one in keyed]
    assert cached == [False, False, True]


async def test_an_answer_that_is_too_large_is_not_kept() -> None:
    """It is given all the same."""
    pipeline, _ = stack("word " * 4_000, cache=Cache(packing=Packing(None, max_bytes=1_000)))
    response = await pipeline.run(ASK)
    assert notes(response, "not_stored") == [{"why": "too large"}]
    assert not (await pipeline.run(ASK)).head.cached


async def test_an_answer_with_an_odd_object_is_not_kept() -> None:
    """What has no form cannot be."""
    pipeline, _ = stack([TextDelta("x", extra={"an": object()}), Finish("stop")])
    assert notes(await pipeline.run(ASK), "not_stored") == [{"why": "formless"}]


async def test_purging_says_if_it_could_not() -> None:
    """Here a failure is the caller's business."""
    pipeline, _, store, cache = shaky()
    await pipeline.run(ASK)
    store.failing = OSError("gone")
    with pytest.raises(StoreUnavailableError):
        await cache.purge(pipeline, tenant="acme")
    with pytest.raises(StoreUnavailableError):
        await cache.clear(pipeline)


# --- cancelling and closing --------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_cancelled_at_any_step_nothing_wrong_is_kept(stream: bool) -> None:
    """Whatever is kept afterwards is a whole answer, and nothing is left open."""
    for step in range(1, 60):
        store = Unreliable(memory())
        pipeline, transport = stack(cache=Cache(store=store))

        async def scenario(pipeline: Pipeline = pipeline) -> None:
            await called(pipeline, stream)

        reached = await cancelled_at([step], scenario)
        response = await called(pipeline, stream)
        assert response.text == "It is up."
        assert len(transport.requests) <= 2
        assert transport.open_sources == 0
        if not reached:
            break
    else:
        raise AssertionError("It is never through.")


async def test_a_store_of_its_own_closes_with_the_last_that_uses_it() -> None:
    """Layers may share one."""
    store = Unreliable(memory())
    one, other = Cache(store=store), Cache(store=store, namespace="b")
    first, _ = stack(cache=one)
    second, _ = stack(cache=other)
    await first.run(ASK)
    await first.aclose()
    assert store.closed == 0
    await second.run(ASK)
    await second.aclose()
    assert store.closed == 1


async def test_counts_are_written_down_when_it_closes() -> None:
    """So that others can read them; of a store in memory there is nobody else."""
    store = Unreliable(memory())
    cache = Cache(store=store)
    pipeline, _ = stack(cache=cache)
    for _ in range(3):
        await pipeline.run(ASK)
    await pipeline.aclose()
    reader = Cache(store=store)
    stats = await reader.stats(stack(cache=reader)[0])
    assert (stats.hits, stats.misses) == (2, 1)


async def test_a_closing_pipeline_interrupts_a_look() -> None:
    """The caller is told that it was closed, soon."""
    store = Unreliable(memory())
    store.hanging = True
    patient = GuardedBlobs(store, timeout=600, monotonic=anyio.current_time)
    pipeline, _ = stack(cache=Cache(store=patient))
    failed: list[Exception] = []

    async def call() -> None:
        try:
            await pipeline.run(ASK)
        except ClosedError as error:
            failed.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await anyio.sleep(1)
        await pipeline.aclose()
    assert len(failed) == 1
    assert anyio.current_time() < 5


async def test_a_key_that_cannot_be_had_now_is_no_outage(monkeypatch: Any) -> None:
    """One that is simply not there is a mistake, and is told."""
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    cache = Cache(packing={"key": "env:NO_SUCH_KEY"})
    pipeline, _ = stack(cache=cache)
    with pytest.raises(ConfigurationError, match="NO_SUCH_KEY"):
        await pipeline.run(ASK)
    with pytest.raises(ConfigurationError, match="NO_SUCH_KEY"):
        await cache.check()
    monkeypatch.setenv("NO_SUCH_KEY", "short")
    with pytest.raises(ConfigurationError, match="fewer than 16"):
        await cache.check()
    monkeypatch.setenv("NO_SUCH_KEY", "a key that nobody would guess")
    await cache.check()


async def test_only_if_cached_says_that_the_store_is_out() -> None:
    """It is not the same as not being there."""
    pipeline, _, store, _ = shaky()
    store.failing = OSError("gone")
    with pytest.raises(CacheMissError, match="unavailable"):
        await pipeline.run(saying("only_if_cached"))


async def test_stores_that_hold_less_forget_the_oldest() -> None:
    """What does not fit is asked for again; nothing fails."""
    store = memory(max_bytes=20_000, max_entry_bytes=10_000)
    pipeline, transport = stack("word " * 200, cache=Cache(store=store, packing=Packing(None)))
    for seed in (*range(30), *range(30)):
        assert (await pipeline.run(ASK.evolve(seed=seed))).text
    assert store.size <= 20_000
    assert len(transport.requests) > 30


# --- several loops -----------------------------------------------------------------------------


def test_loops_at_the_same_time_share_what_is_kept() -> None:
    """One pipeline on two asyncio loops and a trio loop, with answers that come and go."""
    loops = ("asyncio", "trio", "asyncio")
    ports = Ports(stores=memory_stores(monotonic=time.monotonic))
    cache = Cache(when="all", stale=Stale(while_revalidate=60))

    async def transport(request: Any) -> ChatResponse:
        await anyio.lowlevel.checkpoint()
        return ChatResponse.of(f"answer {request.seed}")

    pipeline = Pipeline([cache], transport, ports=ports)
    wrong: list[str] = []
    counted: list[int] = []

    async def work() -> None:
        for number in range(300):
            response = await called(pipeline, number % 2 == 1, ASK.evolve(seed=number % 7))
            if response.text != f"answer {number % 7}":
                wrong.append(response.text)
            counted.append(number)
            if number % 50 == 0:
                await cache.clear(pipeline)

    threads = [threading.Thread(target=partial(anyio.run, work, backend=loop)) for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(counted), wrong) == (900, [])
    stats = anyio.run(cache.stats, pipeline)
    assert stats.hits + stats.misses == 900
    assert stats.hits > 300
