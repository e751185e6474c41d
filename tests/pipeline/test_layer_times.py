"""Whose time it was: spans of layers, wherever they stand, and what of them was their own."""

from __future__ import annotations

from functools import partial
from time import process_time
from typing import Any

import anyio
import pytest

from lamella import (
    ChatRequest,
    Context,
    EmbeddingRequest,
    EmbeddingResponse,
    Outcome,
    Pipeline,
    ServerError,
    Trace,
    TraceRecord,
    middleware,
)
from lamella._drawing import rows
from lamella._provided import layers_inside, provided
from lamella._trace import Span
from lamella._trace_time import layer_times
from lamella.testing import Scripted, virtual_ports

pytestmark = pytest.mark.anyio

TIMED = ChatRequest.of("hi", model="m", context=Context(timed=True))


@pytest.fixture
def anyio_backend(lamella_virtual_backend: Any) -> Any:
    """Waits of seconds take none."""
    return lamella_virtual_backend


def layer(name: str, seconds: float = 0.0, phase: Any = "attempt", **declared: Any) -> Any:
    """A layer that takes its time before it passes a request on."""

    @middleware(phase=phase, name=name, **declared)
    async def slow(request: Any, call_next: Any) -> Any:
        await anyio.sleep(seconds)
        return await call_next(request)

    return slow


def pipeline(layers: Any, transport: Any) -> Pipeline:
    """A pipeline in virtual time."""
    return Pipeline(layers, transport, ports=virtual_ports())


async def test_own_time_is_what_nothing_inside_had() -> None:
    """Of layers outside an attempt, and of those inside; several passes add up."""

    @middleware(phase="attempt", name="twice")
    async def twice(request: Any, call_next: Any) -> Any:
        try:
            return await call_next(request)
        except ServerError:
            await anyio.sleep(5)
            return await call_next(request)

    transport = Scripted([ServerError("x", status=500), "ok"], gap=1)
    pipe = pipeline([layer("a", 2), twice, layer("b", 3), layer("w", 0.5, "wire")], transport)
    found = layer_times((await pipe.run(TIMED)).trace.record())
    assert [(one.layer, one.depth, one.passes, one.own) for one in found] == [
        ("a", 0, 1, 2), ("twice", 1, 1, 5), ("b", 2, 2, 6), ("w", 3, 2, pytest.approx(3)),
    ]  # fmt: skip
    assert found[0].seconds == pytest.approx(2 + 5 + 6 + 3)


async def test_layers_of_a_pipeline_inside_stand_inside() -> None:
    """Their depth counts on from that of the pipeline outside, however deep."""
    inmost = pipeline([layer("c"), layer("w", 1, "wire")], Scripted(["ok"], gap=1))
    inner = pipeline([layer("b")], inmost)
    trace = (await pipeline([layer("a"), layer("a2")], inner).run(TIMED)).trace
    assert {span.layer: span.depth for span in trace.spans} == {
        "a": 0, "a2": 1, "b": 2, "c": 3, "w": 4,
    }  # fmt: skip
    assert {span.layer: span.attempt for span in trace.spans}["w"] == 0
    assert [row.label for row in rows(trace.record())] == ["a", "a2", "b", "c", "-> scripted", "w"]
    assert [row.depth for row in rows(trace.record())] == [0, 1, 2, 3, 4, 5]


async def test_a_layer_that_is_not_for_the_request_takes_no_place() -> None:
    """The depth counts those that a request passes, from 0."""

    async def embed(request: EmbeddingRequest) -> EmbeddingResponse:
        return EmbeddingResponse.of([[1.0]])

    chat_only = layer("chat", requests=ChatRequest)
    pipe = pipeline([layer("a"), chat_only, layer("b")], embed)
    request = EmbeddingRequest.of("x", model="e", context=Context(timed=True))
    assert {span.layer: span.depth for span in (await pipe.run(request)).trace.spans} == {
        "a": 0, "b": 1,
    }  # fmt: skip


async def test_a_layer_can_ask_for_times() -> None:
    """For each call of its pipeline, those inside included; nobody else pays for it."""
    wants = layer("wants", timed=True)
    inner = pipeline([layer("b")], Scripted(["ok"] * 3))
    plain = TIMED.evolve(context=Context())
    assert {s.layer for s in (await pipeline([wants], inner).run(plain)).trace.spans} == {
        "wants", "b",
    }  # fmt: skip
    assert (await pipeline([layer("a")], inner).run(plain)).trace.spans == []
    outer = await pipeline([layer("a")], pipeline([wants], Scripted(["ok"]))).run(plain)
    assert {span.layer for span in outer.trace.spans} == {"wants"}


async def test_a_call_of_many_turns_is_looked_at_quickly() -> None:
    """Own times take time in proportion to the layers' passes, not to their square."""
    spans = [
        Span(f"layer {depth}", depth, turn + depth / 100, turn + 0.9)
        for turn in range(300)
        for depth in range(15)
    ]
    record = TraceRecord(call_id="c", started=0.0, seconds=300.0, spans=tuple(spans))
    began = process_time()
    found = layer_times(record)
    assert process_time() - began < 0.5
    assert found[0].own == pytest.approx(300 * 0.01)
    assert found[14].own == pytest.approx(300 * 0.76)
    assert found[14].passes == 300


async def test_a_flights_layers_are_drawn_where_they_stand() -> None:
    """Of a call that was shared, from when it was joined."""
    now = [0.0]
    flight = Trace("f", monotonic=lambda: now[0], wall=0.0)
    now[0] = 1.0
    caller = Trace("c", monotonic=lambda: now[0], wall=1.0)
    now[0] = 2.0
    caller.adopt(flight, "/try1")
    flight.spans.append(Span("retry", 1, 0.5, 4.0))
    flight.spans.append(Span("long gone", 1, 0.5, 1.5))
    now[0] = 4.0
    caller.spans.append(Span("single_flight", 0, 0.5, 3.0))
    caller.finish(Outcome.COMPLETE)
    drawn = [(row.label, row.depth, row.start, row.end) for row in rows(caller.record())]
    assert drawn == [("single_flight", 0, 0.5, 3.0), ("retry", 1, 1.0, 3.0)]
    assert [one.own for one in layer_times(caller.record())] == [0.5, 2.0]


async def test_a_layer_can_look_at_what_stands_inside() -> None:
    """The layers of its own pipeline that a request still passes, by name."""
    seen: list[Any] = []

    async def look(request: Any, call_next: Any) -> Any:
        seen.append(([name for name, _ in layers_inside(call_next)], provided(call_next, "x")))
        return await call_next(request)

    b = layer("b", provides=("x",))
    await pipeline([layer("a"), look, b, look], Scripted(["ok"])).run(TIMED)
    assert seen == [(["b", "look"], b), ([], None)]


async def test_who_wants_the_whole_call_is_told_after_it() -> None:
    """When the trace is complete; what a callback raises is noted and harms nobody."""
    told: list[TraceRecord] = []

    async def observe(request: Any, call_next: Any) -> Any:
        trace = request.context.trace
        request.context.call.after(lambda: 1 / 0)
        request.context.call.after(lambda: told.append(trace.record()))
        return await call_next(request)

    pipe = pipeline([observe], Scripted(["ok", ServerError("x", status=500)]))
    async with pipe.stream(TIMED) as response:
        await response.collect()
        assert told == []
    with pytest.raises(ServerError):
        await pipe.run(TIMED)
    assert [record.outcome for record in told] == [Outcome.COMPLETE, Outcome.FAILED]
    assert [note.name for note in response.trace.notes] == ["callback.failed"]
    assert [span.layer for record in told for span in record.spans] == ["observe"] * 2


async def test_of_several_callbacks_of_one_key_the_last_is_told() -> None:
    """A layer inside may be passed often, and tells of the call once."""
    told: list[str] = []

    async def observe(request: Any, call_next: Any) -> Any:
        call = request.context.call
        for _ in range(2):
            call.after(partial(told.append, "anybody's"))
        for number in range(3):
            call.after(partial(told.append, f"pass {number}"), key=observe)
        return await call_next(request)

    await pipeline([observe], Scripted(["ok"])).run(TIMED)
    assert told == ["anybody's", "anybody's", "pass 2"]


async def test_a_call_that_a_layer_begins_is_its_callers_own() -> None:
    """Whoever made the request that the layer has: it is another call, with its own spending."""
    inner = pipeline([], Scripted(["ok"]))
    asked: list[str] = []

    async def calls(request: Any, call_next: Any) -> Any:
        found = await inner.run(request.branch("try2", asked_by="retry"))
        asked.extend(attempt.asked_by for attempt in found.trace.attempts)
        return await call_next(request)

    await pipeline([calls], Scripted(["ok"])).run(TIMED)
    assert asked == [""]
