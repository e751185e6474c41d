"""A pipeline's life: many calls, health, closing, who owns what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    ClosedError,
    ConfigurationError,
    Context,
    MisuseError,
    NotBegunError,
    Pipeline,
    Ports,
    Progress,
    Stores,
    TextDelta,
    begin,
)
from lamella._memory_stores import memory_stores

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from lamella import Event

pytestmark = pytest.mark.anyio

HELLO = ChatRequest.of("hello")


async def echo(request: ChatRequest) -> ChatResponse:
    """Say it back."""
    return ChatResponse.of(request.messages[-1].text)


class Gate:
    """A transport that waits to be told, and can be closed."""

    name = "gate"

    def __init__(self) -> None:
        self.entered = anyio.Event()
        self.opened = anyio.Event()
        self.closed = 0

    async def __call__(self, request: Any) -> Any:
        self.entered.set()
        await self.opened.wait()
        return ChatResponse.of("through")

    async def aclose(self) -> None:
        self.closed += 1


async def test_run_many_keeps_order_and_loses_nothing() -> None:
    """Responses stand in the order of the requests; a failure stands in its own place."""

    async def odd_ones_fail(request: ChatRequest) -> ChatResponse:
        number = int(request.messages[-1].text)
        await anyio.lowlevel.checkpoint()
        if number % 2:
            raise LookupError(number)
        return ChatResponse.of(str(number))

    seen: list[Progress] = []
    requests = [ChatRequest.of(str(number)) for number in range(6)]

    results = await Pipeline([], odd_ones_fail).run_many(
        requests, concurrency=3, on_progress=seen.append
    )

    assert [r.text if isinstance(r, ChatResponse) else r.args[0] for r in results] == [
        "0", 1, "2", 3, "4", 5,
    ]  # fmt: skip
    assert [p.done for p in seen] == [1, 2, 3, 4, 5, 6]
    assert {p.total for p in seen} == {6}


async def test_run_many_takes_from_an_endless_iterable_only_what_it_has_room_for() -> None:
    """Requests are taken as places become free, never more at once than asked for."""
    taken = inside = most = 0

    def requests() -> Iterator[ChatRequest]:
        nonlocal taken
        for number in range(20):
            taken = number + 1
            yield HELLO

    async def count(request: ChatRequest) -> ChatResponse:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        assert taken <= 20
        await anyio.lowlevel.checkpoint()
        inside -= 1
        return ChatResponse.of("ok")

    results = await Pipeline([], count).run_many(requests(), concurrency=4)

    assert (len(results), most) == (20, 4)
    with pytest.raises(ConfigurationError, match="1 or more"):
        await Pipeline([], echo).run_many([HELLO], concurrency=0)


async def test_closing_refuses_new_calls() -> None:
    """A closed pipeline says so, and closing it again does nothing."""
    gate = Gate()
    pipeline = Pipeline([], gate)
    await pipeline.aclose()
    await pipeline.aclose()

    with pytest.raises(ClosedError, match="has been closed"):
        await pipeline.run(HELLO)
    assert gate.closed == 1
    assert (await pipeline.health()).status == "closed"


async def test_closing_ends_running_calls_with_closed_error() -> None:
    """What closing interrupts ends with ClosedError, not with a connection error."""
    gate = Gate()
    pipeline = Pipeline([], gate)
    errors: list[ClosedError] = []

    async def call() -> None:
        with pytest.raises(ClosedError) as closed:
            await pipeline.run(HELLO)
        errors.append(closed.value)

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await gate.entered.wait()
        await pipeline.aclose()

    [error] = errors
    assert not error.retryable
    assert gate.closed == 1


async def test_draining_lets_running_calls_finish() -> None:
    """With `drain`, a call that finishes in time is answered."""
    gate = Gate()
    pipeline = Pipeline([], gate)
    answers: list[str] = []

    async def call() -> None:
        answers.append((await pipeline.run(HELLO)).text)

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await gate.entered.wait()
        group.start_soon(lambda: pipeline.aclose(drain=30))
        await anyio.lowlevel.checkpoint()
        gate.opened.set()

    assert answers == ["through"]


async def test_closing_ends_an_open_stream() -> None:
    """A reader who waits for the next event is told that the pipeline was closed."""
    waiting = anyio.Event()

    async def endless(request: ChatRequest) -> ChatResponse:
        async def events() -> AsyncIterator[Event]:
            yield TextDelta("one")
            waiting.set()
            await anyio.sleep_forever()

        return await begin(request, events())

    pipeline = Pipeline([], endless)

    async def read() -> None:
        async with pipeline.stream(HELLO) as response:
            with pytest.raises(ClosedError) as closed:
                await response.collect()
            assert closed.value.partial is not None
            assert closed.value.partial.text == "one"

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await waiting.wait()
        await pipeline.aclose()


async def test_what_two_pipelines_share_closes_with_the_last() -> None:
    """A shared transport stays open while somebody still uses it."""
    gate = Gate()
    one, other = Pipeline([], gate), Pipeline([], gate)

    await one.aclose()
    assert gate.closed == 0
    await other.aclose()
    assert gate.closed == 1


async def test_layers_close_outermost_first_then_the_transport() -> None:
    """The order of closing is the order of the stack."""
    order: list[str] = []

    class Closing:
        def __init__(self, name: str) -> None:
            self.name = name

        async def __call__(self, request: Any, call_next: Any = None) -> Any:
            return await call_next(request)

        async def aclose(self) -> None:
            order.append(self.name)

    async with Pipeline([Closing("outer"), Closing("inner")], Closing("transport")):
        pass

    assert order == ["outer", "inner", "transport"]


class Closing:
    """A layer that says when it is closed, and may fail at it."""

    def __init__(self, name: str, closed: list[str], error: Exception | None = None) -> None:
        self.name = name
        self.closed = closed
        self.error = error

    async def __call__(self, request: Any, call_next: Any) -> Any:
        return await call_next(request)

    async def aclose(self) -> None:
        self.closed.append(self.name)
        if self.error is not None:
            raise self.error


async def test_a_part_that_fails_to_close_keeps_no_other_from_it() -> None:
    """Every part has its turn, and the failure is raised in the end."""
    closed: list[str] = []
    layers = [Closing("outer", closed, ZeroDivisionError()), Closing("inner", closed)]
    gate = Gate()

    with pytest.raises(ZeroDivisionError):
        await Pipeline(layers, gate).aclose()

    assert closed == ["outer", "inner"]
    assert gate.closed == 1


async def test_cancelling_the_draining_does_not_stop_the_closing() -> None:
    """Whoever stops waiting for running calls leaves nothing half closed."""
    gate = Gate()
    pipeline = Pipeline([], gate)

    async def call() -> None:
        with pytest.raises(ClosedError):
            await pipeline.run(HELLO)

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await gate.entered.wait()
        with anyio.move_on_after(0.01):
            await pipeline.aclose(drain=60)
            raise AssertionError("it was not cancelled")

    assert gate.closed == 1


async def test_stores_that_two_pipelines_share_close_with_the_last() -> None:
    """Pipelines with the same ports do not close each other's stores."""
    closed: list[str] = []

    class Counted(Stores):
        async def aclose(self) -> None:
            closed.append("closed")

    memory = memory_stores()
    ports = Ports(stores=Counted(memory.blobs, memory.leases, memory.local))
    one, other = Pipeline([], echo, ports=ports), Pipeline([], echo, ports=ports)

    await one.aclose()
    assert closed == []
    await other.aclose()
    assert closed == ["closed"]


async def test_a_call_that_could_not_begin_is_not_running() -> None:
    """A mistake in the question leaves nothing that closing would wait for."""
    pipeline = Pipeline([], echo)
    with pytest.raises(ConfigurationError, match="Add Structured"):
        await pipeline.run(HELLO, returns=int)
    assert (await pipeline.health()).running == 0


async def test_health_asks_every_part_and_never_raises() -> None:
    """An unwell layer degrades, a transport that raises is down, silence is an answer."""

    class Part:
        name = "part"

        def __init__(self, answer: Any) -> None:
            self._answer = answer

        async def __call__(self, request: Any, call_next: Any = None) -> Any:
            return await call_next(request)

        async def health(self) -> Any:
            if isinstance(self._answer, Exception):
                raise self._answer
            return self._answer

    broken = LookupError("secret")

    assert (await Pipeline([Part(True)], Part(True)).health()).status == "ok"
    assert (await Pipeline([Part(False)], Part(True)).health()).status == "degraded"
    down = await Pipeline([], Part(broken)).health()
    assert down.status == "down"
    assert "secret" not in str(down)
    assert (await Pipeline([], Pipeline([], Part(broken))).health()).status == "down"


async def test_a_pipeline_called_as_a_handler_names_run() -> None:
    """Only run and stream begin a call."""
    with pytest.raises(NotBegunError, match=r"pipeline\.run"):
        await Pipeline([], echo)(HELLO)


async def test_a_call_is_awaited_once() -> None:
    """Awaiting the same call again is an error that says what to do."""
    call = Pipeline([], echo).run(HELLO)
    await call

    with pytest.raises(MisuseError, match="already been awaited"):
        await call


async def test_a_call_may_be_started_as_a_task() -> None:
    """What `run` returns is a coroutine to task groups as well."""
    pipeline = Pipeline([], echo)
    async with anyio.create_task_group() as group:
        group.start_soon(pipeline.run, HELLO)


async def test_a_stream_is_a_block() -> None:
    """Whoever iterates or awaits it directly is told to write `async with`."""
    pipeline = Pipeline([], echo)
    with pytest.raises(MisuseError, match=r"async with pipeline\.stream"):
        async for _ in cast("Any", pipeline.stream(HELLO)):
            pass
    with pytest.raises(MisuseError, match=r"async with pipeline\.stream"):
        await cast("Any", pipeline.stream(HELLO))


async def test_a_layer_that_returns_nothing_is_named() -> None:
    """A forgotten return names the layer and what it should end with."""

    async def forgetful(request: Any, call_next: Any) -> Any:
        await call_next(request)

    with pytest.raises(TypeError, match="Layer 'forgetful' returned NoneType"):
        await Pipeline([forgetful], echo).run(HELLO)


async def test_one_request_runs_many_times_and_at_once() -> None:
    """Each run is a call of its own, with an id and a trace of its own."""
    pipeline = Pipeline([], echo)

    first, second = await pipeline.run_many([HELLO, HELLO])

    assert isinstance(first, ChatResponse)
    assert isinstance(second, ChatResponse)
    assert first.trace.call_id != second.trace.call_id
    assert not HELLO.context.begun


async def test_a_timed_call_draws_its_layers() -> None:
    """With `timed`, each layer's time is in the trace, nested as the stack is."""

    async def outer(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    request = ChatRequest.of("hi", context=Context(timed=True))
    response = await Pipeline([outer], echo).run(request)

    assert [(span.layer, span.depth) for span in response.trace.spans] == [("outer", 0)]
    drawn = response.trace.draw()
    assert "outer" in drawn
    assert "-> echo" in drawn


async def test_explain_says_what_runs() -> None:
    """Layers, their options and where they come from, and nested pipelines."""
    inner = Pipeline([], echo, name="inner")

    text = str(Pipeline(["retry", "cost"], inner, name="outer").explain())

    assert text.splitlines()[0] == "outer: outermost first"
    assert "retry" in text
    assert "from lamella" in text
    assert "inner: outermost first" in text
