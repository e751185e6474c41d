"""What is said where a request is not sent because nobody knows its price, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from lamella import CardBook, RefusedError, shared_cards
from lamella._card_prices import CardPrices

_UNCOUNTED = 'send it uncounted with Cost(unknown="note")'
_MORE = "prices of many more models come with pip install 'lamella[cost]'"


def refuse_model(
    model: str | None, whose: str, *, named: bool, book: CardBook | None
) -> RefusedError:
    """The error for a model without a price.

    Args:
        model: The model; None if the request names none.
        whose: The provider under whose name its price was looked for.
        named: Whether the program has said whose it is.
        book: The cards; None for the library's own.
    """
    if model is None:
        return _refusal(
            f"Cost refuses a request to {whose!r} that names no model: it has no price.",
            f'Write ChatRequest.of(..., model="..."), or {_UNCOUNTED}.',
        )
    hints: list[str] = []
    if not named and (owner := next(_owners(model, book), None)) is not None:
        hints.append(f'if it is the model of {owner!r}, say so with Cost(provider="{owner}")')
    hints.append(
        f'state its price with Cost(prices={{"{model}": {{"input": "0.50", "output": "1.50"}}}}), '
        'per million tokens, "0" for a model of your own'
    )
    if find_spec("genai_prices") is None:
        hints.append(_MORE)
    said = "; ".join([*hints, f"or {_UNCOUNTED}"])
    what = f"Cost refuses the model {model!r} of {whose!r}: it has no price."
    return _refusal(what, f"{said[0].upper()}{said[1:]}.")


def refuse_service(service: str | None, model: str | None, whose: str) -> RefusedError:
    """The error for a class of service that a model has no price for."""
    return _refusal(
        f"Cost refuses the service {service!r} of {whose!r} for the model {model!r}: "
        "it has no price.",
        "Ask for another service_tier; state a price that has it, such as Cost(prices="
        '{"' + f"{model}" + '": {"input": "0.50", "output": "1.50", "services": {"'
        f'{service}": "1/2"' + f"}}}}}}); or {_UNCOUNTED}.",
    )


def _refusal(what: str, hint: str) -> RefusedError:
    return RefusedError(what, hint=hint, code="unpriced", layer="cost")


def _owners(model: str, book: CardBook | None) -> Iterator[str]:
    """The providers of the cards that have a model of that name, if the cards have been read."""
    if not CardPrices(book).reading.done:
        return
    cards = book or shared_cards()
    for provider in dict.fromkeys([card.provider for card in cards.cards()]):
        if cards.find(provider, model) is not None:
            yield provider
