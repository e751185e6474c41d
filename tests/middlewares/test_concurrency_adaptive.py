"""An adaptive limit finds what a provider can do, and follows it."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

import anyio
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    ConnectionLostError,
    Finish,
    LamellaError,
    LimitedError,
    OverloadedError,
    Pipeline,
    ProviderError,
    QuotaError,
    RateLimitError,
    ServerError,
    TargetsFailedError,
)
from lamella.testing import Scripted, ScriptedAnswer, virtual_backend, virtual_ports
from lamella_middlewares.concurrency import Concurrency
from lamella_middlewares.concurrency._gate import is_throttle

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello", model="m")
KEY = ("provider", "m")

ONE_LOOP = pytest.mark.parametrize("anyio_backend", [virtual_backend("asyncio")], ids=["asyncio"])
"""An algorithm knows no event loop: minutes of traffic are simulated on one, others on both."""


class Provider:
    """A provider that can do so much at a time.

    Args:
        capacity: How many it works on at once.
        seconds: How long one takes, about.
        throttles: Whether it refuses what is too much; otherwise it becomes slower.
    """

    name = "provider"

    def __init__(self, capacity: int, *, seconds: float, throttles: bool) -> None:
        self.capacity = capacity
        self.seconds = seconds
        self.throttles = throttles
        self.running = 0
        self.answered = 0
        self.throttled = 0
        self._random = Random(1)

    async def __call__(self, request: ChatRequest) -> ChatResponse:
        """Work on it, if there is room."""
        sleep = request.context.ports.sleep
        if self.throttles and self.running >= self.capacity:
            self.throttled += 1
            await sleep(0.1)
            raise RateLimitError("too many at a time", status=429)
        self.running += 1
        try:
            load = 1.0 if self.throttles else max(1.0, self.running / self.capacity)
            await sleep(self.seconds * load * (0.8 + 0.4 * self._random.random()))
        finally:
            self.running -= 1
        self.answered += 1
        return ChatResponse.of("ok", model="m")


async def drive(
    layer: Concurrency,
    provider: Provider,
    *,
    workers: int,
    seconds: float,
    events: dict[int, Callable[[], None]] | None = None,
) -> list[tuple[float, int]]:
    """Ask all the time, from many workers; the limit, each second."""
    pipe = Pipeline([layer], provider, ports=virtual_ports())
    limits: list[tuple[float, int]] = []

    async def work() -> None:
        while True:
            try:
                await pipe.run(ASK)
            except RateLimitError:
                await anyio.sleep(1)

    async with anyio.create_task_group() as group:
        for _ in range(workers):
            group.start_soon(work)
        for second in range(int(seconds)):
            if events and second in events:
                events[second]()
            await anyio.sleep(1)
            found = await layer.gauge(*KEY, stores=pipe.ports.stores)
            limits.append((second, found.limit))
        group.cancel_scope.cancel()
    found = await layer.gauge(*KEY, stores=pipe.ports.stores)
    assert (found.in_flight, found.waiting) == (0, 0)
    return limits


def mean(limits: list[tuple[float, int]], begin: float, end: float = math.inf) -> float:
    """The mean limit from one second to another."""
    found = [limit for second, limit in limits if begin <= second < end]
    return sum(found) / len(found)


# --- AIMD -------------------------------------------------------------------------------------


async def test_aimd_finds_a_small_capacity() -> None:
    """Within a fifth, from above, and it uses what there is."""
    await finds(8, seconds=250)


@ONE_LOOP
@pytest.mark.parametrize(("capacity", "seconds"), [(35, 250), (100, 180)])
async def test_aimd_finds_the_capacity(capacity: int, seconds: float) -> None:
    """Within a fifth, from below, and it uses what there is."""
    await finds(capacity, seconds=seconds)


async def finds(capacity: int, *, seconds: float) -> None:
    """AIMD keeps near a capacity from the hundredth second on."""
    provider = Provider(capacity, seconds=4, throttles=True)
    layer = Concurrency(adaptive="aimd", max_waiting=1000)
    limits = await drive(layer, provider, workers=130, seconds=seconds)
    late = [limit for second, limit in limits if second >= 100]
    assert all(0.8 * capacity <= limit <= 1.2 * capacity for limit in late)
    assert provider.answered >= 0.8 * capacity * seconds / 4
    assert provider.throttled <= 0.25 * provider.answered


@ONE_LOOP
async def test_aimd_follows_a_capacity_that_changes() -> None:
    """Down within seconds, up by one for each round trip."""
    provider = Provider(30, seconds=2, throttles=True)
    layer = Concurrency(adaptive="aimd", max_waiting=1000)
    events = {100: lambda: setattr(provider, "capacity", 10)}
    events[150] = lambda: setattr(provider, "capacity", 30)
    limits = await drive(layer, provider, workers=45, seconds=260, events=events)
    assert mean(limits, 50, 100) == pytest.approx(30, rel=0.2)
    assert mean(limits, 120, 150) == pytest.approx(10, rel=0.2)
    assert mean(limits, 210) == pytest.approx(30, rel=0.2)


@ONE_LOOP
async def test_two_processes_share_a_capacity() -> None:
    """Each with a limit of its own; together they keep within a fifth, and both get a share."""
    provider = Provider(40, seconds=2, throttles=True)
    layer = Concurrency(adaptive="aimd", max_waiting=1000)
    found: list[list[tuple[float, int]]] = []

    async def process() -> None:
        found.append(await drive(layer, provider, workers=50, seconds=240))

    async with anyio.create_task_group() as group:
        group.start_soon(process)
        group.start_soon(process)
    first, second = (mean(limits, 150) for limits in found)
    assert first + second == pytest.approx(40, rel=0.2)
    assert min(first, second) >= 10


# --- gradient ---------------------------------------------------------------------------------


async def test_gradient_grows_while_first_events_come_as_soon_as_ever() -> None:
    """To the most that it may become."""
    provider = Provider(500, seconds=1, throttles=False)
    layer = Concurrency(adaptive="gradient", max_limit=40)
    limits = await drive(layer, provider, workers=60, seconds=50)
    assert limits[-1][1] == 40


@ONE_LOOP
async def test_gradient_reacts_to_rising_times_without_any_throttle() -> None:
    """The provider falls to a third of what it could do; the limit follows within a minute."""
    provider = Provider(60, seconds=2, throttles=False)
    layer = Concurrency(adaptive="gradient", max_limit=60, max_waiting=1000)
    events = {100: lambda: setattr(provider, "capacity", 20)}
    limits = await drive(layer, provider, workers=80, seconds=180, events=events)
    assert mean(limits, 60, 100) >= 50
    assert mean(limits, 130, 180) <= 0.75 * mean(limits, 60, 100)


@ONE_LOOP
async def test_gradient_knows_throttles_as_well() -> None:
    """A provider that throttles instead of queueing is not asked for ever more."""
    provider = Provider(30, seconds=2, throttles=True)
    layer = Concurrency(adaptive="gradient", max_waiting=1000)
    limits = await drive(layer, provider, workers=60, seconds=200)
    assert mean(limits, 100) == pytest.approx(30, rel=0.25)


async def test_gradient_takes_the_time_to_the_first_event_not_the_whole() -> None:
    """Longer answers are no sign of anything."""
    lengths = [1.0]

    def answer(_: ChatRequest) -> Any:
        return ScriptedAnswer(["one", *[" more"] * 5, Finish("stop")], delay=0.5, gap=lengths[0])

    layer = Concurrency(30, adaptive="gradient")
    pipe = Pipeline(
        [layer], Scripted([answer], repeat=True, name="provider"), ports=virtual_ports()
    )

    async def work() -> None:
        while True:
            async with pipe.stream(ASK) as response:
                await response.collect()

    async with anyio.create_task_group() as group:
        for _ in range(60):
            group.start_soon(work)
        await anyio.sleep(100)
        before = (await layer.gauge(*KEY, stores=pipe.ports.stores)).limit
        lengths[0] = 1.4  # the first word comes a little later, the last one much
        await anyio.sleep(100)
        after = (await layer.gauge(*KEY, stores=pipe.ports.stores)).limit
        assert 30 < before <= after
        group.cancel_scope.cancel()


# --- what counts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "throttle"),
    [
        (RateLimitError("x", status=429), True),
        (OverloadedError("x", status=529), True),
        (OverloadedError("x", status=503), True),
        (ProviderError("x", status=429), True),
        (QuotaError("x", status=429), False),
        (ServerError("x", status=500), False),
        (LimitedError("x"), False),
        (ConnectionLostError("x"), False),
        (TargetsFailedError("x"), False),
        (ZeroDivisionError(), False),
        (None, False),
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'status', '')}".strip(),
)
def test_only_the_providers_throttles_lower_the_limit(error: Any, throttle: bool) -> None:
    """Not an empty account, nor what this process refused itself, nor a failure."""
    assert is_throttle(error) is throttle


async def test_the_trace_says_that_the_limit_was_lowered() -> None:
    """To what, in the call that taught it."""
    layer = Concurrency(20, adaptive="aimd")
    notes: list[Any] = []

    async def keep(request: Any, call_next: Any) -> Any:
        try:
            return await call_next(request)
        finally:
            notes.extend(request.context.trace.notes)

    script = Scripted([RateLimitError("x", status=429), "ok"], name="provider")
    pipe = Pipeline([keep, layer], script, ports=virtual_ports())
    with pytest.raises(RateLimitError):
        await pipe.run(ASK)
    (note,) = notes
    assert (note.layer, note.name) == ("concurrency", "concurrency.lowered")
    assert note.fields == {"limit": 18}


@pytest.mark.parametrize("adaptive", ["aimd", "gradient"])
async def test_cancellation_and_failures_teach_nothing(adaptive: Any) -> None:
    """They say nothing about what the provider can do."""
    layer = Concurrency(2, adaptive=adaptive)

    async def fails(error: LamellaError | None) -> None:
        answer: Any = [error] if error is not None else [math.inf]
        provider = Scripted([answer], repeat=True, name="provider", delay=0.1)
        pipe = Pipeline([layer], provider, ports=ports)
        for _ in range(30):
            with anyio.move_on_after(1):
                try:
                    await pipe.run(ASK)
                except LamellaError:
                    continue

    ports = virtual_ports()
    await fails(None)
    await fails(ServerError("x", status=500))
    await fails(ConnectionLostError("x"))
    assert (await layer.gauge(*KEY, stores=ports.stores)).limit == 2
