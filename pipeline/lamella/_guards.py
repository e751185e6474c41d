"""What watches the reads of an answer for their limits in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lamella._errors import LamellaError
    from lamella._events import Event


class Guard(Protocol):
    """Watches the reads of the innermost response for its limits in time."""

    def arm(self) -> None:
        """A read begins."""
        ...

    def disarm(self) -> None:
        """A read has ended without an event."""
        ...

    def saw(self, event: Event) -> None:
        """A read has ended with an event."""
        ...

    def close(self) -> None:
        """The answer has ended."""
        ...

    def error(self) -> LamellaError | None:
        """What limit has passed; None if none has."""
        ...
