"""Which sources of prices are asked: those that an option names, or the usual ones."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

from lamella._card_book import CardBook
from lamella._card_prices import CardPrices
from lamella._errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella._price_sources import PriceSource


def default_sources(book: CardBook | None = None) -> tuple[PriceSource, ...]:
    """The model cards; then `genai-prices`, where the extra `cost` is installed.

    Args:
        book: The cards. None takes those of the library, its plugins and the program.
    """
    cards = CardPrices(book)
    if find_spec("genai_prices") is None:
        return (cards,)
    from lamella._price_data import shared_genai_prices

    return cards, shared_genai_prices()


def sources_of(
    given: Iterable[object] | None, book: CardBook | None = None
) -> tuple[PriceSource, ...]:
    """The sources that an option states: names that are registered, or the objects themselves.

    Args:
        given: As the option has it; None is `default_sources`.
        book: As for `default_sources`.

    Raises:
        ConfigurationError: If one of them is no source.
        UnknownNameError: If nobody has registered one of the names.
    """
    if given is None:
        return default_sources(book)
    if isinstance(given, str) or not isinstance(given, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        msg = f"sources={given!r}: give a list, such as ['cards', 'genai_prices']."
        raise ConfigurationError(msg)
    return tuple([_source_of(one, book) for one in given])


def _source_of(given: object, book: CardBook | None) -> PriceSource:
    source = given
    if isinstance(given, str):
        if given == CardPrices.name and book is not None:
            return CardPrices(book)
        from lamella._registry import registry

        source = registry().get("price_sources", given)
    if isinstance(source, type) or inspect.isroutine(source):
        source = cast("Callable[[], object]", source)()
    if not callable(getattr(source, "price", None)):
        raise ConfigurationError(
            f"{given!r} is no source of prices.",
            hint="It has a method price(provider, model, day) that gives a Price or None.",
        )
    return cast("PriceSource", source)
