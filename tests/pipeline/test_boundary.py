"""The attempt: where the wire phase begins, tries are recorded, limited and bounded."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from lamella import (
    AttemptTimeout,
    CallEndedError,
    ChatRequest,
    ChatResponse,
    ClosedError,
    DeadlineExceeded,
    Ending,
    FirstEventTimeout,
    Head,
    Limits,
    MisuseError,
    NetworkError,
    Outcome,
    Pipeline,
    RateLimitError,
    Target,
    ending,
    middleware,
)
from lamella.testing import Scripted, virtual_ports

pytestmark = pytest.mark.anyio

HELLO = ChatRequest.of("hello", model="m")


@pytest.fixture
def anyio_backend(lamella_virtual_backend: tuple[str, dict[str, Any]]) -> tuple[str, Any]:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend


def with_context(transport: Any, **changes: Any) -> Pipeline:
    """A pipeline that changes the context of its requests."""

    async def change(request: ChatRequest, call_next: Any) -> ChatResponse:
        context = request.context.evolve(**changes)
        response: ChatResponse = await call_next(request.evolve(context=context))
        return response

    return Pipeline([change], transport, ports=virtual_ports())


async def call(pipeline: Pipeline, *, stream: bool) -> ChatResponse:
    """Run or stream to the end."""
    if not stream:
        return await pipeline.run(HELLO)
    async with pipeline.stream(HELLO) as response:
        return await response.collect()


async def slow(request: ChatRequest) -> ChatResponse:
    """A plain function that takes ten seconds."""
    await anyio.sleep(10)
    return ChatResponse.of("slow")


async def test_an_attempt_is_recorded() -> None:
    """The trace has who was asked for what, when, and how it ended."""
    response = await Pipeline([], slow, ports=virtual_ports()).run(HELLO)
    [attempt] = response.trace.attempts
    assert (attempt.index, attempt.provider, attempt.model) == (0, "slow", "m")
    assert (attempt.start, attempt.end, attempt.outcome) == (0.0, 10.0, Outcome.COMPLETE)
    assert response.served_by == "slow"


async def test_a_failure_is_recorded_with_its_cause() -> None:
    """A failed attempt names the class and the status of its error."""
    error = RateLimitError("Too many.", status=429)
    with pytest.raises(RateLimitError) as raised:
        await Pipeline([], Scripted([error])).run(HELLO)
    [attempt] = raised.value.attempts
    assert (attempt.cause, attempt.status, attempt.outcome) == (
        "RateLimitError", 429, Outcome.FAILED,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"limits": Limits(attempt=3)}, AttemptTimeout),
        ({"deadline": 3.0}, DeadlineExceeded),
        ({"limits": Limits(attempt=3), "deadline": 4.0}, AttemptTimeout),
        ({"limits": Limits(attempt=4), "deadline": 3.0}, DeadlineExceeded),
    ],
    ids=["attempt", "deadline", "attempt first", "deadline first"],
)
async def test_a_plain_function_is_limited(changes: dict[str, Any], kind: type[Exception]) -> None:
    """The smaller limit ends the attempt, which is recorded as *timed out*, not *cancelled*."""
    with pytest.raises(kind) as late:
        await with_context(slow, **changes).run(HELLO)
    assert anyio.current_time() == 3.0
    assert isinstance(late.value, AttemptTimeout | DeadlineExceeded)
    assert [attempt.outcome for attempt in late.value.attempts] == [Outcome.TIMED_OUT]


async def test_first_event_does_not_end_an_answer_that_is_not_streamed() -> None:
    """Without a stream there is no first event: a slow whole answer is no black hole."""
    pipeline = with_context(slow, limits=Limits(first_event=3))
    assert (await pipeline.run(HELLO)).text == "slow"
    with pytest.raises(FirstEventTimeout):
        async with pipeline.stream(HELLO):
            pytest.fail("nothing was committed")


async def test_no_attempt_is_made_after_the_deadline() -> None:
    """Once the deadline has passed nothing is sent: the error says so, no attempt is recorded."""
    transport = Scripted(["never"])
    with pytest.raises(DeadlineExceeded, match="before this attempt") as expired:
        await with_context(transport, deadline=0.0).run(HELLO)
    assert (expired.value.outcome, expired.value.attempts) == (Outcome.NOT_SENT, ())
    assert transport.requests == []


async def test_the_callers_cancellation_stays_what_it_is() -> None:
    """A caller who is cancelled leaves a *cancelled* attempt, also while limits are set."""
    seen: list[Any] = []

    async def watch(request: ChatRequest, call_next: Any) -> ChatResponse:
        seen.append(request.context.trace)
        response: ChatResponse = await call_next(request)
        return response

    limits = Limits(attempt=30)
    inner = with_context(slow, limits=limits)
    pipeline = Pipeline([watch], inner, ports=virtual_ports())
    with anyio.move_on_after(3) as scope:
        await pipeline.run(HELLO)
    assert scope.cancelled_caught
    assert [attempt.outcome for attempt in seen[0].attempts] == [Outcome.CANCELLED]
    assert seen[0].outcome is Outcome.CANCELLED


@pytest.mark.parametrize("stream", [False, True])
async def test_a_wire_layer_hears_why_the_attempt_ended(stream: bool) -> None:
    """A layer inside the attempt is told of the time-out, not of the cancellation it causes."""
    endings: list[Ending] = []

    @middleware(phase="wire")
    async def meter(request: ChatRequest, call_next: Any) -> ChatResponse:
        return await ending(call_next, request, endings.append)

    async def limit(request: ChatRequest, call_next: Any) -> ChatResponse:
        context = request.context.evolve(limits=Limits(attempt=3))
        response: ChatResponse = await call_next(request.evolve(context=context))
        return response

    pipeline = Pipeline([limit, meter], slow, ports=virtual_ports())
    with pytest.raises(AttemptTimeout):
        await call(pipeline, stream=stream)
    [end] = endings
    assert (end.outcome, type(end.error)) == (Outcome.TIMED_OUT, AttemptTimeout)


async def test_what_is_no_response_is_named() -> None:
    """A transport that returns something else is an error naming it; the attempt has failed."""

    async def text(request: ChatRequest) -> Any:
        return "just text"

    traces: list[Any] = []

    async def watch(request: ChatRequest, call_next: Any) -> ChatResponse:
        traces.append(request.context.trace)
        response: ChatResponse = await call_next(request)
        return response

    with pytest.raises(TypeError, match="'text' returned str instead of a response"):
        await Pipeline([watch], text).run(HELLO)
    assert [attempt.outcome for attempt in traces[0].attempts] == [Outcome.FAILED]


async def test_no_attempt_is_made_for_a_call_that_has_ended() -> None:
    """Work that outlives its call cannot send in its name; the error names detach()."""
    kept: list[tuple[Any, Any]] = []

    async def keep(request: ChatRequest, call_next: Any) -> ChatResponse:
        kept.append((request, call_next))
        response: ChatResponse = await call_next(request)
        return response

    pipeline = Pipeline([keep], Scripted(["one", "two"]), ports=virtual_ports())
    await pipeline.run(HELLO)
    [(request, call_next)] = kept
    with pytest.raises(CallEndedError, match="detach"):
        await call_next(request)
    detached = request.detach("refresh")
    assert (await call_next(detached)).text == "two"
    assert detached.context.parent_id == request.context.call_id
    assert len(request.context.trace.attempts) == 1


async def test_closing_ends_an_attempt_neutrally() -> None:
    """What a closing pipeline interrupts is ClosedError, and its attempt counts as *cancelled*."""
    pipeline = Pipeline([], slow, ports=virtual_ports())

    async def call() -> None:
        with pytest.raises(ClosedError) as closed:
            await pipeline.run(HELLO)
        assert [attempt.outcome for attempt in closed.value.attempts] == [Outcome.CANCELLED]

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await anyio.sleep(1)
        await pipeline.aclose()
        assert anyio.current_time() == 1.0


def aiming(target: Target) -> Any:
    """A layer that sends every request to a target."""

    async def aim(request: ChatRequest, call_next: Any) -> ChatResponse:
        response: ChatResponse = await call_next(request.aim(target))
        return response

    return aim


async def test_a_target_is_recorded_by_its_name() -> None:
    """A target with a transport of its own is served and recorded as that target."""
    target = Target("backup", Scripted(["from the backup"]), {"model": "other"})
    response = await Pipeline([aiming(target)], Scripted(["never"])).run(HELLO)
    [attempt] = response.trace.attempts
    assert (response.text, response.served_by) == ("from the backup", "backup")
    assert (attempt.provider, attempt.model) == ("backup", "other")


async def test_a_targets_transport_is_an_attempt_beside_a_nested_pipeline() -> None:
    """Where the own transport is a pipeline, a target's plain transport is still recorded once."""
    target = Target("plain", Scripted(["plain"]))
    nested = Pipeline([], Scripted(["nested", "nested"]))
    assert len((await Pipeline([], nested).run(HELLO)).trace.attempts) == 1
    response = await Pipeline([aiming(target)], nested).run(HELLO)
    assert (response.text, len(response.trace.attempts)) == ("plain", 1)


async def test_a_pipeline_as_target_runs_on_its_own_stack() -> None:
    """A target that is a pipeline records its own attempt, once, and is asked once."""
    inner = Scripted(["inside"])
    target = Target("nested", Pipeline([], inner))
    response = await Pipeline([aiming(target)], Scripted(["never"])).run(HELLO)
    assert (response.text, len(response.trace.attempts)) == ("inside", 1)
    assert len(inner.requests) == 1


async def test_a_shared_response_is_nobodys_but_the_calls() -> None:
    """A response object that answers two calls is copied: each has its own trace."""
    always = ChatResponse([*ChatResponse.of("same").events], Head(model="m"))

    async def constant(request: ChatRequest) -> ChatResponse:
        return always

    pipeline = Pipeline([], constant)
    one, two = await pipeline.run(HELLO), await pipeline.run(HELLO)
    assert one.trace is not two.trace
    assert (one.text, two.model) == ("same", "m")


async def test_a_layers_own_response_belongs_to_the_call() -> None:
    """A layer may answer by itself; streamed or not, the response has the call's trace."""

    async def answer(request: ChatRequest, call_next: Any) -> ChatResponse:
        return ChatResponse.of("short cut")

    pipeline = Pipeline([answer], Scripted(["never"]))
    assert (await pipeline.run(HELLO)).trace.attempts == ()
    async with pipeline.stream(HELLO) as response:
        assert response.text == "short cut"
    assert response.trace.outcome is Outcome.COMPLETE


async def test_an_error_the_transport_makes_has_its_own_kind() -> None:
    """A transport's typed error leaves the pipeline as that type, with the attempts."""
    with pytest.raises(NetworkError) as raised:
        await Pipeline([], Scripted([NetworkError("down")])).run(HELLO)
    assert len(raised.value.attempts) == 1


async def test_a_plain_function_within_the_wire_phase_is_within_the_attempt() -> None:
    """A layer of the wire phase meters its attempt, although a plain function stands inside it."""
    metered: list[bool] = []

    @middleware(phase="wire")
    async def meter(request: ChatRequest, call_next: Any) -> ChatResponse:
        metered.append(request.context.attempt is not None)
        response: ChatResponse = await call_next(request)
        return response

    async def plain(request: ChatRequest, call_next: Any) -> ChatResponse:
        response: ChatResponse = await call_next(request)
        return response

    response = await Pipeline([plain, meter, plain], Scripted(["x"])).run(HELLO)
    assert metered == [True]
    assert len(response.trace.attempts) == 1


async def test_an_attempt_ends_although_its_response_is_anothers() -> None:
    """An open response of another call is refused, and the attempt that returned it has ended."""
    other = Pipeline([], Scripted(["x"]))
    traces: list[Any] = []

    async def look(request: ChatRequest, call_next: Any) -> ChatResponse:
        traces.append(request.context.trace)
        response: ChatResponse = await call_next(request)
        return response

    async with other.stream(HELLO) as foreign:

        async def transport(request: ChatRequest) -> ChatResponse:
            return foreign

        with pytest.raises(MisuseError, match="as the answer to another"):
            await Pipeline([look], transport).run(HELLO)
    [attempt] = traces[0].attempts
    assert attempt.outcome is Outcome.UNKNOWN
    assert attempt.end is not None
