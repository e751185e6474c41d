"""One key under a fixed limit, counted in the store for leases."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, cast

from lamella import Dimension, Ending, LimitedError
from lamella._admission import admit, admit_at_once
from lamella._grants import at_once
from lamella._hold_times import HoldTimes
from lamella._lines import SHORTEST
from lamella._waiting_lines import waiting_lines
from lamella_middlewares.concurrency._gate import dated

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella import Context
    from lamella._grants import Grant
    from lamella._lines import Terms
    from lamella._scopes import Scope
    from lamella._stores import Stores


def dimension_of(key: Scope, limit: int) -> Dimension:
    """One place. Another limit of the same key counts apart. The last word names it in messages."""
    return Dimension((*key, str(limit), "attempts in flight"), 1, limit, held=True)


class Fixed:
    """The limit of one key, and for how long its places are held.

    Args:
        prefix: How its key begins.
        parts: The rest of its key.
        limit: How many may be in flight.

    Attributes:
        mark: What a place of it is known by.
    """

    __slots__ = ("_dimensions", "_holds", "_left", "_limit", "mark")

    def __init__(self, prefix: Scope, parts: Scope, limit: int) -> None:
        key = prefix + parts
        self._dimensions = (dimension_of(key, limit),)
        self.mark = (key, limit)
        self._limit = limit
        self._left = limit
        self._holds = HoldTimes()

    def at_once(self, context: Context) -> Visit | None:
        """A place, where there is one without waiting or asking a store elsewhere."""
        grant = admit_at_once(context, self._dimensions)
        return None if grant is None else Visit(grant, self._holds, context.ports.monotonic)

    async def visit(self, context: Context, terms: Terms, weight: float) -> Visit:
        """A place, once there is one.

        Args:
            context: Of the request.
            terms: How to wait.
            weight: The tenant's share, above 0.

        Raises:
            LimitedError: If there is none in time.
        """
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
        return Visit(grant, self._holds, context.ports.monotonic)

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


class Visit:
    """The callback of an attempt's ending.

    Attributes:
        grant: Its place.
    """

    __slots__ = ("_holds", "_monotonic", "_since", "grant")

    def __init__(self, grant: Grant, holds: HoldTimes, monotonic: Callable[[], float]) -> None:
        self.grant = grant
        self._holds = holds
        self._monotonic = monotonic
        self._since = monotonic()

    def __call__(self, _: Ending) -> Awaitable[None] | None:
        self._holds.add(self._monotonic() - self._since)
        return self.grant.finish(None)
