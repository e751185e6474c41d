"""Objects that the pipelines of one process share: retry budgets, latencies, counts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar, cast

from lamella._fork_locks import fork_safe_lock

T = TypeVar("T")


class LocalObjects:
    """The default of `LocalState`: thread-safe and bounded.

    Args:
        max_objects: How many are kept; at least 1. Beyond that the least recently used is
            forgotten: who holds it goes on with it, who asks again gets a new one.
    """

    def __init__(self, *, max_objects: int) -> None:
        if max_objects < 1:
            raise ValueError(f"LocalObjects: max_objects {max_objects!r} must be at least 1.")
        self._max_objects = max_objects
        self._few = max_objects // 2
        self._lock = fork_safe_lock()
        self._objects: OrderedDict[tuple[str, ...], Any] = OrderedDict()

    def get(self, key: tuple[str, ...], make: Callable[[], T]) -> T:
        """The object under `key`; see `LocalState.get`. `make` runs without any lock held."""
        objects = self._objects
        # So few that none will be forgotten soon: the order in which they were used is not kept.
        if len(objects) <= self._few and (at_hand := objects.get(key)) is not None:
            found: T = at_hand
            return found
        with self._lock:
            if key in objects:
                objects.move_to_end(key)
                return cast("T", objects[key])
        made = make()
        with self._lock:
            # Another thread may have been quicker: then everybody gets its object.
            kept: T = objects.setdefault(key, made)
            objects.move_to_end(key)
            forgotten = objects.popitem(last=False) if len(objects) > self._max_objects else None
        # Dropped outside the lock: its finaliser may come back here.
        del forgotten
        return kept

    def under(self, prefix: tuple[str, ...]) -> dict[tuple[str, ...], Any]:
        """The objects whose keys begin so; see `LocalState.under`."""
        length = len(prefix)
        with self._lock:
            return {key: kept for key, kept in self._objects.items() if key[:length] == prefix}
