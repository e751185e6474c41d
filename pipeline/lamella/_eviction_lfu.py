"""Eviction of what is used least often, with dynamic ageing.

Without ageing, what was popular once stays for ever. LFU with dynamic ageing (M. Arlitt, L.
Cherkasova, J. Dilley, R. Friedrich, T. Jin, "Evaluating Content Management Techniques for Web Proxy
Caches", 1999) ranks an entry by its uses plus the age of the cache at its last one, and the age is
the rank of what went last. So whatever comes starts no lower than what is about to go.

Uses count up to `MOST_USES`, so that every rank is at most that far above the age: an operation
takes a bounded number of steps.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from lamella._memory_eviction import Entry

MOST_USES: Final = 255


class LeastOften:
    """The lowest rank goes first, and of equal ones what was not used for longest."""

    __slots__ = ("_age", "_ranks")

    def __init__(self) -> None:
        self._age = 0
        self._ranks: dict[int, OrderedDict[str, Entry]] = {}

    def added(self, entry: Entry, old: Entry | None) -> None:
        """Rank it as used once, or once more than what it replaces."""
        self._rank(entry, 1 if old is None else old.mark + 1)

    def used(self, entry: Entry) -> None:
        """Raise its rank."""
        self.removed(entry)
        self._rank(entry, entry.mark + 1)

    def removed(self, entry: Entry) -> None:
        """Take it out of its rank."""
        rank: int = entry.place
        same = self._ranks[rank]
        del same[entry.key]
        if not same:
            del self._ranks[rank]

    def next_out(self, coming: Entry) -> Entry:
        """The lowest in rank, whose rank becomes the age."""
        while self._age not in self._ranks:  # at most MOST_USES steps: all are within them
            self._age += 1
        return next(iter(self._ranks[self._age].values()))

    def _rank(self, entry: Entry, count: int) -> None:
        entry.mark = min(count, MOST_USES)
        entry.place = rank = self._age + entry.mark
        same = self._ranks.get(rank)
        if same is None:
            same = self._ranks[rank] = OrderedDict()
        same[entry.key] = entry
