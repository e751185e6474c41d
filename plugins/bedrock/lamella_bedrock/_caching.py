"""What the prompt caches of Bedrock's models take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lamella._prompt_caching import LEAST_TOKENS, PLACES, PromptCaching
from lamella_bedrock._cache_points import MOST_POINTS

if TYPE_CHECKING:
    from lamella._cards import ModelCard

FAMILIES: Final = frozenset({"", "anthropic", "amazon"})
"""Whose models have a cache, where no card says so; of an unknown one it is assumed."""

_AMAZON: Final = "amazon"
_HOUR: Final = "1h"


def has_cache(family: str, card: ModelCard | None) -> bool:
    """Whether a model has a prompt cache that takes points."""
    if card is not None and card.capabilities:
        return "prompt_cache" in card.capabilities
    return family in FAMILIES


def lasts_an_hour(family: str, card: ModelCard | None) -> bool:
    """Whether a model's cache can keep things for an hour: older ones refuse to be asked for it.

    The price list says so: it has a price for each lifetime that there is. Of a model without
    prices by lifetime it is assumed, but for Amazon's.
    """
    if family == _AMAZON:
        return False
    prices = () if card is None else card.prices
    stated = {lifetime for price in prices for lifetime in price.rates.cache_write if lifetime}
    return not stated or _HOUR in stated


def point_caching(family: str, card: ModelCard | None) -> PromptCaching | None:
    """What a model's prompt cache takes; None if it has none.

    Amazon's own models take points behind texts, none among the tools, and none for an hour, which
    Claude can do from 4.5 on.

    Args:
        family: Whose model is asked; empty if unknown.
        card: The model's card; None without one.
    """
    if not has_cache(family, card):
        return None
    amazon = family == _AMAZON
    minimum = None if card is None else card.cache_minimum
    return PromptCaching(
        marks=MOST_POINTS,
        lifetimes=("5m", _HOUR) if lasts_an_hour(family, card) else ("5m",),
        places=PLACES - {"tools"} if amazon else PLACES,
        texts_only=amazon,
        results=not amazon,
        minimum=minimum or LEAST_TOKENS,
    )
