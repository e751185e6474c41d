"""Google's Gemini API and Vertex AI for Lamella."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella._lazy import lazily

if TYPE_CHECKING:
    from lamella_google._gemini import Gemini, GeminiOptions
    from lamella_google._vertex import Vertex, VertexOptions

_HOMES = {
    "Gemini": "_gemini",
    "GeminiOptions": "_gemini",
    "Vertex": "_vertex",
    "VertexOptions": "_vertex",
}

__all__ = ["Gemini", "GeminiOptions", "Vertex", "VertexOptions"]

__getattr__, __dir__ = lazily(__name__, _HOMES)
