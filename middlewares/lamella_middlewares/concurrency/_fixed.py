"""One key under a fixed limit, counted in the store for leases."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from lamella import Dimension, Ending, Handler, LimitedError, Request, Response, ending
from lamella._admission import admit
from lamella._grants import at_once
from lamella._held_places import HELD, held, holding
from lamella._hold_times import HoldTimes
from lamella._lines import SHORTEST, Terms
from lamella._waiting_lines import waiting_lines
from lamella_middlewares.concurrency._gate import dated

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella._grants import Grant
    from lamella._scopes import Scope
    from lamella._stores import Stores

R = TypeVar("R", bound=Response)


def dimension_of(key: Scope, limit: int) -> Dimension:
    """One place. Another limit of the same key counts apart. The last word names it in messages."""
    return Dimension((*key, str(limit), "attempts in flight"), 1, limit, held=True)


class Fixed:
    """The limit of one key, and for how long its places are held.

    Args:
        prefix: How its key begins.
        parts: The rest of its key.
        limit: How many may be in flight.
    """

    __slots__ = ("_dimensions", "_holds", "_left", "_limit", "_mark")

    def __init__(self, prefix: Scope, parts: Scope, limit: int) -> None:
        key = prefix + parts
        self._dimensions = (dimension_of(key, limit),)
        self._mark = (key, limit)
        self._limit = limit
        self._left = limit
        self._holds = HoldTimes()

    async def pass_on(
        self, request: Request[R], call_next: Handler, terms: Terms, weight: float
    ) -> R:
        """Send the request on once there is a place for it.

        Args:
            request: The request.
            call_next: The handler inside.
            terms: How to wait.
            weight: The tenant's share, above 0.
        """
        context = request.context
        if HELD in context.attributes and held(context, self._mark):
            return await call_next(request)  # this very attempt has its place, further out
        try:
            grant = await admit(
                context, self._dimensions, terms, weight=weight, predict=self._predict
            )
        except LimitedError as error:
            ahead = waiting_lines(context.ports.stores).count(self._dimensions[0])
            raise dated(error, self._predict(ahead, 0)) from None
        if grant.waited >= SHORTEST:
            context.note("concurrency", "concurrency.waited", seconds=grant.waited)
        if not grant.immediate and grant.remaining:
            self._left = grant.remaining[0]
        visit = _Visit(grant, self._holds, context.ports.monotonic)
        return await ending(call_next, holding(request, self._mark, grant), visit)

    def gauge(self, stores: Stores) -> tuple[int, int, int]:
        """How many may be in flight, how many are, and how many of this process wait.

        A store that others share is not asked: then it is what this process heard last.
        """
        dimension = self._dimensions[0]
        if getattr(stores.leases, "immediate", False) is True:
            self._left = at_once(cast("Any", stores.leases.level(dimension)))
        return self._limit, self._limit - self._left, waiting_lines(stores).count(dimension)

    def _predict(self, ahead: int, _: int) -> float | None:
        """Seconds until there is room for one who has so many before it; None if unknown."""
        return self._holds.until(ahead + 1, self._limit)


class _Visit:
    """The callback of an attempt's ending."""

    __slots__ = ("_grant", "_holds", "_monotonic", "_since")

    def __init__(self, grant: Grant, holds: HoldTimes, monotonic: Callable[[], float]) -> None:
        self._grant = grant
        self._holds = holds
        self._monotonic = monotonic
        self._since = monotonic()

    def __call__(self, _: Ending) -> Awaitable[None] | None:
        self._holds.add(self._monotonic() - self._since)
        return self._grant.finish(None)
