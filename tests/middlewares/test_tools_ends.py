"""A loop of tools that is cancelled, left, closed, or out of time."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from tool_turns import ASK, asks, call, noted, pipeline, read, results, sent, whole

from lamella import (
    ChatRequest,
    ChatResponse,
    ClosedError,
    DeadlineExceeded,
    Outcome,
    StreamTruncated,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
    answered,
)
from lamella.testing import Scripted, check_middleware, each_step
from lamella_middlewares import Deadline, Structured, Tools

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("stream", [False, True], ids=["run", "stream"])


async def wait(seconds: float) -> str:
    """Waits."""
    await anyio.sleep(seconds)
    return f"waited {seconds:g}"


async def asks_first(request: Any, call_next: Any) -> Any:
    """A model that asks for a tool before it says anything."""
    if isinstance(request, ChatRequest) and request.messages[-1].role != "tool":
        asked = ToolCall("1", "wait", '{"seconds":0.01}')
        return request.answer(ChatResponse.of([asked]).events)
    return await call_next(request)


async def test_a_loop_keeps_the_contract() -> None:
    """With a turn of tools in every call; what the kit cannot know of two turns is tested here."""
    await check_middleware(
        lambda: Tools([wait]),
        stack=lambda layer: [layer, asks_first],
        skip=["errors before commitment", "errors after commitment", "cancelled anywhere"],
    )


@pytest.mark.parametrize("stream", [False, True], ids=["run", "stream"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_at_any_step_it_leaves_nothing(backend: str, *, stream: bool) -> None:
    """In a turn, in the tools, between the two; and what was sent is whole."""

    def make() -> Any:
        begun: list[float] = []
        ended: list[float] = []

        async def work(seconds: float) -> str:
            begun.append(seconds)
            try:
                await anyio.sleep(seconds)
            finally:
                ended.append(seconds)
            return "ok"

        transport = Scripted(
            [asks(call("work", "a", seconds=0.1), call("work", "b", seconds=0.2)), "Done."],
            gap=0.05,
        )
        pipe = pipeline(Tools([work]), transport)
        seen: list[Any] = []

        async def scenario() -> None:
            if not stream:
                await pipe.run(ASK)
                return
            async with pipe.stream(ASK) as response:
                seen.append(response)
                await response.collect()

        async def check() -> None:
            await anyio.sleep(1)
            assert sorted(begun) == sorted(ended)
            assert transport.open_sources == 0
            assert whole(sent(transport))
            for request in sent(transport):
                trace = request.context.trace
                assert all(attempt.outcome is not None for attempt in trace.attempts)
                assert not any(note.name == "leak" for note in trace.notes)
                called = [note for note in trace.notes if note.name == "tools.called"]
                assert len(called) in {0, 2}
            for response in seen:
                if begun:
                    assert answered(response.partial.messages)

        return scenario, check

    assert each_step(make, backend=backend) > 10


async def test_a_cancelled_answer_has_a_result_for_each_call() -> None:
    """What is done is there, the rest is called cancelled: a history of it can be gone on with."""
    calls = [call("wait", "quick", seconds=1), call("wait", "slow", seconds=9)]
    pipe = pipeline(Tools([wait], concurrency=2), [asks(*calls)])
    async with pipe.stream(ASK) as response:
        with anyio.move_on_after(5):
            await response.collect()
    assert response.outcome is Outcome.CANCELLED
    told = results(response.partial.messages)
    assert told[0] == ("quick", "waited 1", False)
    assert told[1][1].startswith("The call was cancelled. Whether")
    assert [one["outcome"] for one in noted(response)] == ["ok", "cancelled"]


async def test_what_was_not_begun_had_no_effect() -> None:
    """It is told apart from what was."""
    calls = [call("wait", "one", seconds=9), call("wait", "two", seconds=9)]
    pipe = pipeline(Tools([wait], concurrency=1), [asks(*calls)])
    async with pipe.stream(ASK) as response:
        with anyio.move_on_after(5):
            await response.collect()
    assert "no effect" in results(response.partial.messages)[1][1]


@BOTH
async def test_the_deadline_ends_the_tools(*, stream: bool) -> None:
    """The error has the turn, with what was done."""
    calls = [call("wait", "quick", seconds=1), call("wait", "slow", seconds=90)]
    layers: Any = Deadline(5)
    pipe = pipeline(layers, [asks(*calls)], Tools([wait]))
    began = anyio.current_time()
    with pytest.raises(DeadlineExceeded, match="tools") as caught:
        await read(pipe, stream=stream)
    assert anyio.current_time() - began == pytest.approx(5)
    partial: Any = caught.value.partial
    told = results(partial.messages)
    assert told[0] == ("quick", "waited 1", False)
    assert "cancelled" in told[1][1]
    assert answered(partial.messages)


@BOTH
async def test_closing_the_pipeline_ends_the_tools(*, stream: bool) -> None:
    """With ClosedError, soon."""
    pipe = pipeline(Tools([wait]), [asks(call("wait", seconds=900))])
    found: list[ClosedError] = []

    async def ask() -> None:
        try:
            await read(pipe, stream=stream)
        except ClosedError as error:
            found.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await anyio.sleep(1)
        began = anyio.current_time()
        await pipe.aclose(drain=0)
        assert anyio.current_time() - began < 2
    (error,) = found
    partial: Any = error.partial
    assert answered(partial.messages)


async def test_who_leaves_ends_the_tools_and_the_turn() -> None:
    """Another task may close the answer while tools run, and the read is told."""
    stopped: list[bool] = []

    async def long() -> str:
        try:
            await anyio.sleep(900)
        finally:
            stopped.append(True)
        return "never"

    transport = Scripted([asks(call("long"))])
    pipe = pipeline(Tools([long]), transport)
    async with pipe.stream(ASK) as response, anyio.create_task_group() as group:

        async def collect() -> None:
            with pytest.raises(ClosedError):
                await response.collect()

        group.start_soon(collect)
        await anyio.sleep(1)
        await response.aclose()
    assert stopped == [True]
    assert response.outcome is Outcome.LEFT
    assert transport.open_sources == 0


async def test_leaving_in_the_second_turn_closes_it() -> None:
    """And the call settles."""
    transport = Scripted([asks(call("wait", seconds=1)), "one two three four"])
    async with pipeline(Tools([wait]), transport).stream(ASK) as response:
        async for event in response:
            if isinstance(event, TextDelta):
                break
    assert transport.open_sources == 0
    assert [attempt.outcome for attempt in response.trace.attempts] == [
        Outcome.COMPLETE,
        Outcome.LEFT,
    ]


async def test_a_turn_that_breaks_off_is_not_run() -> None:
    """Half a call is nobody's."""
    begun: list[float] = []

    async def work(seconds: float) -> str:
        begun.append(seconds)
        return "ok"

    cut = [ToolCallDelta(0, "1", "work", '{"seconds":1}')]
    for stream in (False, True):
        with pytest.raises(StreamTruncated):
            await read(pipeline(Tools([work]), [cut]), stream=stream)
    assert begun == []


@pytest.mark.parametrize("outside", ["a transform", "Structured"])
async def test_a_cancelled_turn_and_what_it_has_cost_reach_the_caller(outside: str) -> None:
    """Through every level outside of the layer."""

    async def shout(request: Any, call_next: Any) -> Any:
        return (await call_next(request)).map_text(str.upper)

    calls = [call("wait", "quick", seconds=1), call("wait", "slow", seconds=9)]
    usage = Usage(uncached_input=5, text_output=2)
    layers: Any = shout if outside == "a transform" else Structured()
    pipe = pipeline(layers, [[TextDelta("Hm."), *asks(*calls, usage=usage)]], Tools([wait]))
    returns: Any = {} if outside == "a transform" else {"returns": dict[str, int]}
    async with pipe.stream(ASK, **returns) as response:
        with anyio.move_on_after(5):
            await response.collect()
    assert response.outcome is Outcome.CANCELLED
    assert [one[0] for one in results(response.partial.messages)] == ["quick", "slow"]
    assert response.partial.messages[0].text == ("HM." if outside == "a transform" else "Hm.")
    assert response.partial.usage == usage
