"""A vector index as the layer uses it: it may fail, and its vectors may change their length."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import Final, TypeVar

from lamella import Near, StoreUnavailableError, VectorIndex

T = TypeVar("T")

logger = logging.getLogger("lamella")


class Places:
    """Partitions of an index, each with a place for every length of vectors.

    So an embedder that changes its mind about lengths finds nothing of what it said before, and
    nothing of that is lost either. An index in this process can serve several stores, whose answers
    have nothing to do with each other: each has places of its own there. Of one elsewhere nobody
    can tell which stores are the same.

    Args:
        index: The vectors.

    Attributes:
        own: Whether the index knows only what this process has put there.
    """

    def __init__(self, index: VectorIndex) -> None:
        self._index = index
        self.own = bool(getattr(index, "instant", False))
        self._scope = f"{next(_numbers)}|" if self.own else ""

    async def nearest(
        self, partition: str, vector: Sequence[float], *, most: int, at_least: float
    ) -> Sequence[Near]:
        """The nearest of a partition, under the addresses of their answers.

        Raises:
            StoreUnavailableError: If the index does not answer, or fails.
        """
        place = self._place(partition, len(vector))
        return await self._asked(
            lambda: self._index.nearest(place, vector, count=most, at_least=at_least)
        )

    async def add(
        self, partition: str, address: str, vector: Sequence[float], *, ttl: float | None
    ) -> None:
        """Keep a vector.

        Raises:
            StoreUnavailableError: If the index does not answer, or does not take it.
        """
        place = self._place(partition, len(vector))
        await self._asked(lambda: self._index.add(place, address, vector, ttl=ttl))

    async def remove(self, partition: str, address: str, length: int) -> None:
        """Forget a vector of so many coordinates."""
        place = self._place(partition, length)
        with suppress(StoreUnavailableError):  # it is found again, and found to be gone
            await self._asked(lambda: self._index.remove(place, address))

    async def purge(self, prefix: str) -> None:
        """Forget all vectors of the partitions that begin so.

        Raises:
            StoreUnavailableError: If the index does not answer, or fails.
        """
        await self._asked(lambda: self._index.purge(prefix=f"{self._scope}{prefix}"))

    def _place(self, partition: str, length: int) -> str:
        return f"{self._scope}{partition}:{length}"

    async def _asked(self, operation: Callable[[], Awaitable[T]]) -> T:
        """What the index answers. One that fails, however, is one that does not answer."""
        try:
            return await operation()
        except StoreUnavailableError:  # its guard has said so already
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the call goes on without
            _complain(self._index, error)
            kind = type(error).__name__
        raise StoreUnavailableError(f"The vector index failed ({kind}).")


def within(address: str, partition: str) -> bool:
    """Whether an answer belongs to a partition: an index or a tag that says so may be wrong."""
    return address.startswith(f"{partition}-")


def _complain(index: object, error: Exception) -> None:
    """Say once of each kind of index and error; not what it says, which may quote what it got."""
    said = type(getattr(index, "_index", index)).__name__, type(error).__name__
    if said not in _said and len(_said) < _MOST_SAID:
        _said.add(said)
        logger.warning("The vector index %s failed (%s): nothing similar is found there.", *said)


_numbers = count()
_said: set[tuple[str, str]] = set()
_MOST_SAID: Final = 100
