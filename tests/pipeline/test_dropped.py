"""The nets: what is dropped, leaked or left running is closed, and said so."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncGenerator
from types import ModuleType
from typing import Any

import anyio
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    Event,
    Finish,
    Outcome,
    Pipeline,
)
from lamella.testing import Item, Scripted, virtual_ports

pytestmark = pytest.mark.anyio

HELLO = ChatRequest.of("hello")
LONG: list[Item] = ["a", 100.0, "b", Finish("stop")]


@pytest.fixture
def anyio_backend(lamella_virtual_backend: tuple[str, dict[str, Any]]) -> tuple[str, Any]:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend


async def test_a_losing_answer_is_closed_and_noted() -> None:
    """A layer that keeps an open answer and returns another leaks; the call's end closes it."""
    kept: list[ChatResponse] = []

    async def careless(request: ChatRequest, call_next: Any) -> ChatResponse:
        kept.append(await call_next(request.branch("loser")))
        winner: ChatResponse = await call_next(request.branch("winner"))
        return winner

    transport = Scripted([LONG, "good"])
    pipeline = Pipeline([careless], transport, ports=virtual_ports())
    async with pipeline.stream(HELLO) as response:
        await response.collect()
        assert transport.open_sources == 1
    assert transport.open_sources == 0
    assert [(note.name, note.fields) for note in response.trace.notes] == [
        ("leak", {"response": "ChatResponse"})
    ]
    outcomes = [attempt.outcome for attempt in response.trace.attempts]
    assert outcomes == [Outcome.LEFT, Outcome.COMPLETE]


async def test_a_layer_that_raises_after_it_was_answered_leaks_nothing() -> None:
    """An error between the answer and its return closes the answer."""

    async def clumsy(request: ChatRequest, call_next: Any) -> ChatResponse:
        response: ChatResponse = await call_next(request)
        assert response.open
        raise LookupError("after the answer")

    transport = Scripted([LONG])
    with pytest.raises(LookupError):
        async with Pipeline([clumsy], transport, ports=virtual_ports()).stream(HELLO):
            pytest.fail("there is no answer")
    gc.collect()
    await anyio.sleep(0.1)
    assert transport.open_sources == 0


async def test_a_dropped_level_closes_what_it_reads() -> None:
    """A dropped answer of several levels closes down to the source, without a warning."""

    async def shout(request: ChatRequest, call_next: Any) -> ChatResponse:
        response: ChatResponse = await call_next(request)
        return response.map_text(str.upper)

    async def forget(request: ChatRequest, call_next: Any) -> ChatResponse:
        dropped: ChatResponse = await call_next(request)
        assert dropped.open
        del dropped
        gc.collect()
        await anyio.sleep(0.1)
        assert transport.open_sources == 0
        return ChatResponse.of("instead")

    transport = Scripted([LONG])
    pipeline = Pipeline([forget, shout, shout], transport, ports=virtual_ports())
    async with pipeline.stream(HELLO) as response:
        assert response.text == "instead"
    assert [attempt.outcome for attempt in response.trace.attempts] == [Outcome.LEFT]
    assert [note.name for note in response.trace.notes] == ["leak"]


async def test_a_dropped_block_ends_its_call() -> None:
    """A block that was entered and dropped is left by the net: the pipeline can close at once."""
    transport = Scripted([LONG])
    pipeline = Pipeline([], transport, ports=virtual_ports())
    block = pipeline.stream(HELLO)
    await block.__aenter__()
    del block
    gc.collect()
    await anyio.sleep(0.1)
    assert transport.open_sources == 0
    start = anyio.current_time()
    await pipeline.aclose()
    assert anyio.current_time() == start


async def test_a_generator_around_a_stream_cleans_up_when_it_is_closed() -> None:
    """An answer handed on by a generator closes with it."""
    transport = Scripted([LONG])
    pipeline = Pipeline([], transport, ports=virtual_ports())

    async def words() -> AsyncGenerator[Event, None]:
        async with pipeline.stream(HELLO) as response:
            async for event in response:
                yield event

    generator = words()
    await anext(generator)
    await generator.aclose()
    assert transport.open_sources == 0


async def test_background_work_ends_with_the_pipeline() -> None:
    """What a layer has detached goes on after the call, and ends when the pipeline closes."""
    ticks: list[float] = []

    async def refresh() -> None:
        while True:
            await anyio.sleep(1)
            ticks.append(anyio.current_time())

    async def detach(request: ChatRequest, call_next: Any) -> ChatResponse:
        request.context.background.spawn(refresh, name="refresh")
        response: ChatResponse = await call_next(request)
        return response

    pipeline = Pipeline([detach], Scripted(["x"]), ports=virtual_ports())
    await pipeline.run(HELLO)
    assert list(pipeline.background.names) == ["refresh"]
    await anyio.sleep(3.5)
    await pipeline.aclose()
    await anyio.sleep(10)
    assert ticks == [1, 2, 3]
    assert list(pipeline.background.names) == []


def test_what_is_dropped_as_the_loop_ends_does_not_disturb_it() -> None:
    """A run of trio, which takes no new tasks by then, ends as if nothing had been dropped."""
    kept: list[Any] = []

    async def words() -> AsyncGenerator[Event, None]:
        block = Pipeline([], Scripted([["a", "b", Finish("stop")]])).stream(HELLO)
        response = await block.__aenter__()
        try:
            async for event in response:
                yield event
        finally:
            del block, response
            gc.collect()

    async def main() -> None:
        kept.append(words())
        await anext(kept[-1])

    for backend in ("asyncio", "trio"):
        anyio.run(main, backend=backend)


def test_a_half_imported_trio_is_no_running_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """While another thread imports trio, calls on asyncio go on."""
    monkeypatch.setitem(sys.modules, "trio", ModuleType("trio"))
    monkeypatch.setitem(sys.modules, "trio.lowlevel", ModuleType("trio.lowlevel"))

    async def echo(request: ChatRequest) -> ChatResponse:
        return ChatResponse.of("through")

    assert asyncio.run(Pipeline([], echo).run(HELLO)).text == "through"
