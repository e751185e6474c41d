"""What this distribution contributes; nothing here imports a transport."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def lamella_transports() -> Mapping[str, str]:
    """The transports, by the name that presets use."""
    return {"bedrock": "lamella_bedrock:Bedrock"}


def lamella_model_cards() -> Mapping[str, Path]:
    """What is known of the models."""
    return {"bedrock": Path(__file__).parent / "cards" / "bedrock.toml"}
