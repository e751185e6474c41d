"""The values that secrets have revealed in this process, so that logs can be searched for them.

They are in memory anyway once they are used. What is kept is bounded; the oldest go first, and come
back when they are used again.
"""

from __future__ import annotations

from typing import Final

from lamella._fork_locks import fork_safe_lock

LEAST_LETTERS: Final = 8
"""What is shorter may be a word of any text, and would make holes everywhere."""

MOST_LETTERS: Final = 16_384
"""What is longer is a file, of which nobody logs the whole."""

MOST_VALUES: Final = 1_000


class Revealed:
    """Values in the order in which they were first revealed. Thread-safe."""

    __slots__ = ("_known", "_lock", "_shown")

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._known: dict[str, None] = {}
        self._shown: tuple[str, ...] | None = ()

    def add(self, value: str) -> None:
        """Remember a value that is going to be used."""
        if value in self._known or not LEAST_LETTERS <= len(value) <= MOST_LETTERS:
            return
        with self._lock:
            self._known[value] = None
            if len(self._known) > MOST_VALUES:
                del self._known[next(iter(self._known))]
            self._shown = None

    def all(self) -> tuple[str, ...]:
        """All that are remembered; the same object as long as nothing has changed."""
        shown = self._shown
        if shown is None:
            with self._lock:
                shown = self._shown = tuple(self._known)
        return shown


_revealed = Revealed()

remember = _revealed.add
"""Remember a value that did not come from a `Secret`, such as a token that a login gave."""


def revealed_values() -> tuple[str, ...]:
    """The values, 8 to 16,384 characters each and 1,000 at most, that this process has revealed.

    The tuple is the same object until another value is revealed, so that what is made of it can be
    kept for as long. It is for searching texts before they are written, and for nothing else.
    """
    return _revealed.all()
