"""What tests of the chat API's streams share: chunks as servers send them, and reading them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lamella import (
    ChatRequest,
    ChatResponse,
    Event,
    Usage,
    UsageReport,
)
from lamella.transports._openai_chat import OpenAIChat
from lamella.transports._openai_chat_answer import ChatDecoder

CHAT = OpenAIChat()
USAGE: dict[str, Any] = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
REPORT = UsageReport(Usage(uncached_input=9, text_output=3))
STOP: dict[str, Any] = {"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
ENDED: dict[str, Any] = {**STOP, "usage": USAGE}
TOTALS: dict[str, Any] = {"choices": [], "usage": USAGE}
DONE = b"[DONE]"


def text(words: str | None, index: int = 0, **choice: Any) -> dict[str, Any]:
    """A chunk with a piece of text."""
    return {"id": "c1", "choices": [{"index": index, "delta": {"content": words}, **choice}]}


def calls(*pieces: Mapping[str, Any]) -> dict[str, Any]:
    """A chunk with pieces of tool calls."""
    return {"id": "c1", "choices": [{"index": 0, "delta": {"tool_calls": list(pieces)}}]}


def piece(arguments: Any = None, name: str | None = None, **fields: Any) -> dict[str, Any]:
    """A piece of a tool call."""
    function = {"name": name, "arguments": arguments}
    return {**fields, "function": {k: v for k, v in function.items() if v is not None}}


def read(*chunks: Mapping[str, Any] | bytes, **fields: Any) -> tuple[ChatDecoder, list[Event]]:
    """The decoder after a stream of chunks, and the events before its end."""
    decoder = CHAT.decoder(ChatRequest.of("Hi", **fields))
    events: list[Event] = []
    for data in chunks:
        raw = data if isinstance(data, bytes) else msgspec.json.encode(data)
        events += decoder.feed(None, raw)
    return decoder, events


def stream(*chunks: Mapping[str, Any] | bytes, **fields: Any) -> list[Event]:
    """All events of a stream of chunks."""
    decoder, events = read(*chunks, **fields)
    return [*events, *decoder.finish()]


def assembled(*chunks: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Id, name and arguments of the calls that a stream amounts to."""
    found = ChatResponse(tuple(stream(*chunks, STOP, DONE))).message.tool_calls
    return [(call.id, call.name, call.arguments) for call in found]
