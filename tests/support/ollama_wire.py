"""What tests of Ollama's transport share: answers as its official client states them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from lamella import ChatRequest, ChatResponse, Event, Pipeline, Usage
from lamella._trace import Trace
from lamella.testing import HTTPServer, Reply
from lamella.testing._faults import Faults
from lamella.testing._http_wire import Received
from lamella.transports import DialectOptions
from lamella_ollama import Ollama, OllamaOptions
from lamella_ollama._chat import OllamaChat

NAME = "ollama-native"
LINES = [("Content-Type", "application/x-ndjson")]
JSON = [("Content-Type", "application/json; charset=utf-8")]
CHAT = OllamaChat()
TEXT = "Héllo wörld 😀"
COUNTS: dict[str, Any] = {
    "total_duration": 174_560_334,
    "load_duration": 101_397_084,
    "prompt_eval_count": 11,
    "prompt_eval_duration": 13_074_791,
    "eval_count": 18,
    "eval_duration": 52_479_709,
}
USAGE = Usage(uncached_input=11, text_output=18)
WEATHER: dict[str, Any] = {
    "id": "call_8ubc0w2p",
    "function": {"index": 0, "name": "get_weather", "arguments": {"city": "Zürich"}},
}


def line(content: str = "", *, done: bool = False, **more: Any) -> dict[str, Any]:
    """A line of a stream; what is no field of the line is one of its message."""
    beside = {"logprobs", "done_reason", "created_at", "remote_model", "remote_host", *COUNTS}
    said = {name: value for name, value in more.items() if name not in beside}
    stated = {name: value for name, value in more.items() if name in beside}
    return {
        "model": "tiny",
        "created_at": "2026-11-21T10:00:00.123456789Z",
        "message": {"role": "assistant", "content": content, **said},
        "done": done,
        **stated,
    }


def last(reason: str | None = "stop", counts: Mapping[str, Any] = COUNTS, **more: Any) -> Any:
    """The last line of a stream."""
    why = {} if reason is None else {"done_reason": reason}
    return line(done=True, **why, **counts, **more)


def answer(content: str = TEXT, **more: Any) -> dict[str, Any]:
    """A complete answer."""
    return line(content, done=True, **{"done_reason": "stop", **COUNTS, **more})


STREAM = [line("Héllo "), line("wörld "), line("😀"), last()]


def written(*lines: object) -> bytes:
    """Lines as they stand in a stream."""
    return b"".join([json.dumps(each, ensure_ascii=False).encode() + b"\n" for each in lines])


def asked(content: Any = "hi", **fields: Any) -> ChatRequest:
    """A small request."""
    return ChatRequest.of(content, **{"model": "tiny", **fields})


def traced(request: Any) -> tuple[Any, Trace]:
    """A request with a trace, in which a dialect can note what it leaves out."""
    trace = Trace("call", monotonic=lambda: 0.0, wall=0.0)
    return request.evolve(context=request.context.evolve(trace=trace)), trace


def body(content: Any = "hi", dialect: OllamaChat = CHAT, **fields: Any) -> dict[str, Any]:
    """What is sent for a request, without what is always the same."""
    made = dialect.encode(asked(content, **fields), stream=False, options=DialectOptions())
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(made))
    assert (found.pop("model"), found.pop("stream")) == ("tiny", False)
    return found


def messages(content: Any, **fields: Any) -> Any:
    """The messages that are sent for a conversation."""
    return body(content, **fields)["messages"]


def losses(content: Any, **fields: Any) -> dict[str, int]:
    """What a request is said to lose."""
    request, trace = traced(asked(content, **fields))
    CHAT.encode(request, stream=False, options=DialectOptions())
    return {str(note.fields["what"]): int(note.fields["count"]) for note in trace.notes}


def read(*lines: Mapping[str, Any], **fields: Any) -> list[Event]:
    """The events of a stream, its end included."""
    decoder = CHAT.decoder(asked(**fields))
    events: list[Event] = []
    for each in lines:
        events += decoder.feed(None, json.dumps(each).encode())
    return [*events, *decoder.finish()]


def decode(given: object, **fields: Any) -> list[Event]:
    """The events of a complete answer."""
    data = given if isinstance(given, bytes) else json.dumps(given).encode()
    return list(CHAT.decode(data, asked(**fields))[0])


def folded(events: Sequence[Event]) -> Any:
    """What events amount to."""
    return ChatResponse(tuple(events)).answer


def stream(lines: Sequence[object] = STREAM, faults: Faults | None = None, **more: Any) -> Reply:
    """A streamed answer over HTTP."""
    return Reply(200, LINES, body=[written(each) for each in lines], faults=faults, **more)


def complete(given: object | None = None, status: int = 200) -> Reply:
    """A complete answer over HTTP."""
    return Reply(status, JSON, body=json.dumps(answer() if given is None else given).encode())


@asynccontextmanager
async def serving(
    *replies: Reply, model: str | None = None, **options: Any
) -> AsyncIterator[tuple[HTTPServer, Pipeline]]:
    """A server that gives these replies in turn, the last for ever, and a pipeline to it."""
    left = list(replies)

    async def handler(_: Received) -> Reply:
        return left.pop(0) if len(left) > 1 else left[0]

    async with HTTPServer(handler) as server:
        transport = Ollama(base_url=server.url, model=model, options=OllamaOptions(**options))
        async with Pipeline([], transport) as pipeline:
            yield server, pipeline


async def streamed(pipeline: Pipeline, request: ChatRequest | None = None) -> ChatResponse:
    """The answer, read to its end as a stream."""
    async with pipeline.stream(request or asked()) as response:
        await response.collect()
    return response
