"""Vectors in memory, compared one by one: exact, and quick enough for tens of thousands.

A search of a large partition takes milliseconds, and runs in a thread. It takes no lock meanwhile:
what it finds is looked at once more under the lock, so that a vector that was replaced or removed
meanwhile is never reported as it was.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from lamella._fork_locks import fork_safe_lock
from lamella._memory_expiry import Expiries
from lamella._ports import ThreadPort, run_in_thread
from lamella._vector_index import Near
from lamella._vector_rows import Rows, nearest_rows, numpy

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEBIBYTE: Final = 1024 * 1024
VECTOR_OVERHEAD: Final = 512
"""Bytes that a vector counts beside its coordinates and keys: what the tables around it take."""

PARTITION_OVERHEAD: Final = 1024
"""Bytes that a partition counts beside its vectors: many have one only."""

_INLINE: Final = 1 << 19  # coordinates that are searched where the caller stands: about 0.1 ms
_SWEEP: Final = 128  # expired vectors that one operation clears away
_CHUNK: Final = 2000  # vectors that a purge forgets before it lets others run


class MemoryVectors:
    """The memory default of `VectorIndex`: thread-safe, for any number of event loops.

    It compares a vector with each of its partition. Needs `pip install 'lamella[semantic]'`.

    Args:
        max_bytes: What all vectors may take together. One counts four bytes for each coordinate,
            its texts, and `VECTOR_OVERHEAD`, and `PARTITION_OVERHEAD` for each partition. Beyond
            that those go that have not been near anything for longest, of the partition that has
            not been used for longest.
        max_vectors: How many vectors are kept, 1 or more; likewise.
        monotonic: The clock of times to live, in seconds.
        thread: Where large partitions are searched.

    Attributes:
        instant: That nobody waits for it, and that it knows only what this process has added.

    Raises:
        ConfigurationError: If numpy is not installed.
        ValueError: If a bound is too small to keep anything.
    """

    instant: Final = True

    def __init__(
        self,
        *,
        max_bytes: int = 256 * MEBIBYTE,
        max_vectors: int = 100_000,
        monotonic: Callable[[], float] = time.monotonic,  # noqa: TID251 - the real port's clock
        thread: ThreadPort = run_in_thread,
    ) -> None:
        least = VECTOR_OVERHEAD + PARTITION_OVERHEAD
        if max_bytes <= least or max_vectors < 1:
            raise ValueError(
                f"MemoryVectors: max_bytes {max_bytes!r} must be above {least}, and "
                f"max_vectors {max_vectors!r} at least 1."
            )
        self._numpy = numpy()
        self._max_bytes = max_bytes
        self._max_vectors = max_vectors
        self._monotonic = monotonic
        self._thread = thread
        self._lock = fork_safe_lock()
        self._partitions: OrderedDict[str, Rows] = OrderedDict()  # the longest unused first
        self._expiries = Expiries()
        self._instants: dict[str, float] = {}  # when each expires that does, by its ident
        self._size = 0
        self._count = 0

    @property
    def size(self) -> int:
        """The bytes that the vectors take, as `max_bytes` counts them."""
        return self._size

    def __len__(self) -> int:
        """How many vectors there are, expired ones that nobody has met included."""
        return self._count

    async def add(
        self, partition: str, key: str, vector: Sequence[float], *, ttl: float | None = None
    ) -> None:
        """Keep a vector; see `VectorIndex.add`.

        Raises:
            ValueError: If the vector cannot be compared with those that are there, is larger than
                `max_bytes`, or if `ttl` is not a number.
        """
        if ttl is not None and math.isnan(ttl):
            raise ValueError(
                "MemoryVectors.add: ttl is nan; give seconds, or None to keep the vector."
            )
        unit = self._unit(vector)
        size = _size(partition, key, len(unit))
        if size + PARTITION_OVERHEAD > self._max_bytes:
            raise ValueError(
                f"MemoryVectors.add: a vector of {size} bytes and {PARTITION_OVERHEAD} of its "
                f"partition are above max_bytes {self._max_bytes}."
            )
        with self._lock:
            now = self._monotonic()
            self._sweep(now)
            found = self._partitions.get(partition)
            if found is not None:
                self._must_fit(found, len(unit))
                if key in found.rows:
                    self._forget(partition, found, key)
            if ttl is None or ttl > 0:
                self._keep(partition, key, unit, size)
                if ttl is not None and ttl < math.inf:
                    ident = _ident(partition, key)
                    self._instants[ident] = now + ttl
                    self._expiries.set(ident, now + ttl)

    async def nearest(
        self, partition: str, vector: Sequence[float], *, count: int = 1, at_least: float = -1.0
    ) -> Sequence[Near]:
        """The nearest of a partition; see `VectorIndex.nearest`. Similarities have six places.

        Raises:
            ValueError: If the vector cannot be compared with those that are there.
        """
        unit = self._unit(vector)
        while True:
            with self._lock:
                self._sweep(self._monotonic())
                found = self._partitions.get(partition)
                if found is None or count < 1:
                    return ()
                self._must_fit(found, len(unit))
                self._partitions.move_to_end(partition)
                rows = len(found.keys)
                blocks = list(found.blocks)
            # Some more than are wanted: a few of them may have gone meanwhile.
            search = (blocks, rows, unit, count + 8)
            if rows * len(unit) <= _INLINE:
                places = nearest_rows(*search)
            else:
                places = await self._thread(nearest_rows, *search)
            near, expired = self._confirmed(partition, places, unit, at_least)
            if len(near) >= count or not expired:
                return tuple(near[:count])
            # Expired ones were in the way, and are forgotten now.

    async def remove(self, partition: str, key: str) -> bool:
        """Forget a vector; whether it was there."""
        with self._lock:
            now = self._monotonic()
            found = self._partitions.get(partition)
            if found is None or key not in found.rows:
                return False
            expired = self._expired(partition, key, now)
            self._forget(partition, found, key)
            return not expired

    async def purge(self, *, prefix: str = "") -> int:
        """Forget all of the partitions that begin with the prefix; how many vectors.

        It lets the loop run between chunks; cancelled there, it has forgotten some of them.
        """
        import anyio.lowlevel

        with self._lock:
            names = [
                (name, found, list(found.keys))
                for name, found in self._partitions.items()
                if name.startswith(prefix)
            ]
        count = done = 0
        for name, found, keys in names:
            for start in range(0, len(keys), _CHUNK):
                if done >= _CHUNK:
                    done = 0
                    await anyio.lowlevel.checkpoint()
                with self._lock:
                    now = self._monotonic()
                    for key in keys[start : start + _CHUNK]:
                        done += 1
                        if self._partitions.get(name) is found and key in found.rows:
                            count += not self._expired(name, key, now)
                            self._forget(name, found, key)
        return count

    async def aclose(self) -> None:
        """Nothing is held open. What is kept stays, for others may use the same index."""

    # --- searching ---------------------------------------------------------------------------

    def _confirmed(
        self, partition: str, rows: Sequence[int], unit: NDArray[Any], at_least: float
    ) -> tuple[list[Near], bool]:
        """What stands in these rows now, the nearest first; and whether some had expired."""
        near: list[Near] = []
        expired: list[str] = []
        with self._lock:
            now = self._monotonic()
            found = self._partitions.get(partition)
            if found is None or found.dimensions != len(unit):
                return near, False
            for row in rows:
                if row >= len(found.keys):
                    continue
                key = found.keys[row]
                if self._expired(partition, key, now):
                    expired.append(key)
                    continue
                cosine = float(found.row(key).astype(self._numpy.float64) @ unit)
                similarity = max(-1.0, min(1.0, round(cosine, 6)))
                if similarity >= at_least:
                    near.append(Near(key, similarity))
            for key in expired:
                self._forget(partition, found, key)
            near.sort(key=lambda one: (-one.similarity, one.key))
            for one in reversed(near):
                found.order.move_to_end(one.key)
        return near, bool(expired)

    def _unit(self, vector: Sequence[float]) -> NDArray[Any]:
        """The vector with the length 1."""
        np = self._numpy
        made = np.asarray(vector, dtype=np.float64)
        most = float(np.abs(made).max()) if made.ndim == 1 and made.size else 0.0
        if not 0.0 < most < math.inf:  # nor nan
            raise ValueError(
                "MemoryVectors: a vector needs coordinates that are finite numbers, and not all 0."
            )
        made = made / most  # or squares might overflow
        unit: NDArray[Any] = (made / math.sqrt(float(made @ made))).astype(np.float32)
        return unit

    def _must_fit(self, found: Rows, dimensions: int) -> None:
        if found.dimensions != dimensions:
            raise ValueError(
                f"MemoryVectors: a vector of {dimensions} coordinates was given where those that "
                f"are there have {found.dimensions}."
            )

    # --- keeping; under the lock -------------------------------------------------------------

    def _keep(self, partition: str, key: str, unit: NDArray[Any], size: int) -> None:
        while True:
            found = self._partitions.get(partition)
            more = size if found is not None else size + PARTITION_OVERHEAD
            if self._size + more <= self._max_bytes and self._count < self._max_vectors:
                break
            name, oldest = next(iter(self._partitions.items()))
            self._forget(name, oldest, next(iter(oldest.order)))
        self._size += more
        self._count += 1
        if found is None:
            found = self._partitions[partition] = Rows(len(unit))
        found.put(key, unit)
        self._partitions.move_to_end(partition)

    def _forget(self, partition: str, found: Rows, key: str) -> None:
        found.remove(key)
        self._size -= _size(partition, key, found.dimensions)
        self._count -= 1
        ident = _ident(partition, key)
        if self._instants.pop(ident, None) is not None:
            self._expiries.discard(ident)
        if not found.keys:
            del self._partitions[partition]
            self._size -= PARTITION_OVERHEAD

    def _expired(self, partition: str, key: str, now: float) -> bool:
        return self._instants.get(_ident(partition, key), math.inf) <= now

    def _sweep(self, now: float) -> None:
        if now < self._expiries.soonest:
            return
        for ident in self._expiries.due(now, most=_SWEEP):
            length, _, rest = ident.partition(":")
            partition, key = rest[: int(length)], rest[int(length) :]
            self._forget(partition, self._partitions[partition], key)


def _ident(partition: str, key: str) -> str:
    """One text for both, which no other two make."""
    return f"{len(partition)}:{partition}{key}"


def _size(partition: str, key: str, dimensions: int) -> int:
    texts = len(partition) + len(key)
    return VECTOR_OVERHEAD + 4 * dimensions + 2 * texts * (1 if (partition + key).isascii() else 4)
