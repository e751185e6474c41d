"""Figures that forget: what was measured long ago counts less than what was measured now.

Each is changed under the lock of the board that holds it.
"""

from __future__ import annotations


class DecayingMean:
    """A mean in which a value counts half after each half-life.

    It is a weighted mean of all values, so that a burst of them counts as many, which the usual
    moving average over time would take for one.
    """

    __slots__ = ("_at", "_sum", "_weight")

    def __init__(self) -> None:
        self._at = 0.0
        self._sum = 0.0
        self._weight = 0.0

    def add(self, value: float, now: float, half_life: float) -> None:
        """A value has been measured.

        Args:
            value: The value.
            now: The monotonic instant, in seconds.
            half_life: Seconds after which it counts half.
        """
        kept = _kept(now - self._at, half_life)
        self._sum = self._sum * kept + value
        self._weight = self._weight * kept + 1.0
        self._at = now

    def mean(self, now: float, forget: float) -> float | None:
        """The mean; None if nothing was measured for `forget` seconds, or ever."""
        weight = self._weight
        return None if weight == 0.0 or now - self._at > forget else self._sum / weight


class DecayingSum:
    """A sum in which an amount counts half after each half-life."""

    __slots__ = ("_at", "_half_life", "_sum")

    def __init__(self, half_life: float) -> None:
        self._at = 0.0
        self._half_life = half_life
        self._sum = 0.0

    def add(self, amount: float, now: float) -> None:
        """Add an amount at the monotonic instant `now`."""
        self._sum = self.at(now) + amount
        self._at = now

    def at(self, now: float) -> float:
        """What is left of it at an instant."""
        return self._sum * _kept(now - self._at, self._half_life) if self._sum else 0.0


def _kept(elapsed: float, half_life: float) -> float:
    """The share that is left. A clock that was set back counts as standing still."""
    return 0.5 ** (elapsed / half_life) if elapsed > 0 else 1.0
