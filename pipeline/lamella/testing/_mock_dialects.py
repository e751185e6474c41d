"""The APIs that the mock server speaks."""

from __future__ import annotations

from lamella.testing._mock_anthropic._dialect import MockAnthropic
from lamella.testing._mock_bedrock._dialect import MockBedrock
from lamella.testing._mock_dialect import MockDialect, MockSettings
from lamella.testing._mock_google._dialect import MockGoogle
from lamella.testing._mock_ollama._dialect import MockOllama
from lamella.testing._mock_openai._dialect import MockOpenAI


def mock_dialects(settings: MockSettings) -> tuple[MockDialect, ...]:
    """All of them, for one server. OpenAI's comes last: it answers where no other does."""
    return (
        MockAnthropic(settings),
        MockBedrock(settings),
        MockGoogle(settings),
        MockOllama(settings),
        MockOpenAI(settings),
    )
