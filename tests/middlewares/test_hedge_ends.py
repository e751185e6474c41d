"""Hedge at its end: cancelled, closed, abandoned, over sockets; neither copy leaves anything."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from lamella import ChatRequest, ClosedError, Finish, LamellaError, Outcome, Pipeline
from lamella.testing import MockServer, Scripted, ScriptedAnswer, each_step, virtual_ports
from lamella.transports import OpenAI, OpenAIOptions
from lamella_middlewares.hedge import Hedge

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello", model="m")


def takes(seconds: float) -> ScriptedAnswer:
    """An answer that begins after so many seconds."""
    return ScriptedAnswer(("after ", f"{seconds:g}", Finish("stop")), delay=seconds)


SLOW, QUICK = takes(10), takes(0.2)


def pipeline(transport: Any) -> Pipeline:
    """One that asks again after a second, with a clock and stores of its own."""
    return Pipeline([Hedge(delay=1, max_extra=1)], transport, ports=virtual_ports())


async def ask(pipe: Pipeline, request: Any = ASK, *, stream: bool = False) -> Any:
    """The complete response, run or streamed, or the error."""
    try:
        if not stream:
            return await pipe.run(request)
        async with pipe.stream(request) as response:
            return await response.collect()
    except LamellaError as error:
        return error


# --- cancellation and closing ----------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("by_task", [False, True])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("winner", ["first", "second", "both"])
def test_cancelled_at_any_step_it_leaves_nothing(
    winner: str, backend: str, by_task: bool, stream: bool
) -> None:
    """Once, and again during the clean-up: no source is open and every attempt has ended."""
    first = {"first": takes(1.5), "second": SLOW, "both": takes(1.2)}[winner]

    def make() -> Any:
        transport = Scripted([first, QUICK if winner != "first" else SLOW], gap=0.01)
        pipe = pipeline(transport)

        async def scenario() -> None:
            await ask(pipe, stream=stream)

        async def check() -> None:
            await anyio.sleep(0.1)
            assert transport.open_sources == 0
            assert (await pipe.health()).running == 0
            for request in transport.requests:
                trace = request.context.trace
                assert all(attempt.outcome is not None for attempt in trace.attempts)
                assert not any(note.name == "leak" for note in trace.notes)

        return scenario, check

    assert each_step(make, backend=backend, by_task=by_task, again=(1, 2, 3)) > 5


@pytest.mark.parametrize("stream", [False, True])
async def test_a_closing_pipeline_ends_both_copies(stream: bool) -> None:
    """The caller gets ClosedError."""
    transport = Scripted([takes(50), takes(60)])
    pipe = pipeline(transport)
    found: list[Any] = []

    async def call() -> None:
        found.append(await ask(pipe, stream=stream))

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await anyio.sleep(2)
        await pipe.aclose()
    assert isinstance(found[0], ClosedError)
    assert len(transport.requests) == 2
    assert transport.open_sources == 0


async def test_a_hundred_streams_abandoned_in_the_race_leave_nothing() -> None:
    """Cancelled at a hundred different moments."""
    transport = Scripted([takes(1.4), takes(0.5)], repeat=True, gap=0.01)
    pipe = pipeline(transport)

    async def abandoned(after: float) -> None:
        with anyio.move_on_after(after):
            async with pipe.stream(ASK) as response:
                await response.collect()

    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(abandoned, number * 0.02)
    await anyio.sleep(0.1)
    assert transport.open_sources == 0
    assert (await pipe.health()).running == 0


# --- over sockets ----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("winner", ["first", "second"])
async def test_over_http_the_losers_connection_is_closed(winner: str, stream: bool) -> None:
    """The provider sees it go, and the winner's answer is read to its end by the caller's task."""
    faults = ["delay=60", None] if winner == "second" else ["delay=2", "delay=60"]
    async with MockServer(faults=faults) as server:
        transport = OpenAI("unused", base_url=server.url, options=OpenAIOptions(name="mock"))
        async with pipeline(transport) as pipe:
            response = await ask(pipe, ASK.evolve(model="mock"), stream=stream)
            assert response.text
            outcomes = [attempt.outcome for attempt in response.trace.attempts]
            lost = outcomes.index(Outcome.CANCELLED)
            assert outcomes[1 - lost] is Outcome.COMPLETE
            assert (lost == 0) == (winner == "second")
            await server.until(lambda server: server.open_connections <= 1)
            assert len(server.disconnects) == 1
