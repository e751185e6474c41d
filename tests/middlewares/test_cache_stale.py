"""Cache: how long answers are fresh, and what stale ones are still good for."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import anyio
import attrs
import pytest
from caches import ANSWER, ASK, by, called, names, notes, saying, stack, streamed
from hypothesis import given
from hypothesis import strategies as st

from lamella import (
    AuthenticationError,
    BudgetExceededError,
    CacheMissError,
    CircuitOpenError,
    ConnectError,
    ContextLengthError,
    DeadlineExceeded,
    Finish,
    InvalidRequestError,
    LamellaError,
    Lease,
    Money,
    Outcome,
    Pipeline,
    QuotaError,
    RateLimitError,
    Request,
    ServerError,
    TargetsFailedError,
    UnsupportedError,
)
from lamella.testing import Scripted, run_virtual, virtual_ports
from lamella_middlewares.cache import Cache, CacheControl, Keep, Stale
from lamella_middlewares.cost import Cost
from lamella_middlewares.deadline import Deadline

pytestmark = pytest.mark.anyio

DOWN = ServerError("down", status=503, retryable=True)
SWR = Stale(while_revalidate=100)


def stale(script: list[Any], **options: Any) -> tuple[Pipeline, Scripted, Cache]:
    """A pipeline whose answers are fresh for 10 seconds."""
    more = options.pop("more", {})
    cache = Cache(options.pop("ttl", 10), jitter=options.pop("jitter", 0), **options)
    pipeline, transport = stack(*script, cache=cache, **more)
    return pipeline, transport, cache


# --- fresh -------------------------------------------------------------------------------------


async def test_an_answer_is_fresh_for_its_time() -> None:
    """Then it is asked for again."""
    pipeline, transport, _ = stale(["one", "two"])
    await pipeline.run(ASK)
    await anyio.sleep(9.9)
    hit = await pipeline.run(ASK)
    assert (hit.text, notes(hit, "hit")[0]["age"]) == ("one", 9.9)
    await anyio.sleep(0.2)
    assert (await pipeline.run(ASK)).text == "two"
    assert len(transport.requests) == 2


async def test_without_an_end_it_is_fresh_for_ever() -> None:
    """With `ttl=None`."""
    pipeline, _transport, _ = stale(["one"], ttl=None)
    await pipeline.run(ASK)
    await anyio.sleep(10**8)
    assert (await pipeline.run(ASK)).head.cached


async def test_a_request_has_its_own_time() -> None:
    """Longer or shorter than the layer's, for who says the same."""
    pipeline, _transport, _ = stale(["one", "two", "three"])
    longer = saying(CacheControl(ttl=1_000))
    await pipeline.run(longer)
    await anyio.sleep(500)
    assert (await pipeline.run(longer)).text == "one"
    assert (await pipeline.run(ASK)).text == "two"
    shorter = saying(CacheControl(ttl=1))
    await anyio.sleep(2)
    assert (await pipeline.run(shorter)).text == "three"


async def test_a_shorter_time_holds_for_what_is_there() -> None:
    """An option that was lowered does not wait for the old answers to end."""
    ports = virtual_ports()
    old, _, _ = stale(["one"], ttl=1_000, more={"ports": ports})
    new, _transport, _ = stale(["two"], ttl=5, more={"ports": ports})
    await old.run(ASK)
    await anyio.sleep(6)
    assert (await new.run(ASK)).text == "two"


async def test_a_request_can_want_a_younger_answer() -> None:
    """`max_age` holds even where an older one is fresh, or may be given stale."""
    pipeline, _transport, _ = stale(["one", "two", "three", "four"], stale=Stale(100, 100))
    await pipeline.run(ASK)
    await anyio.sleep(5)
    assert (await pipeline.run(saying(CacheControl(max_age=6)))).text == "one"
    assert (await pipeline.run(saying(CacheControl(max_age=4)))).text == "two"
    assert (await pipeline.run(saying(CacheControl(max_age=0)))).text == "three"
    await anyio.sleep(15)
    missed = await pipeline.run(saying(CacheControl(max_age=12)))
    assert (missed.text, notes(missed, "miss")[0]["why"]) == ("four", "too old")


async def test_what_was_kept_together_does_not_end_together() -> None:
    """The times are spread by `jitter`, evenly to both sides."""
    pipeline, _transport, _ = stale([ANSWER], ttl=100, jitter=0.2)
    asked = [ASK.evolve(seed=seed) for seed in range(200)]
    for request in asked:
        await pipeline.run(request)
    fresh_for = []
    for at in range(75, 125, 5):
        await anyio.sleep(at - anyio.current_time())
        control = CacheControl("only_if_cached")
        left = 0
        for request in asked:
            try:
                left += (await pipeline.run(saying(control, request))).head.cached
            except CacheMissError:
                continue
        fresh_for.append(left)
    assert fresh_for == sorted(fresh_for, reverse=True)
    assert (fresh_for[0], fresh_for[-1]) == (200, 0)
    assert 60 <= fresh_for[5] <= 140  # at the middle


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(
    ttl=st.floats(0.1, 1e6),
    jitter=st.floats(0, 0.9),
    share=st.floats(0, 3),
    seed=st.integers(0, 99),
)
def test_no_answer_is_given_after_its_time(
    backend: str, ttl: float, jitter: float, share: float, seed: int
) -> None:
    """Fresh before the shortest, and never after the longest time."""

    async def run() -> bool:
        cache = Cache(ttl, jitter=jitter)
        pipeline, _ = stack(cache=cache, ports=virtual_ports(seed))
        await pipeline.run(ASK)
        await anyio.sleep(ttl * share)
        return bool((await pipeline.run(ASK)).head.cached)

    cached = run_virtual(run, backend=backend)
    if share < (1 - jitter) * 0.999:
        assert cached
    if share > (1 + jitter) * 1.001:
        assert not cached


# --- while a new one is asked for --------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stale_answer_is_given_at_once(stream: bool) -> None:
    """And a new one is asked for behind it, in a call of its own, which is not the caller's."""
    pipeline, transport, _ = stale([ANSWER, "new"], stale=SWR, more={"delay": 1})
    await pipeline.run(ASK)
    await anyio.sleep(20)
    before = anyio.current_time()
    response = await called(pipeline, stream)
    assert (response.text, anyio.current_time() - before) == ("It is up.", 0)
    assert (response.cost, response.trace.attempts) == (Money(0), ())
    assert names(response) == ["refresh", "hit"]
    assert notes(response, "hit")[0]["stale"]
    await anyio.sleep(5)
    context = transport.requests[1].context
    assert notes(response, "refresh") == [{"call_id": context.call_id}]
    assert context.parent_id == response.context.call_id
    assert (context.trace.outcome, context.deadline is not None) == (Outcome.COMPLETE, True)
    fresh = await called(pipeline, stream)
    assert (fresh.text, notes(fresh, "hit")[0]["stale"]) == ("new", False)
    assert pipeline.background.names == ()


async def test_a_herd_makes_one_refresh() -> None:
    """However many are given the old answer meanwhile, on however many pipelines."""
    ports = virtual_ports()
    made = [stale([ANSWER], stale=SWR, more={"ports": ports, "delay": 5}) for _ in range(2)]
    await made[0][0].run(ASK)
    await anyio.sleep(20)
    async with anyio.create_task_group() as group:
        for number in range(500):
            group.start_soon(made[number % 2][0].run, ASK)
    await anyio.sleep(10)
    assert sum(len(transport.requests) for _, transport, _ in made) == 2


async def test_processes_refresh_once_together() -> None:
    """The lease store says who; what another one has just made is not made again."""
    one, other = virtual_ports(1), virtual_ports(2)
    other = attrs.evolve(
        other,
        stores=attrs.evolve(other.stores, blobs=one.stores.blobs, leases=one.stores.leases),
    )
    first, transport, _ = stale([ANSWER], stale=SWR, more={"ports": one, "delay": 5})
    second, _, _ = stale([ANSWER], stale=SWR, more={"ports": other, "delay": 5})
    second.transport.requests.clear()
    await first.run(ASK)
    await anyio.sleep(20)
    for pipeline in (first, second, first, second):
        assert notes(await pipeline.run(ASK), "hit")[0]["stale"]
        await anyio.sleep(1)
    await anyio.sleep(10)
    assert (len(transport.requests), len(second.transport.requests)) == (2, 0)


class NoLeases:
    """A lease store that is out."""

    async def reserve(self, *args: Any, **options: Any) -> Lease:
        """See `LeaseStore`."""
        raise OSError("gone")

    async def refund(self, lease_id: str) -> bool:
        """See `LeaseStore`."""
        raise OSError("gone")


async def test_without_the_lease_store_each_process_refreshes() -> None:
    """A store that is out keeps nobody from it."""
    ports = virtual_ports()
    leases: Any = NoLeases()
    ports = attrs.evolve(ports, stores=attrs.evolve(ports.stores, leases=leases))
    pipeline, _transport, _ = stale([ANSWER, "new"], stale=SWR, more={"ports": ports})
    await pipeline.run(ASK)
    await anyio.sleep(20)
    await pipeline.run(ASK)
    await anyio.sleep(1)
    assert (await pipeline.run(ASK)).text == "new"


async def test_a_refresh_that_fails_hurts_nobody() -> None:
    """The old answer is given on, and nobody tries again for a while."""
    pipeline, transport, _ = stale([ANSWER, DOWN, "new"], stale=SWR)
    await pipeline.run(ASK)
    await anyio.sleep(20)
    for _ in range(4):
        assert (await pipeline.run(ASK)).text == "It is up."
        await anyio.sleep(1)
    assert len(transport.requests) == 2
    assert transport.requests[1].context.trace.outcome is Outcome.FAILED
    await anyio.sleep(5)
    await pipeline.run(ASK)
    await anyio.sleep(1)
    assert (await pipeline.run(ASK)).text == "new"


async def test_a_refresh_of_which_nothing_is_kept_is_not_repeated_at_once() -> None:
    """Each call would otherwise pay for one more behind its caller's back."""
    pipeline, transport, cache = stale([ANSWER, *[["cut", Finish("length")]] * 9], stale=SWR)
    await pipeline.run(ASK)
    await anyio.sleep(20)
    for _ in range(11):
        assert (await pipeline.run(ASK)).text == "It is up."
        await anyio.sleep(1)
    assert len(transport.requests) == 1 + 3
    stats = await cache.stats(pipeline)
    assert (stats.missed, stats.not_stored) == ({"absent": 1}, {"length": 3})


async def test_a_refresh_that_another_process_makes_is_asked_for_seldom() -> None:
    """Not by every call that is given the old answer meanwhile."""
    ports, asked = virtual_ports(), []

    class Taken(NoLeases):
        async def reserve(self, lease_id: str, places: Any, **options: Any) -> Lease:
            asked.append(places)
            return Lease(granted=False)

    leases: Any = Taken()
    ports = attrs.evolve(ports, stores=attrs.evolve(ports.stores, leases=leases))
    pipeline, transport, _ = stale([ANSWER], stale=SWR, more={"ports": ports})
    await pipeline.run(ASK)
    await anyio.sleep(20)
    for _ in range(100):
        await pipeline.run(ASK)
        await anyio.sleep(0.1)
    assert (len(transport.requests), len(asked)) == (1, 2)


async def test_a_refresh_ends_by_its_own_deadline() -> None:
    """And then another one may begin."""
    pipeline, transport, _ = stale(
        [ANSWER, ["no", 10**6, Finish("stop")], "new"],
        stale=Stale(while_revalidate=1000, refresh_timeout=30),
    )
    await pipeline.run(ASK)
    await anyio.sleep(20)
    await pipeline.run(ASK)
    await anyio.sleep(29)
    await pipeline.run(ASK)
    assert len(transport.requests) == 2
    await anyio.sleep(10)
    assert pipeline.background.names == ()
    assert transport.open_sources == 0
    await pipeline.run(ASK)
    await anyio.sleep(1)
    assert (await pipeline.run(ASK)).text == "new"


async def test_closing_ends_a_refresh() -> None:
    """With its sources; nobody is told."""
    pipeline, transport, _ = stale([ANSWER, ["no", 10**6, Finish("stop")]], stale=SWR)
    await pipeline.run(ASK)
    await anyio.sleep(20)
    await pipeline.run(ASK)
    await anyio.sleep(1)
    assert list(pipeline.background.names) == ["cache refresh"]
    await pipeline.aclose()
    assert list(pipeline.background.names) == []
    assert transport.open_sources == 0
    assert transport.requests[1].context.trace.finished


async def test_some_requests_start_no_refresh() -> None:
    """Those that ask nobody, and those that keep nothing."""
    pipeline, transport, _ = stale([ANSWER], stale=SWR)
    await pipeline.run(ASK)
    await anyio.sleep(20)
    for said in ("only_if_cached", "no_store"):
        assert notes(await pipeline.run(saying(said)), "hit")[0]["stale"]
    await anyio.sleep(1)
    assert len(transport.requests) == 1


async def test_beyond_the_window_it_is_a_miss() -> None:
    """The answer is gone then."""
    pipeline, _transport, _ = stale(["one", "two"], stale=Stale(while_revalidate=5))
    await pipeline.run(ASK)
    await anyio.sleep(16)
    response = await pipeline.run(ASK)
    assert (response.text, notes(response, "miss")) == ("two", [{"why": "absent"}])


# --- if asking fails ---------------------------------------------------------------------------

OUTAGES: list[LamellaError] = [
    DOWN,
    RateLimitError("slow down", status=429, retryable=True),
    QuotaError("empty", status=402),
    ConnectError("no way", retryable=True),
    CircuitOpenError("left alone", retry_after=3),
    DeadlineExceeded("too late"),
    BudgetExceededError("used up"),
    ServerError("odd", status=500),
]
MISTAKES: list[LamellaError] = [
    InvalidRequestError("malformed", status=400),
    ContextLengthError("too long", status=400),
    AuthenticationError("who?", status=401),
    UnsupportedError("cannot"),
]


def _failed(*errors: LamellaError) -> TargetsFailedError:
    error = TargetsFailedError("all of them")
    error.errors = tuple(errors)
    return error


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("error", [*OUTAGES, _failed(DOWN, OUTAGES[4])], ids=repr)
async def test_a_stale_answer_is_better_than_none(error: LamellaError, stream: bool) -> None:
    """If the model cannot be asked; and the trace says what failed."""
    pipeline, transport, _ = stale([ANSWER, error], stale=Stale(if_error=100))
    await pipeline.run(ASK)
    await anyio.sleep(20)
    response = await called(pipeline, stream)
    assert (response.text, response.head.cached, len(transport.requests)) == ("It is up.", True, 2)
    assert notes(response, "hit")[0]["error"] == type(error).__name__
    assert names(response) == ["miss", "not_stored", "hit"]


async def test_an_old_answer_that_is_used_is_a_hit_and_no_miss() -> None:
    """Each call is one or the other: an outage does not halve the rate."""
    pipeline, _, cache = stale([ANSWER, DOWN, MISTAKES[0], "new"], stale=Stale(if_error=100))
    counted = []
    for said in ("use", "use", "use", "use", "only_if_cached"):
        with suppress(InvalidRequestError):
            await pipeline.run(saying(said))
        stats = await cache.stats(pipeline)
        counted.append((stats.hits, stats.misses))
        await anyio.sleep(20)
    assert counted == [(0, 1), (1, 1), (1, 2), (1, 3), (2, 3)]


@pytest.mark.parametrize("error", [*MISTAKES, _failed(DOWN, MISTAKES[0])], ids=repr)
async def test_the_callers_mistakes_are_told(error: LamellaError) -> None:
    """An old answer would hide them."""
    pipeline, _transport, _ = stale([ANSWER, error], stale=Stale(if_error=100))
    await pipeline.run(ASK)
    await anyio.sleep(20)
    with pytest.raises(type(error)):
        await pipeline.run(ASK)


async def test_nothing_is_replaced_once_it_is_out() -> None:
    """A stream that breaks after its first event is broken."""
    pipeline, _, _ = stale([ANSWER, ["It", DOWN]], stale=Stale(if_error=100))
    await pipeline.run(ASK)
    await anyio.sleep(20)
    with pytest.raises(ServerError):
        await streamed(pipeline)


async def test_a_deadline_gives_the_old_answer() -> None:
    """At the deadline, and not later."""
    cache = Cache(10, jitter=0, stale=Stale(if_error=100))
    layers = [Deadline(5), cache, Cost(unknown="note")]
    pipeline, _ = stack(ANSWER, ["no", 10**6, Finish("stop")], layers=layers)
    await pipeline.run(ASK)
    await anyio.sleep(20)
    before = anyio.current_time()
    response = await pipeline.run(ASK)
    assert (response.text, anyio.current_time() - before) == ("It is up.", 5)


async def test_a_cancelled_call_gets_nothing() -> None:
    """Who has left wants no old answer either."""
    pipeline, transport, _ = stale([ANSWER, ["no", 10**6]], stale=Stale(if_error=100))
    await pipeline.run(ASK)
    await anyio.sleep(20)
    with anyio.move_on_after(3) as scope:
        await pipeline.run(ASK)
    assert scope.cancelled_caught
    assert transport.open_sources == 0


async def test_what_may_only_be_kept_may_be_stale() -> None:
    """`only_if_cached` takes whatever may still be given."""
    pipeline, _, _ = stale([ANSWER], stale=Stale(if_error=100))
    await pipeline.run(ASK)
    await anyio.sleep(20)
    assert notes(await pipeline.run(saying("only_if_cached")), "hit")[0]["stale"]
    await anyio.sleep(100)
    with pytest.raises(CacheMissError):
        await pipeline.run(saying("only_if_cached"))


# --- refusals ----------------------------------------------------------------------------------

LOCAL: list[LamellaError] = [
    UnsupportedError("cannot", code="vision", hint="Use another."),
    ContextLengthError("too long", phase="local", outcome=Outcome.NOT_SENT, code="long"),
    InvalidRequestError("malformed", phase="local", outcome=Outcome.NOT_SENT),
]


class Refusing:
    """A layer inside that refuses before anybody is asked."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    async def __call__(self, request: Request[Any], call_next: Any) -> Any:
        """Refuse."""
        self.asked += 1
        raise self.error.copy() if isinstance(self.error, LamellaError) else self.error


@pytest.mark.parametrize("error", LOCAL, ids=repr)
async def test_refusals_are_remembered_on_request(error: LamellaError) -> None:
    """For their own short time; the same error comes back, as the receiver's own object."""
    inner = Refusing(error)
    cache = Cache(keep=Keep(refusals_for=30))
    pipeline, _ = stack(ANSWER, layers=[cache, inner])
    found = []
    for _ in range(3):
        with pytest.raises(type(error)) as refused:
            await pipeline.run(ASK)
        found.append(refused.value)
    assert inner.asked == 1
    assert {(one.message, one.code, one.hint) for one in found} == {
        (error.message, error.code, error.hint)
    }
    assert len({id(one) for one in found}) == 3
    await anyio.sleep(31)
    with pytest.raises(type(error)):
        await pipeline.run(ASK)
    assert inner.asked == 2
    await cache.clear(pipeline)
    with pytest.raises(type(error)):
        await pipeline.run(ASK)
    assert inner.asked == 3


async def test_a_refresh_finds_out_whether_it_is_refused_still() -> None:
    """Who wants it asked anew is not told what was found out before."""
    inner = Refusing(LOCAL[0])
    pipeline, _ = stack(ANSWER, layers=[Cache(keep=Keep(refusals_for=30)), inner])
    for said in ("use", "use", "refresh"):
        with pytest.raises(UnsupportedError):
            await pipeline.run(saying(said))
    assert inner.asked == 2


async def test_refusals_are_not_remembered_by_default() -> None:
    """It has to be said."""
    inner = Refusing(LOCAL[0])
    pipeline, _ = stack(ANSWER, layers=[Cache(), inner])
    for _ in range(2):
        with pytest.raises(UnsupportedError):
            await pipeline.run(ASK)
    assert inner.asked == 2


@pytest.mark.parametrize("error", [*OUTAGES, *MISTAKES[:3], OSError("odd")], ids=repr)
async def test_what_a_provider_says_is_never_remembered(error: Exception) -> None:
    """No 4xx, no 5xx, no 429, nothing that may pass."""
    inner = Refusing(error)
    pipeline, _ = stack(ANSWER, layers=[Cache(keep=Keep(refusals_for=30)), inner])
    for _ in range(2):
        with pytest.raises(type(error)):
            await pipeline.run(ASK)
    assert inner.asked == 2


async def test_a_refusal_after_an_attempt_is_not_remembered() -> None:
    """Somebody was asked by then."""

    async def asks_first(request: Request[Any], call_next: Any) -> Any:
        await (await call_next(request)).collect()
        raise UnsupportedError("cannot")

    pipeline, transport = stack(ANSWER, layers=[Cache(keep=Keep(refusals_for=30)), asks_first])
    for _ in range(2):
        with pytest.raises(UnsupportedError):
            await pipeline.run(ASK)
    assert len(transport.requests) == 2


async def test_refusals_are_of_one_tenant_and_request() -> None:
    """Others find out by themselves; and there are not too many of them."""
    inner = Refusing(LOCAL[0])
    pipeline, _ = stack(ANSWER, layers=[Cache(keep=Keep(refusals_for=30)), inner])
    for tenant in ("a", "b"):
        for seed in range(2):
            with pytest.raises(UnsupportedError):
                await pipeline.run(by(ASK.evolve(seed=seed), tenant=tenant))
    assert inner.asked == 4
