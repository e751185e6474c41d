"""Similar questions through servers that are shared: answers in a Valkey, vectors in its search."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from redis_peers import PATIENCE, Valkey, impatient
from search_peers import SearchServer

from lamella import ChatRequest, Context, Packing, Pipeline, Secret
from lamella.testing import Scripted
from lamella_middlewares import SemanticCache
from lamella_redis import redis_blobs, redis_vectors

pytestmark = pytest.mark.anyio

_numbers = itertools.count()
SIGNED = Packing(key=Secret.of_value("a key that is long enough"))
TEXT = "What is the capital of France?"


def chat(text: str = TEXT, tenant: str = "acme") -> ChatRequest:
    """A request that may be answered from a cache."""
    return ChatRequest.of(text, model="m", temperature=0, context=Context(tenant=tenant))


@pytest.fixture
async def server(valkey: Valkey) -> AsyncIterator[SearchServer]:
    """A server with a search."""
    async with SearchServer(valkey.port) as peer:
        yield peer


def stack(port: int, answer: str, namespace: str, **options: Any) -> Any:
    """A pipeline whose answers and vectors are on the server, the layer, and the transport."""
    url = f"redis://127.0.0.1:{port}"
    given: dict[str, Any] = {"namespace": namespace, "timeout": PATIENCE} | options
    layer = SemanticCache(
        Pipeline([], "mock"),
        store=redis_blobs(url, **given),
        index=redis_vectors(url, **given),
        packing=SIGNED,
    )
    transport = Scripted([answer], repeat=True)
    return Pipeline([layer], transport), layer, transport


async def test_processes_share_similar_answers(server: SearchServer) -> None:
    """What one was answered the other finds; tenants are apart; what is cleared is gone for all."""
    namespace = f"similar{next(_numbers)}"
    one, _, first = stack(server.port, "Paris", namespace)
    other, layer, second = stack(server.port, "else", namespace)
    assert (await one.run(chat())).text == "Paris"
    hit = await other.run(chat())
    assert (hit.text, hit.head.cached) == ("Paris", True)
    assert (await other.run(chat(tenant="else"))).text == "else"
    assert (len(first.requests), len(second.requests)) == (1, 1)
    assert await layer.clear(other) == 2
    assert not (await one.run(chat())).head.cached
    await layer.clear(other)
    await one.aclose()
    await other.aclose()


async def test_a_frozen_server_costs_little(own_valkey: Valkey) -> None:
    """Calls are answered by the model, and after a few of them none waits for the server."""
    async with SearchServer(own_valkey.port) as server:
        pipeline, layer, transport = stack(server.port, "Paris", "frozen", rest=0.3)
        await until_kept(pipeline)
        sent = len(transport.requests)
        own_valkey.freeze()
        try:
            began = time.monotonic()
            with impatient(layer.store), impatient(layer.index):
                for _ in range(200):
                    assert (await pipeline.run(chat())).text == "Paris"
            assert time.monotonic() - began < 10.0  # if each waited, it would be 20 at least
            assert len(transport.requests) - sent == 200
        finally:
            own_valkey.thaw()
        await until_kept(pipeline)
        await pipeline.aclose()


async def until_kept(pipeline: Pipeline) -> None:
    """Ask until the answer comes from the server."""
    with anyio.fail_after(PATIENCE):
        while not (await pipeline.run(chat())).head.cached:  # noqa: ASYNC110 - it tells nobody
            await anyio.sleep(0.05)
