"""The rules of a `BlobStore` about many keys at a time: reading, keeping and listing them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from lamella._stores import BlobInfo, BlobStore
from lamella.testing._store_conformance import Rules, expect, expect_value_error, no, yes

many_rules: Rules[BlobStore] = Rules("BlobStore")

ODD_KEYS: Final = (
    "", " ", "a\nb", "ключ", "a*", "a?[b]", "a%_b", "a:b:", "\U0001f511", "a\\b", "a{b}", "\0a",
)  # fmt: skip
"""Texts that somebody might take for something else than a key."""

_MANY: Final = 1200  # more than one question to a store has
_GONE: Final = 200
_PAGES: Final = 10_000


async def _found(store: BlobStore, keys: list[str]) -> dict[str, bytes]:
    return {key: blob.data for key, blob in (await store.get_many(keys)).items()}


async def _listed(
    store: BlobStore,
    *,
    prefix: str = "",
    tag: str | None = None,
    between: Callable[[int], Awaitable[None]] | None = None,
) -> dict[str, BlobInfo]:
    """All pages of a listing; `between` is called with the number of each that others follow."""
    found: dict[str, BlobInfo] = {}
    cursor = ""
    for page_number in range(_PAGES):
        page = await store.entries(prefix=prefix, tag=tag, cursor=cursor)
        for info in page.entries:
            found[info.key] = info
        cursor = page.cursor
        if not cursor:
            return found
        if between is not None:
            await between(page_number)
    raise AssertionError(f"a listing has ended after {_PAGES} pages: saw yet another cursor.")


@many_rules.rule("Of many keys come the values that there are, whole, whatever the order.")
async def _get_many(store: BlobStore) -> None:
    for number, key in enumerate(ODD_KEYS):
        await store.put(key, str(number).encode(), tags=frozenset({"tag", key}))
    expected = {key: str(number).encode() for number, key in enumerate(ODD_KEYS)}
    expect(await _found(store, [*reversed(ODD_KEYS)]), expected, "get_many of all")
    some = ["absent", "a*", "a:b:", "a*", "a"]
    wanted = {key: expected[key] for key in ("a*", "a:b:")}
    expect(await _found(store, some), wanted, "get_many of some, one twice and two absent")
    expect(await _found(store, []), {}, "get_many of no keys")
    expect(await _found(store, ["absent"]), {}, "get_many of an absent key")
    blob = (await store.get_many(["ключ"]))["ключ"]
    expect(type(blob.data), bytes, "type of the data")
    expect(blob.tags, frozenset({"tag", "ключ"}), "all tags of a value")
    yes(0 <= blob.age < 60, f"its age {blob.age!r} is 0 or a little more")


@many_rules.rule("Many values are kept as each would be, in place of what was there.")
async def _put_many(store: BlobStore) -> None:
    await store.put("a", b"old", tags=frozenset({"old"}))
    await store.put("other", b"other")
    await store.put_many({"a": b"1", "b": b"", "ключ": b"\x00\xff"}, tags=frozenset({"x", "y"}))
    expect(await _found(store, ["a", "b", "ключ"]), {"a": b"1", "b": b"", "ключ": b"\x00\xff"},
           "get_many")  # fmt: skip
    blob = await store.get("b")
    expect(None if blob is None else blob.tags, frozenset({"x", "y"}), "the tags of each")
    expect(set(await store.tagged("x")), {"a", "b", "ключ"}, "what has one of the tags")
    expect(dict(await store.tagged("old")), {}, "what has a tag that was replaced")
    await store.put_many({})
    expect(await _found(store, ["other"]), {"other": b"other"}, "another value")
    await store.put_many({"a": b"2", "other": b"2"}, ttl=0.0)
    expect(await _found(store, ["a", "b", "other"]), {"b": b""}, "after a time to live of 0")


@many_rules.rule("Of more values than one question has, all are kept, found and listed.")
async def _very_many(store: BlobStore) -> None:
    values = {f"key {number}": str(number).encode() for number in range(_MANY)}
    await store.put_many(values, tags=frozenset({"tag"}))
    found = await _found(store, list(values))
    yes(found == values, f"{len(found)} of {len(values)} are found, each with its value")
    for what, listed in (
        ("all", await _listed(store)),
        ("by prefix", await _listed(store, prefix="key ")),
        ("by tag", await _listed(store, tag="tag")),
    ):
        yes(set(listed) == set(values), f"{len(listed)} of {len(values)} are listed {what}")
    ones = {key for key in values if key.startswith("key 1")}
    expect(len(await _listed(store, prefix="key 1", tag="tag")), len(ones), "by prefix and tag")
    expect(await store.purge(tag="tag"), len(values), "purge of the tag")
    expect(await _listed(store), {}, "what is listed after it")


@many_rules.rule("A listing names what has the prefix and the tag, taken literally, and no more.")
async def _entries(store: BlobStore) -> None:
    expect(await _listed(store), {}, "what an empty store lists")
    for number, key in enumerate(ODD_KEYS):
        await store.put(key, b"x" * number, tags=frozenset({"all", key}))
    for number, key in enumerate(ODD_KEYS):
        begin = {other for other in ODD_KEYS if other.startswith(key)}
        expect(set(await _listed(store, prefix=key)), begin, f"keys with the prefix {key!r}")
        expect(set(await _listed(store, tag=key)), {key}, f"keys with the tag {key!r}")
        expect(set(await _listed(store, prefix=key, tag="all")), begin, f"both, with {key!r}")
        info = (await _listed(store, prefix=key))[key]
        expect(info.size, number, f"size of the value under {key!r}")
        expect(info.tags, frozenset({"all", key}), "its tags")
        expect(info.expires_in, None, "when it expires")
        yes(0 <= info.age < 60, f"its age {info.age!r} is 0 or a little more")
    expect(await _listed(store, tag="none"), {}, "keys with a tag that nothing has")
    expect(await _listed(store, prefix="none"), {}, "keys with a prefix that nothing has")


@many_rules.rule("What is replaced, deleted or purged is listed as it is now, or not at all.")
async def _listed_now(store: BlobStore) -> None:
    await store.put_many(dict.fromkeys(("kept", "new", "gone", "purged"), b"1"),
                         tags=frozenset({"tag"}))  # fmt: skip
    await store.put("new", b"22", tags=frozenset({"other"}))
    await store.delete("gone")
    await store.purge(prefix="purged")
    sizes = {key: info.size for key, info in (await _listed(store)).items()}
    expect(sizes, {"kept": 1, "new": 2}, "keys and sizes")
    expect(set(await _listed(store, tag="tag")), {"kept"}, "what has the tag")
    expect(set(await _listed(store, tag="other")), {"new"}, "what has the new tag")


@many_rules.rule("What is there from the first page to the last is found, whatever comes and goes.")
async def _changing(store: BlobStore) -> None:
    tag = frozenset({"tag"})
    kept = {f"kept {number}" for number in range(_MANY)}
    for wanted in (None, "tag"):
        await store.purge()
        await store.put_many(dict.fromkeys(kept, b"old"), tags=tag)
        await store.put_many({f"gone {number}": b"" for number in range(_GONE)}, tags=tag)

        async def change(page: int) -> None:
            number = page % _MANY
            await store.put(f"kept {number}", b"new", tags=tag)
            await store.put(f"a new {number}", b"", tags=tag)
            for gone in range(10 * page, 10 * page + 10):
                await store.delete(f"gone {gone % _GONE}")

        listed = await _listed(store, tag=wanted, between=change)
        missing = len(kept - set(listed))
        expect(missing, 0, f"how many that were there are missing, by tag {wanted!r}")


@many_rules.rule("A cursor that no page had is refused.")
async def _wrong_cursor(store: BlobStore) -> None:
    await store.put("key", b"", tags=frozenset({"tag"}))
    for cursor in ("no cursor of yours", "\U0001f511"):
        await expect_value_error(store.entries(cursor=cursor), f"entries with cursor {cursor!r}")
        await expect_value_error(
            store.entries(tag="tag", cursor=cursor), f"entries by tag with cursor {cursor!r}"
        )


@many_rules.timed_rule("Of many values only those come and are listed that have not expired.")
async def _expiry(store: BlobStore, advance: Callable[[float], Awaitable[None]]) -> None:
    tag = frozenset({"tag"})
    await store.put_many({"a": b"1", "b": b"2"}, ttl=2.0, tags=tag)
    await store.put_many({"b": b"3", "c": b"4"}, ttl=6.0, tags=tag)
    await store.put_many({"d": b"5"}, tags=tag)
    await advance(1.0)
    expect(set(await _found(store, ["a", "b", "c", "d"])), {"a", "b", "c", "d"}, "before any end")
    await _expect_ends(store, {"a": 1.0, "b": 5.0, "c": 5.0, "d": None})
    await advance(1.5)
    expect(await _found(store, ["a", "b", "c", "d"]), {"b": b"3", "c": b"4", "d": b"5"}, "then")
    await _expect_ends(store, {"b": 3.5, "c": 3.5, "d": None})
    no(await store.delete("a"), "delete of what has expired")


async def _expect_ends(store: BlobStore, ends: dict[str, float | None]) -> None:
    for what, listed in (
        ("listed", await _listed(store)),
        ("listed by tag", await _listed(store, tag="tag")),
    ):
        expect(set(listed), set(ends), what)
        for key, end in ends.items():
            expires_in = listed[key].expires_in
            if end is None:
                expect(expires_in, None, f"when {key!r} expires")
                continue
            near = expires_in is not None and end - 1.0 < expires_in <= end + 0.01
            yes(near, f"{key!r} expires in {expires_in!r} seconds, which is about {end}")
