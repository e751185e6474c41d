"""The rules that every `BlobStore` obeys."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import anyio

from lamella._stores import BlobStore
from lamella.testing._blob_conformance_many import ODD_KEYS, many_rules
from lamella.testing._store_conformance import Advance, Make, Rules, expect, no, yes

_rules: Rules[BlobStore] = Rules("BlobStore")


async def check_blob_store(make: Make[BlobStore], advance: Advance | None = None) -> None:
    """Check that a blob store keeps every rule of `BlobStore`.

    Args:
        make: Makes an empty store with room for 1,500 small values; may be asynchronous. It is
            called once for each rule.
        advance: Moves the store's clock by seconds, in all about 25, and may sleep to do so. None
            leaves out the rules about time.

    Raises:
        AssertionError: If the store breaks a rule; it says which.
    """
    await _rules.check(make, advance)
    await many_rules.check(make, advance)


async def _data(store: BlobStore, key: str) -> bytes | None:
    blob = await store.get(key)
    return None if blob is None else blob.data


@_rules.rule("A key that was never put is absent.")
async def _absent(store: BlobStore) -> None:
    expect(await store.get("absent"), None, "get of it")
    no(await store.delete("absent"), "delete of it")
    expect(await store.purge(), 0, "purge of an empty store")
    expect(dict(await store.tagged("absent")), {}, "tagged of a tag that nothing has")


@_rules.rule("A value comes back as it was put, with its tags and its age.")
async def _round_trip(store: BlobStore) -> None:
    for data in (b"", b"\x00\xff\r\n", bytes(range(256)) * 256):
        await store.put("key", data, tags=frozenset({"red", "grün"}))
        blob = await store.get("key")
        if blob is None:
            raise AssertionError(f"get after put of {len(data)} bytes: saw None.")
        expect(type(blob.data), bytes, "type of the data")
        yes(blob.data == data, f"data of {len(data)} bytes is the same")
        expect(blob.tags, frozenset({"red", "grün"}), "its tags")
        yes(0 <= blob.age < 60, f"age {blob.age!r} is 0 or a little more")


@_rules.rule("A put replaces the value and the tags that were there.")
async def _replace(store: BlobStore) -> None:
    await store.put("key", b"old", tags=frozenset({"old"}))
    await store.put("key", b"new", tags=frozenset({"new"}))
    expect(await _data(store, "key"), b"new", "the value")
    expect(await store.purge(tag="old"), 0, "purge of the old tag")
    expect(await store.purge(tag="new"), 1, "purge of the new tag")


@_rules.rule("A deleted key is absent; deleting says whether it was there.")
async def _delete(store: BlobStore) -> None:
    await store.put("key", b"1", tags=frozenset({"tag"}))
    await store.put("other", b"2")
    yes(await store.delete("key"), "delete")
    no(await store.delete("key"), "delete again")
    expect(await store.get("key"), None, "get")
    expect(await store.purge(tag="tag"), 0, "purge of its tag")
    expect(await _data(store, "other"), b"2", "another key")


@_rules.rule("Keys are any text, and no two of them are the same entry.")
async def _odd_keys(store: BlobStore) -> None:
    for number, key in enumerate(ODD_KEYS):
        await store.put(key, str(number).encode())
    for number, key in enumerate(ODD_KEYS):
        expect(await _data(store, key), str(number).encode(), f"value of key {key!r}")


@_rules.rule("A purge forgets the keys that begin with the prefix, taken literally, and no others.")
async def _purge_prefix(store: BlobStore) -> None:
    for prefix in ODD_KEYS:
        await store.purge()
        for key in ODD_KEYS:
            await store.put(key, b"")
        begin = [key for key in ODD_KEYS if key.startswith(prefix)]
        expect(await store.purge(prefix=prefix), len(begin), f"purge of prefix {prefix!r}")
        left = [key for key in ODD_KEYS if await store.get(key) is not None]
        expect(left, [key for key in ODD_KEYS if key not in begin], f"keys after {prefix!r}")


@_rules.rule("A purge by prefix and tag forgets only what has both.")
async def _purge_both(store: BlobStore) -> None:
    await store.put("a1", b"", tags=frozenset({"x", "y"}))
    await store.put("a2", b"", tags=frozenset({"y"}))
    await store.put("b1", b"", tags=frozenset({"x"}))
    expect(await store.purge(prefix="a", tag="x"), 1, "purge of prefix 'a' and tag 'x'")
    expect(await store.get("a1"), None, "what has both")
    expect(await _data(store, "a2"), b"", "what has the prefix only")
    expect(await _data(store, "b1"), b"", "what has the tag only")
    expect(await store.purge(tag="y"), 1, "purge of the tag 'y'")
    expect(await store.purge(tag="none"), 0, "purge of a tag that nothing has")


async def _tagged(store: BlobStore, tag: str) -> dict[str, bytes]:
    return {key: blob.data for key, blob in (await store.tagged(tag)).items()}


@_rules.rule("By a tag come all values that have it, whole, and no others.")
async def _by_tag(store: BlobStore) -> None:
    await store.put("a", b"1", tags=frozenset({"x"}))
    await store.put("b", b"\x00\xff", tags=frozenset({"x", "y"}))
    await store.put("x", b"3", tags=frozenset({"y"}))
    await store.put("c", b"4")
    expect(await _tagged(store, "x"), {"a": b"1", "b": b"\x00\xff"}, "what has the tag 'x'")
    expect(await _tagged(store, "y"), {"b": b"\x00\xff", "x": b"3"}, "what has the tag 'y'")
    blob = (await store.tagged("y"))["b"]
    expect(blob.tags, frozenset({"x", "y"}), "all tags of a value")
    yes(0 <= blob.age < 60, f"its age {blob.age!r} is 0 or a little more")


@_rules.rule("Tags are any text, and no two of them are the same, nor the same as a key.")
async def _odd_tags(store: BlobStore) -> None:
    for number, tag in enumerate(ODD_KEYS):
        await store.put(tag, str(number).encode(), tags=frozenset({tag}))
    for number, tag in enumerate(ODD_KEYS):
        expect(await _tagged(store, tag), {tag: str(number).encode()}, f"what has the tag {tag!r}")
    expect(await store.purge(tag="a*"), 1, "purge of the tag 'a*'")
    expect(await _tagged(store, "a:b:"), {"a:b:": str(ODD_KEYS.index("a:b:")).encode()}, "another")


@_rules.rule("A value that is replaced, deleted or purged is not found by a tag it had.")
async def _no_longer_tagged(store: BlobStore) -> None:
    for key in ("kept", "replaced", "retagged", "deleted", "purged", "ended"):
        await store.put(key, b"old", tags=frozenset({"tag", key}))
    await store.put("replaced", b"new", tags=frozenset({"tag"}))
    await store.put("retagged", b"new", tags=frozenset({"other"}))
    await store.delete("deleted")
    await store.purge(tag="purged")
    await store.put("ended", b"new", ttl=0.0, tags=frozenset({"tag"}))
    expect(await _tagged(store, "tag"), {"kept": b"old", "replaced": b"new"}, "what has the tag")
    expect(await _tagged(store, "replaced"), {}, "what has a tag that was replaced")
    expect(await store.purge(prefix="k"), 1, "purge by a prefix")
    expect(await _tagged(store, "tag"), {"replaced": b"new"}, "what has the tag after it")
    await store.purge()
    expect(await _tagged(store, "tag"), {}, "what has the tag after all is purged")


@_rules.rule("Of many values with one tag all are found and purged.")
async def _many_tagged(store: BlobStore) -> None:
    keys = [f"key {number}" for number in range(1200)]
    async with anyio.create_task_group() as group:
        for start in range(0, len(keys), 100):
            group.start_soon(_put_all, store, keys[start : start + 100], "tag")
    found = await _tagged(store, "tag")
    yes(found == {key: key.encode() for key in keys}, f"{len(found)} of {len(keys)} are found")
    expect(await store.purge(prefix="key 1", tag="tag"), 311, "purge by prefix and tag")
    expect(await store.purge(tag="tag"), len(keys) - 311, "purge of the rest")


async def _put_all(store: BlobStore, keys: list[str], tag: str) -> None:
    for key in keys:
        await store.put(key, key.encode(), tags=frozenset({tag}))


@_rules.rule("Concurrent writers under one tag lose nothing of each other's.")
async def _concurrent_tagged(store: BlobStore) -> None:
    async with anyio.create_task_group() as group:
        for number in range(10):
            keys = [f"{number} {each}" for each in range(10)]
            group.start_soon(_put_all, store, keys, "tag")
            group.start_soon(_put_all, store, ["shared"], f"tag {number}")
    expect(len(await store.tagged("tag")), 100, "values with the tag")
    tags = [number for number in range(10) if await store.tagged(f"tag {number}")]
    expect(len(tags), 1, "tags of a value that all have put")


@_rules.rule("A time to live of 0 or less leaves nothing under the key.")
async def _expired_already(store: BlobStore) -> None:
    for ttl in (0.0, -1.0, -math.inf):
        await store.put("key", b"old")
        await store.put("key", b"new", ttl=ttl)
        expect(await store.get("key"), None, f"get after put with ttl {ttl!r}")
        no(await store.delete("key"), "delete")


@_rules.rule("Concurrent puts of one key leave one of the values, whole.")
async def _concurrent(store: BlobStore) -> None:
    values = [bytes([number]) * 1000 for number in range(20)]
    async with anyio.create_task_group() as group:
        for value in values:
            group.start_soon(store.put, "key", value)
    yes(await _data(store, "key") in values, "the value is one of those put")
    expect(await store.purge(), 1, "number of entries")


@_rules.timed_rule("After its time to live a value is absent, for get, delete and purge.")
async def _expiry(store: BlobStore, advance: Callable[[float], Awaitable[None]]) -> None:
    for key in ("get", "delete", "purge"):
        await store.put(key, b"", ttl=2.0, tags=frozenset({"tag"}))
    await advance(1.0)
    expect(await _data(store, "get"), b"", "get before its end")
    await advance(1.5)
    no(await store.delete("delete"), "delete after its end")
    expect(await store.purge(tag="tag"), 0, "purge by tag after its end")
    expect(await store.purge(), 0, "purge after its end")
    expect(await store.get("get"), None, "get after its end")


@_rules.timed_rule("By a tag come only values that have not expired, whatever the others do.")
async def _tagged_expiry(store: BlobStore, advance: Callable[[float], Awaitable[None]]) -> None:
    tag = frozenset({"tag"})
    for key, ttl in (("first", 2.0), ("later", 6.0), ("renewed", 2.0), ("for ever", None)):
        await store.put(key, b"", ttl=ttl, tags=tag)
    await advance(1.0)
    expect(len(await store.tagged("tag")), 4, "values before any end")
    await store.put("renewed", b"", ttl=8.0, tags=tag)
    await advance(1.5)
    expect(set(await store.tagged("tag")), {"later", "renewed", "for ever"}, "after one end")
    await advance(4.0)
    expect(set(await store.tagged("tag")), {"renewed", "for ever"}, "after two")
    await store.delete("for ever")
    expect(set(await store.tagged("tag")), {"renewed"}, "after that without an end is deleted")


@_rules.timed_rule("A put begins a new time to live; None ends it.")
async def _new_expiry(store: BlobStore, advance: Callable[[float], Awaitable[None]]) -> None:
    await store.put("longer", b"", ttl=2.0)
    await store.put("for ever", b"", ttl=2.0)
    await advance(1.0)
    await store.put("longer", b"", ttl=4.0)
    await store.put("for ever", b"", ttl=None)
    await advance(2.0)
    expect(await _data(store, "longer"), b"", "get before the new end")
    expect(await _data(store, "for ever"), b"", "get after the old end")
    await advance(2.5)
    expect(await store.get("longer"), None, "get after the new end")
    expect(await _data(store, "for ever"), b"", "get long after the old end")


@_rules.timed_rule("The age is the time since the put.")
async def _age(store: BlobStore, advance: Callable[[float], Awaitable[None]]) -> None:
    await store.put("key", b"old")
    await advance(2.0)
    blob = await store.get("key")
    age = -1.0 if blob is None else blob.age
    yes(1.99 <= age < 3.0, f"age {age!r} after 2 seconds is about 2")
    await store.put("key", b"new")
    blob = await store.get("key")
    age = -1.0 if blob is None else blob.age
    yes(0.0 <= age < 1.0, f"age {age!r} after a new put is about 0")
