"""Google's Gemini API and Vertex AI for Lamella."""

from __future__ import annotations

from lamella_google._gemini import Gemini, GeminiOptions
from lamella_google._vertex import Vertex, VertexOptions

__all__ = ["Gemini", "GeminiOptions", "Vertex", "VertexOptions"]
