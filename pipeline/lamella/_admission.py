"""Being admitted by several limits at once: all of them or none, and no overtaking.

Who is refused waits in the line of the limit that refused it, and of no other: a tenant's empty
bucket holds up nobody else. Before it tries at all, a newcomer goes through the line of each of its
limits in which somebody waits already, once; so those who want much are not starved by many who
want little. It keeps its time of arrival from line to line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from lamella._errors import RefusedError
from lamella._grants import Grant, in_background, persist
from lamella._line_order import Ticket
from lamella._lines import Moved, Refused, Stay, Terms
from lamella._waiting_lines import WaitingLines, waiting_lines

if TYPE_CHECKING:
    from lamella._context import Context
    from lamella._stores import Dimension, Lease

SAFETY_POLL: Final = 1.0
"""Every how many seconds the first in a line asks a store of this process: it is woken when a grant
ends, but not when a lease expires."""


def _open() -> float:
    return 0.0


async def admit(
    context: Context,
    dimensions: Sequence[Dimension],
    terms: Terms,
    *,
    weight: float = 1.0,
    gate: Callable[[], float] = _open,
    predict: Callable[[int, int], float | None] | None = None,
) -> Grant:
    """Reserve all dimensions, waiting for one's turn if need be.

    Args:
        context: Of the request. Fairness is between its tenants, by its priority.
        dimensions: What to reserve; at least one. The last word of each key names it in messages.
        terms: How to wait, and how to say no.
        weight: The tenant's share while several wait; above 0.
        gate: Seconds for which nobody may be admitted, whatever the store says; 0 for none. A plain
            function; those who wait for it stand in the line of the first dimension.
        predict: As for `Line.enter`, for dimensions of which nothing flows back by itself.

    Returns:
        The grant, which has to be ended by `finish`.

    Raises:
        LimitedError: If there is no room in time; nothing is reserved then.
        DeadlineExceeded: If the deadline passes in the line.
        ClosedError: If the pipeline closes meanwhile.
        Exception: What the store raises.
    """
    lines = waiting_lines(context.ports.stores.local)
    seeker = _Seeker(context, tuple(dimensions), terms, lines, gate)
    seeker.predict = predict
    if len(lines):
        index = seeker.busy()
        if index is not None:
            return await seeker.queue(Moved(index), weight)
    found = await seeker.reserve()
    if isinstance(found, Grant):
        return found
    return await seeker.queue(found, weight)


class _Seeker:
    """One request on its way to its grant."""

    __slots__ = (
        "_arrived", "_context", "_dimensions", "_gate", "_grant", "_leases", "_lines", "_passed",
        "_terms", "predict",
    )  # fmt: skip

    def __init__(
        self,
        context: Context,
        dimensions: tuple[Dimension, ...],
        terms: Terms,
        lines: WaitingLines,
        gate: Callable[[], float],
    ) -> None:
        ports = context.ports
        self._context = context
        self._dimensions = dimensions
        self._terms = terms
        self._lines = lines
        self._gate = gate
        self._leases = ports.stores.leases
        self._arrived = ports.monotonic()
        self._grant = Grant(context, terms, lines, ports.new_id(), dimensions)
        self._passed: set[int] = set()
        self.predict: Callable[[int, int], float | None] | None = None

    def busy(self) -> int | None:
        """A dimension in whose line others wait, and that it has not been through yet."""
        for index, dimension in enumerate(self._dimensions):
            if index not in self._passed and self._lines.occupied(dimension):
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
            predict = self.predict
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
        pause, each = self._gate(), dimension.per / dimension.capacity
        return lambda _, amounts: max(pause, (amounts - level) * each, 0.0)

    async def reserve(self) -> Grant | Moved:
        """Try once; where it is refused, which line to stand in."""
        closed = self._gate()
        if closed > 0:
            return Moved(
                0, Refused(closed, why="the provider has asked for a pause", limit="pause")
            )
        if self._grant.immediate:
            lease = await self._leases.reserve(
                self._grant.lease_id, self._dimensions, ttl=self._terms.ttl
            )
        else:
            lease = await self._reserve_shared()
        if lease.granted:
            now = self._context.ports.monotonic()
            self._grant.granted(lease.remaining, now, now - self._arrived if self._passed else 0.0)
            return self._grant
        dimension = lease.refused or self._dimensions[0]
        return Moved(self._dimensions.index(dimension), self._refused(dimension, lease))

    async def _reserve_shared(self) -> Lease:
        """Reserve where a reply may be lost: then nobody knows, and the lease is given back."""
        known = False
        try:
            lease = await self._leases.reserve(
                self._grant.lease_id, self._dimensions, ttl=self._terms.ttl
            )
            known = True
            return lease
        except RefusedError:
            known = True  # the store's guard says no, and looks after what it may have reserved
            raise
        finally:
            if not known:
                in_background(self._context, self._terms, self._undo)

    async def _undo(self) -> None:
        lease_id, leases = self._grant.lease_id, self._leases
        await persist(self._context, self._terms, lambda: leases.refund(lease_id))
        self._lines.wake(self._dimensions)

    def _refused(self, dimension: Dimension, lease: Lease) -> Refused:
        capacity, word = dimension.capacity, dimension.key[-1]
        if dimension.amount > capacity:
            return Refused(
                never=True,
                why=f"it wants {dimension.amount} {word}, and the limit is {capacity}",
                hint="Ask for less at a time, or raise the limit.",
                limit=word,
            )
        span = f" in {dimension.per:g} s" if dimension.per else ""
        poll = SAFETY_POLL if self._grant.immediate else self._terms.poll
        return Refused(
            lease.retry_after,
            why=f"the limit of {capacity} {word}{span} is reached",
            poll=poll,
            limit=word,
        )
