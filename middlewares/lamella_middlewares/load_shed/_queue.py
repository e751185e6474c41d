"""Who goes first among the calls that wait for a place, and who has to go without one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lamella import Context, Waiter
    from lamella_middlewares.load_shed._room import Place

AGING: Final = 10.0
"""Seconds of waiting that weigh as much as one level of priority, so that nobody starves."""


class Waiting:
    """One call that waits.

    Attributes:
        call_id: Its id.
        call: The core's record of it.
        tenant: Between whom it is fair.
        priority: Higher goes first.
        arrived: The monotonic instant at which it came, in seconds.
        waiter: Wakes it, once `place` or `shed` is set.
        place: What it was given; None while it has none.
        shed: Why it has to go without; None while nothing says so.
    """

    __slots__ = ("arrived", "call", "call_id", "place", "priority", "shed", "tenant", "waiter")

    def __init__(self, context: Context, arrived: float, waiter: Waiter) -> None:
        self.call_id = context.call_id
        self.call = context.call
        self.tenant = context.tenant or ""
        self.priority = context.priority
        self.arrived = arrived
        self.waiter = waiter
        self.place: Place | None = None
        self.shed: str | None = None

    @property
    def settled(self) -> bool:
        """Whether it has a place, or has to go without."""
        return self.place is not None or self.shed is not None


# The calls of one tenant and priority, oldest first. A dictionary is a list out of whose middle one
# can be taken at once.
_Calls = dict[Waiting, None]


class Queue:
    """The calls that wait: by priority, in turn between tenants. Not thread-safe.

    Attributes:
        count: How many they are.
        newest_first: Whether, of one tenant and priority, the newest goes first.
    """

    __slots__ = ("_levels", "count", "newest_first")

    def __init__(self) -> None:
        self.newest_first = False
        self.count = 0
        self._levels: dict[int, OrderedDict[str, _Calls]] = {}  # the tenant whose turn it is first

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Waiting]:
        for level in self._levels.values():
            for calls in level.values():
                yield from calls

    def add(self, call: Waiting) -> None:
        """Let it wait."""
        level = self._levels.setdefault(call.priority, OrderedDict())
        level.setdefault(call.tenant, {})[call] = None
        self.count += 1

    def discard(self, call: Waiting) -> bool:
        """Take it out; whether it was there."""
        level = self._levels.get(call.priority)
        calls = None if level is None else level.get(call.tenant)
        if level is None or calls is None or call not in calls:
            return False
        del calls[call]
        self.count -= 1
        if not calls:
            del level[call.tenant]
            if not level:
                del self._levels[call.priority]
        return True

    def next(self) -> Waiting | None:
        """Take out whose turn it is; it then is the next tenant's."""
        best: Waiting | None = None
        for level in self._levels.values():
            calls = next(iter(level.values()))
            call = next(reversed(calls)) if self.newest_first else next(iter(calls))
            if best is None or _rank(call) > _rank(best):
                best = call
        if best is not None:
            level = self._levels[best.priority]
            level.move_to_end(best.tenant)
            self.discard(best)
        return best

    def ahead(self, newcomer: Waiting) -> int:
        """About how many go before a newcomer."""
        count = 0
        for priority, level in self._levels.items():
            if priority > newcomer.priority:
                count += sum([len(calls) for calls in level.values()])
            elif priority == newcomer.priority:
                own = 0 if self.newest_first else len(level.get(newcomer.tenant, ()))
                others = [calls for tenant, calls in level.items() if tenant != newcomer.tenant]
                count += own + sum([min(len(calls), own + 1) for calls in others])
        return count

    def least(self, newcomer: Waiting) -> Waiting:
        """Who has to go where only so many may wait: the newcomer, or one who waits.

        It is the newest of the tenant that has the most waiting, in the lowest priority.
        """
        lowest = min(self._levels, default=newcomer.priority)
        if lowest > newcomer.priority or not self._levels:
            return newcomer
        level = self._levels[lowest]
        tenant = max(level, key=lambda name: len(level[name]))
        if lowest == newcomer.priority:
            own = len(level.get(newcomer.tenant, ())) + 1
            if own >= len(level[tenant]):
                return newcomer
        return next(reversed(level[tenant]))

    def stale(self, before: float) -> list[Waiting]:
        """The calls of the lowest priority that came before an instant; they stay in."""
        if not self._levels:
            return []
        found: list[Waiting] = []
        for calls in self._levels[min(self._levels)].values():
            for call in calls:
                if call.arrived >= before:
                    break
                found.append(call)
        return found


def _rank(call: Waiting) -> tuple[float, int]:
    # All grow older at the same pace, so the order of two does not change while they wait.
    return (call.priority - call.arrived / AGING, call.priority)
