"""LoadShed: what is too much goes early, the least important first; and nothing is left behind."""

from __future__ import annotations

import gc
from functools import partial
from typing import Any

import anyio
import pytest
from abandoned_streams import WAYS, abandon, capricious

from lamella import (
    ChatRequest,
    ChatResponse,
    ClosedError,
    ConfigurationError,
    Context,
    DeadlineExceeded,
    EmbeddingRequest,
    EmbeddingResponse,
    LimitedError,
    Outcome,
    Pipeline,
    Ports,
    Request,
)
from lamella.testing import Scripted, each_step, virtual_backend, virtual_ports
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.load_shed import Load, LoadShed

pytestmark = pytest.mark.anyio

BATCH, NORMAL, INTERACTIVE = -1, 0, 1
ASYNCIO = pytest.mark.parametrize("anyio_backend", [virtual_backend("asyncio")], ids=["asyncio"])
TRIO = pytest.mark.parametrize("anyio_backend", [virtual_backend("trio")], ids=["trio"])
"""Minutes of overload are simulated on one event loop each."""


def ask(text: str = "hello", *, tenant: str | None = None, priority: int = NORMAL) -> ChatRequest:
    """A request of somebody's."""
    return ChatRequest.of(text, model="m", context=Context(tenant=tenant, priority=priority))


def slow(seconds: float = 10.0) -> Scripted:
    """A provider that takes so long for each answer."""
    return Scripted(["an answer"], repeat=True, delay=seconds)


def pipeline(layers: list[Any], transport: Any, *, ports: Ports | None = None) -> Pipeline:
    """A pipeline with a clock and stores of its own."""
    return Pipeline(layers, transport, ports=ports or virtual_ports())


async def answers(pipe: Pipeline, requests: list[ChatRequest]) -> list[ChatResponse]:
    """The answers to requests that are made at once, all of them good."""
    found = await pipe.run_many(requests)
    good = [one for one in found if isinstance(one, ChatResponse)]
    assert len(good) == len(requests)
    return good


class Served:
    """Calls made at once, what became of each, and in which order they ended."""

    def __init__(self, pipe: Pipeline) -> None:
        self.pipe = pipe
        self.good: list[str] = []
        self.bad: list[str] = []
        self.errors: list[LimitedError] = []

    async def call(self, name: str, **who: Any) -> None:
        """Make one call."""
        try:
            await self.pipe.run(ask(name, **who))
        except LimitedError as error:
            self.bad.append(name)
            self.errors.append(error)
        else:
            self.good.append(name)


async def one_by_one(
    served: Served, *calls: tuple[str, dict[str, Any]], gap: float = 0.001
) -> None:
    """Start calls in order, and wait for them all."""
    async with anyio.create_task_group() as group:
        for name, who in calls:
            group.start_soon(partial(served.call, name, **who))
            await anyio.sleep(gap)


# --- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"max_in_flight": 0},
        {"max_in_flight": 1.5},
        {"max_waiting": -1},
        {"max_wait": -1},
        {"max_wait": float("nan")},
        {"target": 0},
        {"interval": 0},
        {"interval": None},
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused_at_once(options: dict[str, Any]) -> None:
    """The message names the layer, the option and what to give."""
    with pytest.raises(ConfigurationError, match=rf"LoadShed\({next(iter(options))}=.*give"):
        LoadShed(**options)


# --- places -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3])
async def test_no_more_are_worked_on_than_may(size: int) -> None:
    """The others wait for their turn."""
    most = now = 0

    async def count(request: Request[Any], call_next: Any) -> Any:
        nonlocal most, now
        now += 1
        most = max(most, now)
        try:
            return await call_next(request)
        finally:
            now -= 1

    pipe = pipeline([LoadShed(size, max_wait=None, target=None), count], slow(1))
    found = await answers(pipe, [ask()] * 10)
    assert most == size
    assert all(answer.text == "an answer" for answer in found)
    assert pipe.ports.monotonic() >= 10 / size


async def test_pipelines_of_a_process_share_the_room() -> None:
    """A pipeline made for each request is bounded too; another namespace counts apart."""
    ports, shed = virtual_ports(), LoadShed(1, max_waiting=0)
    first, second = (pipeline([shed], slow(), ports=ports) for _ in range(2))
    other = pipeline([LoadShed(1, max_waiting=0, namespace="other")], slow(), ports=ports)
    async with anyio.create_task_group() as group:
        group.start_soon(first.run, ask())
        await anyio.sleep(1)
        with pytest.raises(LimitedError):
            await second.run(ask())
        assert (await other.run(ask())).text == "an answer"


async def test_a_full_room_says_when_to_come_back() -> None:
    """The estimate is the time for which places are held, over their number."""
    shed = LoadShed(2, max_waiting=0)
    pipe = pipeline([shed], slow(10))
    await pipe.run_many([ask()] * 2)
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(pipe.run, ask())
        await anyio.sleep(1)
        assert shed.load(pipe.ports.stores) == Load(2, 2, 0, overloaded=False)
        with pytest.raises(LimitedError) as caught:
            await pipe.run(ask())
        error = caught.value
        assert error.code == "overloaded"
        assert error.layer == "load_shed"
        assert error.outcome is Outcome.NOT_SENT
        assert error.retry_after == pytest.approx(5, rel=0.01)
        assert not error.attempts


@pytest.mark.parametrize(
    ("layers", "max_wait"), [([Deadline(3)], None), ([], 3)], ids=["deadline", "max_wait"]
)
async def test_who_would_wait_too_long_is_refused_at_once(
    layers: list[Any], max_wait: float | None
) -> None:
    """By the estimate, for the deadline and for `max_wait` alike."""
    patient = pipeline([LoadShed(1, max_wait=None)], slow(2))
    pipe = pipeline([*layers, LoadShed(1, max_wait=max_wait)], slow(2), ports=patient.ports)
    await patient.run(ask())
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(patient.run, ask())
        await anyio.sleep(0.1)
        began = pipe.ports.monotonic()
        with pytest.raises(LimitedError) as caught:
            await pipe.run(ask())
        assert pipe.ports.monotonic() == began
        assert caught.value.retry_after == pytest.approx(4, rel=0.01)


async def test_who_has_waited_as_long_as_it_may_goes() -> None:
    """Where nobody could know it before."""
    pipe = pipeline([LoadShed(1, max_wait=3)], slow(10))
    async with anyio.create_task_group() as group:
        group.start_soon(pipe.run, ask())
        await anyio.sleep(1)
        with pytest.raises(LimitedError, match="max_wait"):
            await pipe.run(ask())
        assert pipe.ports.monotonic() == pytest.approx(4)


async def test_the_deadline_ends_the_wait() -> None:
    """Where no estimate foresaw it."""
    pipe = pipeline([Deadline(3), LoadShed(1, max_wait=None)], slow(10))
    lasting = pipeline([LoadShed(1, max_wait=None)], slow(10), ports=pipe.ports)
    async with anyio.create_task_group() as group:
        group.start_soon(lasting.run, ask())
        await anyio.sleep(1)
        with pytest.raises(DeadlineExceeded):
            await pipe.run(ask())


async def test_closing_ends_the_wait() -> None:
    """With `ClosedError`; the place of the running call goes to nobody."""
    shed = LoadShed(1)
    pipe = pipeline([shed], slow())
    other = pipeline([shed], slow(), ports=pipe.ports)
    async with anyio.create_task_group() as group:
        group.start_soon(other.run, ask())
        await anyio.sleep(0.1)

        async def wait() -> None:
            with pytest.raises(ClosedError):
                await pipe.run(ask())

        group.start_soon(wait)
        await anyio.sleep(0.1)
        await pipe.aclose()
        assert shed.load(pipe.ports.stores) == Load(1, 1, 0, overloaded=False)


async def test_the_trace_says_how_long_it_waited() -> None:
    """Only of those that did."""
    pipe = pipeline([LoadShed(1)], slow(10))
    first, second = await answers(pipe, [ask()] * 2)
    assert [note.name for note in first.trace.notes] == []
    (note,) = second.trace.notes
    assert (note.layer, note.name) == ("load_shed", "load_shed.waited")
    assert note.fields == {"seconds": pytest.approx(10)}


@pytest.mark.parametrize("stream", [False, True])
async def test_any_operation_takes_a_place(stream: bool) -> None:
    """Embeddings as well as chat."""
    shed = LoadShed(1)
    pipe = pipeline([shed], Scripted([EmbeddingResponse.of([[1.0]])]))
    request = EmbeddingRequest.of("x", model="m")
    if stream:
        async with pipe.stream(request) as response:
            await response.collect()
    else:
        await pipe.run(request)
    assert shed.load(pipe.ports.stores).in_flight == 0


# --- who goes first ---------------------------------------------------------------------------


async def test_batch_yields_to_interactive() -> None:
    """Whoever matters more goes first, in order of arrival within a priority."""
    served = Served(pipeline([LoadShed(1, target=None)], slow(1)))
    await one_by_one(
        served,
        ("running", {}),
        ("batch 1", {"priority": BATCH}),
        ("batch 2", {"priority": BATCH}),
        ("normal", {"priority": NORMAL}),
        ("person 1", {"priority": INTERACTIVE}),
        ("person 2", {"priority": INTERACTIVE}),
    )
    assert served.good == ["running", "person 1", "person 2", "normal", "batch 1", "batch 2"]


async def test_batch_does_not_starve() -> None:
    """Ten seconds of waiting weigh as much as a level of priority."""
    served = Served(pipeline([LoadShed(1, target=None, max_wait=None)], slow(1)))
    calls: list[tuple[str, dict[str, Any]]] = [("running", {}), ("batch", {"priority": BATCH})]
    calls += [(f"person {number}", {"priority": NORMAL}) for number in range(30)]
    await one_by_one(served, *calls, gap=0.5)
    assert 8 <= served.good.index("batch") <= 24
    assert len(served.good) == 32


async def test_when_the_line_is_full_the_newest_of_the_least_important_goes() -> None:
    """Also one that waits already; but nobody goes for one that matters no more."""
    served = Served(pipeline([LoadShed(1, max_waiting=2)], slow(1)))
    await one_by_one(
        served,
        ("running", {}),
        ("batch 1", {"priority": BATCH}),
        ("batch 2", {"priority": BATCH}),
        ("batch 3", {"priority": BATCH}),
        ("person", {"priority": INTERACTIVE}),
    )
    assert served.bad == ["batch 3", "batch 2"]
    assert served.good == ["running", "person", "batch 1"]
    assert all(error.code == "overloaded" for error in served.errors)


async def test_a_flooding_tenant_does_not_starve_a_quiet_one() -> None:
    """Between tenants it goes round, and a full line takes from the one that has the most in it."""
    served = Served(pipeline([LoadShed(1, max_waiting=50, max_wait=None, target=None)], slow(1)))
    calls: list[tuple[str, dict[str, Any]]] = [
        (f"flood {number}", {"tenant": "loud"}) for number in range(80)
    ]
    calls += [("quiet 1", {"tenant": "quiet"}), ("quiet 2", {"tenant": "quiet"})]
    await one_by_one(served, *calls, gap=0.0001)
    assert served.good.index("quiet 1") <= 2
    assert served.good.index("quiet 2") <= 4
    assert len(served.good) == 51


# --- overload ---------------------------------------------------------------------------------


async def test_a_burst_is_no_overload() -> None:
    """A queue that drains within the interval is served to its end, in order of arrival."""
    served = Served(pipeline([LoadShed(10, target=2, interval=20)], slow(1)))
    await one_by_one(served, *[(str(number), {}) for number in range(150)], gap=0.0001)
    assert not served.bad
    assert len(served.good) == 150


@ASYNCIO
async def test_in_a_lasting_overload_those_served_are_served_in_time() -> None:
    """Twice as much as can be done: what is served has waited about the target, not max_wait."""
    shed = LoadShed(10, max_waiting=1000, max_wait=60, target=2, interval=10)
    pipe = pipeline([shed], slow(1))
    waits: list[tuple[float, float]] = []
    shed_after: list[tuple[float, float]] = []

    async def call() -> None:
        began = pipe.ports.monotonic()
        try:
            await pipe.run(ask())
        except LimitedError:
            shed_after.append((began, pipe.ports.monotonic() - began))
        else:
            waits.append((began, pipe.ports.monotonic() - began - 1))

    async with anyio.create_task_group() as group:
        for _ in range(20 * 120):
            group.start_soon(call)
            await anyio.sleep(1 / 20)
    late = [wait for began, wait in waits if began > 30]
    assert len(late) >= 0.95 * 10 * (120 - 30)  # nothing of what can be done is lost
    assert sorted(late)[len(late) // 2] < 0.5
    assert max(late) <= 3.1
    assert max(after for began, after in shed_after if began > 30) <= 3.1
    load = shed.load(pipe.ports.stores)
    assert load == Load(10, 0, 0, overloaded=False)


@TRIO
async def test_in_an_overload_the_least_important_go() -> None:
    """Batch asks for twice of what there is, people for half: no person has to go."""
    shed = LoadShed(10, max_waiting=1000, max_wait=60, target=2, interval=10)
    served = Served(pipeline([shed], slow(1)))
    async with anyio.create_task_group() as group:
        for number in range(60 * 25):
            who = INTERACTIVE if number % 5 == 0 else BATCH
            name = "person" if who == INTERACTIVE else "batch"
            group.start_soon(partial(served.call, name, priority=who))
            await anyio.sleep(1 / 25)
    assert served.good.count("person") == 300
    assert served.bad.count("person") == 0
    assert served.bad.count("batch") > 500
    assert served.good.count("batch") > 200


async def test_after_an_overload_all_is_as_before() -> None:
    """Order of arrival again, and nobody has to go."""
    shed = LoadShed(2, max_wait=None, target=1, interval=5)
    pipe = pipeline([shed], slow(1))
    served = Served(pipe)
    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(served.call, str(number))
            await anyio.sleep(0.1)
        assert shed.load(pipe.ports.stores).overloaded
    assert served.bad
    assert not shed.load(pipe.ports.stores).overloaded
    after = Served(pipe)
    await one_by_one(after, *[(str(number), {}) for number in range(8)])
    assert after.good == [str(number) for number in range(8)]


async def test_without_a_target_nobody_goes_for_having_waited() -> None:
    """None switches the watch off."""
    shed = LoadShed(1, max_wait=None, target=None, interval=1)
    served = Served(pipeline([shed], slow(1)))
    await one_by_one(served, *[(str(number), {}) for number in range(60)], gap=0.0001)
    assert served.good == [str(number) for number in range(60)]


# --- one call, one place ----------------------------------------------------------------------


async def test_a_nested_pipeline_takes_part_in_its_calls_place() -> None:
    """With room for one call, a call that passes the layer twice is not in its own way."""
    shed = LoadShed(1, max_wait=None)
    ports = virtual_ports()
    inner = pipeline([shed], slow(1), ports=ports)
    outer = pipeline([shed], inner, ports=ports)
    assert (await outer.run(ask())).text == "an answer"
    assert shed.load(ports.stores).in_flight == 0


async def test_a_child_takes_part_in_its_calls_place() -> None:
    """A judge that is asked while the call's own answer is open, through the layer again."""
    shed = LoadShed(1, max_wait=None)
    seen: list[int] = []

    async def judged(request: Request[Any], call_next: Any) -> Any:
        response = await call_next(request)
        if request.stream:
            assert response.open
        await call_next(request.child(ask("is it good?"), purpose="judge"))
        seen.append(shed.load(request.context.ports.stores).in_flight)
        return response

    pipe = pipeline([judged, shed], slow(1))
    async with pipe.stream(ask()) as response:
        await response.collect()
    assert seen == [1]
    assert shed.load(pipe.ports.stores).in_flight == 0


async def test_detached_work_takes_part_in_its_parents_place() -> None:
    """As long as the parent has one: who waits for a flight of its own must not stand in its way.

    The place is given back when the last of them is done.
    """
    shed = LoadShed(1, max_wait=None)
    done: list[str] = []

    async def flight(request: Request[Any], call_next: Any) -> Any:
        fresh = request.detach("flight")

        async def work() -> None:
            grandchild = fresh.detach("refresh")
            await inner(grandchild)
            await inner(fresh)
            done.append("flight")

        request.context.background.spawn(work)
        return await call_next(request)

    ports = virtual_ports()
    inner = pipeline([shed], slow(5), ports=ports)
    pipe = pipeline([shed, flight], slow(1), ports=ports)
    await pipe.run(ask())
    assert shed.load(ports.stores).in_flight == 1
    await anyio.sleep(20)
    assert done == ["flight"]
    assert shed.load(ports.stores).in_flight == 0


# --- nothing is left --------------------------------------------------------------------------


async def test_after_a_hundred_abandoned_streams_nobody_is_inside() -> None:
    """However they were abandoned: closed, cancelled, left, failed, raised in."""
    shed = LoadShed(7, max_wait=None)
    transport = capricious()
    pipe = pipeline([shed], transport)
    async with anyio.create_task_group() as group:
        for number in range(105):
            group.start_soon(abandon, pipe, WAYS[number % len(WAYS)])
    await anyio.sleep(1)
    assert shed.load(pipe.ports.stores) == Load(7, 0, 0, overloaded=False)
    assert transport.open_sources == 0


async def test_a_dropped_answer_gives_its_place_back() -> None:
    """A layer that throws an open answer away keeps nobody out."""
    shed = LoadShed(1)

    async def dropping(request: Request[Any], call_next: Any) -> Any:
        await call_next(request)
        gc.collect()
        await anyio.sleep(1)
        assert shed.load(request.context.ports.stores).in_flight == 0
        return request.answer([])

    pipe = pipeline([dropping, shed], slow(1))
    async with pipe.stream(ask()):
        pass
    assert shed.load(pipe.ports.stores).in_flight == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("stream", [False, True])
def test_cancelled_at_any_step_it_leaves_nothing(backend: str, stream: bool) -> None:
    """Waiting, being let in and being worked on: nobody is inside, and the next ones get in."""

    def make() -> tuple[Any, Any]:
        shed = LoadShed(1, max_wait=None)
        pipe = pipeline([shed], slow(1))

        async def call() -> None:
            if stream:
                async with pipe.stream(ask()) as response:
                    await response.collect()
            else:
                await pipe.run(ask())

        async def scenario() -> None:
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(call)

        async def check() -> None:
            await anyio.sleep(1)
            assert shed.load(pipe.ports.stores) == Load(1, 0, 0, overloaded=False)
            await call()

        return scenario, check

    assert each_step(make, backend=backend, again=(1, 2)) > 3


async def test_a_waiter_that_is_cancelled_leaves_no_hole() -> None:
    """Those behind it move up."""
    served = Served(pipeline([LoadShed(1, target=None)], slow(1)))
    async with anyio.create_task_group() as group:
        group.start_soon(served.call, "running")
        await anyio.sleep(0.1)
        with anyio.move_on_after(0.5):
            async with anyio.create_task_group() as doomed:
                doomed.start_soon(served.call, "doomed 1")
                await anyio.sleep(0.01)
                doomed.start_soon(served.call, "doomed 2")
                await anyio.sleep(0.01)
                group.start_soon(served.call, "patient")
    assert served.good == ["running", "patient"]
