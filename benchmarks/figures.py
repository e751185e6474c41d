"""What becomes of many turns: medians of what a machine of one speed would have taken.

Standard library only.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.turns import Turn


@dataclass(frozen=True)
class Figure:
    """What a contender needed for each call.

    Attributes:
        name: The contender.
        cpu: Microseconds of CPU time, the median of the rounds.
        wall: Microseconds of wall time (to the first event, for that kind), the median.
        spread: How far the rounds lie apart: the distance of the quartiles over the median.
    """

    name: str
    cpu: float
    wall: float
    spread: float


def figure(name: str, turns: Sequence[Turn], pace: float | None = None) -> Figure:
    """The figure of these rounds.

    Args:
        name: The contender.
        turns: Its rounds.
        pace: What the yardstick takes on the machine, in microseconds: each round is stretched to
            it, since a shared machine is now faster and now slower. None leaves them as they are.
    """
    steady = [_stretched(one, pace) for one in turns]
    cpu = [one[0] for one in steady]
    return Figure(
        name, statistics.median(cpu), statistics.median([one[1] for one in steady]), spread(cpu)
    )


def pace_of(turns: Sequence[Turn]) -> float:
    """The median of the yardsticks."""
    return statistics.median([one.yardstick for one in turns])


def _stretched(one: Turn, pace: float | None) -> tuple[float, float]:
    factor = 1.0 if pace is None else pace / one.yardstick
    return one.cpu * factor, one.wall * factor


def spread(values: Sequence[float]) -> float:
    """The distance of the quartiles over the median; of fewer than four values, of the extremes."""
    middle = statistics.median(values)
    if not middle:
        return 0.0
    if len(values) < 4:
        return (max(values) - min(values)) / middle
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / middle


def percentile(ordered: Sequence[float], part: float) -> float:
    """The value that so many percent do not exceed, of values in order (nearest rank).

    Raises:
        ValueError: If there are no values.
    """
    if not ordered:
        raise ValueError("no values, no percentile")
    rank = -(-len(ordered) * part // 100)
    return ordered[max(0, int(rank) - 1)]
