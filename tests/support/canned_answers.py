"""Answers of providers as bytes, given to the real transports by a client without a network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lamella import Pipeline
from lamella.transports import AzureOpenAI, AzureOptions, OpenAI, OpenAIOptions
from lamella.transports._http import HTTPReply, HTTPRequest
from lamella_anthropic import Anthropic, AnthropicOptions
from lamella_bedrock import Bedrock, BedrockOptions
from lamella_google import Gemini, GeminiOptions
from lamella_middlewares import Cost

JSON = "application/json"
SSE = "text/event-stream"
FRAMES = "application/vnd.amazon.eventstream"


class _Reply:
    """One answer; its body comes in the pieces that it was given in."""

    def __init__(self, headers: Mapping[str, str], pieces: Sequence[bytes]) -> None:
        self.status = 200
        self.headers = headers
        self._pieces = list(pieces)

    async def __anext__(self) -> bytes:
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop(0)

    async def aclose(self) -> None:
        self._pieces = []


class CannedClient:
    """The HTTP port, with one answer for every request."""

    def __init__(self, kind: str, pieces: Sequence[bytes], headers: Mapping[str, str]) -> None:
        self._headers = {"content-type": kind, **headers}
        self._pieces = pieces

    async def send(self, request: HTTPRequest) -> HTTPReply:
        """The answer."""
        if request.on_sent is not None:
            request.on_sent()
        return _Reply(self._headers, self._pieces)

    async def aclose(self) -> None:
        """Nothing is open."""


def billed(provider: str, client: CannedClient, **options: Any) -> Pipeline:
    """A pipeline with `Cost` and the provider's own transport."""
    made: dict[str, Any] = {"client": client}
    transport: Any
    match provider:
        case "azure":
            transport = AzureOpenAI(
                "unused",
                endpoint="https://x.openai.azure.com",
                options=AzureOptions(**made, card_provider="openai"),
            )
        case "anthropic":
            transport = Anthropic("unused", options=AnthropicOptions(**made))
        case "google":
            transport = Gemini("unused", options=GeminiOptions(**made))
        case "bedrock":
            keys: dict[str, Any] = {"access_key": "AKIDUNUSED", "secret_key": "unused"}
            transport = Bedrock(region="us-east-1", options=BedrockOptions(**made, **keys))
        case "responses":
            transport = OpenAI("unused", api="responses", options=OpenAIOptions(**made))
        case "openai":
            transport = OpenAI("unused", options=OpenAIOptions(**made))
        case _:
            transport = OpenAI("unused", endpoint=provider, options=OpenAIOptions(**made))
    return Pipeline([Cost(**options)], transport)


def whole(body: Mapping[str, Any], **headers: str) -> CannedClient:
    """A complete answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return CannedClient(JSON, [json.dumps(body).encode()], named)


def events(*messages: Mapping[str, Any], done: bool = False, **headers: str) -> CannedClient:
    """A stream of server-sent events; with `done`, with OpenAI's last word."""
    pieces = [
        (f"event: {each['type']}\n".encode() if "type" in each else b"")
        + b"data: "
        + json.dumps(each).encode()
        + b"\n\n"
        for each in messages
    ]
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return CannedClient(SSE, [*pieces, *([b"data: [DONE]\n\n"] if done else [])], named)
