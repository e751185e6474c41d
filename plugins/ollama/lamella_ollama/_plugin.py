"""What this distribution contributes; nothing here imports a transport."""

from __future__ import annotations

from collections.abc import Mapping


def lamella_transports() -> Mapping[str, str]:
    """The transports, by the name that presets use; `ollama` is the compatible endpoint."""
    return {"ollama-native": "lamella_ollama:Ollama"}
