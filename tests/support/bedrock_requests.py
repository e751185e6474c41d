"""Requests as the Bedrock transport writes them, for tests."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec

from lamella import ChatRequest, Message, Tool, ToolCall
from lamella._cards import ModelCard
from lamella._trace import Trace
from lamella.transports import DialectOptions
from lamella_bedrock._converse import Converse

CLAUDE = "anthropic.claude-opus-5"
LLAMA = "us.meta.llama4-maverick-17b-instruct-v1:0"
TOOL = Tool("add", "Adds", {"type": "object", "properties": {"a": {"type": "integer"}}})
MARK = {"cache_control": {"type": "ephemeral"}}
LOOK = ToolCall("c1", "add", '{"a": 1}')


def written(
    messages: Any = "hi", /, options: DialectOptions | None = None, **fields: Any
) -> tuple[dict[str, Any], Counter[str]]:
    """The body of a request, as it is sent, and what is declared to be left out."""
    given: Any = messages
    if not isinstance(given, ChatRequest):
        given = ChatRequest.of(given, **{"model": CLAUDE, **fields})
    request: ChatRequest = given
    trace = Trace("call", monotonic=lambda: 0.0, wall=0.0)
    begun = request.evolve(context=request.context.evolve(trace=trace))
    body = Converse().encode(begun, stream=False, options=options or DialectOptions())
    lost = Counter({str(note.fields["what"]): int(note.fields["count"]) for note in trace.notes})
    return json.loads(msgspec.json.encode(body)), lost


def card(*capabilities: str) -> DialectOptions:
    """Options with a card of these capabilities."""
    return DialectOptions(card=ModelCard("m", "bedrock", capabilities=frozenset(capabilities)))


def content(part: Any, **fields: Any) -> Any:
    """The blocks that a part of a user's message becomes."""
    return written([Message.user(part)], **fields)[0]["messages"][0]["content"]
