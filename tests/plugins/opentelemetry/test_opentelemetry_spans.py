"""OpenTelemetry: a span for each call and each attempt, with what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import anyio
import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode
from otel_signals import Signals

from lamella import (
    ChatRequest,
    ChatResponse,
    Context,
    EmbeddingRequest,
    EmbeddingResponse,
    Finish,
    Head,
    Message,
    Outcome,
    Pipeline,
    RateLimitError,
    StreamTruncated,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReport,
    middleware,
)
from lamella.testing import Scripted, ScriptedAnswer, each_step, virtual_ports
from lamella_middlewares import PII, Cost, Fallback, Hedge, Retry, Timeout, Tools
from lamella_opentelemetry import OpenTelemetry
from lamella_opentelemetry._content import MOST_MESSAGES, _last

pytestmark = pytest.mark.anyio

USAGE = Usage(
    uncached_input=60, cache_read=30, cache_write={"5m": 10}, text_output=4, reasoning_output=3
)
ASK = ChatRequest.of(
    "a secret of Ada's",
    model="m",
    temperature=0.5,
    max_output_tokens=9,
    seed=7,
    n=1,
    stop="Ada",
    reasoning_effort="low",
    response_format={"type": "json_object"},
    extra={"top_k": 5},
)
PRICES = {
    "input": "1",
    "cache_read": "0.1",
    "cache_write": "1.25",
    "output": "4",
    "reasoning_output": "4",
}
ANSWER = ScriptedAnswer(
    [TextDelta("so"), TextDelta(" be"), TextDelta(" it"), UsageReport(USAGE), Finish("stop")],
    delay=1,
    gap=0.5,
    head=Head(model="m-2026", id="answer-1"),
)


def pipeline(layers: list[Any], transport: Any) -> Pipeline:
    """A pipeline with a clock and stores of its own."""
    return Pipeline(layers, transport, ports=virtual_ports())


async def read(pipe: Pipeline, request: ChatRequest = ASK, *, stream: bool = False) -> Any:
    """The complete response, run or streamed."""
    if not stream:
        return await pipe.run(request)
    async with pipe.stream(request) as response:
        return await response.collect()


async def test_a_call_has_a_span_and_each_attempt_one_within(signals: Signals) -> None:
    """Named and timed as the trace has them; a try that failed says so, the call does not."""
    script: list[Any] = [
        RateLimitError("slow down", status=429, code="rate_limit", retry_after=2),
        ANSWER,
    ]
    layers = [OpenTelemetry(**signals.traced), Retry(), Cost({"m": PRICES})]
    response = await read(pipeline(layers, Scripted(script)))
    call, (first, second) = signals.call(), signals.attempts()
    assert [call.name, first.name, second.name] == ["lamella chat m", "chat m", "chat m"]
    assert [call.kind, first.kind] == [SpanKind.INTERNAL, SpanKind.CLIENT]
    assert call.parent is None
    assert first.parent.span_id == second.parent.span_id == call.context.span_id
    trace = response.trace
    for span, attempt in zip((first, second), trace.attempts, strict=True):
        assert span.start_time == pytest.approx((trace.started + attempt.start) * 1e9, abs=1000)
        assert span.end_time == pytest.approx((trace.started + attempt.end) * 1e9, abs=1000)
    assert first.status.status_code is StatusCode.ERROR
    assert first.status.description == "RateLimitError (429, rate_limit)"
    assert first.attributes["error.type"] == "RateLimitError"
    assert first.attributes["http.response.status_code"] == 429
    assert second.attributes["lamella.asked_by"] == "retry"
    assert {second.status.status_code, call.status.status_code} == {StatusCode.UNSET}
    assert call.attributes["lamella.attempts"] == 2
    assert call.attributes["lamella.cost_nano"] == trace.cost.nano > 0
    (event,) = call.events
    assert event.name == "lamella.retry.wait"
    assert event.attributes["lamella.layer"] == "retry"


async def test_an_attempt_has_the_conventions_attributes(signals: Signals) -> None:
    """Of the request, the answer and its usage; never words of a prompt, not where it stops."""
    asked = ASK.evolve(context=Context(session="s-1", user="Ada", tenant="acme"))
    await read(pipeline([OpenTelemetry(**signals.traced)], Scripted([ANSWER])), asked, stream=True)
    (attempt,) = signals.attempts()
    found = {name: value for name, value in attempt.attributes.items() if "lamella" not in name}
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.conversation.id": "s-1",
        "gen_ai.request.model": "m",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.seed": 7,
        "gen_ai.request.top_k": 5,
        "gen_ai.request.stream": True,
        "gen_ai.request.reasoning.level": "low",
        "gen_ai.output.type": "json",
        "gen_ai.response.model": "m-2026",
        "gen_ai.response.id": "answer-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": pytest.approx(1.5),
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 30,
        "gen_ai.usage.cache_write.input_tokens": 10,
        "gen_ai.usage.reasoning.output_tokens": 3,
    }
    assert signals.call().attributes["lamella.tenant"] == "acme"
    assert "Ada" not in "".join(span.to_json() for span in signals.spans())


async def test_other_operations_have_spans_too(signals: Signals) -> None:
    """Named after the operation, with its own attributes."""
    answer = EmbeddingResponse.of([[1.0]], usage=Usage(uncached_input=3))
    pipe = pipeline([OpenTelemetry(**signals.traced)], Scripted([answer]))
    await pipe.run(EmbeddingRequest.of("x", model="e", dimensions=1))
    (attempt,) = signals.attempts()
    assert attempt.name == "embeddings e"
    assert attempt.attributes["gen_ai.embeddings.dimension.count"] == 1
    assert "gen_ai.response.finish_reasons" not in attempt.attributes


@pytest.mark.parametrize("version", ["1.36", "1.41", "2026-11"])
async def test_other_versions_have_other_names(signals: Signals, version: Any) -> None:
    """What was not named in a version is not sent."""
    layer = OpenTelemetry(conventions=version, **signals.traced)
    await read(pipeline([layer], Scripted([ANSWER])), stream=True)
    (attempt,) = signals.attempts()
    words = {
        "1.36": {"gen_ai.system"},
        "1.41": {"gen_ai.usage.cache_creation.input_tokens", "gen_ai.request.stream"},
        "2026-11": {"gen_ai.usage.cache_write.input_tokens", "gen_ai.request.reasoning.level"},
    }
    mine = words.pop(version)
    assert mine <= set(attempt.attributes)
    others: set[str] = set().union(*words.values())
    later = {"1.36": others, "1.41": words.get("2026-11", set()), "2026-11": {"gen_ai.system"}}
    assert not (later[version] - mine) & set(attempt.attributes)


async def test_a_failure_is_one_wherever_it_comes(signals: Signals) -> None:
    """A stream that breaks off fails its attempt and the call; the message is in neither."""
    broken: list[Any] = [TextDelta("so"), StreamTruncated("Ada cut the wire")]
    with pytest.raises(StreamTruncated):
        await read(pipeline([OpenTelemetry(**signals.traced)], Scripted([broken])), stream=True)
    for span in signals.spans():
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes["error.type"] == "StreamTruncated"
        assert span.attributes["lamella.outcome"] == "truncated"
        assert "Ada" not in span.to_json()


@pytest.mark.parametrize("how", ["left", "cancelled"])
async def test_who_stops_has_not_failed(signals: Signals, how: str) -> None:
    """A caller who leaves, or is cancelled, is no error."""
    pipe = pipeline([OpenTelemetry(**signals.traced)], Scripted([ANSWER]))
    with anyio.move_on_after(1.7 if how == "cancelled" else 60):
        async with pipe.stream(ASK) as response:
            async for _ in response:
                if how == "left":
                    break
    assert len(signals.spans()) == 2
    for span in signals.spans():
        assert span.attributes["lamella.outcome"] == how
        assert span.status.status_code is StatusCode.UNSET
        assert "error.type" not in span.attributes


async def test_timeouts_and_exceptions_of_others_are_failures(signals: Signals) -> None:
    """Named after their classes."""

    async def careless(request: ChatRequest) -> ChatResponse:
        raise KeyError("Ada")

    for transport, error in ((Scripted([ANSWER]), "AttemptTimeout"), (careless, "KeyError")):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - its class is what is looked at
            layers = [OpenTelemetry(**signals.traced), Timeout(attempt=0.5)]
            await read(pipeline(layers, transport))
        assert type(caught.value).__name__ == error
        assert signals.spans()[-1].attributes["error.type"] == error
    assert "Ada" not in signals.spans()[-1].to_json()


async def test_losers_and_targets_are_seen(signals: Signals) -> None:
    """A second copy and a second target are attempts of the call, and say who asked for them."""
    slow = ScriptedAnswer([TextDelta("late"), Finish("stop")], delay=9)
    layers = [OpenTelemetry(**signals.traced), Hedge(delay=1, max_extra=1)]
    await read(pipeline(layers, Scripted([slow, "quick"])))
    outcomes = {span.attributes["lamella.outcome"] for span in signals.attempts()}
    assert outcomes == {"cancelled", "complete"}
    assert signals.attempts()[1].attributes["lamella.asked_by"] == "hedge"
    layers = [OpenTelemetry(**signals.traced), Fallback(["other"])]
    await read(pipeline(layers, Scripted([RateLimitError("no", status=429), "yes"])))
    assert signals.attempts()[-1].name == "chat other"


async def test_a_child_call_is_seen(signals: Signals) -> None:
    """What a layer asks on the way belongs to the call."""

    @middleware(phase="shape", requests=ChatRequest)
    async def judge(request: ChatRequest, call_next: Any) -> ChatResponse:
        other = request.child(ChatRequest.of("good?", model="judge"), purpose="judge")
        await call_next(other)
        return cast("ChatResponse", await call_next(request))

    layers = [OpenTelemetry(**signals.traced), judge]
    await read(pipeline(layers, Scripted(["yes", "well"])))
    child, own = signals.attempts()
    assert [child.name, own.name] == ["chat judge", "chat m"]
    assert child.attributes["lamella.branch"] == "/judge"
    assert child.context.trace_id == own.context.trace_id


async def test_detached_work_has_a_trace_of_its_own_that_is_linked(signals: Signals) -> None:
    """All its attempts are in that one trace."""

    @middleware(phase="shape", requests=ChatRequest)
    async def shadow(request: ChatRequest, call_next: Any) -> ChatResponse:
        async def again() -> None:
            detached = request.detach("shadow")
            for _ in range(2):
                await call_next(detached)
            await detached.context.call.close(Outcome.COMPLETE)

        request.context.background.spawn(again, name="shadow")
        return cast("ChatResponse", await call_next(request))

    pipe = pipeline([OpenTelemetry(**signals.traced), shadow], Scripted(["a", "b", "c"]))
    await read(pipe)
    await anyio.sleep(1)
    await pipe.aclose()
    (root,) = [span for span in signals.spans() if span.name == "lamella shadow"]
    (call,) = [span for span in signals.spans() if span.name == "lamella chat m"]
    assert root.links[0].context.span_id == call.context.span_id
    assert root.context.trace_id != call.context.trace_id
    assert root.attributes["lamella.parent_id"] == call.attributes["lamella.call_id"]
    within = [span for span in signals.attempts() if span.parent.span_id == root.context.span_id]
    assert len(within) == 2


async def test_a_pipeline_inside_is_part_of_the_call(signals: Signals) -> None:
    """Each layer has a span; each attempt has one, within the innermost, and so has its event."""
    inner = pipeline([OpenTelemetry(**signals.all)], Scripted(["well"]))
    await read(pipeline([OpenTelemetry(**signals.all)], inner))
    assert len(signals.events()) == 1
    attempt, inside, outside = signals.spans()
    assert attempt.parent.span_id == inside.context.span_id
    assert inside.parent.span_id == outside.context.span_id
    assert "lamella.attempts" in outside.attributes
    assert "lamella.attempts" not in inside.attributes


async def test_an_event_is_sent_where_only_the_outer_layer_wants_it(signals: Signals) -> None:
    """The inner layer sees the attempt, and keeps it for the one that asked."""
    inner = pipeline([OpenTelemetry(**{**signals.all, "events": False})], Scripted(["well"]))
    await read(pipeline([OpenTelemetry(**signals.all)], inner))
    (event,) = signals.events()
    assert event.span_id == signals.attempts()[0].context.span_id


async def test_whatever_stands_in_them_signals_can_be_encoded(signals: Signals) -> None:
    """As UTF-8 and 64 bits, and of a bounded size: exporters drop a batch over one value."""
    lone = "\ud800" + "m" * 5_000
    context = Context(session=lone, tenant=lone)
    head = Head(model=lone, id=lone)
    answered = ScriptedAnswer([TextDelta(lone), Finish(lone)], head=head)

    @middleware(phase="attempt")
    async def chatty(request: Any, call_next: Any) -> Any:
        request.context.note("chatty", "chatty.said", number=2**70, words=lone)
        return await call_next(request)

    layers = [OpenTelemetry(content=True, **signals.all), PII(), chatty]
    request = ASK.evolve(model=lone, seed=2**70, context=context)
    await read(pipeline(layers, Scripted([answered])), request)
    found: list[Any] = [event.attributes for event in signals.events()]
    for span in signals.spans():
        found += [span.name, span.attributes, *[event.attributes for event in span.events]]
    for name in ("gen_ai.client.operation.duration", "lamella.call.duration"):
        found += [point.attributes for point in signals.points(name)]
    assert len(found) == 8

    def check(value: Any) -> None:
        if isinstance(value, str):
            assert len(value.encode()) <= 12_000
        elif isinstance(value, int):
            assert value.bit_length() < 64
        elif isinstance(value, Mapping):
            check([*value.keys(), *value.values()])
        elif isinstance(value, Sequence):
            for each in value:
                check(each)

    check(found)


def test_only_the_last_messages_are_written() -> None:
    """However long the conversation is: this happens on the event loop."""
    passed: list[int] = []

    class Counted(Sequence[Message]):
        def __init__(self, length: int) -> None:
            self._length = length

        def __len__(self) -> int:
            return self._length

        def __getitem__(self, place: Any) -> Any:
            if isinstance(place, slice):
                return [self[each] for each in range(*place.indices(self._length))]
            passed.append(place)
            return Message.user(f"{place} " + "x" * 7_000)

    made = _last(Counted(100_000))
    assert len(passed) == MOST_MESSAGES
    assert len(made) == 15
    assert made[-1]["parts"][0]["content"].startswith("99999 x")


async def test_the_notes_on_a_span_are_bounded(signals: Signals) -> None:
    """The first ones are there, and how many more there were."""

    @middleware(phase="shape")
    async def chatty(request: Any, call_next: Any) -> Any:
        for number in range(5):
            request.context.note("chatty", "chatty.said", number=number, words=["x"])
        return await call_next(request)

    layers = [OpenTelemetry(most_notes=3, **signals.traced), chatty]
    await read(pipeline(layers, Scripted(["well"])))
    call = signals.call()
    assert [event.attributes["lamella.number"] for event in call.events] == [0, 1, 2]
    assert call.events[0].attributes["lamella.words"] == "['x']"
    assert call.attributes["lamella.notes_dropped"] == 2


async def test_what_is_not_sampled_costs_no_attributes() -> None:
    """The decision is the SDK's; nothing is sent, and nobody is disturbed."""
    signals = Signals(ParentBased(ALWAYS_OFF))
    layer = OpenTelemetry(**signals.all)
    response = await read(pipeline([layer], Scripted([ANSWER])))
    assert response.text == "so be it"
    assert not signals.spans()
    assert not signals.events()
    assert signals.sum("gen_ai.client.token.usage", gen_ai__token__type="input") == 100


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_every_span_ends_once_wherever_it_is_cancelled(backend: str) -> None:
    """At each step, streamed, with retries and copies under way."""
    balances = []

    def make() -> tuple[Any, Any]:
        signals = Signals()
        balances.append(signals.balance)
        broken = ScriptedAnswer([RateLimitError("no", status=429)], delay=0.1)
        layers = [
            OpenTelemetry(chunks=True, **signals.all),
            Hedge(delay=0.05, max_extra=1),
            Retry(),
        ]
        script = Scripted([broken, "well then", "oh well"], repeat=True)
        pipe = pipeline(layers, script)

        async def scenario() -> None:
            async with pipe.stream(ASK) as response:
                async for _ in response:
                    pass

        async def check() -> None:
            await pipe.aclose()
            signals.balance.check()

        return scenario, check

    assert each_step(make, backend=backend) > 5
    assert max(balance.check() for balance in balances) >= 3


async def test_each_call_of_a_tool_is_a_span(signals: Signals) -> None:
    """With its time and what became of it; a name that a model made up is nowhere."""

    async def wait(seconds: float) -> str:
        await anyio.sleep(seconds)
        return "done"

    calls: list[Any] = [
        ToolCallDelta(0, "1", "wait", '{"seconds":2}'),
        ToolCallDelta(1, "2", "ada@example.com", "{}"),
        Finish("tool_calls"),
    ]
    layers = [OpenTelemetry(**signals.traced), Tools([wait])]
    await read(pipeline(layers, Scripted([calls, "Done."])))
    good, bad = sorted(
        [one for one in signals.spans() if one.name.startswith("execute_tool")],
        key=lambda one: one.start_time - one.end_time,
    )
    assert (good.name, bad.name) == ("execute_tool wait", "execute_tool")
    assert good.end_time - good.start_time == pytest.approx(2e9)
    assert good.parent.span_id == bad.parent.span_id == signals.call().context.span_id
    assert dict(good.attributes) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "wait",
        "gen_ai.tool.type": "function",
    }
    assert bad.attributes["error.type"] == "unknown"
    assert (good.status.status_code, bad.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    assert "ada@" not in "".join([one.to_json() for one in signals.spans()])
