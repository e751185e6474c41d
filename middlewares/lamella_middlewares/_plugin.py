"""The layers and presets of this package, registered as anybody's are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LAYERS: Final = {
    "Audit": "audit",
    "Budget": "budget",
    "Cache": "cache",
    "CircuitBreaker": "circuit_breaker",
    "Concurrency": "concurrency",
    "Cost": "cost",
    "Deadline": "deadline",
    "Debug": "debug",
    "Fallback": "fallback",
    "Guard": "guard",
    "Hedge": "hedge",
    "Hold": "hold",
    "LoadShed": "load_shed",
    "Log": "log",
    "PII": "pii",
    "PromptCache": "prompt_cache",
    "RateLimit": "rate_limit",
    "Retry": "retry",
    "Route": "route",
    "SemanticCache": "semantic_cache",
    "SingleFlight": "single_flight",
    "Spend": "spend",
    "Structured": "structured",
    "Summarise": "summarise",
    "Template": "template",
    "Timeout": "timeout",
    "Tools": "tools",
    "Trim": "trim",
    "Watch": "watch",
}
"""Each layer's class, and the module it is in, which is also its name."""


def lamella_middlewares() -> Mapping[str, str]:
    """Layers by name; a layer is imported when it is named."""
    return {module: f"{__package__}.{module}:{layer}" for layer, module in LAYERS.items()}


def lamella_detectors() -> Mapping[str, str]:
    """Detectors that a file can describe."""
    custom = f"{__package__}.pii._detect._custom"
    return {"dictionary": f"{custom}:dictionary_detector", "regex": f"{custom}:regex_detector"}


def lamella_price_sources() -> Mapping[str, str]:
    """Where `Cost` can have prices from, by name."""
    return {
        "cards": "lamella._card_prices:CardPrices",
        "genai_prices": "lamella._price_data:installed_genai_prices",
    }


def lamella_presets() -> Mapping[str, str]:
    """The presets for the usual environments."""
    return {
        "cost": f"{__package__}._presets:COST",
        "debug": f"{__package__}._presets:DEBUG",
        "development": f"{__package__}._presets:DEVELOPMENT",
        "production": f"{__package__}._presets:PRODUCTION",
        "test": f"{__package__}._presets:TEST",
    }


def lamella_commands() -> Mapping[str, str]:
    """Commands of the command line."""
    return {
        "audit": f"{__package__}.audit._commands:COMMANDS",
        "budget": f"{__package__}.budget._commands:COMMANDS",
        "cache": f"{__package__}.cache._commands:COMMANDS",
        "costs": f"{__package__}.spend._commands:COMMANDS",
        "prompts": f"{__package__}.template._commands:COMMANDS",
    }
