"""Answers that processes share through a real Valkey: believed if signed, missed if it is out."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from typing import Any

import anyio
import pytest
from redis_peers import PATIENCE, Valkey, impatient

from lamella import (
    ChatRequest,
    ConfigurationError,
    Context,
    EmbeddingRequest,
    GuardedBlobs,
    Packing,
    Pipeline,
    Secret,
)
from lamella._packing import Packer
from lamella.testing import Scripted
from lamella_middlewares import Cache, SingleFlight
from lamella_redis import RedisBlobs, redis_blobs
from lamella_redis._scripts import Keeping

pytestmark = pytest.mark.anyio

_numbers = itertools.count()
SECRET = "a key that is long enough"
KEY = Secret.of_value(SECRET)
SIGNED = Packing(key=KEY)
ACME = Context(tenant="acme")
LATE = 10.0
"""Seconds that no call takes; one that waits for a server takes `PATIENCE`."""


def chat(text: str = "hello", context: Context = ACME) -> ChatRequest:
    """A request that may be answered from a cache."""
    return ChatRequest.of(text, model="m", temperature=0, context=context)


def store_at(url: str, **options: Any) -> GuardedBlobs:
    """The registered store, in a namespace of its own if none is given."""
    given: dict[str, Any] = {"namespace": f"cache{next(_numbers)}", "timeout": PATIENCE}
    return redis_blobs(url, **(given | options))


def stack(store: Any, *answers: str, **options: Any) -> tuple[Pipeline, Cache, Scripted]:
    """A pipeline with a cache in the store, the cache, and the transport."""
    given: dict[str, Any] = {"packing": SIGNED} | options
    cache = Cache(store=store, **given)
    transport = Scripted(answers or ("one", "two", "three"), repeat=True)
    return Pipeline([cache, SingleFlight()], transport), cache, transport


async def keys_in(store: GuardedBlobs, prefix: str = "cache:") -> list[str]:
    """What is kept there."""
    return [each.key for each in (await store.entries(prefix=prefix)).entries]


# --- together ---------------------------------------------------------------------------------


async def test_pipelines_share_answers(valkey: Valkey) -> None:
    """What one was answered the other need not ask, streamed or not; tenants are apart."""
    namespace = f"shared{next(_numbers)}"
    one, _, first = stack(store_at(valkey.url, namespace=namespace), "first")
    other, cache, second = stack(store_at(valkey.tcp, namespace=namespace), "second")
    assert (await one.run(chat())).text == "first"
    hit = await other.run(chat())
    assert (hit.text, hit.head.cached) == ("first", True)
    async with other.stream(chat()) as streamed:
        assert (await streamed.collect()).text == "first"
    assert (await other.run(chat(context=Context(tenant="else")))).text == "second"
    assert (len(first.requests), len(second.requests)) == (1, 1)
    assert await cache.purge(other, tenant="acme") == 1
    assert (await one.run(chat())).text == "first"
    assert len(first.requests) == 2
    assert await cache.clear(other) == 2
    await one.aclose()
    await other.aclose()


PROGRAM = """
import sys
import anyio
from lamella import ChatRequest, Context, Packing, Pipeline
from lamella.testing import Scripted
from lamella_middlewares import Cache

backend, url = sys.argv[1:]

async def main():
    stores = {"blobs": {"use": "redis", "url": url, "timeout": 5.0, "namespace": "fleet"}}
    cache = Cache(packing=Packing(key="env:CACHE_KEY"))
    async with Pipeline([cache], Scripted([f"of {backend}"]), stores=stores) as pipeline:
        request = ChatRequest.of("hello", model="m", temperature=0, context=Context(tenant="acme"))
        response = await pipeline.run(request)
        print(response.text, response.head.cached, flush=True)

anyio.run(main, backend=backend)
"""


def test_processes_share_answers(own_valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one asks nobody; one with another key believes nothing."""
    said = []
    for backend, key in (("asyncio", "k" * 16), ("trio", "k" * 16), ("trio", "other" * 4)):
        monkeypatch.setenv("CACHE_KEY", key)
        command = [sys.executable, "-c", PROGRAM, backend, own_valkey.tcp]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        said.append(done.stdout.strip())
    assert said == ["of asyncio False", "of asyncio True", "of trio False"]


async def test_an_unsigned_cache_is_refused(valkey: Valkey) -> None:
    """Others can write to the server, so the layer says at once that it wants a key."""
    with pytest.raises(ConfigurationError, match=r"Packing\(key="):
        stack(store_at(valkey.url), packing=Packing())


async def test_batches_take_few_steps(valkey: Valkey) -> None:
    """A hundred texts that are embedded are read, and written, in a step or two each."""
    steps: list[str] = []

    class Counting(RedisBlobs):
        async def _run(self, operation: Keeping, *words: str | bytes) -> Any:
            steps.append(operation)
            return await super()._run(operation, *words)

    store = Counting(valkey.url, namespace=f"cache{next(_numbers)}", timeout=PATIENCE)
    cache = Cache(store=GuardedBlobs(store, timeout=PATIENCE), packing=SIGNED)
    pipeline = Pipeline([cache], "mock")
    texts = [f"text {number}" for number in range(100)]
    request = EmbeddingRequest(model="m", inputs=tuple(texts), context=ACME)
    made = await pipeline.run(request)
    assert 1 <= steps.count("read") <= 2
    assert 1 <= steps.count("put") <= 3  # its counts are a value too
    steps.clear()
    again = await pipeline.run(request)
    assert again.head.cached
    assert [list(one) for one in again.vectors] == [list(one) for one in made.vectors]
    assert 1 <= steps.count("read") <= 2
    await cache.clear(pipeline)
    await pipeline.aclose()


# --- what others have written -----------------------------------------------------------------


def forged(how: str, data: bytes, key: str, other: bytes) -> bytes:
    """What stands in the store instead of what was kept there.

    Args:
        how: What has happened to it.
        data: What was kept.
        key: Under which key.
        other: What was kept under another one.
    """
    match how:
        case "flipped":
            middle = len(data) // 2
            return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        case "truncated":
            return data[: len(data) // 2]
        case "noise":
            return bytes(range(256))
        case "moved":
            return other
        case "empty":
            return b""
    plain = Packer(SIGNED, SECRET.encode()).unpack(key, data)
    signed = how == "signed by another"
    return Packer(Packing(), b"the key of somebody else" if signed else None).pack(key, plain)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("flipped", "corrupt"),
        ("truncated", "corrupt"),
        ("empty", "corrupt"),
        ("noise", "foreign"),
        ("moved", "foreign"),
        ("unsigned", "foreign"),
        ("signed by another", "foreign"),
    ],
)
async def test_what_is_not_its_own_is_a_counted_miss(valkey: Valkey, how: str, why: str) -> None:
    """It is never given, is replaced by what the model says, and nobody's call fails."""
    store = store_at(valkey.url)
    pipeline, cache, transport = stack(store, "one", "two", "three")
    await pipeline.run(chat())
    (key,) = await keys_in(store)
    await pipeline.run(chat("other"))
    (moved,) = [each for each in await keys_in(store) if each != key]
    kept, other = await store.get(key), await store.get(moved)
    assert kept is not None
    assert other is not None
    await store.put(key, forged(how, kept.data, key, other.data), ttl=60.0)
    answer = await pipeline.run(chat())
    assert (answer.text, answer.head.cached) == ("three", False)
    stats = await cache.stats(pipeline)
    assert stats.unreadable == {why: 1}
    assert stats.missed[why] == 1
    again = await pipeline.run(chat())
    assert (again.text, again.head.cached, len(transport.requests)) == ("three", True, 3)
    await cache.clear(pipeline)
    await pipeline.aclose()


async def test_the_server_learns_little(valkey: Valkey) -> None:
    """No key there names a tenant or quotes a text; sealed, no value does either."""
    store = store_at(valkey.url)
    packing = Packing(key=KEY, encrypt=True, compress_above=None)
    pipeline, cache, _ = stack(store, "a telling answer", packing=packing, tags=("doc-17",))
    await pipeline.run(chat("a telling question"))
    inner: Any = store.store
    (key,) = await keys_in(store)
    blob = await store.get(key)
    assert blob is not None
    seen = [key, repr(blob.data), *blob.tags, repr(inner)]
    for words in ("telling", "acme", "doc-17"):
        assert not [each for each in seen if words in each]
    assert (await pipeline.run(chat("a telling question"))).head.cached
    assert await cache.purge(pipeline, tag="doc-17") == 1
    await pipeline.aclose()


# --- outages ----------------------------------------------------------------------------------


async def timed(pipeline: Pipeline, text: str = "hello") -> tuple[float, Any]:
    """How long a call takes, and what it gives."""
    began = time.monotonic()
    response = await pipeline.run(chat(text))
    return time.monotonic() - began, response


async def until_kept(pipeline: Pipeline, text: str = "hello") -> Any:
    """Ask until the answer comes from the store."""
    with anyio.fail_after(PATIENCE):
        while True:
            response = await pipeline.run(chat(text))
            if response.head.cached:
                return response
            await anyio.sleep(0.05)


async def test_a_frozen_server_costs_a_call_one_timeout(
    own_valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And after five calls none at all, until it answers again."""
    asked: list[str] = []
    run = RedisBlobs._run

    async def counted(self: RedisBlobs, operation: Keeping, *words: str | bytes) -> Any:
        asked.append(operation)
        return await run(self, operation, *words)

    store = store_at(own_valkey.url, rest=0.3)
    pipeline, cache, transport = stack(store, "one")
    await until_kept(pipeline)
    before = len(transport.requests)
    own_valkey.freeze()
    monkeypatch.setattr(RedisBlobs, "_run", counted)
    try:
        with impatient(store):
            began = time.monotonic()
            for number in range(60):
                seconds, response = await timed(pipeline)
                assert (response.text, response.head.cached) == ("one", False)
                assert seconds < LATE
                if number < 5:  # not two timeouts a call: what was not read is not written either
                    assert asked == ["read"] * (number + 1)
                else:
                    assert store.health().well is False
            assert len(asked) - 5 <= (time.monotonic() - began) / 0.3
            assert len(transport.requests) - before == 60
            assert (await pipeline.health()).status == "degraded"
    finally:
        own_valkey.thaw()
    assert (await until_kept(pipeline)).text == "one"
    assert (await cache.stats(pipeline)).missed["unavailable"] >= 60
    assert store.health().well
    await pipeline.aclose()


async def test_a_killed_server_is_a_miss_and_used_again_when_back(own_valkey: Valkey) -> None:
    """It comes back empty: what was kept is asked for once more, and kept again."""
    store = store_at(own_valkey.url, rest=0.1)
    pipeline, _, transport = stack(store, "one")
    await until_kept(pipeline)
    own_valkey.kill()
    for _ in range(20):
        seconds, response = await timed(pipeline)
        assert response.text == "one"
        assert seconds < LATE
    assert store.health().well is False
    own_valkey.restart()
    sent = len(transport.requests)
    assert (await until_kept(pipeline)).text == "one"
    assert len(transport.requests) > sent
    await pipeline.aclose()


async def test_an_emptied_server_is_a_miss(own_valkey: Valkey) -> None:
    """After FLUSHALL the answer is asked for once, and kept."""
    store = store_at(own_valkey.url)
    pipeline, _, transport = stack(store, "one", "two")
    await pipeline.run(chat())
    inner: Any = store.store
    link = inner._links.get()
    await link.command(b"FLUSHALL")
    assert (await pipeline.run(chat())).text == "two"
    again = await pipeline.run(chat())
    assert (again.text, again.head.cached, len(transport.requests)) == ("two", True, 2)
    await pipeline.aclose()


async def test_a_full_server_keeps_nothing_and_hurts_nobody(own_valkey: Valkey) -> None:
    """What it refuses is counted as not stored; what it has is still given."""
    store = store_at(own_valkey.url)
    pipeline, cache, _ = stack(store, "one", "two")
    await pipeline.run(chat())
    inner: Any = store.store
    link = inner._links.get()
    await link.command(b"CONFIG", "SET", "maxmemory-policy", "noeviction")
    await link.command(b"CONFIG", "SET", "maxmemory", "1mb")
    assert (await pipeline.run(chat("new"))).text == "two"
    assert (await cache.stats(pipeline)).not_stored == {"unavailable": 1}
    assert (await pipeline.run(chat())).head.cached
    await pipeline.aclose()


async def test_many_calls_at_once_wait_for_a_frozen_server_together(own_valkey: Valkey) -> None:
    """Not one after the other: two hundred take no longer than a few timeouts."""
    store = store_at(own_valkey.url, rest=PATIENCE)
    pipeline, _, transport = stack(store, "one")
    await until_kept(pipeline)
    sent = len(transport.requests)
    own_valkey.freeze()
    try:
        began = time.monotonic()
        with impatient(store):
            async with anyio.create_task_group() as group:
                for number in range(200):
                    group.start_soon(pipeline.run, chat(f"question {number}"))
        assert time.monotonic() - began < LATE  # one after the other it would be 20
        assert len(transport.requests) - sent == 200
    finally:
        own_valkey.thaw()
    await pipeline.aclose()
