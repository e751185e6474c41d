"""Allowances: how much of what, for whom, in which time; and the limits that they amount to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, cast

import attrs

from lamella import ConfigurationError, Money, Request
from lamella._nothing import NOTHING
from lamella._options import each_of, optional_seconds, refused, span_or_none, whole
from lamella._scopes import Scope, ScopeOf, scope_name, scope_of, scope_words
from lamella._structuring import build
from lamella_middlewares.budget._windows import Window, Zone, window_given

MOST: Final = 2**53
"""What every store counts exactly: nine million dollars in nano-units."""

_FINEST: Final = -9
"""The exponent of the least part of a currency that is counted."""

TOKENS: Final = "tokens"
REQUESTS: Final = "requests"

_FOR_EVER: Final = 10 * 366 * 86_400.0
_OF_A_SESSION: Final = 7 * 86_400.0
_AFTER: Final = 86_400.0
"""Seconds for which the count of a window is kept that is over: its last answers are settled."""


def amount(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
    """Check an amount of money, or None."""
    if value is None:
        return
    try:
        money(value, "USD")
    except ValueError as error:
        raise refused(layer, option, value, str(error)) from None


def money(value: Any, currency: str) -> Money:
    """An amount of money that somebody gives; text and whole numbers are of the currency.

    Raises:
        ValueError: If it is none, negative, or too large to be counted; it says what to give.
    """
    want = "text such as '10.00', or Money; from 0 to 9 million"
    if isinstance(value, float):
        want = "text such as '5.00', since a float is not exact"
    elif isinstance(value, str | Decimal) and _is_too_fine(value):
        want = "nine decimals at most, since money is counted in billionths"
    try:
        given: Any = value
        found = value if isinstance(value, Money) else Money.of(given, currency)
    except (ArithmeticError, TypeError, ValueError):
        raise ValueError(want) from None
    if isinstance(value, bool) or not 0 <= found.nano <= MOST:
        raise ValueError(want)
    return found


def _is_too_fine(value: str | Decimal) -> bool:
    try:
        exponent = Decimal(value).normalize().as_tuple().exponent
    except ArithmeticError:
        return False
    return isinstance(exponent, int) and exponent < _FINEST


def count(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
    """Check a number of tokens or requests, or None."""
    if value is not None:
        whole(0, MOST)(layer, option, value)


def whose(_: object, option: attrs.Attribute[Any], value: Any) -> None:
    """Check for whom it is, or None for all together."""
    if value is not None:
        scope_of("Budget", value, option=option.name)


@attrs.frozen
class Allowance:
    """How much may be used, by whom, and in which time.

    Args:
        amount: Money: text in whole units, such as `"10.00"`, or `Money`. None limits no money; so
            with the others. 0 lets nothing through that costs anything.
        tokens: Tokens of requests and answers together.
        requests: Requests that are sent, each try of one.
        per: For whom is counted: `"tenant"`, `"user"`, `"session"`, `"provider"`, `"model"`,
            `"tag:NAME"`, `"key"` (the tag of that name), several of them, a plain function of the
            request that returns text, or None for all together.
        window: When it starts anew: `"minute"`, `"hour"`, `"day"`, `"week"`, `"month"`, seconds, a
            timedelta, or None for never: a total.
        keep: Of a total: seconds after which it is forgotten, once nobody touches it any more. None
            is ten years, and seven days where it is counted for each session.
    """

    amount: Money | str | int | None = attrs.field(default=None, validator=amount)
    tokens: int | None = attrs.field(default=None, validator=count, kw_only=True)
    requests: int | None = attrs.field(default=None, validator=count, kw_only=True)
    per: Any = attrs.field(default=None, validator=whose, kw_only=True)
    window: str | float | None = attrs.field(default=None, converter=window_given, kw_only=True)
    keep: float | None = attrs.field(
        default=None, converter=optional_seconds, validator=span_or_none, kw_only=True
    )

    def __attrs_post_init__(self) -> None:
        """Refuse one that limits nothing."""
        if self.amount is None and self.tokens is None and self.requests is None:
            raise ConfigurationError(
                "Budget: an allowance without amount, tokens and requests limits nothing.",
                hint='Give it one: Allowance("10.00", per="user", window="day").',
            )
        if self.keep is not None and self.window is not None:
            raise ConfigurationError(
                f"Budget(keep={self.keep!r}) is for totals: a window says itself how long it lasts."
            )


def allowances_of(given: Any) -> tuple[Allowance, ...]:
    """Allowances from what a program or a file gives: one or several, or their tables.

    Raises:
        ConfigurationError: If it is something else.
    """
    items: Any = [given] if isinstance(given, Allowance | Mapping) else given
    if isinstance(given, str) or not hasattr(items, "__iter__"):
        raise ConfigurationError(
            f"Budget(limits={given!r}): give a list of Allowance(...), or of tables."
        )
    return tuple(each_of("limits", items, _allowance))


def _allowance(item: Any) -> Allowance:
    if isinstance(item, Allowance):
        return item
    if isinstance(item, Mapping):
        made: Allowance = build(Allowance, cast("Mapping[str, Any]", item))
        return made
    raise ConfigurationError(
        f"Budget(limits=...) has {item!r}: give Allowance(...), or a table of its options."
    )


def everybody(_: Request[Any]) -> Scope:
    """The scope of what is counted for all together."""
    return ()


class Limit:
    """One thing that is counted.

    Args:
        unit: `"tokens"`, `"requests"`, or a currency.
        capacity: How much there is: nano-units of the currency, or a number.
        allowance: What it is of.
        window: When it starts anew.

    Attributes:
        scope_of: For whom a request counts.
        words: What the parts of that are called.
        identity: Tells it from others; what is counted is counted under it.
        place: Tells it from those of other capacity as well, in this process.
        keep: Seconds for which the count is kept after it was touched.
    """

    __slots__ = (
        "capacity", "identity", "keep", "place", "scope_of", "unit", "window", "words",
    )  # fmt: skip

    def __init__(self, unit: str, capacity: int, allowance: Allowance, window: Window) -> None:
        per = allowance.per
        self.unit = unit
        self.capacity = capacity
        self.window = window
        self.scope_of: ScopeOf = everybody if per is None else scope_of("Budget", per, option="per")
        self.words: tuple[str, ...] = () if per is None else scope_words(per)
        name = "" if per is None else scope_name(per)
        self.identity = (name, unit, window.name or "total")
        self.place = ("budget", str(capacity), *self.identity)
        if window.name:
            self.keep = window.length + _AFTER
        else:
            idle = _OF_A_SESSION if "session" in self.words else _FOR_EVER
            self.keep = allowance.keep or idle

    @property
    def in_money(self) -> bool:
        """Whether it counts money."""
        return self.unit not in {TOKENS, REQUESTS}

    def shown(self, amount: int) -> str:
        """An amount of it, for people."""
        if self.in_money:
            return str(Money(amount, self.unit))
        return f"{amount:,} {self.unit if amount != 1 else self.unit[:-1]}"

    def value(self, amount: int) -> Money | int:
        """An amount of it."""
        return Money(amount, self.unit) if self.in_money else amount

    @property
    def whose(self) -> str:
        """For whom and when, as the rest of a sentence: ` per user and day`."""
        words = [*self.words, *([self.window.name] if self.window.name else [])]
        return f" per {' and '.join(words)}" if words else ""

    def scope(self, values: Scope) -> Mapping[str, str]:
        """Whose count it is, by the names of the parts."""
        return dict(zip(self.words, values, strict=True)) if values else NOTHING


def limits_of(
    allowances: Iterable[Allowance], currency: str, zone: Zone, zone_name: str
) -> tuple[Limit, ...]:
    """The limits that allowances amount to.

    Raises:
        ConfigurationError: If two are of the same thing.
    """
    found: list[Limit] = []
    for each in allowances:
        window = Window(each.window, zone, zone_name)
        if each.amount is not None:
            sum_of = money(each.amount, currency)
            found.append(Limit(sum_of.currency, sum_of.nano, each, window))
        if each.tokens is not None:
            found.append(Limit(TOKENS, each.tokens, each, window))
        if each.requests is not None:
            found.append(Limit(REQUESTS, each.requests, each, window))
    seen: set[tuple[str, ...]] = set()
    for limit in found:
        if limit.identity in seen:
            raise ConfigurationError(
                f"Budget(...) has two limits in {limit.unit}{limit.whose}: they would be one count "
                "that each request is charged to twice.",
                hint="Leave the larger one out, or name the functions of `per`: two lambdas of one "
                "module are one.",
            )
        seen.add(limit.identity)
    return tuple(found)
