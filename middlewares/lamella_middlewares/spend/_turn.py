"""Which loop is to write, and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import anyio

from lamella._loops import Loop

if TYPE_CHECKING:
    from lamella import Ports

LATE: Final = 1.0
"""After so many seconds beyond its time a loop that was to write is not waited for any more."""


class Turn:
    """A loop's turn to write: first a timer, then a task that goes on until nothing is left."""

    __slots__ = ("due", "loop", "over", "scope", "take_back")

    def __init__(self, loop: Loop, due: float) -> None:
        self.loop = loop
        self.due = due  # by the port's clock: when something is to have happened at the latest
        self.over = False
        self.take_back: Callable[[], object] | None = None
        self.scope: anyio.CancelScope | None = None

    def end(self) -> None:
        """Give the turn up. Call on its own loop."""
        self.over = True
        if self.take_back is not None:
            self.take_back()
        if self.scope is not None:
            self.scope.cancel()

    def lost(self, loop: Loop, ports: Ports) -> bool:
        """Whether another loop should rather do it: this one has ended, or stands still."""
        if self.loop is loop:
            return False
        return self.loop.closed or ports.monotonic() > self.due + LATE
