"""The dialects, each as a transport to one mock server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lamella.testing import FailoverProvider, MockServer
from lamella.transports import OpenAI, OpenAIOptions
from lamella_anthropic import Anthropic, AnthropicOptions
from lamella_bedrock import Bedrock, BedrockOptions
from lamella_google import Gemini, GeminiOptions
from lamella_ollama import Ollama


def openai(server: MockServer, name: str = "openai", **more: Any) -> OpenAI:
    """OpenAI's chat API."""
    options = OpenAIOptions(name=name, card_provider="openai", **more)
    return OpenAI("unused", base_url=server.url, options=options)


def anthropic(server: MockServer, name: str = "anthropic", **more: Any) -> Anthropic:
    """Anthropic's Messages API."""
    options = AnthropicOptions(name=name, card_provider="anthropic", **more)
    return Anthropic("unused", base_url=server.endpoint, options=options)


def google(server: MockServer, name: str = "google", **more: Any) -> Gemini:
    """Gemini's generateContent."""
    options = GeminiOptions(name=name, card_provider="google", **more)
    return Gemini("unused", base_url=server.endpoint, options=options)


def bedrock(server: MockServer, name: str = "bedrock", **more: Any) -> Bedrock:
    """Bedrock's Converse."""
    options = BedrockOptions(
        name=name,
        card_provider="bedrock",
        access_key="AKIDUNUSED",
        secret_key="unused",
        **more,
    )
    return Bedrock(region="us-east-1", endpoint_url=server.endpoint, options=options)


def responses(server: MockServer) -> OpenAI:
    """OpenAI's Responses API."""
    options = OpenAIOptions(name="responses", card_provider="openai")
    return OpenAI("unused", base_url=server.url, api="responses", options=options)


def ollama(server: MockServer) -> Ollama:
    """Ollama's own API."""
    return Ollama(base_url=server.endpoint)


TRANSPORTS: dict[str, Callable[..., Any]] = {
    "openai": openai,
    "anthropic": anthropic,
    "google": google,
    "bedrock": bedrock,
}

DIALECTS: dict[str, Callable[[MockServer], Any]] = {
    **TRANSPORTS,
    "responses": responses,
    "ollama": ollama,
}
"""All that the server speaks."""

FIRST = {
    "openai": FailoverProvider(openai, "gpt-4o-mini"),
    "anthropic": FailoverProvider(anthropic, "claude-haiku-4-5"),
    "google": FailoverProvider(google, "gemini-2.5-flash"),
    "bedrock": FailoverProvider(bedrock, "amazon.nova-lite-v1:0"),
}
"""Each with a model that has a card, and so a price."""

SECOND = {
    "openai": FailoverProvider(openai, "gpt-4.1-mini"),
    "anthropic": FailoverProvider(anthropic, "claude-sonnet-5"),
    "google": FailoverProvider(google, "gemini-2.5-pro"),
    "bedrock": FailoverProvider(bedrock, "amazon.nova-2-lite-v1:0"),
}
"""Each with a model whose window is a million tokens."""
