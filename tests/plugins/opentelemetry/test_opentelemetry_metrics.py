"""OpenTelemetry: what is measured of calls and attempts, and what it is called."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from otel_signals import Signals

from lamella import (
    ChatRequest,
    EmbeddingRequest,
    EmbeddingResponse,
    Finish,
    Head,
    Pipeline,
    RateLimitError,
    TextDelta,
    Usage,
    UsageReport,
)
from lamella.testing import Scripted, ScriptedAnswer, virtual_ports
from lamella_middlewares import Cache, Cost, Retry, SingleFlight
from lamella_opentelemetry import OpenTelemetry
from lamella_opentelemetry._conventions import CONVENTIONS
from lamella_opentelemetry._facts import add_usage, modalities

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hi", model="m", temperature=0)
USAGE = Usage(uncached_input=60, cache_read=30, audio_input=10, text_output=4, reasoning_output=3)
ANSWER = ScriptedAnswer(
    [TextDelta("so"), TextDelta(" be"), TextDelta(" it"), UsageReport(USAGE), Finish("stop")],
    delay=1,
    gap=0.5,
    head=Head(model="m-2026"),
)
PRICES = {
    "m": {
        "input": "1",
        "cache_read": "0.1",
        "audio_input": "2",
        "output": "4",
        "reasoning_output": "4",
    }
}


def pipeline(layers: list[Any], transport: Any) -> Pipeline:
    """A pipeline with a clock and stores of its own."""
    return Pipeline(layers, transport, ports=virtual_ports())


async def streamed(pipe: Pipeline, request: ChatRequest = ASK) -> Any:
    """The complete response, streamed."""
    async with pipe.stream(request) as response:
        return await response.collect()


async def test_attempts_are_measured(signals: Signals) -> None:
    """Each of them: time, tokens, cost, and what went wrong; sums are the trace's."""
    layers = [OpenTelemetry(**signals.measured), Retry(), Cost(PRICES)]
    refused = RateLimitError("no", status=429, retry_after=1)
    response = await streamed(pipeline(layers, Scripted([refused, ANSWER])))
    trace = response.trace
    name = "gen_ai.client.operation.duration"
    assert signals.sum(name) == pytest.approx(sum(each.duration for each in trace.attempts))
    (failed,) = [each for each in signals.points(name) if "error.type" in each.attributes]
    assert failed.attributes["error.type"] == "RateLimitError"
    (well,) = [each for each in signals.points(name) if "error.type" not in each.attributes]
    assert dict(well.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "m",
        "gen_ai.response.model": "m-2026",
    }
    tokens = {
        kind: signals.sum("gen_ai.client.token.usage", gen_ai__token__type=kind)
        for kind in ("input", "output")
    }
    assert tokens == {"input": trace.usage.input_tokens, "output": trace.usage.output_tokens}
    assert signals.sum("lamella.cost", lamella__currency="USD") == trace.cost.nano > 0
    first = "gen_ai.client.operation.time_to_first_chunk"
    assert signals.sum(first) == pytest.approx(1.5)
    assert signals.sum("lamella.notes", lamella__note="retry.wait") == 1


async def test_notes_of_work_that_calls_share_count_once(signals: Signals) -> None:
    """Whoever began it, however many wait for it, and whatever layers see it; so do children's."""
    inner = pipeline(
        [OpenTelemetry(**signals.measured), Retry(jitter="none")],
        Scripted([ScriptedAnswer([RateLimitError("no", status=429)], delay=1), "well"]),
    )
    pipe = pipeline([OpenTelemetry(**signals.measured), SingleFlight()], inner)
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(pipe.run, ASK)
    assert signals.sum("lamella.notes", lamella__note="retry.wait") == 1
    assert signals.sum("lamella.notes", lamella__note="single_flight.joined") == 2
    assert signals.sum("lamella.call.duration", lamella__outcome="complete") > 0
    await pipe.aclose()


async def test_the_time_between_chunks_is_measured_where_asked_for(signals: Signals) -> None:
    """Each of them, on the call's clock; not of answers that come in one piece."""
    for chunks in (False, True):
        layer = OpenTelemetry(chunks=chunks, **signals.measured)
        pipe = pipeline([layer], Scripted([ANSWER, ANSWER]))
        assert (await pipe.run(ASK)).text == (await streamed(pipe)).text == "so be it"
    (point,) = signals.points("gen_ai.client.operation.time_per_output_chunk")
    assert (point.count, point.sum) == (2, pytest.approx(1.0))


async def test_calls_are_measured(signals: Signals) -> None:
    """By outcome, and whether anything was paid for."""
    layers = [OpenTelemetry(**signals.measured), Cache(tenant="shared")]
    pipe = pipeline(layers, Scripted(["well", RateLimitError("no", status=429)]))
    await pipe.run(ASK)
    await pipe.run(ASK)
    with pytest.raises(RateLimitError):
        await pipe.run(ASK.evolve(seed=1))
    found = [dict(point.attributes) for point in signals.points("lamella.call.duration")]
    kinds = {(each["lamella.outcome"], each["lamella.cached"]) for each in found}
    assert kinds == {("complete", False), ("complete", True), ("failed", False)}
    assert signals.sum("lamella.notes", lamella__layer="cache") > 0


async def test_the_newest_version_counts_tokens_by_what_they_stand_for(signals: Signals) -> None:
    """Each part a counter; an attempt that failed counts nothing, and is there."""
    layer = OpenTelemetry(conventions="2026-11", **signals.measured)
    refused = RateLimitError("no", status=429)
    embedded = EmbeddingResponse.of([[1.0]], usage=Usage(uncached_input=5))
    pipe = pipeline([layer], Scripted([ANSWER, embedded, refused]))
    await streamed(pipe)
    await pipe.run(EmbeddingRequest.of("x", model="e"))
    with pytest.raises(RateLimitError):
        await pipe.run(ASK)
    family = "gen_ai.client.inference.usage."
    chat = {"gen_ai__operation__name": "chat"}

    def counted(part: str, modality: str) -> int:
        found: int = signals.sum(family + part, gen_ai__token__modality=modality, **chat)
        return found

    assert counted("input_tokens", "text") == 90
    assert counted("input_tokens", "audio") == 10
    assert counted("output_tokens", "unknown") == 7
    assert counted("cache_read.input_tokens", "unknown") == 30
    assert counted("reasoning.output_tokens", "unknown") == 3
    assert any(
        "gen_ai.response.model" not in point.attributes
        for point in signals.points(family + "input_tokens")
    )
    assert not signals.points("gen_ai.client.token.usage")
    assert signals.sum("gen_ai.client.inference.duration") == pytest.approx(3.5)
    assert len(signals.points("gen_ai.client.operation.duration")) == 1


async def test_attributes_of_metrics_are_bounded(signals: Signals) -> None:
    """Models beyond the bound are one; those known before stay apart."""
    layer = OpenTelemetry(most_models=2, **signals.measured)
    pipe = pipeline([layer], Scripted(["well"] * 6))
    for model in "abcdab":
        await pipe.run(ASK.evolve(model=model))
    name = "gen_ai.client.operation.duration"
    counts = {
        point.attributes["gen_ai.request.model"]: point.count for point in signals.points(name)
    }
    assert counts == {"a": 2, "b": 2, "other": 2}


async def test_two_layers_measure_once(signals: Signals) -> None:
    """One within the other: attempts and calls are counted once."""
    inner = pipeline([OpenTelemetry(**signals.measured)], Scripted(["well"]))
    await pipeline([OpenTelemetry(**signals.measured)], inner).run(ASK)
    for name in ("gen_ai.client.operation.duration", "lamella.call.duration"):
        assert [point.count for point in signals.points(name)] == [1]


COUNT = st.integers(0, 10**9)
PARTS = (
    "uncached_input",
    "cache_read",
    "audio_input",
    "image_input",
    "text_output",
    "audio_output",
)


@settings(max_examples=30)
@given(st.fixed_dictionaries(dict.fromkeys(PARTS, COUNT)), COUNT)
def test_parts_add_up_whatever_was_used(parts: dict[str, Any], written: int) -> None:
    """Tokens by modality are the total, and no part that is named is more than its whole."""
    usage = Usage(**parts, cache_write={"5m": written, "1h": 1})
    totals = {"input": usage.input_tokens, "output": usage.output_tokens}
    for direction, total in totals.items():
        assert sum(modalities(usage, direction).values()) == total
    for words in CONVENTIONS.values():
        found: dict[str, Any] = {}
        add_usage(found, usage, words)
        for name, count in found.items():
            assert 0 <= count <= totals["input" if "input" in name else "output"]
