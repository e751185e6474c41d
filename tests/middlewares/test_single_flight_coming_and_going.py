"""Callers of a flight come, leave, run out of time, and hear of errors."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from single_flights import ANSWER, ASK, PRICE, Callers, by, noted, stack

from lamella import (
    ChatRequest,
    ChatResponse,
    ClosedError,
    DeadlineExceeded,
    Finish,
    Handler,
    Money,
    Outcome,
    Pipeline,
    Response,
    ServerError,
    TextDelta,
    ending,
)
from lamella.testing import Scripted, ScriptedAnswer, virtual_ports
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.single_flight import SingleFlight

pytestmark = pytest.mark.anyio


# --- coming and going --------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_the_others_get_the_answer_when_the_first_is_cancelled(stream: bool) -> None:
    """The call upstream goes on, and another one pays."""
    pipeline, transport = stack(ANSWER, delay=1)
    callers = Callers(pipeline)

    async def first() -> None:
        with anyio.move_on_after(0.5):
            await (callers.stream if stream else callers.run)("first")

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await anyio.sleep(0.1)
        for name in ("second", "third"):
            group.start_soon(callers.stream if stream else callers.run, name)
            await anyio.sleep(0.1)
    assert (len(transport.requests), set(callers.found)) == (1, {"second", "third"})
    second, third = callers.found["second"], callers.found["third"]
    assert (second.cost, third.cost, second.text) == (PRICE, Money(0), "It is up.")
    flight = transport.requests[0].context
    assert noted(second, "single_flight.pays") == [{"flight": flight.call_id}]
    (attempt,) = second.trace.attempts
    assert attempt.start == pytest.approx(-0.1)  # before the call that pays for it now
    assert attempt.outcome is Outcome.COMPLETE


async def test_who_leaves_pays_nothing_while_others_wait() -> None:
    """Its trace says to whom it handed on what."""
    pipeline, _ = stack(ANSWER)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group, pipeline.stream(ASK) as left:
        await anext(aiter(left))
        group.start_soon(callers.stream, "second")
        await anyio.sleep(0.5)
    assert (left.outcome, left.cost, left.trace.attempts) == (Outcome.LEFT, Money(0), ())
    assert len(noted(left, "single_flight.handed_on")) == 1
    assert callers.found["second"].cost == PRICE


@pytest.mark.parametrize("stream", [False, True])
async def test_the_call_ends_with_the_last_who_waits(stream: bool) -> None:
    """The source is closed at once, and the last one's books have what was spent."""
    pipeline, transport = stack(ANSWER)
    callers = Callers(pipeline)
    seen: list[Any] = []

    async def keep(request: Any, call_next: Handler) -> Any:
        seen.append(request.context.trace)
        return await call_next(request)

    pipeline = Pipeline([keep, *pipeline.layers], transport, ports=virtual_ports())
    callers = Callers(pipeline)

    async def impatient(seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await (callers.stream if stream else callers.run)("it")

    async with anyio.create_task_group() as group:
        for seconds in (1.5, 0.5, 1.2):
            group.start_soon(impatient, seconds)
            await anyio.lowlevel.checkpoint()
    assert (anyio.current_time(), transport.open_sources, callers.found) == (1.5, 0, {})
    attempts = [trace.attempts for trace in seen]
    assert [len(each) for each in attempts] == [1, 0, 0]
    assert attempts[0][0].outcome in {Outcome.CANCELLED, Outcome.LEFT}
    assert attempts[0][0].cost is not None
    assert transport.requests[0].context.trace.finished
    assert pipeline.background.names == ()


async def test_what_was_left_is_left_and_what_was_cancelled_is_cancelled() -> None:
    """The attempt's outcome is that of the callers' leaving, as without the layer."""
    pipeline, transport = stack(ANSWER)
    async with pipeline.stream(ASK) as one, pipeline.stream(ASK) as two:
        assert one.open
        await anyio.sleep(0.5)
    (attempt,) = transport.requests[0].context.trace.attempts
    assert (attempt.outcome, one.outcome, two.outcome) == (Outcome.LEFT,) * 3
    with anyio.move_on_after(0.5):
        await pipeline.run(ASK)
    (attempt,) = transport.requests[1].context.trace.attempts
    assert attempt.outcome is Outcome.CANCELLED


async def test_nobody_joins_a_flight_that_is_being_abandoned() -> None:
    """Who comes while it is cleaned up starts one of its own."""
    asked: list[float] = []

    async def transport(request: ChatRequest) -> ChatResponse:
        asked.append(anyio.current_time())
        try:
            await anyio.sleep(1)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.5)
        return ChatResponse.of("It is up.")

    pipeline = Pipeline([SingleFlight()], transport, ports=virtual_ports())
    callers = Callers(pipeline)

    async def impatient() -> None:
        with anyio.move_on_after(0.5):
            await pipeline.run(ASK)

    async with anyio.create_task_group() as group:
        group.start_soon(impatient)
        await anyio.sleep(0.75)
        group.start_soon(callers.run, "late")
    assert (asked, callers.texts(), callers.at) == ([0, 0.75], {"It is up."}, {"late": 2.25})


async def test_one_reader_is_closed_while_others_read_on() -> None:
    """Its pending read ends at once; theirs do not."""
    pipeline, _ = stack(ANSWER)
    callers = Callers(pipeline)
    ended: list[float] = []

    async def read(response: Response) -> None:
        with pytest.raises(ClosedError):
            await response.collect()
        ended.append(anyio.current_time())

    async with anyio.create_task_group() as group:
        group.start_soon(callers.stream, "other")
        async with pipeline.stream(ASK) as response:
            group.start_soon(read, response)
            await anyio.sleep(0.5)
            await response.aclose()
        assert anyio.current_time() == 0.5
    assert (ended, callers.texts()) == ([0.5], {"It is up."})


async def test_an_event_that_is_none_breaks_the_flight_and_leaks_nothing() -> None:
    """A bug inside is everybody's error, and the source is closed."""
    odd: Any = TextDelta(5)  # type: ignore[arg-type]
    pipeline, transport = stack(["It ", 1.0, odd, 1.0, "up.", Finish("stop")])
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        for number in range(2):
            group.start_soon(callers.stream, str(number))
    assert [type(found) for found in callers.found.values()] == [TypeError] * 2
    assert transport.open_sources == 0
    notes = transport.requests[0].context.trace.notes
    assert not any(note.name == "leak" for note in notes)


async def test_nothing_is_sent_if_all_have_left_before_it_began() -> None:
    """A call that a closing pipeline refuses to wait for costs nothing."""
    pipeline, transport = stack(ANSWER)

    async def close_first(request: Any, call_next: Handler) -> Any:
        async with anyio.create_task_group() as group:
            group.start_soon(pipeline.aclose)
            await anyio.sleep(0.1)
            with pytest.raises(ClosedError):
                await call_next(request)
            assert request.context.background.names == ()
        raise ClosedError("as it should be")

    pipeline = Pipeline([close_first, *pipeline.layers], transport, ports=virtual_ports())
    with pytest.raises(ClosedError, match="as it should be"):
        await pipeline.run(ASK)
    assert transport.requests == []


async def test_each_keeps_its_own_deadline() -> None:
    """One that cannot wait any longer fails alone, at its own time; a late one has all of its."""
    slow = ScriptedAnswer(("It is up.", Finish("stop")), delay=10)
    transport = Scripted([slow], repeat=True)
    ports = virtual_ports()

    async def patience(request: Any, call_next: Handler) -> Any:
        context = request.context
        seconds = context.attributes["seconds"]
        until = context.clock.now() + seconds
        return await call_next(request.evolve(context=context.evolve(deadline=until)))

    pipeline = Pipeline([patience, SingleFlight()], transport, ports=ports)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        for seconds in (5.0, 8.0, 60.0):
            request = by(attributes={"seconds": seconds})
            group.start_soon(callers.run, str(seconds), request)
            group.start_soon(callers.stream, f"{seconds} streamed", request)
    assert callers.at["5.0"] == callers.at["5.0 streamed"] == 5
    assert callers.at["8.0"] == callers.at["8.0 streamed"] == 8
    for name in ("5.0", "5.0 streamed", "8.0", "8.0 streamed"):
        assert isinstance(callers.found[name], DeadlineExceeded)
    assert callers.found["60.0"].text == callers.found["60.0 streamed"].text == "It is up."
    assert callers.at["60.0"] == 10


async def test_a_deadline_ends_the_reading_of_a_stream() -> None:
    """After the first event too, with what had come."""
    pipeline, transport = stack(ANSWER, layers=[Deadline(1.5), SingleFlight()])
    callers = Callers(pipeline)
    await callers.stream("it")
    error = callers.found["it"]
    assert isinstance(error, DeadlineExceeded)
    assert error.partial is not None
    assert (error.partial.text, callers.at["it"]) == ("It is ", 1.5)
    await anyio.sleep(0.01)
    assert transport.open_sources == 0


async def test_closing_the_pipeline_ends_flights() -> None:
    """Everybody is told that it was closed, and nothing is left open."""
    pipeline, transport = stack(ANSWER)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        group.start_soon(callers.run, "run")
        group.start_soon(callers.stream, "stream")
        await anyio.sleep(0.5)
        await pipeline.aclose()
    assert {type(found) for found in callers.found.values()} == {ClosedError}
    assert (transport.open_sources, pipeline.background.names) == (0, ())
    with pytest.raises(ClosedError):
        await pipeline.run(ASK)


async def test_a_draining_pipeline_lets_flights_finish() -> None:
    """Calls that are running get their answer."""
    pipeline, _ = stack(ANSWER)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        group.start_soon(callers.run, "one")
        group.start_soon(callers.stream, "two")
        await anyio.sleep(0.5)
        await pipeline.aclose(drain=10)
    assert callers.texts() == {"It is up."}


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_goes_to_those_who_wait_and_is_not_kept(stream: bool) -> None:
    """Each gets a copy of its own; who comes next asks anew."""
    pipeline, transport = stack(ServerError("x", status=500), ANSWER, delay=1)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(callers.stream if stream else callers.run, str(number))
    errors = list(callers.found.values())
    assert [type(error) for error in errors] == [ServerError] * 3
    assert len({id(error) for error in errors}) == 3
    assert not any(error.committed for error in errors)
    assert sorted(len(error.attempts) for error in errors) == [0, 0, 1]
    assert (await pipeline.run(ASK)).text == "It is up."
    assert len(transport.requests) == 2


async def test_an_error_of_another_kind_is_copied_too() -> None:
    """Even where its class cannot be made from its arguments."""

    class Odd(Exception):
        def __init__(self, one: int, *, two: int) -> None:
            super().__init__(one)
            self.two = two

    odd = Odd(1, two=2)
    pipeline, _ = stack(odd, delay=1)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(callers.run, str(number))
    errors = list(callers.found.values())
    assert [(type(error), error.args, error.two) for error in errors] == [(Odd, (1,), 2)] * 3
    assert len({id(error) for error in errors}) == 3
    assert odd in errors


async def test_a_stream_that_breaks_breaks_for_each_with_what_it_had_seen() -> None:
    """The error is committed, and its partial answer is the reader's own."""
    pipeline, transport = stack([*ANSWER[:3], ServerError("x", status=500)], ANSWER)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        group.start_soon(callers.stream, "one")
        await anyio.sleep(0.5)
        group.start_soon(callers.stream, "two")
    one, two = callers.found["one"], callers.found["two"]
    assert one is not two
    for error in (one, two):
        assert (type(error), error.committed, error.retryable) == (ServerError, True, False)
        assert error.partial.text == "It is "
    assert len(transport.requests) == 1


async def test_callbacks_that_fail_inside_reach_everybody() -> None:
    """As without the layer, where the answer otherwise ended well."""

    def fail(_: object) -> None:
        raise LookupError("callback")

    async def inside(request: Any, call_next: Handler) -> Any:
        return await ending(call_next, request, fail)

    pipeline, _ = stack(ANSWER, layers=[SingleFlight(), inside])
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        for number in range(2):
            group.start_soon(callers.run, f"run {number}")
            group.start_soon(callers.stream, f"stream {number}")
    assert [type(found) for found in callers.found.values()] == [LookupError] * 4
