"""An ending that takes a while: who else is about the same answer or pipeline waits for it."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    ClosedError,
    ConnectionLostError,
    Context,
    DeadlineExceeded,
    Ending,
    Finish,
    Pipeline,
    Response,
    ending,
)
from lamella.testing import Scripted, virtual_ports

pytestmark = pytest.mark.anyio

HELLO = ChatRequest.of("hello")


@pytest.fixture
def anyio_backend(lamella_virtual_backend: tuple[str, dict[str, Any]]) -> tuple[str, Any]:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend


class Slow:
    """A layer whose callback takes half a second."""

    def __init__(self) -> None:
        self.told: list[float] = []
        self.also: Any = None

    async def __call__(self, request: Any, call_next: Any) -> Any:
        return await ending(call_next, request, self._tell)

    async def _tell(self, _: Ending) -> None:
        await anyio.sleep(0.5)
        if self.also is not None:
            await self.also()
        self.told.append(anyio.current_time())


def stack(*script: Any) -> tuple[Pipeline, Slow]:
    """A pipeline with the slow layer around a script."""
    slow = Slow()
    return Pipeline([slow], Scripted(script), ports=virtual_ports()), slow


async def ended(response: Response) -> None:
    """Wait until the answer has an outcome, and its callbacks are running."""
    await anyio.sleep(1.25)
    assert response.outcome is not None


@pytest.mark.parametrize("how", ["iterate", "collect", "pull"])
async def test_a_second_reader_is_given_the_end_after_the_callbacks(how: str) -> None:
    """While one reader's ending is under way, another one waits for it at the last event."""
    pipeline, slow = stack(["a", 1.0, "b", Finish("stop")])
    async with pipeline.stream(HELLO) as response, anyio.create_task_group() as group:
        group.start_soon(response.collect)
        await ended(response)
        assert slow.told == []
        if how == "iterate":
            assert [event async for event in response][-1] == Finish("stop")
        else:
            await getattr(response, how)()
        assert slow.told == [1.5]


async def test_a_second_reader_is_given_the_error_after_the_callbacks() -> None:
    """The same for an answer that broke."""
    pipeline, slow = stack(["a", 1.0, ConnectionLostError("x")])

    async def read() -> None:
        with pytest.raises(ConnectionLostError):
            await response.collect()

    async with pipeline.stream(HELLO) as response, anyio.create_task_group() as group:
        group.start_soon(read)
        await ended(response)
        with pytest.raises(ConnectionLostError):
            [event async for event in response]
        assert slow.told == [1.5]


async def test_earlier_events_are_not_held_back_by_an_ending() -> None:
    """What has come before the last event can be read at any time."""
    pipeline, slow = stack(["a", 1.0, "b", Finish("stop")])
    async with pipeline.stream(HELLO) as response, anyio.create_task_group() as group:
        group.start_soon(response.collect)
        await ended(response)
        cursor = aiter(response)
        await anext(cursor)
        await anext(cursor)
        assert (anyio.current_time(), slow.told) == (1.25, [])


async def test_leaving_waits_for_the_callbacks() -> None:
    """The call does not end before its callbacks have run, whichever task runs them."""
    pipeline, slow = stack(["a", 1.0, "b", Finish("stop")])
    async with anyio.create_task_group() as group:
        async with pipeline.stream(HELLO) as response:
            group.start_soon(response.collect)
            await ended(response)
            assert not response.trace.finished
        assert (slow.told, response.trace.duration) == ([1.5], 1.5)


async def test_a_callback_may_read_and_close_its_own_answer() -> None:
    """In the callback there is nothing to wait for."""
    pipeline, slow = stack(["a", "b", Finish("stop")])
    read: list[Any] = []

    async def also() -> None:
        read.extend([event async for event in response])
        await response.collect()
        await response.aclose()

    async with pipeline.stream(HELLO) as response:
        slow.also = also
        await response.collect()
    assert (read, slow.told) == (list(response.events), [0.5])


async def test_who_waits_for_an_ending_can_be_cancelled() -> None:
    """The ending goes on without them."""
    pipeline, slow = stack(["a", 1.0, "b", Finish("stop")])
    async with pipeline.stream(HELLO) as response, anyio.create_task_group() as group:
        group.start_soon(response.collect)
        await ended(response)
        with anyio.move_on_after(0.1) as scope:
            await response.collect()
        assert scope.cancelled_caught
        await response.collect()
    assert (response.complete, slow.told) == (True, [1.5])


# --- closing a pipeline ------------------------------------------------------------------------


class Door:
    """A transport that takes its time to close."""

    def __init__(self) -> None:
        self.closing = 0
        self.closed = 0
        self.also: Any = None

    async def __call__(self, request: ChatRequest) -> ChatResponse:
        return ChatResponse.of("through")

    async def aclose(self) -> None:
        self.closing += 1
        if self.also is not None:
            await self.also()
        await anyio.sleep(2)
        self.closed += 1


async def test_a_second_close_waits_for_the_first() -> None:
    """Whoever returns from aclose() finds the pipeline closed, and it is closed once."""
    door = Door()
    pipeline = Pipeline([], door, ports=virtual_ports())
    async with anyio.create_task_group() as group:
        group.start_soon(pipeline.aclose)
        await anyio.sleep(1)
        assert (door.closing, door.closed) == (1, 0)
        await pipeline.aclose()
        assert (door.closed, anyio.current_time()) == (1, 2)
    await pipeline.aclose()
    assert door.closing == 1


async def test_a_part_that_closes_its_pipeline_does_not_wait_for_itself() -> None:
    """Closing again on the way of closing returns at once."""
    door = Door()
    pipeline = Pipeline([], door, ports=virtual_ports())
    door.also = pipeline.aclose
    await pipeline.aclose()
    assert (door.closed, anyio.current_time()) == (1, 2)


async def test_a_second_close_outlives_a_first_that_fails_or_is_cancelled() -> None:
    """It returns once the first is through, however that went."""
    door = Door()
    pipeline = Pipeline([], door, ports=virtual_ports())

    async def fail() -> None:
        raise LookupError

    door.also = fail

    async def first() -> None:
        with pytest.raises(LookupError):
            await pipeline.aclose()

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await anyio.lowlevel.checkpoint()
        with anyio.fail_after(5):
            await pipeline.aclose()
    with pytest.raises(ClosedError):
        await pipeline.run(HELLO)


@pytest.mark.parametrize("other", ["asyncio", "trio"])
def test_a_close_on_another_loop_waits_too(other: str) -> None:
    """The two may be on event loops of their own, in threads of their own."""
    closing, go = threading.Event(), threading.Event()
    order: list[str] = []

    class Held(Door):
        async def aclose(self) -> None:
            closing.set()
            await anyio.to_thread.run_sync(go.wait)
            order.append("closed")

    pipeline = Pipeline([], Held())

    async def second() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(pipeline.aclose)
            await anyio.lowlevel.checkpoint()
            go.set()
        order.append("second")

    thread = threading.Thread(target=lambda: anyio.run(pipeline.aclose))
    thread.start()
    closing.wait(10)
    anyio.run(second, backend=other)
    thread.join(10)
    assert order == ["closed", "second"]


# --- waiting -----------------------------------------------------------------------------------


async def test_after_the_deadline_a_wait_is_not_begun() -> None:
    """What was to be awaited is not even called."""
    called: list[str] = []

    async def wait() -> None:
        called.append("it")

    async def late(request: Any, call_next: Any) -> Any:
        context: Context = request.context
        for left in (0.0, -1.0):
            expired = context.evolve(deadline=context.clock.now() + left)
            with pytest.raises(DeadlineExceeded, match="before queueing") as caught:
                await expired.wait(wait, what="queueing")
            assert caught.value.phase == "local"
        await context.wait(wait)
        return await call_next(request)

    await Pipeline([late], Scripted(["x"]), ports=virtual_ports()).run(HELLO)
    assert called == ["it"]


# --- synchronous readers -----------------------------------------------------------------------


def test_a_second_synchronous_reader_waits_too() -> None:
    """Another thread is given the last event once the callbacks have run."""
    telling, go = threading.Event(), threading.Event()
    order: list[str] = []

    async def tell(_: Ending) -> None:
        telling.set()
        await anyio.to_thread.run_sync(go.wait, 0.2)
        order.append("told")

    async def layer(request: Any, call_next: Any) -> Any:
        return await ending(call_next, request, tell)

    with Pipeline([layer], Scripted([["a", "b", Finish("stop")]])).stream_sync(HELLO) as response:
        first = threading.Thread(target=response.collect_sync)
        first.start()
        assert telling.wait(10)
        events = list(response)
        order.append("read")
        first.join(10)
    assert (order, events[-1]) == (["told", "read"], Finish("stop"))


async def test_a_failure_after_the_end_of_the_call_keeps_no_other_from_being_told() -> None:
    """A read that outlives its call raises it, for nobody else is left to hear of it."""
    told: list[Ending] = []

    def broken(_: Ending) -> None:
        raise LookupError("bug")

    pipeline = Pipeline([], Scripted([["a", 1.0, "b", Finish("stop")]]), ports=virtual_ports())
    async with pipeline.stream(HELLO) as response:
        await response.on_end(broken)
        await response.on_end(told.append)
        response.context.call.end()
        with pytest.raises(LookupError):
            await response.collect()
    assert len(told) == 1
