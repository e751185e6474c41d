"""Prompt caches, in every dialect over HTTP: each provider gets what it takes, no more."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prompt_caches import MARK, POINT, TALK, WORDS, ask, bodies, count, gateway, keyed

from lamella import Message, Pipeline, Target, Tool, ToolCall
from lamella.testing import MockServer
from lamella_middlewares import Cost, Fallback, PromptCache
from lamella_ollama import Ollama
from providers import FIRST, TRANSPORTS, anthropic, bedrock, google, openai

pytestmark = pytest.mark.anyio


async def test_anthropic_gets_marks() -> None:
    """At the ends of instructions and turns; tools are long enough only together with those."""
    async with MockServer() as server:
        _, (body,) = await bodies(server, anthropic(server), ask("claude-haiku-4-5"))
    assert body["system"] == [{"type": "text", "text": WORDS, "cache_control": MARK}]
    (block,) = body["messages"][0]["content"]
    assert block["cache_control"] == MARK
    assert "cache_control" not in body["tools"][0]
    assert count(body) == 2


async def test_bedrock_gets_points() -> None:
    """Behind what they keep; Amazon's own models have none among the tools, nor for an hour."""
    long = [Tool("look_up", WORDS, {"type": "object", "properties": {}})]
    async with MockServer() as server:
        claude = ask("anthropic.claude-haiku-4-5-20251001-v1:0").evolve(tools=long)
        nova = ask("amazon.nova-lite-v1:0").evolve(tools=long)
        layer = PromptCache(lifetime="1h", messages_lifetime="5m")
        answers, (first, second) = await bodies(server, bedrock(server), claude, nova, layer=layer)
    hour = {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert first["toolConfig"]["tools"][1:] == [hour]
    assert first["system"] == [{"text": WORDS}, hour]
    assert first["messages"][0]["content"][-1] == POINT
    assert len(second["toolConfig"]["tools"]) == 1
    assert second["system"] == [{"text": WORDS}, POINT]
    for answer in answers:
        assert [note.name for note in answer.trace.notes] == ["prompt_cache.marked"]


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_openai_gets_a_key(api: Any) -> None:
    """The same for all turns, and no marks."""
    async with MockServer() as server:
        longer = [*TALK, Message.assistant("one"), Message.user("mock: say two")]
        _, (first, second) = await bodies(
            server, keyed(server, api), ask("gpt-4o-mini"), ask("gpt-4o-mini", longer)
        )
    assert first["prompt_cache_key"] == second["prompt_cache_key"]
    assert count(first) == count(second) == 0


async def test_a_gateway_gets_marks_on_texts() -> None:
    """Of instructions, of users, and inside of a tool's result; not on tools."""
    talk = [
        *TALK,
        Message("assistant", ToolCall("c1", "look_up", "{}")),
        Message.tool("c1", "mock: say found"),
    ]
    async with MockServer() as server:
        _, (body,) = await bodies(server, gateway(server), ask("anthropic/claude", talk))
    system, user, _, result = body["messages"]
    assert system["content"][0]["cache_control"] == MARK
    assert user["content"][0]["cache_control"] == MARK
    assert result["content"] == [{"type": "text", "text": "mock: say found", "cache_control": MARK}]
    assert count(body) == 3
    assert "prompt_cache_key" not in body


@pytest.mark.parametrize("make", [google, openai, lambda server: Ollama(base_url=server.endpoint)])
async def test_others_get_nothing(make: Any) -> None:
    """Gemini keeps beginnings by itself, Ollama bills nothing, strange servers may refuse a key."""
    async with MockServer() as server:
        request = ask("mock")
        (answer,), (body,) = await bodies(server, make(server), request)
        async with Pipeline([], make(server)) as pipeline:
            await pipeline.run(request)
        assert body == server.requests[-1].json
    assert not [note for note in answer.trace.notes if note.name == "request.left_out"]


async def test_a_known_endpoint_says_what_it_takes() -> None:
    """By its row: OpenAI and Azure a key, OpenRouter marks, the others nothing."""
    from lamella.transports._endpoints import endpoints

    keys = {name for name, row in endpoints().items() if row.cache_keys}  # Azure's for known models
    marks = {name for name, row in endpoints().items() if row.cache_marks}
    assert (keys, marks) == ({"openai", "azure-ai"}, {"openrouter"})


@pytest.mark.parametrize("provider", ["anthropic", "bedrock"])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_second_call_reads_what_the_first_has_written(
    provider: str, stream: bool
) -> None:
    """And the next turn finds this one's beginning; both are billed as such."""
    model = FIRST[provider].model
    grown = [*TALK, Message.assistant("one"), Message.user("mock: say two")]
    async with MockServer() as server:
        layers: list[Any] = [PromptCache(), Cost()]
        async with Pipeline(layers, TRANSPORTS[provider](server)) as pipeline:
            answers: list[Any] = []
            for talk in (TALK, TALK, grown):
                if stream:
                    async with pipeline.stream(ask(model, talk)) as response:
                        answers.append(await response.collect())
                else:
                    answers.append(await pipeline.run(ask(model, talk)))
    first, second, third = [answer.usage for answer in answers]
    assert first.cache_write["5m"] > 5_000
    assert first.cache_read == 0
    assert second.cache_read == first.cache_write["5m"]
    assert not second.cache_write
    assert third.cache_read == first.cache_write["5m"]
    assert 0 < third.cache_write["5m"] < 50
    assert answers[0].cost > answers[1].cost


async def test_a_fallback_carries_nothing_of_the_provider_before() -> None:
    """Marks go to who takes marks, a key to who takes a key, nothing to the rest."""
    async with MockServer(faults="status=503 | status=503 | status=503 | ok") as server:
        failing = anthropic(server)
        others = [
            Target("openai", keyed(server), {"model": "gpt-4o-mini"}),
            Target("google", google(server), {"model": "gemini-2.5-flash"}),
            Target("bedrock", bedrock(server), {"model": "amazon.nova-lite-v1:0"}),
        ]
        layers: list[Any] = [Fallback(others), PromptCache()]
        async with Pipeline(layers, failing, max_attempts=20) as pipeline:
            answer = await pipeline.run(ask("claude-haiku-4-5"))
        first, second, third, fourth = [request.json for request in server.requests]
    assert answer.trace.attempts[-1].provider == "bedrock"
    assert (count(first), "prompt_cache_key" in first) == (2, False)
    assert (count(second), "prompt_cache_key" in second) == (0, True)
    assert (count(third), "prompt_cache_key" in third) == (0, False)
    assert (count(fourth), "prompt_cache_key" in fourth) == (2, False)
    assert "cache_control" not in json.dumps(fourth)
    assert not [note for note in answer.trace.notes if note.name == "request.left_out"]


async def test_the_least_length_is_the_models() -> None:
    """As its card says: Haiku 4.5 keeps nothing below 4,096 tokens, Sonnet 4.5 does."""
    short = [Message.system("Some instructions. " * 700), Message.user("mock: say one")]
    async with MockServer() as server:
        _, (haiku, sonnet) = await bodies(
            server,
            anthropic(server),
            ask("claude-haiku-4-5", short),
            ask("claude-sonnet-4-5", short),
        )
    assert (count(haiku), count(sonnet)) == (0, 2)


async def test_a_model_without_a_cache_gets_nothing() -> None:
    """By its card."""
    async with MockServer() as server:
        (answer,), (body,) = await bodies(
            server, bedrock(server), ask("meta.llama3-3-70b-instruct-v1:0")
        )
        _, (old,) = await bodies(server, keyed(server), ask("gpt-4-turbo"))
    assert count(body) == 0
    assert not answer.trace.notes
    assert "prompt_cache_key" not in old


@pytest.mark.parametrize("provider", ["anthropic", "bedrock"])
async def test_tools_that_were_built_otherwise_are_read_from_the_cache(provider: str) -> None:
    """The cache compares bytes, and the bytes are the same."""
    one = {"type": "object", "properties": {"a": {"type": "string", "description": "A."}}}
    other = {"properties": {"a": {"description": "A.", "type": "string"}}, "type": "object"}
    async with MockServer() as server:
        requests = [
            ask(FIRST[provider].model).evolve(tools=[Tool("f", "", schema)])
            for schema in (one, other)
        ]
        answers, sent = await bodies(server, TRANSPORTS[provider](server), *requests)
    assert json.dumps(sent[0]) == json.dumps(sent[1])
    assert answers[1].usage is not None
    assert answers[1].usage.cache_read > 5_000
