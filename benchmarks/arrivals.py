"""When calls arrive. Standard library only: the provider and every contender draw the same."""

from __future__ import annotations

import random


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Seconds from the start at which calls begin: a Poisson process of that rate, in order."""
    drawn = random.Random(seed)
    found: list[float] = []
    at = drawn.expovariate(rate)
    while at < seconds:
        found.append(at)
        at += drawn.expovariate(rate)
    return found
