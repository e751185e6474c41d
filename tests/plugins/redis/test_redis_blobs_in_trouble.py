"""Values in Redis while the server is frozen, restarted, full, or refuses."""

from __future__ import annotations

import json
import time
from typing import Any

import anyio
import pytest
from redis_peers import PATIENCE, Proxy, Valkey, impatient
from redis_values import NUMBERS, TAG, command, fresh

from lamella import (
    ConfigurationError,
    GuardedBlobs,
    Pipeline,
    StoreUnavailableError,
)
from lamella_redis import RedisBlobs, redis_blobs

pytestmark = pytest.mark.anyio


# --- trouble ----------------------------------------------------------------------------------


def guarded(url: str) -> GuardedBlobs:
    """The registered store, which tries again soon."""
    return redis_blobs(url, namespace=f"outage{next(NUMBERS)}", timeout=PATIENCE, rest=0.2)


async def until_well(store: GuardedBlobs) -> None:
    """Wait until the store answers again."""
    with anyio.fail_after(PATIENCE):
        while True:
            try:
                await store.get("x")
            except StoreUnavailableError:
                await anyio.sleep(0.02)
            else:
                return


async def test_a_frozen_server_holds_nobody_up(own_valkey: Valkey) -> None:
    """Each operation ends within the bound, after five at once; then it is there again."""
    store = guarded(own_valkey.url)
    await until_well(store)
    await store.put("key", b"1", tags=TAG)
    own_valkey.freeze()
    try:
        began = time.monotonic()
        for _ in range(100):
            for operation in (
                lambda: store.get("key"),
                lambda: store.put("other", b""),
                lambda: store.delete("other"),
                lambda: store.tagged("tag"),
            ):
                with (
                    impatient(store),
                    pytest.raises(StoreUnavailableError, match="does not answer") as caught,
                ):
                    await operation()
                assert caught.value.retry_after
        assert time.monotonic() - began < 20.0  # if each waited, it would be 40
        assert store.health().well is False
    finally:
        own_valkey.thaw()
    await until_well(store)
    blob = await store.get("key")
    assert blob is not None
    assert blob.data == b"1"
    assert store.health().well
    await store.aclose()


async def test_a_restarted_server_is_empty_and_used_again(own_valkey: Valkey) -> None:
    """While it is gone everything is an error; nothing is made up."""
    store = guarded(own_valkey.url)
    await store.put("key", b"1", tags=TAG)
    own_valkey.kill()
    for _ in range(10):
        with pytest.raises(StoreUnavailableError):
            await store.tagged("tag")
    own_valkey.restart()
    await until_well(store)
    assert await store.get("key") is None
    assert await store.tagged("tag") == {}
    await store.put("key", b"2", tags=TAG)
    assert set(await store.tagged("tag")) == {"key"}
    await store.aclose()


async def test_a_lost_answer_is_asked_for_again(valkey: Valkey) -> None:
    """What was done without being heard is done again, to the same end."""
    async with Proxy(valkey.port) as proxy:
        store = RedisBlobs(f"redis://127.0.0.1:{proxy.port}", namespace=f"lost{next(NUMBERS)}")
        await store.get("x")
        for operation in (
            lambda: store.put("key", b"1", tags=TAG),
            lambda: store.get("key"),
            lambda: store.tagged("tag"),
            lambda: store.purge(prefix="other"),
        ):
            proxy.lose = 1
            await operation()
        assert set(await store.tagged("tag")) == {"key"}
        await store.purge()
        await store.aclose()


async def test_scripts_are_sent_again(valkey: Valkey) -> None:
    """A server that has forgotten the scripts is given them anew."""
    store = fresh(valkey)
    await store.put("key", b"1")
    await command(store, "SCRIPT FLUSH")
    assert (await store.get("key")).data == b"1"
    await store.purge()
    await store.aclose()


async def test_a_full_server_refuses_and_changes_nothing(own_valkey: Valkey) -> None:
    """What was there stays, with its tags."""
    store = RedisBlobs(own_valkey.url)
    await store.put("key", b"old", tags=TAG)
    await command(store, "CONFIG SET", "maxmemory", "1mb")
    await command(store, "CONFIG SET", "maxmemory-policy", "noeviction")
    with pytest.raises(StoreUnavailableError, match="OOM"):
        await store.put("key", b"x" * 2_000_000, tags=frozenset({"new"}))
    assert {key: blob.data for key, blob in (await store.tagged("tag")).items()} == {"key": b"old"}
    assert await store.delete("key")
    await store.aclose()


async def test_a_user_with_few_rights(own_valkey: Valkey, shared_state_page: str) -> None:
    """The commands and keys that the documentation names are enough."""
    import re

    from lamella import Secret

    names = shared_state_page.partition("For values it needs")[2].partition(".")[0]
    commands = re.findall(r"`([A-Z]+)`", names)
    admin = RedisBlobs(own_valkey.url)
    rights = ["-@all", *[f"+{name.lower()}" for name in commands], "~{few}:*"]
    await command(admin, "ACL SETUSER", "few", "on", ">pw", *rights)
    url = Secret.of_value(f"redis://few:pw@127.0.0.1:{own_valkey.port}")
    store = RedisBlobs(url, namespace="few")
    for number in range(600):
        await store.put(str(number), b"", ttl=60.0 + number, tags=TAG)
    await store.put("x", b"", ttl=0.01, tags=TAG)
    await store.put_many({"0": b""}, tags=TAG)
    await anyio.sleep(0.02)
    assert len((await store.entries(tag="tag", prefix="11")).entries) == 11
    assert len(await store.get_many(["0", "1", "x"])) == 2
    assert len(await store.tagged("tag")) == 600
    assert await store.delete("1")
    assert await store.purge(tag="tag", prefix="2") == 111
    assert await store.purge() == 488
    assert (await store.health()).well
    await store.aclose()
    await admin.aclose()


@pytest.fixture
def shared_state_page() -> str:
    """The documentation of it."""
    from pathlib import Path

    return (Path(__file__).parents[3] / "docs" / "shared-state.md").read_text("utf-8")


# --- by name ----------------------------------------------------------------------------------


async def test_a_name_gives_the_store_of_the_part(valkey: Valkey) -> None:
    """`redis` under `blobs` keeps values, under `leases` limits; made once for a process."""
    table = {"use": "redis", "url": valkey.tcp, "namespace": f"named{next(NUMBERS)}"}
    stores = {"blobs": table | {"timeout": 5.0}, "leases": table}
    one, other = Pipeline([], "mock", stores=stores), Pipeline.preset("test", stores=stores)
    blobs = one.ports.stores.blobs
    await blobs.put("key", b"1")
    assert (await other.ports.stores.blobs.get("key")) is not None
    assert type(one.ports.stores.leases).__name__ == "GuardedLeases"
    assert (await one.health()).stores["blobs"].well
    await blobs.purge()
    await one.aclose()
    await other.aclose()


@pytest.mark.parametrize("how", ["pipeline", "preset"])
def test_mistakes_are_named(how: str) -> None:
    """Each option with its place; what the part does not know is none."""
    table = {"use": "redis", "url": "redis://h", "outage": "local", "max_entry_bytes": 0}
    for part in ({"blobs": table}, {"records": {"use": "redis", "url": "redis://h"}}):
        with pytest.raises(ConfigurationError) as caught:
            if how == "pipeline":
                Pipeline([], "mock", stores=part)
            else:
                Pipeline.preset("test", stores=part)
        said = str(caught.value)
        for words in ("stores.blobs.outage",) if "blobs" in part else ("There are blobs, leases.",):
            assert words in said


def test_options_are_checked() -> None:
    """When the store is made."""
    wrong: list[dict[str, Any]] = [{"max_entry_bytes": 0}, {"timeout": -1}, {"namespace": "{x}"}]
    for options in wrong:
        with pytest.raises(ConfigurationError):
            RedisBlobs("redis://h", **options)
    with pytest.raises(ConfigurationError, match="give a url"):
        RedisBlobs()
    assert json.dumps(repr(RedisBlobs("redis://h")))
