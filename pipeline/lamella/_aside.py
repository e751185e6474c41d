"""A model that a layer asks something aside: whether it works, and when it is left alone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ClassVar

from lamella._health import PartHealth
from lamella._store_breaker import StoreBreaker

logger = logging.getLogger("lamella")

FAILURES = 5
"""How many times in a row it fails before it is left alone."""


class AskedAside:
    """The base of what is known of one such model. Kept in `ports.stores.local`.

    Args:
        name: What it is called.
        monotonic: The clock, in seconds.
    """

    kind: ClassVar[str]
    """What it is for its layer, as a word: `"embedder"`."""
    rest: ClassVar[float]
    """Seconds between the tries while it fails."""
    without: ClassVar[str]
    """What its layer does while it is left alone."""

    __slots__ = ("_error", "breaker", "monotonic", "name")

    def __init__(self, name: str, monotonic: Callable[[], float]) -> None:
        self.name = name
        self.monotonic = monotonic
        self.breaker = StoreBreaker(failures=FAILURES, rest=self.rest, monotonic=monotonic)
        self._error = ""

    def health(self) -> PartHealth:
        """Whether it answers."""
        seconds = self.breaker.open_for()
        if seconds is None:
            return PartHealth(well=True)
        detail = {self.kind: self.name, "seconds": round(seconds, 1), "error": self._error}
        return PartHealth(well=False, detail=detail)

    def answered(self) -> None:
        """It has."""
        seconds = self.breaker.answered()
        if seconds is not None:
            logger.warning("The %s %r answers again, after %.1f s.", self.kind, self.name, seconds)

    def failed(self, began: float, why: str) -> None:
        """It has not.

        Args:
            began: When it was asked, on the clock.
            why: In words that have nothing of what was asked.
        """
        self._error = why
        if self.breaker.failed(began):
            logger.warning(
                "The %s %r does not answer (%s); until it does, %s.",
                self.kind,
                self.name,
                why,
                self.without,
            )
