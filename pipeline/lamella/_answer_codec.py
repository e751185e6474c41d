"""Answers as bytes: what is kept of one comes back event by event as it was."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from lamella._events import Event
from lamella._money import Money
from lamella._responses import Head
from lamella._usage import Usage


@attrs.frozen
class KeptAnswer:
    """An answer as it is kept.

    Attributes:
        events: What it consists of, ending with `Finish`; pieces in a row of one block are one.
        head: What is known of it besides; without headers and the provider's own bytes.
        operation: The request's operation.
        model: The model that was asked for.
        tenant: Whose it is.
        tags: Words by which it can be purged.
        fresh_for: Seconds from its making for which it is fresh; None for ever.
        cost: What it cost to make; None if nobody knows.
        age: Seconds since it was kept; 0 while it is not.
    """

    events: tuple[Event, ...] = attrs.field(repr=False)
    head: Head
    operation: str
    model: str | None = None
    tenant: str | None = None
    tags: frozenset[str] = frozenset()
    fresh_for: float | None = None
    cost: Money | None = None
    age: float = 0.0

    @property
    def fresh(self) -> bool:
        """Whether it is younger than it is fresh for."""
        return self.fresh_for is None or self.age < self.fresh_for

    @property
    def usage(self) -> Usage | None:
        """What it consumed when it was made."""
        raise NotImplementedError


class UnreadableError(ValueError):
    """Bytes are no answer that was kept here.

    Attributes:
        why: `"corrupt"`, `"foreign"` (not written with this key, or for this place) or `"outdated"`
            (by a version that wrote it otherwise).
    """

    def __init__(self, why: str) -> None:
        super().__init__(f"What was kept is {why}.")
        self.why = why


def encode_answer(answer: KeptAnswer) -> bytes:
    """The bytes of an answer; its age is not among them.

    Raises:
        TypeError: If an event holds what has no form, such as an object in `extra`.
    """
    raise NotImplementedError


def decode_answer(data: bytes, age: float) -> KeptAnswer:
    """The answer that bytes stand for.

    Raises:
        UnreadableError: If they stand for none.
    """
    raise NotImplementedError


def merged(events: Sequence[Event]) -> tuple[Event, ...]:
    """Events such that pieces in a row of one block are one; what they amount to is the same."""
    raise NotImplementedError
