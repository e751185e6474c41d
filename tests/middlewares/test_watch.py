"""Watch: it sees everything and changes nothing."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, cast

import anyio
import pytest

from lamella import (
    ChatRequest,
    ConfigurationError,
    DeadlineExceeded,
    Finish,
    InvalidRequestError,
    LamellaError,
    Pipeline,
    StreamTruncated,
    TextDelta,
)
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.watch import Watch

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello", model="m")


def pipeline(layer: Any, transport: Any) -> Pipeline:
    """A pipeline with a clock and stores of its own."""
    return Pipeline([layer], transport, ports=virtual_ports())


async def read(pipe: Pipeline, *, stream: bool) -> Any:
    """The complete response, run or streamed."""
    if not stream:
        return await pipe.run(ASK)
    async with pipe.stream(ASK) as response:
        return await response.collect()


@pytest.mark.parametrize("stream", [False, True])
async def test_each_watcher_sees_its_part(stream: bool) -> None:
    """Request, every event with `Finish` last, and the complete response; no error."""
    seen: list[Any] = []
    layer = Watch(
        on_request=lambda request: seen.append(request.messages[0].text),
        on_event=seen.append,
        on_response=lambda response: seen.append(response.text),
        on_error=seen.append,
    )
    response = await read(pipeline(layer, Scripted(["so be it"])), stream=stream)
    events = [TextDelta("so"), TextDelta(" be"), TextDelta(" it"), Finish("stop")]
    assert seen == ["hello", *events, "so be it"]
    assert list(response.events) == events


@pytest.mark.parametrize("stream", [False, True])
async def test_async_watchers_are_awaited(stream: bool) -> None:
    """Both kinds of function will do."""
    seen: list[str] = []

    async def look(what: Any) -> None:
        await anyio.sleep(0.1)
        seen.append(type(what).__name__)

    layer = Watch(on_request=look, on_response=look)
    await read(pipeline(layer, Scripted(["ok"])), stream=stream)
    assert seen == ["ChatRequest", "ChatResponse"]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_is_seen_as_a_copy(stream: bool) -> None:
    """What a watcher does to the error does not reach the caller."""
    seen: list[LamellaError] = []

    def spoil(error: Any) -> None:
        seen.append(error)
        error.retryable = True

    layer = Watch(on_error=spoil)
    with pytest.raises(InvalidRequestError) as caught:
        await read(
            pipeline(layer, Scripted([InvalidRequestError("no", status=400)])), stream=stream
        )
    assert len(seen) == 1
    assert seen[0] is not caught.value
    assert not caught.value.retryable


async def test_a_stream_that_breaks_off_is_an_error() -> None:
    """It is told after the commitment as well, once."""
    seen: list[str] = []
    layer = Watch(
        on_error=lambda error: seen.append(type(error).__name__),
        on_response=lambda _: seen.append("complete"),
    )
    with pytest.raises(StreamTruncated):
        await read(pipeline(layer, Scripted([["one", "two"]])), stream=True)
    assert seen == ["StreamTruncated"]


async def test_leaving_and_cancelling_are_no_errors() -> None:
    """Whoever stops has not failed."""
    seen: list[Any] = []
    layer = Watch(on_error=seen.append, on_response=seen.append)
    pipe = pipeline(layer, Scripted([["one", math.inf], ["one", math.inf]]))
    async with pipe.stream(ASK) as response:
        async for _ in response:
            break
    with anyio.move_on_after(1):
        await pipe.run(ASK)
    assert seen == []


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failing_watcher_is_noted_and_disturbs_nothing(stream: bool) -> None:
    """The answer is the same, and the trace says which watcher failed with what."""

    def fail(what: Any) -> None:
        raise ZeroDivisionError

    layer = Watch(on_request=fail, on_event=fail, on_response=fail, on_error=fail)
    response = await read(pipeline(layer, Scripted(["so be it"])), stream=stream)
    assert response.text == "so be it"
    notes = [note for note in response.trace.notes if note.name == "watch.failed"]
    assert [note.fields["hook"] for note in notes] == ["on_request", "on_event", "on_response"]
    assert {note.fields["error"] for note in notes} == {"ZeroDivisionError"}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_watcher_that_hangs_is_left_behind(stream: bool) -> None:
    """It has half a second; then the request goes on."""

    async def hang(what: Any) -> None:
        await anyio.sleep(math.inf)

    pipe = pipeline(Watch(on_request=hang, on_response=hang), Scripted(["ok"]))
    began = pipe.ports.monotonic()
    response = await read(pipe, stream=stream)
    assert pipe.ports.monotonic() - began == pytest.approx(1.0)
    assert [note.fields["hook"] for note in response.trace.notes] == ["on_request", "on_response"]


async def test_a_deadline_is_not_put_off_by_a_watcher() -> None:
    """P7: who looks at the request is left behind at the deadline."""

    async def hang(what: Any) -> None:
        await anyio.sleep(math.inf)

    ports = virtual_ports()
    pipe = Pipeline([Deadline(0.1), Watch(on_request=hang)], Scripted(["ok"]), ports=ports)
    with pytest.raises(DeadlineExceeded):
        await pipe.run(ASK)
    assert ports.monotonic() == pytest.approx(0.1)


def test_an_async_event_watcher_is_refused() -> None:
    """Events pass synchronously; the message says why and what to do."""

    async def look(event: Any) -> None: ...

    with pytest.raises(ConfigurationError, match=r"on_event.*synchronously.*queue"):
        Watch(on_event=look)
    with pytest.raises(ConfigurationError, match=r"Watch\(on_request=3\)"):
        Watch(on_request=cast("Any", 3))


def test_watching_nothing_is_a_mistake() -> None:
    """The message names the hooks."""
    with pytest.raises(ConfigurationError, match="on_request="):
        Watch()


async def test_a_disguised_async_event_watcher_is_noted() -> None:
    """A plain function that returns a coroutine is caught at the first event, without a warning."""

    async def look(event: Any) -> None: ...

    def call(function: Any, event: Any) -> Any:
        return function(event)

    response = await read(
        pipeline(Watch(on_event=partial(call, look)), Scripted(["a b"])), stream=True
    )
    (note,) = response.trace.notes
    assert "coroutine" in note.fields["error"]


async def test_it_may_stand_in_another_phase() -> None:
    """In the wire phase it sees what goes to the provider, and counts as part of the attempt."""
    seen: list[str] = []
    layer = Watch(on_request=lambda request: seen.append(request.context.branch), phase="wire")
    pipe = pipeline(layer, Scripted(["ok"]))
    assert pipe.infos[0].phase == "wire"
    await pipe.run(ASK)
    assert seen == [""]
