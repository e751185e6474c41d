"""The call's own time, its deadline, and the timer behind limits on reads."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import anyio
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    Clock,
    ClosedError,
    ConfigurationError,
    Context,
    DeadlineExceeded,
    Finish,
    Limits,
    NotBegunError,
    Pipeline,
    begin,
)
from lamella._loops import current_loop
from lamella._watchdog import Alarm
from lamella.testing import Scripted, virtual_ports

pytestmark = pytest.mark.anyio

HELLO = ChatRequest.of("hello")


@pytest.fixture
def anyio_backend(lamella_virtual_backend: tuple[str, dict[str, Any]]) -> tuple[str, Any]:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend


def deadline(seconds: float) -> Any:
    """A layer that sets a deadline, never a later one than there is."""

    async def limit(request: ChatRequest, call_next: Any) -> ChatResponse:
        context = request.context
        instant = min(context.clock.now() + seconds, context.deadline or 1e9)
        context = context.evolve(deadline=instant)
        response: ChatResponse = await call_next(request.evolve(context=context))
        return response

    return limit


async def test_the_clock_stands_still_while_it_is_held() -> None:
    """Time that is held is not counted; holding and releasing twice changes nothing."""
    clock = Clock(anyio.current_time)
    start = clock.now()
    clock.hold()
    await anyio.sleep(5)
    clock.hold()
    assert clock.now() == start
    clock.release()
    clock.release()
    await anyio.sleep(2)
    assert clock.now() - start == 2


async def test_a_slow_consumer_does_not_use_up_the_deadline() -> None:
    """The deadline of an agent's next turn does not pass while a person reads the last one."""

    async def agent(request: ChatRequest, call_next: Any) -> ChatResponse:
        first: ChatResponse = await call_next(request)

        class Turns:
            """The events of two turns, one after the other."""

            def __init__(self) -> None:
                self.current = aiter(first)
                self.turns = 1

            async def __anext__(self) -> Any:
                event = await anext(self.current)
                if type(event) is Finish and self.turns == 1:
                    self.turns = 2
                    self.current = aiter(await call_next(request.turn(2)))
                    event = await anext(self.current)
                return event

            async def aclose(self) -> None:
                await first.aclose()

        answer: ChatResponse = request.open(Turns())
        return answer

    transport = Scripted(["one two three", "four five six"], delay=1)
    pipeline = Pipeline([deadline(10), agent], transport, ports=virtual_ports())
    async with pipeline.stream(HELLO) as response:
        async for _ in response:
            await anyio.sleep(30)
    assert response.text == "one two threefour five six"
    assert len(response.trace.attempts) == 2


async def test_a_nested_deadline_never_tightens_its_parents() -> None:
    """A pipeline inside may have less time; the one outside keeps its own."""
    slow = Scripted([["a", 100.0, "b"], "quick"])
    inner = Pipeline([deadline(2)], slow)

    async def fall_back(request: ChatRequest, call_next: Any) -> ChatResponse:
        try:
            response: ChatResponse = await inner(request)
        except DeadlineExceeded:
            assert request.context.left() == pytest.approx(8.0)
            response = await call_next(request)
        return response

    pipeline = Pipeline([deadline(10), fall_back], slow, ports=virtual_ports())
    assert (await pipeline.run(HELLO)).text == "quick"
    assert anyio.current_time() == pytest.approx(2.0)


async def test_a_wait_that_would_pass_the_deadline_is_refused_at_once() -> None:
    """A layer's own wait does not start if it cannot end in time; the error says how long."""

    async def wait(request: ChatRequest, call_next: Any) -> ChatResponse:
        await request.context.sleep(30, what="the backoff")
        response: ChatResponse = await call_next(request)
        return response

    pipeline = Pipeline([deadline(10), wait], Scripted(["x"]), ports=virtual_ports())
    with pytest.raises(DeadlineExceeded, match="the backoff would take 30 s") as refused:
        await pipeline.run(HELLO)
    assert anyio.current_time() == 0
    assert refused.value.retry_after == 30


async def test_a_wait_ends_with_the_deadline() -> None:
    """A wait of unknown length ends when the deadline passes, and says what it was for."""

    async def wait(request: ChatRequest, call_next: Any) -> ChatResponse:
        await request.context.wait(anyio.sleep_forever, what="queueing")
        raise AssertionError("it cannot get here")

    pipeline = Pipeline([deadline(10), wait], Scripted(["x"]), ports=virtual_ports())
    with pytest.raises(DeadlineExceeded, match="while queueing"):
        await pipeline.run(HELLO)
    assert anyio.current_time() == 10


async def test_a_wait_ends_with_the_pipeline() -> None:
    """What a layer waits for ends with ClosedError when the pipeline closes."""

    async def wait(request: ChatRequest, call_next: Any) -> ChatResponse:
        await request.context.sleep(1000)
        response: ChatResponse = await call_next(request)
        return response

    pipeline = Pipeline([wait], Scripted(["x"]), ports=virtual_ports())

    async def call() -> None:
        with pytest.raises(ClosedError, match="drain"):
            await pipeline.run(HELLO)

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await anyio.sleep(1)
        await pipeline.aclose()
    assert anyio.current_time() == 1


async def test_without_a_call_there_is_no_clock() -> None:
    """A context that no call has begun says what to do."""
    with pytest.raises(NotBegunError, match=r"pipeline\.run"):
        Context().clock.now()
    assert Context().left() == float("inf")


async def test_an_alarm_rings_once_and_in_time() -> None:
    """Armed anew it moves; disarmed it is silent for good; an earlier instant wakes the timer."""
    rung: list[float] = []
    alarm = Alarm(lambda: rung.append(current_loop().now()))
    alarm.arm(10)
    await anyio.sleep(5)
    alarm.arm(10)
    await anyio.sleep(20)
    assert rung == [15]
    alarm.arm(10)
    alarm.disarm()
    await anyio.sleep(20)
    assert rung == [15]
    alarm = Alarm(lambda: rung.append(anyio.current_time()))
    alarm.arm(100)
    alarm.arm(1)
    await anyio.sleep(200)
    assert rung == [15, 46]


async def test_many_alarms_ring_in_order() -> None:
    """One timer serves all of a loop."""
    rung: list[int] = []

    def ringer(number: int) -> Any:
        return lambda: rung.append(number)

    alarms = [Alarm(ringer(number)) for number in range(200)]
    for number in reversed(range(200)):
        alarms[number].arm(1 + number)
    for alarm in alarms[::2]:
        alarm.disarm()
    await anyio.sleep(300)
    assert rung == list(range(1, 200, 2))


async def test_disarmed_alarms_are_forgotten() -> None:
    """A loop with long limits does not keep the answers of the last minutes in memory."""

    class Answer:
        def late(self) -> None:
            raise AssertionError("it was in time")

    kept: list[weakref.ref[Answer]] = []
    for _ in range(1000):
        answer = Answer()
        kept.append(weakref.ref(answer))
        alarm = Alarm(answer.late)
        alarm.arm(600)
        alarm.disarm()
        del answer, alarm
    gc.collect()
    assert not any(reference() is not None for reference in kept)


async def test_a_finished_answer_is_forgotten_before_its_limits_pass() -> None:
    """A timer of ten minutes keeps neither the request nor the source of an answer in memory."""
    kept: list[weakref.ref[Any]] = []

    class Source:
        async def __anext__(self) -> Any:
            return Finish("stop")

        async def aclose(self) -> None:
            pass

    async def transport(request: ChatRequest) -> ChatResponse:
        source = Source()
        kept.extend([weakref.ref(request), weakref.ref(source)])
        return await begin(request, source)

    limits = Context(limits=Limits(attempt=600))
    await Pipeline([], transport).run(HELLO.evolve(context=limits))
    gc.collect()
    assert [reference() for reference in kept] == [None, None]


def test_a_loop_that_is_closed_with_a_timer_set_is_forgotten() -> None:
    """Loops that are closed without cancelling their tasks do not pile up, and nothing is said."""
    limits = HELLO.evolve(context=Context(limits=Limits(attempt=600)))

    async def transport(request: ChatRequest) -> ChatResponse:
        return await begin(request, aiter(ChatResponse.of("x")))

    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []
    for _ in range(5):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(Pipeline([], transport).run(limits))
        loop.close()
        loops.append(weakref.ref(loop))
        del loop
    gc.collect()
    assert sum(loop() is not None for loop in loops) <= 1


async def test_a_deadline_on_the_callers_context_is_refused() -> None:
    """An instant on a clock that does not exist yet is not silently dropped."""
    with pytest.raises(ConfigurationError, match=r"Put Deadline\(seconds\) among the layers"):
        await Pipeline([], Scripted(["x"])).run(HELLO.evolve(context=Context(deadline=5.0)))
