"""The lines that somebody stands in, by what they wait for.

A line is there only while it is used, so that limits nobody waits for cost neither memory nor time,
however many there are.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

from lamella._fork_locks import fork_safe_lock
from lamella._lines import Line, Terms

if TYPE_CHECKING:
    from lamella._stores import Dimension, Stores

Key: TypeAlias = tuple[tuple[str, ...], int, float]

_PLACE: Final = ("lamella", "waiting lines")


class WaitingLines:
    """The lines before the limits of one set of stores. Thread-safe.

    Attributes:
        empty: Whether nobody waits for anything.
    """

    __slots__ = ("_lines", "_lock", "_users", "empty")

    def __init__(self) -> None:
        self.empty = True
        self._lock = fork_safe_lock()
        self._lines: dict[Key, Line] = {}
        self._users: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def occupied(self, dimension: Dimension) -> bool:
        """Whether somebody waits for it."""
        line = self._lines.get(_key(dimension))
        return line is not None and line.head() is not None

    def count(self, dimension: Dimension) -> int:
        """How many wait for it."""
        line = self._lines.get(_key(dimension))
        return 0 if line is None else len(line)

    def wake(self, dimensions: Sequence[Dimension]) -> None:
        """Something of them was given back: who waits for it tries again. From any thread."""
        if not self.empty:
            for dimension in dimensions:
                line = self._lines.get(_key(dimension))
                if line is not None:
                    line.wake()

    @contextmanager
    def line(self, dimension: Dimension, terms: Terms) -> Generator[Line, None, None]:
        """The line before a dimension, which is there at least until the block is left."""
        key = _key(dimension)
        with self._lock:
            line = self._lines.get(key)
        if line is None:
            # Its lock is made outside of ours, as the rule for such locks wants it.
            line = Line(max_waiting=terms.max_waiting, aging=terms.aging)
        with self._lock:
            line = self._lines.setdefault(key, line)
            self._users[key] = self._users.get(key, 0) + 1
            self.empty = False
        try:
            yield line
        finally:
            with self._lock:
                self._users[key] -= 1
                if not self._users[key]:
                    del self._users[key], self._lines[key]
                    self.empty = not self._lines


def waiting_lines(stores: Stores) -> WaitingLines:
    """The lines that all of this process who count in these stores share."""
    lines = getattr(stores.leases, "lines", None)
    return lines if type(lines) is WaitingLines else stores.local.get(_PLACE, WaitingLines)


def _key(dimension: Dimension) -> Key:
    # Of what does not flow back all who ask stand in one line, whatever they take its capacity for.
    per = dimension.per
    return (dimension.key, dimension.capacity, per) if per else (dimension.key, 0, per)
