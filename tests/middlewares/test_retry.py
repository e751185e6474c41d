"""Retry: what may pass is tried again, within deadline and budget, and nothing else is."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from lamella import (
    AttemptLimitError,
    ChatRequest,
    ChatResponse,
    ClosedError,
    ConnectError,
    ConnectionLostError,
    EmbeddingRequest,
    EmbeddingResponse,
    Finish,
    InvalidRequestError,
    LamellaError,
    Outcome,
    OverloadedError,
    Pipeline,
    Ports,
    ProtocolError,
    QuotaError,
    RateLimitError,
    Request,
    ServerError,
    StreamTruncated,
    TextDelta,
    Trace,
)
from lamella.testing import Scripted, ScriptedAnswer, each_step, virtual_ports
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.retry import Retry, RetryBudget

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello", model="m")


def pipeline(
    layers: list[Any], transport: Any, *, ports: Ports | None = None, **more: Any
) -> Pipeline:
    """A pipeline with a clock and stores of its own."""
    return Pipeline(layers, transport, ports=ports or virtual_ports(), **more)


async def ask(pipe: Pipeline, *, stream: bool = False, request: Any = ASK) -> Any:
    """The complete response, run or streamed."""
    if not stream:
        return await pipe.run(request)
    async with pipe.stream(request) as response:
        return await response.collect()


def waits(trace: Trace) -> list[float]:
    """The waits between tries."""
    return [note.fields["seconds"] for note in trace.notes if note.name == "retry.wait"]


# --- what is tried again ----------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_a_passing_failure_is_tried_again(stream: bool) -> None:
    """The answer is the third try's; each try is a branch and an attempt of its own."""
    transport = Scripted([ServerError("x", status=500), [], "here you are"])
    response = await ask(pipeline([Retry()], transport), stream=stream)
    assert response.text == "here you are"
    assert [attempt.branch for attempt in response.trace.attempts] == ["", "/try2", "/try3"]
    outcomes = [attempt.outcome for attempt in response.trace.attempts]
    assert outcomes == [Outcome.FAILED, Outcome.TRUNCATED, Outcome.COMPLETE]
    assert len(waits(response.trace)) == 2


async def test_each_try_has_its_own_context_and_the_same_trace() -> None:
    """Nothing of one try reaches the next but the trace."""
    transport = Scripted([ServerError("x"), ServerError("x"), "ok"])
    await ask(pipeline([Retry()], transport))
    contexts = [request.context for request in transport.requests]
    assert len({id(context) for context in contexts}) == 3
    assert len({id(context.trace) for context in contexts}) == 1


@pytest.mark.parametrize(
    "error", [InvalidRequestError("x", status=400), QuotaError("x", status=429), TypeError("bug")]
)
async def test_what_cannot_pass_is_raised_at_once(error: Exception) -> None:
    """A mistake of the caller's, an empty account and a bug are not tried again."""
    transport = Scripted([error])
    with pytest.raises(type(error)):
        await ask(pipeline([Retry()], transport))
    assert len(transport.requests) == 1


async def test_attempts_counts_the_first_try() -> None:
    """The last error is raised, with every attempt; the trace says why there was no further try."""
    transport = Scripted([ServerError("x")], repeat=True)
    notes: list[Any] = []

    async def keep(request: Request[Any], call_next: Any) -> Any:
        try:
            return await call_next(request)
        finally:
            notes.extend(request.context.trace.notes)

    with pytest.raises(ServerError) as caught:
        await ask(pipeline([keep, Retry(attempts=4)], transport))
    assert len(transport.requests) == 4
    assert len(caught.value.attempts) == 4
    assert notes[-1].name == "retry.gave_up"
    assert notes[-1].fields == {"why": "attempts", "error": "ServerError"}


async def test_one_attempt_never_retries() -> None:
    """Not even what was not sent."""
    transport = Scripted([ConnectError("x")], repeat=True)
    with pytest.raises(ConnectError):
        await ask(pipeline([Retry(attempts=1)], transport))
    assert len(transport.requests) == 1


async def test_what_was_not_sent_is_free_once_and_at_once() -> None:
    """The first is repeated without wait and without being counted, the next are as any."""
    transport = Scripted([ConnectError("x"), ServerError("x"), ServerError("x"), "ok"])
    response = await ask(pipeline([Retry(attempts=3, budget=None)], transport))
    assert response.text == "ok"
    assert waits(response.trace)[0] == 0
    transport = Scripted([ConnectError("x")], repeat=True)
    with pytest.raises(ConnectError) as caught:
        await ask(pipeline([Retry(attempts=3)], transport))
    assert len(caught.value.attempts) == 4


async def test_a_committed_stream_is_never_tried_again() -> None:
    """Once the caller has seen a word, the error is the caller's."""
    transport = Scripted([["one", ConnectionLostError("x")], "never"])
    with pytest.raises(ConnectionLostError) as caught:
        await ask(pipeline([Retry()], transport), stream=True)
    assert caught.value.committed
    assert not caught.value.retryable
    assert len(transport.requests) == 1


async def test_a_run_is_uncommitted_to_its_end() -> None:
    """It has shown nothing, so that an answer that breaks off in the middle is tried again."""
    transport = Scripted([["one", ConnectionLostError("x")], "whole"])
    response = await ask(pipeline([Retry()], transport))
    assert response.text == "whole"


@pytest.mark.parametrize(
    "failure",
    [
        RateLimitError("x", retry_after=3),
        StreamTruncated("x"),
        ProtocolError("x"),
        ConnectError("x"),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_streamed_and_not_are_the_same_before_the_first_event(failure: LamellaError) -> None:
    """Parity: the same answer, the same attempts, the same waits."""
    seen = []
    for stream in (False, True):
        transport = Scripted([failure, failure, "an answer"])
        response = await ask(pipeline([Retry()], transport), stream=stream)
        attempts = [(a.branch, a.outcome, round(a.start, 6)) for a in response.trace.attempts]
        seen.append((response.text, attempts, waits(response.trace)))
    assert seen[0] == seen[1]


async def test_any_operation_is_retried() -> None:
    """Embeddings as well as chat."""
    transport = Scripted([ServerError("x"), EmbeddingResponse.of([[1.0]])])
    response = await ask(pipeline([Retry()], transport), request=EmbeddingRequest.of("x"))
    assert response.vector == (1.0,)


async def test_foreign_exceptions_are_retried_where_asked() -> None:
    """A plain function's ConnectionError, say."""
    answers = iter([ConnectionResetError(), None])

    async def plain(request: ChatRequest) -> ChatResponse:
        error = next(answers)
        if error is not None:
            raise error
        return ChatResponse.of("ok")

    response = await ask(pipeline([Retry(on=ConnectionError)], plain))
    assert response.text == "ok"
    assert [a.cause for a in response.trace.attempts] == ["ConnectionResetError", None]


async def test_stored_calls_are_not_repeated_without_a_key() -> None:
    """The trace says why; with a minted key they are, and the key is the same each time."""
    stored = ChatRequest.of("x", model="m", extra={"store": True})
    transport = Scripted([ConnectionLostError("x")])
    with pytest.raises(ConnectionLostError):
        await ask(pipeline([Retry()], transport), request=stored)
    transport = Scripted([ConnectionLostError("x"), ConnectionLostError("x"), "ok"])
    await ask(pipeline([Retry(mint_idempotency_key=True)], transport), request=stored)
    keys = {request.context.idempotency_key for request in transport.requests}
    assert len(keys) == 1
    assert None not in keys


async def test_the_callers_own_key_is_kept() -> None:
    """A key is minted only where there is none."""
    request = ASK.evolve(context=ASK.context.evolve(idempotency_key="mine"))
    transport = Scripted([ServerError("x"), "ok"])
    await ask(pipeline([Retry(mint_idempotency_key=True)], transport), request=request)
    assert {one.context.idempotency_key for one in transport.requests} == {"mine"}


async def test_the_cores_bound_on_attempts_ends_the_tries_with_the_real_error() -> None:
    """The caller learns what failed, not that a counter ran out."""
    transport = Scripted([ServerError("x")], repeat=True)
    pipe = pipeline([Retry(attempts=9)], transport, max_attempts=2)
    with pytest.raises(ServerError):
        await ask(pipe)
    assert len(transport.requests) == 2
    nested = pipeline([Retry(attempts=5), Retry(attempts=5)], transport, max_attempts=6)
    with pytest.raises((ServerError, AttemptLimitError)) as caught:
        await ask(nested)
    assert len(caught.value.attempts) == 6


async def test_a_predicate_that_raises_does_not_hide_the_failure() -> None:
    """The caller gets what failed; the trace says that `on` raised."""
    notes: list[Any] = []

    async def keep(request: Request[Any], call_next: Any) -> Any:
        notes.append(request.context.trace.notes)
        return await call_next(request)

    async def plain(request: ChatRequest) -> ChatResponse:
        raise ConnectionResetError

    def broken(error: Exception) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ConnectionResetError):
        await ask(pipeline([keep, Retry(on=broken)], plain))
    (note,) = notes[0]
    assert note.fields["why"] == "on=... raised ZeroDivisionError"


# --- waits ------------------------------------------------------------------------------------


async def test_waits_grow_within_full_jitter() -> None:
    """Transient errors: from 0 to the strategy's wait, different each time."""
    transport = Scripted([ServerError("x")] * 4 + ["ok"])
    response = await ask(pipeline([Retry(attempts=5, base=1)], transport))
    found = waits(response.trace)
    assert all(0 <= wait <= bound for wait, bound in zip(found, [1, 2, 4, 8], strict=True))
    assert len(set(found)) == 4


@pytest.mark.parametrize("kind", [RateLimitError, OverloadedError])
async def test_throttles_wait_at_least_half_a_second(kind: type[LamellaError]) -> None:
    """Equal jitter over a base of 1 s at least: full jitter would collapse to nothing."""
    for seed in range(20):
        transport = Scripted([kind("x"), kind("x"), "ok"])
        ports = virtual_ports(seed)
        response = await ask(pipeline([Retry(base=0.01)], transport, ports=ports))
        first, second = waits(response.trace)
        assert 0.5 <= first <= 1
        assert 1 <= second <= 2


async def test_the_servers_hint_is_never_undercut() -> None:
    """P8: at least what it asked for, and at most a tenth more."""
    for seed in range(20):
        transport = Scripted([RateLimitError("x", retry_after=7), "ok"])
        response = await ask(pipeline([Retry()], transport, ports=virtual_ports(seed)))
        (wait,) = waits(response.trace)
        assert 7 <= wait <= 7.7
        assert response.trace.attempts[1].start == pytest.approx(wait)


async def test_no_wait_is_longer_than_the_longest() -> None:
    """What chance adds to a hint gives way to `max_wait`, as it does to the deadline."""
    for seed in range(20):
        transport = Scripted([RateLimitError("x", retry_after=10), "ok"])
        pipe = pipeline([Retry(max_wait=10)], transport, ports=virtual_ports(seed))
        assert waits((await ask(pipe)).trace) == [10]


@pytest.mark.parametrize(
    ("layers", "why"),
    [
        ([Deadline(5), Retry()], "deadline"),
        ([Retry(max_wait=10)], "retry_after is longer than max_wait"),
    ],
)
async def test_a_hint_that_cannot_be_kept_fails_at_once(layers: list[Any], why: str) -> None:
    """No time is spent waiting; the error says after how long another try makes sense."""
    transport = Scripted([RateLimitError("x", retry_after=20, status=429)])
    pipe = pipeline(layers, transport)
    began = pipe.ports.monotonic()
    with pytest.raises(RateLimitError) as caught:
        await ask(pipe)
    assert pipe.ports.monotonic() == began
    assert caught.value.retry_after == 20


async def test_no_try_is_made_that_could_not_be_useful() -> None:
    """With less than `min_useful` left after the wait, the error comes now."""
    transport = Scripted([ServerError("x", retry_after=4.95), "ok"])
    with pytest.raises(ServerError):
        await ask(pipeline([Deadline(5), Retry()], transport))
    transport = Scripted([ServerError("x", retry_after=4.95), "ok"])
    response = await ask(pipeline([Deadline(5), Retry(min_useful=0.01)], transport))
    assert response.trace.attempts[1].start <= 5


async def test_tries_never_pass_the_deadline() -> None:
    """P7, P8: whatever fails, and however long each try takes."""
    for seed in range(20):
        steps: list[Any] = [ScriptedAnswer((ServerError("x"),), delay=0.7)]
        transport = Scripted(steps, repeat=True)
        pipe = pipeline([Deadline(6), Retry(attempts=9)], transport, ports=virtual_ports(seed))
        began = pipe.ports.monotonic()
        with pytest.raises(LamellaError) as caught:
            await ask(pipe)
        assert pipe.ports.monotonic() - began <= 6 + 1e-6
        assert all(attempt.start < 6 for attempt in caught.value.attempts)


async def test_the_wait_ends_when_the_pipeline_closes() -> None:
    """A call that waits for its next try is not in the way."""
    transport = Scripted([RateLimitError("x", retry_after=25)], repeat=True)
    pipe = pipeline([Retry()], transport)
    async with anyio.create_task_group() as group:

        async def call() -> None:
            with pytest.raises(ClosedError):
                await pipe.run(ASK)

        group.start_soon(call)
        await anyio.sleep(1)
        await pipe.aclose()
    assert len(transport.requests) == 1


# --- cancellation -----------------------------------------------------------------------------


@pytest.mark.parametrize("retries", [0, 1])
async def test_cancellation_is_not_caught(retries: int) -> None:
    """In the first try and in a later one alike: it is cancelled, and nothing is tried again."""
    steps: list[Any] = [ServerError("x")] * retries + [[math.inf]]
    transport = Scripted(steps)
    with anyio.move_on_after(20) as scope:
        await ask(pipeline([Retry()], transport))
    assert scope.cancelled_caught
    assert len(transport.requests) == retries + 1
    assert transport.open_sources == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("stream", [False, True])
def test_cancelled_at_any_step_it_leaves_nothing(backend: str, stream: bool) -> None:
    """Every source is closed and no call runs on, wherever the cancellation strikes."""

    def make() -> tuple[Callable[[], Any], Callable[[], Any]]:
        transport = Scripted([RateLimitError("x", retry_after=1), [ConnectError("x")], "so be it"])
        pipe = pipeline([Deadline(60), Retry()], transport)

        async def check() -> None:
            assert transport.open_sources == 0
            assert (await pipe.health()).running == 0

        return (lambda: ask(pipe, stream=stream)), check

    assert each_step(make, backend=backend, again=(1, 2)) > 3


# --- the budget -------------------------------------------------------------------------------


async def test_a_total_outage_is_not_multiplied() -> None:
    """P1: attempts are at most 1.2 times the calls, and the reserve."""
    calls = 1000
    transport = Scripted([ServerError("x", status=503)], repeat=True)
    pipe = pipeline([Retry(base=0.01)], transport)
    results = await pipe.run_many([ASK] * calls, concurrency=100)
    exhausted = [error for error in results if getattr(error, "code", None)]
    seconds = pipe.ports.monotonic()
    assert all(isinstance(error, ServerError) for error in results)
    assert len(transport.requests) <= 1.2 * calls + 100 + 10 * seconds
    assert len(exhausted) > calls / 2


async def test_an_exhausted_budget_gives_the_original_error_tagged() -> None:
    """Same class, status and wait; its code and hint say that the budget is why."""
    budget = RetryBudget(ratio=0, per_second=0.1)
    original = RateLimitError("busy", status=429, retry_after=2, code="tokens")
    pipe = pipeline([Retry(budget=budget)], Scripted([original], repeat=True))
    with pytest.raises(RateLimitError) as caught:
        await ask(pipe)
    error = caught.value
    assert (error.status, error.retry_after, error.message) == (429, 2, "busy")
    assert error.code == "retry_budget_exhausted"
    assert error.hint is not None
    assert "RetryBudget" in error.hint
    assert len(error.attempts) == 2
    assert original.code == "tokens"


async def test_success_refills_the_budget() -> None:
    """Calls that succeed allow the retries of those that do not."""
    budget = RetryBudget(ratio=0.2, per_second=0)
    transport = Scripted(["ok"] * 9 + [ServerError("x"), ServerError("x"), ServerError("x")])
    pipe = pipeline([Retry(budget=budget, attempts=9, base=0.01)], transport)
    for _ in range(9):
        await ask(pipe)
    with pytest.raises(ServerError):
        await ask(pipe)
    assert len(transport.requests) == 12  # ten calls allow two retries


async def test_pipelines_share_the_budget_of_a_provider() -> None:
    """A pipeline made for each request is bounded as well; another provider is not affected."""
    ports = virtual_ports()
    budget = RetryBudget(ratio=0, per_second=0.2)  # two in ten seconds

    async def attempts(provider: str) -> int:
        transport = Scripted([ServerError("x")], repeat=True, name=provider)
        pipe = pipeline([Retry(budget=budget, attempts=2, base=0.001)], transport, ports=ports)
        with pytest.raises(ServerError):
            await ask(pipe)
        return len(transport.requests)

    assert [await attempts("one") for _ in range(4)] == [2, 2, 1, 1]
    assert await attempts("two") == 2


async def test_without_a_budget_all_may_retry() -> None:
    """None switches it off."""
    transport = Scripted([ServerError("x")], repeat=True)
    pipe = pipeline([Retry(budget=None, base=0.001)], transport)
    await pipe.run_many([ASK] * 200)
    assert len(transport.requests) == 600


# --- cost -------------------------------------------------------------------------------------


def test_success_does_not_load_tenacity() -> None:
    """Only a failure pays for the machinery of tries."""
    code = """if True:
        import sys, anyio
        from lamella import ChatRequest, ChatResponse, Pipeline
        from lamella_middlewares.retry import Retry
        async def good(request):
            return ChatResponse.of("ok")
        pipeline = Pipeline([Retry()], good)
        print(anyio.run(pipeline.run, ChatRequest.of("x")).text, "tenacity" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ok", "False"]


async def test_the_trace_says_what_was_waited_for() -> None:
    """Seconds, reason, class and status; never the message, which may quote the provider."""
    secret = "the prompt was: I love you"
    transport = Scripted(
        [RateLimitError(secret, status=429, retry_after=1), [TextDelta("ok"), Finish("stop")]]
    )
    response = await ask(pipeline([Retry()], transport))
    (note,) = response.trace.notes
    assert (note.layer, note.name) == ("retry", "retry.wait")
    assert note.fields["reason"] == "rate_limited"
    assert note.fields["error"] == "RateLimitError"
    assert note.fields["status"] == 429
    assert secret not in str(note)
