"""Prices from the model cards: a source as any other, and the first one where none are named."""

from __future__ import annotations

import datetime as dt
from contextvars import copy_context

from lamella._card_book import CardBook
from lamella._prices import Price, price_on
from lamella._shared_cards import shared_cards, shared_reading
from lamella._warm import Warm


class CardPrices:
    """The prices of the model cards.

    Args:
        book: The cards. None takes those of the library, its plugins and the program.
    """

    name = "cards"

    def __init__(self, book: CardBook | None = None) -> None:
        self._book = book
        self._opened = False

    @property
    def reading(self) -> Warm:
        """The reading of the files, which other layers may have had done already."""
        return shared_reading if self._book is None else self._book.reading

    def edition(self) -> int:
        """See `PriceSource`: cards may be registered at any time."""
        if self._opened:
            return (self._book or shared_cards()).registered
        return -1  # nothing has been answered yet, and asking would read the plugins

    def price(self, provider: str, model: str, day: dt.date, /) -> Price | None:
        """See `PriceSource`.

        Raises:
            ConfigurationError: If a card file of the user's cannot be read.
        """
        book = self._book or shared_cards()
        if not self._opened:
            # Reading prices leaves the decimal module's context variable set; not in the caller's.
            copy_context().run(book.find, provider, model)
            self._opened = True
        card = book.find(provider, model)
        if card is None:
            return None
        rows = card.prices
        if len(rows) == 1 and rows[0].effective_from is None:
            return rows[0]
        return price_on(rows, day)
