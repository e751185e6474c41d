"""What each of several inputs has had of what they consumed and cost together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import attrs

from lamella import Money, Usage

_PICTURE: Final = 1_000
"""Characters that a picture weighs as much as."""


def weights_of(inputs: Sequence[Any]) -> list[int]:
    """How much each input weighs: its characters, roughly, and never nothing."""
    return [_weight(one) for one in inputs]


def _weight(one: Any) -> int:
    if isinstance(one, str):
        return len(one) + 1
    return 1 + sum([len(getattr(part, "text", "")) or _PICTURE for part in one])


def shares(amount: int, weights: Sequence[int]) -> list[int]:
    """The amount in parts, in proportion to the weights; they add up to it exactly."""
    total, before, weighed = sum(weights), 0, 0
    found: list[int] = []
    for weight in weights:
        weighed += weight
        until = amount * weighed // total
        found.append(until - before)
        before = until
    return found


def shares_of_usage(usage: Usage | None, weights: Sequence[int]) -> list[Usage | None]:
    """What each has consumed. Together it is what was counted, so it is no estimate."""
    if usage is None or len(weights) == 1:
        return [usage] * len(weights)
    parts: dict[str, Sequence[Any]] = {"estimated": [usage.estimated] * len(weights)}
    for field in attrs.fields(Usage):
        value: Any = getattr(usage, field.name)
        if isinstance(value, Mapping):
            if value:
                parts[field.name] = _shares_of_counts(cast("Mapping[str, int]", value), weights)
        elif value.__class__ is int and value:
            parts[field.name] = shares(value, weights)
    return [
        Usage(**{name: found[place] for name, found in parts.items()})
        for place in range(len(weights))
    ]


def _shares_of_counts(counts: Mapping[str, int], weights: Sequence[int]) -> list[dict[str, int]]:
    split = {name: shares(count, weights) for name, count in counts.items()}
    return [{name: found[place] for name, found in split.items()} for place in range(len(weights))]


def shares_of_money(money: Money | None, weights: Sequence[int]) -> list[Money | None]:
    """What each has cost."""
    if money is None:
        return [None] * len(weights)
    return [Money(nano, money.currency) for nano in shares(money.nano, weights)]
