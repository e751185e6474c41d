"""Reading records of spend a page at a time. For stores."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from lamella._spend_records import SpendRecord

Place: TypeAlias = tuple[float, str]
"""Where a reading is: the instant and the id of the last record."""

NextPage: TypeAlias = Callable[[Place | None], Awaitable[Sequence[SpendRecord]]]
"""Gives the records after a place, in order of instant and id; none at the end."""


class SpendReading:
    """Records, fetched a page at a time.

    An iterator and no generator: one that is dropped half-way leaves nothing to finalise.

    Args:
        next_page: Fetches a page.
    """

    __slots__ = ("_next_page", "_page", "_place", "_where")

    def __init__(self, next_page: NextPage) -> None:
        self._next_page = next_page
        self._page: Sequence[SpendRecord] = ()
        self._where = 0
        self._place: Place | None = None

    def __aiter__(self) -> SpendReading:
        return self

    async def __anext__(self) -> SpendRecord:
        if self._where == len(self._page):
            self._page = await self._next_page(self._place)
            self._where = 0
            if not self._page:
                raise StopAsyncIteration
        record = self._page[self._where]
        self._where += 1
        self._place = (record.at, record.id)
        return record
