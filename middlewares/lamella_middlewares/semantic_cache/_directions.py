"""Where questions point: vectors as they are kept, and how alike two of them are."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from operator import mul


def direction(vector: Sequence[float]) -> tuple[float, ...]:
    """A vector of length 1, with coordinates that 32 bits hold.

    Raises:
        ValueError: If it points nowhere.
    """
    most = max([abs(value) for value in vector], default=0.0)
    scaled = [value / most for value in vector] if 0.0 < most < math.inf else []
    length = math.sqrt(math.fsum([value * value for value in scaled]))  # cannot overflow
    if not length > 0.0:  # nor nan
        raise ValueError("A vector needs coordinates that are finite numbers, and not all 0.")
    return tuple(array("f", [value / length for value in scaled]))


def likeness(one: Sequence[float], other: Sequence[float]) -> float:
    """The cosine of the angle between two directions, to six places; -1 if they have no angle."""
    if len(one) != len(other):
        return -1.0
    cosine: float = sum(map(mul, one, other))
    return max(-1.0, min(1.0, round(cosine, 6)))
