"""Concurrency: no more attempts in flight than may be, and no place lost, however they end."""

from __future__ import annotations

import gc
import pickle
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
    Finish,
    LimitedError,
    Outcome,
    Pipeline,
    Ports,
    RateLimitError,
    Request,
)
from lamella.testing import Scripted, each_step, virtual_ports
from lamella_middlewares.concurrency import Concurrency, Gauge
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.retry import Retry

pytestmark = pytest.mark.anyio

KINDS = (None, "aimd", "gradient")

KEY = ("scripted", "m")


def limited(limit: int, adaptive: Any = None, **options: Any) -> Concurrency:
    """The layer with a limit that stays: what holds of waiting holds of all kinds."""
    if adaptive is not None:
        options |= {"adaptive": adaptive, "min_limit": limit, "max_limit": limit}
    return Concurrency(limit, **options)


def ask(
    text: str = "hello", *, model: str = "m", tenant: str | None = None, priority: int = 0
) -> ChatRequest:
    """A request of somebody's."""
    return ChatRequest.of(text, model=model, context=Context(tenant=tenant, priority=priority))


def slow(seconds: float = 10.0, name: str = "scripted") -> Scripted:
    """A provider that takes so long for each answer."""
    return Scripted(["an answer"], repeat=True, delay=seconds, name=name)


def pipeline(layers: list[Any], transport: Any, *, ports: Ports | None = None) -> Pipeline:
    """A pipeline with a clock and stores of its own."""
    return Pipeline(layers, transport, ports=ports or virtual_ports())


async def answers(pipe: Pipeline, requests: list[ChatRequest]) -> list[ChatResponse]:
    """The answers to requests that are made at once, all of them good."""
    found = await pipe.run_many(requests)
    good = [one for one in found if isinstance(one, ChatResponse)]
    assert len(good) == len(requests)
    return good


async def gauge(layer: Concurrency, pipe: Pipeline, *key: str) -> Gauge:
    """How full a limit is."""
    return await layer.gauge(*(key or KEY), stores=pipe.ports.stores)


# --- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 0},
        {"limit": 2.5},
        {"limit": True},
        {"adaptive": "vegas"},
        {"min_limit": 0, "adaptive": "aimd"},
        {"max_limit": "many", "adaptive": "aimd"},
        {"key": "colour"},
        {"key": ()},
        {"key": ("model", 3)},
        {"key": 3},
        {"max_waiting": -1},
        {"max_wait": -0.1},
        {"weights": {"acme": 0}},
        {"weights": ["acme"]},
        {"ttl": 0},
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused_at_once(options: dict[str, Any]) -> None:
    """The message names the layer, the option and what to give."""
    with pytest.raises(ConfigurationError, match=rf"Concurrency\({next(iter(options))}=.*give"):
        Concurrency(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"min_limit": 3},
        {"max_limit": 30},
        {"adaptive": "aimd", "limit": 5, "min_limit": 6},
        {"adaptive": "aimd", "limit": 5, "max_limit": 4},
        {"adaptive": "gradient", "min_limit": 9, "max_limit": 8},
    ],
    ids=str,
)
def test_bounds_belong_to_an_adaptive_limit_and_lie_around_it(options: dict[str, Any]) -> None:
    """A fixed one has none."""
    with pytest.raises(ConfigurationError, match="limit"):
        Concurrency(**options)


async def test_an_async_key_is_refused() -> None:
    """It is asked on every call, in the middle of a decision."""

    async def key(request: Request[Any]) -> str:
        raise AssertionError

    with pytest.raises(ConfigurationError, match="async"):
        Concurrency(key=key)


def test_the_layer_can_be_pickled() -> None:
    """It travels to the workers of a batch."""
    for layer in (Concurrency(5), Concurrency(5, key=("tenant", "model"), adaptive="aimd")):
        copy = pickle.loads(pickle.dumps(layer))
        assert repr(copy) == repr(layer)


# --- the limit --------------------------------------------------------------------------------


@pytest.mark.parametrize("adaptive", KINDS)
@pytest.mark.parametrize("limit", [1, 3])
async def test_no_more_are_in_flight_than_may_be(adaptive: Any, limit: int) -> None:
    """The others wait for their turn, and all are answered."""
    most = now = 0

    async def answer(_: ChatRequest) -> Any:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await anyio.sleep(1)
        now -= 1
        return "an answer"

    layer = limited(limit, adaptive)
    pipe = pipeline([layer], Scripted([answer], repeat=True))
    found = await answers(pipe, [ask()] * 10)
    assert most == limit
    assert all(response.text == "an answer" for response in found)
    assert await gauge(layer, pipe) == Gauge(limit, 0, 0)


@pytest.mark.parametrize("adaptive", KINDS)
async def test_each_provider_and_model_has_a_limit_of_its_own(adaptive: Any) -> None:
    """By default; pipelines of a process share it."""
    ports, layer = virtual_ports(), limited(1, adaptive, max_waiting=0)
    first, second = (pipeline([layer], slow(), ports=ports) for _ in range(2))
    other = pipeline([layer], slow(name="another"), ports=ports)
    async with anyio.create_task_group() as group:
        group.start_soon(first.run, ask())
        await anyio.sleep(1)
        with pytest.raises(LimitedError):
            await second.run(ask())
        group.start_soon(other.run, ask())
        group.start_soon(second.run, ask(model="n"))
        await anyio.sleep(1)
        for key in (KEY, ("another", "m"), ("scripted", "n")):
            assert (await gauge(layer, first, *key)).in_flight == 1


@pytest.mark.parametrize("adaptive", KINDS)
async def test_a_limit_may_be_for_anything(adaptive: Any) -> None:
    """A tenant's calls over all providers, or whatever a function says."""
    for key in ("tenant", lambda request: request.context.tenant or ""):
        layer = limited(1, adaptive, key=key, max_waiting=0, phase="govern")
        pipe = pipeline([layer], slow())
        async with anyio.create_task_group() as group:
            group.start_soon(pipe.run, ask(tenant="a"))
            await anyio.sleep(1)
            group.start_soon(pipe.run, ask(tenant="b", model="n"))
            with pytest.raises(LimitedError):
                await pipe.run(ask(tenant="a", model="n"))
        assert (await gauge(layer, pipe, "a")).in_flight == 0


async def test_a_key_that_is_no_text_says_so() -> None:
    """The message names the option and what it gave."""
    layer = Concurrency(key=lambda _: 3)
    with pytest.raises(ConfigurationError, match=r"key=\.\.\.\) returned int"):
        await pipeline([layer], slow()).run(ask())


@pytest.mark.parametrize("adaptive", KINDS)
async def test_any_operation_takes_a_place(adaptive: Any) -> None:
    """Embeddings as well as chat."""
    layer = limited(1, adaptive)
    pipe = pipeline([layer], Scripted([EmbeddingResponse.of([[1.0]])], delay=1))
    async with anyio.create_task_group() as group:
        group.start_soon(pipe.run, EmbeddingRequest.of("x", model="m"))
        await anyio.sleep(0.5)
        assert (await gauge(layer, pipe)).in_flight == 1


@pytest.mark.parametrize("adaptive", KINDS)
async def test_a_wait_between_tries_holds_no_place(adaptive: Any) -> None:
    """Inside Retry, each try takes its own."""
    layer = limited(1, adaptive)
    flaky = Scripted([RateLimitError("x", retry_after=20), "ok", "ok"])
    pipe = pipeline([Retry(), layer], flaky)
    async with anyio.create_task_group() as group:
        group.start_soon(pipe.run, ask())
        await anyio.sleep(1)
        assert (await gauge(layer, pipe)).in_flight == 0
        assert (await pipe.run(ask())).text == "ok"
        assert pipe.ports.monotonic() < 2


# --- waiting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("adaptive", KINDS)
async def test_who_finds_no_room_may_be_refused_at_once(adaptive: Any) -> None:
    """Nothing is sent, and another target may be tried."""
    for options in ({"max_waiting": 0}, {"max_wait": 0}):
        layer = limited(1, adaptive, **options)
        pipe = pipeline([layer], slow())
        async with anyio.create_task_group() as group:
            group.start_soon(pipe.run, ask())
            await anyio.sleep(1)
            began = pipe.ports.monotonic()
            with pytest.raises(LimitedError) as caught:
                await pipe.run(ask())
            assert pipe.ports.monotonic() == began
            error = caught.value
            assert (error.code, error.layer) == ("concurrency", "concurrency")
            assert error.outcome is Outcome.NOT_SENT
            assert error.elsewhere
            assert not error.attempts


@pytest.mark.parametrize("adaptive", KINDS)
async def test_who_would_wait_too_long_is_refused_at_once(adaptive: Any) -> None:
    """By the time for which places have been held lately; the error says when there is room."""
    layer = limited(2, adaptive)
    patient = pipeline([layer], slow(10))
    pipe = pipeline([Deadline(12), layer], slow(10), ports=patient.ports)
    await patient.run_many([ask()] * 2)
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(patient.run, ask())
        await anyio.sleep(1)
        assert await gauge(layer, pipe) == Gauge(2, 2, 2)
        with pytest.raises(LimitedError) as caught:
            await pipe.run(ask())
        assert pipe.ports.monotonic() == 11
        assert caught.value.retry_after == pytest.approx(15, rel=0.1)


@pytest.mark.parametrize("adaptive", KINDS)
async def test_who_has_waited_as_long_as_it_may_goes(adaptive: Any) -> None:
    """Where nobody could know it before."""
    layer = limited(1, adaptive, max_wait=3)
    pipe = pipeline([layer], slow(10))
    async with anyio.create_task_group() as group:
        group.start_soon(pipe.run, ask())
        await anyio.sleep(1)
        with pytest.raises(LimitedError, match="max_wait"):
            await pipe.run(ask())
        assert pipe.ports.monotonic() == pytest.approx(4, abs=0.01)


@pytest.mark.parametrize("adaptive", KINDS)
async def test_a_guess_that_allowed_the_wait_does_not_end_it_later(adaptive: Any) -> None:
    """Places were held for 5 s, this one for 6: with 4 s left of 7 it is still worth waiting."""
    layer = limited(1, adaptive)
    await (quick := pipeline([layer], slow(5))).run(ask())
    slower = pipeline([layer], slow(6), ports=quick.ports)
    hurried = pipeline([Deadline(7), layer], slow(0.5), ports=quick.ports)
    async with anyio.create_task_group() as group:
        group.start_soon(slower.run, ask())
        await anyio.sleep(0.01)
        assert (await hurried.run(ask())).text == "an answer"


@pytest.mark.parametrize("adaptive", KINDS)
async def test_each_layer_waits_by_its_own_terms(adaptive: Any) -> None:
    """Also where it shares a limit with another."""
    ports = virtual_ports()
    patient = pipeline([limited(1, adaptive)], slow(), ports=ports)
    hurried = pipeline([limited(1, adaptive, max_wait=2)], slow(), ports=ports)
    async with anyio.create_task_group() as group:
        group.start_soon(patient.run, ask())
        await anyio.sleep(1)
        group.start_soon(patient.run, ask())
        with pytest.raises(LimitedError):
            await hurried.run(ask())
        assert ports.monotonic() == pytest.approx(3, abs=0.01)


@pytest.mark.parametrize("adaptive", KINDS)
async def test_deadline_and_closing_end_the_wait(adaptive: Any) -> None:
    """With their own errors."""
    layer = limited(1, adaptive)
    patient = pipeline([layer], slow(100))
    hurried = pipeline([Deadline(3), layer], slow(), ports=patient.ports)
    closed = pipeline([layer], slow(), ports=patient.ports)
    async with anyio.create_task_group() as group:
        group.start_soon(patient.run, ask())
        await anyio.sleep(1)
        with pytest.raises(DeadlineExceeded):
            await hurried.run(ask())

        async def wait() -> None:
            with pytest.raises(ClosedError):
                await closed.run(ask())

        group.start_soon(wait)
        await anyio.sleep(1)
        await closed.aclose()
        assert await gauge(layer, patient) == Gauge(1, 1, 0)


@pytest.mark.parametrize("adaptive", KINDS)
async def test_a_flooding_tenant_does_not_starve_a_quiet_one(adaptive: Any) -> None:
    """It goes round between tenants, by their weights; what matters more goes first."""
    layer = limited(1, adaptive, weights={"heavy": 2})
    served: list[str] = []

    def answer(request: ChatRequest) -> str:
        served.append(request.context.tenant or "")
        return "ok"

    pipe = pipeline([layer], Scripted([answer], repeat=True, delay=1))
    async with anyio.create_task_group() as group:
        for tenant in ["first", *["loud"] * 30, *["heavy"] * 4, "quiet", "quiet"]:
            group.start_soon(pipe.run, ask(tenant=tenant))
            await anyio.sleep(0.001)
        group.start_soon(pipe.run, ask(tenant="vip", priority=1))
    assert served.index("vip") <= 2
    assert served.index("quiet") <= 6
    assert served[:10].count("heavy") >= 3
    assert len(served) == 38


@pytest.mark.parametrize("adaptive", KINDS)
async def test_the_trace_says_how_long_it_waited(adaptive: Any) -> None:
    """Only of those that did."""
    pipe = pipeline([limited(1, adaptive)], slow(10))
    first, second = await answers(pipe, [ask()] * 2)
    assert [note.name for note in first.trace.notes] == []
    (note,) = second.trace.notes
    assert (note.layer, note.name) == ("concurrency", "concurrency.waited")
    assert note.fields["seconds"] == pytest.approx(10)


# --- one call twice ---------------------------------------------------------------------------


@pytest.mark.parametrize("adaptive", KINDS)
async def test_a_nested_pipeline_takes_part_in_the_attempts_place(adaptive: Any) -> None:
    """The attempt that holds a place under a key passes the same key further in."""
    layer = limited(1, adaptive, key="tenant")
    ports = virtual_ports()
    inner = pipeline([layer], slow(1), ports=ports)
    outer = pipeline([layer], inner, ports=ports)
    assert (await outer.run(ask(tenant="a"))).text == "an answer"
    assert (await gauge(layer, outer, "a")).in_flight == 0


@pytest.mark.parametrize("adaptive", KINDS)
@pytest.mark.parametrize("bound", ["deadline", "max_wait"])
async def test_a_child_that_waits_for_its_parents_place_does_not_hang(
    adaptive: Any, bound: str
) -> None:
    """It counts as any attempt, so its wait ends with the deadline or `max_wait`, not never."""
    layer = limited(1, adaptive, **({"max_wait": 30} if bound == "max_wait" else {}))

    async def judged(request: Request[Any], call_next: Any) -> Any:
        response = await call_next(request)
        with pytest.raises((LimitedError, DeadlineExceeded)):
            await call_next(request.child(ask("is it good?"), purpose="judge"))
        return response

    layers = [judged, layer] if bound == "max_wait" else [Deadline(30), judged, layer]
    pipe = pipeline(layers, Scripted([["one", Finish("stop")]], repeat=True))
    async with pipe.stream(ask()) as response:
        assert pipe.ports.monotonic() == pytest.approx(30, abs=0.01)
        await response.aclose()
    assert (await gauge(layer, pipe)).in_flight == 0


@pytest.mark.parametrize("adaptive", KINDS)
async def test_work_that_outlives_its_place_takes_one_of_its_own(adaptive: Any) -> None:
    """Detached work shares the place of the attempt that began it only while that has it."""
    layer = limited(1, adaptive, key="tenant")
    ports = virtual_ports()
    inner = pipeline([layer], slow(5), ports=ports)
    seen: list[int] = []

    async def refreshing(request: Request[Any], call_next: Any) -> Any:
        fresh = request.detach("refresh")

        async def work() -> None:
            await anyio.sleep(10)
            async with anyio.create_task_group() as group:
                group.start_soon(inner, fresh)
                await anyio.sleep(1)
                seen.append((await layer.gauge("a", stores=ports.stores)).in_flight)

        request.context.background.spawn(work)
        return await call_next(request)

    outer = pipeline([layer, refreshing], slow(1), ports=ports)
    await outer.run(ask(tenant="a"))
    await anyio.sleep(20)
    assert seen == [1]
    assert (await layer.gauge("a", stores=ports.stores)).in_flight == 0


@pytest.mark.parametrize("adaptive", KINDS)
async def test_keys_of_other_parts_and_other_limits_never_meet(adaptive: Any) -> None:
    """A tenant called as a model is, and a narrower limit further in."""
    ports = virtual_ports()
    by_tenant, by_model = limited(1, adaptive, key="tenant"), limited(1, adaptive, key="model")
    narrow, wide = limited(1, adaptive), limited(5, adaptive)
    one = pipeline([by_tenant, by_model, wide, narrow], slow(), ports=ports)
    async with anyio.create_task_group() as group:
        group.start_soon(one.run, ask(tenant="m", model="n"))
        await anyio.sleep(1)
        assert (await gauge(by_tenant, one, "m")).in_flight == 1
        assert (await gauge(by_model, one, "m")).in_flight == 0
        assert (await gauge(by_model, one, "n")).in_flight == 1
        assert (await gauge(wide, one, "scripted", "n")).in_flight == 1
        assert (await gauge(narrow, one, "scripted", "n")).in_flight == 1


# --- nothing is left --------------------------------------------------------------------------


@pytest.mark.parametrize("adaptive", KINDS)
async def test_after_a_hundred_abandoned_streams_none_is_in_flight(adaptive: Any) -> None:
    """However they were abandoned: closed, cancelled, left, failed, raised in."""
    layer, transport = limited(7, adaptive), capricious()
    pipe = pipeline([layer], transport)
    async with anyio.create_task_group() as group:
        for number in range(105):
            group.start_soon(abandon, pipe, WAYS[number % len(WAYS)])
    await anyio.sleep(1)
    assert await gauge(layer, pipe) == Gauge(7, 0, 0)
    assert transport.open_sources == 0


@pytest.mark.parametrize("adaptive", KINDS)
async def test_a_stream_holds_its_place_to_its_end(adaptive: Any) -> None:
    """Also while its consumer takes its time."""
    layer = limited(1, adaptive, max_waiting=0)
    pipe = pipeline([layer], capricious())
    async with pipe.stream(ask()) as response:
        async for _ in response:
            await anyio.sleep(100)
            if response.open:
                assert (await gauge(layer, pipe)).in_flight == 1
                with pytest.raises(LimitedError):
                    await pipe.run(ask())
    assert (await gauge(layer, pipe)).in_flight == 0


@pytest.mark.parametrize("adaptive", KINDS)
async def test_a_dropped_answer_gives_its_place_back(adaptive: Any) -> None:
    """A layer that throws an open answer away keeps nobody out."""
    layer = limited(1, adaptive)

    async def dropping(request: Request[Any], call_next: Any) -> Any:
        await call_next(request)
        gc.collect()
        await anyio.sleep(1)
        found = await layer.gauge(*KEY, stores=request.context.ports.stores)
        assert found.in_flight == 0
        return request.answer([])

    pipe = pipeline([dropping, layer], slow(1))
    async with pipe.stream(ask()):
        pass


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("adaptive", KINDS)
def test_cancelled_at_any_step_it_leaves_nothing(adaptive: Any, stream: bool, backend: str) -> None:
    """Waiting, being let in and being answered: none is in flight, and the next ones get in."""

    def make() -> tuple[Any, Any]:
        layer = limited(1, adaptive)
        pipe = pipeline([layer], slow(1))

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
            assert await gauge(layer, pipe) == Gauge(1, 0, 0)
            await call()

        return scenario, check

    assert each_step(make, backend=backend, again=(1, 2)) > 3
