"""What attempts have consumed and cost together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from lamella._attempts import Attempt, OpenAttempt
from lamella._money import Money
from lamella._outcomes import Outcome
from lamella._usage import Usage

Tried: TypeAlias = Attempt | OpenAttempt
"""An attempt, whether it is under way or on record."""


def usage_of(attempts: Iterable[Tried]) -> Usage:
    """What they consumed, as far as known."""
    total = Usage()
    for attempt in attempts:
        if attempt.usage is not None:
            total += attempt.usage
    return total


def costs_of(attempts: Iterable[Tried]) -> dict[str, Money]:
    """The known costs by currency."""
    sums: dict[str, Money] = {}
    for attempt in attempts:
        cost = attempt.cost
        if cost:  # nothing, in whatever currency, makes no second currency
            known = sums.get(cost.currency)
            sums[cost.currency] = cost if known is None else known + cost
    return sums


def costs_by_layer(attempts: Iterable[Tried]) -> dict[str, dict[str, Money]]:
    """The known costs by the layer that asked for the attempts, and by currency."""
    asked: dict[str, list[Tried]] = {}
    for attempt in attempts:
        asked.setdefault(attempt.asked_by, []).append(attempt)
    return {layer: costs_of(of_it) for layer, of_it in asked.items()}


def cost_words(attempts: Sequence[Tried]) -> str:
    """What they cost, to be read: each currency, and whether that is all. Empty if nobody knows."""
    costs = costs_of(attempts)
    if not costs:
        return "" if (cost := cost_of(attempts)) is None else str(cost)
    said = ", ".join([str(cost) for cost in costs.values()])
    return f"{said}, and attempts at an unknown price" if _unpriced(attempts) else said


def _unpriced(attempts: Iterable[Tried]) -> bool:
    """Whether one may have been billed, and its price is not known."""
    return any(
        attempt.cost is None and attempt.outcome is not Outcome.NOT_SENT for attempt in attempts
    )


def cost_of(attempts: Sequence[Tried]) -> Money | None:
    """What they cost; None if one was billed at an unknown price, or in another currency."""
    if len(attempts) == 1:  # nearly every call
        only = attempts[0]
        if only.cost is None:
            return Money(0) if only.outcome is Outcome.NOT_SENT else None
        return only.cost if only.cost.nano else Money(0)
    if _unpriced(attempts):
        return None
    costs = costs_of(attempts)
    if len(costs) > 1:
        return None
    return next(iter(costs.values()), Money(0))
