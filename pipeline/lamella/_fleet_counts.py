"""What the processes that share a store have counted: each writes its own down for the others."""

from __future__ import annotations

from contextlib import aclosing
from typing import Final

import msgspec

from lamella._answer_codec import UnreadableError
from lamella._blob_pages import blobs
from lamella._packing import Packer
from lamella._ports import Ports
from lamella._stores import Blob, BlobStore
from lamella._tally import CacheStats, Tally, decode_stats

STATS_FOR: Final = 30 * 86_400.0
"""Seconds for which a process's counts are kept after it wrote them last."""


class FleetCounts:
    """The counts of one layer and namespace in one store.

    Args:
        base: What their keys begin with.
        store: Where they are.
        packer: How they are packed.
        tally: This process's.
        ports: Gives this process's counts their name.
    """

    __slots__ = ("_base", "_packer", "_ports", "_store", "_tally")

    def __init__(
        self, base: str, store: BlobStore, packer: Packer, tally: Tally, ports: Ports
    ) -> None:
        self._base = base
        self._store = store
        self._packer = packer
        self._tally = tally
        self._ports = ports

    async def total(self) -> CacheStats:
        """This process's counts as they are, and all others' as they were written.

        Raises:
            StoreUnavailableError: If the store does not answer.
        """
        total, own = self._tally.stats, self._key()
        async with aclosing(blobs(self._store, self._base, self._base)) as listing:
            async for info, blob in listing:
                if info.key != own:
                    total += self._read(info.key, blob)
        return total

    async def publish(self) -> None:
        """Write this process's counts down, if there are new ones.

        Raises:
            Exception: What the store raises.
        """
        if not self._tally.changed:
            return
        stats, changed = self._tally.begin_writing()
        key = self._key()
        data = self._packer.pack(key, msgspec.json.encode(stats), limited=False)
        await self._store.put(key, data, ttl=STATS_FOR, tags=frozenset({self._base}))
        self._tally.written(changed)

    def _key(self) -> str:
        return self._base + self._tally.number(self._ports.new_id)

    def _read(self, key: str, blob: Blob) -> CacheStats:
        try:
            return decode_stats(self._packer.unpack(key, blob.data))
        except (UnreadableError, msgspec.MsgspecError):
            return CacheStats()
