"""The process's book of model cards: those built in, and those of plugins."""

from __future__ import annotations

from functools import cache
from typing import Any

from lamella._card_book import CardBook
from lamella._errors import PluginError
from lamella._registry import registry
from lamella._warm import Warm


@cache
def shared_cards() -> CardBook:
    """The book that transports and layers use which were given none; read on first use.

    Cards registered in it (`shared_cards().register(...)`) hold for the whole process.
    """
    sources: list[Any] = []
    known = registry()
    for name in known.names("model_cards"):
        try:
            sources.append(known.get("model_cards", name))
        except PluginError:
            continue  # `lamella plugins` shows it; the models that it describes have no card
    return CardBook(plugins=sources)


shared_reading = Warm(lambda: shared_cards().read())
"""Its reading, off the event loop."""
