"""What a request may cost at most, worked out before it is sent.

The request is counted with a margin, the answer is as long as it may be, and each token has the
dearest price that it can have; see `_ceilings`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import attrs

from lamella import Opaque, Price, RefusedError, Request, TokenCounter, Usage, provided
from lamella._price_sources import PRICES, Pricing
from lamella._target_fitness import Fitness, cards_are_read, own_card, service_sent
from lamella._tokens import counted_input, counted_tokens
from lamella_middlewares.budget._ceilings import Ceiling, Read, ceiling_of
from lamella_middlewares.budget._extras import NO_EXTRA, Extra, extra_of, referred

ASSUMED_OUTPUT: Final = 4096
"""Tokens that an answer is taken to have at most where neither request nor model card bounds it."""

SLACK: Final = 16
"""Tokens besides the margin: what surrounds a conversation on the wire."""

_FREE: Final = "token_count"
"""The operation that nobody bills."""

_KNOWN: Final = 256


@attrs.frozen
class WorstCase:
    """What a request may use at most.

    Attributes:
        tokens: Of request and answer together.
        nano: What it may cost, in nano-units; None where nobody knows its price.
        currency: Of that.
        unbounded: Why it may be more than that all the same; empty if it cannot.
    """

    tokens: int = 0
    nano: int | None = 0
    currency: str = ""
    unbounded: str = ""


@attrs.frozen(eq=False)
class Estimates:
    """How a layer works out the worst case.

    Attributes:
        margin: Which share is put on top of the tokens that the request is counted to have.
        assumed: Tokens of an answer that the request does not bound; None asks the model card.
        in_money: Whether the price matters.
        in_tokens: Whether the tokens matter besides.
        strict: Whether it matters that there is no bound.
    """

    margin: float
    assumed: int | None
    in_money: bool
    in_tokens: bool = True
    strict: bool = False
    _ceilings: dict[tuple[int, str | None], tuple[Price, Ceiling | None]] = attrs.field(
        init=False, repr=False, factory=dict[tuple[int, str | None], tuple[Price, Ceiling | None]]
    )

    async def worst_case(
        self, request: Request[Any], call_next: Any, counter: TokenCounter
    ) -> WorstCase:
        """The worst case of a request.

        Args:
            request: As it is sent on.
            call_next: The layers inside, one of which knows prices.
            counter: Counts its tokens.

        Raises:
            ConfigurationError: If the cards or the counter's vocabulary cannot be read.
            DeadlineExceeded: If the deadline passes while that is read.
        """
        if request.operation == _FREE or not (self.in_money or self.in_tokens or self.strict):
            return WorstCase()
        extra = extra_of(request.extra) if request.extra else NO_EXTRA
        answer, unbounded = await self._answer(request, extra)
        least = 1 if unbounded else 0  # at least something: 0 would fit where nothing is left
        if not self.in_money:
            text = await counted_tokens(request, counter) if self.in_tokens else 0
            tokens = self._more(text) + answer if text or answer else least
            return WorstCase(tokens, unbounded=unbounded)
        counted = await counted_input(request, counter)
        pricing: Pricing = provided(call_next, PRICES)
        await pricing.ready(request)
        price = pricing.price_of(request)
        ceiling = None if price is None else self._ceiling(price, request, extra)
        currency = "" if price is None else price.currency
        if counted is None:
            free = ceiling is not None and ceiling.free
            if request.operation == "moderation" and (price is None or free):
                return WorstCase()  # whether it must have a price is for `Cost` to say
            nano = None if ceiling is None else int(not free)
            return WorstCase(least, nano, currency, unbounded)
        read = self._read(counted)
        nano = None if ceiling is None else ceiling.nano(read, answer)
        return WorstCase(sum(read) + answer, nano, currency, unbounded)

    def _read(self, counted: Usage) -> Read:
        more = 1 + self.margin
        image, audio = counted.image_input, counted.audio_input
        return (
            self._more(counted.uncached_input),
            math.ceil(image * more) if image else 0,
            math.ceil(audio * more) if audio else 0,
        )

    def _more(self, tokens: int) -> int:
        return math.ceil(tokens * (1 + self.margin)) + SLACK if self.margin else tokens

    async def _answer(self, request: Request[Any], extra: Extra) -> tuple[int, str]:
        """Tokens of the answer at most, and why there may be more, here or in the request."""
        if not hasattr(request, "max_output_tokens"):
            bounded = request.operation in {"embeddings", "moderation"}
            return 0, "" if bounded else "what it produces is not counted in tokens"
        why = extra.unbounded
        tools = getattr(request, "tools", ())
        if tools and any(isinstance(tool, Opaque) for tool in tools):
            why = why or "the provider's own tools may do any number of things"
        if self.strict:
            why = why or referred(request)
        stated: int | None = getattr(request, "max_output_tokens", None)
        most = max([each for each in (stated, extra.most) if each is not None], default=None)
        if most is None:
            most = self.assumed
        if most is None:
            most = await _by_card(request)
        if most is None:
            most = ASSUMED_OUTPUT
            why = why or "it has no max_output_tokens, and its model's largest is not known"
        return most * max(getattr(request, "n", None) or 1, extra.answers), why

    def _ceiling(self, price: Price, request: Request[Any], extra: Extra) -> Ceiling | None:
        """The dearest rates of a price, worked out when it is first seen."""
        service = service_sent(request)
        if extra.words:
            return ceiling_of(price, service, extra.words)
        known = self._ceilings
        found = known.get((id(price), service))
        if found is None or found[0] is not price:
            if len(known) >= _KNOWN:
                known.clear()
            found = known[id(price), service] = price, ceiling_of(price, service)
        return found[1]


async def _by_card(request: Request[Any]) -> int | None:
    """The largest answer of the model that is about to be asked."""
    if cards_are_read():
        card = own_card(request)
    else:
        fitness = Fitness(request)
        await fitness.ready()
        card = fitness.card(None)
    return None if card is None else card.max_output_tokens


def unknown_price(worst: WorstCase, wanted: Iterable[str]) -> str:
    """Why a request cannot be counted in money; empty if it can.

    Args:
        worst: What it may use.
        wanted: The currencies of the limits.
    """
    if worst.nano is None:
        return "it has no price"
    if worst.currency and any(currency != worst.currency for currency in wanted):
        return f"it is billed in {worst.currency}"
    return ""


def refuse_unpriced(why: str, request: Request[Any], worst: WorstCase) -> RefusedError:
    """The error for a model that cannot be counted in money."""
    provider = request.context.provider
    other = f" give the budget in {worst.currency}," if worst.nano is not None else ""
    return RefusedError(
        f"Budget refuses the model {request.model!r} of {provider!r}: {why}.",
        hint=f"State its price with Cost(prices=...),{other} or send it uncounted with "
        'Budget(unknown="note").',
        code="unpriced",
        layer="budget",
        elsewhere=True,
        provider=provider or None,
    )


def refuse_unbounded(why: str, request: Request[Any]) -> RefusedError:
    """The error for a request whose cost has no bound."""
    return RefusedError(
        f"Budget(strict=True) refuses the request: {why}, so nobody knows what it may cost.",
        hint="Give it max_output_tokens.",
        code="unbounded",
        layer="budget",
        elsewhere=True,
        provider=request.context.provider or None,
    )
