"""What is counted in Redis is what memory would count."""

from __future__ import annotations

import itertools
from typing import Any

import anyio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from redis_peers import Valkey, command

from lamella import Dimension
from lamella._memory_leases import MemoryLeases
from lamella.testing import check_lease_store
from lamella_redis import RedisLeases
from lamella_redis._limits import MOST, MOST_SHARES, limit_of
from lamella_redis._scripts import Decision, Script, script

pytestmark = pytest.mark.anyio

_numbers = itertools.count()
START = 1_700_000_000


class Timed(RedisLeases):
    """The store on a clock that the test moves, which the server keeps as well."""

    def _script(self, decision: Decision) -> Script:
        text = script(decision).source.decode()
        assert text.count("redis.call('TIME')") == 1
        clock = f"redis.call('HMGET', '{self._prefix}clock', 's', 'us')"
        return Script.of(text.replace("redis.call('TIME')", clock))

    async def set_clock(self, microseconds: int) -> None:
        seconds, rest = divmod(microseconds, 1_000_000)
        words = ("HSET", f"{self._prefix}clock", "s", str(seconds), "us", str(rest))
        await command(self, *words)


def fresh(valkey: Valkey, kind: type[RedisLeases] = RedisLeases, **options: Any) -> Any:
    """A store of its own."""
    return kind(valkey.url, namespace=f"test{next(_numbers)}", **options)


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

    await check_lease_store(make, advance)
    for store in stores:
        await store.aclose()


LIMITS = (
    Dimension(("requests",), 0, 5, per=1.0),
    Dimension(("tokens",), 0, 100, per=7.0),
    Dimension(("slots",), 0, 4, held=True),
    Dimension(("money",), 0, 1000),
    Dimension(("images",), 0, 3, per=0.25, held=True),
    Dimension(("money",), 0, 600),
    Dimension(("day",), 0, 20, keep=0.5),
    Dimension(("day",), 0, 30, keep=2.0),
    Dimension(("day",), 0, 10),
)

WANTED = st.lists(
    st.tuples(st.integers(0, len(LIMITS) - 1), st.floats(0, 1.2)), min_size=1, max_size=3
)
STEPS = st.one_of(
    st.tuples(st.just("reserve"), WANTED, st.sampled_from([0.25, 1.0, 3600.0])),
    st.tuples(st.just("settle"), st.integers(0, 20), st.floats(0, 2)),
    st.tuples(st.just("refund"), st.integers(0, 20), st.none()),
    st.tuples(st.just("renew"), st.integers(0, 20), st.sampled_from([0.25, 5.0])),
    st.tuples(st.just("again"), st.integers(0, 20), st.none()),
    # Whole microseconds, and exact as floats: memory rounds its clock down to a nanosecond.
    st.tuples(
        st.just("wait"), st.sampled_from([0.015625, 0.03125, 0.25, 0.5, 1.5, 9.0]), st.none()
    ),
)


def alike(valkey: Valkey, steps: list[tuple[str, Any, Any]]) -> None:
    """Both stores give the same answers to the same questions at the same times."""

    async def run() -> None:
        now = START * 1_000_000
        memory = MemoryLeases(monotonic=lambda: (now - START * 1_000_000) / 1e6, max_buckets=100)
        redis = fresh(valkey, Timed)
        await redis.set_clock(now)
        asked: list[tuple[str, tuple[Dimension, ...]]] = []

        async def both(question: str, *words: Any, **more: Any) -> None:
            here = await getattr(memory, question)(*words, **more)
            there = await getattr(redis, question)(*words, **more)
            if getattr(here, "retry_after", None):  # memory's clock is finer
                assert there.retry_after == pytest.approx(here.retry_after, abs=2e-6)
                assert (here.refused, here.remaining) == (there.refused, there.remaining)
            else:
                assert here == there

        for step, what, how in steps:
            if step == "wait":
                now += round(what * 1_000_000)
                await redis.set_clock(now)
                await both("level", LIMITS[len(asked) % len(LIMITS)])
            elif step == "reserve":
                wanted = tuple(
                    d.want(int(d.capacity * share))
                    for d, share in [(LIMITS[index], share) for index, share in what]
                )
                asked.append((str(len(asked)), wanted))
                await both("reserve", *asked[-1], ttl=how)
            elif asked:
                lease_id, wanted = asked[what % len(asked)]
                if step == "settle":
                    used = [int(each.amount * how) for each in wanted]
                    await both("settle", lease_id, used)
                elif step == "renew":
                    await both("renew", lease_id, ttl=how)
                elif step == "refund":
                    await both("refund", lease_id)
                else:
                    await both("reserve", lease_id, wanted, ttl=1.0)
        for limit in LIMITS:
            await both("level", limit)
        await redis.aclose()

    anyio.run(run)


@pytest.mark.parametrize("anyio_backend", [None])
@settings(max_examples=60, deadline=None, database=None)
@example([("reserve", [(0, 0.2)], 3600.0)] * 3 + [("refund", 1, None), ("refund", 0, None)])
@given(st.lists(STEPS, min_size=20, max_size=60))
def test_it_counts_as_memory_does(
    valkey: Valkey, anyio_backend: None, steps: list[tuple[str, Any, Any]]
) -> None:
    """However leases overlap, expire, overflow and end, both stores say the same."""
    alike(valkey, steps)


async def test_any_process_can_end_a_lease(valkey: Valkey) -> None:
    """A lease is the server's: another store of the same namespace settles it."""
    one = fresh(valkey)
    other = RedisLeases(valkey.tcp, namespace=one.namespace)
    limit = Dimension(("a",), 4, 10)
    assert (await one.reserve("x", [limit], ttl=60.0)).granted
    assert await other.renew("x", ttl=60.0)
    with pytest.raises(ValueError, match="2 amounts for 1 reserved"):
        await other.settle("x", [1, 1])
    assert await other.settle("x", [1])
    assert await one.settle("x", [4])
    assert await one.level(limit) == 9
    await one.aclose()
    await other.aclose()


async def test_a_budget_that_is_raised_keeps_what_was_spent(valkey: Valkey) -> None:
    """What is out of a total is the same for all, also for who thinks that there is more of it."""
    one = fresh(valkey)
    other = RedisLeases(valkey.url, namespace=one.namespace)
    spent = Dimension(("budget",), 90, 100)
    await one.reserve("x", [spent], ttl=60.0)
    assert await one.settle("x", [70])
    raised = Dimension(("budget",), 90, 200, keep=5.0)
    assert (await other.reserve("y", [raised], ttl=60.0)).remaining == (40,)
    assert await one.refund("y")  # by who has not reserved it, and reads what was
    assert (await other.level(raised), await one.level(spent)) == (130, 30)
    await one.aclose()
    await other.aclose()


async def test_a_total_lives_as_long_as_its_dimension_says(valkey: Valkey) -> None:
    """On the server it has a time to live, from its last use on; without a word, the store's."""
    store = fresh(valkey, keep=500.0)
    limits = [Dimension(("day",), 1, 10, keep=60.0), Dimension(("sum",), 1, 10)]
    await store.reserve("a", limits, ttl=1.0)
    await store.settle("a", [1, 1])
    lives = []
    for key in sorted(await command(store, "KEYS", f"{store._prefix}limit:*")):
        lives.append(await command(store, "PTTL", key.decode()))
    assert [50_000 < lives[0] <= 61_000, 490_000 < lives[1] <= 501_000] == [True, True]
    await store.aclose()


async def test_namespaces_are_apart(valkey: Valkey) -> None:
    """Two namespaces of one server count by themselves."""
    one, other = fresh(valkey), fresh(valkey)
    limit = Dimension(("a",), 10, 10)
    assert (await one.reserve("x", [limit], ttl=60.0)).granted
    assert (await other.reserve("x", [limit], ttl=60.0)).granted
    await one.aclose()
    await other.aclose()


async def test_every_key_goes_by_itself(valkey: Valkey) -> None:
    """Idle limits and ended leases vanish: no key is without a time to live."""
    store = fresh(valkey, remember=1.0)
    dimensions = [Dimension(("rate", "ü" * 300), 3, 10, per=60.0), Dimension(("sum",), 3, 10)]
    for lease_id in ("a", "b", "c"):
        await store.reserve(lease_id, dimensions, ttl=30.0)
    await store.settle("a", [1, 1])
    await store.refund("b")
    keys = await command(store, "KEYS", f"{store._prefix}*")
    lives = {key: await command(store, "PTTL", key.decode()) for key in keys}
    assert len(lives) == 7  # three leases; hash and order of the rate; the same of the total
    assert all(0 < life <= 30 * 86400_000 + 2000 for life in lives.values())
    assert all(key.startswith(store._prefix.encode()) for key in lives)
    await store.refund("c")
    await command(store, "DEL", *[k.decode() for k in lives if b":lease:" in k])
    await store.settle("a", [0, 0])
    await store.aclose()


async def test_a_full_limit_leaves_nothing(valkey: Valkey) -> None:
    """What is as if it had never been used takes no memory on the server."""
    store = fresh(valkey)
    dimensions = [Dimension(("rate",), 3, 10, per=60.0), Dimension(("sum",), 3, 10)]
    await store.reserve("a", dimensions, ttl=30.0)
    await store.refund("a")
    assert await command(store, "KEYS", f"{store._prefix}limit*") == []
    assert await command(store, "KEYS", f"{store._prefix}order*") == []
    await store.aclose()


async def test_half_of_a_limit_is_none(valkey: Valkey) -> None:
    """Whichever key a server short of memory evicts: the limit is full, and nothing is lost."""
    for half in ("limit", "order"):
        store = fresh(valkey)
        slot, rate = Dimension(("slot",), 1, 1, held=True), Dimension(("rate",), 4, 9, per=60.0)
        await store.reserve("dead", [slot, rate], ttl=30.0)
        for key in await command(store, "KEYS", f"{store._prefix}{half}:*"):
            await command(store, "DEL", key.decode())
        assert [await store.level(each) for each in (slot, rate)] == [1, 9]
        assert (await store.reserve("next", [slot, rate], ttl=30.0)).granted
        assert await store.settle("dead", [1, 4])
        assert [await store.level(each) for each in (slot, rate)] == [0, 1]
        await store.aclose()


async def test_a_span_is_its_value(valkey: Valkey) -> None:
    """Whole seconds are the same limit as a number with a point, in every process."""
    one, limit = fresh(valkey), Dimension(("rate",), 10, 10, per=60)
    other = RedisLeases(valkey.url, namespace=one.namespace)
    await one.reserve("a", [limit], ttl=60.0)
    limit_of.cache_clear()
    again = Dimension(("rate",), 10, 10, per=60.0)
    assert not (await other.reserve("b", [again], ttl=60.0)).granted
    await one.aclose()
    await other.aclose()


async def test_a_clock_that_is_set_back_stops_for_a_second_at_most(valkey: Valkey) -> None:
    """A small step back stands still; a large one is followed, as nothing would flow for long."""
    store = fresh(valkey, Timed)
    limit = Dimension(("rate",), 10, 10, per=10.0)
    await store.set_clock(2_000_000_000)
    await store.reserve("a", [limit], ttl=9.0e5)
    await store.set_clock(1_999_500_000)
    assert await store.level(limit) == 0
    await store.set_clock(1_001_000_000)
    assert await store.level(limit) == 0
    await store.set_clock(1_003_000_000)
    assert await store.level(limit) == 2
    await store.aclose()


class TestBounds:
    @pytest.mark.parametrize(
        ("capacity", "per", "tick"),
        [
            (1000, 60.0, 1),
            (10**9, 86400.0, 1),
            (999_999_937, 86400.0, 100_000),
            (1, 365 * 86400.0, 1),
            (10**12, 3600.0, 1),
            (7, 0.333, 1),
        ],
    )
    def test_limits_are_whole_shares(self, capacity: int, per: float, tick: int) -> None:
        """A bucket is exact in doubles, and what flows back in `per` is the capacity or less."""
        words = limit_of("x", ("a",), capacity, per).words
        unit, flow, span = int(words[1]), int(words[2]), int(words[3])
        assert span == tick
        assert capacity * unit <= MOST_SHARES
        assert flow * per * 1_000_000 / span <= capacity * unit * (1 + 1e-12)

    async def test_what_cannot_be_exact_is_refused(self, valkey: Valkey) -> None:
        """Beyond the bounds there is an error that says what to do, not a wrong count."""
        store = fresh(valkey)
        for limit, words in (
            (Dimension(("acme", "a"), 1, 10**13 + 37, per=86400.0), "Give a rounder capacity"),
            (Dimension(("a",), 1, MOST + 1), "count in larger units"),
            (Dimension(("a",), MOST + 1, MOST), "amounts"),
        ):
            with pytest.raises(ValueError, match=words) as caught:
                await store.reserve("x", [limit], ttl=1.0)
            assert "acme" not in str(caught.value)  # whose limit it is
        await store.aclose()

    async def test_large_numbers_are_exact(self, valkey: Valkey) -> None:
        """Debts and levels near the bounds are counted to the last unit."""
        store = fresh(valkey, Timed)
        rate = Dimension(("rate",), 10**12, 10**12, per=3600.0)
        await store.set_clock(START * 1_000_000)
        await store.reserve("a", [rate], ttl=60.0)
        await store.settle("a", [10**12 + 1])
        assert await store.level(rate) == -1
        await store.set_clock(START * 1_000_000 + 1)
        assert await store.level(rate) == 276
        total = Dimension(("total",), MOST, MOST)
        await store.reserve("b", [total], ttl=60.0)
        await store.settle("b", [MOST - 1])
        assert await store.level(total) == 1
        await store.reserve("c", [total.want(0)], ttl=60.0)
        await store.settle("c", [MOST])  # more is out of it than is counted
        assert await store.level(total) == 0
        assert await store.level(Dimension(("total",), 0, 7)) == 7 - MOST
        await store.aclose()
