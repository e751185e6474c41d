"""The vector port: which kept vectors are nearest to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs


@attrs.frozen
class Near:
    """A vector that is near.

    Attributes:
        key: What it was added under.
        similarity: The cosine of the angle between the two, from -1 to 1.
    """

    key: str
    similarity: float


class VectorIndex(Protocol):
    """Vectors in partitions that never meet, each under a key, each with a time to live.

    All vectors of a partition have one length. An index may be approximate: it may miss a vector
    that is near, and never says that one is nearer than it is.
    """

    async def add(
        self, partition: str, key: str, vector: Sequence[float], *, ttl: float | None = None
    ) -> None:
        """Keep a vector, replacing what was there under the key.

        Args:
            partition: Any text.
            key: Any text; what `nearest` gives back.
            vector: Its coordinates. Its length does not matter, only where it points.
            ttl: Seconds to keep it. None keeps it until it is removed or evicted.

        Raises:
            ValueError: If it has another length than those that are there, no length, or a
                coordinate that is not finite.
        """
        ...

    async def nearest(
        self, partition: str, vector: Sequence[float], *, count: int = 1, at_least: float = -1.0
    ) -> Sequence[Near]:
        """The `count` nearest of a partition, the nearest first, none below `at_least`.

        Raises:
            ValueError: If the vector has another length than those that are there.
        """
        ...

    async def remove(self, partition: str, key: str) -> bool:
        """Forget a vector; whether it was there."""
        ...

    async def purge(self, *, prefix: str = "") -> int:
        """Forget all of the partitions that begin with the prefix; how many vectors."""
        ...

    async def aclose(self) -> None:
        """Release what the index holds open."""
        ...
