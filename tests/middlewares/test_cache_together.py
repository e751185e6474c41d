"""Cache: where it stands among other layers, and what they make of each other."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from caches import ANSWER, ASK, PRICE, PRICES, by, names, notes, stack, streamed
from single_flights import Callers

from lamella import (
    ChatRequest,
    ChatResponse,
    Finish,
    Money,
    OrderError,
    Pipeline,
    Secret,
    ServerError,
    TextDelta,
    middleware,
)
from lamella._memory_blobs import MemoryBlobs
from lamella.testing import Scripted, cancelled_at, virtual_ports
from lamella_middlewares.cache import Cache, Keep
from lamella_middlewares.cost import Cost
from lamella_middlewares.fallback import Fallback
from lamella_middlewares.guard import Guard, blocked_terms
from lamella_middlewares.hedge import Hedge
from lamella_middlewares.pii import PII
from lamella_middlewares.retry import Retry
from lamella_middlewares.single_flight import SingleFlight

pytestmark = pytest.mark.anyio


class Counting(MemoryBlobs):
    """A store in memory that counts what is put."""

    def __init__(self) -> None:
        super().__init__(monotonic=anyio.current_time, max_bytes=1 << 24, max_entry_bytes=1 << 22)
        self.puts = 0
        self.seen = b""

    async def put(self, key: str, data: bytes, **options: Any) -> None:
        """See `BlobStore`."""
        self.puts += 1
        self.seen += key.encode() + data
        await super().put(key, data, **options)


# --- SingleFlight ------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_a_herd_makes_one_call_and_one_entry(stream: bool) -> None:
    """10,000 identical calls: one upstream, one kept, one that pays. Of streams 1,000."""
    count, store = 1_000 if stream else 10_000, Counting()
    pipeline, transport = stack(
        ANSWER, layers=[Cache(store=store), SingleFlight(), Cost(PRICES)], delay=1
    )
    callers = Callers(pipeline)
    await callers.herd(count, callers.stream if stream else callers.run, ASK)
    assert (len(transport.requests), store.puts) == (1, 1)
    assert (len(callers.found), callers.texts()) == (count, {"It is up."})
    costs = [response.cost for response in callers.found.values()]
    assert (costs.count(PRICE), costs.count(Money(0))) == (1, count - 1)
    assert (await pipeline.run(ASK)).head.cached


@pytest.mark.parametrize("stream", [False, True])
async def test_a_leader_that_leaves_hurts_nobody(stream: bool) -> None:
    """Whoever then pays keeps the answer."""
    store = Counting()
    pipeline, transport = stack(
        ANSWER, layers=[Cache(store=store), SingleFlight(), Cost(PRICES)], delay=5
    )
    callers = Callers(pipeline)
    call = callers.stream if stream else callers.run
    async with anyio.create_task_group() as group, anyio.create_task_group() as leaders:
        leaders.start_soon(call, "leader", ASK)
        await anyio.sleep(1)
        for number in range(100):
            group.start_soon(call, str(number), ASK)
        await anyio.sleep(1)
        leaders.cancel_scope.cancel()
    assert (len(transport.requests), store.puts) == (1, 1)
    assert (len(callers.found), callers.texts()) == (100, {"It is up."})


@pytest.mark.parametrize("stream", [False, True])
async def test_the_leader_may_leave_at_any_step(stream: bool) -> None:
    """The other one has an answer, of which no more was asked than needed."""
    for step in range(1, 80):
        store = Counting()
        pipeline, transport = stack(
            ANSWER, layers=[Cache(store=store), SingleFlight(), Cost(PRICES)], delay=1
        )
        callers = Callers(pipeline)
        call = callers.stream if stream else callers.run
        reached = False

        async def leader(call: Any = call) -> None:
            await call("leader", ASK)

        async with anyio.create_task_group() as group:
            group.start_soon(call, "other", ASK)
            reached = await cancelled_at([step], leader)
        assert callers.found["other"].text == "It is up."
        assert len(transport.requests) == 1
        # Who is to pay may leave when the other has read all of it: then nobody keeps it.
        assert store.puts == 1 or (stream and store.puts == 0)
        assert (await pipeline.run(ASK)).text == "It is up."
        assert store.puts == 1
        if not reached:
            break
    else:
        raise AssertionError("It is never through.")


# --- PII ---------------------------------------------------------------------------------------

KEY = Secret.of_value("a key that is long enough for this")
EMAIL = "ada@example.com"


def echo(request: ChatRequest) -> Any:
    """Says what it was asked."""
    said = request.messages[-1].text
    return [TextDelta("I heard: "), TextDelta(said), Finish("stop")]


@pytest.mark.parametrize("stream", [False, True])
async def test_it_works_with_masked_data(stream: bool) -> None:
    """The same value of the same tenant hits, and no raw value is kept."""
    store = Counting()
    pipeline, transport = stack(
        echo, layers=[PII(key=KEY), Cache(store=store), Cost(unknown="note")]
    )
    ask = ASK.evolve(messages=f"Write to {EMAIL}.")
    first = await pipeline.run(ask)
    again = await (streamed(pipeline, ask) if stream else pipeline.run(ask))
    assert (first.text, again.text) == (f"I heard: Write to {EMAIL}.",) * 2
    assert (again.head.cached, len(transport.requests)) == (True, 1)
    assert EMAIL.encode() not in store.seen
    assert b"ada" not in store.seen
    other = await pipeline.run(by(ask, tenant="other"))
    assert (other.text, other.head.cached) == (f"I heard: Write to {EMAIL}.", False)
    changed = await pipeline.run(ask.evolve(messages="Write to bob@example.com."))
    assert (changed.text, changed.head.cached) == ("I heard: Write to bob@example.com.", False)


# --- guards, tools, order ----------------------------------------------------------------------


async def test_a_guard_sees_kept_answers() -> None:
    """What it blocks today it blocks, whenever it was kept."""
    ports, store = virtual_ports(), Counting()
    before, _ = stack("forbidden words", layers=[Cache(store=store)], ports=ports)
    await before.run(ASK)
    guarded, transport = stack(
        "other words",
        layers=[Guard([blocked_terms(["forbidden"])]), Cache(store=store)],
        ports=ports,
    )
    with pytest.raises(Exception, match=r"blocked_terms|Guard"):
        await guarded.run(ASK)
    assert transport.requests == []


def named(name: str) -> Any:
    """A layer of that name."""

    @middleware(phase="shape", name=name)
    async def layer(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    return layer


@pytest.mark.parametrize("name", ["pii", "guard", "audit", "tools"])
def test_what_is_to_see_every_call_stands_outside(name: str) -> None:
    """The order is refused, with the reason."""
    with pytest.raises(OrderError, match=f"'cache' is outside '{name}'.*Put '{name}' before"):
        Pipeline([Cache(), named(name)])
    Pipeline([named(name), Cache()])


def test_what_is_paid_stands_inside() -> None:
    """Cost outside would price what nobody pays for."""
    with pytest.raises(OrderError, match="'cost' is outside 'cache'"):
        Pipeline([Cost(), Cache()])


def test_it_arranges_itself() -> None:
    """Inside of what masks and guards, outside of what shares and tries again."""
    layers: list[Any] = [
        Retry(),
        Cost(),
        SingleFlight(),
        Cache(),
        Guard([blocked_terms(["x"])]),
        PII(),
    ]
    order = [info.name for info in Pipeline.arrange(layers).infos]
    assert order == ["pii", "guard", "cache", "single_flight", "retry", "cost"]


# --- tries, targets, hedges --------------------------------------------------------------------

OOPS = ServerError("oops", status=500, retryable=True)


@pytest.mark.parametrize("outside", [False, True])
async def test_a_try_that_succeeds_is_kept(outside: bool) -> None:
    """Whether what tries again stands inside or outside."""
    retry = Retry(base=0.01)
    layers: list[Any] = [retry, Cache()] if outside else [Cache(), retry]
    pipeline, transport = stack(OOPS, ANSWER, layers=[*layers, Cost(PRICES)])
    assert (await pipeline.run(ASK)).text == "It is up."
    assert (await pipeline.run(ASK)).head.cached
    assert len(transport.requests) == 2


async def test_a_stand_ins_answer_is_kept_only_on_request() -> None:
    """It is not what was meant."""
    for keep, kept in ((Keep(), False), (Keep(substitutes=True), True)):
        pipeline, _ = stack(
            lambda request: OOPS if request.model == "m" else "From another.",
            layers=[Cache(keep=keep), Fallback(["other"])],
        )
        first = await pipeline.run(ASK)
        assert first.text == "From another."
        assert (await pipeline.run(ASK)).head.cached is kept
        if not kept:
            assert notes(first, "not_stored") == [{"why": "substitute"}]


async def test_a_hedge_inside_is_kept_once() -> None:
    """Of two attempts the answer of the quicker one."""
    store = Counting()
    slow = [10.0, "Slow.", Finish("stop")]
    pipeline, transport = stack(
        slow,
        "Quick.",
        layers=[Cache(store=store), Hedge(delay=1, max_extra=1), Cost(unknown="note")],
    )
    assert (await pipeline.run(ASK)).text == "Quick."
    assert (await pipeline.run(ASK)).text == "Quick."
    assert (store.puts, len(transport.requests)) == (1, 2)


async def test_a_cache_inside_a_cache_keeps_its_own() -> None:
    """The outer one keeps nothing that was replayed to it."""
    ports, store, outer = virtual_ports(), Counting(), Counting()
    inner, _ = stack(layers=[Cache(store=store), Cost(PRICES)], ports=ports)
    await inner.run(ASK)
    both, transport = stack(
        layers=[Cache(store=outer, namespace="outer"), Cache(store=store), Cost(PRICES)],
        ports=ports,
    )
    response = await both.run(ASK)
    assert (response.head.cached, transport.requests, outer.puts) == (True, [], 0)
    assert names(response) == ["miss", "hit", "not_stored"]


async def test_a_layer_that_makes_answers_itself_is_not_kept() -> None:
    """Nobody was asked, so there is nothing to save."""

    async def answers(request: Any, call_next: Any) -> Any:
        return ChatResponse.of("By hand.")

    pipeline, _ = stack(layers=[Cache(), answers])
    response = await pipeline.run(ASK)
    assert notes(response, "not_stored") == [{"why": "not_own"}]


async def test_it_works_inside_a_nested_pipeline() -> None:
    """The answer is kept there, and the outer call knows."""
    inner, transport = stack()
    outer = Pipeline([], inner, ports=inner.ports)
    await outer.run(ASK)
    response = await outer.run(ASK)
    assert (response.head.cached, response.cost, len(transport.requests)) == (True, Money(0), 1)


async def test_children_are_cached_like_calls() -> None:
    """A question that a layer asks on the way has a tenant too."""

    async def asks(request: Any, call_next: Any) -> Any:
        child = request.child(ASK, purpose="judge")
        found = await (await call_next(child)).collect()
        return await call_next(request.evolve(messages=f"{found.text} Really?"))

    pipeline, transport = stack(layers=[asks, Cache(), Cost(PRICES)])
    await pipeline.run(by(tenant="acme"))
    await pipeline.run(by(tenant="acme"))
    assert len(transport.requests) == 2


async def test_explain_shows_what_it_may_do() -> None:
    """It may answer by itself, and ask again behind the call."""
    text = str(Pipeline([Cache()], Scripted(["x"])).explain())
    assert "cache" in text
    assert "short-circuits" in text
