"""Budget where things go wrong: stores, clocks and transports that say little, and copies."""

from __future__ import annotations

import asyncio
import gc
import pickle
from contextlib import suppress
from typing import Any

import anyio
import attrs
import pytest

from lamella import (
    BudgetExceededError,
    ChatRequest,
    ConfigurationError,
    Context,
    DeadlineExceeded,
    Finish,
    LamellaError,
    ModerationRequest,
    Money,
    NetworkError,
    Pipeline,
    Request,
    Response,
    StoreUnavailableError,
    TextDelta,
    Usage,
    UsageReport,
)
from lamella._memory_blobs import ENTRY_OVERHEAD, MemoryBlobs
from lamella._memory_leases import MemoryLeases
from lamella._memory_stores import memory_stores
from lamella._ports import default_ports
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares import Budget, Cost, Deadline
from lamella_middlewares.budget import Allowance
from lamella_middlewares.budget._windows import Window, zone_of

pytestmark = pytest.mark.anyio

PRICES = {"m": {"input": "100", "output": "100"}}
ASK = ChatRequest.of("hello", model="m", max_output_tokens=1000)
ANSWER: list[Any] = [TextDelta("ok"), UsageReport(Usage(text_output=500)), Finish("stop")]


async def levels(budget: Budget, pipeline: Any, scope: dict[str, str] | None = None) -> Any:
    """The budget's levels, whose amounts are money or numbers."""
    return await budget.levels(pipeline, scope or {})


class Flaky:
    """A lease store elsewhere, which can be out, and which loses the replies to single amounts."""

    def __init__(self, ports: Any) -> None:
        self.inner = ports.stores.leases
        self.ports = ports
        self.out = self.loses = False

    async def _pass(self) -> None:
        await self.ports.sleep(0.01)
        if self.out:
            raise OSError("gone")

    async def reserve(self, *arguments: Any, **options: Any) -> Any:
        await self._pass()
        return await self.inner.reserve(*arguments, **options)

    async def settle(self, lease_id: str, amounts: Any) -> bool:
        await self._pass()
        done: bool = await self.inner.settle(lease_id, amounts)
        if self.loses and len(amounts) == 1:
            raise OSError("the reply is lost")
        return done

    async def refund(self, lease_id: str) -> Any:
        await self._pass()
        return await self.inner.refund(lease_id)

    async def renew(self, lease_id: str, *, ttl: float) -> Any:
        await self._pass()
        return await self.inner.renew(lease_id, ttl=ttl)

    async def level(self, dimension: Any) -> Any:
        return await self.inner.level(dimension)

    async def now(self) -> float:
        return float(self.ports.wall())

    async def aclose(self) -> None:
        """Nothing is open."""


# --- what it charges -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["breaks", "cancelled", "late"])
async def test_it_charges_what_the_trace_says(how: str) -> None:
    """A plain function does not say whether it has sent anything: what `Cost` bills is charged."""

    async def quiet(_: Any) -> Any:
        if how == "breaks":
            raise NetworkError("no more")
        await anyio.sleep(60)

    budget, ports = Budget("1"), virtual_ports()
    layers: list[Any] = [budget, Cost(PRICES)]
    pipeline = Pipeline([Deadline(5), *layers] if how == "late" else layers, quiet, ports=ports)
    with anyio.move_on_after(9), suppress(LamellaError):
        await pipeline.run(ASK)
    (level,) = await levels(budget, pipeline)
    assert level.spent.nano == 5 * 100_000  # the five tokens of the request
    assert level.reserved == Money(0)


def test_what_is_abandoned_with_its_event_loop_is_charged() -> None:
    """Nobody can end the stream any more, but it was sent: all that was reserved is gone."""
    kept: list[Any] = []
    ports = attrs.evolve(default_ports(), stores=memory_stores())
    budget = Budget("0.15", limits=[Allowance(requests=2)])
    pipeline = Pipeline([budget, Cost(PRICES)], Scripted([ANSWER], repeat=True), ports=ports)

    async def begin() -> None:
        stream = pipeline.stream(ASK)
        kept.extend((stream, await stream.__aenter__()))

    asyncio.run(begin())
    kept.clear()
    gc.collect()
    with pytest.raises(BudgetExceededError):
        asyncio.run(pipeline.run(ASK))
    money, requests = asyncio.run(levels(budget, ports))
    assert money.spent > Money.of("0.1")
    assert (money.reserved, requests.spent, requests.reserved) == (Money(0), 1, 0)


async def test_what_a_provider_pays_adds_nothing() -> None:
    """A stated cost below 0 is none, and harms no answer."""

    async def generous(request: Any) -> Any:
        request.context.attempt.cost = Money(-5)
        return request.answer(ANSWER)

    budget = Budget("1")
    pipeline = Pipeline([budget, Cost(PRICES)], generous, ports=virtual_ports())
    await pipeline.run(ASK)
    (level,) = await levels(budget, pipeline)
    assert (level.spent, level.reserved) == (Money(0), Money(0))


async def test_one_of_the_same_name_elsewhere_is_another_one() -> None:
    """Two in one stack are both charged if they count in different stores."""
    ports = virtual_ports()
    outer, inner = Budget("1", store=virtual_ports().stores.leases), Budget("1")
    pipeline = Pipeline([outer, inner, Cost(PRICES)], Scripted([ANSWER]), ports=ports)
    await pipeline.run(ASK)
    spent = [(await levels(each, pipeline))[0].spent for each in (outer, inner)]
    assert spent == [Money.of("0.05"), Money.of("0.05")]


@attrs.frozen(kw_only=True)
class Paint(Request[Response]):
    """An operation of a program's own, which is not counted in tokens."""

    operation = "paint"
    response_type = Response


@pytest.mark.parametrize("kind", [Paint, ModerationRequest])
async def test_what_cannot_be_counted_finds_no_room_in_a_debt(kind: Any) -> None:
    """Once such requests have used all up, the next one is refused; free ones never are."""
    ask = kind(model="m") if kind is Paint else kind(inputs="bad?", model="m")

    async def bill(request: Any) -> Any:
        request.context.attempt.cost = None if request.model == "free" else Money.of("2")
        request.context.attempt.sent = True
        raise NetworkError("and then it breaks")

    budget = Budget("1", namespace=kind.__name__)
    prices = {**PRICES, "free": {"input": "0", "output": "0"}}
    pipeline = Pipeline([budget, Cost(prices)], bill, ports=virtual_ports())
    with pytest.raises(NetworkError):
        await pipeline.run(ask)
    (level,) = await levels(budget, pipeline)
    assert level.left < Money(0)
    with pytest.raises(BudgetExceededError):
        await pipeline.run(ask)
    with pytest.raises(NetworkError):
        await pipeline.run(ask.evolve(model="free"))


# --- stores --------------------------------------------------------------------------------------


async def test_an_outage_longer_than_a_lease_forgets_no_spending() -> None:
    """What was used while the store was out is charged when it is back, once."""
    ports = virtual_ports()
    store = Flaky(ports)
    budget = Budget("1", store=store)
    pipeline = Pipeline([budget, Cost(PRICES)], Scripted([ANSWER], delay=5), ports=ports)
    async with anyio.create_task_group() as group:
        group.start_soon(pipeline.run, ASK)
        await anyio.sleep(1)
        store.out = True
    await anyio.sleep(600)
    store.out = False
    await anyio.sleep(60)
    (level,) = await levels(budget, pipeline)
    assert (level.spent, level.reserved) == (Money.of("0.05"), Money(0))


async def test_a_threshold_whose_reply_is_lost_is_told() -> None:
    """Nobody knows whether somebody else will tell of it, so this one does."""
    told: list[Any] = []
    ports = virtual_ports()
    store = Flaky(ports)
    store.loses = True
    budget = Budget(requests=2, store=store, on_threshold=told.append)
    pipeline = Pipeline([budget], Scripted(["ok"], repeat=True), ports=ports)
    for _ in range(2):
        await pipeline.run(ASK)
    assert [notice.share for notice in told] == [0.5, 0.8, 1.0]


@pytest.mark.parametrize("window", [None, "day"])
async def test_a_store_that_hangs_is_waited_for_until_the_deadline(window: Any) -> None:
    """And that is what the caller is told."""

    class Hanging(Flaky):
        async def _pass(self) -> None:
            await anyio.sleep_forever()

        async def now(self) -> float:
            await anyio.sleep_forever()
            return 0.0

    ports = virtual_ports()
    budget = Budget(requests=1, window=window, store=Hanging(ports))
    pipeline = Pipeline([Deadline(5), budget], Scripted(["ok"]), ports=ports)
    with pytest.raises(DeadlineExceeded, match="a budget"):
        await pipeline.run(ASK)


async def test_a_store_without_room_says_so() -> None:
    """It is no budget that is used up."""
    ports = virtual_ports()
    store = MemoryLeases(monotonic=ports.monotonic, wall=ports.wall, max_buckets=3)
    budget = Budget(requests=1, per="user", store=store, notify_at=())
    pipeline = Pipeline([budget], Scripted(["ok"], repeat=True), ports=ports)
    for user in "ab":
        await pipeline.run(ASK.evolve(context=Context(user=user)))
    with pytest.raises(BudgetExceededError):
        await pipeline.run(ASK.evolve(context=Context(user="a")))
    with pytest.raises(StoreUnavailableError, match="no room") as caught:
        await pipeline.run(ASK.evolve(context=Context(user="c")))
    assert caught.value.code == "store_full"


# --- amounts that were set -----------------------------------------------------------------------


async def test_a_full_cache_lifts_no_limit() -> None:
    """What the blob store of this process threw away to make room still holds here."""
    ports = virtual_ports()
    blobs = MemoryBlobs(
        monotonic=ports.monotonic,
        max_bytes=4 * (ENTRY_OVERHEAD + 1000),
        max_entry_bytes=ENTRY_OVERHEAD + 1000,
    )
    ports = attrs.evolve(ports, stores=attrs.evolve(ports.stores, blobs=blobs))
    budget = Budget(requests=9, per="user")
    pipeline = Pipeline([budget], Scripted(["ok"], repeat=True), ports=ports)
    await budget.set_limit(pipeline, 0, {"user": "ann"})
    for number in range(9):
        await blobs.put(f"answer {number}", b"x" * 900)
    await anyio.sleep(60)
    ask = ASK.evolve(context=Context(user="ann"))
    with pytest.raises(BudgetExceededError):
        await pipeline.run(ask)
    assert len(await budget.overridden(pipeline)) == 1
    assert await budget.set_limit(pipeline, None, {"user": "ann"})
    await pipeline.run(ask)
    assert not await budget.overridden(pipeline)


async def test_each_blob_store_has_its_own_amounts() -> None:
    """Two pipelines of one process, whose amounts are kept in different places."""
    ports = virtual_ports()
    other = attrs.evolve(ports.stores, blobs=virtual_ports().stores.blobs)
    elsewhere = attrs.evolve(ports, stores=other)
    budget = Budget(requests=5)
    await budget.set_limit(elsewhere, 1)
    limits = [(await levels(budget, each))[0].limit for each in (ports, elsewhere, ports)]
    assert limits == [5, 1, 5]


# --- windows, copies -----------------------------------------------------------------------------


async def test_a_copy_starts_anew_as_well() -> None:
    """Pickled for another process, a budget for a day is still one for a day."""
    budget = pickle.loads(pickle.dumps(Budget(requests=1, per="user", window="day")))
    pipeline = Pipeline([budget], Scripted(["ok"], repeat=True), ports=virtual_ports())
    for _ in range(2):
        await pipeline.run(ASK)
        with pytest.raises(BudgetExceededError) as caught:
            await pipeline.run(ASK)
        assert pickle.loads(pickle.dumps(caught.value)).scope == {"user": ""}
        await anyio.sleep(86_400)


def test_other_windows_have_other_names() -> None:
    """However long they are, or else two budgets would meet in one count."""
    windows = [Window(seconds, zone_of("UTC"), "UTC") for seconds in (1e6 + 1, 1e6 + 2, 1.5)]
    assert [each.name for each in windows] == ["1000001 s", "1000002 s", "1.5 s"]


async def test_a_store_that_is_set_up_wrongly_is_no_outage() -> None:
    """A forgotten variable is told as it is, and lets nothing through uncounted."""
    ports = virtual_ports()

    class Forgotten(Flaky):
        async def now(self) -> float:
            raise ConfigurationError("REDIS_URL is not set.")

    budget = Budget(requests=1, window="day", on_outage="allow", store=Forgotten(ports))
    async with Pipeline([budget], Scripted([ANSWER]), ports=ports) as pipeline:
        with pytest.raises(ConfigurationError, match="REDIS_URL"):
            await pipeline.run(ASK)
