"""Prompt caches over HTTP: nothing goes to a provider that would refuse the request for it."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from prompt_caches import CALLERS, CLAUDE, KEYS, MARK, POINT, TALK, WORDS, ask, bodies, count, keyed

from lamella import File, Image, Message, Text, Tool, ToolCall, ToolResult
from lamella.testing import MockServer
from lamella.transports import AzureOpenAI, AzureOptions, OpenAI
from lamella_middlewares import PromptCache
from providers import TRANSPORTS, anthropic, bedrock, google, openai

pytestmark = pytest.mark.anyio


# --- keys -------------------------------------------------------------------------------------


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


# --- marks ------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("given", [False, True])
async def test_a_model_of_minutes_gets_none_of_an_hour(given: bool) -> None:
    """On Bedrock older Claudes refuse the request for it; their price lists have none for it."""
    hour = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    talk = [Message.system(Text(WORDS, hour)), Message.user("mock: say a")] if given else TALK
    models = ["anthropic.claude-sonnet-4-20250514-v1:0", CLAUDE, "anthropic.claude-unheard-of"]
    async with MockServer() as server:
        layer = PromptCache(lifetime="1h")
        requests = [ask(model, talk) for model in models]
        _, sent = await bodies(server, bedrock(server), *requests, layer=layer)
    assert [body["system"][-1]["cachePoint"].get("ttl") for body in sent] == [None, "1h", "1h"]


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
