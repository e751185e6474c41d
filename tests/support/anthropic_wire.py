"""What tests of the Anthropic transport share: answers as its official client states them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    Context,
    Event,
    Pipeline,
    Trace,
    UnsupportedError,
)
from lamella.testing._faults import Faults
from lamella.testing._http_framing import Reply
from lamella.testing._http_server import HTTPServer
from lamella.testing._http_wire import Received
from lamella.transports import DialectOptions
from lamella_anthropic import Anthropic, AnthropicOptions
from lamella_anthropic._answer import MessageDecoder
from lamella_anthropic._messages import AnthropicMessages

KEY = "key-0123456789"
DIALECT = AnthropicMessages()
MARK = {"provider": "anthropic"}
HI = {"role": "user", "content": "hi"}
EPHEMERAL = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
SSE = [("Content-Type", "text/event-stream; charset=utf-8"), ("request-id", "req_1")]
JSON = [("Content-Type", "application/json"), ("request-id", "req_1")]
TEXT = "Héllo wörld 😀"
USAGE: dict[str, Any] = {
    "input_tokens": 9,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 3,
    "service_tier": "standard",
}


def asked(content: Any = "hi", **fields: Any) -> ChatRequest:
    """A small request."""
    return ChatRequest.of(content, **{"model": "claude-test", **fields})


def body(content: Any = "hi", options: Mapping[str, Any] | None = None, **fields: Any) -> Any:
    """What is sent for a request, without what is always the same."""
    written = DIALECT.encode(
        asked(content, **fields), stream=False, options=DialectOptions(**(options or {}))
    )
    assert written.pop("model") == "claude-test"
    if written["max_tokens"] == 8_192:
        del written["max_tokens"]
    return written


def refused(content: Any = "hi", **fields: Any) -> UnsupportedError:
    """The error of a request that the API has no words for; it says what to do."""
    with pytest.raises(UnsupportedError) as caught:
        body(content, **fields)
    assert caught.value.hint
    return caught.value


def left_out(content: Any = "hi", options: Any = None, **fields: Any) -> tuple[Any, list[str]]:
    """What is sent for a request, and what the trace says was left out."""
    trace = Trace("call_1", monotonic=lambda: 0.0, wall=0.0)
    written = body(content, options, context=Context(call_id="call_1", trace=trace), **fields)
    return written, [note.fields["what"] for note in trace.notes if note.name == "request.left_out"]


def answer(*content: Mapping[str, Any], reason: str | None = "end_turn", **more: Any) -> bytes:
    """A complete answer."""
    return json.dumps(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-test-1",
            "content": list(content),
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": USAGE,
            **more,
        }
    ).encode()


def start(**message: Any) -> dict[str, Any]:
    """The first message of a stream."""
    known = json.loads(answer(reason=None))
    usage = {**USAGE, "output_tokens": 1}
    return {"type": "message_start", "message": {**known, "usage": usage, **message}}


def begin(index: int, **block: Any) -> dict[str, Any]:
    """The beginning of a block."""
    return {"type": "content_block_start", "index": index, "content_block": block}


def piece(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    """A piece of a block."""
    delta = {"type": kind, **fields}
    return {"type": "content_block_delta", "index": index, "delta": delta}


def end(index: int) -> dict[str, Any]:
    """The end of a block."""
    return {"type": "content_block_stop", "index": index}


def last(reason: str = "end_turn", usage: Any = None, **delta: Any) -> list[dict[str, Any]]:
    """The end of a stream."""
    stated = {"output_tokens": 3} if usage is None else usage
    change = {"stop_reason": reason, "stop_sequence": None, **delta}
    return [
        {"type": "message_delta", "delta": change, "usage": stated},
        {"type": "message_stop"},
    ]


def said(words: str, index: int = 0) -> list[dict[str, Any]]:
    """A block of text in two pieces."""
    half = len(words) // 2
    return [
        begin(index, type="text", text=""),
        piece(index, "text_delta", text=words[:half]),
        piece(index, "text_delta", text=words[half:]),
        end(index),
    ]


def framed(*messages: Mapping[str, Any]) -> list[bytes]:
    """Messages as they stand in a stream."""
    return [
        f"event: {each['type']}\ndata: {json.dumps(each, ensure_ascii=False)}\n\n".encode()
        for each in messages
    ]


STREAM = [start(), {"type": "ping"}, *said(TEXT), *last()]


def read(*messages: Mapping[str, Any]) -> tuple[MessageDecoder, list[Event]]:
    """The decoder after a stream, and the events before its end."""
    decoder = DIALECT.decoder(asked())
    events: list[Event] = []
    for each in messages:
        events += decoder.feed(str(each.get("type")), json.dumps(each).encode())
    return decoder, events


def streamed_events(*messages: Mapping[str, Any]) -> list[Event]:
    """All events of a stream."""
    decoder, events = read(*messages)
    return [*events, *decoder.finish()]


def whole_events(data: bytes) -> list[Event]:
    """All events of a complete answer."""
    return list(DIALECT.decode(data, asked())[0])


def folded(events: Sequence[Event]) -> Any:
    """What events amount to."""
    return ChatResponse(tuple(events)).answer


def stream(
    messages: Sequence[Mapping[str, Any]] = STREAM, faults: Faults | None = None, **more: Any
) -> Reply:
    """A streamed answer over HTTP."""
    return Reply(200, SSE, body=framed(*messages), faults=faults, **more)


def complete(data: bytes | None = None, status: int = 200, headers: Any = ()) -> Reply:
    """A complete answer over HTTP."""
    found = answer({"type": "text", "text": TEXT}) if data is None else data
    return Reply(status, [*JSON, *headers], body=found)


@asynccontextmanager
async def serving(*replies: Reply, **options: Any) -> AsyncIterator[tuple[HTTPServer, Pipeline]]:
    """A server that gives these replies in turn, the last for ever, and a pipeline to it."""
    left = list(replies)

    async def handler(request: Received) -> Reply:
        return left.pop(0) if len(left) > 1 else left[0]

    async with HTTPServer(handler) as server:
        transport = Anthropic(KEY, base_url=server.url, options=AnthropicOptions(**options))
        async with Pipeline([], transport) as pipeline:
            yield server, pipeline


async def streamed(pipeline: Pipeline, request: ChatRequest | None = None) -> ChatResponse:
    """The answer, read to its end as a stream."""
    async with pipeline.stream(request or asked()) as response:
        await response.collect()
    return response
