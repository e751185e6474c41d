"""The limits of a layer, and what a request wants and has used of each."""

from __future__ import annotations

import math
from typing import Any, Final, Literal, TypeAlias

import attrs

from lamella import ConfigurationError, Dimension

Kind: TypeAlias = Literal["requests", "tokens", "input_tokens", "output_tokens", "concurrency"]

DAY: Final = 86_400.0

CONSTANT: Final = frozenset({"requests", "concurrency"})
"""The kinds of which each request wants one."""

STRICT_BURST: Final = 0.1
"""The share of a strict limit that may be used at once, if nobody says: nine tenths still flow."""


@attrs.frozen
class Limit:
    """One limit.

    Attributes:
        kind: What is counted.
        capacity: How much may be out at once.
        per: Seconds in which that flows back; 0 where only the end of a request gives back.
        word: Names it in keys and messages.
    """

    kind: Kind
    capacity: int
    per: float
    word: str

    def dimension(self, prefix: tuple[str, ...]) -> Dimension:
        """What a request wants of it: one, or as many tokens as are yet to be said."""
        amount, held = int(self.kind in CONSTANT), self.kind == "concurrency"
        span = f"{self.capacity}/{self.per:g}"
        return Dimension((*prefix, span, self.word), amount, self.capacity, self.per, held)


@attrs.frozen
class Demand:
    """What a request will probably use.

    Attributes:
        input: Tokens of the request; 0 where it is not counted in tokens.
        output: Tokens of the answer.
        certain: Whether the answer cannot be longer: the request says so.
    """

    input: int = 0
    output: int = 0
    certain: bool = True

    def of(self, limit: Limit) -> int:
        """What it wants of a limit. What is only an estimate never exceeds what can be had."""
        if limit.kind in CONSTANT:
            return 1
        if limit.kind == "input_tokens":
            return self.input
        known = 0 if limit.kind == "output_tokens" else self.input
        total = known + self.output
        if self.certain:
            return total
        return max(known, min(total, limit.capacity))


NO_DEMAND: Final = Demand()
"""Where nothing is counted in tokens."""


def used_of(limit: Limit, read: int, written: int) -> int:
    """What was used of a limit by a request that was sent, with so many tokens in and out."""
    if limit.kind in CONSTANT:
        return 1
    if limit.kind == "input_tokens":
        return read
    return written if limit.kind == "output_tokens" else read + written


def limits_of(layer: Any) -> tuple[Limit, ...]:
    """The limits that the options of a layer amount to.

    Raises:
        ConfigurationError: If there is none.
    """
    attrs.validate(layer)  # attrs itself does so only once all fields are there
    if layer.strict and layer.burst == 1:
        raise ConfigurationError(
            "RateLimit(strict=True, burst=1) would let through a whole limit at once, and then "
            "nothing more.",
            hint="Give a smaller burst: burst=0.1 leaves nine tenths of the limit to flow back.",
        )
    given: tuple[tuple[Kind, int | None, float, str], ...] = (
        ("concurrency", layer.concurrency, 0.0, "requests at a time"),
        ("requests", layer.requests, layer.per, "requests"),
        ("tokens", layer.tokens, layer.per, "tokens"),
        ("input_tokens", layer.input_tokens, layer.per, "input tokens"),
        ("output_tokens", layer.output_tokens, layer.per, "output tokens"),
        ("requests", layer.requests_per_day, DAY, "requests"),
        ("tokens", layer.tokens_per_day, DAY, "tokens"),
    )
    found = tuple(
        [
            _limit(kind, limit, per, word, layer)
            for kind, limit, per, word in given
            if limit is not None
        ]
    )
    if not found:
        raise ConfigurationError(
            "RateLimit() limits nothing.",
            hint="Give it a limit, such as RateLimit(requests=500, tokens=200_000) a minute.",
        )
    return found


def _limit(kind: Kind, limit: int, per: float, word: str, layer: Any) -> Limit:
    if not per:
        return Limit(kind, limit, 0.0, word)
    burst = (STRICT_BURST if layer.strict else 1.0) if layer.burst is None else layer.burst
    capacity = max(1, math.floor(limit * burst))
    # In a span of `per` a bucket lets through what it holds and what flows in.
    flow = max(1, limit - capacity) if layer.strict else limit
    return Limit(kind, capacity, per * capacity / flow, word)
