"""Prices of models and the arithmetic of cost, in integers throughout.

A rate is a whole number of nano-units of a currency *per million tokens*, which holds every price
that providers publish exactly: $2.50 is 2,500,000,000 and $0.003625 is 3,625,000. The cost of a
call is the sum of tokens times rate over the parts of its `Usage`, and one division by a million at
the end. It is rounded once, half up, to the nano-unit: a billionth of a dollar, far below anything
that is invoiced, and the same on every machine. So the costs of parts of a call, added up, differ
from the cost of their sum by less than one nano-unit per call.

A part that was used and has no price is an `UnpricedError`, never nothing. Zero is a price when it
is stated.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from numbers import Rational
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, Self, TypeAlias, cast

import attrs

from lamella._errors import LamellaError
from lamella._money import Money, money
from lamella._usage import Usage

NANO: Final = 1_000_000_000
MILLION: Final = 1_000_000

_DIGITS: Final = 30
"""No price has as many before or behind the point; `1e999999999` would fill the memory."""

STANDARD_SERVICES: Final = frozenset({"standard", "default", "auto", "on_demand"})
"""Words for providers' ordinary service. `auto` in a request may turn out to be another one:
whoever has the answer prices with the word that the answer states."""

ANY_LIFETIME: Final = "*"
"""The key of a cache-write rate that holds for every lifetime without one of its own."""

_CURRENCY: Final = re.compile("[A-Z]{3}")

_PLAIN_PARTS: Final = (
    "uncached_input",
    "cache_read",
    "audio_input",
    "image_input",
    "text_output",
    "reasoning_output",
    "audio_output",
    "image_output",
)
_plain: Final = attrgetter(*_PLAIN_PARTS)
"""Those parts of a usage, or of rates, in one step: there is a usage in every call."""


class UnpricedError(LamellaError, LookupError):
    """Raised when something that was used has no price.

    Attributes:
        parts: The parts of the usage without a price, for example `("audio_input",)`; a service
            without one stands as `service:flex`.
    """

    parts: tuple[str, ...] = ()


def rate(amount: str) -> int:
    """Whole currency units, written as a decimal, in nano-units.

    Args:
        amount: A decimal such as `"2.50"`. Not a float: 0.1 would not be 0.1.

    Raises:
        TypeError: If it is not a string.
        ValueError: If it is not a decimal number, negative, or finer than a nano-unit.
    """
    if not isinstance(cast("object", amount), str):
        raise TypeError(f"A price is a decimal in quotes such as '2.50', not {amount!r}.")
    try:
        exact = Decimal(amount)
    except InvalidOperation:
        raise ValueError(f"{amount!r} is not a decimal number such as '2.50'.") from None
    # Not with Decimal's arithmetic: that rounds to whatever the program's decimal context says.
    bounded = exact.is_finite() and -_DIGITS < exact.adjusted() < _DIGITS
    nano = Fraction(exact) * NANO if bounded else None
    if nano is None or nano < 0 or nano.denominator != 1:
        raise ValueError(
            f"{amount!r} is negative, not finite, finer than a nano-unit, or beyond all prices."
        )
    return nano.numerator


def _whole(_: object, attribute: attrs.Attribute[int | None], value: object) -> None:
    if value is not None and (type(value) is not int or value < 0):
        raise ValueError(f"Rates.{attribute.name} is {value!r}: whole nano-units, 0 or more.")


def _all_whole(_: object, attribute: attrs.Attribute[Mapping[str, int]], value: object) -> None:
    for one in cast("Mapping[str, object]", value).values():
        if type(one) is not int or one < 0:
            raise ValueError(f"Rates.{attribute.name} has {one!r}: whole nano-units, 0 or more.")


def _no_rates() -> dict[str, int]:
    return {}


def _no_services() -> dict[str, Fraction | Price]:
    return {}


def _ordered(tiers: Iterable[Tier]) -> tuple[Tier, ...]:
    return tuple(sorted(tiers, key=lambda tier: tier.above))


def _rate() -> int | None:
    return attrs.field(default=None, validator=_whole)


def _rate_map() -> Mapping[str, int]:
    return attrs.field(factory=_no_rates, hash=False, validator=_all_whole)


@attrs.frozen
class Rates:
    """What each part of a `Usage` costs, in nano-units per million tokens.

    None, or a name that is not there, means *no price*: a call that used the part cannot be priced.
    0 means free.

    Attributes:
        uncached_input: Text tokens of the request that no cache served.
        cache_read: Tokens that the provider's prompt cache served.
        cache_write: Tokens written to it, by lifetime as `Usage.cache_write` has them; under
            `ANY_LIFETIME` the rate of every other lifetime.
        audio_input: Audio tokens of the request.
        image_input: Image tokens of the request.
        text_output: Text tokens of the answer.
        reasoning_output: Reasoning tokens of the answer.
        audio_output: Audio tokens of the answer.
        image_output: Image tokens of the answer.
        tool_units: Hosted tools by name, in nano-units per *unit*: a web search is one.
    """

    uncached_input: int | None = _rate()
    cache_read: int | None = _rate()
    cache_write: Mapping[str, int] = _rate_map()
    audio_input: int | None = _rate()
    image_input: int | None = _rate()
    text_output: int | None = _rate()
    reasoning_output: int | None = _rate()
    audio_output: int | None = _rate()
    image_output: int | None = _rate()
    tool_units: Mapping[str, int] = _rate_map()

    def tokens(self, usage: Usage, unpriced: list[str]) -> int:
        """Tokens times rate, summed: millionths of a nano-unit. Parts without one are appended."""
        total = 0
        price: int | None
        for part, count, price in zip(_PLAIN_PARTS, _plain(usage), _plain(self), strict=True):
            if count:
                if price is None:
                    unpriced.append(part)
                else:
                    total += count * price
        if not usage.cache_write:
            return total
        for lifetime, count in usage.cache_write.items():
            if count:
                price = self.cache_write.get(lifetime, self.cache_write.get(ANY_LIFETIME))
                if price is None:
                    unpriced.append(f"cache_write:{lifetime or 'default'}")
                else:
                    total += count * price
        return total

    def tools(self, usage: Usage, unpriced: list[str]) -> int:
        """Hosted tools, in nano-units. Those without a price are appended to `unpriced`."""
        total = 0
        for name, count in usage.tool_units.items():
            if count:
                price = self.tool_units.get(name)
                if price is None:
                    unpriced.append(f"tool_units:{name}")
                else:
                    total += count * price
        return total


def _right_services(
    price: Price, _: attrs.Attribute[Any], value: Mapping[str, Fraction | Price]
) -> None:
    for name, entry in value.items():
        if name in STANDARD_SERVICES:
            raise ValueError(f"Price.services has {name!r}: that is the ordinary service.")
        if isinstance(entry, Price):
            if entry.currency != price.currency:
                raise ValueError(
                    f"Price.services has {name!r} in {entry.currency}: "
                    f"expected {price.currency}, as the price itself."
                )
        elif not isinstance(cast("object", entry), Rational) or entry < 0:
            raise ValueError(
                f"Price.services has {name!r} with {entry!r}: a Fraction, 0 or more, or a Price."
            )


def _right_currency(_: object, attribute: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str) or not _CURRENCY.fullmatch(value):
        raise ValueError(
            f"Price.{attribute.name} is {value!r}: an ISO 4217 code such as 'USD', in capitals."
        )


def _right_tiers(_: object, attribute: attrs.Attribute[Any], value: tuple[Tier, ...]) -> None:
    bounds = [tier.above for tier in value]
    for bound in dict.fromkeys(bounds):
        if bounds.count(bound) > 1:
            raise ValueError(f"Price.{attribute.name} has several tiers above {bound} tokens.")


@attrs.frozen
class Tier:
    """Other rates for large requests.

    Attributes:
        above: Tokens of the request, all parts together. A request of *more* than this is billed at
            `rates` as a whole; one of exactly this many is not.
        rates: The rates of the whole call.
    """

    above: int = attrs.field(validator=[attrs.validators.instance_of(int), attrs.validators.ge(0)])
    rates: Rates


@attrs.frozen
class Price:
    """One row of a price list.

    Attributes:
        rates: What the ordinary service costs.
        tiers: Rates of large requests, smallest first.
        services: What other services cost, by the provider's word (`"batch"`, `"flex"`,
            `"priority"`): an exact factor on every token part, or a price of its own. Hosted tools
            cost the same in all services that have a factor.
        currency: An ISO 4217 code.
        effective_from: The first day (UTC) on which the row holds; None for ever before.
    """

    rates: Rates
    tiers: tuple[Tier, ...] = attrs.field(default=(), converter=_ordered, validator=_right_tiers)
    services: Mapping[str, Fraction | Price] = attrs.field(
        factory=_no_services, hash=False, validator=_right_services
    )
    currency: str = attrs.field(default="USD", validator=_right_currency)
    effective_from: dt.date | None = None

    @classmethod
    def of(
        cls,
        *,
        currency: str = "USD",
        effective_from: dt.date | None = None,
        services: Mapping[str, str] | None = None,
        **parts: str | Mapping[str, str],
    ) -> Self:
        """A price as a price list states it, in whole units per million tokens.

        `Price.of(input="2.50", output="10", reasoning_output="output")` bills reasoning as output.

        Args:
            currency: An ISO 4217 code.
            effective_from: The first day on which it holds.
            services: Factors by service, such as `{"batch": "1/2"}`.
            parts: Decimals by part, or the name of the part whose price holds; names are those of
                a card file: `input`, `cache_read`, `cache_write`, `output`, `tools` ...

        Raises:
            ValueError: If a part is unknown, or a price is not a decimal in quotes.
        """
        rates, wrong = rates_of(parts)
        if wrong:
            raise ValueError(
                " ".join(f"{key} = {got!r}: expected {want}." for key, got, want in wrong)
            )
        factors = {name: factor(text) for name, text in (services or {}).items()}
        return cls(rates, services=factors, currency=currency, effective_from=effective_from)

    def cost(self, usage: Usage, *, service: str | None = None) -> Money:
        """What `usage` costs, exactly, rounded once, half up, to the nano-unit.

        Args:
            usage: What was consumed and produced.
            service: The service that the provider says it used; None for its ordinary one.

        Raises:
            UnpricedError: If a part that was used, or the service, has no price.
        """
        unpriced: list[str] = []
        numerator, denominator = _units(self, usage, service, unpriced)
        if unpriced:
            raise _unpriced(unpriced)
        return money((2 * numerator + denominator) // (2 * denominator), self.currency)

    def unpriced(self, usage: Usage, *, service: str | None = None) -> tuple[str, ...]:
        """The parts of `usage` that have no price; empty if `cost` would give an amount."""
        unpriced: list[str] = []
        _units(self, usage, service, unpriced)
        return tuple(unpriced)

    def rates_for(self, input_tokens: int) -> Rates:
        """The rates of a request of that size, in the ordinary service."""
        rates = self.rates
        for tier in self.tiers:
            if input_tokens <= tier.above:
                break
            rates = tier.rates
        return rates


def _units(price: Price, usage: Usage, service: str | None, unpriced: list[str]) -> tuple[int, int]:
    """The cost as a fraction of a nano-unit: numerator and denominator."""
    if service is not None and service not in STANDARD_SERVICES:
        entry = price.services.get(service)
        if entry is None:
            unpriced.append(f"service:{service}")
            return 0, 1
        if isinstance(entry, Price):
            return _units(entry, usage, None, unpriced)
        numerator, denominator = entry.numerator, entry.denominator * MILLION
    else:
        numerator, denominator = 1, MILLION
    rates = price.rates_for(usage.input_tokens) if price.tiers else price.rates
    units = rates.tokens(usage, unpriced) * numerator
    if usage.tool_units:
        units += rates.tools(usage, unpriced) * denominator
    return units, denominator


def _unpriced(parts: list[str]) -> UnpricedError:
    error = UnpricedError(
        f"No price for {', '.join(parts)}.",
        hint="State it in a card file of your own; '0' is a price too.",
    )
    error.parts = tuple(parts)
    return error


def scaled(price: Price, by: Fraction) -> Price:
    """The price with every token rate times a factor; hosted tools cost the same.

    Raises:
        ValueError: If a rate is then no whole number of nano-units.
    """
    if by == 1:
        return price
    services = {
        name: scaled(entry, by) if isinstance(entry, Price) else entry
        for name, entry in price.services.items()
    }
    return attrs.evolve(
        price,
        rates=_scaled_rates(price.rates, by),
        tiers=[Tier(tier.above, _scaled_rates(tier.rates, by)) for tier in price.tiers],
        services=services,
    )


def _scaled_rates(rates: Rates, by: Fraction) -> Rates:
    plain: dict[str, Any] = {}
    for part in _PLAIN_PARTS:
        amount: int | None = getattr(rates, part)
        plain[part] = None if amount is None else _times(amount, by)
    writes = {lifetime: _times(amount, by) for lifetime, amount in rates.cache_write.items()}
    return attrs.evolve(rates, cache_write=writes, **plain)


def _times(amount: int, by: Fraction) -> int:
    exact = amount * by
    if exact.denominator != 1:
        raise ValueError(f"{by} times {amount} nano-units is no whole number of nano-units.")
    return exact.numerator


def price_on(prices: Sequence[Price], day: dt.date | None = None) -> Price | None:
    """The row that holds on a day: the one that took effect last, that day included.

    Args:
        prices: The rows of one model.
        day: A day (UTC); None for the newest row.

    Returns:
        None if there is no row, or the first one takes effect after `day`.
    """
    begun = [
        price
        for price in prices
        if day is None or price.effective_from is None or price.effective_from <= day
    ]
    return max(begun, key=lambda price: price.effective_from or dt.date.min, default=None)


def factor(text: object) -> Fraction:
    """An exact factor from `"1/2"`, `"0.5"` or `"2"`.

    Raises:
        ValueError: If it is nothing of the kind, or negative.
    """
    try:
        # Without exponents: `1e999999999` would fill the memory.
        plain = isinstance(text, str) and "e" not in text.lower()
        value = Fraction(text) if isinstance(text, str) and plain else None
    except (ValueError, ZeroDivisionError):
        value = None
    if value is None or value < 0:
        raise ValueError(f"{text!r} is not a factor such as '1/2' or '0.5', in quotes.")
    return value


FILE_PARTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "input": "uncached_input",
        "cache_read": "cache_read",
        "cache_write": "cache_write",
        "audio_input": "audio_input",
        "image_input": "image_input",
        "output": "text_output",
        "reasoning_output": "reasoning_output",
        "audio_output": "audio_output",
        "image_output": "image_output",
        "tools": "tool_units",
    }
)
"""The names of parts in a card file, and the fields of `Rates` they set."""

Wrong: TypeAlias = tuple[str, object, str]
"""What is wrong with one value: its key, what it is, and what was expected."""

_EXPECTED = "a decimal in quotes such as '2.50', or the name of the part whose price holds"


def rates_of(parts: Mapping[str, object]) -> tuple[Rates, list[Wrong]]:
    """Rates from what a price list states, in whole units per million tokens.

    Args:
        parts: By the names of `FILE_PARTS`: a decimal in quotes, or the name of the plain part
            whose price holds (`reasoning_output = "output"`). `cache_write` is one decimal for
            every lifetime or a table of them, where `default` means that none was stated. `tools`
            is a table of whole units per use.

    Returns:
        The rates, and what is wrong with `parts`. What is wrong has no rate.
    """
    wrong: list[Wrong] = []
    fields: dict[str, Any] = {}
    for key, value in parts.items():
        field = FILE_PARTS.get(key)
        if field is None:
            wrong.append((key, value, f"a part of a price: {', '.join(FILE_PARTS)}"))
        elif key in {"cache_write", "tools"} and (table := _table(value)) is not None:
            fields[field] = {
                "" if key == "cache_write" and name == "default" else name: amount
                for name, one in table.items()
                if (amount := _amount(f"{key}.{name}", one, parts, wrong)) is not None
            }
        elif key == "tools":
            wrong.append((key, value, "a table such as { web_search = '0.01' }"))
        elif (amount := _amount(key, value, parts, wrong)) is not None:
            fields[field] = {ANY_LIFETIME: amount} if key == "cache_write" else amount
    return Rates(**fields), wrong


def _table(value: object) -> Mapping[str, object] | None:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else None


def _amount(key: str, value: object, parts: Mapping[str, object], wrong: list[Wrong]) -> int | None:
    other = parts.get(value) if isinstance(value, str) and value in FILE_PARTS else None
    try:
        return rate(cast("str", value if other is None else other))
    except (TypeError, ValueError):
        # What is wrong with the other part is said there.
        if not isinstance(other, str | int | float) or other in FILE_PARTS:
            wrong.append((key, value, _EXPECTED))
        return None
