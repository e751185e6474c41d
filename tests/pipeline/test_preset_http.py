"""`http=` of presets: which HTTP client a transport that is given by name uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import lamella
from lamella import Pipeline, Preset
from lamella.transports import HTTPOptions, OpenAI, OpenAIOptions


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key for transports that are made by name."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")


def options_of(name: Any = "production", **given: Any) -> HTTPOptions:
    """The HTTP options that a preset's transport ends up with."""
    transport: Any = Pipeline.preset(name, **given).transport
    found: HTTPOptions = transport.options.http
    return found


def test_a_call_chooses() -> None:
    """By the word, or by options; without it nothing changes."""
    assert options_of(transport="openai", http="fast") == HTTPOptions(fast=True)
    assert options_of(transport="groq", http=HTTPOptions(max_idle=3)).max_idle == 3
    assert options_of(transport="openai") == HTTPOptions()


def test_a_file_chooses(tmp_path: Path) -> None:
    """So does a preset in a file or in code, for those that extend it too."""
    file = tmp_path / "lamella.toml"
    file.write_text(
        '[presets.a]\nextends = "production"\ntransport = "openai"\nhttp = "fast"\n'
        '[presets.b]\nextends = "a"\n'
        "[presets.c]\nextends = 'a'\nhttp = { max_connections = 9 }\n"
    )
    assert options_of("b", config=file).fast
    assert options_of("c", config=file) == HTTPOptions(max_connections=9)
    assert options_of(Preset(extends="production", transport="openai", http="fast")).fast


def test_the_transports_own_options_come_first() -> None:
    """What is said of the transport itself is said more precisely."""
    own: dict[str, Any] = {"use": "openai", "options": {"http": {"max_idle": 3}}}
    assert options_of(transport=own, http="fast") == HTTPOptions(max_idle=3)
    beside: dict[str, Any] = {"use": "openai", "options": {"send_user": True}}
    assert options_of(transport=beside, http="fast").fast


def test_another_transport_in_its_place() -> None:
    """One that takes the place of a preset's, as for a test, does without what it cannot take."""
    own = Preset(extends="production", transport="openai", http="fast")
    for other in ("mock", OpenAI("sk-test-0123456789")):
        assert Pipeline.preset(own, transport=other).transport is not None
    assert options_of(own, transport="groq").fast


@pytest.mark.parametrize(
    ("transport", "http", "match"),
    [
        ("mock", "fast", "'mock' speaks no HTTP"),
        (OpenAI("sk-test-0123456789"), "fast", "given by name"),
        ({"use": "openai", "options": OpenAIOptions()}, "fast", r"OpenAIOptions\(http="),
        ("openai", "slow", "http: got 'slow', expected .* or 'fast'"),
    ],
)
def test_what_cannot_be_chosen(transport: Any, http: Any, match: str) -> None:
    """Where nobody takes it, or it is nothing, that is said."""
    with pytest.raises(lamella.ConfigurationError, match=match):
        Pipeline.preset("production", transport=transport, http=http)
