"""Being admitted by several limits at once: all of them or none, and no overtaking.

Who is refused waits in the line of the limit that refused it, and of no other: a tenant's empty
bucket holds up nobody else. Before it tries at all, a newcomer goes through the line of each of its
limits in which somebody waits already, once; so those who want much are not starved by many who
want little. It keeps its time of arrival from line to line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from lamella._errors import RefusedError
from lamella._grants import (
    Grant,
    LeasedGrant,
    LocalGrant,
    LocalLeases,
    in_background,
    local_leases,
    persist,
)
from lamella._line_order import Ticket
from lamella._lines import Moved, Refused, Stay, Terms
from lamella._memory_leases import Hold, MemoryLeases
from lamella._waiting_lines import waiting_lines

if TYPE_CHECKING:
    from lamella._context import Context
    from lamella._stores import Dimension, Lease

Gate: TypeAlias = Callable[[Callable[[], float]], float]

_LEGIBLE: Final = 10**15

SAFETY_POLL: Final = 1.0
"""Every how many seconds the first in a line asks a store of this process: it is woken when a grant
ends, but not when a lease expires."""


async def admit(
    context: Context,
    dimensions: Sequence[Dimension],
    terms: Terms,
    *,
    weight: float = 1.0,
    gate: Gate | None = None,
    predict: Callable[[int, int], float | None] | None = None,
) -> Grant:
    """Reserve all dimensions, waiting for one's turn if need be.

    Args:
        context: Of the request. Fairness is between its tenants, by its priority.
        dimensions: What to reserve; at least one. The last word of each key names it in messages.
        terms: How to wait, and how to say no.
        weight: The tenant's share while several wait; above 0.
        gate: Seconds for which nobody may be admitted, whatever the store says; 0 for none. A plain
            function of the clock; those who wait for it stand in the line of the first dimension.
        predict: As for `Line.enter`, for dimensions of which nothing flows back by itself.

    Returns:
        The grant, which has to be ended by `finish`.

    Raises:
        LimitedError: If there is no room in time; nothing is reserved then.
        DeadlineExceeded: If the deadline passes in the line.
        ClosedError: If the pipeline closes meanwhile.
        Exception: What the store raises.
    """
    wanted = tuple(dimensions)
    found = admit_at_once(context, wanted, gate)
    if found is not None:
        return found
    leases = context.ports.stores.leases
    local = leases if type(leases) is MemoryLeases else local_leases(leases)
    return await _Seeker(context, wanted, terms, local, gate).seek(weight, predict)


def admit_at_once(
    context: Context, dimensions: tuple[Dimension, ...], gate: Gate | None = None
) -> LocalGrant | None:
    """Reserve all dimensions where nothing has to be waited for: what `admit` would give then.

    Args:
        context: Of the request.
        dimensions: What to reserve; at least one.
        gate: As for `admit`.

    Returns:
        The grant, which has to be ended by `finish`; None if it takes `admit` to have one, or to
        be refused.
    """
    leases = context.ports.stores.leases
    local = leases if type(leases) is MemoryLeases else local_leases(leases)
    if local is None or not local.lines.empty:
        return None
    if gate is not None and gate(context.ports.monotonic) > 0:
        return None
    found = local.hold(dimensions, context.call.loop)
    return LocalGrant(local, found) if type(found) is Hold else None


async def admit_now(
    context: Context, dimensions: Sequence[Dimension], terms: Terms
) -> Grant | Lease:
    """Reserve all dimensions at once, or none: for who stands in no line.

    Args:
        context: Of the request.
        dimensions: What to reserve; at least one.
        terms: How long the reservation is kept.

    Returns:
        The grant, which has to be ended by `finish`; or the store's refusal.

    Raises:
        Exception: What the store raises.
    """
    leases, wanted = context.ports.stores.leases, tuple(dimensions)
    local = leases if type(leases) is MemoryLeases else local_leases(leases)
    if local is not None:
        found = local.hold(wanted, context.call.loop)
        return LocalGrant(local, found) if isinstance(found, Hold) else found
    return await _Seeker(context, wanted, terms, None, None).ask()


class _Seeker:
    """One request on its way to its grant."""

    __slots__ = (
        "_arrived", "_context", "_dimensions", "_gate", "_leases", "_lines", "_local", "_passed",
        "_predict", "_shared", "_terms",
    )  # fmt: skip

    def __init__(
        self,
        context: Context,
        dimensions: tuple[Dimension, ...],
        terms: Terms,
        local: LocalLeases | None,
        gate: Gate | None,
    ) -> None:
        ports = context.ports
        self._context = context
        self._dimensions = dimensions
        self._terms = terms
        self._gate = gate
        self._leases = ports.stores.leases
        self._lines = waiting_lines(ports.stores)
        self._arrived = ports.monotonic()
        self._local = local
        self._shared: LeasedGrant | None = None
        if local is None:
            self._shared = LeasedGrant(context, terms, self._lines, ports.new_id(), dimensions)
        self._passed: set[int] = set()
        self._predict: Callable[[int, int], float | None] | None = None

    async def seek(
        self, weight: float, predict: Callable[[int, int], float | None] | None
    ) -> Grant:
        """Reserve at once, or wait for it."""
        self._predict = predict
        index = None if self._lines.empty else self.busy()
        if index is None:
            found = await self.reserve()
            if isinstance(found, Grant):
                return found
        else:
            found = Moved(index, self._too_much())
        return await self.queue(found, weight)

    def _too_much(self) -> Refused | None:
        """Why it is not to wait at all: it wants more than there ever is."""
        for dimension in self._dimensions:
            if dimension.amount > dimension.capacity:
                return _never(dimension)
        return None

    def busy(self) -> int | None:
        """A dimension in whose line others wait, and that it has not been through yet."""
        for index, dimension in enumerate(self._dimensions):
            wanted = dimension.amount and index not in self._passed
            if wanted and self._lines.occupied(dimension):
                return index
        return None

    async def queue(self, moved: Moved, weight: float) -> Grant:
        """Go from line to line to the grant."""
        context, found = self._context, moved
        # One for all lines, so that it keeps its place among those of its age.
        ticket = Ticket(context.tenant or "", context.priority, self._arrived, weight=weight)
        while True:
            result = await self._stand(found, ticket)
            if isinstance(result, Grant):
                return result
            found = result

    async def _stand(self, moved: Moved, ticket: Ticket) -> Grant | Moved:
        index = moved.to
        dimension = self._dimensions[index]
        ticket.amount = dimension.amount
        self._passed.add(index)

        async def attempt() -> Grant | Moved | Refused:
            other = self.busy()
            if other is not None:
                return Moved(other)
            found = await self.reserve()
            if isinstance(found, Moved) and found.to == index and found.refused is not None:
                return found.refused
            return found

        with self._lines.line(dimension, self._terms) as line:
            predict = self._predict
            if dimension.per:
                predict = None if line.head() is None else await self._prediction(dimension)
            stay = Stay(self._context, ticket, self._terms, predict)
            return await line.wait(stay, attempt, moved.refused)

    async def _prediction(self, dimension: Dimension) -> Callable[[int, int], float] | None:
        """How long it takes until what those ahead want, and this one, has flowed back."""
        context = self._context
        bounded = self._terms.patience(context) is not None or context.deadline is not None
        if not bounded or not dimension.capacity:
            return None
        level = await self._leases.level(dimension) - dimension.amount
        pause = self._closed()
        each = dimension.per / dimension.capacity
        return lambda _, amounts: max(pause, (amounts - level) * each, 0.0)

    async def reserve(self) -> Grant | Moved:
        """Try once; where it is refused, which line to stand in."""
        closed = self._closed()
        if closed > 0:
            return Moved(
                0, Refused(closed, why="the provider has asked for a pause", limit="pause")
            )
        found = await self.ask()
        if isinstance(found, Grant):
            found.waited = self._context.ports.monotonic() - self._arrived if self._passed else 0.0
            return found
        dimension = found.refused or self._dimensions[0]
        return Moved(self._dimensions.index(dimension), self._refused(dimension, found))

    def _closed(self) -> float:
        """Seconds for which nobody is admitted."""
        return 0.0 if self._gate is None else self._gate(self._context.ports.monotonic)

    async def ask(self) -> Grant | Lease:
        """The grant, or the store's refusal."""
        if self._local is not None:
            found = self._local.hold(self._dimensions, self._context.call.loop)
            return LocalGrant(self._local, found) if isinstance(found, Hold) else found
        grant = self._shared
        assert grant is not None  # noqa: S101 - there is one where the store is not local
        lease = await self._reserve_shared(grant)
        if not lease.granted:
            return lease
        grant.granted(lease.remaining)
        return grant

    async def _reserve_shared(self, grant: LeasedGrant) -> Lease:
        """Reserve where a reply may be lost: then nobody knows, and the lease is given back."""
        known = grant.immediate
        try:
            lease = await self._leases.reserve(
                grant.lease_id, self._dimensions, ttl=self._terms.ttl
            )
            known = True
            return lease
        except RefusedError:
            known = True  # the store's guard says no, and looks after what it may have reserved
            raise
        finally:
            if not known:
                in_background(self._context, self._terms, self._undo, grant.lease_id)

    async def _undo(self, lease_id: str) -> None:
        leases = self._leases
        await persist(self._context, self._terms, lambda: leases.refund(lease_id))
        self._lines.wake(self._dimensions)

    def _refused(self, dimension: Dimension, lease: Lease) -> Refused:
        capacity, word = dimension.capacity, dimension.key[-1]
        if dimension.amount > capacity:
            return _never(dimension)
        span = f" in {dimension.per:g} s" if dimension.per else ""
        near = self._shared is None or self._shared.immediate
        return Refused(
            lease.retry_after,
            why=f"the limit of {capacity} {word}{span} is reached",
            poll=SAFETY_POLL if near else self._terms.poll,
            limit=word,
        )


def _never(dimension: Dimension) -> Refused:
    word, amount = dimension.key[-1], dimension.amount
    wants = amount if amount <= _LEGIBLE else "far more"  # a caller may ask for any number
    return Refused(
        never=True,
        why=f"it wants {wants} {word}, and the limit is {dimension.capacity}",
        hint="Ask for less at a time, or raise the limit.",
        limit=word,
    )
