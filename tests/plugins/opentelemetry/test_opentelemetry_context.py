"""OpenTelemetry: whose trace a call belongs to, and what goes along to the provider."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from openai_wire import complete, serving
from opentelemetry import baggage, trace
from opentelemetry.context import Context as OTelContext
from opentelemetry.context import attach, detach
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
from otel_signals import Signals

from lamella import ChatRequest, Context, Pipeline
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares import Retry
from lamella_opentelemetry import OpenTelemetry

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hi", model="m")
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def here() -> Iterator[OTelContext]:
    """A span of somebody else's that is current, with baggage."""
    known = SpanContext(int(TRACE, 16), 7, is_remote=True, trace_flags=TraceFlags(1))
    context = set_span_in_context(NonRecordingSpan(known))
    token = attach(baggage.set_baggage("user", "ada", context))
    yield context
    detach(token)


def pipeline(transport: Any, **options: Any) -> Pipeline:
    """A pipeline with a clock and stores of its own."""
    return Pipeline([OpenTelemetry(**options)], transport, ports=virtual_ports())


def parent_of(signals: Signals) -> tuple[str, int]:
    """Trace and parent of the call's span."""
    parent = signals.call().parent
    return f"{parent.trace_id:032x}", parent.span_id


async def test_the_current_span_is_the_parent(signals: Signals, here: OTelContext) -> None:
    """That of who calls `stream`; none is current for it afterwards that was not before."""
    async with pipeline(Scripted(["well"]), **signals.traced).stream(ASK) as response:
        assert trace.get_current_span().get_span_context().span_id == 7
        await response.collect()
    assert parent_of(signals) == (TRACE, 7)


def test_so_it_is_for_the_synchronous_form(signals: Signals, here: OTelContext) -> None:
    """Although the call runs in another thread."""
    layer = OpenTelemetry(**signals.all)
    Pipeline([layer], Scripted(["well"])).run_sync(ASK)
    assert parent_of(signals) == (TRACE, 7)


async def test_headers_that_came_in_go_before_it(signals: Signals, here: OTelContext) -> None:
    """A gateway hands them on as attributes of the request's context; junk is no parent."""
    pipe = pipeline(Scripted(["well", "well"]), **signals.traced)
    given = Context(attributes={"traceparent": PARENT, "other": 1})
    await pipe.run(ASK.evolve(context=given))
    assert parent_of(signals) == (TRACE, 0xB7AD6B7169203331)
    await pipe.run(ASK.evolve(context=Context(attributes={"traceparent": "junk"})))
    assert signals.spans()[-1].parent.span_id == 7


@pytest.mark.parametrize("stream", [False, True])
async def test_each_attempt_goes_along_with_its_own_context(
    signals: Signals, here: OTelContext, stream: bool
) -> None:
    """The provider sees the attempt's span as parent; what says things about users stays here."""
    async with serving(complete({"error": {}}, status=503), complete()) as (server, plain):
        layers: list[Any] = [OpenTelemetry(**signals.traced), Retry(base=0.001)]
        pipe = Pipeline(layers, plain.transport)
        if stream:
            async with pipe.stream(ASK) as response:
                await response.collect()
        else:
            await pipe.run(ASK)
        seen = [received.headers for received in server.received]
    spans = [span.context.span_id for span in signals.attempts()]
    assert [headers["traceparent"] for headers in seen] == [
        f"00-{TRACE}-{span:016x}-01" for span in spans
    ]
    assert not any("baggage" in headers for headers in seen)
    attributes = signals.attempts()[0].attributes
    assert attributes["server.address"] == "127.0.0.1"
    assert attributes["server.port"] == int(server.url.rpartition(":")[2].partition("/")[0])


async def test_the_users_own_headers_win(signals: Signals, here: OTelContext) -> None:
    """What a transport was told to send is not replaced."""
    async with serving(complete(), headers={"TraceParent": "mine"}) as (server, plain):
        layer = OpenTelemetry(propagate="baggage", **signals.traced)
        await Pipeline([layer], plain.transport).run(ASK)
        assert server.received[0].headers["traceparent"] == "mine"
        assert server.received[0].headers["baggage"] == "user=ada"


async def test_it_can_be_left_off(signals: Signals, here: OTelContext) -> None:
    """Then nothing goes along."""
    async with serving(complete()) as (server, plain):
        layer = OpenTelemetry(propagate=False, **signals.traced)
        await Pipeline([layer], plain.transport).run(ASK)
        assert "traceparent" not in server.received[0].headers


async def test_without_a_provider_a_context_passes_through(here: OTelContext) -> None:
    """As it came: nobody records a span here, but the trace goes on at the provider."""
    async with serving(complete()) as (server, plain):
        await Pipeline([OpenTelemetry()], plain.transport).run(ASK)
        assert server.received[0].headers["traceparent"] == f"00-{TRACE}-{7:016x}-01"


async def test_without_a_provider_and_a_context_nothing_is_sent() -> None:
    """The layer is not in the way."""
    async with serving(complete()) as (server, plain):
        response = await Pipeline([OpenTelemetry()], plain.transport).run(ASK)
        assert "traceparent" not in server.received[0].headers
        assert not response.trace.notes
