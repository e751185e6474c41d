"""SingleFlight under attack: cancelled at each step, on several loops, by chance."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import anyio
import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import (
    ChatRequest,
    ChatResponse,
    Context,
    Finish,
    Handler,
    LamellaError,
    Money,
    Outcome,
    Pipeline,
    Ports,
    Request,
    ServerError,
    Stores,
    Trace,
    Usage,
    UsageReport,
)
from lamella._memory_stores import memory_stores
from lamella.testing import Item, Scripted, each_step, run_virtual, virtual_ports
from lamella_middlewares.cost import Cost
from lamella_middlewares.single_flight import SingleFlight

ASK = ChatRequest.of("Is it up?", model="m")
WORDS = ("It ", "is ", "up ", "and ", "well.")
TEXT = "".join(WORDS)
PRICES = {"m": {"input": "0", "output": "1000000"}}


def answer(gap: float = 0.1) -> list[Item]:
    """A good answer, a word at a time."""
    spoken: list[Item] = [item for word in WORDS for item in (word, gap)]
    return [*spoken, UsageReport(Usage(text_output=5)), Finish("stop")]


class Watched:
    """A stack whose callers' traces and upstream calls are kept."""

    def __init__(self, *script: Any, delay: float = 0.1) -> None:
        self.traces: list[Trace] = []
        self.transport = Scripted(script or [answer()], repeat=True, delay=delay)
        layers: list[Any] = [self._keep, SingleFlight(read_ahead=500), Cost(PRICES)]
        self.pipeline = Pipeline(layers, self.transport, ports=virtual_ports())

    async def _keep(self, request: Any, call_next: Handler) -> Any:
        self.traces.append(request.context.trace)
        return await call_next(request)

    async def settled(self) -> None:
        """Check that nothing is left, and that each upstream call is paid for by one caller."""
        await anyio.sleep(0.01)
        assert self.transport.open_sources == 0
        assert self.pipeline.background.names == ()
        assert (await self.pipeline.health()).running == 0
        flights = {request.context.trace for request in self.transport.requests}
        for flight in flights:
            assert flight.finished
            assert all(attempt.outcome is not None for attempt in flight.attempts)
        paid = [flight for trace in self.traces for flight in trace.adopted]
        assert set(paid) >= flights
        assert len(paid) == len(set(paid))
        notes = [note for trace in (*flights, *self.traces) for note in trace.notes]
        assert not any(note.name == "leak" for note in notes)
        costs = [trace.cost or Money(0) for trace in self.traces]
        known = [flight.cost or Money(0) for flight in flights]
        assert sum(cost.nano for cost in costs) == sum(cost.nano for cost in known)


@pytest.mark.parametrize(
    ("backend", "by_task"), [("asyncio", False), ("asyncio", True), ("trio", False)]
)
@pytest.mark.parametrize("script", [(answer(),), (ServerError("x", status=500),)])
@pytest.mark.parametrize("stream", [False, True])
def test_cancelled_at_each_step_the_others_get_what_there_is(
    backend: str, by_task: bool, script: Any, stream: bool
) -> None:
    """Whichever step the first is cancelled at, nothing is left and nobody else is hurt."""

    def make() -> tuple[Any, Any]:
        world = Watched(*script)
        others: list[Any] = []

        async def other(delay: float) -> None:
            await anyio.sleep(delay)
            others.append(await _outcome(world.pipeline, stream=stream))

        async def first() -> None:
            await _outcome(world.pipeline, stream=stream)

        async def check() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(other, 0.0)
                group.start_soon(other, 0.15)
            expected = {TEXT} if script[0] == answer() else {ServerError, TEXT}
            assert set(others) <= expected
            await world.settled()
            await world.pipeline.aclose()

        return first, check

    assert each_step(make, backend=backend, again=(1, 2), by_task=by_task) >= 3


@pytest.mark.parametrize(
    ("backend", "by_task"), [("asyncio", False), ("asyncio", True), ("trio", False)]
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_follower_joins_before_the_cancellation(
    backend: str, by_task: bool, stream: bool
) -> None:
    """The same with another caller aboard all the time: it always gets the whole answer."""

    def make() -> tuple[Any, Any]:
        world = Watched()
        found: list[Any] = []
        done = anyio.Event()

        async def follow() -> None:
            found.append(await _outcome(world.pipeline, stream=stream))
            done.set()

        async def first() -> None:
            # The follower is nobody's child, so that it lives on.
            world.pipeline.background.spawn(follow)
            await _outcome(world.pipeline, stream=stream)

        async def check() -> None:
            if world.traces or world.pipeline.background.names:
                await done.wait()
                assert found == [TEXT]
                assert len(world.transport.requests) <= 2
            await world.settled()
            await world.pipeline.aclose()

        return first, check

    assert each_step(make, backend=backend, again=(1, 2), by_task=by_task) >= 3


async def _outcome(pipeline: Pipeline, *, stream: bool, request: Request[Any] = ASK) -> Any:
    """The text of an answer, or the class of its error."""
    try:
        if not stream:
            return (await pipeline.run(request)).text
        async with pipeline.stream(request) as response:
            await response.collect()
        return response.text
    except Exception as error:  # noqa: BLE001 - it is what is looked at
        return type(error)


# --- several loops -----------------------------------------------------------------------------


def test_loops_at_the_same_time_have_flights_of_their_own() -> None:
    """One pipeline on two asyncio loops and a trio loop: each loop shares among its own calls."""
    loops = ("asyncio", "trio", "asyncio")
    asked: list[str] = []
    started = threading.Barrier(len(loops))
    texts: list[str] = []

    async def transport(request: ChatRequest) -> ChatResponse:
        asked.append(request.context.call_id)
        await anyio.to_thread.run_sync(started.wait)
        return ChatResponse.of("up")

    stores: Stores = memory_stores()
    pipeline = Pipeline([SingleFlight()], transport, ports=Ports(stores=stores))

    async def many() -> None:
        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(one, number % 2 == 0)

    async def one(stream: bool) -> None:
        texts.append(await _outcome(pipeline, stream=stream))

    async def streams_first() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(one, True)
            await anyio.lowlevel.checkpoint()
            group.start_soon(many)

    threads = [
        threading.Thread(target=partial(anyio.run, streams_first, backend=loop)) for loop in loops
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(asked) == len(loops)
    assert texts == ["up"] * 51 * len(loops)


# --- by chance ---------------------------------------------------------------------------------


@attrs.frozen
class Caller:
    """One of several callers.

    Attributes:
        arrives: When it asks.
        stays: For how long it waits at most.
        stream: Whether it reads along.
        pace: How long it holds each event.
        reads: How many events it reads before it leaves.
        tenant: Whose it is.
    """

    arrives: float
    stays: float
    stream: bool
    pace: float
    reads: int
    tenant: str


CALLERS = st.builds(
    Caller,
    arrives=st.sampled_from([0.0, 0.05, 0.1, 0.15, 0.3, 0.55, 0.6, 0.7]),
    stays=st.sampled_from([0.0, 0.05, 0.1, 0.12, 0.3, 0.6, 99.0, 99.0, 99.0]),
    stream=st.booleans(),
    pace=st.sampled_from([0.0, 0.0, 0.05, 1.0]),
    reads=st.sampled_from([0, 1, 3, 99, 99, 99]),
    tenant=st.sampled_from(["a", "a", "a", "b"]),
)
SCRIPTS = st.lists(
    st.sampled_from(
        [answer(), answer(), answer(0.0), answer()[:5], ServerError("x", status=500), []]
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(deadline=None, max_examples=60)
@given(callers=st.lists(CALLERS, min_size=1, max_size=8), script=SCRIPTS)
def test_whoever_comes_and_goes_the_books_are_right(
    backend: str, callers: list[Caller], script: list[Any]
) -> None:
    """Each text is a prefix of one answer, each upstream call is paid for once, nothing is left."""
    run_virtual(_come_and_go, callers, script, backend=backend)


async def _come_and_go(callers: list[Caller], script: list[Any]) -> None:
    world = Watched(*script)

    broken: list[LamellaError] = []

    async def call(caller: Caller) -> None:
        await anyio.sleep(caller.arrives)
        request = ASK.evolve(context=Context(tenant=caller.tenant))
        with anyio.move_on_after(caller.stays):
            try:
                await _read(world.pipeline, caller, request)
            except LamellaError as error:
                broken.append(error)

    async with anyio.create_task_group() as group:
        for caller in callers:
            group.start_soon(call, caller)
    for error in broken:
        assert TEXT.startswith("" if error.partial is None else error.partial.text)
    await world.settled()
    await world.pipeline.aclose()


async def _read(pipeline: Pipeline, caller: Caller, request: Request[Any]) -> None:
    if not caller.stream:
        response = await pipeline.run(request)
        assert (response.text, response.outcome) == (TEXT, Outcome.COMPLETE)
        return
    async with pipeline.stream(request) as response:
        read = 0
        async for _ in response:
            read += 1
            assert TEXT.startswith(response.partial.text)
            if read >= caller.reads:
                return
            await anyio.sleep(caller.pace)
    assert response.text == TEXT
