"""The library's own transports, run through the kit that others' are run through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lamella import ChatRequest, EmbeddingRequest
from lamella.testing import MockBatches, MockServer, transport_checks
from lamella.transports import Mock, OpenAI, OpenAIBatch, OpenAIBatchOptions
from lamella.transports._sdk import import_sdk

if TYPE_CHECKING:
    from lamella.testing import Check

CHAT = ChatRequest.of("Why is the sky blue?", model="mock")
EMBED = EmbeddingRequest.of(["one", "two"], model="mock-embedding")

pytestmark = pytest.mark.anyio

import_sdk()  # now: the kit, which collects garbage, does not look at what it brings


def of(make: Any, request: Any) -> pytest.MarkDecorator:
    """Every rule of the kit as a parameter, by its name."""
    checks = transport_checks(make, request)
    return pytest.mark.parametrize("check", checks, ids=lambda check: check.name)


@of(Mock, CHAT)
async def test_the_embedded_provider(check: Check) -> None:
    """The embedded provider keeps the contract."""
    await check()


@of(Mock, EMBED)
async def test_the_embedded_providers_embeddings(check: Check) -> None:
    """The embedded provider keeps the contract for embeddings."""
    await check()


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_openai_over_http(api: Any) -> None:
    """The OpenAI transport keeps the contract over real sockets, in both of its APIs."""
    # A few words: it is cancelled at each step, and each word takes the same ones.
    async with MockServer(answer=lambda _: "Light of short waves scatters.") as server:
        checks = transport_checks(lambda: OpenAI("unused", base_url=server.url, api=api), CHAT)
        for check in checks:
            await check()
        await server.until(lambda s: s.open_connections == 0)

    assert len(server.requests) > len(checks)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio has more steps to be cancelled at
async def test_openai_by_batch() -> None:
    """A transport whose answers come out of batches keeps the contract, too."""
    options = OpenAIBatchOptions(gather=0.001, poll=0.001)
    async with MockServer(answer=lambda _: "Light.", batches=MockBatches(polls=0)) as server:

        def transport() -> OpenAIBatch:
            return OpenAIBatch("unused", base_url=server.url, options=options)

        for check in transport_checks(transport, CHAT):
            await check()
