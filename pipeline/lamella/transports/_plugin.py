"""The transports of this library, registered as anybody's are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamella.transports._endpoints import endpoints


def lamella_transports() -> Mapping[str, Any]:
    """Transports by name; each known endpoint is the one for OpenAI's APIs, sent there."""
    named = {name: {"use": "openai", "endpoint": name} for name in endpoints() if name != "openai"}
    return {
        **named,
        "azure": "lamella.transports:AzureOpenAI",
        "mock": "lamella.transports:Mock",
        "openai": "lamella.transports:OpenAI",
        "openai_batch": "lamella.transports:OpenAIBatch",
    }
