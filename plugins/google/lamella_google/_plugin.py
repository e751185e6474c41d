"""What this distribution contributes; nothing here imports a transport."""

from __future__ import annotations

from collections.abc import Mapping


def lamella_transports() -> Mapping[str, str]:
    """The transports, by the name that presets use."""
    return {"google": "lamella_google:Gemini", "vertex": "lamella_google:Vertex"}


def lamella_model_cards() -> Mapping[str, str]:
    """What is known of the models, on either platform."""
    return {
        "google": "lamella_google._cards:google_cards",
        "vertex": "lamella_google._cards:vertex_cards",
    }
