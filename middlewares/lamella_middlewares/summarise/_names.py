"""The layer's name in notes, keys and reports."""

from __future__ import annotations

from typing import Final

LAYER: Final = "summarise"
