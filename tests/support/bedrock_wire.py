"""What tests of the Bedrock transport share: answers as bytes, a server and a pipeline to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from struct import pack
from typing import Any
from zlib import crc32

import pytest

import lamella
from lamella import ChatRequest, ChatResponse, Pipeline
from lamella.testing._faults import Faults
from lamella.testing._http_framing import Reply
from lamella.testing._http_server import HTTPServer
from lamella.testing._http_wire import Received
from lamella_bedrock import Bedrock, BedrockOptions

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
ACCESS, SECRET, TOKEN = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", "a-session-token"
KEYS: dict[str, Any] = {"access_key": ACCESS, "secret_key": SECRET}
KNOWN = ("x-amzn-RequestId", "req-1")
STREAM_HEAD = [("Content-Type", "application/vnd.amazon.eventstream"), KNOWN]
WHOLE_HEAD = [("Content-Type", "application/json"), KNOWN]
TEXT = "Héllo wörld 😀"
USAGE = {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}
COMPLETE: dict[str, Any] = {
    "output": {"message": {"role": "assistant", "content": [{"text": TEXT}]}},
    "stopReason": "end_turn",
    "usage": USAGE,
    "metrics": {"latencyMs": 20},
}


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """One frame of an event stream."""
    head = b"".join(
        [
            bytes([len(name)]) + name.encode() + b"\x07" + pack(">H", len(value)) + value.encode()
            for name, value in headers.items()
        ]
    )
    prelude = pack(">II", 16 + len(head) + len(payload), len(head))
    body = prelude + pack(">I", crc32(prelude)) + head + payload
    return body + pack(">I", crc32(body))


def event(kind: str, data: object) -> bytes:
    """A frame with an event."""
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, json.dumps(data, ensure_ascii=False).encode())


def exception(kind: str, message: str = "sorry") -> bytes:
    """A frame with an exception."""
    headers = {
        ":exception-type": kind,
        ":content-type": "application/json",
        ":message-type": "exception",
    }
    return frame(headers, json.dumps({"message": message}).encode())


def delta(data: dict[str, Any], index: int = 0) -> bytes:
    """A frame with a piece of a block."""
    return event("contentBlockDelta", {"contentBlockIndex": index, "delta": data, "p": "abc"})


def begin(data: dict[str, Any], index: int = 0) -> bytes:
    """A frame with the beginning of a block."""
    return event("contentBlockStart", {"contentBlockIndex": index, "start": data, "p": "ab"})


def end(index: int = 0) -> bytes:
    """A frame with the end of a block."""
    return event("contentBlockStop", {"contentBlockIndex": index, "p": "abcdef"})


def stopped(reason: str = "end_turn", **more: Any) -> bytes:
    """A frame with the end of the message."""
    return event("messageStop", {"stopReason": reason, "p": "a", **more})


def metadata(usage: object = USAGE, **more: Any) -> bytes:
    """A frame with what the answer consumed."""
    return event("metadata", {"usage": usage, "metrics": {"latencyMs": 20}, "p": "ab", **more})


START = event("messageStart", {"role": "assistant", "p": "abcd"})
HELLO, WORLD = delta({"text": "Héllo "}), delta({"text": "wörld 😀"})
STREAM = (START, HELLO, WORLD, end(), stopped(), metadata())


def stream(frames: Sequence[bytes] = STREAM, faults: Faults | None = None) -> Reply:
    """A streamed answer."""
    return Reply(200, STREAM_HEAD, body=list(frames), faults=faults)


def complete(body: object = COMPLETE, status: int = 200, **headers: str) -> Reply:
    """A complete answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    more = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Reply(status, [*WHOLE_HEAD, *more], body=data)


@asynccontextmanager
async def serving(
    *replies: Reply, model: str | None = CLAUDE, **options: Any
) -> AsyncIterator[tuple[HTTPServer, Pipeline]]:
    """A server that gives these replies in turn, the last for ever, and a pipeline to it."""
    left = list(replies)

    async def handler(request: Received) -> Reply:
        return left.pop(0) if len(left) > 1 else left[0]

    made = BedrockOptions(**({**KEYS, **options}))
    async with HTTPServer(handler) as server:
        transport = Bedrock(region="eu-west-1", model=model, endpoint_url=server.url, options=made)
        async with Pipeline([], transport) as pipeline:
            yield server, pipeline


def request(**fields: Any) -> ChatRequest:
    """A small request."""
    return ChatRequest.of("hi", **fields)


async def streamed(pipeline: Pipeline, asked: ChatRequest | None = None) -> ChatResponse:
    """The answer, read to its end as a stream."""
    async with pipeline.stream(asked or request()) as response:
        await response.collect()
    return response


async def failed(pipeline: Pipeline, asked: Any = None) -> lamella.LamellaError:
    """The error with which a run ends."""
    with pytest.raises(lamella.LamellaError) as caught:
        await pipeline.run(asked or request())
    return caught.value


async def broken(pipeline: Pipeline, asked: ChatRequest | None = None) -> lamella.LamellaError:
    """The error with which a stream ends, before or after its first event."""
    with pytest.raises(lamella.LamellaError) as caught:
        await streamed(pipeline, asked)
    return caught.value
