"""Deadline: the whole call is bounded, waits included."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from lamella import (
    ChatRequest,
    ConfigurationError,
    DeadlineExceeded,
    Finish,
    Outcome,
    Pipeline,
    Request,
    TextDelta,
)
from lamella.testing import Scripted, ScriptedAnswer, virtual_ports
from lamella_middlewares.deadline import Deadline

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello", model="m")


def pipeline(layers: list[Any], transport: Any) -> Pipeline:
    """A pipeline with a clock and stores of its own."""
    return Pipeline(layers, transport, ports=virtual_ports())


async def deadlines(layers: list[Any]) -> list[float | None]:
    """The deadline that the transport sees, at the instant 0."""
    seen: list[float | None] = []

    async def note(request: Request[Any], call_next: Any) -> Any:
        left = request.context.left()
        seen.append(None if math.isinf(left) else left)
        return await call_next(request)

    await pipeline([*layers, note], Scripted(["ok"])).run(ASK)
    return seen


async def test_it_sets_an_instant_on_the_calls_clock() -> None:
    """What is left is the option, whether given as seconds or as a timedelta."""
    assert await deadlines([Deadline(7)]) == [7]
    assert await deadlines([Deadline(timedelta(minutes=1))]) == [60]


async def test_none_sets_no_deadline() -> None:
    """None switches the layer off."""
    assert await deadlines([Deadline(None)]) == [None]


async def test_the_nearer_deadline_wins() -> None:
    """A deadline inside another only ever shortens."""
    assert await deadlines([Deadline(5), Deadline(60)]) == [5]
    assert await deadlines([Deadline(60), Deadline(5)]) == [5]


async def test_a_nested_pipelines_deadline_does_not_tighten_its_parents() -> None:
    """What the inner pipeline may take is its own matter; the outer one goes on."""
    left: list[float] = []
    inner = Pipeline([Deadline(1)], Scripted(["ok"]))

    async def outer(request: Request[Any], call_next: Any) -> Any:
        response = await call_next(request)
        left.append(request.context.left())
        return response

    await pipeline([Deadline(60), outer], inner).run(ASK)
    assert left == [60]


async def test_an_attempt_that_reaches_it_ends_as_timed_out() -> None:
    """A provider that says nothing is left at the deadline, not later."""
    transport = Scripted([ScriptedAnswer(("late", Finish("stop")), delay=30)])
    with pytest.raises(DeadlineExceeded) as caught:
        await pipeline([Deadline(2)], transport).run(ASK)
    (attempt,) = caught.value.attempts
    assert attempt.outcome is Outcome.TIMED_OUT
    assert attempt.duration == pytest.approx(2)


async def test_a_stream_is_bounded_while_it_is_read() -> None:
    """The deadline holds after the first event, and the source is closed."""
    transport = Scripted([["one", 30.0, "two", Finish("stop")]])
    with pytest.raises(DeadlineExceeded) as caught:
        async with pipeline([Deadline(2)], transport).stream(ASK) as response:
            await response.collect()
    assert caught.value.committed
    assert caught.value.partial is not None
    assert caught.value.partial.text == "one"
    assert transport.open_sources == 0


async def test_the_time_of_a_slow_reader_does_not_count() -> None:
    """The call's clock stands still while the caller holds an event."""
    transport = Scripted([["one", "two", Finish("stop")]])
    pipe = pipeline([Deadline(2)], transport)
    async with pipe.stream(ASK) as response:
        async for event in response:
            if isinstance(event, TextDelta):
                await pipe.ports.sleep(100)
    assert response.text == "onetwo"


async def test_an_expired_deadline_sends_nothing() -> None:
    """A request that comes too late is refused at once."""
    transport = Scripted(["ok"])

    async def dawdle(request: Request[Any], call_next: Any) -> Any:
        await request.context.ports.sleep(3)
        return await call_next(request)

    with pytest.raises(DeadlineExceeded) as caught:
        await pipeline([Deadline(2), dawdle, Deadline(9)], transport).run(ASK)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert caught.value.layer == "deadline"
    assert transport.requests == []
    assert not caught.value.retryable


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan, "soon", True])
def test_what_is_no_span_is_refused_when_it_is_made(seconds: Any) -> None:
    """The message names the option and what to give."""
    with pytest.raises(ConfigurationError, match=r"Deadline\(seconds=.*seconds above 0"):
        Deadline(seconds)
