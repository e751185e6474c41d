"""The rules that every `SpendStore` obeys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import anyio
import attrs

from lamella._errors import ConfigurationError
from lamella._money import Money
from lamella._spend_records import SpendQuery, SpendRecord, SpendStore, SpendTotal
from lamella._usage import Usage
from lamella.testing._store_conformance import Make, Rules, expect, yes

_rules: Rules[SpendStore] = Rules("SpendStore")

_BEGIN = 1_790_000_000.0  # in September 2026
_ALL = SpendQuery()
_TEXTS = [
    each.name
    for each in attrs.fields(SpendRecord)
    if str(each.type) in ("str", "str | None") and each.name != "id"
]


async def check_spend_store(make: Make[SpendStore]) -> None:
    """Check that a spend store keeps every rule of `SpendStore`.

    Args:
        make: Makes an empty store that keeps at least 1,500 records; may be asynchronous. It is
            called once for each rule.

    Raises:
        AssertionError: If the store breaks a rule; it says which.
    """
    await _rules.check(make, None)


def _record(id_: str, after: float = 0.0, **fields: Any) -> SpendRecord:
    return SpendRecord(id=id_, at=_BEGIN + after, call_id="call", **fields)


def _full(id_: str) -> SpendRecord:
    """A record that has everything."""
    return SpendRecord(
        id=id_,
        at=_BEGIN + 0.123456789,
        call_id="call \U0001f600",
        parent_id="parent",
        branch="/hedge2/try2",
        layer="hedge",
        operation="embeddings",
        category="triage 'new' \"mail\"",
        provider="openai",
        model="gpt-ü \u2028 %s {} \\ \n",
        served_model="gpt-ü-2026-01-01",
        service="flex",
        tenant="acme; DROP TABLE records; --",
        user="user",
        session="session",
        tags={"team": "search", 'a.b "c" [0] $': "x'y", "": "no name", "ключ": "{}", "none": ""},
        outcome="failed",
        duration=0.1,
        time_to_first_event=1e-9,
        usage=Usage(
            uncached_input=10**12,
            cache_read=2,
            cache_write={"5m": 3, "1h": 4, "": 5},
            audio_input=6,
            image_input=7,
            text_output=8,
            reasoning_output=9,
            audio_output=10,
            image_output=11,
            tool_units={"web search": 12, 'a"b': 2**33},
            estimated=True,
        ),
        cost=Money(2**63 - 1, "JPY"),
    )


async def _all(store: SpendStore, query: SpendQuery = _ALL) -> list[SpendRecord]:
    return [record async for record in store.read(query)]


async def _ids(store: SpendStore, **query: Any) -> list[str]:
    return [record.id async for record in store.read(SpendQuery(**query))]


async def _attempts(store: SpendStore, *by: str, **query: Any) -> Mapping[Any, int]:
    """How many attempts each group has, by the group's only value or by all of them."""
    totals = await store.totals(SpendQuery(by=by, **query))
    return {total.group[0] if len(by) == 1 else total.group: total.attempts for total in totals}


@_rules.rule("A store without records has one total, of nothing, and no groups.")
async def _empty(store: SpendStore) -> None:
    expect(await store.append([]), 0, "append of nothing")
    expect(await _all(store), [], "read")
    expect(list(await store.totals(_ALL)), [SpendTotal()], "totals without groups")
    expect(list(await store.totals(SpendQuery(by=("model", "day")))), [], "totals by model")
    expect(await store.forget(before=_BEGIN), 0, "forget")


@_rules.rule("A record comes back as it was appended, in every field.")
async def _round_trip(store: SpendStore) -> None:
    full, least = _full("full"), SpendRecord(id="least", at=0.0, call_id="")
    texts: dict[str, Any] = dict.fromkeys(_TEXTS, "")
    empty = attrs.evolve(least, **texts, id="empty", at=0.5, usage=Usage(), cost=Money(0))
    refund = _record("refund", 1.0, cost=Money(-(2**62) - 1))
    expect(await store.append([refund, full, empty, least]), 4, "append")
    found = await _all(store)
    for saw, expected in zip(found, [least, empty, full, refund], strict=True):
        for field in attrs.fields(SpendRecord):
            name: str = field.name
            was: Any = getattr(expected, name)
            found_there: Any = getattr(saw, name)
            expect(found_there, was, f"{name} of the record {expected.id!r}")
            expect(type(found_there).__name__, type(was).__name__, f"type of {name}")


@_rules.rule("An id that is there already is passed over, in the same append too.")
async def _idempotent(store: SpendStore) -> None:
    first, other = _record("a", model="first"), _record("a", model="other")
    expect(await store.append([first, other]), 1, "append of an id twice")
    expect(await store.append([other, _record("b")]), 1, "append of it and another one")
    expect(await store.append([first, _record("b")]), 0, "append of both again")
    expect([record.model for record in await _all(store)], ["first", None], "models")
    expect(await _attempts(store, "operation"), {"chat": 2}, "attempts")


@_rules.rule("Records are appended together or not at all.")
async def _together(store: SpendStore) -> None:
    wrong: Sequence[Mapping[str, Any]] = (
        {"at": float("nan")},
        {"at": -1.0},
        {"at": _BEGIN * 1000},
        {"id": ""},
        {"user": 7},
        {"duration": float("inf")},
        {"tags": {"a": 1}},
        {"cost": Money(2**63)},
        {"usage": Usage(uncached_input=10**12 + 1)},
        {"usage": Usage(tool_units={"search": 10**12 + 1})},
    )
    for fields in wrong:
        record = attrs.evolve(_record("wrong"), **fields)
        try:
            await store.append([_record("fine"), record])
        except ValueError:
            continue
        raise AssertionError(f"append of a record with {fields!r}: expected a ValueError.")
    expect(await _all(store), [], "read after it")


@_rules.rule("A text that no encoding has is kept as near as can be, and found by what it was.")
async def _unkeepable(store: SpendStore) -> None:
    odd = "a\ud800b\0c"
    await store.append([_record("odd", user=odd, tags={odd: odd}), _record("plain", user="abc")])
    found = (await _all(store))[0]
    expect(found.user, "a\ufffdb\ufffdc", "the text")
    expect(await _ids(store, where={"user": odd}), ["odd"], "read by it")
    expect(await _ids(store, where={f"tag:{odd}": odd}), ["odd"], "read by such a tag")


@_rules.rule("A record is copied: changing what was appended, or read, changes nothing kept.")
async def _copied(store: SpendStore) -> None:
    tags, written = {"a": "1"}, {"5m": 1}
    await store.append([_record("a", tags=tags, usage=Usage(cache_write=written))])
    tags["b"], written["1h"] = "2", 2
    for _ in range(2):
        found = (await _all(store))[0]
        expect(found.tags, {"a": "1"}, "tags")
        expect(found.usage, Usage(cache_write={"5m": 1}), "usage")
        _cleared(found.tags)
        _cleared(Usage().cache_write if found.usage is None else found.usage.cache_write)


def _cleared(mapping: Any) -> None:
    if hasattr(mapping, "clear"):
        mapping.clear()


@_rules.rule("Records are read in order of time, then of id, page after page.")
async def _order(store: SpendStore) -> None:
    ids = [f"{number:04}" for number in range(1200)]
    await store.append([_record(id_, int(id_) // 400) for id_ in reversed(ids)])
    await store.append([_record("earlier", -0.5), _record("ä", 2.0), _record("Z", 2.0)])
    found = await _ids(store)
    expect(found == ["earlier", *ids, "Z", "ä"], expected=True, what="the ids are in order")
    some = await _ids(store, since=_BEGIN + 1, until=_BEGIN + 2)
    expect(some == ids[400:800], expected=True, what="those of one second are in order")


@_rules.rule("A reading may be left half-way, and goes on while others append and forget.")
async def _left(store: SpendStore) -> None:
    await store.append([_record(str(number), number) for number in range(5)])
    reading = store.read(_ALL)
    expect((await anext(reading)).id, "0", "the first")
    await store.append([_record("later", 10.0)])
    expect((await anext(reading)).id, "1", "the second")
    del reading
    expect(await store.forget(before=_BEGIN + 3), 3, "forget")
    expect(await _ids(store), ["3", "4", "later"], "read")


@_rules.rule("A span begins with its first instant and ends before its last.")
async def _spans(store: SpendStore) -> None:
    await store.append([_record(str(number), number) for number in range(4)])
    span: dict[str, Any] = {"since": _BEGIN + 1, "until": _BEGIN + 3}
    expect(await _ids(store, **span), ["1", "2"], "read")
    expect(await _attempts(store, "operation", **span), {"chat": 2}, "totals")
    expect(await _ids(store, since=_BEGIN + 3), ["3"], "read without an end")
    expect(await _ids(store, until=_BEGIN + 1), ["0"], "read without a beginning")
    none: dict[str, Any] = {"since": _BEGIN + 3, "until": _BEGIN + 1}
    expect(await _ids(store, **none), [], "read of a span that ends before it begins")
    expect(list(await store.totals(SpendQuery(**none))), [SpendTotal()], "totals of it")


_TOLD_APART = {
    "provider": ("openai", "anthropic"),
    "model": ("a", "b"),
    "operation": ("rerank", "embeddings"),
    "category": ("triage", "summary"),
    "layer": ("retry", "hedge"),
    "tenant": ("acme", "emca"),
    "user": ("u'1", 'u"2'),
    "session": ("s 1", "S 1"),
    "outcome": ("cancelled", "failed"),
    "service": ("batch", "flex"),
    "tag:team": ("x", "y"),
    'tag:a.b "c" [0] $': ("x.y", "$"),
    "tag:ключ": ("ü", "Ü"),
}


def _having(id_: str, name: str, value: str) -> SpendRecord:
    if name.startswith("tag:"):
        return _record(id_, tags={name.removeprefix("tag:"): value, "other": "z"})
    field: dict[str, Any] = {name: value}
    return _record(id_, **field)


@_rules.rule("Records are asked for, and told apart, by each field and by tags.")
async def _fields(store: SpendStore) -> None:
    for place, (name, values) in enumerate(_TOLD_APART.items()):
        ids = [f"{place}-{number}" for number in range(2)]
        made = [_having(id_, name, value) for id_, value in zip(ids, values, strict=True)]
        await store.append(made)
        for id_, value in zip(ids, values, strict=True):
            expect(await _ids(store, where={name: value}), [id_], f"read by {name} {value!r}")
        groups = await _attempts(store, name)
        expect([groups.get(value) for value in values], [1, 1], f"attempts by {name}")
    costs = [_record(each, cost=Money(1, each)) for each in ("EUR", "USD")]
    await store.append([*costs, _record("unpriced")])
    expect(await _ids(store, where={"currency": "EUR"}), ["EUR"], "read by currency")
    expected = {None: 1 + 2 * len(_TOLD_APART), "EUR": 1, "USD": 1}
    expect(await _attempts(store, "currency"), expected, "attempts by currency")


@_rules.rule("What a record does not have, or has as an empty text, is asked for as None.")
async def _none(store: SpendStore) -> None:
    user = [_record("a"), _record("b", user=""), _record("c", user="x", tags={"t": ""})]
    await store.append([*user, _record("d", category="e", tags={"t": "x"})])
    for nothing in (None, ""):
        expect(await _ids(store, where={"user": nothing}), ["a", "b", "d"], "read by no user")
        expect(await _ids(store, where={"category": nothing}), ["a", "b", "c"], "by no category")
        expect(await _ids(store, where={"tag:t": nothing}), ["a", "b", "c"], "read by no tag")
        expect(await _ids(store, where={"currency": nothing, "user": "x"}), ["c"], "by two")
    expect(await _attempts(store, "user"), {None: 3, "x": 1}, "attempts by user")
    expect(await _attempts(store, "category"), {None: 3, "e": 1}, "attempts by category")
    expect(await _attempts(store, "tag:t"), {None: 3, "x": 1}, "attempts by tag")
    expect(await _attempts(store, "tag:t", where={"user": "z"}), {}, "attempts of nobody")


@_rules.rule("Groups come in the order of their values; None comes first.")
async def _groups_in_order(store: SpendStore) -> None:
    models = ["b", None, "a", "Z", "ä", "\U0001f600", "\uffee", "a"]
    await store.append(
        [_record(str(n), model=model, provider="pq"[n % 2]) for n, model in enumerate(models)]
    )
    saw = list(await _attempts(store, "model"))
    expect(saw, [None, "Z", "a", "b", "ä", "\uffee", "\U0001f600"], "models")
    saw = list(await _attempts(store, "provider", "model"))
    expected = [("p", "a"), ("p", "b"), ("p", "ä"), ("p", "\uffee")]
    expected_q: list[Any] = [("q", None), ("q", "Z"), ("q", "a"), ("q", "\U0001f600")]
    expect(saw, [*expected, *expected_q], "providers and models")


@_rules.rule("A total adds up tokens by kind, and money by currency, exactly.")
async def _amounts(store: SpendStore) -> None:
    usage = Usage(1, 10, {"5m": 100, "1h": 1000}, 10**4, 10**5, 2, 20, 200, 2000)
    guessed = attrs.evolve(usage, estimated=True)
    most = Money(2**63 - 1, "IDR")
    await store.append(
        [
            _record("a", usage=usage, cost=Money(1)),
            _record("b", usage=guessed, cost=Money(2**53)),
            _record("c", usage=None, cost=Money(-5)),
            _record("d", usage=Usage(), cost=most),
            _record("e", usage=Usage(estimated=True), cost=most),
            _record("f", usage=usage),
            _record("g"),
        ]
    )
    total = SpendTotal(
        attempts=7,
        unpriced=2,
        estimated=2,
        input_tokens=3 * 111_111,
        cached_tokens=30,
        output_tokens=3 * 2222,
        reasoning_tokens=60,
        costs={"IDR": Money(2**64 - 2, "IDR"), "USD": Money(2**53 - 4)},
    )
    expect(list(await store.totals(_ALL)), [total], "totals")
    by = [attrs.evolve(total, group=("chat",))]
    expect(list(await store.totals(SpendQuery(by=("operation",)))), by, "totals by operation")


_INSTANTS = {
    # name of a time zone: instants in UTC, and the hour, day, week and month that they are in there
    "UTC": [
        ("2026-01-01T00:00:00", "2026-01-01T00:00", "2026-01-01", "2025-12-29", "2026-01-01"),
        ("2026-11-22T23:59:59.99", "2026-11-22T23:00", "2026-11-22", "2026-11-16", "2026-11-01"),
        ("1970-01-01T00:00:00", "1970-01-01T00:00", "1970-01-01", "1969-12-29", "1970-01-01"),
    ],
    "Europe/Berlin": [
        ("2026-03-29T00:59:59.9", "2026-03-29T01:00", "2026-03-29", "2026-03-23", "2026-03-01"),
        ("2026-03-29T01:00:00", "2026-03-29T03:00", "2026-03-29", "2026-03-23", "2026-03-01"),
        ("2026-10-24T22:00:00", "2026-10-25T00:00", "2026-10-25", "2026-10-19", "2026-10-01"),
        ("2026-10-25T00:30:00", "2026-10-25T02:00", "2026-10-25", "2026-10-19", "2026-10-01"),
        ("2026-10-25T01:30:00", "2026-10-25T02:00", "2026-10-25", "2026-10-19", "2026-10-01"),
        ("2026-10-25T22:59:59", "2026-10-25T23:00", "2026-10-25", "2026-10-19", "2026-10-01"),
        ("2026-10-25T23:00:00", "2026-10-26T00:00", "2026-10-26", "2026-10-26", "2026-10-01"),
    ],
    "America/New_York": [
        ("1970-01-01T00:00:00", "1969-12-31T19:00", "1969-12-31", "1969-12-29", "1969-12-01"),
        ("2026-11-01T04:59:59", "2026-11-01T00:00", "2026-11-01", "2026-10-26", "2026-11-01"),
    ],
    "Asia/Kathmandu": [  # 5:45 ahead
        ("2026-11-21T18:14:59", "2026-11-21T23:00", "2026-11-21", "2026-11-16", "2026-11-01"),
        ("2026-11-21T18:15:00", "2026-11-22T00:00", "2026-11-22", "2026-11-16", "2026-11-01"),
    ],
    "Australia/Lord_Howe": [  # whose clocks go half an hour back, in the middle of an hour
        ("2026-04-04T14:59:59", "2026-04-05T01:00", "2026-04-05", "2026-03-30", "2026-04-01"),
        ("2026-04-04T15:00:00", "2026-04-05T01:00", "2026-04-05", "2026-03-30", "2026-04-01"),
        ("2026-04-04T15:30:00", "2026-04-05T02:00", "2026-04-05", "2026-03-30", "2026-04-01"),
    ],
}  # fmt: skip


@_rules.rule("Hours, days, weeks and months are those of the time zone, when clocks change, too.")
async def _times(store: SpendStore) -> None:
    for timezone, instants in _INSTANTS.items():
        ends = [datetime.fromisoformat(f"{utc}+00:00").timestamp() for utc, *_ in instants]
        await store.append(
            [
                SpendRecord(id=f"{timezone} {number}", at=at, call_id="", session=timezone)
                for number, at in enumerate(ends)
            ]
        )
    for timezone, instants in _INSTANTS.items():
        query: dict[str, Any] = {"timezone": timezone, "where": {"session": timezone}}
        for place, unit in enumerate(("hour", "day", "week", "month"), 1):
            expected: dict[Any, int] = {}
            for row in sorted(instants, key=lambda row: row[place]):
                expected[row[place]] = expected.get(row[place], 0) + 1
            saw = await _attempts(store, unit, **query)
            expect(list(saw.items()), list(expected.items()), f"attempts by {unit}, {timezone}")
            both = await _attempts(store, "session", unit, **query)
            expect(len(both), len(expected), f"groups by session and {unit} in {timezone}")


@_rules.rule("What ended before an instant is forgotten, for good, and nothing else.")
async def _forget(store: SpendStore) -> None:
    await store.append([_record(str(number), number, model="a") for number in range(1100)])
    expect(await store.forget(before=_BEGIN), 0, "forget of what there is not")
    expect(await store.forget(before=_BEGIN + 1000.5), 1001, "forget")
    expect(await store.forget(before=_BEGIN + 1000.5), 0, "forget again")
    expect(await _attempts(store, "model"), {"a": 99}, "attempts")
    expect((await _ids(store))[0], "1001", "the first that is left")


@_rules.rule("What is one person's, or tenant's, is forgotten, and nothing else.")
async def _forget_of(store: SpendStore) -> None:
    await store.append([_record(f"{n:04}", n % 7, user="ada") for n in range(600)])
    await store.append(
        [
            _record("acme's", 9.0, user="bob", tenant="acme"),
            _record("nowhere", 9.0, user="bob"),
            _record("tagged", tags={"team": "a.b"}),
            _record("nobody's"),
            _record("empty", user=""),
        ]
    )
    expect(await store.forget(where={"user": "eve"}), 0, "forget of who is not there")
    expect(await store.forget(where={"user": "ada"}), 600, "forget of a user")
    expect(await store.forget(where={"user": "bob"}, before=_BEGIN + 9), 0, "of a user, before")
    expect(await store.forget(where={"user": "bob", "tenant": None}), 1, "of a user of no tenant")
    expect(await store.forget(where={"user": "bob", "tenant": "acme"}), 1, "of a user of a tenant")
    expect(await store.forget(where={"tag:team": "a.b"}), 1, "forget of a tag")
    left = ["empty", "nobody's"]
    expect(await _ids(store), left, "what is left")
    expect(await store.forget(where={"user": None}, before=_BEGIN), 0, "of nobody's, before")
    wrong: Sequence[Mapping[str, Any]] = (
        {},
        {"before": float("nan")},
        {"before": "today"},
        {"where": {"user": None}},
        {"where": {"user": "", "tag:team": ""}},
    )
    for which in wrong:
        try:
            await store.forget(**which)
        except ValueError:
            continue
        raise AssertionError(f"forget({which!r}): expected a ValueError.")
    try:
        await store.forget(where={"usr": "ada"})
    except ConfigurationError:
        pass
    else:
        raise AssertionError("forget of what is not recorded: expected a ConfigurationError.")
    expect(await _ids(store), left, "what is left after it")


@_rules.rule("Concurrent appends all arrive, each record once; a total sees whole appends.")
async def _concurrent(store: SpendStore) -> None:
    new: list[int] = []
    seen: list[int] = []

    async def append(first: int) -> None:
        for number in range(first, first + 20, 5):
            some = [_record(str(each), cost=Money(1)) for each in range(number, number + 5)]
            new.append(await store.append(some))
            seen.append((await store.totals(_ALL))[0].attempts)

    async with anyio.create_task_group() as group:
        for first in (0, 10, 20, 30):  # each id twice but for the first and last ten
            group.start_soon(append, first)
    expect(sum(new), 50, "number of new records, as told")
    yes(
        all(each % 5 == 0 for each in seen),
        f"attempts seen meanwhile, {seen}, are of whole appends",
    )
    expect(
        list(await store.totals(_ALL)), [SpendTotal(attempts=50, costs={"USD": Money(50)})], "all"
    )


@_rules.rule("A store that was closed is as it was when it is used again.")
async def _closed(store: SpendStore) -> None:
    await store.append([_record("a")])
    await store.aclose()
    expect(await store.append([_record("a"), _record("b")]), 1, "append of two")
    expect(await _ids(store), ["a", "b"], "read")


@_rules.rule("What is appended without a loop, where a store can, is as if appended with one.")
async def _now(store: SpendStore) -> None:
    append_now = getattr(store, "append_now", None)
    if append_now is None:
        return
    await store.append([_record("a")])
    expect(append_now([_record("a"), _full("b")]), 1, "append_now of two")
    expect(append_now([_full("b")]), 0, "append_now again")
    expect(append_now([]), 0, "append_now of nothing")
    expect(await store.append([_full("b"), _record("c")]), 1, "append after it")
    expect(await _all(store), [_record("a"), _record("c"), _full("b")], "read")
