"""What is counted under one limit for one scope: what is spent, and what is reserved beside it.

A store counts both together, for what is reserved is not there for others. So as to tell them
apart, what is reserved is counted a second time, and given back as a whole at the end.
"""

from __future__ import annotations

from typing import Final

from lamella import Dimension, LeaseStore
from lamella._scopes import Scope
from lamella_middlewares.budget._allowances import MOST, Limit
from lamella_middlewares.budget._windows import Span

NAME: Final = "budget"

UNDER_WAY: Final = "under way"
TOLD: Final = "told"


class Account:
    """The count of one limit for one scope in one window.

    Args:
        namespace: Where it is counted.
        limit: What is counted.
        values: For whom.
        span: The window.
        capacity: How much there is.

    Attributes:
        limit: The same.
        values: The same.
        span: The same.
        capacity: The same.
        both: What is spent and reserved together, as a dimension.
        under_way: What is reserved.
        told: The thresholds of which this process knows that they have been told.
        seen: When it was last asked for, in seconds since the epoch by the store's clock.
    """

    __slots__ = ("both", "capacity", "limit", "seen", "span", "told", "under_way", "values")

    def __init__(
        self, namespace: str, limit: Limit, values: Scope, span: Span, capacity: int
    ) -> None:
        self.limit = limit
        self.values = values
        self.span = span
        self.capacity = capacity
        self.told: frozenset[float] = frozenset()
        self.seen = 0.0
        key = (namespace, NAME, *limit.identity, *values, span.label)
        self.both = Dimension((*key, limit.unit), 0, capacity, keep=limit.keep)
        self.under_way = Dimension((*key, UNDER_WAY), 0, MOST, held=True, keep=limit.keep)

    def marker(self, share: float) -> Dimension:
        """What only one of the fleet can reserve: that a threshold is told."""
        word = f"{share:g} of {self.capacity}"
        key = (*self.both.key[:-1], TOLD, word)
        return Dimension(key, 1, 1, keep=self.limit.keep)

    def spent(self, left: int, left_under_way: int) -> int:
        """What is spent, of what a store says is left of both dimensions."""
        return self.capacity - left - (MOST - left_under_way)


class Book:
    """The account of one limit for one scope, which is another one in each window.

    Args:
        namespace: Where it is counted.
        limit: What is counted.
        values: For whom.
        leases: The store that it is counted in, which lives as long as the book.
    """

    __slots__ = ("_account", "_leases", "_limit", "_namespace", "_values")

    def __init__(self, namespace: str, limit: Limit, values: Scope, leases: LeaseStore) -> None:
        self._leases = leases
        self._namespace = namespace
        self._limit = limit
        self._values = values
        self._account: Account | None = None

    def account(self, span: Span, capacity: int) -> Account:
        """The account in a window, with so much in it."""
        found = self._account
        if (
            found is None
            or found.capacity != capacity
            or (found.span is not span and found.span.label != span.label)
        ):
            found = Account(self._namespace, self._limit, self._values, span, capacity)
            self._account = found
        return found
