"""What a provider gets has been looked at: no dialect writes a text that the walk has not seen.

A marker is planted in every place of a request that can hold one, one place at a time. The walk
takes it out wherever it finds it; then no dialect may write it, in whatever spelling.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from lamella import (
    Audio,
    ChatRequest,
    File,
    Image,
    Message,
    Opaque,
    Reasoning,
    Refusal,
    Surface,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    UnsupportedError,
    map_texts,
)
from lamella._trace import Trace
from lamella.transports import Dialect, DialectOptions
from lamella.transports._losses import ORIGIN
from lamella.transports._openai_chat import OpenAIChat
from lamella.transports._openai_responses import OpenAIResponses
from lamella_anthropic._messages import AnthropicMessages
from lamella_bedrock._converse import Converse
from lamella_google._chat import GeminiChat
from lamella_ollama._chat import OllamaChat

MARK = "canary-7f3a"

DIALECTS: dict[str, Dialect] = {
    "openai": OpenAIChat(),
    "openai-responses": OpenAIResponses(),
    "anthropic": AnthropicMessages("anthropic"),
    "google": GeminiChat("google"),
    "ollama-native": OllamaChat(),
    "bedrock": Converse("bedrock"),
}

CALL = ToolCall("call_1", "mail", "{}")


def after(*parts: Any) -> ChatRequest:
    """A conversation in which the model has said these, and has been answered."""
    return ChatRequest.of([Message.user("x"), Message.assistant(parts), Message.user("y")])


def answered(result: ToolResult) -> ChatRequest:
    """A conversation in which a tool has answered."""
    return ChatRequest.of([Message.user("x"), Message.assistant(CALL), Message("tool", result)])


PLACES: dict[str, Callable[[str], ChatRequest]] = {
    "system": lambda _: ChatRequest.of([Message.system(MARK), Message.user("x")]),
    "developer": lambda _: ChatRequest.of([Message("developer", MARK), Message.user("x")]),
    "user": lambda _: ChatRequest.of(f"I am {MARK}"),
    "name": lambda _: ChatRequest.of([Message("user", "x", name=MARK)]),
    "message extra": lambda _: ChatRequest.of([Message("user", "x", extra={"m": MARK})]),
    "text extra": lambda _: ChatRequest.of([Message.user(Text("x", {"cite": MARK}))]),
    "image address": lambda _: ChatRequest.of(
        [Message.user(Image(url=f"https://example.org/{MARK}.png", media_type="image/png"))]
    ),
    "file name": lambda _: ChatRequest.of(
        [Message.user(File(data=b"%PDF-1", media_type="application/pdf", filename=f"{MARK}.pdf"))]
    ),
    "text file": lambda _: ChatRequest.of(
        [Message.user(File(data=MARK.encode(), media_type="text/plain", filename="a.txt"))]
    ),
    "text file address": lambda _: ChatRequest.of(
        [
            Message.user(
                File(
                    url="data:text/plain;base64," + base64.b64encode(MARK.encode()).decode(),
                    media_type="text/plain",
                    filename="a.txt",
                )
            )
        ]
    ),
    "transcript": lambda _: after(Audio(id="a", transcript=MARK)),
    "assistant": lambda _: after(Text(MARK)),
    "reasoning": lambda origin: after(
        Reasoning(MARK, "c2VhbA==", "rs_1", extra={ORIGIN: origin}), Text("t")
    ),
    "refusal": lambda _: after(Refusal(MARK)),
    "arguments": lambda _: ChatRequest.of(
        [
            Message.user("x"),
            Message.assistant(ToolCall("call_1", "mail", json.dumps({"to": [MARK], MARK: 1}))),
            Message.tool("call_1", "done"),
        ]
    ),
    "broken arguments": lambda _: ChatRequest.of(
        [
            Message.user("x"),
            Message.assistant(ToolCall("call_1", "mail", f'{{"to": "{MARK}')),
            Message.tool("call_1", "done"),
        ]
    ),
    "provider's part": lambda origin: after(
        Opaque({"type": "thing", "words": [MARK]}, origin), Text("t")
    ),
    "tool result": lambda _: answered(ToolResult("call_1", (Text(MARK),))),
    "failed tool result": lambda _: answered(ToolResult("call_1", (Text(MARK),), error=True)),
    "tool description": lambda _: ChatRequest.of("x", tools=[Tool("mail", MARK)]),
    "tool schema": lambda _: ChatRequest.of(
        "x",
        tools=[
            Tool(
                "mail",
                "Sends",
                {"type": "object", "properties": {"to": {"type": "string", "enum": [MARK]}}},
            )
        ],
    ),
    "tool extra": lambda _: ChatRequest.of("x", tools=[Tool("mail", "m", extra={"x": MARK})]),
    "hosted tool": lambda _: ChatRequest.of("x", tools=[Opaque({"type": "h", "o": MARK})]),
    "response format": lambda _: ChatRequest.of(
        "x",
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "a", "schema": {"type": "object", "description": MARK}},
        },
    ),
    "stop": lambda _: ChatRequest.of("x", stop=[MARK]),
    "extra": lambda _: ChatRequest.of("x", extra={"metadata": {"owner": MARK}}),
    "extra name": lambda _: ChatRequest.of("x", extra={"metadata": {MARK: "owner"}}),
}

BASE64 = re.compile(r"[A-Za-z0-9+/]{12,}={0,2}")


def written(dialect: Dialect, request: ChatRequest) -> str:
    """All that the provider can read: the body, and what its base64 holds."""
    trace = Trace("call", monotonic=lambda: 0.0, wall=0.0)
    begun = request.evolve(model="m", context=request.context.evolve(trace=trace))
    body = msgspec.json.encode(dialect.encode(begun, stream=False, options=DialectOptions()))
    text = json.dumps(json.loads(body), ensure_ascii=False)
    return text + "".join(_decoded(text))


def _decoded(text: str) -> Iterator[str]:
    for found in BASE64.finditer(text):
        padded = found[0].rstrip("=")
        padded += "=" * (-len(padded) % 4)
        try:
            yield base64.b64decode(padded).decode("utf-8", "replace")
        except ValueError:
            continue


def clean(text: str, _: Surface) -> str:
    """Take the marker out."""
    return text.replace(MARK, "gone")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", DIALECTS)
def test_no_dialect_writes_what_the_walk_has_not_seen(name: str, place: str) -> None:
    """Scanned is at least what is forwarded, field by field and API by API."""
    dialect, request = DIALECTS[name], PLACES[place](name)
    try:
        assert MARK not in written(dialect, map_texts(request, clean))
    except UnsupportedError:
        return


@pytest.mark.parametrize("place", PLACES)
def test_every_place_reaches_some_provider(place: str) -> None:
    """A place that nobody forwards would prove nothing."""
    found: list[str] = []
    for name, dialect in DIALECTS.items():
        try:
            if MARK in written(dialect, PLACES[place](name)):
                found.append(name)
        except UnsupportedError:
            continue
    assert found
