"""Prices that have been found before, so that a call pays for one look into a table.

What a model costs is found by several names, in several places, and holds for a day. The question
is nearly always the same.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from weakref import ref

from lamella._price_lists import DAY_SECONDS, Lasting

if TYPE_CHECKING:
    from lamella._price_lists import PriceList

Models: TypeAlias = tuple[str | None, ...]
"""The names of one model, the best one first."""

_MOST: Final = 1024
"""How many answers are kept. Models' names come from requests, so that there must be a bound."""

_LONGEST: Final = 512
"""Letters of names that are kept; a program that hands on its users' words may get any name."""


class KnownPrices:
    """What a price list has answered. Thread-safe and bounded.

    Args:
        listed: The price list.
    """

    __slots__ = ("_edition", "_found")

    def __init__(self, listed: PriceList) -> None:
        self._edition = listed.edition
        self._found: dict[Hashable, tuple[ref[Any], int, Lasting]] = {}

    def get(self, transport: object, vendor: str, models: Models, wall: float) -> Lasting | None:
        """What was found for these models on the day of `wall`, if it still holds.

        Args:
            transport: What sends to them.
            vendor: What that is called.
            models: The models.
            wall: Seconds since the epoch.
        """
        known = self._found.get((id(transport), vendor, models))
        if known is None:
            return None
        of, day, found = known
        if day != wall // DAY_SECONDS or of() is not transport:
            return None
        return found if found.edition is None or found.edition == self._edition() else None

    def keep(
        self, transport: object, vendor: str, models: Models, wall: float, found: Lasting
    ) -> None:
        """Remember what was found; not for a transport that cannot be told from a later one."""
        if sum([len(model or "") for model in models]) > _LONGEST:
            return
        try:
            of = ref(transport)
        except TypeError:
            return
        if len(self._found) >= _MOST:
            self._found.clear()
        self._found[id(transport), vendor, models] = (of, int(wall // DAY_SECONDS), found)
