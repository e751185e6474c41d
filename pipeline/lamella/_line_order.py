"""Who goes before whom among those who wait for one limit.

Within a tenant and priority the first to come goes first. Between tenants it goes round by weight:
self-clocked fair queueing (Golestani 1994), in which the next ticket of a tenant ends, in virtual
time, at `start + amount / weight`, and the earliest end goes first. A tenant that comes anew starts
at the virtual time of the last who went, so nobody saves up turns by staying away.

Between priorities the first of each compete: a level counts as much as `aging` seconds of waiting.
All grow older at the same pace, so who goes before whom changes only when somebody comes or goes.
"""

from __future__ import annotations

import heapq
import itertools
from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from lamella._loops import Loop, Waiter

_numbers = itertools.count()

_SLACK: Final = 64
"""How many outdated entries a heap may have besides one for each tenant."""


@attrs.define(eq=False)
class Ticket:
    """One who waits for a limit. It stands in one line at a time.

    Attributes:
        tenant: Between whom it is fair; `""` for nobody in particular.
        priority: Higher goes first.
        arrived: The monotonic instant at which it came, in seconds; kept when it changes lines.
        amount: What it wants of the limit that it waits for; 0 or more.
        weight: Its tenant's share, above 0.
    """

    tenant: str = ""
    priority: int = 0
    arrived: float = 0.0
    amount: int = 1
    weight: float = 1.0
    number: int = attrs.field(init=False, factory=_numbers.__next__)
    loop: Loop | None = attrs.field(init=False, default=None, repr=False)
    waiter: Waiter | None = attrs.field(init=False, default=None, repr=False)
    woken: bool = attrs.field(init=False, default=False)
    ousted: bool = attrs.field(init=False, default=False)

    @property
    def seniority(self) -> tuple[float, int]:
        """Sorts by arrival; of those that came at one instant by their making."""
        return (self.arrived, self.number)


class _Tenant:
    """The tickets of one tenant and priority, the oldest first."""

    __slots__ = ("amount", "end", "start", "tickets")

    def __init__(self, start: float) -> None:
        self.start = start
        self.end = start
        self.amount = 0
        self.tickets: list[Ticket] = []


class _Level:
    """The tickets of one priority."""

    __slots__ = ("_heap", "_virtual", "tenants")

    def __init__(self) -> None:
        self._virtual = 0.0
        self.tenants: dict[str, _Tenant] = {}
        # (end, seniority, ticket) of each tenant's first, and entries that no longer hold.
        self._heap: list[tuple[float, tuple[float, int], Ticket]] = []

    def add(self, ticket: Ticket) -> None:
        tenant = self.tenants.get(ticket.tenant)
        if tenant is None:
            tenant = self.tenants[ticket.tenant] = _Tenant(self._virtual)
        insort(tenant.tickets, ticket, key=_seniority)
        tenant.amount += ticket.amount
        if tenant.tickets[0] is ticket:
            self._push(tenant)

    def remove(self, ticket: Ticket, *, entered: bool) -> None:
        tenant = self.tenants[ticket.tenant]
        index = bisect_left(tenant.tickets, ticket.seniority, key=_seniority)
        del tenant.tickets[index]
        tenant.amount -= ticket.amount
        if entered:
            tenant.start += ticket.amount / ticket.weight
            self._virtual = max(self._virtual, tenant.start)
        if not tenant.tickets:
            # Its end is not after the virtual time, or it has taken nothing: nothing to remember.
            del self.tenants[ticket.tenant]
        elif entered or not index:
            self._push(tenant)

    def first(self) -> Ticket:
        while True:
            end, _, ticket = self._heap[0]
            tenant = self.tenants.get(ticket.tenant)
            if tenant is not None and tenant.tickets[0] is ticket and tenant.end == end:
                return ticket
            heapq.heappop(self._heap)

    def longest(self, newcomer: Ticket | None = None) -> str:
        """The tenant with the most tickets for its weight, the newcomer counted in."""
        longest, most = "", -1.0
        for name, tenant in self.tenants.items():
            count = len(tenant.tickets)
            if newcomer is not None and name == newcomer.tenant:
                count += 1
            share = count / tenant.tickets[0].weight
            if share > most:
                longest, most = name, share
        if newcomer is not None and newcomer.tenant not in self.tenants and most < 1:
            longest = newcomer.tenant
        return longest

    def _push(self, tenant: _Tenant) -> None:
        if len(self._heap) > 2 * len(self.tenants) + _SLACK:
            kept = [each for each in self.tenants.values() if each is not tenant]
            self._heap = [_entry(each) for each in kept]
            heapq.heapify(self._heap)
        first = tenant.tickets[0]
        tenant.end = tenant.start + first.amount / first.weight
        heapq.heappush(self._heap, _entry(tenant))


def _seniority(ticket: Ticket) -> tuple[float, int]:
    return (ticket.arrived, ticket.number)


def _entry(tenant: _Tenant) -> tuple[float, tuple[float, int], Ticket]:
    first = tenant.tickets[0]
    return (tenant.end, first.seniority, first)


class Order:
    """The tickets that wait for one limit, in order. Not thread-safe.

    Args:
        aging: Seconds of waiting that weigh as much as one level of priority; above 0.
    """

    __slots__ = ("_aging", "_count", "_levels")

    def __init__(self, aging: float) -> None:
        self._aging = aging
        self._levels: dict[int, _Level] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, ticket: Ticket) -> bool:
        level = self._levels.get(ticket.priority)
        tenant = None if level is None else level.tenants.get(ticket.tenant)
        if tenant is None:
            return False
        index = bisect_left(tenant.tickets, ticket.seniority, key=_seniority)
        return index < len(tenant.tickets) and tenant.tickets[index] is ticket

    def add(self, ticket: Ticket) -> None:
        """Let it stand in the line."""
        level = self._levels.get(ticket.priority)
        if level is None:
            level = self._levels[ticket.priority] = _Level()
        level.add(ticket)
        self._count += 1

    def remove(self, ticket: Ticket, *, entered: bool) -> bool:
        """Take it out, and count its turn as taken if it `entered`; whether it was there."""
        if ticket not in self:
            return False
        level = self._levels[ticket.priority]
        level.remove(ticket, entered=entered)
        if not level.tenants:
            del self._levels[ticket.priority]
        self._count -= 1
        return True

    def first(self) -> Ticket | None:
        """Whose turn it is."""
        found: Ticket | None = None
        best = (0.0, 0)
        for priority, level in self._levels.items():
            ticket = level.first()
            rank = (priority - ticket.arrived / self._aging, priority)
            if found is None or rank > best:
                found, best = ticket, rank
        return found

    def least(self, newcomer: Ticket) -> Ticket:
        """Who has to go if there is no room: the newcomer, or one who stands here.

        It is the newest of the tenant that has the most waiting, in the lowest priority.
        """
        lowest = min(self._levels, default=newcomer.priority)
        if lowest > newcomer.priority or not self._levels:
            return newcomer
        level = self._levels[lowest]
        if lowest < newcomer.priority:
            return level.tenants[level.longest()].tickets[-1]
        tenant = level.tenants.get(level.longest(newcomer))
        if tenant is None:
            return newcomer
        newest = tenant.tickets[-1]
        own = newest.tenant == newcomer.tenant
        return newcomer if own and newcomer.seniority > newest.seniority else newest

    def ahead(self, ticket: Ticket) -> tuple[int, int]:
        """About how many tickets go before it, and what they want together."""
        tickets, amounts = 0.0, 0.0
        for priority, level in self._levels.items():
            if priority == ticket.priority:
                more = _ahead_within(level, ticket)
            else:
                since = ticket.arrived + (priority - ticket.priority) * self._aging
                more = _older(level, since)
            tickets += more[0]
            amounts += more[1]
        return round(tickets), round(amounts)


def _ahead_within(level: _Level, ticket: Ticket) -> tuple[float, float]:
    """Those of the same priority that end earlier in virtual time."""
    own = level.tenants.get(ticket.tenant)
    if own is None:
        return 0.0, 0.0
    index = bisect_left(own.tickets, ticket.seniority, key=_seniority)
    if index == len(own.tickets) - 1:
        before = own.amount - ticket.amount
    else:
        before = sum([each.amount for each in own.tickets[:index]])
    end = own.start + (before + ticket.amount) / ticket.weight
    tickets, amounts = float(index), float(before)
    for tenant in level.tenants.values():
        if tenant is own or tenant.end > end:
            continue
        went = min(tenant.amount, (end - tenant.start) * tenant.tickets[0].weight)
        part = went / tenant.amount if tenant.amount else 1.0
        tickets += part * len(tenant.tickets)
        amounts += went
    return tickets, amounts


def _older(level: _Level, since: float) -> tuple[float, float]:
    """Those of another priority that came before an instant."""
    tickets, amounts = 0.0, 0.0
    for tenant in level.tenants.values():
        count = bisect_left(tenant.tickets, (since, -1), key=_seniority)
        tickets += count
        amounts += tenant.amount * count / len(tenant.tickets)
    return tickets, amounts
