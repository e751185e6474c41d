"""How long to wait before the next try."""

from __future__ import annotations

import math
from random import Random  # noqa: TID251 - the type of the random port
from typing import Literal, TypeAlias

Strategy: TypeAlias = Literal["exponential", "linear", "fibonacci", "constant"]
Jitter: TypeAlias = Literal["full", "equal", "none"]

HINT_JITTER = 0.1
"""A server's hint is never undercut; it is exceeded by up to this part, so that clients spread."""


def backoff(
    strategy: Strategy, number: int, *, base: float, multiplier: float, cap: float
) -> float:
    """The wait before the retry `number`, from 1, without chance.

    Args:
        strategy: `exponential` is base x multiplier^(n-1); `linear` is base + (n-1) x multiplier x
            base; `fibonacci` is base x 1, 2, 3, 5, 8 ...; `constant` is base.
        number: Which retry.
        base: The first wait, in seconds.
        multiplier: See `strategy`; the last two do not use it.
        cap: The longest wait, in seconds.
    """
    try:
        factor = _factor(strategy, number, multiplier)
    except OverflowError:
        factor = math.inf
    return min(base * factor, cap)


def _factor(strategy: Strategy, number: int, multiplier: float) -> float:
    if strategy == "exponential":
        return multiplier ** (number - 1)
    if strategy == "linear":
        return 1 + (number - 1) * multiplier
    if strategy == "constant":
        return 1
    this, following = 1, 2
    for _ in range(number - 1):
        this, following = following, this + following
    return float(this)


def jittered(wait: float, jitter: Jitter, random: Random) -> float:
    """The wait with chance in it, so that those who failed together do not come back together.

    Args:
        wait: Seconds.
        jitter: `full` is anything from 0 to the wait; `equal` keeps half of it; `none` all.
        random: The source of chance.
    """
    if jitter == "full":
        return wait * random.random()
    if jitter == "equal":
        return wait / 2 + wait / 2 * random.random()
    return wait


def obeying(wait: float, hint: float | None, room: float, random: Random) -> float:
    """A wait that never undercuts the server's hint.

    Args:
        wait: Our own backoff, in seconds.
        hint: The server's, in seconds.
        room: What the deadline and the longest wait leave. Where the hint fits in, the chance added
            to it and our own backoff give way.
        random: The source of chance.
    """
    if hint is None:
        return wait
    wanted = max(wait, hint * (1 + HINT_JITTER * random.random()))
    return wanted if wanted <= room else max(hint, room)
