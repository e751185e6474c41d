"""Prompt caches, in every dialect over HTTP: each provider gets what it takes, no more."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    File,
    Image,
    Message,
    Pipeline,
    Target,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from lamella.testing import MockServer
from lamella.transports import AzureOpenAI, AzureOptions, DialectOptions, OpenAI, OpenAIOptions
from lamella_middlewares import Cost, Fallback, PromptCache
from lamella_ollama import Ollama
from providers import FIRST, TRANSPORTS, anthropic, bedrock, google, openai

pytestmark = pytest.mark.anyio

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
    async with Pipeline([layer or PromptCache(), Cost()], transport) as pipeline:
        for request in requests:
            answers.append(await pipeline.run(request))
    return answers, [request.json for request in list(server.requests)[before:]]


def count(body: Any) -> int:
    """How many marks of any kind a body has."""
    text = json.dumps(body)
    return text.count('"cache_control"') + text.count('"cachePoint"')


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


async def on_azure(options: AzureOptions, model: str, **more: Any) -> Any:
    """What is sent to a deployment."""
    async with MockServer() as server:
        azure = AzureOpenAI("unused", endpoint=server.endpoint, options=options, **more)
        layer = PromptCache(retention="24h")
        _, (body,) = await bodies(server, azure, ask(model), layer=layer)
    return body


async def test_azure_gets_a_key_and_how_long() -> None:
    """For models that are known to take them."""
    body = await on_azure(AzureOptions(card_provider="openai"), "gpt-4o-mini")
    assert len(body["prompt_cache_key"]) == 32
    assert body["prompt_cache_retention"] == "24h"
    body = await on_azure(AzureOptions(dialect=KEYS), "mock", deployment="mock")
    assert len(body["prompt_cache_key"]) == 32


@pytest.mark.parametrize(
    ("options", "model", "more"),
    [
        (AzureOptions(), "gpt-4o-mini", {}),
        (AzureOptions(card_provider="openai"), "mistral-large", {}),
        (AzureOptions(card_provider="openai", api_version="2024-10-21"), "gpt-4o-mini", {}),
        (
            AzureOptions(card_provider="openai"),
            "gpt-4o-mini",
            {"backups": [{"api_version": "2024-10-21", "endpoint": "https://x.test"}]},
        ),
    ],
)
async def test_azure_gets_none_for_models_that_may_be_anybodys(
    options: AzureOptions, model: str, more: Any
) -> None:
    """Their servers refuse the request for a field that they do not know; so do old versions."""
    body = await on_azure(options, model, **more)
    assert "prompt_cache_key" not in body
    assert "prompt_cache_retention" not in body


async def test_a_server_that_only_the_environment_names_gets_no_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may be anybody's, and strict."""
    monkeypatch.setenv("OPENAI_API_KEY", "unused")
    async with MockServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        transport = OpenAI()
        _, (body,) = await bodies(server, transport, ask("gpt-4o-mini"))
    assert "prompt_cache_key" not in body


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


MARKED: dict[str, list[Message]] = {
    "instructions": [Message("system", "Be brief.", extra=CALLERS), Message.user("mock: say a")],
    "a text": [Message.user(Text("mock: say a", CALLERS))],
    "a turn": [Message("user", "mock: say a", extra=CALLERS)],
    "an answer": [
        Message.user("a"),
        Message("assistant", "b", extra=CALLERS),
        Message.user("mock: say a"),
    ],
    "a call and its result": [
        Message.user("a"),
        Message("assistant", ToolCall("c1", "look_up", "{}", extra=CALLERS)),
        Message("tool", ToolResult("c1", (Text("b", CALLERS),)), extra=CALLERS),
    ],
}


@pytest.mark.parametrize("where", MARKED)
@pytest.mark.parametrize("provider", ["openai", "responses", "google"])
async def test_the_callers_marks_go_to_nobody_who_refuses_them(where: str, provider: str) -> None:
    """Wherever they stand; the trace says that they were left out."""
    tools = [Tool("look_up", "", {"type": "object"}, extra=CALLERS)]
    make: dict[str, Any] = {
        "openai": openai,
        "google": google,
        "responses": lambda s: keyed(s, "responses"),
    }
    async with MockServer() as server:
        request = ask("mock", MARKED[where]).evolve(tools=tools)
        (answer,), (body,) = await bodies(server, make[provider](server), request)
    assert count(body) == 0
    assert "cache_control" in [note.fields.get("what") for note in answer.trace.notes]


@pytest.mark.parametrize("where", MARKED)
@pytest.mark.parametrize("provider", ["anthropic", "bedrock"])
async def test_a_mark_on_a_message_is_one_on_its_end(where: str, provider: str) -> None:
    """As OpenAI-style dicts have it: these APIs know none on messages."""
    model = {"anthropic": "claude-haiku-4-5", "bedrock": CLAUDE}[provider]
    async with MockServer() as server:
        request = ask(model, MARKED[where])
        _, (body,) = await bodies(server, TRANSPORTS[provider](server), request)
    assert count(body) >= 1
    assert not any("cache_control" in message for message in body["messages"])


async def test_late_instructions_of_minutes_shorten_the_turns() -> None:
    """A model that takes instructions first only reads their mark before those of the turns."""
    talk = [
        *TALK,
        Message.assistant("one"),
        Message.system(Text("Be brief.", CALLERS)),
        Message.user("mock: say two"),
    ]
    async with MockServer() as server:
        layer = PromptCache(lifetime="1h")
        _, (body,) = await bodies(
            server, anthropic(server), ask("claude-sonnet-4-5", talk), layer=layer
        )
    assert [block["cache_control"].get("ttl") for block in body["system"]] == ["1h", None]
    turns = [message["content"] for message in body["messages"] if message["role"] == "user"]
    assert [turn[-1]["cache_control"] for turn in turns] == [MARK, MARK]


@pytest.mark.parametrize("kind", ["text/csv", "video/mp4"])
async def test_bedrock_gets_no_point_behind_what_takes_none(kind: str) -> None:
    """It refuses the whole request for it: the point stands before, or nowhere."""
    file = File(data=b"a,b", media_type=kind, filename="a", extra=CALLERS)
    other = attrs.evolve(file, extra={})
    behind = [Message.user([WORDS, "mock: say a", other, file])]
    alone = [Message.system(WORDS), Message.user("a"), Message.assistant("b"), Message.user(file)]
    paper = File(data=b"%PDF-1", media_type="application/pdf", filename="b.pdf")
    async with MockServer() as server:
        requests = [ask(CLAUDE, talk) for talk in (behind, alone, [Message.user([WORDS, paper])])]
        _, (first, second, third) = await bodies(server, bedrock(server), *requests)
    assert first["messages"][0]["content"][2] == POINT
    assert count(first) == 1
    assert "cachePoint" not in second["messages"][-1]["content"][-1]
    assert second["system"][-1] == POINT
    assert third["messages"][0]["content"][-1] == POINT


async def test_nova_gets_points_behind_texts_only() -> None:
    """And in the turns that have some, where the last ones are results of tools."""
    picture = Image(data=b"x", media_type="image/png")
    talk = [
        *TALK,
        Message("assistant", ToolCall("c1", "look_up", "{}")),
        Message("tool", ToolResult("c1", (Text("found"),), extra=CALLERS)),
        Message.assistant("Yes?"),
        Message.user(["mock: say a", picture]),
    ]
    async with MockServer() as server:
        _, (body,) = await bodies(server, bedrock(server), ask("amazon.nova-lite-v1:0", talk))
    assert [POINT in message["content"] for message in body["messages"]] == [
        True, False, False, False, True,
    ]  # fmt: skip
    assert POINT not in body["messages"][-1]["content"][2:]


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
