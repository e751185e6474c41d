"""What this distribution contributes; nothing here imports a transport."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def lamella_transports() -> Mapping[str, str]:
    """The transports, by the name that presets use."""
    return {"anthropic": "lamella_anthropic:Anthropic"}


def lamella_model_cards() -> Mapping[str, Path]:
    """What is known of the models."""
    return {"anthropic": Path(__file__).parent / "cards" / "anthropic.toml"}
