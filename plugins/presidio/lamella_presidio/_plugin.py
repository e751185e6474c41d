"""What this distribution contributes; nothing here imports Presidio."""

from __future__ import annotations

from collections.abc import Mapping


def lamella_detectors() -> Mapping[str, str]:
    """The detector `presidio`."""
    return {"presidio": "lamella_presidio._detector:PresidioDetector"}
