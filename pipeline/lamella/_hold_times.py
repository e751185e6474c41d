"""For how long places are held, and what that says of a wait for one."""

from __future__ import annotations

from typing import Final

SMOOTHING: Final = 0.1
"""How much the latest time counts: about the last twenty matter."""


class HoldTimes:
    """The smoothed time for which a place under one limit is held.

    Shared by threads without a lock: of two that add at once one may go unheard.

    Attributes:
        seconds: The smoothed time; None while nobody has given a place back.
    """

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds: float | None = None

    def add(self, seconds: float) -> None:
        """A place has been given back after so many seconds."""
        known = self.seconds
        self.seconds = seconds if known is None else known + (seconds - known) * SMOOTHING

    def until(self, places: int, limit: int) -> float | None:
        """Seconds until so many of `limit` places have been given back; None if nobody knows.

        Those inside began at different times, so a place comes free every `seconds` / `limit`.
        """
        known = self.seconds
        return None if known is None else known * places / limit
