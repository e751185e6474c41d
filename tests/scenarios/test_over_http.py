"""One program, the mock over real HTTP, and a bad day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lamella import ChatRequest, Pipeline, StreamTruncated, TextDelta
from lamella.testing import MockServer, virtual_ports
from lamella.transports import OpenAI, OpenAIOptions
from lamella_middlewares import Cost, Deadline, Log, Retry, Timeout

if TYPE_CHECKING:
    from lamella import Layer

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(lamella_virtual_backend: Any) -> Any:
    """Waits of seconds take none."""
    return lamella_virtual_backend


SKY = ChatRequest.of("Why is the sky blue?", model="mock")


def stack(records: list[dict[str, Any]], url: str) -> Pipeline:
    """All first layers around the OpenAI transport."""
    layers: list[Layer] = [
        Log(sink=records.append),
        Deadline(60),
        Retry(attempts=3),
        Timeout(connect=5, first_event=20, idle=20),
        Cost(),
    ]
    transport = OpenAI("unused", base_url=url, options=OpenAIOptions(name="mock"))
    return Pipeline(layers, transport, ports=virtual_ports())


async def read(pipeline: Pipeline, seen: list[str]) -> Any:
    """The program: read a stream and show it."""
    async with pipeline.stream(SKY) as response:
        async for event in response:
            seen += [event.text] if isinstance(event, TextDelta) else []
    return response


async def test_throttled_then_reset_then_answered() -> None:
    """A 429 is waited out, a reset before the first event is tried again, and nobody notices."""
    records: list[dict[str, Any]] = []
    faults = ["status=429; retry-after=7", "reset_at=10", None]
    async with MockServer(faults=faults) as server, stack(records, server.url) as pipeline:
        seen: list[str] = []
        response = await read(pipeline, seen)
        await server.until(lambda s: s.open_connections <= 1)

    attempts = response.trace.attempts
    assert "".join(seen) == response.text
    assert [attempt.branch for attempt in attempts] == ["", "/try2", "/try3"]
    assert [attempt.outcome for attempt in attempts] == ["failed", "unknown", "complete"]
    assert attempts[0].status == 429
    assert attempts[1].start - (attempts[0].end or 0) >= 7
    assert [record["outcome"] for record in records] == ["complete"]


async def test_cut_in_the_middle_is_never_tried_again() -> None:
    """After the first word a cut is StreamTruncated, with what had come."""
    records: list[dict[str, Any]] = []
    async with (
        MockServer(faults=["truncate=5"]) as server,
        stack(records, server.url) as pipeline,
    ):
        seen: list[str] = []
        with pytest.raises(StreamTruncated) as cut:
            await read(pipeline, seen)
        requests = len(server.requests)

    error = cut.value
    assert requests == 1
    assert (error.committed, error.retryable) == (True, False)
    assert error.partial is not None
    assert seen
    assert error.partial.text == "".join(seen)
    assert [record["outcome"] for record in records] == ["truncated"]
