"""OpenTelemetry: the layer keeps the contract, refuses what cannot be, and is never in the way."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from otel_signals import Signals

from lamella import ChatRequest, ConfigurationError, Pipeline
from lamella.testing import Scripted, check_middleware, virtual_ports
from lamella_middlewares import PII
from lamella_opentelemetry import OpenTelemetry

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("write to ada@example.org", model="m")


def pipeline(layers: list[Any], transport: Any) -> Pipeline:
    """A pipeline with a clock and stores of its own."""
    return Pipeline(layers, transport, ports=virtual_ports())


async def test_it_keeps_the_contract(signals: Signals) -> None:
    """With all of its signals on."""
    await check_middleware(lambda: OpenTelemetry(chunks=True, content=True, **signals.all))
    assert signals.balance.check() > 100


def test_a_stack_may_name_it() -> None:
    """As a file of presets does; `explain` says where it came from."""
    pipe = Pipeline(["opentelemetry"], Scripted(["well"]))
    assert "lamella-opentelemetry" in str(pipe.explain())


async def test_content_is_what_the_redacting_layer_shows(signals: Signals) -> None:
    """Masked, on the call's span and in the event; without such a layer there is none."""
    for layers in ([PII()], []):
        layer = OpenTelemetry(content=True, **signals.all)
        await pipeline([layer, *layers], Scripted(["I shall write."])).run(ASK)
    (masked, bare) = [span for span in signals.spans() if span.name.startswith("lamella")]
    assert "I shall write." in masked.attributes["gen_ai.output.messages"]
    assert (
        '{"role":"user","parts":[{"type":"text","content":"write to'
        in (masked.attributes["gen_ai.input.messages"])
    )
    assert not any(name.endswith("messages") for name in bare.attributes)
    event, other = signals.events()
    assert event.event_name == "gen_ai.client.inference.operation.details"
    assert event.attributes["gen_ai.output.messages"][0]["parts"][0]["content"] == "I shall write."
    assert event.span_id == signals.attempts()[0].context.span_id
    assert event.attributes["gen_ai.request.model"] == "m"
    assert "gen_ai.input.messages" not in other.attributes
    everything = "".join(span.to_json() for span in signals.spans())
    assert "example.org" not in everything
    assert "example.org" not in str(event.attributes)


class _Broken:
    """A provider of which nothing works but what is asked for first."""

    def __init__(self, works: int) -> None:
        self._left = works

    def _fail(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise OSError("the exporter is on fire")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def method(*args: Any, **kwargs: Any) -> Any:
            self._fail()
            return self

        return method


@pytest.mark.parametrize("works", range(0, 20, 3))
@pytest.mark.parametrize("stream", [False, True])
async def test_whatever_breaks_the_request_goes_on(works: int, stream: bool) -> None:
    """A provider that fails, early or late, is noted and costs no answer."""
    broken: Any = _Broken(works)
    layer = OpenTelemetry(
        tracer_provider=broken, meter_provider=broken, logger_provider=broken, events=True,
        chunks=True,
    )  # fmt: skip
    pipe = pipeline([layer], Scripted(["well then"]))
    if stream:
        async with pipe.stream(ASK) as opened:
            response = await opened.collect()
    else:
        response = await pipe.run(ASK)
    assert response.text == "well then"
    assert {"opentelemetry.failed", "observer.failed"} & {
        note.name for note in response.trace.notes
    }


async def test_who_returns_no_response_is_told_so(signals: Signals) -> None:
    """As without the layer: by name, and both spans end."""

    async def careless(request: ChatRequest) -> Any:
        return "no response"

    with pytest.raises(TypeError, match="instead of a response"):
        await pipeline([OpenTelemetry(**signals.all)], careless).run(ASK)
    assert signals.balance.check() == 2


async def test_providers_that_are_set_later_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layer may be made before the program has set its own."""
    layer = OpenTelemetry(metrics=False)
    pipe = pipeline([layer], Scripted(["well", "well"]))
    await pipe.run(ASK)
    signals = Signals()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: signals.tracer_provider)
    await pipe.run(ASK)
    assert signals.balance.check() == 2


def test_many_threads_and_loops_at_once(signals: Signals) -> None:
    """Each call has its own spans, rightly nested, on whatever loop it runs."""
    layer = OpenTelemetry(**signals.all)
    pipe = Pipeline([layer], Scripted(["well"], repeat=True))

    def ask(backend: str | None) -> None:
        if backend is None:
            pipe.run_sync(ASK)
        else:
            anyio.run(pipe.run, ASK, backend=backend)

    backends = [None, "asyncio", "trio"] * 3
    threads = [threading.Thread(target=ask, args=(backend,)) for backend in backends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    calls = {span.context.span_id for span in signals.spans() if span.name.startswith("lamella")}
    assert {span.parent.span_id for span in signals.attempts()} == calls
    (point,) = signals.points("gen_ai.client.operation.duration")
    assert point.count == len(calls) == len(threads)
    assert signals.balance.check() == 2 * len(threads)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tracer_provider": 3}, "tracer_provider=3"),
        ({"meter_provider": TracerProvider(shutdown_on_exit=False)}, "get_meter"),
        ({"conventions": "1.2"}, "conventions='1.2'"),
        ({"conventions": "1.36", "content": True}, "no names for events or content"),
        ({"propagate": "all"}, "propagate='all'"),
        ({"traces": "no"}, "traces='no'"),
        ({"most_notes": -1}, "most_notes=-1"),
        ({"most_models": 0}, "most_models=0"),
        ({"traces": False, "metrics": False, "propagate": False}, "sends nothing"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], says: str) -> None:
    """When the layer is made, with what to give instead."""
    with pytest.raises(ConfigurationError, match=says):
        OpenTelemetry(**options)
