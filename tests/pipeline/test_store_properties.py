"""Any sequence of lease operations counts as a plain replay of its history does, exactly.

The model keeps a list of what was taken when, as it turned out to be: a refunded or expired lease
is crossed out, a settled one lowered to what was used, debt is taken when it is told. A level is
that history replayed from a full bucket in fractions. It shares nothing with the store but the
rules.
"""

from __future__ import annotations

import math
from collections.abc import Coroutine, Iterable
from fractions import Fraction
from typing import Any, TypeVar

import attrs
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from lamella._memory_buckets import Bucket
from lamella._memory_leases import Hold, MemoryLeases
from lamella._stores import Dimension, Lease

T = TypeVar("T")

TICK = (
    1 / 512
)  # exact in binary and a whole number of nanoseconds, so that the model sees no rounding


def now(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of an operation, which never suspends: no loop is needed."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("the operation suspended")


@attrs.define
class Taken:
    """What was taken of a dimension, and what came of it."""

    at: Fraction
    amount: int
    lease: str | None  # None: debt


@attrs.define
class Out:
    """A lease that is out."""

    dimensions: tuple[Dimension, ...]
    amounts: tuple[int, ...]
    entries: tuple[Taken, ...]
    expires: Fraction
    answer: Lease


def flow(dimension: Dimension) -> Fraction:
    """What flows back in a second."""
    return dimension.capacity / Fraction(dimension.per) if dimension.per else Fraction(0)


def replay(dimension: Dimension, history: Iterable[Taken], until: Fraction) -> Fraction:
    """The level that the history leads to."""
    level, at = Fraction(dimension.capacity), Fraction(0)
    rate = flow(dimension)
    for taken in history:
        level = min(Fraction(dimension.capacity), level + rate * (taken.at - at))
        level, at = level - taken.amount, taken.at
    return min(Fraction(dimension.capacity), level + rate * (until - at))


def gaps_add_up(bucket: Bucket) -> bool:
    """Whether the gaps that a rate's bucket knows of are what it lacks."""
    return bucket.missing == bucket._full - bucket._shares


LIMITS = (
    Dimension(("requests",), 0, 5, per=1.0),
    Dimension(("tokens",), 0, 100, per=7.0),
    Dimension(("slots",), 0, 4, held=True),
    Dimension(("money",), 0, 1000),
    Dimension(("images",), 0, 3, per=0.25, held=True),
    Dimension(("money",), 0, 600),
    Dimension(("day",), 0, 20, keep=0.5),
    Dimension(("day",), 0, 30, keep=0.25),
)


SPANS = st.sampled_from([1, 37, 64, 128, 192, 256, 512, 4096])
"""Ticks to let pass and to live, from a few, so that they often end at the same instant."""

WANTED = st.sampled_from(LIMITS).flatmap(
    lambda each: st.builds(
        attrs.evolve,
        st.just(each),
        amount=st.one_of(
            st.sampled_from([0, 1, each.capacity // 2, each.capacity, each.capacity + 1]),
            st.integers(0, each.capacity),
        ),
    )
)


class Alive:
    """An event loop that goes on."""

    closed = False


LOOP: Any = Alive()


def _key_of(dimension: Dimension) -> tuple[str, ...]:
    return dimension.key


class LeaseMachine(RuleBasedStateMachine):
    """Random operations on the store and on the model, which must agree after each."""

    ids: Bundle[str] = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 64.0
        self.store = MemoryLeases(monotonic=lambda: self.seconds, max_buckets=100)
        self.histories: dict[tuple[str, ...], list[Taken]] = {each.key: [] for each in LIMITS}
        self.kept_until: dict[tuple[str, ...], Fraction] = {}
        self.out: dict[str, Out] = {}
        self.holds: dict[str, Hold] = {}
        self.ended: dict[str, tuple[bool, Out]] = {}
        self.count = 0
        self.totals = {"reserved": 0, "settled": 0, "returned": 0, "refunded": 0, "expired": 0}

    @property
    def time(self) -> Fraction:
        return Fraction(self.seconds) - 64

    def level(self, dimension: Dimension) -> Fraction:
        key = dimension.key
        is_out = any(key == each.key for out in self.out.values() for each in out.dimensions)
        if not is_out and self.time >= self.kept_until.get(key, math.inf):
            self.histories[key].clear()
        return replay(dimension, self.histories[dimension.key], self.time)

    @initialize(target=ids)
    def unknown(self) -> str:
        return "unknown"

    @rule(ticks=SPANS)
    def advance(self, ticks: int) -> None:
        self.seconds += ticks * TICK
        for lease_id, out in list(self.out.items()):
            if out.expires <= self.time:
                self.totals["expired"] += sum(out.amounts)
                for taken in out.entries:
                    taken.amount = 0
                del self.out[lease_id]

    @rule(target=ids, wanted=st.lists(WANTED, max_size=3), ttl=SPANS)
    def reserve(self, wanted: list[Dimension], ttl: int) -> str:
        self.count += 1
        lease_id = str(self.count)
        dimensions = tuple(wanted)
        lease = now(self.store.reserve(lease_id, dimensions, ttl=ttl * TICK))
        needs: dict[tuple[str, ...], int] = {}
        fits = True
        for each in dimensions:
            needs[each.key] = needs.get(each.key, 0) + each.amount
            fits = fits and (not each.amount or needs[each.key] <= self.level(each))
        assert lease.granted == fits
        self.used(dimensions)
        if fits:
            self.grant(lease_id, dimensions, lease, self.time + Fraction(ttl * TICK))
        else:
            self.check_refusal(dimensions, lease)
        assert lease.remaining == tuple(math.floor(self.level(each)) for each in dimensions)
        return lease_id

    def used(self, dimensions: tuple[Dimension, ...]) -> None:
        """What does not flow back is known for so long from now on."""
        for each in dimensions:
            if each.keep is not None:
                self.kept_until[each.key] = self.time + Fraction(each.keep)

    def grant(
        self, lease_id: str, dimensions: tuple[Dimension, ...], lease: Lease, expires: Fraction
    ) -> None:
        entries = tuple(Taken(self.time, each.amount, lease_id) for each in dimensions)
        for each, taken in zip(dimensions, entries, strict=True):
            self.histories[each.key].append(taken)
        amounts = tuple(each.amount for each in dimensions)
        self.totals["reserved"] += sum(amounts)
        self.out[lease_id] = Out(dimensions, amounts, entries, expires, lease)

    def check_refusal(self, dimensions: tuple[Dimension, ...], lease: Lease) -> None:
        assert lease.refused in dimensions
        waits: list[Fraction] = []
        needs: dict[tuple[str, ...], int] = {}
        for each in dimensions:
            needs[each.key] = needs.get(each.key, 0) + each.amount
            lacking = needs[each.key] - self.level(each)
            if lacking > 0 and each.amount:
                if not each.per or needs[each.key] > each.capacity:
                    assert lease.retry_after is None
                    return
                waits.append(lacking * Fraction(each.per) / each.capacity)
        assert lease.retry_after is not None
        # Rounded up to the next nanosecond, and the last digit of the clock.
        assert max(waits) <= Fraction(lease.retry_after) < max(waits) + Fraction(2, 10**9)

    @rule(wanted=st.lists(WANTED, min_size=1, max_size=3, unique_by=_key_of))
    def hold(self, wanted: list[Dimension]) -> None:
        """Without an id and without a time to live it is the same reservation."""
        dimensions = tuple(wanted)
        found = self.store.hold(dimensions, LOOP)
        fits = all(not each.amount or each.amount <= self.level(each) for each in dimensions)
        assert isinstance(found, Hold) == fits
        self.used(dimensions)
        if isinstance(found, Hold):
            self.count += 1
            name = f"hold {self.count}"
            self.grant(name, dimensions, Lease(granted=True), Fraction(10**9))
            self.holds[name] = found
        else:
            self.check_refusal(dimensions, found)
        assert found.remaining == tuple(math.floor(self.level(each)) for each in dimensions)

    @rule(
        which=st.integers(0, 9),
        shares=st.lists(st.floats(0, 1.5), min_size=4, max_size=4),
        how=st.sampled_from(["settle", "settle all", "refund", "drop"]),
    )
    def end_hold(self, which: int, shares: list[float], how: str) -> None:
        """It ends as a lease does, and once."""
        if not self.holds:
            return
        name = list(self.holds)[which % len(self.holds)]
        hold, out = self.holds.pop(name), self.out.pop(name)
        self.used(out.dimensions)
        if how == "drop":
            self.store.drop(hold)
        if how in {"drop", "refund"}:
            self.store.end(hold, None)
            self.totals["refunded"] += sum(out.amounts)
            for taken in out.entries:
                taken.amount = 0
            return
        whole = how == "settle all"
        used = [
            amount if whole else int(amount * share)
            for amount, share in zip(out.amounts, shares, strict=False)
        ]
        self.store.end(hold, used)
        self.store.end(hold, used)
        self.settled(out, used)

    @rule(lease_id=ids)
    def reserve_again(self, lease_id: str) -> None:
        known = self.out.get(lease_id) or self.ended.get(lease_id, (False, None))[1]
        if known is not None:
            again = now(self.store.reserve(lease_id, known.dimensions, ttl=1.0))
            assert again == known.answer

    @rule(lease_id=ids, shares=st.lists(st.floats(0, 1.5), min_size=4, max_size=4))
    def settle(self, lease_id: str, shares: list[float]) -> None:
        out = self.out.pop(lease_id, None)
        if out is None:
            settled, known = self.ended.get(lease_id, (False, None))
            amounts = [1] * len(known.dimensions) if known else []
            assert now(self.store.settle(lease_id, amounts)) == settled
            return
        used = [int(each * share) for each, share in zip(out.amounts, shares, strict=False)]
        assert now(self.store.settle(lease_id, used))
        self.used(out.dimensions)
        self.settled(out, used)
        self.ended[lease_id] = (True, out)

    def settled(self, out: Out, used: list[int]) -> None:
        for dimension, taken, real in zip(out.dimensions, out.entries, used, strict=True):
            kept = 0 if dimension.held else min(real, taken.amount)
            self.totals["settled"] += kept
            self.totals["returned"] += taken.amount - kept
            if not dimension.held and real > taken.amount:
                debt = Taken(self.time, real - taken.amount, None)
                self.histories[dimension.key].append(debt)
            taken.amount = kept

    @rule(lease_id=ids)
    def refund(self, lease_id: str) -> None:
        out = self.out.pop(lease_id, None)
        if out is None:
            known = lease_id in self.ended and not self.ended[lease_id][0]
            assert now(self.store.refund(lease_id)) == known
            return
        assert now(self.store.refund(lease_id))
        self.used(out.dimensions)
        self.totals["refunded"] += sum(out.amounts)
        for taken in out.entries:
            taken.amount = 0
        self.ended[lease_id] = (False, out)

    @rule(lease_id=ids, ttl=SPANS)
    def renew(self, lease_id: str, ttl: int) -> None:
        out = self.out.get(lease_id)
        assert now(self.store.renew(lease_id, ttl=ttl * TICK)) == (out is not None)
        if out is not None:
            out.expires = self.time + Fraction(ttl * TICK)

    @invariant()
    def levels_agree(self) -> None:
        """Every level is what the history says, and never above the capacity."""
        for each in LIMITS:
            level = now(self.store.level(each))
            assert level == math.floor(self.level(each))
            assert level <= each.capacity

    @invariant()
    def nothing_is_lost(self) -> None:
        """What was reserved was settled, returned, refunded, has expired, or is out."""
        totals = self.totals
        ended = totals["settled"] + totals["returned"] + totals["refunded"] + totals["expired"]
        out = sum(sum(each.amounts) for each in self.out.values())
        assert totals["reserved"] == ended + out

    @invariant()
    def gaps_are_what_is_missing(self) -> None:
        """What a rate's bucket knows of its gaps adds up to what it lacks."""
        assert all(gaps_add_up(bucket) for bucket in self.store._buckets.values())

    def teardown(self) -> None:
        """In every window no more was let through than the capacity and what flowed back."""
        for dimension in LIMITS:
            rate = flow(dimension)
            leases = [taken for taken in self.histories[dimension.key] if taken.lease]
            for first in range(len(leases)):
                total = 0
                for taken in leases[first:]:
                    total += taken.amount
                    most = max(each.capacity for each in LIMITS if each.key == dimension.key)
                    assert total <= most + rate * (taken.at - leases[first].at)


LeaseMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, database=None
)
TestLeases = LeaseMachine.TestCase
"""The store agrees with the replay under random operations."""


@settings(max_examples=500, deadline=None, database=None)
@example([("reserve", 0, 1)] * 3 + [("refund", 1, 0), ("refund", 0, 0)])
@example([("reserve", 0, 7), ("wait", 7, 0), ("wait", 7, 0), ("reserve", 0, 6), ("refund", 0, 0)])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["reserve", "reserve", "refund", "settle", "wait", "wait"]),
            st.integers(0, 7),
            st.integers(0, 6),
        ),
        max_size=40,
    )
)
def test_what_is_given_back_is_as_if_it_had_never_been(steps: list[tuple[str, int, int]]) -> None:
    """However leases of one rate overlap, overflow and end, the level is the replay's."""
    seconds = 64.0
    store = MemoryLeases(monotonic=lambda: seconds, max_buckets=10)
    dimension = Dimension(("x",), 0, 7, per=1.0)
    history: list[Taken] = []
    out: list[tuple[str, Taken]] = []
    for number, (step, which, amount) in enumerate(steps):
        if step == "wait":
            seconds += which * 37 * TICK
        elif step == "reserve":
            wanted = attrs.evolve(dimension, amount=amount)
            if now(store.reserve(str(number), [wanted], ttl=3600)).granted:
                taken = Taken(Fraction(seconds) - 64, amount, str(number))
                history.append(taken)
                out.append((str(number), taken))
        elif out:
            lease_id, taken = out.pop(which % len(out))
            used = 0 if step == "refund" else amount
            assert now(
                store.refund(lease_id) if step == "refund" else store.settle(lease_id, [used])
            )
            if used > taken.amount:
                history.append(Taken(Fraction(seconds) - 64, used - taken.amount, None))
            taken.amount = min(used, taken.amount)
        assert all(gaps_add_up(bucket) for bucket in store._buckets.values())
        level = replay(dimension, history, Fraction(seconds) - 64)
        assert now(store.level(dimension)) == math.floor(level)


@pytest.mark.parametrize("per", [0.0, 1.0])
def test_what_is_held_comes_back_whatever_was_used(per: float) -> None:
    """Also where as much was used as was taken, and of a rate too."""
    store = MemoryLeases(monotonic=lambda: 64.0, max_buckets=10)
    places = Dimension(("x",), 2, 3, per=per, held=True)
    hold = store.hold((places,), LOOP)
    assert isinstance(hold, Hold)
    store.end(hold, (2,))
    assert now(store.level(places)) == 3


@settings(max_examples=500, deadline=None, database=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["hold", "end", "wait"]), st.integers(0, 7), st.integers(-3, 6)),
        max_size=30,
    )
)
def test_nobody_has_to_look_in_between(steps: list[tuple[str, int, int]]) -> None:
    """A hold that used what it took is ended without a look at the clock; it comes to the same."""
    seconds = 64.0
    store = MemoryLeases(monotonic=lambda: seconds, max_buckets=10)
    rate = Dimension(("x",), 0, 7, per=1.0)
    history: list[Taken] = []
    out: list[tuple[Hold, Taken]] = []
    for step, which, amount in steps:
        if step == "wait":
            seconds += which * 37 * TICK
        elif step == "hold":
            hold = store.hold((rate.want(max(0, amount)),), LOOP)
            if isinstance(hold, Hold):
                taken = Taken(Fraction(seconds) - 64, max(0, amount), "hold")
                history.append(taken)
                out.append((hold, taken))
        elif out:
            hold, taken = out.pop(which % len(out))
            used = taken.amount if amount < 0 else amount
            store.end(hold, (used,))
            if used > taken.amount:
                history.append(Taken(Fraction(seconds) - 64, used - taken.amount, None))
            taken.amount = min(used, taken.amount)
        assert all(gaps_add_up(bucket) for bucket in store._buckets.values())
    assert now(store.level(rate)) == math.floor(replay(rate, history, Fraction(seconds) - 64))


@settings(max_examples=150, deadline=None, database=None)
@given(
    start=st.floats(0, 1e9),
    steps=st.lists(st.floats(0, 20), min_size=1, max_size=25),
    per=st.floats(0.001, 1e5),
    capacity=st.integers(1, 10**12),
    share=st.floats(0.01, 1),
)
def test_rounding_lets_nothing_through(
    start: float, steps: list[float], per: float, capacity: int, share: float
) -> None:
    """On any clock, no window lets through more than is due to it and one nanosecond more."""
    seconds = start
    store = MemoryLeases(monotonic=lambda: seconds, max_buckets=10)
    dimension = Dimension(("x",), max(1, int(capacity * share)), capacity, per=per)
    granted: list[Fraction] = []
    for number, step in enumerate(steps):
        seconds += step
        if now(store.reserve(str(number), [dimension], ttl=1e9)).granted:
            granted.append(Fraction(seconds))
    for first in range(len(granted)):
        for last in range(first, len(granted)):
            window = granted[last] - granted[first] + Fraction(1, 10**9)
            due = capacity + window * capacity / Fraction(per)
            assert (last - first + 1) * dimension.amount <= due


@settings(max_examples=200, deadline=None, database=None)
@given(
    start=st.floats(0, 1e9),
    per=st.floats(0.001, 1e5),
    capacity=st.integers(1, 10**12),
    used=st.floats(0, 3),
    share=st.floats(0, 1),
)
def test_after_retry_after_it_succeeds(
    start: float, per: float, capacity: int, used: float, share: float
) -> None:
    """A clock that has moved by `retry_after`, however coarse it is, finds the amount there."""
    seconds = start
    store = MemoryLeases(monotonic=lambda: seconds, max_buckets=10)
    dimension = Dimension(("x",), capacity, capacity, per=per)
    now(store.reserve("a", [dimension], ttl=1e9))
    now(store.settle("a", [int(capacity * used)]))
    wanted = attrs.evolve(dimension, amount=max(1, int(capacity * share)))
    refused = now(store.reserve("b", [wanted], ttl=1e9))
    assume(not refused.granted)
    assert refused.retry_after is not None
    missing = wanted.amount - (capacity - int(capacity * used))
    exact = Fraction(missing) * Fraction(per) / capacity
    nanosecond = Fraction(1, 10**9)
    # `per` is rounded up to whole nanoseconds, the clock down, and the answer up again.
    slack = nanosecond * Fraction(missing, capacity) + 2 * nanosecond
    slack += 3 * Fraction(math.ulp(start + refused.retry_after))
    assert abs(Fraction(refused.retry_after) - exact) <= slack
    seconds = start + refused.retry_after
    assert now(store.reserve("b", [wanted], ttl=1e9)).granted
