"""Where prices come from: the program's own table first, then the model cards."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from contextvars import copy_context
from typing import Any, cast

from lamella import CardBook, ConfigurationError, Price, shared_cards


class PriceList:
    """Finds the price of a model.

    Args:
        own: The program's own prices by `"model"` or `"provider/model"`. They win.
        book: The model cards. None takes the shared ones.
    """

    def __init__(self, own: Mapping[str, Price], book: CardBook | None) -> None:
        self._own = own
        self._book = book
        self._read = False

    def find(self, provider: str, models: Sequence[str], wall: float) -> Price | None:
        """The price on the day of `wall`, seconds since the epoch; None if there is none.

        Args:
            provider: Whose models they are.
            models: The names of one model, the best one first. What the program states for any of
                them wins over the cards: a provider answers `gpt-4o-mini` as a dated version of it.
            wall: Seconds since the epoch.

        Raises:
            ConfigurationError: If a card file of the user's cannot be read.
        """
        own = self._own
        if own:
            for model in models:
                price = own.get(f"{provider}/{model}") or own.get(model)
                if price is not None:
                    return price
        for model in models:
            price = self._of_card(provider, model, wall)
            if price is not None:
                return price
        return None

    def _of_card(self, provider: str, model: str, wall: float) -> Price | None:
        book = self._book or shared_cards()
        if not self._read:
            # Reading prices leaves the decimal module's context variable set; not in the caller's.
            copy_context().run(book.find, provider, model)
            self._read = True
        card = book.find(provider, model)
        if card is None:
            return None
        prices = card.prices
        if len(prices) == 1 and prices[0].effective_from is None:
            return prices[0]
        return card.price(dt.datetime.fromtimestamp(wall, dt.UTC).date())


def own_prices(given: Mapping[str, Any]) -> Mapping[str, Price]:
    """Prices from what `Cost(prices=...)` takes.

    Raises:
        ConfigurationError: If an entry is no price; all such entries are named.
    """
    if not isinstance(cast("object", given), Mapping):
        raise ConfigurationError(
            f"Cost(prices=...) is a table of prices by model, not {type(given).__name__}.",
            hint='Write prices={"my-model": {"input": "0.50", "output": "1.50"}}.',
        )
    table: dict[str, Price] = {}
    wrong: list[str] = []
    for model, entry in given.items():
        try:
            table[model] = _price(entry)
        except (TypeError, ValueError) as error:
            wrong.append(f"{model!r}: {error}")
    if wrong:
        raise ConfigurationError(
            f"Cost(prices=...) has entries that are no price: {' '.join(wrong)}",
            hint='Write {"input": "0.50", "output": "1.50"}: per million tokens, in quotes.',
        )
    return table


def _price(entry: object) -> Price:
    if isinstance(entry, Price):
        return entry
    if isinstance(entry, Mapping):
        return Price.of(**cast("Mapping[str, Any]", entry))
    raise TypeError(f"{entry!r} is neither a Price nor a table.")
