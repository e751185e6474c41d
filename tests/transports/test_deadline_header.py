"""The header that tells a gateway how much time is left."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from openai_wire import complete, serving

import lamella
from lamella import ChatRequest, ChatResponse, ConfigurationError, Context, Limits, Pipeline
from lamella.testing import Scripted, run_virtual, virtual_ports
from lamella.testing._http_framing import Reply
from lamella.testing._http_server import HTTPServer
from lamella.testing._http_wire import Received
from lamella.transports import AzureOpenAI, AzureOptions, OpenAIOptions
from lamella.transports._place import milliseconds_left
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.timeout import Timeout

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hi", model="m")
HEADER = "x-deadline-ms"


@pytest.mark.parametrize("stream", [False, True])
async def test_it_says_what_is_left(stream: bool) -> None:
    """Whole milliseconds of the call's deadline, or of the attempt's limit if that is less."""
    async with serving(complete(), deadline_header="X-Deadline-Ms") as (server, plain):
        stacks: list[list[Any]] = [[Deadline(60)], [Deadline(60), Timeout(attempt=5)]]
        for layers in stacks:
            pipeline = Pipeline(layers, plain.transport)
            if stream:
                async with pipeline.stream(ASK) as response:
                    await response.collect()
            else:
                await pipeline.run(ASK)
        whole, bounded = (int(seen.headers[HEADER]) for seen in server.received)
        assert 50_000 < whole <= 60_000
        assert 1_000 < bounded <= 5_000


async def test_however_much_is_left_it_is_a_number() -> None:
    """Of no more than sixteen digits: some gateways refuse others."""
    left: list[int] = []

    async def transport(request: Any) -> ChatResponse:
        left.append(milliseconds_left(request.context))
        return ChatResponse.of("x")

    for seconds in (1e9, 1e300, 1e308):
        await Pipeline([Deadline(seconds)], transport).run(ASK)
    assert all(1e9 < found < 1e16 for found in left)
    assert len(left) == 3


async def test_without_a_deadline_it_is_not_sent() -> None:
    """Nor is it unless it was asked for."""
    async with serving(complete(), deadline_header="X-Deadline-Ms") as (server, plain):
        await Pipeline([Timeout(attempt=5)], plain.transport).run(ASK)
        assert HEADER not in server.received[0].headers
    async with serving(complete()) as (server, plain):
        await Pipeline([Deadline(60)], plain.transport).run(ASK)
        assert HEADER not in server.received[0].headers


async def test_azure_sends_it_to_each_resource() -> None:
    """A backup that is tried later is told that less is left."""

    async def handler(request: Received) -> Reply:
        await anyio.sleep(0.05)
        return complete({"error": {}}, status=503) if "one" in request.target else complete()

    async with HTTPServer(handler) as server:
        transport = AzureOpenAI(
            "key",
            endpoint=server.url,
            deployment="one",
            backups=[{"endpoint": server.url, "deployment": "two"}],
            options=AzureOptions(deadline_header="X-Left", api_version="2024-10-21"),
        )
        async with Pipeline([Deadline(60)], transport) as pipeline:
            await pipeline.run(ASK)
        first, second = (int(seen.headers["x-left"]) for seen in server.received)
        assert 50_000 < second <= first - 50 < 60_000


def test_with_nothing_left_nothing_is_sent() -> None:
    """Less than a millisecond is refused before the network, never sent as 0."""
    found: list[Any] = []

    async def look(request: Any, call_next: Any) -> Any:
        context: Context = request.context
        attempt = context.trace.open_attempt("", "somewhere", "m")
        context = context.evolve(attempt=attempt, limits=Limits(attempt=2))
        now = context.clock.now()
        for left in (1.9995, 3.0, 0.001, 0.0009, 0.0, -1.0):
            try:
                found.append(milliseconds_left(context.evolve(deadline=now + left)))
            except lamella.DeadlineExceeded as error:
                found.append(error.outcome)
        await anyio.sleep(1.9995)
        with pytest.raises(lamella.AttemptTimeout, match="2 s"):
            milliseconds_left(context.evolve(deadline=now + 9))
        return await call_next(request)

    not_sent = lamella.Outcome.NOT_SENT
    for backend in ("asyncio", "trio"):
        found.clear()
        pipeline = Pipeline([look], Scripted(["x"]), ports=virtual_ports())
        run_virtual(pipeline.run, ASK, backend=backend)
        assert found == [1999, 2000, 1, not_sent, not_sent, not_sent]


@pytest.mark.parametrize(
    "name", ["", "X Deadline", "X-Dédline", 7, "Authorization", "content-LENGTH", "x-team"]
)
@pytest.mark.parametrize("options", [OpenAIOptions, AzureOptions])
def test_names_that_it_cannot_have(options: Any, name: Any) -> None:
    """What is no header, or another one's name, is refused where it is given."""
    with pytest.raises(ConfigurationError, match="X-Deadline-Ms"):
        options(deadline_header=name, headers={"X-Team": "blue"})
