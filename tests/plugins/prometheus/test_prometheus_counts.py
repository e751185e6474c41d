"""Prometheus: what is scraped is what the traces say, attempt by attempt and call by call."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from scraping import scrape

from lamella import (
    BlockedError,
    ChatRequest,
    Context,
    InvalidRequestError,
    LamellaError,
    Money,
    Pipeline,
    RateLimitError,
    ServerError,
    Trace,
    Usage,
    UsageReport,
)
from lamella.testing import (
    Scripted,
    ScriptedAnswer,
    check_middleware,
    run_virtual,
    virtual_ports,
)
from lamella_middlewares.cache import Cache
from lamella_middlewares.circuit_breaker import CircuitBreaker
from lamella_middlewares.concurrency import Concurrency
from lamella_middlewares.cost import Cost
from lamella_middlewares.fallback import Fallback
from lamella_middlewares.guard import Guard, blocked_terms
from lamella_middlewares.hedge import Hedge
from lamella_middlewares.load_shed import LoadShed
from lamella_middlewares.pii import PII
from lamella_middlewares.rate_limit import RateLimit
from lamella_middlewares.retry import Retry
from lamella_middlewares.single_flight import SingleFlight
from lamella_prometheus import Prometheus, metrics_text

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("the secret prompt", model="m")
PRICES = {"m": {"input": "1", "output": "4", "cache_read": "0.1", "reasoning_output": "4"}}
USAGE = Usage(uncached_input=100, cache_read=20, text_output=41, reasoning_output=7)
METERED = ["one ", "two", UsageReport(USAGE)]


def pipeline(registry: CollectorRegistry, layers: list[Any], transport: Any) -> Pipeline:
    """A pipeline whose calls count into the registry."""
    return Pipeline(
        [Prometheus(registry=registry), *layers, Cost(PRICES)], transport, ports=virtual_ports()
    )


def answer(*items: Any, delay: float = 0.0, gap: float = 0.0) -> ScriptedAnswer:
    """A good answer with these events."""
    from lamella import Finish

    return ScriptedAnswer([*items, Finish("stop")], delay=delay, gap=gap)


async def test_it_keeps_the_contract() -> None:
    """Streamed and not, cancelled at each step, left, dropped, with errors inside."""
    registry = CollectorRegistry()
    await check_middleware(lambda: Prometheus(registry=registry))
    seen = scrape(registry)
    assert sum(seen["lamella_in_flight"].values()) == 0
    assert sum(seen["lamella_requests_total"].values()) > 100


async def test_a_call_and_its_attempt_count_once(registry: CollectorRegistry) -> None:
    """Tokens in their parts, cost, times; all as in the trace."""
    pipe = pipeline(registry, [], Scripted([answer(*METERED, delay=2.0)]))
    response = await pipe.run(ASK)
    seen = scrape(registry)
    assert seen["lamella_requests_total"] == {("m", "chat", "complete"): 1}
    assert seen["lamella_attempts_total"] == {("caller", "m", "complete", "scripted"): 1}
    assert seen["lamella_tokens_total"] == {
        ("m", "scripted", "uncached_input"): 100,
        ("m", "scripted", "cache_read"): 20,
        ("m", "scripted", "text_output"): 41,
        ("m", "scripted", "reasoning_output"): 7,
    }
    assert response.cost is not None
    assert seen["lamella_cost_total"] == {("USD", "m", "scripted"): response.cost.nano / 1e9}
    assert seen["lamella_request_duration_seconds_sum"] == {("m", "chat"): pytest.approx(2.0)}
    assert seen["lamella_in_flight"] == {("chat",): 0}
    assert "lamella_unpriced_attempts_total" not in seen


async def test_streams_have_a_first_token_and_a_pace(registry: CollectorRegistry) -> None:
    """The caller's wait begins with the call, the provider's with the attempt."""
    script: list[Any] = [
        ServerError("x"),
        answer("a ", "b ", "c", UsageReport(USAGE), delay=1.0, gap=0.5),
    ]
    pipe = pipeline(registry, [Retry(jitter="none", base=4.0)], Scripted(script))
    async with pipe.stream(ASK) as response:
        await response.collect()
    seen = scrape(registry)
    (attempt,) = response.trace.attempts[1:]
    assert attempt.first_event is not None
    assert attempt.end is not None
    assert seen["lamella_time_to_first_token_seconds_sum"] == {
        ("m",): pytest.approx(attempt.first_event)
    }
    first = attempt.time_to_first_event
    assert seen["lamella_attempt_time_to_first_token_seconds_sum"] == {
        ("m", "scripted"): pytest.approx(first)
    }
    pace = (attempt.end - attempt.first_event) / (USAGE.output_tokens - 1)
    assert seen["lamella_time_per_output_token_seconds_sum"] == {
        ("m", "scripted"): pytest.approx(pace)
    }
    assert seen["lamella_retries_total"] == {("server_error",): 1}
    assert seen["lamella_wait_seconds_count"] == {("retry",): 1}


@pytest.mark.parametrize("held", [0.3, 5.0])
async def test_a_reader_who_holds_events_says_nothing_of_the_pace(
    registry: CollectorRegistry, held: float
) -> None:
    """One who is no slower than the provider changes nothing about it."""
    script = [answer("a ", "b ", "c", UsageReport(USAGE), gap=1.0)]
    pipe = pipeline(registry, [], Scripted(script))
    async with pipe.stream(ASK) as response:
        async for _ in response:
            await anyio.sleep(held)
    seen = scrape(registry)
    assert sum(seen["lamella_attempt_time_to_first_token_seconds_count"].values()) == 1
    pace = sum(seen.get("lamella_time_per_output_token_seconds_sum", {}).values())
    (attempt,) = response.trace.attempts
    assert attempt.end is not None
    assert attempt.first_event is not None
    whole = (attempt.end - attempt.first_event) / (USAGE.output_tokens - 1)
    assert pace == (pytest.approx(whole) if held < 1 else 0)
    assert not Prometheus(registry=registry).page.recorder._begun


async def test_failures_are_counted_by_error_and_throttles_by_status(
    registry: CollectorRegistry,
) -> None:
    """Each refused attempt is one of the provider's, the call's failure is one of the caller's."""
    refusal = RateLimitError("x", status=429, retry_after=1)
    pipe = pipeline(registry, [Retry(2)], Scripted([refusal, InvalidRequestError("no")]))
    with pytest.raises(InvalidRequestError):
        await pipe.run(ASK)
    seen = scrape(registry)
    assert seen["lamella_requests_total"] == {("m", "chat", "failed"): 1}
    assert seen["lamella_request_errors_total"] == {("InvalidRequestError", "m"): 1}
    assert seen["lamella_throttles_total"] == {("m", "scripted", "429"): 1}
    assert seen["lamella_attempts_total"] == {
        ("caller", "m", "failed", "scripted"): 1,
        ("retry", "m", "failed", "scripted"): 1,
    }


async def test_losers_targets_and_children_count_where_they_went(
    registry: CollectorRegistry,
) -> None:
    """A hedge's loser and a fallback's first target are attempts like any other."""
    slow = Scripted([answer(*METERED, delay=9.0), answer(*METERED, delay=1.0)], name="slow")
    pipe = pipeline(registry, [Hedge(delay=2.0, max_extra=1)], slow)
    await pipe.run(ASK)
    other = Scripted(["fine"], name="other")
    pipe = pipeline(registry, [Fallback([other])], Scripted([ServerError("x")], name="first"))
    await pipe.run(ASK)
    seen = scrape(registry)
    assert seen["lamella_attempts_total"] == {
        ("caller", "m", "cancelled", "slow"): 1,
        ("hedge", "m", "complete", "slow"): 1,
        ("caller", "m", "failed", "first"): 1,
        ("fallback", "m", "complete", "other"): 1,
    }
    assert seen["lamella_hedges_total"] == {("second",): 1}
    assert seen["lamella_fallbacks_total"] == {("ServerError", "first", "other"): 1}
    assert sum(seen["lamella_requests_total"].values()) == 2


async def test_detached_work_counts_with_its_notes(registry: CollectorRegistry) -> None:
    """A flight is a call of its own: its attempts and its retries are counted, once."""
    transport = Scripted([ServerError("x"), "shared"])
    pipe = pipeline(registry, [SingleFlight(), Retry(jitter="none")], transport)
    await pipe.run(ASK)
    seen = scrape(registry)
    assert sum(seen["lamella_attempts_total"].values()) == 2
    assert sum(seen["lamella_retries_total"].values()) == 1
    assert seen["lamella_flights_total"] == {("started",): 1}
    assert sum(seen["lamella_requests_total"].values()) == 1


async def test_caches_count_hits_misses_and_what_they_save(registry: CollectorRegistry) -> None:
    """What is saved is what the kept answer had cost."""
    pipe = pipeline(registry, [Cache(tenant="shared", when="all")], Scripted([answer(*METERED)]))
    paid = (await pipe.run(ASK)).cost
    await pipe.run(ASK)
    seen = scrape(registry)
    assert isinstance(paid, Money)
    assert seen["lamella_cache_hits_total"] == {("fresh", "cache"): 1}
    assert seen["lamella_cache_misses_total"] == {("cache",): 1}
    assert seen["lamella_saved_tokens_total"] == {("cache",): USAGE.total_tokens}
    assert seen["lamella_saved_cost_total"] == {("USD", "cache"): paid.nano / 1e9}
    assert seen["lamella_cost_total"] == {("USD", "m", "scripted"): paid.nano / 1e9}


async def test_guards_and_personal_data_count_by_rule_and_kind(
    registry: CollectorRegistry,
) -> None:
    """What was found, and never where or what it was."""
    layers = [PII(), Guard([blocked_terms(["forbidden"])])]
    pipe = pipeline(registry, layers, Scripted(["ok"], repeat=True))
    await pipe.run(ChatRequest.of("write to ada@example.com and bob@example.com", model="m"))
    with pytest.raises(BlockedError):
        await pipe.run(ChatRequest.of("something forbidden", model="m"))
    seen = scrape(registry)
    assert seen["lamella_pii_findings_total"] == {("masked", "email"): 2}
    ((direction, _, verdict),) = seen["lamella_guard_verdicts_total"]
    assert (direction, verdict) == ("in", "blocked")
    assert seen["lamella_requests_total"]["m", "chat", "complete"] == 1
    assert "example" not in metrics_text(registry)[0].decode()


async def test_what_cannot_be_counted_costs_no_answer(registry: CollectorRegistry) -> None:
    """It is noted, and the calls under way stay right."""

    class Unspeakable:
        def __str__(self) -> str:
            raise RuntimeError

    layer = Prometheus(registry=registry, labels=["tag:team"])
    pipe = Pipeline([layer], Scripted(["ok"]), ports=virtual_ports())
    tags: Any = {"team": Unspeakable()}
    response = await pipe.run(ASK.evolve(context=Context(tags=tags)))
    assert response.text == "ok"
    names = [note.name for note in response.trace.notes]
    assert names == ["observer.failed", "prometheus.failed"]
    assert scrape(registry)["lamella_in_flight"] == {("chat",): 0}


async def test_circuits_limits_and_queues_are_read_when_scraped(
    registry: CollectorRegistry,
) -> None:
    """Whatever the last call was; a limit's room flows back while nothing happens."""
    layers = [
        LoadShed(3),
        RateLimit(10),
        Concurrency(2),
        CircuitBreaker(min_calls=2, window=60, open_for=60),
    ]
    pipe = pipeline(registry, layers, Scripted([ServerError("x")], repeat=True))
    for _ in range(2):
        with pytest.raises(ServerError):
            await pipe.run(ASK)
    seen = scrape(registry)
    assert seen["lamella_breaker_state"] == {("m", "scripted"): 2}
    assert seen["lamella_breaker_transitions_total"] == {("m", "scripted", "open"): 1}
    room = seen["lamella_rate_limiter_available"]
    assert room["rate_limit", "scripted/m requests per 60 s"] == 8
    assert room["load_shed", "calls"] == 3
    assert room["concurrency", "scripted/m"] == 2
    assert seen["lamella_rate_limiter_limit"]["rate_limit", "scripted/m requests per 60 s"] == 10
    assert seen["lamella_queue_depth"] == {
        ("load_shed",): 0,
        ("rate_limit",): 0,
        ("concurrency",): 0,
    }


async def test_a_call_counts_once_for_pipelines_in_pipelines(registry: CollectorRegistry) -> None:
    """The innermost layer of the same registry adds nothing; another registry counts for itself."""
    other = CollectorRegistry()
    inner = Pipeline(
        [Prometheus(registry=registry), Prometheus(registry=other), Retry(jitter="none")],
        Scripted([ServerError("x"), "ok"]),
    )
    await pipeline(registry, [], inner).run(ASK)
    for one in (registry, other):
        seen = scrape(one)
        assert sum(seen["lamella_requests_total"].values()) == 1
        assert sum(seen["lamella_attempts_total"].values()) == 2
        assert sum(seen["lamella_retries_total"].values()) == 1


async def test_who_cannot_count_harms_nobody(registry: CollectorRegistry) -> None:
    """Failures of observers are counted in turn."""

    class Careless:
        def attempt_opened(self, *_: Any) -> None:
            raise RuntimeError

        attempt_closed = attempt_opened

    async def careless(request: Any, call_next: Any) -> Any:
        from lamella import observed

        return await call_next(observed(request, Careless()))

    response = await pipeline(registry, [careless], Scripted(["ok"])).run(ASK)
    assert response.text == "ok"
    assert scrape(registry)["lamella_observer_errors_total"] == {("RuntimeError", "Careless"): 2}


FAILURES = st.sampled_from([ServerError, InvalidRequestError, RateLimitError, None])


@settings(max_examples=8, deadline=None)
@given(script=st.lists(FAILURES, min_size=1, max_size=12), tries=st.integers(1, 4))
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_totals_are_those_of_the_traces(backend: Any, script: list[Any], tries: int) -> None:
    """Whatever fails, and however often it is tried: attempts, tokens and money add up."""
    registry = CollectorRegistry()
    traces: list[Trace] = []
    steps = [answer(*METERED) if step is None else step("x") for step in script]

    async def keep(request: Any, call_next: Any) -> Any:
        traces.append(request.context.trace)
        return await call_next(request)

    async def main() -> None:
        pipe = pipeline(registry, [keep, Retry(tries)], Scripted(steps, repeat=True))
        for _ in range(5):
            with suppress(LamellaError):
                await pipe.run(ASK)

    run_virtual(main, backend=backend)
    seen = scrape(registry)
    attempts = [attempt for trace in traces for attempt in trace.attempts]
    assert sum(seen["lamella_attempts_total"].values()) == len(attempts)
    usage = sum([trace.usage.total_tokens for trace in traces])
    assert sum(seen.get("lamella_tokens_total", {}).values()) == usage
    nano = sum([attempt.cost.nano for attempt in attempts if attempt.cost is not None])
    assert seen.get("lamella_cost_total", {("USD", "m", "scripted"): 0}) == {
        ("USD", "m", "scripted"): nano / 1e9
    }
    notes = sum([len(trace.notes) for trace in traces])
    assert sum(seen.get("lamella_notes_total", {}).values()) == notes
