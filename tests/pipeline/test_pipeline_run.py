"""`run`: each one a call of its own, through the layers and back."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    Context,
    EmbeddingRequest,
    EmbeddingResponse,
    Handler,
    LamellaError,
    MisuseError,
    NotBegunError,
    Outcome,
    Pipeline,
    RateLimitError,
    middleware,
)
from lamella.testing import Scripted, virtual_ports

pytestmark = pytest.mark.anyio

HELLO = ChatRequest.of("hello", model="m")


def note(name: str, seen: list[str]) -> Any:
    """A layer that says when it is passed, inward and outward."""

    async def layer(request: ChatRequest, call_next: Handler) -> ChatResponse:
        seen.append(f"{name} in")
        response = await call_next(request)
        seen.append(f"{name} out")
        return response

    return layer


async def test_the_first_layer_is_the_outermost() -> None:
    """The caller's list is the order, on the way in and, reversed, on the way out."""
    seen: list[str] = []
    await Pipeline([note("a", seen), note("b", seen)], Scripted(["x"])).run(HELLO)
    assert seen == ["a in", "b in", "b out", "a out"]


async def test_each_run_is_a_call_of_its_own() -> None:
    """One request object may be run many times and at once: ids, traces and clocks are fresh."""
    pipeline = Pipeline([], Scripted(["x"], repeat=True))
    responses: list[ChatResponse] = []

    async def call() -> None:
        responses.append(await pipeline.run(HELLO))

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(call)
    assert len({response.context.call_id for response in responses}) == 5
    assert len({id(response.trace) for response in responses}) == 5
    assert not HELLO.context.begun


async def test_the_callers_facts_travel_inward() -> None:
    """Who asks and what for reaches the transport; what belongs to a call is made anew."""
    transport = Scripted(["x", "y"])
    context = Context(tenant="t", user="u", session="s", tags={"k": "v"}, priority=3)
    pipeline = Pipeline([], transport)
    first = await pipeline.run(HELLO.evolve(context=context))
    again = HELLO.evolve(context=first.context.evolve(deadline=-1.0, branch="/old"))
    await pipeline.run(again)
    for request in transport.requests:
        found = request.context
        assert (found.tenant, found.user, found.session, found.priority) == ("t", "u", "s", 3)
        assert (dict(found.tags), found.deadline, found.branch) == ({"k": "v"}, None, "")


async def test_a_call_is_awaited_once() -> None:
    """Awaiting a call a second time says to ask again; the request can be reused."""
    call = Pipeline([], Scripted(["x"])).run(HELLO)
    assert (await call).text == "x"
    with pytest.raises(MisuseError, match="already been awaited"):
        await call


async def test_what_is_no_request_is_refused() -> None:
    """Text instead of a request is an error that shows the way."""
    with pytest.raises(TypeError, match=r"ChatRequest\.of"):
        await Pipeline([], Scripted(["x"])).run("hello")  # type: ignore[call-overload]


async def test_a_pipeline_as_handler_needs_a_call() -> None:
    """Calling a pipeline with a request that none has begun names run()."""
    with pytest.raises(NotBegunError, match="run"):
        await Pipeline([], Scripted(["x"]))(HELLO)


async def test_a_nested_pipeline_runs_in_the_callers_call() -> None:
    """Trace, ids, ports and the one attempt are the outer call's."""
    ids: list[str] = []

    async def look(request: ChatRequest, call_next: Handler) -> ChatResponse:
        ids.append(request.context.call_id)
        return await call_next(request)

    ports = virtual_ports(seed=7)
    inner = Pipeline([look], Scripted(["x"]))
    response = await Pipeline([look], inner, ports=ports).run(HELLO)
    assert ids == [response.context.call_id] * 2
    assert response.context.call_id.startswith("00000007")
    assert [attempt.provider for attempt in response.trace.attempts] == ["scripted"]


async def test_errors_leave_with_their_attempts() -> None:
    """The error is a copy with every attempt of the call; the transport's own is unchanged."""
    original = RateLimitError("Too many.", retry_after=2.0)

    async def once_more(request: ChatRequest, call_next: Handler) -> ChatResponse:
        try:
            return await call_next(request)
        except RateLimitError:
            return await call_next(request)

    with pytest.raises(RateLimitError) as raised:
        await Pipeline([once_more], Scripted([original, original])).run(HELLO)
    error: LamellaError = raised.value
    assert error is not original
    assert (error.retry_after, len(error.attempts), original.attempts) == (2.0, 2, ())


async def test_foreign_errors_pass() -> None:
    """An exception of somebody else's passes as it is; the call has failed."""
    error = LookupError("mine")
    with pytest.raises(LookupError) as raised:
        await Pipeline([], Scripted([error])).run(HELLO)
    assert raised.value is error


async def test_a_layer_handles_what_it_says_it_handles() -> None:
    """A layer for chat is not in the chain of embeddings."""
    seen: list[str] = []

    @middleware(phase="shape", requests=ChatRequest)
    async def chat_only(request: ChatRequest, call_next: Handler) -> ChatResponse:
        seen.append("chat")
        return await call_next(request)

    script = Scripted(["x", EmbeddingResponse.of([[1.0]])])
    pipeline = Pipeline([chat_only], script)
    assert (await pipeline.run(HELLO)).text == "x"
    assert (await pipeline.run(EmbeddingRequest.of("x"))).vector == (1.0,)
    assert seen == ["chat"]


async def test_call_next_never_once_and_twice() -> None:
    """Never is a short cut; twice are two tries, each with a request of its own."""

    async def never(request: ChatRequest, call_next: Handler) -> ChatResponse:
        return ChatResponse.of("by itself")

    async def twice(request: ChatRequest, call_next: Handler) -> ChatResponse:
        await call_next(request.branch("try1"))
        return await call_next(request.branch("try2"))

    transport = Scripted(["one", "two"])
    assert (await Pipeline([never], transport).run(HELLO)).text == "by itself"
    response = await Pipeline([twice], transport).run(HELLO)
    assert response.text == "two"
    assert [attempt.branch for attempt in response.trace.attempts] == ["/try1", "/try2"]


async def test_call_next_concurrently() -> None:
    """A layer may ask several times at once; each try has its own record."""

    async def both(request: ChatRequest, call_next: Handler) -> ChatResponse:
        answers: dict[str, ChatResponse] = {}

        async def ask(name: str) -> None:
            answers[name] = await call_next(request.branch(name))

        async with anyio.create_task_group() as group:
            group.start_soon(ask, "left")
            group.start_soon(ask, "right")
        return answers["right"]

    transport = Scripted([lambda request: request.context.branch], repeat=True, delay=0)
    response = await Pipeline([both], transport).run(HELLO)
    assert response.text == "/right"
    assert {a.branch for a in response.trace.attempts} == {"/left", "/right"}
    assert len({id(request.context.attempt) for request in transport.requests}) == 2


async def test_a_layer_inside_changes_its_own_copy() -> None:
    """What an inner layer does to the request, the one outside does not see."""
    outside: list[ChatRequest] = []

    async def keep(request: ChatRequest, call_next: Handler) -> ChatResponse:
        response = await call_next(request)
        outside.append(request)
        return response

    async def change(request: ChatRequest, call_next: Handler) -> ChatResponse:
        return await call_next(request.evolve(model="other", temperature=1.0))

    transport = Scripted(["x"])
    await Pipeline([keep, change], transport).run(HELLO)
    assert (outside[0].model, outside[0].temperature) == ("m", None)
    assert (transport.requests[0].model, transport.requests[0].stream) == ("other", False)


async def test_a_child_call_is_part_of_the_call() -> None:
    """A child runs inside the layer that asks, on a branch of its own, never streamed."""

    async def judge(request: ChatRequest, call_next: Handler) -> ChatResponse:
        question = EmbeddingRequest.of("how good?")
        vectors = await call_next(request.child(question, purpose="judge"))
        assert isinstance(vectors, EmbeddingResponse)
        return await call_next(request)

    transport = Scripted([EmbeddingResponse.of([[1.0]]), "x"])
    tenant = Context(tenant="t")
    async with Pipeline([judge], transport).stream(HELLO.evolve(context=tenant)) as response:
        await response.collect()
    child, own = transport.requests
    assert (child.stream, own.stream) == (False, True)
    assert (child.context.branch, child.context.tenant) == ("/judge", "t")
    assert child.context.trace is own.context.trace is response.trace
    assert len(response.trace.attempts) == 2


async def test_an_idempotency_key_stands_for_one_request() -> None:
    """A child asks something else and has no key; each further turn has one of its own."""

    async def ask(request: ChatRequest, call_next: Handler) -> ChatResponse:
        await call_next(request.child(ChatRequest.of("good?"), purpose="judge"))
        await call_next(request.turn(2))
        return await call_next(request)

    transport = Scripted(["child", "turn", "x"])
    keyed = HELLO.evolve(context=Context(idempotency_key="k"))
    await Pipeline([ask], transport).run(keyed)
    keys = [request.context.idempotency_key for request in transport.requests]
    assert keys == [None, "k/turn2", "k"]


async def test_a_detached_call_is_a_call_of_its_own() -> None:
    """Work that outlives the caller has its own trace, linked by id, and no deadline."""
    done = anyio.Event()
    traces: list[Any] = []

    async def shadow(request: ChatRequest, call_next: Handler) -> ChatResponse:
        context = request.context.evolve(deadline=request.context.clock.now() + 1)
        detached = request.evolve(context=context).detach("shadow")

        async def copy() -> None:
            await anyio.lowlevel.checkpoint()
            traces.append((await call_next(detached)).trace)
            done.set()

        request.context.background.spawn(copy)
        return await call_next(request)

    pipeline = Pipeline([shadow], Scripted(["x", "y"]))
    response = await pipeline.run(HELLO)
    with anyio.fail_after(5):
        await done.wait()
    [trace] = traces
    assert (trace.parent_id, trace.call_id == response.context.call_id) == (
        response.context.call_id, False,
    )  # fmt: skip
    assert len(trace.attempts) == len(response.trace.attempts) == 1
    await pipeline.aclose()


async def test_a_call_has_an_end() -> None:
    """After a run its trace is finished: outcome and duration are known."""
    response = await Pipeline([], Scripted(["x"])).run(HELLO)
    assert (response.trace.finished, response.trace.outcome) == (True, Outcome.COMPLETE)
    assert response.trace.duration is not None


async def test_layers_are_timed_if_asked() -> None:
    """With `Context(timed=True)` the trace has each layer's time, and what it raised."""
    timed = HELLO.evolve(context=Context(timed=True))
    seen: list[str] = []
    response = await Pipeline([note("a", seen), note("b", seen)], Scripted(["x"])).run(timed)
    assert [(span.depth, span.error) for span in response.trace.spans] == [(1, None), (0, None)]
    assert (await Pipeline([note("a", seen)], Scripted(["x"])).run(HELLO)).trace.spans == []


def test_one_pipeline_on_one_loop_after_another() -> None:
    """A pipeline works on a second event loop after the first has ended."""
    pipeline = Pipeline([], Scripted(["x"], repeat=True))

    async def call() -> str:
        return (await pipeline.run(HELLO)).text

    assert [asyncio.run(call()) for _ in range(3)] == ["x"] * 3
    assert anyio.run(call, backend="trio") == "x"
