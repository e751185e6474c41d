"""One answer in every provider's words: the same message, streamed or not, however it is cut."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    ContextLengthError,
    Message,
    Pipeline,
    StreamTruncated,
    Text,
    Tool,
    ToolCall,
)
from lamella.testing import MockServer
from providers import TRANSPORTS

pytestmark = pytest.mark.anyio

WEATHER = Tool(
    "get_weather",
    "The weather of a city",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
ANSWERS: dict[str, tuple[Message, str]] = {
    "text": (Message.assistant("Grüße, 世界 🌍. " * 3), "stop"),
    "one call": (
        Message.assistant([ToolCall("c1", "get_weather", '{"city":"Rom"}')]),
        "tool_calls",
    ),
    "text and calls": (
        Message.assistant(
            [
                Text("Let me look."),
                ToolCall("c1", "get_weather", '{"city":"Rom"}'),
                ToolCall("c2", "get_weather", '{"city":"Oslo"}'),
            ]
        ),
        "tool_calls",
    ),
}
CUTS = {
    "as it comes": None,
    "byte by byte": "slice=1",
    "with signs of life": "pings",
    "with what nobody knows": "unknown",
}
CASES = list(product(TRANSPORTS, ANSWERS, CUTS))


async def answered(
    provider: str, request: ChatRequest, *, stream: bool, **more: Any
) -> ChatResponse:
    """The answer of a fresh provider, read in one of the two ways."""
    async with MockServer(**more) as server:
        pipeline = Pipeline([], TRANSPORTS[provider](server))
        try:
            if not stream:
                return await pipeline.run(request)
            async with pipeline.stream(request) as response:
                await response.collect()
            return response
        finally:
            await pipeline.aclose()


def words(message: Message) -> Iterator[Any]:
    """What a message says; ids are the provider's own."""
    for part in message.parts:
        if isinstance(part, Text) and part.text:
            yield part.text
        elif isinstance(part, ToolCall):
            yield part.name, part.arguments.replace(" ", "")


@pytest.mark.parametrize("stream", [False, True], ids=["run", "stream"])
@pytest.mark.parametrize(("provider", "answer", "cut"), CASES)
async def test_an_answer_says_the_same_everywhere(
    provider: str, answer: str, cut: str, *, stream: bool
) -> None:
    """Text, calls and the reason of the end; ids are given, and differ."""
    message, reason = ANSWERS[answer]
    request = ChatRequest.of("Hello?", model="mock", tools=[WEATHER])
    response = await answered(
        provider, request, stream=stream, answer=lambda _: message, faults=CUTS[cut]
    )
    assert list(words(response.message)) == list(words(message))
    assert response.finish_reason == reason
    assert len({call.id for call in response.tool_calls}) == len(message.tool_calls)
    assert response.usage is not None
    assert response.usage.output_tokens > 0
    assert not response.usage.estimated


@pytest.mark.parametrize("provider", TRANSPORTS)
async def test_streamed_and_whole_answers_are_billed_alike(provider: str) -> None:
    """The same parts of usage, to the token."""
    request = ChatRequest.of("Why is the sky blue?", model="mock-reasoning")
    one = await answered(provider, request, stream=False)
    other = await answered(provider, request, stream=True)
    assert one.usage == other.usage
    assert (one.text, one.message.reasoning) == (other.text, other.message.reasoning)
    assert one.finish_reason == other.finish_reason


@pytest.mark.parametrize("provider", TRANSPORTS)
@pytest.mark.parametrize("events", range(1, 8))
async def test_a_stream_that_stops_early_is_truncated(provider: str, events: int) -> None:
    """Wherever it stops before the provider's own sign of the end."""
    request = ChatRequest.of("Why is the sky blue?", model="mock")
    with pytest.raises(StreamTruncated) as failure:
        await answered(provider, request, stream=True, faults=f"truncate={events}")
    assert failure.value.partial is None or isinstance(failure.value.partial.text, str)


@pytest.mark.parametrize("provider", TRANSPORTS)
async def test_too_much_is_said_to_be_too_much(provider: str) -> None:
    """In each provider's own words, so that a model with a larger window may be tried."""
    request = ChatRequest.of("word " * 200_000, model="mock")
    with pytest.raises(ContextLengthError):
        await answered(provider, request, stream=False)
