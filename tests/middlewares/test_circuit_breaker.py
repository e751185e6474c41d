"""CircuitBreaker: a provider that keeps failing is left alone, and found again by one probe."""

from __future__ import annotations

import logging
import re
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any

import anyio
import pytest

from lamella import (
    ChatRequest,
    CircuitOpenError,
    ConfigurationError,
    ConnectionLostError,
    Finish,
    FirstEventTimeout,
    InvalidRequestError,
    LamellaError,
    Pipeline,
    Ports,
    RateLimitError,
    ServerError,
    Target,
    TimedOutError,
    Trace,
    begin,
)
from lamella._loops import TrioLoop, current_loop
from lamella.testing import (
    Scripted,
    ScriptedAnswer,
    each_step,
    run_virtual,
    virtual_backend,
    virtual_ports,
)
from lamella.testing._conformance_calls import in_thread
from lamella_middlewares.circuit_breaker import CircuitBreaker, CircuitChange
from lamella_middlewares.hedge import Hedge
from lamella_middlewares.hold import Hold
from lamella_middlewares.retry import Retry
from lamella_middlewares.timeout import Timeout

pytestmark = pytest.mark.anyio


def plainly(value: object) -> str:
    """A parameter's name that is the same in every process: without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


ASK = ChatRequest.of("hello", model="m")
DOWN = ServerError("down", status=500)


def breaker(**options: Any) -> CircuitBreaker:
    """A breaker that judges by four calls."""
    return CircuitBreaker(**{"min_calls": 4, **options})


class Line:
    """A pipeline with a breaker, and a transport whose answers the test sets."""

    def __init__(self, *layers: Any, answer: Any = DOWN, ports: Ports | None = None) -> None:
        self.answer = answer
        self.transport = Scripted([lambda _: self.answer], repeat=True, name="acme")
        self.layers = layers or (breaker(),)
        self.pipeline = Pipeline(list(self.layers), self.transport, ports=ports or virtual_ports())
        self.traces: list[Trace] = []

    @property
    def sent(self) -> int:
        return len(self.transport.requests)

    async def ask(self, request: Any = ASK, *, stream: bool = False) -> Any:
        """What a call returns, or the error that it raises."""
        try:
            if not stream:
                return await self.pipeline.run(request)
            async with self.pipeline.stream(request) as response:
                return await response.collect()
        except LamellaError as error:
            return error

    async def fail(self, count: int = 4) -> None:
        for _ in range(count):
            assert isinstance(await self.ask(), ServerError)

    def state(self, model: str = "m") -> str:
        (layer,) = [one for one in self.layers if isinstance(one, CircuitBreaker)]
        states = {one.model: one.state for one in layer.states(self.pipeline.ports)}
        return states[model]


# --- opening ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_an_open_circuit_refuses_here(stream: bool) -> None:
    """Nothing is sent; the error says for how long, and that another target may do."""
    line = Line()
    for _ in range(4):
        await line.ask(stream=stream)
    error = await line.ask(stream=stream)
    assert isinstance(error, CircuitOpenError)
    assert line.sent == 4
    assert error.attempts == line.transport.requests[0].context.trace.attempts[:0]
    assert error.elsewhere
    assert not error.retryable
    assert error.retry_after is not None
    assert 5 <= error.retry_after <= 6
    assert (error.provider, error.layer, error.code) == ("acme", "circuit_breaker", "circuit_open")
    assert "'m' of 'acme'" in str(error)


async def test_retry_does_not_repeat_a_refusal() -> None:
    """Each failed try counts, and what the breaker refuses is raised at once."""
    line = Line(Retry(attempts=3, budget=None), breaker())
    assert isinstance(await line.ask(), ServerError)
    assert isinstance(await line.ask(), CircuitOpenError)
    assert line.sent == 4


async def test_an_answer_that_breaks_off_counts_at_its_end() -> None:
    """What was shown was good, and the stream is a failure all the same."""
    line = Line(answer=["one", ConnectionLostError("x")])
    for _ in range(4):
        assert isinstance(await line.ask(stream=True), ConnectionLostError)
    assert line.state() == "open"


async def test_a_consumer_who_leaves_says_nothing() -> None:
    """Neither a failure nor a success."""
    line = Line(answer="one two three")
    for _ in range(10):
        async with line.pipeline.stream(ASK) as response:
            await anext(aiter(response))
    (state,) = line.layers[0].states(line.pipeline.ports)
    assert (state.state, state.calls) == ("closed", 0)


async def test_the_callers_mistakes_do_not_open_it() -> None:
    """However many there are."""
    line = Line(answer=InvalidRequestError("x", status=400))
    for _ in range(20):
        await line.ask()
    assert line.state() == "closed"


@pytest.mark.parametrize(("option", "state"), [(False, "closed"), (True, "open")])
async def test_throttles_open_it_only_where_asked(option: bool, state: str) -> None:
    """By default a throttle is for Retry to wait out."""
    line = Line(breaker(count_throttles=option), answer=RateLimitError("x", retry_after=40))
    for _ in range(4):
        await line.ask()
    assert line.state() == state
    if option:
        assert (await line.ask()).retry_after == pytest.approx(40)


async def test_each_provider_and_model_has_its_own() -> None:
    """One model that is down leaves the other alone; so does one target."""
    line = Line()
    await line.fail()
    other = ASK.evolve(model="other")
    assert isinstance(await line.ask(other), ServerError)
    elsewhere = Scripted(["hello"], name="elsewhere")

    async def aimed(request: Any, call_next: Any) -> Any:
        return await call_next(request.aim(Target("elsewhere", elsewhere)))

    pipe = Pipeline([aimed, line.layers[0]], line.transport, ports=line.pipeline.ports)
    assert (await pipe.run(ASK)).text == "hello"


async def test_pipelines_share_by_name_and_numbers() -> None:
    """A pipeline per request has the circuits of the last one; another namespace has its own."""
    ports = virtual_ports()
    await Line(ports=ports).fail()
    assert isinstance(await Line(ports=ports).ask(), CircuitOpenError)
    apart = Line(breaker(namespace="mine"), ports=ports)
    assert isinstance(await apart.ask(), ServerError)
    assert isinstance(await Line(breaker(ratio=0.9), ports=ports).ask(), ServerError)
    nearly = breaker(window=30.000001)  # not the same numbers, though they print alike
    assert isinstance(await Line(nearly, ports=ports).ask(), ServerError)
    assert breaker(window=30, open_for=5).key == breaker().key


async def test_loops_and_threads_share() -> None:
    """What one loop has seen another knows."""
    ports = virtual_ports()
    await Line(ports=ports).fail()

    async def elsewhere() -> None:
        assert isinstance(await Line(ports=ports).ask(), CircuitOpenError)

    backend = "asyncio" if isinstance(current_loop(), TrioLoop) else "trio"
    in_thread(lambda: run_virtual(elsewhere, backend=backend))


# --- half open -------------------------------------------------------------------------------


async def test_one_probe_of_many_calls_goes_out() -> None:
    """Of fifty that come when the time has passed; when it succeeds all pass again."""
    line = Line()
    await line.fail()
    await anyio.sleep(6)
    line.answer = ScriptedAnswer(("back", Finish("stop")), delay=1)
    found: list[Any] = []

    async def ask() -> None:
        found.append(await line.ask())

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(ask)
    refused = [one for one in found if isinstance(one, CircuitOpenError)]
    assert line.sent == 5
    assert len(refused) == 49
    assert refused[0].code == "circuit_half_open"
    assert (await line.ask()).text == "back"
    assert line.state() == "closed"


async def test_a_probe_that_fails_opens_it_for_longer() -> None:
    """Twice as long, and the caller gets what the provider said."""
    line = Line()
    await line.fail()
    await anyio.sleep(6)
    await line.fail(1)
    error = await line.ask()
    assert 10 <= error.retry_after <= 12


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("by_task", [False, True])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_probe_gives_its_place_back(backend: str, by_task: bool, stream: bool) -> None:
    """At whatever step: the next call probes, and nothing has opened or closed by it."""

    def make() -> Any:
        line = Line(answer=ScriptedAnswer(("a", "b", Finish("stop")), delay=0.1, gap=0.1))
        ports = line.pipeline.ports
        circuit = line.layers[0]._circuits(ports).circuit("acme", "m")
        for _ in range(4):  # long before the loop's clock begins
            permit: Any = circuit.admit(-10)[0]
            circuit.end(permit, "failure", -10, None, ports.random)

        async def scenario() -> None:
            await line.ask(stream=stream)

        async def check() -> None:
            if line.state() == "closed":
                return  # it got through
            assert line.state() == "half_open"
            line.answer = "back"
            assert (await line.ask(stream=stream)).text == "back"
            assert line.state() == "closed"

        return scenario, check

    assert each_step(make, backend=backend, by_task=by_task) > 3


async def test_a_stream_that_hangs_as_a_probe_does_not_shut_it_for_ever() -> None:
    """After probe_ttl another call may find out."""
    line = Line(breaker(probe_ttl=20))
    await line.fail()
    await anyio.sleep(6)
    line.answer = ["a", 1_000.0, Finish("stop")]
    async with line.pipeline.stream(ASK) as response:
        await anext(aiter(response))
        line.answer = "back"
        assert isinstance(await line.ask(), CircuitOpenError)
        await anyio.sleep(20)
        assert (await line.ask()).text == "back"
    assert line.state() == "closed"


# --- time ------------------------------------------------------------------------------------


def block(seconds: float) -> None:
    """Let time pass without the event loop running: what a long computation does to it."""
    loop = current_loop()
    if isinstance(loop, TrioLoop):
        import trio

        clock: Any = trio.lowlevel.current_clock()
        clock._now += seconds
    else:
        import asyncio

        virtual: Any = asyncio.get_running_loop()
        virtual._virtual.now += seconds


@pytest.mark.parametrize("stream", [False, True])
async def test_a_blocked_event_loop_does_not_open_it(stream: bool) -> None:
    """Forty calls run out of time while this process computes for two seconds: its own fault."""
    line = Line(breaker(), Timeout(first_event=1, attempt=1.1))
    line.answer = ScriptedAnswer(("late", Finish("stop")), delay=60)
    found: list[Any] = []

    async def ask() -> None:
        found.append(await line.ask(stream=stream))

    async with anyio.create_task_group() as group:
        for _ in range(40):
            group.start_soon(ask)
        await anyio.sleep(0.5)
        block(2)
    assert {type(one).__name__ for one in found} <= {"FirstEventTimeout", "AttemptTimeout"}
    assert line.state() == "closed"
    for _ in range(4):
        await line.ask(stream=stream)
    assert line.state() == "open"  # these were the provider's


@pytest.mark.parametrize("attempt", [None, 60])
async def test_a_first_event_that_came_meanwhile_is_no_other_timeout(attempt: float | None) -> None:
    """It was there in time and read too late: the answer goes on, or that very limit has passed."""
    limits = Timeout(first_event=1, attempt=attempt, stream_runs=True)
    line = Line(breaker(), limits, answer=[0.9, "one ", 0.5, "two", Finish("stop")])
    found: list[Any] = []

    async def ask() -> None:
        found.append(await line.ask())

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(ask)
        await anyio.sleep(0.5)
        block(2)
    for one in found:
        if isinstance(one, LamellaError):
            assert isinstance(one, FirstEventTimeout)
            assert one.late == pytest.approx(1.5)
        else:
            assert one.text == "one two"
    assert line.state() == "closed"


async def test_slow_first_events_open_it_where_asked() -> None:
    """Good answers all of them, but each began after slow_after."""
    slow = ScriptedAnswer(("good", Finish("stop")), delay=3)
    line = Line(breaker(slow_after=timedelta(seconds=2)), answer=slow)
    for _ in range(4):
        assert (await line.ask(stream=True)).text == "good"
    assert line.state() == "open"
    line = Line(breaker(slow_after=4), answer=slow)
    for _ in range(8):
        await line.ask(stream=True)
        await line.ask()
    assert line.state() == "closed"


async def test_another_copy_of_the_call_that_has_begun_makes_a_slow_one_no_quicker() -> None:
    """Of two copies that are read ahead the first began after slow_after, and wins anyway."""
    answers = [
        ScriptedAnswer(("first", Finish("stop")), delay=3),
        ScriptedAnswer(("second", 60.0, Finish("stop")), delay=0.5),
    ]
    layers = (Hedge(delay=1, max_extra=1), breaker(min_calls=1, slow_after=2), Hold(all=True))
    line = Line(*layers)
    line.transport = Scripted(answers, name="acme")
    line.pipeline = Pipeline(list(layers), line.transport, ports=line.pipeline.ports)
    assert (await line.ask(stream=True)).text == "first"
    assert line.state() == "open"


class Clinging:
    """A source that never says anything, and takes its time to close."""

    async def __anext__(self) -> Any:
        await anyio.sleep_forever()

    async def aclose(self) -> None:
        await anyio.sleep(0.9)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_connection_that_is_slow_to_close_excuses_nobody(stream: bool) -> None:
    """The time that cleaning up takes is no sign of a busy process: the timeouts count."""

    async def hole(request: Any) -> Any:
        return await begin(request, Clinging())

    layer = breaker()
    limits = Timeout(first_event=3, attempt=3)
    pipe = Pipeline([layer, limits], hole, ports=virtual_ports())
    line = Line(layer, ports=pipe.ports)
    line.pipeline = pipe
    for _ in range(4):
        assert isinstance(await line.ask(stream=stream), TimedOutError)
    assert line.state() == "open"


async def test_a_block_makes_no_answer_slow() -> None:
    """The first event came in time, but this process had no time to look."""
    line = Line(breaker(slow_after=1), answer=ScriptedAnswer(("good", Finish("stop")), delay=0.9))

    async def ask() -> None:
        assert (await line.ask(stream=True)).text == "good"

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(ask)
        await anyio.sleep(0.5)
        block(2)
    assert line.state() == "closed"


@pytest.mark.parametrize(
    ("anyio_backend", "share"),
    [(virtual_backend("asyncio"), 1.0), (virtual_backend("trio"), 0.5)],
    ids=["asyncio-1.0", "trio-0.5"],
)
async def test_a_flapping_provider_is_not_locked_out(share: float) -> None:
    """An hour of failures, half of the calls or all of them in turns of ten minutes.

    It is never shut for longer than the longest time, and closed within that once it is well.
    """
    chance, now = Random(3), partial(anyio.current_time)
    opened: list[CircuitChange] = []
    line = Line(breaker(min_calls=10, on_change=opened.append))
    good = 0
    for _ in range(3_600):
        await anyio.sleep(1)
        down = chance.random() < share and (share < 1 or now() % 1_200 < 600)
        line.answer = DOWN if down else "good"
        good += not isinstance(await line.ask(), LamellaError)
    assert max([change.seconds or 0 for change in opened]) <= 72
    line.answer = "good"
    await anyio.sleep(72)
    for _ in range(2):
        await line.ask()
    assert line.state() == "closed"
    if share == 1:
        assert good >= 1_800 - 4 * 72  # of the half in which it was well
    else:
        assert good >= 3_600 * 0.5 * 0.8  # nearly all of the half that is to be had


# --- looking and handling --------------------------------------------------------------------


async def test_changes_are_told_to_trace_log_and_caller(caplog: pytest.LogCaptureFixture) -> None:
    """Opened, half open, closed: each once, with its numbers."""
    caplog.set_level(logging.INFO, "lamella")
    told: list[CircuitChange] = []
    notes: list[Any] = []

    async def keep(request: Any, call_next: Any) -> Any:
        try:
            return await call_next(request)
        finally:
            notes.extend(request.context.trace.notes)

    line = Line(keep, breaker(on_change=told.append))
    await line.fail()
    await line.ask()
    await anyio.sleep(6)
    line.answer = "back"
    await line.ask()
    assert [(one.before, one.state) for one in told] == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ]
    assert (told[0].provider, told[0].model, told[0].calls, told[0].failures) == ("acme", "m", 4, 4)
    assert [note.name for note in notes] == [
        "circuit_breaker.open",
        "circuit_breaker.refused",
        "circuit_breaker.half_open",
        "circuit_breaker.closed",
    ]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "INFO"]


async def test_a_callers_function_that_raises_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The call ends as it would have; the failure is logged and noted."""

    def broken(_: Any) -> bool:
        raise ZeroDivisionError

    line = Line(breaker(on_change=broken, judge=broken))
    await line.fail()
    assert line.state() == "open"
    assert "on_change" in caplog.text
    names = [note.name for note in line.transport.requests[-1].context.trace.notes]
    assert "circuit_breaker.judge_failed" in names
    assert "circuit_breaker.on_change_failed" in names


async def test_a_provider_is_isolated_and_reset_by_hand() -> None:
    """Also before the first call; health says so."""
    line = Line(answer="hello")
    layer, ports = line.layers[0], line.pipeline.ports
    assert (await line.pipeline.health()).layers["circuit_breaker"].well
    layer.isolate("acme", ports=ports)
    error = await line.ask()
    assert isinstance(error, CircuitOpenError)
    assert (error.code, error.retry_after) == ("circuit_isolated", None)
    health = (await line.pipeline.health()).layers["circuit_breaker"]
    assert (health.well, dict(health.detail)) == (False, {"acme/m": "isolated"})
    layer.reset("acme", ports=ports)
    assert (await line.ask()).text == "hello"
    assert line.sent == 1


def test_without_ports_the_process_is_meant() -> None:
    """The hands reach the same circuits as pipelines without ports of their own."""
    layer = CircuitBreaker(namespace="test hands")
    layer.isolate("acme", "m")
    assert [state.state for state in layer.states()] == ["isolated"]
    assert not layer.health().well
    layer.reset("acme")
    assert layer.health().well


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"ratio": 0}, "ratio"),
        ({"ratio": 1.1}, "ratio"),
        ({"min_calls": 0}, "min_calls"),
        ({"window": 0}, "window"),
        ({"open_for": -1}, "open_for"),
        ({"open_for": 10, "max_open": 9}, "open_for=10 or more"),
        ({"probes": 0}, "probes"),
        ({"probe_ttl": None}, "probe_ttl"),
        ({"slow_after": 0}, "slow_after"),
        ({"count_throttles": "no"}, "count_throttles"),
        ({"judge": ServerError}, "judge"),
        ({"judge": partial(anyio.sleep, 1)}, "judge"),
        pytest.param({"window": 10**400}, "window", id="beyond all floats"),
        ({"namespace": ["a list"]}, "namespace"),
        ({"namespace": ""}, "namespace"),
        ({"on_change": anyio.sleep}, "on_change"),
    ],
    ids=plainly,
)
def test_wrong_options_are_refused_when_it_is_made(options: dict[str, Any], word: str) -> None:
    """The message names the option."""
    with pytest.raises(ConfigurationError, match=word):
        CircuitBreaker(**options)
