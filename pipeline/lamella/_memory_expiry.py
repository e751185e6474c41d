"""When the entries of a memory store expire: a heap that forgets what was removed or renewed."""

from __future__ import annotations

import heapq
import math
from typing import Any, Final

_INSTANT: Final = 0
_KEY: Final = 1
_SLACK: Final = 64


class Expiries:
    """Instants by key, the earliest first. Not thread-safe: its store's lock covers it.

    Attributes:
        soonest: An instant before which none expires; infinite if none does.
    """

    __slots__ = ("_heap", "_items", "soonest")

    def __init__(self) -> None:
        self.soonest = math.inf
        # An instant and a key. Where the instant holds no longer, the text of the key is let go at
        # once: it may be long, and nobody counts it.
        self._heap: list[list[Any]] = []
        self._items: dict[str, list[Any]] = {}

    def set(self, key: str, instant: float) -> None:
        """Let `key` expire at `instant` and at no other."""
        items, heap = self._items, self._heap
        old = items.get(key)
        if old is not None:
            old[_KEY] = ""
        item = items[key] = [instant, key]
        heapq.heappush(heap, item)
        self.soonest = min(self.soonest, instant)
        if len(heap) > 2 * len(items) + _SLACK:
            self._tidy()

    def discard(self, key: str) -> None:
        """Let `key` not expire."""
        item = self._items.pop(key, None)
        if item is not None:
            item[_KEY] = ""
            if len(self._heap) > 2 * len(self._items) + _SLACK:
                self._tidy()

    def clear(self) -> None:
        """Let nothing expire."""
        self._heap.clear()
        self._items.clear()
        self.soonest = math.inf

    def due(self, now: float, *, most: int | None = None) -> list[str]:
        """Take out the keys whose instant has come, at most `most` of them (None: all)."""
        heap, items = self._heap, self._items
        found: list[str] = []
        while heap and heap[0][_INSTANT] <= now and len(found) != most:
            item = heapq.heappop(heap)
            key: str = item[_KEY]
            if items.get(key) is item:
                del items[key]
                found.append(key)
        self.soonest = heap[0][_INSTANT] if heap else math.inf
        return found

    def _tidy(self) -> None:
        """Drop what holds no longer, once that is most. Each time is paid for by many changes."""
        heap = self._heap = list(self._items.values())
        heapq.heapify(heap)
        self.soonest = heap[0][_INSTANT] if heap else math.inf
