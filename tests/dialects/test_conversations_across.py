"""A conversation that several providers have had a part in."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from lamella import ChatRequest, ChatResponse, Message, Pipeline, Tool, UnsupportedError
from lamella.testing import MockServer
from providers import TRANSPORTS

pytestmark = pytest.mark.anyio

WEATHER = Tool(
    "get_weather",
    "The weather of a city",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
PAIRS = list(product(TRANSPORTS, TRANSPORTS))


MODELS = {"bedrock": "anthropic.mock-reasoning-v1:0"}
"""Bedrock tells by the model's name how it is asked to think."""


def asked(provider: str, *messages: Message, **more: Any) -> ChatRequest:
    """A question to a model that thinks before it speaks."""
    return ChatRequest.of(list(messages), model=MODELS.get(provider, "mock-reasoning"), **more)


async def answered(pipeline: Pipeline, request: ChatRequest, *, stream: bool) -> ChatResponse:
    """The whole answer, read in one of the two ways."""
    if not stream:
        return await pipeline.run(request)
    async with pipeline.stream(request) as response:
        await response.collect()
    return response


def left_out(response: ChatResponse) -> set[str]:
    """What the trace says that the request lost."""
    notes = response.trace.notes
    return {note.fields["what"] for note in notes if note.name == "request.left_out"}


@pytest.mark.parametrize("stream", [False, True], ids=["run", "stream"])
@pytest.mark.parametrize(("first", "second"), PAIRS, ids=[f"{a}-{b}" for a, b in PAIRS])
async def test_calls_and_results_arrive_everywhere(
    first: str, second: str, *, stream: bool
) -> None:
    """Whoever asked for the tools, whoever is told what they said."""
    question = Message.user("What is the weather in Rome and in Oslo?")
    async with MockServer() as server:
        one = Pipeline([], TRANSPORTS[first](server))
        other = Pipeline([], TRANSPORTS[second](server))
        request = asked(first, question, tools=[WEATHER], tool_choice="required")
        start = await answered(one, request, stream=stream)
        assert start.finish_reason == "tool_calls"
        results = [Message.tool(call.id, "sunny") for call in start.tool_calls]
        conversation = [question, start.message, *results, Message.user("And now?")]
        end = await answered(other, asked(second, *conversation, tools=[WEATHER]), stream=stream)
        await one.aclose()
        await other.aclose()
    assert end.text
    assert left_out(end) <= {"Reasoning", "ToolCall.extra", "Text.extra"}
    if first == second != "openai":
        assert not left_out(end)


@pytest.mark.parametrize("stream", [False, True], ids=["run", "stream"])
@pytest.mark.parametrize(("first", "second"), PAIRS, ids=[f"{a}-{b}" for a, b in PAIRS])
async def test_thoughts_go_back_to_their_maker_only(
    first: str, second: str, *, stream: bool
) -> None:
    """Verbatim: the mock server checks seals that come back, as providers do."""
    question = Message.user("Why is the sky blue?")
    async with MockServer() as server:
        one = Pipeline([], TRANSPORTS[first](server))
        other = Pipeline([], TRANSPORTS[second](server))
        request = asked(first, question, reasoning_effort="high")
        start = await answered(one, request, stream=stream)
        conversation = [question, start.message, Message.user("And now?")]
        end = await answered(
            other, asked(second, *conversation, reasoning_effort="high"), stream=stream
        )
        await one.aclose()
        await other.aclose()
    assert start.message.reasoning
    assert end.text
    if first == second != "openai":
        assert not left_out(end)
    else:
        assert "Reasoning" in left_out(end)


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=[f"{a}-{b}" for a, b in PAIRS])
async def test_a_strict_transport_refuses_what_it_cannot_pass_on(first: str, second: str) -> None:
    """`refuse_foreign` makes another provider's sealed thought an error before the network."""
    async with MockServer() as server:
        one = Pipeline([], TRANSPORTS[first](server))
        other = Pipeline([], TRANSPORTS[second](server, refuse_foreign=True))
        start = await one.run(asked(first, Message.user("Why?")))
        sealed = first != "openai"
        request = asked(second, Message.user("Why?"), start.message, Message.user("And now?"))
        if sealed and first != second:
            with pytest.raises(UnsupportedError, match="only go back"):
                await other.run(request)
            assert len(server.requests) == 1
        else:
            assert (await other.run(request)).text
        await one.aclose()
        await other.aclose()
