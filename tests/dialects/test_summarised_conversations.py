"""A conversation with a summary in it goes through in every provider's words."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from lamella import ChatRequest, Message, Pipeline, Size, Tool, ToolCall
from lamella._memory_stores import memory_stores
from lamella._ports import default_ports
from lamella.testing import MockServer
from lamella_middlewares import Summarise
from providers import DIALECTS

pytestmark = pytest.mark.anyio


def talk() -> tuple[Message, ...]:
    """Instructions, four turns with a tool, and a question."""
    said = [Message.system("Be brief.")]
    for turn in range(4):
        said.append(Message.user(f"Question {turn}? " + "A lamp of brass. " * 20))
        said.append(Message("assistant", [ToolCall(f"c{turn}", "look_up", "{}")]))
        said.append(Message.tool(f"c{turn}", "12 lamps"))
        said.append(Message.assistant(f"Answer {turn}."))
    return (*said, Message.user("And now?"))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_two_users_messages_in_a_row_are_taken(anyio_backend: str) -> None:
    """The summary, and the question behind it."""
    tools = [Tool("look_up", "Looks up.", {"type": "object", "properties": {}})]
    request = ChatRequest(messages=talk(), model="mock", max_output_tokens=20, tools=tools)
    async with MockServer() as server:
        for make in DIALECTS.values():
            seen: list[str] = []

            async def looks(request: Any, call_next: Any, seen: list[str] = seen) -> Any:
                seen.append(" ".join(one.role for one in request.messages))
                return await call_next(request)

            layer = Summarise(Size(messages=8), Size(messages=7))
            ports = attrs.evolve(default_ports(), stores=memory_stores())
            async with Pipeline([layer, looks], make(server), ports=ports) as pipeline:
                response = await pipeline.run(request)
            assert response.text
            assert seen == ["system user", "system user user assistant tool assistant user"]
