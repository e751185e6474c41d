"""What a layer counts for one key, made once and kept for the requests that come."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any, cast

from lamella import Context, Dimension
from lamella._grants import at_once
from lamella._held_places import held
from lamella_middlewares.rate_limit._learning import Learned
from lamella_middlewares.rate_limit._limits import CONSTANT, Demand, Limit

if TYPE_CHECKING:
    from lamella._stores import LocalState, Stores
    from lamella_middlewares.rate_limit._visit import Rules


class Account:
    """The limits of one key.

    Args:
        prefix: How the keys of its limits begin.
        limits: What is counted.
        learned: What is known of the key.

    Attributes:
        learned: The same.
        mark: The mark of its places, if requests at a time are limited.
    """

    __slots__ = ("_all", "_heard", "_limits", "_varying", "learned", "mark")

    def __init__(
        self, prefix: tuple[str, ...], limits: tuple[Limit, ...], learned: Learned
    ) -> None:
        self.learned = learned
        self._limits = limits
        self._all = tuple([limit.dimension(prefix) for limit in limits])
        self._heard = tuple([limit.capacity for limit in limits])
        self._varying = any(limit.kind not in CONSTANT for limit in limits)
        places = [each for each in self._all if each.held]
        self.mark: Hashable = (places[0].key, places[0].capacity) if places else None

    def wanted(self, demand: Demand, context: Context) -> tuple[Dimension, ...]:
        """What a request wants of each limit. Of places, none if it has one further out."""
        found = self._all
        if self._varying:
            found = tuple(
                [
                    dimension if limit.kind in CONSTANT else dimension.want(demand.of(limit))
                    for limit, dimension in zip(self._limits, found, strict=True)
                ]
            )
        if self.mark is not None and held(context, self.mark):
            found = tuple([each.want(0) if each.held else each for each in found])
        return found

    def heard(self, remaining: tuple[int, ...]) -> None:
        """A store that others share has said what is left; one that is out says nothing."""
        if len(remaining) == len(self._all):
            self._heard = remaining

    def levels(self, stores: Stores) -> Iterator[tuple[Limit, Dimension, int]]:
        """Each limit, and what is left of it.

        A store that others share is not asked: then it is what this process heard last.
        """
        at_hand = getattr(stores.leases, "immediate", False) is True
        for limit, dimension, heard in zip(self._limits, self._all, self._heard, strict=True):
            asked = stores.leases.level(dimension) if at_hand else None
            yield limit, dimension, heard if asked is None else at_once(cast("Any", asked))


def account_of(rules: Rules, scope: tuple[str, ...], local: LocalState) -> Account:
    """The account of a new key. Layers with other limits learn of the same key together."""
    prefix = (*rules.prefix, *scope)
    return Account(prefix, rules.limits, local.get(prefix, Learned))
