"""Cancelled at every step of the scheduler, once and twice, a stack leaves nothing behind."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    Ending,
    Finish,
    Limits,
    NetworkError,
    Outcome,
    Pipeline,
    ending,
    middleware,
)
from lamella.testing import Item, Scenario, Scripted, each_step, virtual_ports

HELLO = ChatRequest.of("hello")


class Books:
    """What a stack has open: the balance of all its accounts."""

    def __init__(self) -> None:
        self.opened = 0
        self.endings: list[Ending] = []
        self.interrupted = 0

    def layer(self, *, asynchronous: bool) -> Any:
        """A layer that opens an account before the call and closes it at the ending."""

        def settle(end: Ending) -> None:
            self.endings.append(end)

        async def settle_slowly(end: Ending) -> None:
            self.interrupted += 1
            await anyio.sleep(0.01)
            self.interrupted -= 1
            self.endings.append(end)

        async def account(request: ChatRequest, call_next: Any) -> ChatResponse:
            self.opened += 1
            return await ending(call_next, request, settle_slowly if asynchronous else settle)

        return account


async def shout(request: ChatRequest, call_next: Any) -> ChatResponse:
    """A level of its own."""
    response: ChatResponse = await call_next(request)
    return response.map_text(str.upper)


async def again(request: ChatRequest, call_next: Any) -> ChatResponse:
    """Try once more after an uncommitted error."""
    try:
        response: ChatResponse = await call_next(request.branch("try1"))
    except NetworkError:
        await request.context.sleep(1)
        response = await call_next(request.branch("try2"))
    return response


async def limit(request: ChatRequest, call_next: Any) -> ChatResponse:
    """Limits that are never reached."""
    limits = Limits(first_event=50, idle=50, attempt=500)
    context = request.context.evolve(limits=limits, deadline=request.context.clock.now() + 1000)
    response: ChatResponse = await call_next(request.evolve(context=context))
    return response


async def race(request: ChatRequest, call_next: Any) -> ChatResponse:
    """Ask twice at once and take the first answer; the net has to close the loser."""
    answers: list[ChatResponse] = []
    errors: list[NetworkError] = []

    async with anyio.create_task_group() as group:

        async def ask(name: str) -> None:
            try:
                answers.append(await call_next(request.branch(name)))
            except NetworkError as error:
                errors.append(error)
            else:
                group.cancel_scope.cancel()

        group.start_soon(ask, "hedge1")
        await anyio.sleep(0.1)
        group.start_soon(ask, "hedge2")
    if not answers:
        raise errors[0]
    return answers[0]


def stack(*, stream: bool, layers: list[Any]) -> Any:
    """Makes a scenario around the layers, and the check that nothing is left."""

    def make() -> tuple[Scenario, Scenario]:
        books = Books()
        answer: list[Item] = ["a", 1.0, "b", 1.0, "c", Finish("stop")]
        transport = Scripted([NetworkError("down"), answer, answer, answer], delay=1)
        accounts = (books.layer(asynchronous=True), books.layer(asynchronous=False))
        wire = middleware(phase="wire")(books.layer(asynchronous=False))
        pipeline = Pipeline([*accounts, *layers, wire], transport, ports=virtual_ports())
        traces: list[Any] = []

        async def scenario() -> None:
            if not stream:
                traces.append((await pipeline.run(HELLO)).trace)
                return
            async with pipeline.stream(HELLO) as response:
                traces.append(response.trace)
                async for _ in response:
                    await anyio.sleep(0.5)

        async def check() -> None:
            await anyio.sleep(2)  # for the net under what was dropped or interrupted
            assert transport.open_sources == 0
            assert len(books.endings) + books.interrupted == books.opened
            assert (await pipeline.health()).running == 0
            for trace in traces:
                assert trace.finished
                assert all(attempt.outcome is not None for attempt in trace.attempts)
            start = anyio.current_time()
            await pipeline.aclose()
            assert anyio.current_time() == start

        return scenario, check

    return make


@pytest.fixture(params=[False, True], ids=["run", "stream"])
def stream(request: pytest.FixtureRequest) -> bool:
    """Unstreamed and streamed."""
    return bool(request.param)


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    """Both event loops."""
    return str(request.param)


STACKS = {
    "bare": [],
    "levels": [shout, limit, shout],
    "retry": [shout, again, limit],
    "race": [again, race, limit],
}


@pytest.mark.parametrize("layers", STACKS.values(), ids=list(STACKS))
def test_cancelled_at_each_step(layers: list[Any], stream: bool, backend: str) -> None:
    """One cancellation, anywhere, leaves no source, no account and no call open."""
    steps = each_step(stack(stream=stream, layers=[again, *layers]), backend=backend)
    assert steps > 8


@pytest.mark.parametrize("layers", STACKS.values(), ids=list(STACKS))
def test_cancelled_again_during_the_clean_up(layers: list[Any], stream: bool, backend: str) -> None:
    """A second cancellation, while the first is being cleaned up after, changes nothing."""
    make = stack(stream=stream, layers=[again, *layers])
    assert each_step(make, backend=backend, again=(1, 2, 3)) > 8


@pytest.mark.parametrize("layers", STACKS.values(), ids=list(STACKS))
def test_cancelled_through_shields(layers: list[Any], stream: bool) -> None:
    """`Task.cancel()` of asyncio interrupts clean-up too; still nothing stays open."""
    make = stack(stream=stream, layers=[again, *layers])
    assert each_step(make, by_task=True, again=(1, 2)) > 8


@pytest.mark.parametrize("stream", [False, True], ids=["run", "stream"])
def test_a_cancelled_call_is_recorded_as_cancelled(stream: bool, backend: str) -> None:
    """Cancellation is never an error: the call and its attempts end as *cancelled*, or well."""

    def make() -> tuple[Scenario, Scenario]:
        traces: list[Any] = []
        transport = Scripted([["a", 1.0, "b", Finish("stop")]], delay=1)

        async def keep(request: ChatRequest, call_next: Any) -> ChatResponse:
            traces.append(request.context.trace)
            response: ChatResponse = await call_next(request)
            return response

        pipeline = Pipeline([keep, shout], transport, ports=virtual_ports())

        async def scenario() -> None:
            if stream:
                async with pipeline.stream(HELLO) as response:
                    await response.collect()
            else:
                await pipeline.run(HELLO)

        async def check() -> None:
            for trace in traces:
                good = {Outcome.CANCELLED, Outcome.COMPLETE, Outcome.LEFT}
                assert {trace.outcome, *(attempt.outcome for attempt in trace.attempts)} <= good
                assert not trace.notes

        return scenario, check

    assert each_step(make, backend=backend) > 3
