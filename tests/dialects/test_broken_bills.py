"""What is billed of an answer that breaks off, where the provider has begun to say."""

from __future__ import annotations

import pytest

from lamella import Attempt, ChatRequest, Outcome, Pipeline, StreamTruncated, TextDelta
from lamella.testing import MockServer
from lamella_middlewares import Cost
from providers import FIRST, TRANSPORTS

pytestmark = pytest.mark.anyio

EARLY = ["anthropic", "google"]
"""Those that state the prompt's tokens with the first message of a stream."""

PROMPT = "Why is the sky blue, and what has the sea to do with it? " * 40


async def whole(provider: str, server: MockServer) -> Attempt:
    """The attempt of an answer that ends well."""
    pipeline = Pipeline([], TRANSPORTS[provider](server))
    async with pipeline:
        response = await pipeline.run(ChatRequest.of(PROMPT, model=FIRST[provider].model))
    return response.trace.attempts[0]


@pytest.mark.parametrize("metered", [True, False], ids=["Cost", "bare"])
@pytest.mark.parametrize("provider", EARLY)
async def test_a_cut_answer_has_the_prompt_s_tokens_as_stated(
    provider: str, *, metered: bool
) -> None:
    """Not our estimate of them; and its output is never less than what was delivered."""
    async with MockServer() as server:
        stated = (await whole(provider, server)).usage
    assert stated is not None
    async with MockServer(faults="truncate=6") as server:
        pipeline = Pipeline([Cost()] if metered else [], TRANSPORTS[provider](server))
        async with pipeline:
            with pytest.raises(StreamTruncated) as failure:
                async with pipeline.stream(
                    ChatRequest.of(PROMPT, model=FIRST[provider].model)
                ) as response:
                    await response.collect()
    [attempt] = failure.value.attempts
    assert attempt.usage is not None
    assert attempt.usage.estimated
    assert attempt.usage.input_tokens == stated.input_tokens
    assert attempt.usage.output_tokens >= 1
    assert not metered or (attempt.cost is not None and attempt.cost.nano > 0)


@pytest.mark.parametrize("provider", EARLY)
async def test_an_answer_that_is_left_has_them_too(provider: str) -> None:
    """Whoever stops reading has paid for the prompt."""
    async with MockServer() as server:
        stated = (await whole(provider, server)).usage
        async with Pipeline([Cost()], TRANSPORTS[provider](server)) as pipeline:
            request = ChatRequest.of(PROMPT, model=FIRST[provider].model)
            async with pipeline.stream(request) as response:
                async for event in response:
                    if isinstance(event, TextDelta):
                        break
            [attempt] = response.trace.attempts
    assert attempt.outcome is Outcome.LEFT
    assert stated is not None
    assert attempt.usage is not None
    assert attempt.usage.input_tokens == stated.input_tokens
