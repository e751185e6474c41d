"""Ollama's own API for Lamella."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella._lazy import lazily

if TYPE_CHECKING:
    from lamella_ollama._options import OllamaOptions
    from lamella_ollama._transport import Ollama

_HOMES = {"Ollama": "_transport", "OllamaOptions": "_options"}

__all__ = ["Ollama", "OllamaOptions"]

__getattr__, __dir__ = lazily(__name__, _HOMES)
