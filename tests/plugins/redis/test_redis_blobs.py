"""Values that processes share in Redis: the port's rules, and what a real server does to them."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from typing import Any, ClassVar

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis_peers import Valkey
from redis_values import NUMBERS, START, TAG, Timed, command, fresh, keys_of

from lamella import (
    BlobInfo,
    GuardedBlobs,
)
from lamella._memory_stores import memory_stores
from lamella.testing import check_blob_store
from lamella_redis import RedisBlobs, redis_blobs
from lamella_redis._scripts import Keeping

pytestmark = pytest.mark.anyio


async def test_it_conforms(valkey: Valkey) -> None:
    """Every rule of the port holds, on the server's clock."""
    stores: list[Timed] = []
    now = START * 1_000_000

    async def make() -> Timed:
        nonlocal now
        store: Timed = fresh(valkey, Timed)
        stores.append(store)
        await store.set_clock(now)
        return store

    async def advance(seconds: float) -> None:
        nonlocal now
        now += round(seconds * 1_000_000)
        await stores[-1].set_clock(now)

    await check_blob_store(make, advance)
    for store in stores:
        await store.purge()
        await store.aclose()


async def test_it_conforms_behind_its_guard(valkey: Valkey) -> None:
    """The registered store keeps the rules that are not about time."""
    made: list[GuardedBlobs] = []

    def make() -> GuardedBlobs:
        made.append(redis_blobs(valkey.url, namespace=f"blobs{next(NUMBERS)}", timeout=5.0))
        return made[-1]

    await check_blob_store(make)
    for store in made:
        await store.purge()
        await store.aclose()


NAMES = ("", "a", "ab", "b", "a*", "\ud800", "\x00")
KEYS = st.sampled_from(NAMES)
TAGS = st.frozensets(st.sampled_from(["x", "y", '"z\\', "\ud800{}"]))
STEPS = st.one_of(
    st.tuples(st.just("put"), KEYS, TAGS, st.sampled_from([None, 0.0, 1.0, 3.0])),
    st.tuples(
        st.just("put many"), st.sets(KEYS, max_size=4), TAGS, st.sampled_from([None, 0.0, 2.0])
    ),
    st.tuples(st.just("get many"), st.lists(KEYS, max_size=4)),
    st.tuples(st.just("entries"), KEYS, st.sampled_from([None, "x", '"z\\'])),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("tagged"), st.sampled_from(["x", "y", '"z\\', "\ud800{}"])),
    st.tuples(st.just("purge"), KEYS, st.sampled_from([None, "x", '"z\\'])),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 1.0, 2.5])),
)


@given(steps=st.lists(STEPS, max_size=30))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_it_does_what_memory_does(valkey: Valkey, steps: list[Any]) -> None:
    """Whatever the operations: the same answers."""
    now = 0.0
    memory = memory_stores(monotonic=lambda: now).blobs
    store: Timed = fresh(valkey, Timed)
    await store.set_clock(START * 1_000_000)

    async def answer(blobs: Any, step: Any, number: int) -> Any:
        match step:
            case ("put", key, tags, ttl):
                return await blobs.put(key, str(number).encode(), ttl=ttl, tags=tags)
            case ("put many", keys, tags, ttl):
                values = {key: f"{number} {key!r}".encode() for key in sorted(keys)}
                return await blobs.put_many(values, ttl=ttl, tags=tags)
            case ("get many", keys):
                return dict(await blobs.get_many(keys))
            case ("entries", prefix, tag):
                page = await blobs.entries(prefix=prefix, tag=tag)
                return ({each.key: each for each in page.entries}, page.cursor)
            case ("delete", key):
                return await blobs.delete(key)
            case ("tagged", tag):
                return dict(await blobs.tagged(tag))
            case ("purge", prefix, tag):
                return await blobs.purge(prefix=prefix, tag=tag)
            case _:
                return [await blobs.get(key) for key in NAMES]

    for number, step in enumerate(steps):
        if step[0] == "wait":
            now += step[1]
            await store.set_clock(START * 1_000_000 + round(now * 1_000_000))
        assert await answer(store, step, number) == await answer(memory, step, number)
    await store.purge()
    left = await keys_of(store)
    assert left <= {"clock"}
    await store.aclose()


# --- many at once ------------------------------------------------------------------------------


class Counting(RedisBlobs):
    """It notes its steps."""

    steps: ClassVar[list[str]] = []

    async def _run(self, operation: Keeping, *words: str | bytes) -> Any:
        self.steps.append(operation)
        return await super()._run(operation, *words)


async def test_many_take_few_steps(valkey: Valkey) -> None:
    """200 values, or 4 MiB of them, are one step, to write and to read."""
    store = fresh(valkey, Counting, timeout=5.0)
    Counting.steps.clear()
    small = {f"small {number}": b"%d" % number for number in range(450)}
    await store.put_many(small, ttl=60.0, tags=TAG)
    assert Counting.steps == ["put"] * 3
    Counting.steps.clear()
    found = await store.get_many([*small, "absent", *small])
    assert Counting.steps == ["read"] * 3
    assert {key: blob.data for key, blob in found.items()} == small
    assert all(blob.tags == TAG for blob in found.values())
    assert len(await store.tagged("tag")) == 450
    Counting.steps.clear()
    large = {f"large {number}": bytes([number]) * 1_500_000 for number in range(8)}
    await store.put_many(large)
    assert Counting.steps == ["put"] * 4
    found = await store.get_many(list(large))
    assert {key: blob.data for key, blob in found.items()} == large
    Counting.steps.clear()
    await store.put_many({})
    assert dict(await store.get_many([])) == {}
    assert Counting.steps == []
    await store.purge()
    await store.aclose()


async def test_many_are_kept_or_none_is(valkey: Valkey) -> None:
    """One that is too large is found out before anything is put; the message names no key."""
    store = fresh(valkey, max_entry_bytes=100)
    await store.put("person 0", b"old", tags=TAG)
    values = {f"person {number}": b"new" for number in range(300)}
    for wrong, ttl, words in ((b"x" * 101, None, "max_entry_bytes 100"), (b"x", math.nan, "nan")):
        with pytest.raises(ValueError, match=words) as caught:
            await store.put_many({**values, "person 300": wrong}, ttl=ttl)
        assert "person" not in str(caught.value)
    assert {key: blob.data for key, blob in (await store.tagged("tag")).items()} == {
        "person 0": b"old"
    }
    assert await store.purge() == 1
    await store.aclose()


async def test_a_listing_comes_in_pages(valkey: Valkey) -> None:
    """All that is there throughout is on one of them, whatever is put and forgotten meanwhile."""
    store = fresh(valkey)
    stays = {f"stays {number}": b"x" * (number % 7) for number in range(1500)}
    await store.put_many(stays, ttl=60.0, tags=TAG)
    await store.put_many({f"goes {number}": b"" for number in range(500)}, tags=TAG)
    for by in ({"prefix": "stays"}, {"tag": "tag"}, {"tag": "tag", "prefix": "stays 1"}, {}):
        found: dict[str, BlobInfo] = {}
        cursor, pages = "", 0
        while True:
            page = await store.entries(**by, cursor=cursor)
            found |= {each.key: each for each in page.entries}
            pages, cursor = pages + 1, page.cursor
            if not cursor:
                break
            await store.delete(f"goes {pages}")
            await store.put(f"new {pages}", b"", tags=TAG)
        wanted = {key for key in stays if key.startswith(by.get("prefix", ""))}
        assert wanted <= set(found)
        assert pages > 1 or len(wanted) < 1500
        for key in wanted:
            assert found[key].size == len(stays[key])
            assert 0 <= found[key].age < 60
            assert 0 < (found[key].expires_in or 0) <= 60
            assert found[key].tags == TAG
    await store.purge()
    await store.aclose()


@pytest.mark.parametrize(
    ("cursor", "by"),
    [("x", {}), ("k", {}), ("kx", {}), ("k-1", {}), ("k²", {}), (f"k{2**64}", {}), ("t1", {}),
     ("k1", {"tag": "tag"})],
)  # fmt: skip
async def test_a_cursor_is_the_last_page_s(valkey: Valkey, cursor: str, by: Any) -> None:
    """Of a listing of the same kind; any other is refused."""
    store = fresh(valkey)
    with pytest.raises(ValueError, match="no cursor of such a listing"):
        await store.entries(**by, cursor=cursor)
    await store.aclose()


async def test_it_says_that_others_can_write_to_it(valkey: Valkey) -> None:
    """By itself and behind its guard, so that caches sign what they keep there."""
    assert RedisBlobs.shared
    assert redis_blobs(valkey.url).shared
    assert not getattr(RedisBlobs, "instant", False)


# --- on the server ----------------------------------------------------------------------------


async def test_every_key_with_an_end_goes_by_itself(valkey: Valkey) -> None:
    """A value and its tags live as long as they have to, and no longer than a second more."""
    store = fresh(valkey)
    await store.put("a", b"1", ttl=10.0, tags=frozenset({"short", "both"}))
    await store.put("b", b"2", ttl=100.0, tags=frozenset({"both", "mixed"}))
    await store.put("c", b"3", tags=frozenset({"mixed"}))
    lives = {}
    for key in await keys_of(store):
        lives[key] = await command(store, "PTTL", store._prefix + key)
    for key, seconds in (("blob:a", 10), ("tag:short", 10), ("blob:b", 100), ("tag:both", 100)):
        assert seconds * 1000 - 500 < lives[key] <= seconds * 1000 + 1000
    assert lives["blob:c"] == lives["tag:mixed"] == -1
    await store.put("c", b"3", ttl=5.0, tags=frozenset({"mixed"}))
    assert await command(store, "PTTL", store._prefix + "blob:c") <= 6000
    assert await command(store, "PTTL", store._prefix + "tag:mixed") > 90_000
    await store.purge()
    assert await keys_of(store) == set()
    await store.aclose()


async def test_a_tag_does_not_collect_the_dead(valkey: Valkey) -> None:
    """What has expired leaves its tag, though nobody asks for it."""
    store: Timed = fresh(valkey, Timed)
    now = START * 1_000_000
    await store.set_clock(now)
    await store.put("stays", b"", tags=TAG)
    for number in range(300):
        await store.put(str(number), b"", ttl=1.0, tags=TAG)
        now += 100_000
        await store.set_clock(now)
    assert await command(store, "ZCARD", f"{store._prefix}tag:tag") <= 12
    await store.purge()
    await store.aclose()


async def test_what_the_server_has_evicted_is_not_there(valkey: Valkey) -> None:
    """Of a value, or of a tag, without the other: nothing is wrong, and nothing is left."""
    store = fresh(valkey)
    for key in ("gone", "kept", "lost"):
        await store.put(key, b"1", tags=TAG)
    await command(store, "DEL", f"{store._prefix}blob:gone")
    assert set(await store.tagged("tag")) == {"kept", "lost"}
    assert await command(store, "ZCARD", f"{store._prefix}tag:tag") == 2
    await command(store, "DEL", f"{store._prefix}tag:tag")
    assert await store.tagged("tag") == {}
    assert await store.purge() == 0
    assert await keys_of(store) == set()
    await store.aclose()


@pytest.mark.parametrize("by", ["get", "get_many", "tagged", "entries", "delete"])
async def test_what_a_purge_could_not_find_is_not_there(valkey: Valkey, by: str) -> None:
    """A tag that the server has evicted takes its values along: none outlives its purge."""
    store = fresh(valkey)
    await store.put("old", b"1", tags=frozenset({"doc-17", "other"}))
    await store.put("none", b"2")
    await command(store, "DEL", f"{store._prefix}tag:doc-17")
    await store.put("new", b"3", tags=frozenset({"doc-17", "other"}))
    if by == "get":
        assert await store.get("old") is None
    elif by == "get_many":
        assert set(await store.get_many(["old", "none", "new"])) == {"none", "new"}
    elif by == "tagged":
        assert set(await store.tagged("other")) == {"new"}
    elif by == "entries":
        assert {each.key for each in (await store.entries()).entries} == {"none", "new"}
    else:
        assert not await store.delete("old")
    assert await store.purge(tag="doc-17") == 1
    assert set(await store.get_many(["old", "none", "new"])) == {"none"}
    await store.put("old", b"4", tags=frozenset({"doc-17"}))
    assert (await store.get("old")).data == b"4"
    await store.purge()
    assert await keys_of(store) == set()
    await store.aclose()


async def test_a_tag_does_not_collect_the_evicted(valkey: Valkey) -> None:
    """What has no end leaves its tag when the server has evicted it, as more is put."""
    store: Timed = fresh(valkey, Timed)
    now = START * 1_000_000
    for number in range(300):
        now += 100_003
        await store.set_clock(now)
        await store.put(str(number), b"", tags=TAG)
        if number >= 20:
            await command(store, "DEL", f"{store._prefix}blob:{number - 20}")
    assert await command(store, "ZCARD", f"{store._prefix}tag:tag") < 100
    assert len(await store.tagged("tag")) == 20
    await store.purge()
    await store.aclose()


FOREIGN: dict[str, tuple[str | bytes, ...]] = {
    "another type": ("SET", "noise"),
    "other fields": ("HSET", "field", "noise"),
    "no instant": ("HSET", "a", "noise", "u", "", "t", "", "d", "x"),
    "an endless instant": ("HSET", "a", "9" * 400, "u", "", "t", "", "d", "x"),
    "no end": ("HSET", "a", "1", "u", "noise", "t", "", "d", "x"),
    "no tags": ("HSET", "a", "1", "u", "", "t", "[noise", "d", "x"),
    "tags that are none": ("HSET", "a", "1", "u", "", "t", "[[1]]", "d", "x"),
    "tags that are no text": ("HSET", "a", "1", "u", "", "t", b'["\xff"]', "d", "x"),
}


@pytest.mark.parametrize("what", FOREIGN)
async def test_what_is_no_value_is_not_there(valkey: Valkey, what: str) -> None:
    """It is no error and hides no other value; a put replaces it, a purge removes it."""
    store = fresh(valkey)
    name, *words = FOREIGN[what]
    foreign = (name, f"{store._prefix}blob:foreign", *words)
    await store.put_many({"foreign": b"old", "own": b"1"}, tags=TAG)
    await command(store, "DEL", foreign[1])
    await command(store, *foreign)
    assert await store.get("foreign") is None
    assert set(await store.get_many(["foreign", "own"])) == {"own"}
    assert {each.key for each in (await store.entries()).entries} - {"foreign"} == {"own"}
    assert set(await store.tagged("tag")) == {"own"}
    assert not await store.delete("foreign")
    await command(store, *foreign)
    await store.put("foreign", b"2", tags=TAG)
    assert (await store.get("foreign")).data == b"2"
    await command(store, "DEL", foreign[1])
    await command(store, *foreign)
    assert await store.purge(tag="tag") == 1
    await command(store, *foreign)
    await store.purge()
    assert await keys_of(store) == set()
    await store.aclose()


async def test_an_answer_has_a_size(valkey: Valkey) -> None:
    """More than fits into one comes in several."""
    store = fresh(valkey, timeout=5.0)
    large = {f"key {number}": bytes([number]) * 1_500_000 for number in range(8)}
    for key, data in large.items():
        await store.put(key, data, tags=TAG)
    found = await store.tagged("tag")
    assert {key: blob.data for key, blob in found.items()} == large
    assert await store.purge() == 8
    await store.aclose()


class Interfered(RedisBlobs):
    """Somebody else puts values as soon as a purge has begun."""

    async def _run(self, operation: Keeping, *words: str | bytes) -> Any:
        answer = await super()._run(operation, *words)
        if operation == "now":
            for key in ("k new", "k old 2"):
                await self.put(key, b"", tags=TAG)
        return answer


@pytest.mark.parametrize("by", [{"tag": "tag"}, {"prefix": "k"}], ids=["tag", "prefix"])
async def test_what_is_put_during_a_purge_is_newer_than_it(valkey: Valkey, by: Any) -> None:
    """It is not forgotten, by tag nor by prefix."""
    store = fresh(valkey, Interfered)
    for key in ("k old", "k old 2"):
        await store.put(key, b"", tags=TAG)
    assert await store.purge(**by) == 1
    assert set(await store.tagged("tag")) == {"k new", "k old 2"}
    await RedisBlobs(valkey.url, namespace=store.namespace).purge()
    await store.aclose()


async def test_namespaces_are_apart(valkey: Valkey) -> None:
    """Also where one begins with the other, or has the signs of a pattern."""
    stores = [RedisBlobs(valkey.url, namespace=name) for name in ("n*", "nn", "n[n]", "n\\")]
    for number, store in enumerate(stores):
        await store.put("key", str(number).encode(), tags=TAG)
    for number, store in enumerate(stores):
        blob = await store.get("key")
        assert blob is not None
        assert blob.data == str(number).encode()
        assert await store.purge() == 1
        await store.aclose()


async def test_all_keys_of_a_store_are_in_one_slot(valkey: Valkey) -> None:
    """Whatever braces a key or a tag has: a cluster runs its scripts."""
    store = fresh(valkey)
    await store.put("{a}", b"", tags=frozenset({"}{b}", "c"}))
    slots = {
        await command(store, "CLUSTER", "KEYSLOT", store._prefix + key)
        for key in [*await keys_of(store), ""]
    }
    assert len(slots) == 1
    await store.purge()
    await store.aclose()


@pytest.mark.parametrize(
    ("ttl", "data", "words"),
    [(float("nan"), b"", "ttl is nan"), (None, b"x" * 101, "above max_entry_bytes 100")],
)
async def test_what_cannot_be_kept_is_refused(
    valkey: Valkey, ttl: Any, data: bytes, words: str
) -> None:
    """And what was there stays; the message does not name the key."""
    store = fresh(valkey, max_entry_bytes=100)
    await store.put("person", b"old", tags=TAG)
    with pytest.raises(ValueError, match=words) as caught:
        await store.put("person", data, ttl=ttl)
    assert "person" not in str(caught.value)
    assert (await store.get("person")).data == b"old"
    await store.purge()
    await store.aclose()


# --- together ---------------------------------------------------------------------------------

PROGRAM = """
import sys
import anyio
from lamella import Pipeline

backend, url, name = sys.argv[1:]

async def main():
    stores = {"blobs": {"use": "redis", "url": url, "timeout": 5.0, "namespace": "fleet"}}
    async with Pipeline([], "mock", stores=stores) as pipeline:
        blobs = pipeline.ports.stores.blobs
        await blobs.get("x")
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(100):
            await blobs.put(f"{name} {number}", b"x", ttl=60.0, tags=frozenset({"session"}))
        print(len(await blobs.tagged("session")), flush=True)

anyio.run(main, backend=backend)
"""


def test_two_processes_share_values(own_valkey: Valkey) -> None:
    """Both write under one tag at the same time, and nothing is lost."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, backend, own_valkey.tcp, backend],
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
        counts = [int(child.communicate(timeout=30)[0]) for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert max(counts) == 200


async def test_threads_and_loops_share_a_store(valkey: Valkey) -> None:
    """Each loop connects by itself; all see the same values."""
    store = fresh(valkey)

    async def burst() -> None:
        for number in range(20):
            await store.put(f"{threading.get_ident()} {number}", b"", tags=TAG)

    def run(backend: str) -> None:
        anyio.run(burst, backend=backend)

    threads = [threading.Thread(target=run, args=(b,)) for b in ("asyncio", "trio")]
    for thread in threads:
        thread.start()
    await burst()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join)
    assert len(await store.tagged("tag")) == 60
    await store.purge()
    await store.aclose()
