"""When the entries of a memory store expire: a heap that forgets what was removed or renewed."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator


class Expiries:
    """Instants by key, the earliest first. Not thread-safe: its store's lock covers it.

    Attributes:
        soonest: An instant before which none expires; infinite if none does.
    """

    __slots__ = ("_heap", "_instants", "soonest")

    def __init__(self) -> None:
        self.soonest = math.inf
        self._heap: list[tuple[float, str]] = []
        self._instants: dict[str, float] = {}

    def set(self, key: str, instant: float) -> None:
        """Let `key` expire at `instant` and at no other."""
        self._instants[key] = instant
        heapq.heappush(self._heap, (instant, key))
        self.soonest = min(self.soonest, instant)
        if len(self._heap) > 2 * len(self._instants) + 64:
            # Mostly instants that hold no longer. Each rebuild is paid for by as many changes.
            self._heap = [(instant, key) for key, instant in self._instants.items()]
            heapq.heapify(self._heap)
            self.soonest = self._heap[0][0]

    def discard(self, key: str) -> None:
        """Let `key` not expire."""
        self._instants.pop(key, None)

    def clear(self) -> None:
        """Let nothing expire."""
        self._heap.clear()
        self._instants.clear()
        self.soonest = math.inf

    def due(self, now: float, *, most: int | None = None) -> Iterator[str]:
        """Take out the keys whose instant has come, at most `most` of them (None: all)."""
        heap, instants = self._heap, self._instants
        while heap and heap[0][0] <= now and most != 0:
            instant, key = heapq.heappop(heap)
            self.soonest = heap[0][0] if heap else math.inf
            if instants.get(key) == instant:
                del instants[key]
                if most is not None:
                    most -= 1
                yield key
