"""The dearest that a price can become: in the largest tier, in whichever service may answer."""

from __future__ import annotations

from fractions import Fraction
from typing import Final, TypeAlias

import attrs

from lamella import Price
from lamella._prices import MILLION, STANDARD_SERVICES, Rates

Read: TypeAlias = tuple[int, int, int]
"""Tokens of a request: text, pictures and sound."""

_NO_WORDS: Final[frozenset[str]] = frozenset()


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

    @property
    def free(self) -> bool:
        """Whether nothing that it states costs anything."""
        return not any(rate for row in self.rows for rate in row.rates)

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


def ceiling_of(
    price: Price, service: str | None, words: frozenset[str] = _NO_WORDS
) -> Ceiling | None:
    """The dearest that a price can become; None if a service has none.

    Args:
        price: The model's.
        service: The service that is asked for. The provider may answer with its ordinary one, so
            the dearest of both counts.
        words: Other words of the request, in small letters: services that are called so count too,
            such as `"us_fast"` for a place and a speed.
    """
    rows = _rows(price, 1)
    word = "priority" if service == "auto" else service
    if word is not None and word not in price.services and service not in STANDARD_SERVICES:
        return None
    said = words if word is None else {word, *words}
    for name, entry in price.services.items():
        if name == word or (words and said.issuperset(name.split("_"))):
            rows += _rows(entry, 1) if isinstance(entry, Price) else _rows(price, entry)
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
