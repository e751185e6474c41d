"""The rules that every `RecordStore` obeys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio

from lamella._stores import RecordStore
from lamella.testing._store_conformance import Make, Rules, expect

_rules: Rules[RecordStore] = Rules("RecordStore")


async def check_record_store(make: Make[RecordStore]) -> None:
    """Check that a record store keeps every rule of `RecordStore`.

    Args:
        make: Makes an empty store that keeps at least 100 records; may be asynchronous. It is
            called once for each rule.

    Raises:
        AssertionError: If the store breaks a rule; it says which.
    """
    await _rules.check(make, None)


async def _all(
    store: RecordStore, stream: str, after: int = 0
) -> list[tuple[int, Mapping[str, Any]]]:
    return [(number, dict(record)) async for number, record in store.read(stream, after=after)]


@_rules.rule("A stream that nothing was appended to is empty.")
async def _empty(store: RecordStore) -> None:
    expect(await _all(store, "empty"), [], "read")
    expect(await store.append("empty", []), 0, "append of nothing")
    expect(await _all(store, "empty", after=7), [], "read above 7")


@_rules.rule("Records come back in the order appended, numbered from 1.")
async def _order(store: RecordStore) -> None:
    expect(await store.append("stream", [("a", {"n": 1}), ("b", {"n": 2})]), 2, "append of two")
    expect(await store.append("stream", [("c", {"n": 3})]), 1, "append of one")
    expected = [(1, {"n": 1}), (2, {"n": 2}), (3, {"n": 3})]
    expect(await _all(store, "stream"), expected, "read")
    expect(await _all(store, "stream"), expected, "read again")


@_rules.rule("A read gives the records above `after`.")
async def _after(store: RecordStore) -> None:
    await store.append("stream", [(str(n), {"n": n}) for n in range(1, 51)])
    for after in (0, 1, 25, 49, 50, 51):
        expected = [(n, {"n": n}) for n in range(after + 1, 51)]
        expect(await _all(store, "stream", after=after), expected, f"read above {after}")


@_rules.rule("An id that is there already is skipped, in the same append too, and takes no number.")
async def _idempotent(store: RecordStore) -> None:
    expect(await store.append("stream", [("a", {"n": 1}), ("a", {"n": 2})]), 1, "append of a pair")
    expect(
        await store.append("stream", [("a", {"n": 3}), ("b", {"n": 4})]), 1, "append of 'a', 'b'"
    )
    expect(await store.append("stream", [("b", {"n": 5})]), 0, "append of 'b' again")
    expect(await _all(store, "stream"), [(1, {"n": 1}), (2, {"n": 4})], "read")


@_rules.rule("Streams are independent, in ids and numbers.")
async def _independent(store: RecordStore) -> None:
    for stream in ("s", "s*", "s:1", "S", "ß"):
        expect(await store.append(stream, [("a", {"in": stream})]), 1, f"append to {stream!r}")
    for stream in ("s", "s*", "s:1", "S", "ß"):
        expect(await _all(store, stream), [(1, {"in": stream})], f"read of {stream!r}")


@_rules.rule("JSON values come back the same: texts, large integers, floats, nesting, None.")
async def _values(store: RecordStore) -> None:
    record: dict[str, Any] = {
        "": None,
        "text": "naïve \U0001f600 \u2028 \x00 \"'",
        "true": True,
        "integers": [0, -1, 2**53 + 1, 10**18],
        "floats": [0.1, -2.5e-9, 1e300],
        "nested": {"list": [[], {}, [{"a": "b"}]]},
    }
    await store.append("stream", [("id \U0001f600", record)])
    expect(await _all(store, "stream"), [(1, record)], "read")


@_rules.rule("A record is copied: changing what was appended, or read, changes nothing kept.")
async def _copied(store: RecordStore) -> None:
    record: dict[str, Any] = {"list": [1], "map": {"a": 1}}
    await store.append("stream", [("a", record)])
    record["list"].append(2)
    record["map"]["b"] = 2
    expected = [(1, {"list": [1], "map": {"a": 1}})]
    found = await _all(store, "stream")
    expect(found, expected, "read after changing what was appended")
    found[0][1]["list"].append(3)
    expect(await _all(store, "stream"), expected, "read after changing what was read")


@_rules.rule("Records that are not all JSON values are refused together.")
async def _not_json(store: RecordStore) -> None:
    wrong: list[Any] = [float("nan"), float("inf"), object(), b"bytes", {1, 2}, {1: "key"}]
    for value in wrong:
        try:
            await store.append("stream", [("a", {"fine": 1}), ("b", {"value": value})])
        except (TypeError, ValueError):
            continue
        raise AssertionError(f"append of {value!r}: expected a TypeError or ValueError, saw none.")
    expect(await _all(store, "stream"), [], "read")


@_rules.rule("Concurrent appends all arrive, each once, with numbers of their own.")
async def _concurrent(store: RecordStore) -> None:
    new: list[int] = []

    async def append(first: int) -> None:
        for n in range(first, first + 20):
            new.append(await store.append("stream", [(str(n), {"n": n})]))  # noqa: PERF401

    async with anyio.create_task_group() as group:
        for first in (0, 10, 20, 30):  # each id twice but for the first and last ten
            group.start_soon(append, first)
    found = await _all(store, "stream")
    expect(sum(new), 50, "number of new records, as told")
    expect([number for number, _ in found], list(range(1, 51)), "numbers")
    expect(sorted(record["n"] for _, record in found), list(range(50)), "records")


@_rules.rule("A read may be left half-way, and goes on while others append.")
async def _left(store: RecordStore) -> None:
    await store.append("stream", [(str(n), {"n": n}) for n in range(5)])
    reader = store.read("stream")
    expect(await anext(reader), (1, {"n": 0}), "first record")
    await store.append("stream", [("later", {"n": 5})])
    expect(await anext(reader), (2, {"n": 1}), "second record")
    del reader
    expect(len(await _all(store, "stream")), 6, "number of records")
