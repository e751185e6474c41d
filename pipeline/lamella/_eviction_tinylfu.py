"""Eviction by W-TinyLFU: what is new must have been asked for more often than what it displaces.

After G. Einziger, R. Friedman, B. Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", ACM
Transactions on Storage 13(4), 2017. What comes enters a window of 1 % of the room, which is for
what is asked for again at once. What the window gives up stays only if the sketch of frequencies
has it above the next one to go from the main part. That part is a segmented LRU: what was used
again there is protected, in up to 80 % of it. A scan of keys that are asked for once thus passes
through the window and displaces nothing.

Entries are of unequal size: the parts are measured in bytes, and in entries where their number is
limited. Where a large entry needs more room than one makes that goes, the next two are compared.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from lamella._frequency_sketch import FrequencySketch, spot_of
from lamella._memory_eviction import Entry, Room

_WINDOW: Final = 0.01
_PROTECTED: Final = 0.8
_SAMPLE: Final = 10  # uses for each entry that is kept, after which counts are halved
_FEWEST: Final = 64  # entries that the sample is measured by at least


class _Part:
    """Some of the entries, the least recently used first."""

    __slots__ = ("entries", "most", "size", "widest")

    def __init__(self, widest: int, most: int | None) -> None:
        self.entries: OrderedDict[str, Entry] = OrderedDict()
        self.size = 0
        self.widest = widest
        self.most = most

    def append(self, entry: Entry) -> None:
        self.entries[entry.key] = entry
        self.size += entry.size
        entry.place = self

    def remove(self, entry: Entry) -> None:
        del self.entries[entry.key]
        self.size -= entry.size

    def first(self) -> Entry:
        return next(iter(self.entries.values()))

    def over(self, size: int = 0, entries: int = 0) -> bool:
        """Whether it is beyond its share, or would be with so much more."""
        if self.size + size > self.widest:
            return True
        return self.most is not None and len(self.entries) + entries > self.most


class TinyLfu:
    """A window, a part on probation and a protected part.

    Args:
        room: What the store has room for.
    """

    __slots__ = ("_kept", "_probation", "_protected", "_sketch", "_window")

    def __init__(self, room: Room) -> None:
        most = room.entries
        window = None if most is None else max(1, int(most * _WINDOW))
        size = int(room.size * _WINDOW)
        main = room.size - size
        protected = None if most is None or window is None else int((most - window) * _PROTECTED)
        self._window = _Part(size, window)
        self._probation = _Part(main, most)
        self._protected = _Part(int(main * _PROTECTED), protected)
        self._sketch = FrequencySketch(room.most)
        self._kept = 0

    def added(self, entry: Entry, old: Entry | None) -> None:
        """Take it into the window; what that has no place for goes on, as there is room."""
        entry.mark = spot_of(entry.key) if old is None else old.mark
        self._kept += 1
        self._count(entry)
        window = self._window
        window.append(entry)
        while window.over() and len(window.entries) > 1:
            self._move(window.first(), self._probation)

    def used(self, entry: Entry) -> None:
        """Count it; in the main part it is protected from now on."""
        self._count(entry)
        part: _Part = entry.place
        if part is not self._probation:
            part.entries.move_to_end(entry.key)
            return
        protected = self._protected
        self._move(entry, protected)
        while protected.over() and len(protected.entries) > 1:
            self._move(protected.first(), self._probation)

    def removed(self, entry: Entry) -> None:
        """Take it out of its part; what is known of its frequency stays."""
        self._kept -= 1
        part: _Part = entry.place
        part.remove(entry)

    def next_out(self, coming: Entry) -> Entry:
        """The loser of two: the window's oldest, and the main part's next to go."""
        window = self._window
        main = self._probation if self._probation.entries else self._protected
        if not main.entries:
            return window.first()
        if not window.entries or not window.over(coming.size, 1):
            return main.first()
        candidate, victim = window.first(), main.first()
        if self._sketch.count(candidate.mark) <= self._sketch.count(victim.mark):
            return candidate
        self._move(candidate, self._probation)
        return victim

    def _count(self, entry: Entry) -> None:
        sketch = self._sketch
        sketch.add(entry.mark)
        if sketch.counted >= _SAMPLE * max(self._kept, _FEWEST):
            sketch.halve()

    def _move(self, entry: Entry, part: _Part) -> None:
        old: _Part = entry.place
        old.remove(entry)
        part.append(entry)
