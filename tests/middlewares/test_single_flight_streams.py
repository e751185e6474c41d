"""A flight that is streamed: late and slow readers, and those who want it whole."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from single_flights import ANSWER, ASK, PRICES, Callers, by, stack

from lamella import (
    Finish,
    Limits,
    Money,
    Pipeline,
    Response,
    ServerError,
    TextDelta,
)
from lamella.testing import Item, Scripted, virtual_ports
from lamella_middlewares.cost import Cost
from lamella_middlewares.retry import Retry
from lamella_middlewares.single_flight import SingleFlight

pytestmark = pytest.mark.anyio


# --- streams -----------------------------------------------------------------------------------


async def read_with_times(pipeline: Pipeline, seen: list[tuple[float, Any]]) -> Response:
    """Stream to the end, and keep when each event came."""
    async with pipeline.stream(ASK) as response:
        assert response.open
        async for event in response:
            seen.append((anyio.current_time(), event))
    return response


async def test_a_late_reader_starts_from_the_first_event() -> None:
    """It catches up at once, and then goes with the others."""
    pipeline, transport = stack(ANSWER)
    seen: list[tuple[float, Any]] = []
    callers = Callers(pipeline)
    late: list[Response] = []
    async with anyio.create_task_group() as group:
        group.start_soon(callers.stream, "first")
        await anyio.sleep(1.5)
        late.append(await read_with_times(pipeline, seen))
    assert seen[:3] == [(1.5, TextDelta("It ")), (1.5, TextDelta("is ")), (2.0, TextDelta("up."))]
    assert (len(transport.requests), late[0].cost) == (1, Money(0))
    assert late[0].partial.text == "It is up."


async def test_a_slow_reader_holds_nobody_back() -> None:
    """Each reads at its own pace, from the same kept events."""
    pipeline, transport = stack(ANSWER)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: callers.stream("slow", pace=10))
        await anyio.sleep(0.1)
        group.start_soon(callers.stream, "quick")
    assert (len(transport.requests), callers.texts()) == (1, {"It is up."})
    assert (callers.at["quick"], callers.at["slow"]) == (2, 50)


async def test_no_more_is_read_ahead_than_allowed() -> None:
    """While nobody reads, the provider waits; whoever reads first lets it go on."""
    words: list[Item] = [f"word{number:04} " * 10 for number in range(200)]
    transport = Scripted([[*words, Finish("stop")]])
    layers = [SingleFlight(read_ahead=5_000)]
    pipeline = Pipeline(layers, transport, ports=virtual_ports())
    async with pipeline.stream(ASK) as one, pipeline.stream(ASK) as two:
        first, second = aiter(one), aiter(two)
        await anyio.sleep(1)
        (source,) = transport.sources
        assert source.given < 30
        for _ in range(100):
            await anext(first)
        await anyio.sleep(1)
        assert 100 < source.given < 130
        assert [event async for event in first][-1] == Finish("stop")
        assert len([event async for event in second]) == 201
    assert one.text == two.text


async def test_readers_time_is_not_the_providers() -> None:
    """An attempt's limit does not run while its readers hold it up."""
    words: list[Item] = ["word " * 100] * 50
    transport = Scripted([[*words, Finish("stop")]], gap=0.01)
    pipeline = Pipeline([SingleFlight(read_ahead=1_000)], transport, ports=virtual_ports())
    async with pipeline.stream(by(limits=Limits(attempt=5, idle=1))) as response:
        async for _ in response:
            await anyio.sleep(1)
    assert response.complete
    assert anyio.current_time() == pytest.approx(51, abs=0.1)


async def test_a_whole_answer_does_not_wait_for_a_slow_reader() -> None:
    """Whoever wants all of it keeps it going."""
    words: list[Item] = ["word " * 100] * 50
    transport = Scripted([[*words, Finish("stop")]])
    pipeline = Pipeline([SingleFlight(read_ahead=1_000)], transport, ports=virtual_ports())
    async with pipeline.stream(ASK) as slow:
        await anyio.sleep(1)
        assert (await pipeline.run(ASK)).text == "word " * 5_000
        assert anyio.current_time() == 1
        await slow.collect()
    assert (len(transport.requests), slow.complete) == (1, True)


async def test_once_it_has_left_a_whole_answer_keeps_nothing_going() -> None:
    """Then the provider waits for the readers again."""
    words: list[Item] = [item for _ in range(50) for item in ("word " * 100, 0.1)]
    transport = Scripted([[*words, Finish("stop")]])
    pipeline = Pipeline([SingleFlight(read_ahead=1_000)], transport, ports=virtual_ports())
    async with pipeline.stream(ASK) as slow:
        with anyio.move_on_after(1):
            await pipeline.run(ASK)
        await anyio.sleep(9)
        assert transport.sources[0].given < 15
        await slow.collect()
    assert slow.complete


async def test_a_whole_answer_may_come_from_a_stream_but_not_the_reverse() -> None:
    """Who wants to read along is not made to wait for another's whole answer."""
    pipeline, transport = stack(ANSWER)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        group.start_soon(callers.stream, "stream")
        await anyio.sleep(0.5)
        group.start_soon(callers.run, "run")
    assert (len(transport.requests), callers.at["run"]) == (1, 2)
    async with anyio.create_task_group() as group:
        group.start_soon(callers.run, "run")
        await anyio.sleep(0.5)
        group.start_soon(callers.stream, "stream")
    assert [request.stream for request in transport.requests] == [True, False, True]
    assert callers.texts() == {"It is up."}


async def test_who_wanted_a_whole_answer_outlives_a_broken_stream() -> None:
    """It has seen nothing, so it is tried again inside as it would be without the layer."""
    broken = [*ANSWER[:3], ServerError("x", status=500)]
    layers = [SingleFlight(), Retry(), Cost(PRICES)]
    pipeline, transport = stack(broken, broken, ANSWER, layers=layers)
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        group.start_soon(callers.stream, "stream")
        await anyio.sleep(0.5)
        for name in ("one", "two"):
            group.start_soon(callers.run, name)
    assert isinstance(callers.found["stream"], ServerError)
    assert callers.found["one"].text == callers.found["two"].text == "It is up."
    assert [request.stream for request in transport.requests] == [True, False, False]


async def test_a_stream_answered_at_once_is_complete_for_all() -> None:
    """An answer that ends before it says anything is handed on whole."""
    pipeline, transport = stack([1.0, Finish("content_filter")])
    callers = Callers(pipeline)
    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(callers.stream, str(number))
    assert {found.finish_reason for found in callers.found.values()} == {"content_filter"}
    assert len(transport.requests) == 1
