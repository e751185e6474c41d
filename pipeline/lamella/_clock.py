"""The call's own time.

It runs with the monotonic clock and stands still while the consumer of the outermost answer holds
an event: a person who reads slowly must not use up the deadline of the next model turn.
"""

from __future__ import annotations

from collections.abc import Callable


class Clock:
    """Seconds of one call. Instants on it (deadlines) are compared with `now()`.

    Args:
        monotonic: The clock of the ports.
    """

    __slots__ = ("_held", "_held_since", "_monotonic")

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._held = 0.0
        self._held_since: float | None = None

    def now(self) -> float:
        """The instant it is, in seconds. Only differences mean something."""
        if self._held_since is not None:
            return self._held_since - self._held
        return self._monotonic() - self._held

    def hold(self) -> None:
        """Stand still: the consumer has an event in hand."""
        if self._held_since is None:
            self._held_since = self._monotonic()

    def release(self) -> None:
        """Run on: the consumer asks for the next event."""
        if self._held_since is not None:
            self._held += self._monotonic() - self._held_since
            self._held_since = None
