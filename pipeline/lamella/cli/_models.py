"""`lamella models`: the models that model cards describe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lamella._cards import ModelCard

_HEADERS = ("model", "provider", "context", "output", "reads", "writes", "in/1M", "out/1M", "as of")


def models(*, provider: str | None = None, json: bool = False) -> int:
    """List the models that are known: limits, modalities, and prices for a million tokens.

    Others can be used as well; they have no prices and no checks.

    Args:
        provider: Only the models of this provider.
        json: Print a JSON list.
    """
    from lamella._shared_cards import shared_cards
    from lamella.cli._errors import UsageError
    from lamella.cli._output import show_json
    from lamella.cli._render import show_table

    book = shared_cards()
    found = book.cards(provider)
    if not found and provider is not None:
        known = sorted({card.provider for card in book.cards()})
        msg = f"No model of {provider!r} is described."
        raise UsageError(msg, hint=f"Known providers are {', '.join(known)}.")
    if json:
        show_json([_form(card) for card in found])
    else:
        show_table(_HEADERS, [_line(card) for card in found])
    return 0


def _line(card: ModelCard) -> tuple[str, ...]:
    cost_in, cost_out = _prices(card)
    return (
        card.name,
        card.provider,
        _count(card.context_window),
        _count(card.max_output_tokens),
        ", ".join(sorted(card.input)),
        ", ".join(sorted(card.output)),
        cost_in or "-",
        cost_out or "-",
        str(card.as_of or "-"),
    )


def _count(tokens: int | None) -> str:
    return "-" if tokens is None else f"{tokens:,}"


def _prices(card: ModelCard) -> tuple[str | None, str | None]:
    """What a million tokens cost, read and written as text, by today's row of the price list."""
    from lamella._money import Money

    price = card.price()
    if price is None:
        return None, None
    rates = (price.rates.uncached_input, price.rates.text_output)
    read, written = [None if rate is None else str(Money(rate, price.currency)) for rate in rates]
    return read, written


def _form(card: ModelCard) -> dict[str, Any]:
    cost_in, cost_out = _prices(card)
    return {
        "name": card.name,
        "provider": card.provider,
        "operations": sorted(card.operations),
        "context_window": card.context_window,
        "max_output_tokens": card.max_output_tokens,
        "input": sorted(card.input),
        "output": sorted(card.output),
        "input_per_million": cost_in,
        "output_per_million": cost_out,
        "capabilities": sorted(card.capabilities),
        "retires": card.retires,
        "as_of": card.as_of,
        "source": card.source,
    }
