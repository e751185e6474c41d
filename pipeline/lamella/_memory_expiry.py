"""When the entries of a memory store expire: a heap that forgets what was removed or renewed."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import Any, Final

_INSTANT: Final = 0
_KEY: Final = 1


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
        self._void(key)
        item = self._items[key] = [instant, key]
        heapq.heappush(self._heap, item)
        self.soonest = min(self.soonest, instant)
        self._tidy()

    def discard(self, key: str) -> None:
        """Let `key` not expire."""
        self._void(key)
        self._tidy()

    def clear(self) -> None:
        """Let nothing expire."""
        self._heap.clear()
        self._items.clear()
        self.soonest = math.inf

    def due(self, now: float, *, most: int | None = None) -> Iterator[str]:
        """Take out the keys whose instant has come, at most `most` of them (None: all)."""
        heap = self._heap
        while heap and heap[0][_INSTANT] <= now and most != 0:
            item = heapq.heappop(heap)
            key: str = item[_KEY]
            self.soonest = heap[0][_INSTANT] if heap else math.inf
            if self._items.get(key) is item:
                del self._items[key]
                if most is not None:
                    most -= 1
                yield key

    def _void(self, key: str) -> None:
        item = self._items.pop(key, None)
        if item is not None:
            item[_KEY] = ""

    def _tidy(self) -> None:
        """Drop what holds no longer, once that is most. Each time is paid for by many changes."""
        heap = self._heap
        if len(heap) > 2 * len(self._items) + 64:
            heap[:] = self._items.values()  # in place: `due` may be under way
            heapq.heapify(heap)
            self.soonest = heap[0][_INSTANT] if heap else math.inf
