"""What the prompt caches behind OpenAI's APIs take.

OpenAI keeps the beginnings of requests by itself, from 1,024 tokens on, and takes a key that brings
those with one beginning to one machine. Gateways to other providers may take Anthropic's marks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella._prompt_caching import LEAST_TOKENS, PromptCaching

if TYPE_CHECKING:
    from lamella._cards import ModelCard
    from lamella.transports._dialect import DialectOptions

KEY = "prompt_cache_key"
RETENTION = "prompt_cache_retention"

KNOWN = "known"
"""The value of the quirk `cache_keys` of an endpoint that takes a key for the models that OpenAI
made, and has others as well, whose servers refuse it: a key is for models whose cards say so."""

_MARKS = 4
"""As many as Anthropic takes, which is where gateways pass them on to."""


def openai_caching(
    options: DialectOptions, card: ModelCard | None, *, marks: bool
) -> PromptCaching | None:
    """What an endpoint's prompt cache takes; None for nothing.

    Args:
        options: The endpoint's quirks: `cache_marks`, and `cache_keys`, which may be `KNOWN`.
        card: The model's card; None without one.
        marks: Whether the API has a place for marks.
    """
    marked = marks and options.quirks.get("cache_marks", False)
    keyed = options.quirks.get("cache_keys", False)
    if keyed == KNOWN:
        keyed = card is not None and "prompt_cache" in card.capabilities
    if card is not None and card.capabilities and "prompt_cache" not in card.capabilities:
        return None
    if not marked and not keyed:
        return None
    minimum = None if card is None else card.cache_minimum
    return PromptCaching(
        marks=_MARKS if marked else 0,
        lifetimes=("5m", "1h"),
        places=frozenset({"system", "messages"}),
        texts_only=True,
        minimum=minimum or LEAST_TOKENS,
        key_field=KEY if keyed else None,
        retention_field=RETENTION if keyed else None,
    )
