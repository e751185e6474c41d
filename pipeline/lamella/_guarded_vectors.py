"""Vectors that are kept across a network, while what keeps them does not answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar
from weakref import WeakKeyDictionary

from lamella._errors import StoreUnavailableError
from lamella._fork_locks import fork_safe_lock
from lamella._guarded_blobs import PURGE_SECONDS
from lamella._health import PartHealth
from lamella._store_asking import REST, TIMEOUT, Asking, NoAnswer
from lamella._vector_index import Near, VectorIndex

T = TypeVar("T")

_known: WeakKeyDictionary[VectorIndex, Asking] = WeakKeyDictionary()
_lock = fork_safe_lock()


class GuardedVectors:
    """A vector index that answers in time, or says at once that it does not.

    It is to an index what `GuardedBlobs` is to a store of blobs: every operation is bounded, and
    after five that failed in a row the index is left alone for a while.

    Args:
        index: The index.
        asking: Counts its failures.
    """

    def __init__(self, index: VectorIndex, asking: Asking) -> None:
        self._index = index
        self._asking = asking

    async def add(
        self, partition: str, key: str, vector: Sequence[float], *, ttl: float | None = None
    ) -> None:
        """Keep a vector; see `VectorIndex.add`.

        Raises:
            StoreUnavailableError: If the index does not answer in time, as everywhere here.
        """
        await self._answer(lambda: self._index.add(partition, key, vector, ttl=ttl))

    async def nearest(
        self, partition: str, vector: Sequence[float], *, count: int = 1, at_least: float = -1.0
    ) -> Sequence[Near]:
        """The nearest of a partition; see `VectorIndex.nearest`."""
        return await self._answer(
            lambda: self._index.nearest(partition, vector, count=count, at_least=at_least)
        )

    async def remove(self, partition: str, key: str) -> bool:
        """Forget a vector; see `VectorIndex.remove`."""
        return await self._answer(lambda: self._index.remove(partition, key))

    async def purge(self, *, prefix: str = "") -> int:
        """Forget partitions; see `VectorIndex.purge`."""
        return await self._answer(lambda: self._index.purge(prefix=prefix), PURGE_SECONDS)

    def health(self) -> PartHealth:
        """Whether the index answers."""
        return self._asking.health(index=type(self._index).__name__)

    async def aclose(self) -> None:
        """Close the index."""
        await self._index.aclose()

    async def _answer(
        self, operation: Callable[[], Awaitable[T]], timeout: float | None = None
    ) -> T:
        try:
            return await self._asking.ask(operation, timeout=timeout)
        except NoAnswer:
            pass
        raise StoreUnavailableError(
            f"The vector index {type(self._index).__name__} does not answer "
            f"({self._asking.error}).",
            retry_after=self._asking.retry_after,
            hint="Look why it is out.",
        )


def guarded_vectors(index: VectorIndex, monotonic: Callable[[], float]) -> VectorIndex:
    """The index, such that it answers in time; one in memory (`instant`) stays as it is.

    However often one is guarded here, its failures are counted together.
    """
    if isinstance(index, GuardedVectors) or getattr(index, "instant", False):
        return index
    asking = Asking(
        f"The vector index {type(index).__name__}",
        "nothing similar is found",
        timeout=TIMEOUT,
        rest=REST,
        monotonic=monotonic,
        quoting=False,
    )
    with suppress(TypeError), _lock:  # of what nothing can refer to weakly, each guard counts
        asking = _known.setdefault(index, asking)
    return GuardedVectors(index, asking)
