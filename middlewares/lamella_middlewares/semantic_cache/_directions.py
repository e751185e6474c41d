"""Where questions point: vectors as they are kept, and how alike two of them are."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from operator import mul
from typing import Final

_TINY: Final = 1e-300  # below which dividing loses digits


def direction(vector: Sequence[float]) -> tuple[float, ...]:
    """A vector of length 1, with coordinates that 32 bits hold.

    Raises:
        ValueError: If it points nowhere.
    """
    size = math.hypot(*vector)
    if not _TINY < size < math.inf:  # nor nan
        most = max(map(abs, vector), default=0.0)
        vector = [value / most for value in vector] if 0.0 < most < math.inf else ()
        size = math.hypot(*vector)
        if not size > 0.0:
            raise ValueError("A vector needs coordinates that are finite numbers, and not all 0.")
    return tuple(array("f", [value / size for value in vector]))


def likeness(one: Sequence[float], other: Sequence[float]) -> float:
    """The cosine of the angle between two directions, to six places; -1 if they have no angle."""
    if len(one) != len(other):
        return -1.0
    cosine: float = sum(map(mul, one, other))
    return max(-1.0, min(1.0, round(cosine, 6)))
