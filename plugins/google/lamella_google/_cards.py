"""The cards of Google's models: those of the Gemini API, and what differs on Vertex AI."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs

from lamella._card_files import read_card_file
from lamella._cards import CardPatch, ModelCard

_FOLDER: Final = Path(__file__).parent / "cards"


def google_cards() -> tuple[ModelCard | CardPatch, ...]:
    """The models that the Gemini API serves."""
    return read_card_file(_FOLDER / "google.toml")


def vertex_cards() -> tuple[ModelCard | CardPatch, ...]:
    """The same models on Vertex AI, with what differs there.

    Its dates of retirement are its own; but what has been retired is so on both.
    """
    same = (_on_vertex(card) for card in google_cards() if isinstance(card, ModelCard))
    return (*same, *read_card_file(_FOLDER / "vertex.toml"))


def _on_vertex(card: ModelCard) -> ModelCard:
    retired = card.retires is not None and card.as_of is not None and card.retires <= card.as_of
    return attrs.evolve(card, provider="vertex", retires=card.retires if retired else None)
