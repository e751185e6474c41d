"""What a request may cost at most, worked out before it is sent.

The request is counted with a margin, the answer is as long as it may be, and each token has the
dearest price that it can have: cached or written to a cache, reasoning or sound, in the larger of
the tiers that the request may fall into.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, Final, TypeAlias

import attrs

from lamella import Opaque, Price, RefusedError, Request, TokenCounter, Usage, provided
from lamella._price_sources import PRICES, Pricing
from lamella._prices import MILLION, STANDARD_SERVICES, Rates
from lamella._target_fitness import Fitness
from lamella._tokens import counted_input, counted_tokens

ASSUMED_OUTPUT: Final = 4096
"""Tokens that an answer is taken to have at most where neither request nor model card bounds it."""

SLACK: Final = 16
"""Tokens besides the margin: what surrounds a conversation on the wire."""

_FREE: Final = frozenset({"token_count", "moderation"})
"""Operations that are not billed by what they produce, or not at all."""

Read: TypeAlias = tuple[int, int, int]
"""Tokens of a request: text, pictures and sound."""

NOTHING_READ: Final[Read] = (0, 0, 0)

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
    """

    margin: float
    assumed: int | None
    in_money: bool
    _ceilings: dict[tuple[int, str | None], tuple[Price, Ceiling | None]] = attrs.field(
        init=False, repr=False, factory=dict[tuple[int, str | None], tuple[Price, "Ceiling | None"]]
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
        if request.operation in _FREE:
            return WorstCase()
        most: int | None = getattr(request, "max_output_tokens", None)
        if most is None and self.assumed is None and hasattr(request, "max_output_tokens"):
            most = await _by_card(request)
        answer, unbounded = self._answer(request, most)
        if not self.in_money:
            text = await counted_tokens(request, counter)
            return WorstCase(self._more(text) + answer, unbounded=unbounded)
        counted = await counted_input(request, counter)
        read = NOTHING_READ if counted is None else self._read(counted)
        tokens = sum(read) + answer
        pricing: Pricing = provided(call_next, PRICES)
        await pricing.ready(request)
        price = pricing.price_of(request)
        if price is None:
            return WorstCase(tokens, None, "", unbounded)
        ceiling = self._ceiling(price, getattr(request, "service_tier", None))
        nano = None if ceiling is None else ceiling.nano(read, answer)
        return WorstCase(tokens, nano, price.currency, unbounded)

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

    def _answer(self, request: Request[Any], most: int | None) -> tuple[int, str]:
        """Tokens of the answer at most, and why it may have more.

        Args:
            request: The request.
            most: What it or its model's card says of one answer; None if neither does.
        """
        if not hasattr(request, "max_output_tokens"):
            counted = request.operation == "embeddings"
            return 0, "" if counted else "what it produces is not counted in tokens"
        why = ""
        tools = getattr(request, "tools", ())
        if tools and any(isinstance(tool, Opaque) for tool in tools):
            why = "the provider's own tools may do any number of things"
        if most is None:
            most = self.assumed
        if most is None:
            most = ASSUMED_OUTPUT
            why = why or "it has no max_output_tokens, and its model's largest is not known"
        return most * (getattr(request, "n", None) or 1), why

    def _ceiling(self, price: Price, service: str | None) -> Ceiling | None:
        """The dearest rates of a price, worked out when it is first seen."""
        known = self._ceilings
        found = known.get((id(price), service))
        if found is None or found[0] is not price:
            if len(known) >= _KNOWN:
                known.clear()
            found = known[id(price), service] = price, ceiling_of(price, service)
        return found[1]


async def _by_card(request: Request[Any]) -> int | None:
    """The largest answer of the model that is about to be asked."""
    fitness = Fitness(request)
    await fitness.ready()
    card = fitness.card(None)
    return None if card is None else card.max_output_tokens


@attrs.frozen
class Dearest:
    """The dearest rates that a request of more than so many tokens may be billed by.

    Attributes:
        above: How many tokens.
        rates: For text, pictures and sound of the request, and for the answer: in nano-units per
            million tokens; None where there is no price.
        factor: On all of them, for the service.
    """

    above: int
    rates: tuple[int | None, int | None, int | None, int | None]
    factor: Fraction | int = 1

    def units(self, counts: tuple[int, int, int, int]) -> Fraction | int | None:
        """Millionths of a nano-unit; None if a part has no price."""
        total = 0
        for count, rate in zip(counts, self.rates, strict=True):
            if count:
                if rate is None:
                    return None
                total += count * rate
        return total * self.factor


@attrs.frozen
class Ceiling:
    """What a request may be billed by at most, under one price.

    Attributes:
        rows: The rates that may hold, each from a size on.
    """

    rows: tuple[Dearest, ...]

    def nano(self, read: Read, written: int) -> int | None:
        """The most that so many tokens may cost, in nano-units, rounded up; None without a price.

        Args:
            read: Tokens of the request: text, pictures and sound.
            written: Tokens of the answer.
        """
        size, most = sum(read), 0
        for row in self.rows:
            if row.above and size <= row.above:
                continue
            units = row.units((*read, written))
            if units is None:
                return None
            # Not divided: a float would not be exact.
            most = max(most, int(-(-units // MILLION)))
        return most


def ceiling_of(price: Price, service: str | None) -> Ceiling | None:
    """The dearest that a price can become; None if a service has none.

    Args:
        price: The model's.
        service: The service that is asked for. The provider may answer with its ordinary one, so
            the dearest of both counts.
    """
    rows = _rows(price, 1)
    word = "priority" if service == "auto" else service
    entry = None if word is None else price.services.get(word)
    if isinstance(entry, Price):
        rows += _rows(entry, 1)
    elif entry is not None:
        rows += _rows(price, entry)
    elif word is not None and service not in STANDARD_SERVICES:
        return None
    return Ceiling(tuple(rows))


def _rows(price: Price, factor: Fraction | int) -> list[Dearest]:
    rows = [Dearest(0, _dearest(price.rates), factor)]
    return rows + [Dearest(tier.above, _dearest(tier.rates), factor) for tier in price.tiers]


def _dearest(rates: Rates) -> tuple[int | None, int | None, int | None, int | None]:
    text = _most(rates.uncached_input, rates.cache_read, *rates.cache_write.values())
    out = _most(rates.text_output, rates.reasoning_output, rates.audio_output, rates.image_output)
    return text, _most(rates.image_input, text), _most(rates.audio_input, text), out


def _most(*rates: int | None) -> int | None:
    known = [rate for rate in rates if rate is not None]
    return max(known) if known else None


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


def refuse_unpriced(why: str, request: Request[Any]) -> RefusedError:
    """The error for a model that cannot be counted in money."""
    provider = request.context.provider
    return RefusedError(
        f"Budget refuses the model {request.model!r} of {provider!r}: {why}.",
        hint="State its price with Cost(prices=...), or send it uncounted with "
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
