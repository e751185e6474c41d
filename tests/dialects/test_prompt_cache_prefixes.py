"""What one turn has had kept is, byte for byte, how the next one begins, in every dialect."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from prompt_caches import gateway

from lamella import (
    ChatRequest,
    File,
    Image,
    Message,
    Pipeline,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from lamella.testing import MockServer
from lamella_middlewares import PromptCache
from providers import anthropic, bedrock

pytestmark = pytest.mark.anyio

WORDS = "Some instructions that stay the same from call to call. " * 200
PICTURE = Image(data=b"\x89PNG\r\n\x1a\n" + b"0" * 50, media_type="image/png")
PAPER = File(data=b"%PDF-1.4 hello", media_type="application/pdf", filename="a.pdf")
TABLE = File(data=b"a,b", media_type="text/plain", filename="a.txt")
LATE = "By the way, be brief."

TURNS: list[list[Message]] = [
    [Message.user("mock: say one")],
    [
        Message(
            "assistant",
            [
                Reasoning("hm"),
                Text("Let me look."),
                ToolCall("c1", "look_up", '{"b": 1.0, "a": {"d": 2, "c": 3}}'),
                ToolCall("c2", "look_up", "{}"),
            ],
        ),
        Message.tool("c1", "found one"),
        Message("tool", ToolResult("c2", (Text("found"), Text("two")), error=True)),
    ],
    [Message.assistant("Well."), Message.user([Text("mock: say see"), PICTURE])],
    [Message.assistant(" "), Message.user([PAPER, "mock: say read"])],
    [Message.assistant("Yes."), Message.user(["mock: say read", TABLE])],
    [Message.assistant("Yes."), Message.user([PAPER, TABLE])],
    [Message.assistant("No."), Message.user("mock: say more"), Message.system(LATE)],
    [Message.assistant("Done."), Message.user("One"), Message.user("mock: say two")],
]


TARGETS: dict[str, tuple[Any, str]] = {
    "anthropic": (anthropic, "claude-sonnet-4-5"),
    "anthropic, late system": (anthropic, "claude-opus-4-8"),
    "bedrock": (bedrock, "anthropic.claude-sonnet-4-5-20250929-v1:0"),
    "nova": (bedrock, "amazon.nova-lite-v1:0"),
    "gateway": (gateway, "anthropic/claude"),
}


def blocks(body: Any) -> Iterator[tuple[Any, Any]]:
    """Tools, instructions and messages in the order in which a model reads them.

    One text alone is written as text or as a block, which is the same to those who read it.
    """
    for tool in body.get("tools") or body.get("toolConfig", {}).get("tools", []):
        yield "tool", tool
    system = [{"role": "system", "content": body["system"]}] if body.get("system") else []
    for message in (*system, *body["messages"]):
        content = message["content"]
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        yield "begin", {name: value for name, value in message.items() if name != "content"}
        for block in content or []:
            yield message["role"], block


def read(body: Any) -> tuple[list[bytes], list[int]]:
    """The bytes of what a model reads, piece by piece, and how many of them each mark keeps."""
    pieces: list[bytes] = []
    ends: list[int] = []
    for kind, block in blocks(body):
        plain = {name: value for name, value in block.items() if name != "cache_control"}
        if "cachePoint" not in block:
            pieces.append(json.dumps([kind, plain]).encode())
        if len(plain) < len(block) or "cachePoint" in block:
            ends.append(len(pieces))
    return pieces, ends


@pytest.mark.parametrize("name", TARGETS)
async def test_the_next_turn_begins_with_what_this_one_has_had_kept(name: str) -> None:
    """With calls, results, pictures, documents and late instructions in between.

    Where a model takes instructions first only, late ones change the beginning; then those that
    were first are still read.
    """
    make, model = TARGETS[name]
    talk = [Message.system(WORDS)]
    tools = [Tool("look_up", "Looks something up.", {"type": "object", "properties": {}})]
    before: tuple[list[bytes], list[int]] | None = None
    async with (
        MockServer() as server,
        Pipeline([PromptCache(lifetime="1h", messages_lifetime="5m")], make(server)) as pipeline,
    ):
        for turn in TURNS:
            talk += turn
            await pipeline.run(ChatRequest.of(talk, model=model, tools=tools))
            pieces, ends = read(server.requests[-1].json)
            assert 2 <= len(ends) <= 4
            if before is not None:
                kept, were = before
                moved = LATE.encode() in b"".join(pieces[:4]) and LATE.encode() not in b"".join(
                    kept
                )
                end = were[0] if moved else were[-1]
                assert pieces[:end] == kept[:end]
                assert moved or end in ends
            before = pieces, ends
