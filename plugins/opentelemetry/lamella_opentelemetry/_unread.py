"""Which notes have been counted: those of work that several calls wait for count once.

A flight is a call of its own. Its attempts are seen by whoever began it, and its trace is adopted
by whoever waits for it at the end, so that each of them comes upon the same notes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from lamella._fork_locks import fork_safe_lock

if TYPE_CHECKING:
    from lamella import Note, Trace


class Unread:
    """How far the traces of work of its own have been counted, for one provider. Thread-safe."""

    __slots__ = ("_lock", "_read")

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._read: WeakKeyDictionary[Trace, int] = WeakKeyDictionary()

    def of(self, trace: Trace) -> list[Note]:
        """What has been noted there since this was last asked."""
        if not trace.notes:
            return []
        with self._lock:
            known = self._read.get(trace, 0)
            notes = trace.notes[known:]
            self._read[trace] = known + len(notes)
        return notes

    def of_adopted(self, trace: Trace) -> list[Note]:
        """The same of the traces that this one has adopted, and of theirs."""
        found: list[Note] = []
        for adopted in trace.adopted:
            found += self.of(adopted)
            found += self.of_adopted(adopted)
        return found


_lock = fork_safe_lock()
_unread: WeakKeyDictionary[Any, Unread] = WeakKeyDictionary()


def unread_for(provider: Any) -> Unread:
    """What layers share that send to the same provider."""
    new = Unread()
    try:
        with _lock:
            return _unread.setdefault(provider, new)
    except TypeError:  # nothing can refer to it weakly: then it is counted for each layer
        return new
