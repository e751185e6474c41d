"""What this distribution contributes; what a name leads to is imported when it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def lamella_middlewares() -> Mapping[str, str]:
    """The layer."""
    return {"shout": "lamella_shout.layers:Shout"}


def lamella_presets() -> Mapping[str, Any]:
    """A stack with it."""
    return {
        "shouting": {
            "transport": "mock",
            "layers": [
                # Who shouts does not wait.
                {"use": "deadline", "seconds": 10},
                {"use": "shout", "voice": "loud"},
                "cost",
            ],
        }
    }
