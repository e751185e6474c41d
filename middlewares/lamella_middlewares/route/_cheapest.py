"""The policy `cost`: the target that should cost least for the request at hand."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from random import Random  # noqa: TID251 - the type of the random port
from typing import Any, ClassVar, Final

import attrs

from lamella import CardBook, ModelCard, Price, Request, Usage
from lamella._options import refused, whole
from lamella._own_prices import Rows, own_prices
from lamella._price_lists import day_of
from lamella._prices import price_on
from lamella._target_fitness import Fitness
from lamella._tokens import rough_input
from lamella_middlewares.route._policies import Candidate, pick

CHARACTERS: Final = 4
"""Characters for a token. Prices are compared, so that a wrong scale changes little, and counting
properly would take the event loop for every request."""


class _Characters:
    """A token counter that looks at lengths only."""

    @property
    def exact(self) -> bool:
        return False

    def count(self, texts: Sequence[str], /) -> int:
        return sum(map(len, texts)) // CHARACTERS


_COUNTER: Final = _Characters()


def _prices_of(given: Any) -> Rows:
    return own_prices(given, "Cheapest(prices=...)")


def _card_book(policy: Any, option: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, CardBook):
        raise refused(policy, option, value, "a CardBook, or None for the library's own")


@attrs.frozen
class Cheapest:
    """The target with the least price for the request's tokens; among equal ones by weight.

    The prompt is counted by its length, its pictures, sound and documents as each target's provider
    counts them; the answer by `max_output_tokens` or an assumed length. A
    target without a price is chosen only where no target has one; so is one in another currency.

    Args:
        prices: Prices by target, as for `Cost`: tables such as `{"input": "0.50", "output":
            "1.50"}` in whole units per million tokens, or a file of them. The others have those by
            which `Cost` inside bills, or those of the model cards where there is no `Cost`.
        output_tokens: How long an answer is assumed to be, in tokens, 0 or more; a request's own
            `max_output_tokens` bounds it.
        book: The model cards. None takes those of the library and its plugins.
    """

    name: ClassVar[str] = "cost"
    asks_prices: ClassVar[bool] = True

    prices: Any = attrs.field(factory=dict[str, Any], converter=_prices_of, repr=False)
    output_tokens: int = attrs.field(default=500, validator=whole(0))
    book: CardBook | None = attrs.field(default=None, validator=_card_book, repr=False)

    def choose(
        self, request: Request[Any], candidates: Sequence[Candidate], random: Random, /
    ) -> Candidate:
        """See `Policy`."""
        # One that comes back from an ejection gets all or nothing here, so it is let in by chance.
        entering = [one for one in candidates if one.ramp == 1 or random.random() < one.ramp]
        candidates = entering or candidates
        usage_of = self._usage_of(request)
        costs = [] if usage_of is None else self._costs(request, candidates, usage_of)
        if not costs:
            return pick(candidates, random)
        least = min(cost for cost, _ in costs)
        return pick([one for cost, one in costs if cost == least], random)

    def _costs(
        self,
        request: Request[Any],
        candidates: Sequence[Candidate],
        usage_of: Callable[[ModelCard | None], Usage],
    ) -> list[tuple[int, Candidate]]:
        """What the request should cost at each target of which that is known, in nano-units."""
        fitness = Fitness(request, self.book)
        service: str | None = getattr(request, "service_tier", None)
        day = day_of(request.context.ports.wall())
        costs: list[tuple[int, Candidate]] = []
        currency: str | None = None
        for one in candidates:
            card = fitness.card(one.target)
            usage = usage_of(card)
            rows = self.prices.get(one.name)
            price = None if rows is None else price_on(rows, day)
            if price is None:
                price = one.price() if one.priced else _of_card(card, day)
            if price is None or price.unpriced(usage, service=service):
                continue
            currency = currency or price.currency
            if price.currency == currency:
                costs.append((price.cost(usage, service=service).nano, one))
        return costs

    def _usage_of(self, request: Request[Any]) -> Callable[[ModelCard | None], Usage] | None:
        """Gives what the request should consume at a model, by the model's card."""
        read = rough_input(request, _COUNTER)
        if read is None or request.operation == "embeddings":
            return read
        most = getattr(request, "max_output_tokens", None)
        length = self.output_tokens if most is None else min(most, self.output_tokens)
        written = Usage(text_output=length * (getattr(request, "n", None) or 1))
        return lambda card: read(card) + written


def _of_card(card: ModelCard | None, day: dt.date) -> Price | None:
    return None if card is None else card.price(day)
