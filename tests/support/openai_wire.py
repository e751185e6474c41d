"""What tests of the OpenAI transport share: answers as bytes, a server and a pipeline to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

import lamella
from lamella import ChatRequest, ChatResponse, Pipeline
from lamella._limits import Limits
from lamella.testing._faults import Faults
from lamella.testing._http_framing import Reply
from lamella.testing._http_server import HTTPServer
from lamella.testing._http_wire import Received
from lamella.transports import OpenAI, OpenAIOptions

KEY = "sk-test-0123456789"
SSE = [("Content-Type", "text/event-stream; charset=utf-8"), ("X-Request-Id", "req_1")]
JSON = [("Content-Type", "application/json"), ("X-Request-Id", "req_1")]
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def message(data: object) -> bytes:
    """One message of a stream."""
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    """One chunk of a streamed chat completion."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return message({"id": "c1", "model": "m-1", "choices": [choice], **more})


USAGE_CHUNK = message({"id": "c1", "model": "m-1", "choices": [], "usage": USAGE})
DONE = b"data: [DONE]\n\n"
STREAM = (
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Héllo "}),
    chunk({"content": "wörld 😀"}),
    chunk(finish="stop"),
    USAGE_CHUNK,
    DONE,
)
TEXT = "Héllo wörld 😀"
COMPLETE = {
    "id": "c1",
    "model": "m-1",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
    ],
    "usage": USAGE,
}


def stream(chunks: Sequence[bytes] = STREAM, faults: Faults | None = None, **more: Any) -> Reply:
    """A streamed answer."""
    return Reply(200, SSE, body=list(chunks), faults=faults, **more)


def complete(body: object = COMPLETE, faults: Faults | None = None, status: int = 200) -> Reply:
    """A complete answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, JSON, body=data, faults=faults)


@asynccontextmanager
async def serving(*replies: Reply, **options: Any) -> AsyncIterator[tuple[HTTPServer, Pipeline]]:
    """A server that gives these replies in turn, the last for ever, and a pipeline to it."""
    left = list(replies)

    async def handler(request: Received) -> Reply:
        return left.pop(0) if len(left) > 1 else left[0]

    more = {name: options.pop(name) for name in ("api", "model", "endpoint") if name in options}
    async with HTTPServer(handler) as server:
        made = OpenAIOptions(name="acme", **options)
        transport = OpenAI(KEY, base_url=f"{server.url}/v1", options=made, **more)
        async with Pipeline([], transport) as pipeline:
            yield server, pipeline


def request(**fields: Any) -> ChatRequest:
    """A small request."""
    return ChatRequest.of("hi", **{"model": "m", **fields})


def limited(**limits: Any) -> ChatRequest:
    """A small request with limits in time."""
    return request(context=lamella.Context(limits=Limits(**limits)))


async def streamed(pipeline: Pipeline, asked: ChatRequest | None = None) -> ChatResponse:
    """The answer, read to its end as a stream."""
    async with pipeline.stream(asked or request()) as response:
        await response.collect()
    return response


async def broken(pipeline: Pipeline, asked: ChatRequest | None = None) -> lamella.LamellaError:
    """The error with which a stream ends, before or after its first event."""
    with pytest.raises(lamella.LamellaError) as caught:
        await streamed(pipeline, asked)
    return caught.value


async def failed(pipeline: Pipeline, asked: ChatRequest | None = None) -> lamella.LamellaError:
    """The error with which a run ends."""
    with pytest.raises(lamella.LamellaError) as caught:
        await pipeline.run(asked or request())
    return caught.value
