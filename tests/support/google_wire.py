"""What tests of Google's transports share: answers as bytes, a server and pipelines to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

import lamella
from lamella import ChatRequest, ChatResponse, Event, Pipeline
from lamella._trace import Trace
from lamella.testing import HTTPServer, Reply
from lamella.testing._faults import Faults
from lamella.testing._http_wire import Received
from lamella.transports import DialectOptions
from lamella_google import Gemini, GeminiOptions
from lamella_google._chat import GeminiChat

KEY = "test-key-0123456789"
SSE = [("Content-Type", "text/event-stream"), ("X-Request-Id", "req_1")]
JSON = [("Content-Type", "application/json; charset=UTF-8"), ("X-Request-Id", "req_1")]
USAGE = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}
CHAT = GeminiChat()
OPTIONS = DialectOptions()
TEXT = "Héllo wörld 😀"


def chunk(
    *parts: Mapping[str, Any], finish: str | None = None, usage: Any = USAGE, **more: Any
) -> dict[str, Any]:
    """A piece of an answer with one candidate, or all of it."""
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {
        "candidates": [{**candidate, **more}],
        "usageMetadata": usage,
        "modelVersion": "gemini-x",
        "responseId": "r1",
    }


COMPLETE = chunk({"text": TEXT}, finish="STOP")
STREAM = (
    chunk({"text": "Héllo "}, usage={"promptTokenCount": 3, "totalTokenCount": 3}),
    chunk({"text": "wörld "}),
    chunk({"text": "😀"}),
    chunk({"text": ""}, finish="STOP"),
)


def event(data: object) -> bytes:
    """One message of a stream."""
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\r\n\r\n"


def stream(chunks: Sequence[object] = STREAM, faults: Faults | None = None, **more: Any) -> Reply:
    """A streamed answer."""
    return Reply(200, SSE, body=[event(each) for each in chunks], faults=faults, **more)


def complete(body: object = COMPLETE, status: int = 200, faults: Faults | None = None) -> Reply:
    """A complete answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, JSON, body=data, faults=faults)


def traced(request: Any) -> tuple[Any, Trace]:
    """A request with a trace, in which a dialect can note what it leaves out."""
    trace = Trace("call", monotonic=lambda: 0.0, wall=0.0)
    return request.evolve(context=request.context.evolve(trace=trace)), trace


def encode(
    content: Any, options: DialectOptions = OPTIONS, dialect: GeminiChat = CHAT, **fields: Any
) -> dict[str, Any]:
    """The body of a request, checked to be JSON."""
    body = dialect.encode(ChatRequest.of(content, **fields), stream=False, options=options)
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(body))
    return found


def decode(answer: Any, request: ChatRequest | None = None) -> list[Event]:
    """The events of a complete answer."""
    return list(CHAT.decode(msgspec.json.encode(answer), request)[0])


def read(*chunks: Mapping[str, Any], **fields: Any) -> list[Event]:
    """The events of a stream of chunks, its end included."""
    decoder = CHAT.decoder(ChatRequest.of("Hi", **fields))
    events: list[Event] = []
    for data in chunks:
        events += decoder.feed(None, msgspec.json.encode(data))
    return [*events, *decoder.finish()]


def folded(events: Sequence[Event]) -> ChatResponse:
    """A complete response of these events."""
    return ChatResponse(tuple(events))


@asynccontextmanager
async def serving(
    *replies: Reply, model: str | None = "m", **options: Any
) -> AsyncIterator[tuple[HTTPServer, Pipeline]]:
    """A server that gives these replies in turn, the last for ever, and a pipeline to it."""
    left = list(replies)

    async def handler(_: Received) -> Reply:
        return left.pop(0) if len(left) > 1 else left[0]

    async with HTTPServer(handler) as server:
        transport = Gemini(KEY, base_url=server.url, model=model, options=GeminiOptions(**options))
        async with Pipeline([], transport) as pipeline:
            yield server, pipeline


async def streamed(pipeline: Pipeline, asked: Any = "hi") -> ChatResponse:
    """The answer, read to its end as a stream."""
    async with pipeline.stream(ChatRequest.of(asked)) as response:
        await response.collect()
    return response


async def broken(pipeline: Pipeline) -> lamella.LamellaError:
    """The error with which a stream ends, before or after its first event."""
    with pytest.raises(lamella.LamellaError) as caught:
        await streamed(pipeline)
    return caught.value
