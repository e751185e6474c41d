"""Money as integers. A float never touches an amount."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Self

import attrs

from lamella._making import unfrozen

_NANO = 1_000_000_000
_MOST_DIGITS = 40  # "1e999999999" is a number, and would fill the memory
_SIGNS = {"USD": "$", "EUR": "€", "GBP": "£"}


@attrs.frozen(order=False)
class Money:
    """An amount in nano-units of a currency.

    Attributes:
        nano: Billionths of one unit: 1,500,000,000 is 1.5.
        currency: An ISO 4217 code.
    """

    nano: int
    currency: str = "USD"

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.nano, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            msg = f"Money({self.nano!r}): give whole nano-units, or use Money.of('0.25')."
            raise TypeError(msg)

    @classmethod
    def of(cls, amount: str | int | Decimal, currency: str = "USD") -> Self:
        """From whole units: `Money.of("0.25")` is a quarter of a dollar.

        Raises:
            TypeError: If it is a float, which is not exact.
            ValueError: If the amount has more than nine decimals, or is not a finite number.
        """
        if isinstance(amount, float):
            msg = f"Money.of({amount!r}): a float is not exact; pass a string such as '0.25'."
            raise TypeError(msg)
        try:
            exact = Decimal(amount)
        except ArithmeticError:
            msg = f"Money.of({amount!r}): give whole units as text, such as '0.25'."
            raise ValueError(msg) from None
        # Fractions, because Decimal arithmetic rounds to the context's 28 digits.
        sane = exact.is_finite() and abs(exact.adjusted()) < _MOST_DIGITS
        if not sane:
            msg = f"Money.of({amount!r}): that is no amount of money; give one such as '0.25'."
            raise ValueError(msg)
        nano = Fraction(exact) * _NANO
        if nano.denominator != 1:
            msg = (
                f"Money.of({amount!r}): give nine decimals at most; money is counted in billionths."
            )
            raise ValueError(msg)
        return cls(nano.numerator, currency)

    @property
    def amount(self) -> Decimal:
        """The exact amount in whole units."""
        return Decimal(f"{self.nano}E-9")

    def __add__(self, other: Money) -> Money:
        return Money(self.nano + self._same(other).nano, self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(self.nano - self._same(other).nano, self.currency)

    def __mul__(self, factor: int) -> Money:
        return Money(self.nano * factor, self.currency)

    def __lt__(self, other: Money) -> bool:
        return self.nano < self._same(other).nano

    def __le__(self, other: Money) -> bool:
        return self.nano <= self._same(other).nano

    def __gt__(self, other: Money) -> bool:
        return self.nano > self._same(other).nano

    def __ge__(self, other: Money) -> bool:
        return self.nano >= self._same(other).nano

    def __bool__(self) -> bool:
        return self.nano != 0

    def __str__(self) -> str:
        digits = f"{self.amount:f}"
        if "." in digits:
            digits = digits.rstrip("0").rstrip(".")
        sign = _SIGNS.get(self.currency)
        return f"{sign}{digits}" if sign else f"{digits} {self.currency}"

    def _same(self, other: Money) -> Money:
        if other.currency != self.currency:
            msg = f"Cannot mix {self.currency} and {other.currency}: convert one of them first."
            raise ValueError(msg)
        return other


def money(nano: int, currency: str) -> Money:
    """An amount that is known to be whole: each call has some, and this takes a fifth of the time.

    Args:
        nano: Billionths of one unit.
        currency: An ISO 4217 code.
    """
    new = object.__new__(_Money)
    new.nano = nano
    new.currency = currency
    new.__class__ = Money
    return new  # type: ignore[no-any-return]


_Money = unfrozen(Money)
