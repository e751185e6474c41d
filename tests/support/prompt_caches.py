"""Requests for prompt caches, and what of them goes over the wire."""

from __future__ import annotations

import json
from typing import Any

from lamella import ChatRequest, ChatResponse, Message, Pipeline, Tool
from lamella.testing import MockServer
from lamella.transports import DialectOptions, OpenAI, OpenAIOptions
from lamella_middlewares import Cost, PromptCache
from providers import openai

WORDS = "Some instructions that stay the same from call to call. " * 700
TOOLS = [Tool("look_up", "Looks something up.", {"type": "object", "properties": {}})]
TALK = [Message.system(WORDS), Message.user("mock: say one")]
KEYS = DialectOptions(quirks={"cache_keys": True})
MARKS = DialectOptions(quirks={"cache_marks": True})
MARK = {"type": "ephemeral"}
CLAUDE = "anthropic.claude-haiku-4-5-20251001-v1:0"
CALLERS = {"cache_control": MARK}
POINT = {"cachePoint": {"type": "default"}}


def keyed(server: MockServer, api: Any = "chat") -> OpenAI:
    """OpenAI's own API, as far as prompt caches go."""
    options = OpenAIOptions(name="openai", card_provider="openai", dialect=KEYS)
    return OpenAI("unused", base_url=server.url, api=api, options=options)


def gateway(server: MockServer) -> OpenAI:
    """A gateway that passes marks on."""
    return openai(server, name="gateway", dialect=MARKS)


def ask(model: str, messages: Any = TALK, **fields: Any) -> ChatRequest:
    """A request with tools and instructions."""
    return ChatRequest.of(messages, model=model, tools=TOOLS, **fields)


async def bodies(
    server: MockServer, transport: Any, *requests: ChatRequest, layer: Any = None
) -> tuple[list[ChatResponse], list[Any]]:
    """The answers, and what was sent."""
    before = len(server.requests)
    answers: list[ChatResponse] = []
    async with Pipeline([layer or PromptCache(), Cost(unknown="note")], transport) as pipeline:
        for request in requests:
            answers.append(await pipeline.run(request))
    return answers, [request.json for request in list(server.requests)[before:]]


def count(body: Any) -> int:
    """How many marks of any kind a body has."""
    text = json.dumps(body)
    return text.count('"cache_control"') + text.count('"cachePoint"')
