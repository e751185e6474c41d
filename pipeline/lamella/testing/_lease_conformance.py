"""The rules that every `LeaseStore` obeys.

Rules that are not about time use totals, or rates so slow that a real clock does not matter. Those
about time allow for a quarter of a second, which a store across a network may need.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import anyio

from lamella._stores import Dimension, Lease, LeaseStore
from lamella.testing._store_conformance import (
    Advance,
    Make,
    Rules,
    expect,
    expect_value_error,
    no,
    yes,
)

_rules: Rules[LeaseStore] = Rules("LeaseStore")
_Move: TypeAlias = Callable[[float], Awaitable[None]]

_TTL = 3600.0
_DAY = 86400.0


async def check_lease_store(make: Make[LeaseStore], advance: Advance | None = None) -> None:
    """Check that a lease store keeps every rule of `LeaseStore`.

    Args:
        make: Makes an empty store; may be asynchronous. It is called once for each rule.
        advance: Moves the store's clock by seconds, in all about 40, and may sleep to do so. None
            leaves out the rules about time.

    Raises:
        AssertionError: If the store breaks a rule; it says which.
    """
    await _rules.check(make, advance)


def _total(amount: int, capacity: int = 10, name: str = "total") -> Dimension:
    return Dimension(("test", name), amount, capacity)


def _kept_total(name: str, keep: float) -> Dimension:
    return Dimension(("test", name), 0, 10, keep=keep)


def _slow(amount: int, capacity: int = 10, name: str = "slow") -> Dimension:
    return Dimension(("test", name), amount, capacity, per=_DAY)


def _rate(amount: int) -> Dimension:
    """Four in two seconds: one each half second."""
    return Dimension(("test", "rate"), amount, 4, per=2.0)


async def _take(store: LeaseStore, lease_id: str, *dimensions: Dimension) -> Lease:
    return await store.reserve(lease_id, dimensions, ttl=_TTL)


async def _granted(store: LeaseStore, lease_id: str, *dimensions: Dimension) -> None:
    lease = await _take(store, lease_id, *dimensions)
    yes(lease.granted, f"reserve of {[each.amount for each in dimensions]} is granted")


async def _refused(store: LeaseStore, lease_id: str, *dimensions: Dimension) -> Lease:
    lease = await _take(store, lease_id, *dimensions)
    no(lease.granted, f"reserve of {[each.amount for each in dimensions]} is granted")
    return lease


async def _levels(store: LeaseStore, dimensions: Sequence[Dimension], *expected: int) -> None:
    saw = tuple([await store.level(dimension) for dimension in dimensions])
    expect(saw, expected, f"levels of {['/'.join(each.key) for each in dimensions]}")


@_rules.rule("A limit that nobody has used is full, and looking at it uses nothing.")
async def _full(store: LeaseStore) -> None:
    for _ in range(2):
        await _levels(store, (_total(3), _slow(4), _total(0, 0, "none")), 10, 10, 0)


@_rules.rule("A granted lease takes every dimension and says what is left, in order.")
async def _grant(store: LeaseStore) -> None:
    lease = await _take(store, "a", _total(3), _slow(4), _total(0, 5, "zero"))
    yes(lease.granted, "granted")
    expect((lease.retry_after, lease.refused), (0.0, None), "retry_after and refused")
    expect(lease.remaining, (7, 6, 5), "remaining")
    await _levels(store, (_total(0), _slow(0), _total(0, 5, "zero")), 7, 6, 5)
    yes((await _take(store, "none")).granted, "a lease of no dimensions is granted")


@_rules.rule("A refusal takes nothing, of no dimension, and names the one in the way.")
async def _all_or_nothing(store: LeaseStore) -> None:
    await _granted(store, "a", _total(8))
    lease = await _refused(store, "b", _slow(5), _total(3), _total(1, 5, "third"))
    expect(lease.refused, _total(3), "refused")
    expect(lease.retry_after, None, "retry_after, as time alone gives nothing back")
    expect(lease.remaining, (10, 2, 5), "remaining")
    await _levels(store, (_slow(0), _total(0), _total(0, 5, "third")), 10, 2, 5)
    no(await store.settle("b", (0, 0, 0)), "settle of the refused lease")
    no(await store.renew("b", ttl=1.0), "renew of the refused lease")
    no(await store.refund("b"), "refund of the refused lease")


@_rules.rule("More than the capacity never fits, and that goes before every other hindrance.")
async def _never(store: LeaseStore) -> None:
    await _granted(store, "a", _slow(8), _total(8))
    lease = await _refused(store, "b", _slow(5), _total(5), _total(6, 5, "small"))
    expect(lease.refused, _total(6, 5, "small"), "refused")
    expect(lease.retry_after, None, "retry_after")
    lease = await _refused(store, "c", _slow(5), _total(5))
    expect(lease.refused, _total(5), "refused: what time alone does not mend before what it does")
    expect(lease.retry_after, None, "retry_after")
    await _refused(store, "d", _slow(1, 0, "nothing"))


@_rules.rule("The longest wait is the one that counts.")
async def _longest(store: LeaseStore) -> None:
    await _granted(store, "a", _slow(10, 10, "short"), _slow(10, 10, "long"))
    lease = await _refused(store, "b", _slow(1, 10, "short"), _slow(5, 10, "long"))
    expect(lease.refused, _slow(5, 10, "long"), "refused")
    wait = math.nan if lease.retry_after is None else lease.retry_after
    yes(abs(wait - _DAY / 2) < 60, f"retry_after {wait!r} is about half a day")


@_rules.rule("A dimension that occurs twice must fit twice.")
async def _twice(store: LeaseStore) -> None:
    await _refused(store, "a", _total(6), _total(6))
    await _levels(store, (_total(0),), 10)
    await _granted(store, "b", _total(6), _total(4))
    await _levels(store, (_total(0),), 0)
    yes(await store.settle("b", (6, 1)), "settle")
    await _levels(store, (_total(0),), 3)


@_rules.rule("What does not flow back is one thing, whatever those who ask take its capacity for.")
async def _one_total(store: LeaseStore) -> None:
    await _granted(store, "a", _total(8))
    await _levels(store, (_total(0), _total(0, 20), _total(0, 5), _total(0, 0)), 2, 12, -3, -8)
    lease = await _refused(store, "b", _total(1, 5))
    expect((lease.refused, lease.retry_after), (_total(1, 5), None), "refused and retry_after")
    await _granted(store, "c", _total(12, 20))
    await _refused(store, "d", _total(1))
    yes(await store.settle("a", (3,)), "settle of the lease under the first capacity")
    yes(await store.refund("c"), "refund of the lease under the raised one")
    await _levels(store, (_total(0), _total(0, 20)), 7, 17)


@_rules.rule("Places that are held are one thing as well, and a rate with other numbers another.")
async def _one_of_places(store: LeaseStore) -> None:
    places = [Dimension(("test", "places"), 1, capacity, held=True) for capacity in (1, 2)]
    await _granted(store, "a", places[0])
    await _granted(store, "b", places[1])
    await _refused(store, "c", places[1])
    yes(await store.settle("a", (1,)), "settle")
    await _levels(store, places, 0, 1)
    await _granted(store, "d", _slow(10))
    await _levels(store, (_slow(0), _slow(0, 20)), 0, 20)


@_rules.rule("A total that occurs twice, with two capacities, must fit one after the other.")
async def _twice_apart(store: LeaseStore) -> None:
    lease = await _refused(store, "a", _total(6), _total(6, 11))
    expect(lease.refused, _total(6, 11), "refused")
    await _granted(store, "b", _total(6), _total(6, 12))
    await _levels(store, (_total(0), _total(0, 12)), -2, 0)


@_rules.rule("The store's clock shows seconds since the epoch.")
async def _clock(store: LeaseStore) -> None:
    first, second = await store.now(), await store.now()
    yes(1e9 < first < 1e10, f"now {first!r} is an instant of this age")
    yes(second >= first, f"now {second!r} is not before {first!r}")


@_rules.rule("A settlement returns what was not used and takes what was used beyond the lease.")
async def _settle(store: LeaseStore) -> None:
    dimensions = (_total(5), _slow(5), _total(5, 10, "exact"), _total(5, 10, "debt"))
    await _granted(store, "a", *dimensions)
    yes(await store.settle("a", (2, 0, 5, 25)), "settle")
    await _levels(store, dimensions, 8, 10, 5, -15)


@_rules.rule("In debt nothing is granted but 0.")
async def _debt(store: LeaseStore) -> None:
    await _granted(store, "a", _total(1), _slow(1))
    await store.settle("a", (11, 11))
    await _refused(store, "b", _total(1))
    await _refused(store, "c", _slow(1))
    await _granted(store, "d", _total(0), _slow(0))
    yes(await store.settle("d", (2, 2)), "settle of a lease of 0")
    await _levels(store, (_total(0), _slow(0)), -3, -3)


@_rules.rule("A settlement returns everything of a held dimension, whatever its amount says.")
async def _held(store: LeaseStore) -> None:
    held = Dimension(("test", "held"), 1, 2, held=True)
    for lease_id, amount in (("a", 0), ("b", 1), ("c", 7)):
        await _granted(store, lease_id, held, _total(1))
        await _levels(store, (held,), 1)
        yes(await store.settle(lease_id, (amount, 1)), "settle")
        await _levels(store, (held,), 2)
    await _levels(store, (_total(0),), 7)


@_rules.rule("A refund returns everything.")
async def _refund(store: LeaseStore) -> None:
    dimensions = (_total(10), _slow(10), Dimension(("test", "held"), 2, 2, held=True))
    await _granted(store, "a", *dimensions)
    await _levels(store, dimensions, 0, 0, 0)
    yes(await store.refund("a"), "refund")
    await _levels(store, dimensions, 10, 10, 2)


@_rules.rule("A repeated reserve takes nothing more and gives the same answer, even after the end.")
async def _reserve_again(store: LeaseStore) -> None:
    first = await _take(store, "a", _total(6))
    expect(await _take(store, "a", _total(6)), first, "the answer while it is held")
    await _levels(store, (_total(0),), 4)
    await store.settle("a", (2,))
    expect(await _take(store, "a", _total(6)), first, "the answer after it was settled")
    await _levels(store, (_total(0),), 8)


@_rules.rule("A lease ends once: the first end counts, and repeating it gives the same answer.")
async def _end_again(store: LeaseStore) -> None:
    await _granted(store, "a", _total(4))
    await _granted(store, "b", _total(4))
    for _ in range(2):
        yes(await store.settle("a", (1,)), "settle")
        yes(await store.refund("b"), "refund")
    await store.settle("a", (9,))
    await _levels(store, (_total(0),), 9)
    no(await store.settle("b", (1,)), "settle of a refunded lease")
    no(await store.refund("a"), "refund of a settled lease")
    no(await store.renew("a", ttl=1.0), "renew of a settled lease")
    await _levels(store, (_total(0),), 9)


@_rules.rule("A lease that never was can be neither settled, refunded nor renewed.")
async def _unknown(store: LeaseStore) -> None:
    no(await store.settle("unknown", (5,)), "settle")
    no(await store.refund("unknown"), "refund")
    no(await store.renew("unknown", ttl=1.0), "renew")


@_rules.rule("The id of a refused lease may be tried again.")
async def _try_again(store: LeaseStore) -> None:
    await _granted(store, "a", _total(10))
    await _refused(store, "b", _total(5))
    await store.refund("a")
    await _granted(store, "b", _total(5))
    await _levels(store, (_total(0),), 5)


@_rules.rule("Wrong amounts and times are refused with a ValueError and change nothing.")
async def _wrong(store: LeaseStore) -> None:
    await _granted(store, "a", _total(4), _slow(4))
    for amounts in ((), (1,), (1, 1, 1), (1, -1)):
        await expect_value_error(store.settle("a", amounts), f"settle with {amounts!r}")
    for ttl in (0.0, -1.0, math.inf, math.nan):
        await expect_value_error(store.renew("a", ttl=ttl), f"renew with ttl {ttl!r}")
        await expect_value_error(store.reserve("b", (_total(1),), ttl=ttl), f"reserve, ttl {ttl!r}")
    await _levels(store, (_total(0), _slow(0)), 6, 6)
    yes(await store.refund("a"), "refund after all that")


@_rules.rule("Different keys are different limits, however their parts are put together.")
async def _keys(store: LeaseStore) -> None:
    keys = (("a", "b:c"), ("a:b", "c"), ("a", "b", "c"), ("a:b:c",), ("a", "b/c"), ("a", "b*"))
    for number, key in enumerate(keys):
        await _granted(store, str(number), Dimension(key, number, 10))
    for number, key in enumerate(keys):
        expect(await store.level(Dimension(key, 0, 10)), 10 - number, f"level of {key!r}")


@_rules.rule("Totals are exact up to 2**53.")
async def _exact(store: LeaseStore) -> None:
    most = 2**53
    await _granted(store, "a", _total(1, most))
    await _levels(store, (_total(0, most),), most - 1)
    await _refused(store, "b", _total(most, most))
    await _granted(store, "c", _total(most - 1, most))
    await _refused(store, "d", _total(1, most))


@_rules.rule("However many reserve at once, no more is granted than there is.")
async def _concurrent(store: LeaseStore) -> None:
    granted: list[str] = []

    async def reserve(lease_id: str) -> None:
        if (await _take(store, lease_id, _slow(1, 20), _total(2, 20))).granted:
            granted.append(lease_id)

    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(reserve, str(number))
            group.start_soon(reserve, str(number))
    expect((len(granted), len(set(granted))), (20, 10), "answers 'granted', and leases")
    await _levels(store, (_slow(0, 20), _total(0, 20)), 10, 0)


@_rules.timed_rule("A rate flows back evenly, and never above its capacity.")
async def _flow(store: LeaseStore, advance: _Move) -> None:
    await _granted(store, "a", _rate(4))
    await _refused(store, "b", _rate(1))
    await advance(1.1)
    await _levels(store, (_rate(0),), 2)
    await _refused(store, "c", _rate(3))
    await _granted(store, "d", _rate(2))
    await advance(3.0)
    await _levels(store, (_rate(0),), 4)


@_rules.timed_rule("A total does not flow back.")
async def _no_flow(store: LeaseStore, advance: _Move) -> None:
    await _granted(store, "a", _total(4))
    await store.settle("a", (4,))
    await advance(2.0)
    await _levels(store, (_total(0),), 6)


@_rules.timed_rule("There is no edge of a window at which two bursts meet.")
async def _no_edge(store: LeaseStore, advance: _Move) -> None:
    await advance(1.9)
    await _granted(store, "a", _rate(4))
    await advance(0.2)
    await _refused(store, "b", _rate(2))


@_rules.timed_rule("After `retry_after` seconds it succeeds, and not long before.")
async def _retry_after(store: LeaseStore, advance: _Move) -> None:
    await _granted(store, "a", _rate(4))
    lease = await _refused(store, "b", _rate(3))
    wait = math.nan if lease.retry_after is None else lease.retry_after
    yes(1.25 <= wait <= 1.5, f"retry_after {wait!r} is about 1.5")
    await advance(wait - 0.4)
    await _refused(store, "c", _rate(3))
    await advance(0.401)
    await _granted(store, "d", _rate(3))


@_rules.timed_rule("Debt is waited out.")
async def _debt_flows(store: LeaseStore, advance: _Move) -> None:
    await _granted(store, "a", _rate(4))
    await store.settle("a", (7,))
    lease = await _refused(store, "b", _rate(1))
    wait = math.nan if lease.retry_after is None else lease.retry_after
    yes(1.75 <= wait <= 2.0, f"retry_after {wait!r} is about 2")
    await advance(1.6)
    await _refused(store, "c", _rate(1))
    await advance(0.5)
    await _granted(store, "d", _rate(1))


@_rules.timed_rule("A lease that is not settled in time counts as refunded, and is forgotten.")
async def _expiry(store: LeaseStore, advance: _Move) -> None:
    await store.reserve("a", (_total(4), _slow(4)), ttl=1.0)
    await advance(0.5)
    await _levels(store, (_total(0), _slow(0)), 6, 6)
    await advance(0.6)
    await _levels(store, (_total(0), _slow(0)), 10, 10)
    no(await store.settle("a", (4, 4)), "settle of the expired lease")
    no(await store.refund("a"), "refund of the expired lease")
    no(await store.renew("a", ttl=1.0), "renew of the expired lease")
    await _levels(store, (_total(0), _slow(0)), 10, 10)
    await _granted(store, "a", _total(3))
    await _levels(store, (_total(0),), 7)


@_rules.timed_rule("A renewed lease lives on.")
async def _renewal(store: LeaseStore, advance: _Move) -> None:
    await store.reserve("a", (_total(4),), ttl=1.0)
    await advance(0.6)
    yes(await store.renew("a", ttl=1.0), "renew")
    await advance(0.6)
    await _levels(store, (_total(0),), 6)
    await advance(0.6)
    await _levels(store, (_total(0),), 10)


@_rules.timed_rule("A settled lease does not expire.")
async def _settled_stays(store: LeaseStore, advance: _Move) -> None:
    await store.reserve("a", (_total(4),), ttl=1.0)
    await store.settle("a", (4,))
    await advance(1.5)
    await _levels(store, (_total(0),), 6)


@_rules.timed_rule("What has flowed back already is not given back again.")
async def _no_second_burst(store: LeaseStore, advance: _Move) -> None:
    await _granted(store, "old", _rate(4))
    await advance(2.1)
    await _granted(store, "new", _rate(4))
    yes(await store.refund("old"), "refund of the old lease")
    await _levels(store, (_rate(0),), 0)
    yes(await store.refund("new"), "refund of the new lease")
    await _levels(store, (_rate(0),), 4)


@_rules.timed_rule("What has not flowed back yet is given back whole.")
async def _given_back(store: LeaseStore, advance: _Move) -> None:
    await _granted(store, "a", _rate(2))
    await _granted(store, "b", _rate(2))
    await advance(0.6)
    yes(await store.settle("a", (0,)), "settle of the older lease")
    await _levels(store, (_rate(0),), 3)
    yes(await store.refund("b"), "refund of the newer lease")
    await _levels(store, (_rate(0),), 4)


@_rules.timed_rule("The store's clock goes on.")
async def _clock_goes_on(store: LeaseStore, advance: _Move) -> None:
    before = await store.now()
    await advance(0.5)
    passed = await store.now() - before
    yes(0.5 <= passed <= 0.75, f"{passed!r} s have passed, by the store's clock")


@_rules.timed_rule("A total is whole again when nobody has used it for as long as it is kept.")
async def _kept(store: LeaseStore, advance: _Move) -> None:
    short, long = _kept_total("short", 1.0), _kept_total("long", 60.0)
    await _granted(store, "a", short.want(4), long.want(4), _total(4))
    await store.settle("a", (4, 4, 4))
    await advance(0.5)
    await _refused(store, "b", short.want(7), _total(0))
    await advance(0.75)
    await _levels(store, (short,), 6)
    await advance(0.5)
    await _levels(store, (short, long, _total(0)), 10, 6, 6)
    await _granted(store, "c", short.want(10))
    await _levels(store, (short,), 0)


@_rules.timed_rule("A look does not keep a total, and while a lease is out it is kept.")
async def _kept_while_out(store: LeaseStore, advance: _Move) -> None:
    looked, out = _kept_total("looked at", 1.0), _kept_total("out", 1.0)
    await _granted(store, "a", looked.want(4), out.want(4))
    await _granted(store, "b", out.want(1))
    await store.settle("a", (4, 4))
    for _ in range(3):
        await advance(0.5)
        await _levels(store, (out,), 5)
        await store.level(looked)
    await _levels(store, (looked, out), 10, 5)
    yes(await store.settle("b", (1,)), "settle of the lease that was out for longer")
    await _levels(store, (out,), 5)
    await advance(1.25)
    await _levels(store, (out,), 10)


@_rules.timed_rule("Who has used a total last says for how long it is kept.")
async def _kept_as_the_last_says(store: LeaseStore, advance: _Move) -> None:
    lasting, short = _total(4, 10, "both"), _kept_total("both", 1.0)
    await _granted(store, "a", lasting)
    await _granted(store, "b", short.want(1))
    await store.settle("b", (1,))
    await store.settle("a", (4,))
    await advance(1.25)
    await _levels(store, (short,), 5)
    await _granted(store, "c", short.want(0))
    await store.refund("c")
    await advance(1.25)
    await _levels(store, (short,), 10)
