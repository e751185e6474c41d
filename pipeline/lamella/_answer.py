"""What an answer amounts to, whatever was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lamella._usage import Usage


class Answer(Protocol):
    """What the events of an answer amount to; each operation has its own."""

    @property
    def finish_reason(self) -> str | None:
        """Why the model stopped; None if it did not."""
        ...

    @property
    def usage(self) -> Usage | None:
        """What it consumed; None if nobody said."""
        ...

    @property
    def text(self) -> str:
        """Its text; empty for operations that have none."""
        ...
