"""What an answer says of its own bill: the class of service it was given, and its cost.

Providers bill the service that they gave, not the one that was asked for: a request for `priority`
may be served as an ordinary one where capacity is short. Some also state the amount itself, in US
dollars: OpenRouter as `usage.cost`, Perplexity as `usage.cost.total_cost`, xAI in ten-billionths as
`usage.cost_in_usd_ticks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import attrs

from lamella._money import Money
from lamella.transports._wire_json import mapping_of

if TYPE_CHECKING:
    from lamella._responses import Head

_NANO: Final = 1_000_000_000
_TICKS: Final = 10_000_000_000
_MOST: Final = 10**9
"""No answer costs as much; a larger number is no amount of dollars."""

_UNDECIDED: Final = frozenset({"", "auto", "unspecified"})
"""Words that say what was asked for, and not yet what was given."""


def served_as(said: object) -> str | None:
    """The class of service that an answer names; None if it names none."""
    if not isinstance(said, str):
        return None
    word = said.strip().lower().removeprefix("service_tier_")
    return None if word in _UNDECIDED else word


def with_service(head: Head, said: object) -> Head:
    """The head with the class of service that a message of the answer names, if it names one."""
    service = served_as(said)
    return head if service in (None, head.service) else attrs.evolve(head, service=service)


def with_cost(head: Head, usage: object) -> Head:
    """The head with the cost that a statement of usage states, if it states one."""
    cost = stated_cost(usage)
    return head if cost in (None, head.cost) else attrs.evolve(head, cost=cost)


def learned_by(decoder: Any) -> Head:
    """What the reader of a stream has learned of the answer so far."""
    learned = getattr(decoder, "learned", None)
    head: Head = decoder.head if learned is None else learned()
    return head


def stated_cost(usage: object) -> Money | None:
    """What a provider says that an answer costs; None if it does not say, or says nothing above 0.

    With a key of one's own at a provider behind OpenRouter, its `cost` is the fee alone: what that
    provider bills is stated beside it, and added.

    Args:
        usage: The `usage` object of an OpenAI-style answer; anything.
    """
    if not isinstance(usage, Mapping):
        return None
    stated: Mapping[str, Any] = usage  # pyright: ignore[reportUnknownVariableType]
    ticks = _amount(stated.get("cost_in_usd_ticks"))
    if ticks is not None:
        return _money(ticks / _TICKS)
    cost = stated.get("cost")
    amount = _amount(cost.get("total_cost") if isinstance(cost, Mapping) else cost)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    if amount is not None and stated.get("is_byok") is True:
        amount += _amount(mapping_of(stated, "cost_details").get("upstream_inference_cost")) or 0
    return None if amount is None else _money(amount)


def _amount(value: object) -> Fraction | None:
    """A number as it was written: the shortest decimal that means the same float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 <= value <= _MOST * _TICKS:  # also what is no number
        return None
    return Fraction(Decimal(repr(value)))


def _money(amount: Fraction) -> Money | None:
    """Rounded half up to the nano-unit; None for nothing, and for what is no amount."""
    if not 0 < amount <= _MOST:
        return None
    scaled = amount * _NANO
    return Money((2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator))
