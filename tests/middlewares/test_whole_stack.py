"""All layers together: whatever becomes of a hundred streams, every gauge is back where it was."""

from __future__ import annotations

import gc
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, cast

import anyio
import pytest

from lamella import (
    ChatRequest,
    Context,
    Finish,
    MemorySpend,
    Money,
    Pipeline,
    Size,
    TargetsFailedError,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReport,
)
from lamella.testing import Scripted, ScriptedAnswer, each_step, virtual_ports
from lamella_middlewares import (
    PII,
    Budget,
    Cache,
    CircuitBreaker,
    Concurrency,
    Cost,
    Deadline,
    Fallback,
    Guard,
    Hedge,
    Hold,
    LoadShed,
    PromptCache,
    RateLimit,
    Retry,
    Route,
    SingleFlight,
    Spend,
    Structured,
    Summarise,
    Timeout,
    Tools,
    Trim,
)
from lamella_middlewares.cache import Stale
from lamella_middlewares.guard import max_length
from lamella_middlewares.tools import ToolContext

pytestmark = pytest.mark.anyio

ANSWER = ScriptedAnswer(
    ("one ", 0.5, "two ", 0.5, "three", UsageReport(Usage(9, text_output=3)), Finish("stop")),
    delay=0.3,
)
CALLS = ScriptedAnswer(
    (
        "Wait. ",
        *(ToolCallDelta(place, f"c{place}", "look_up", '{"name": "a"}') for place in range(2)),
        UsageReport(Usage(9, text_output=3)),
        Finish("tool_calls"),
    ),
    delay=0.3,
    gap=0.2,
)
CUT = ScriptedAnswer(("one ", 0.5, ConnectionResetError("cut")), delay=0.3)
MANY = 100


async def look_up(name: str, about: ToolContext) -> str:
    """A tool that takes its time."""
    await about.context.sleep(0.4)
    return name


class Whole:
    """Every layer that counts something, and its gauges."""

    def __init__(self, *, adaptive: bool, answers: tuple[Any, ...] = (ANSWER,)) -> None:
        self.ports = virtual_ports()
        self.transports = [
            Scripted(answers, repeat=True, name=name) for name in ("east", "west", "spare")
        ]
        east, west, spare = self.transports
        self.shed = LoadShed(60, max_waiting=200)
        self.route = Route([east, west], policy="least_in_flight")
        self.limit = RateLimit(requests=100_000, tokens=10_000_000, concurrency=50)
        self.places = Concurrency(30, adaptive="aimd" if adaptive else None)
        self.breaker = CircuitBreaker()
        self.spend = Spend(store=MemorySpend())
        self.budget = Budget("100")
        layers: list[Any] = [
            Deadline(60), self.spend, Structured(), Tools([look_up], concurrency=1), self.shed,
            PII(), Guard([max_length(1000)]),
            Cache(ttl=1, when="all", stale=Stale(while_revalidate=2)), SingleFlight(),
            Summarise(Size(messages=3), model="m", otherwise="raise"), Trim(Size(messages=30)),
            Fallback([spare]), Hedge(delay=0.4, max_extra=1.0), self.route, Retry(base=0.01),
            self.budget, self.limit, self.places, self.breaker, Hold(tokens=2), Timeout(),
            PromptCache(), Cost({"m": {"input": "1", "output": "4"}}),
        ]  # fmt: skip
        self.pipeline = Pipeline(layers, east, ports=self.ports)

    def ask(self, number: int) -> ChatRequest:
        """Every third asks what another one asks, and there are seven tenants."""
        context = Context(tenant=f"t{number % 7}", priority=number % 3)
        return ChatRequest.of(f"hello {number // 21}", model="m", context=context)

    async def at_baseline(self) -> None:
        """What holds once nobody asks any more."""
        await self.ports.sleep(120)
        gc.collect()
        await self.ports.sleep(1)
        stores = self.ports.stores
        assert [transport.open_sources for transport in self.transports] == [0, 0, 0]
        assert (self.shed.load(stores).in_flight, self.shed.load(stores).waiting) == (0, 0)
        assert [state.in_flight for state in self.route.states(self.ports)] == [0, 0]
        for provider in ("east", "west", "spare"):
            gauge = await self.places.gauge(provider, "m", stores=stores)
            assert (gauge.in_flight, gauge.waiting) == (0, 0), provider
        leases = cast("Any", stores.leases)
        assert leases._held == {}  # every reservation was settled or refunded
        assert self.pipeline.background.names == ()
        assert (await self.pipeline.health()).running == 0
        await self.books_agree()
        await self.pipeline.aclose()

    async def books_agree(self) -> None:
        """What was recorded, attempt by attempt, is what the budget has charged, and all of it."""
        total = await self.spend.total()
        assert total.attempts == sum(len(transport.requests) for transport in self.transports)
        [level] = await self.budget.levels(self.pipeline)
        assert (level.spent, level.reserved) == (total.cost, Money(0))


Way = Callable[[Whole, int], Coroutine[Any, Any, object]]


async def read_to_its_end(whole: Whole, number: int) -> object:
    """Read everything."""
    async with whole.pipeline.stream(whole.ask(number)) as response:
        return await response.collect()


async def left_after_a_word(whole: Whole, number: int) -> object:
    """Leave the block in the middle."""
    async with whole.pipeline.stream(whole.ask(number)) as response:
        async for event in response:
            if isinstance(event, TextDelta):
                break
    return response


async def closed(whole: Whole, number: int) -> object:
    """Close the response, and leave then."""
    async with whole.pipeline.stream(whole.ask(number)) as response:
        await response.aclose()
    return response


async def cancelled(whole: Whole, number: int) -> object:
    """Cancel, some sooner and some later."""
    with anyio.move_on_after(number % 20 / 10):
        await read_to_its_end(whole, number)
    return None


async def broken_by_its_reader(whole: Whole, number: int) -> object:
    """Raise in the block."""
    with pytest.raises(KeyError):
        async with whole.pipeline.stream(whole.ask(number)):
            raise KeyError(number)
    return None


async def never_read(whole: Whole, number: int) -> object:
    """Enter the block and look at nothing."""
    async with whole.pipeline.stream(whole.ask(number)) as response:
        await whole.ports.sleep(number % 5)
    return response


async def run_and_cancelled(whole: Whole, number: int) -> object:
    """The same without a stream."""
    with anyio.move_on_after(number % 20 / 10):
        await whole.pipeline.run(whole.ask(number))
    return None


WAYS: tuple[Way, ...] = (
    read_to_its_end, left_after_a_word, closed, cancelled, broken_by_its_reader, never_read,
    run_and_cancelled,
)  # fmt: skip


async def test_the_gauges_see_what_is_under_way() -> None:
    """Otherwise the tests below would prove nothing."""
    whole = Whole(adaptive=False)
    async with anyio.create_task_group() as group:
        for number in range(MANY):
            group.start_soon(read_to_its_end, whole, number)
        await whole.ports.sleep(0.6)
        stores = whole.ports.stores
        load = whole.shed.load(stores)
        assert (load.in_flight, load.waiting) == (60, 40)
        assert sum(state.in_flight for state in whole.route.states(whole.ports)) > 20
        assert (await whole.places.gauge("east", "m", stores=stores)).in_flight > 5
        assert sum(transport.open_sources for transport in whole.transports) > 20
        assert whole.pipeline.background.names
    await whole.at_baseline()


TAKING_TURNS = [
    pytest.param(way, adaptive, loop, id=f"{way.__name__}-{limit}-{loop}")
    for number, way in enumerate(WAYS)
    for loop, turn in (("asyncio", 0), ("trio", 1))
    for adaptive in [(number + turn) % 2 == 1]
    for limit in ["adaptive" if adaptive else "fixed"]
]
"""Each way on both loops and under both kinds of limit; the bad day below has all four."""


@pytest.mark.parametrize(
    ("way", "adaptive", "lamella_virtual_backend"),
    TAKING_TURNS,
    indirect=["lamella_virtual_backend"],
)
async def test_a_hundred_streams_abandoned_in_one_way(way: Way, adaptive: bool) -> None:
    """Every place, lease, flight, probe and socket comes back."""
    whole = Whole(adaptive=adaptive)
    async with anyio.create_task_group() as group:
        for number in range(MANY):
            group.start_soon(way, whole, number)
    await whole.at_baseline()


@pytest.mark.parametrize("adaptive", [False, True], ids=["fixed", "adaptive"])
async def test_a_hundred_streams_abandoned_in_every_way_on_a_bad_day(adaptive: bool) -> None:
    """Some answers break, callers do what they like, and nothing is left."""
    whole = Whole(
        adaptive=adaptive, answers=(ANSWER, CUT, CALLS, ANSWER, ConnectionResetError("no"))
    )

    async def somehow(number: int) -> None:
        with suppress(ConnectionResetError, TargetsFailedError):
            await WAYS[number % len(WAYS)](whole, number)

    async with anyio.create_task_group() as group:
        for number in range(MANY):
            group.start_soon(somehow, number)
    await whole.at_baseline()


async def test_closing_in_the_middle_leaves_nothing() -> None:
    """A pipeline that closes under a hundred streams ends them, and gives everything back."""
    whole = Whole(adaptive=False)
    ended: list[object] = []

    async def one(number: int) -> None:
        try:
            await read_to_its_end(whole, number)
        except Exception as error:  # noqa: BLE001 - whichever it is, it has ended
            ended.append(error)

    async with anyio.create_task_group() as group:
        for number in range(MANY):
            group.start_soon(one, number)
        await whole.ports.sleep(0.6)
        await whole.pipeline.aclose()
    assert {type(error).__name__ for error in ended} == {"ClosedError"}
    assert len(ended) == MANY
    await whole.at_baseline()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_at_every_step_nothing_is_left(backend: str) -> None:
    """Fault row 31, through all layers at once."""

    def make() -> tuple[Callable[[], Any], Callable[[], Any]]:
        whole = Whole(adaptive=False)
        return (lambda: read_to_its_end(whole, 1)), whole.at_baseline

    assert each_step(make, backend=backend) > 10
