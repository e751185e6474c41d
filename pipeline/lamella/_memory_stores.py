"""The memory default of the stores: one set for the process, or a fresh one.

The sets are thread-safe, serve any number of event loops at once, and survive a fork. Their
operations hold a lock only for microseconds and never suspend, except that those on many values
let the loop run between each few hundred.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from lamella._fork_locks import fork_safe_lock
from lamella._local_state import LocalObjects
from lamella._memory_blobs import MemoryBlobs
from lamella._memory_eviction import EvictionName
from lamella._memory_leases import MemoryLeases
from lamella._stores import Stores

MEBIBYTE: Final = 1024 * 1024


def memory_stores(  # noqa: PLR0913 - a bound for each need, by name
    *,
    monotonic: Callable[[], float] = time.monotonic,  # noqa: TID251 - the real port's clock
    wall: Callable[[], float] = time.time,  # noqa: TID251 - the real port's clock
    max_blob_bytes: int = 64 * MEBIBYTE,
    max_entry_bytes: int = 8 * MEBIBYTE,
    max_entries: int | None = None,
    eviction: EvictionName = "lru",
    max_limits: int = 100_000,
    max_objects: int = 10_000,
) -> Stores:
    """Make a fresh set of stores in memory, which shares nothing with any other.

    Args:
        monotonic: The clock of times to live, ages, rates and leases, in seconds.
        wall: What the leases say that it is, in seconds since the epoch.
        max_blob_bytes: What all blobs may take together, with their keys; then some go.
        max_entry_bytes: What one blob may take; a larger one is refused with a ValueError. At most
            `max_blob_bytes`.
        max_entries: How many blobs there may be; None for as many as the bytes allow.
        eviction: Which blobs go: `"lru"`, `"lfu"`, `"fifo"` or `"tinylfu"`; see `memory_blobs`.
        max_limits: How many limits may be in use at a time; then reservations that need another one
            are refused. About 1 KB each.
        max_objects: How many local objects are kept; then the least recently used go.

    Raises:
        ConfigurationError: If there is no such order of eviction, or a bound is no whole number.
        ValueError: If a bound is too small to keep anything.
    """
    return Stores(
        blobs=MemoryBlobs(
            monotonic=monotonic,
            max_bytes=max_blob_bytes,
            max_entry_bytes=max_entry_bytes,
            max_entries=max_entries,
            eviction=eviction,
        ),
        leases=MemoryLeases(monotonic=monotonic, max_buckets=max_limits, wall=wall),
        local=LocalObjects(max_objects=max_objects),
    )


def memory_blobs(
    *,
    max_bytes: int = 64 * MEBIBYTE,
    max_entry_bytes: int | None = None,
    max_entries: int | None = None,
    eviction: EvictionName = "lru",
    monotonic: Callable[[], float] = time.monotonic,  # noqa: TID251 - the real port's clock
) -> MemoryBlobs:
    """A blob store in memory, which shares nothing with any other; by name `memory`.

    Args:
        max_bytes: What all blobs may take together, with their keys; then some go.
        max_entry_bytes: What one blob may take; a larger one is refused with a ValueError. At most
            `max_bytes`; None is 8 MiB, or that if it is less.
        max_entries: How many blobs there may be; None for as many as the bytes allow.
        eviction: Which blobs go. `"lru"`: those not used for longest. `"lfu"`: those used least
            often, of late (LFU with dynamic ageing). `"fifo"`: those put first. `"tinylfu"`: those
            used least often of late, where what is new has to have been asked for more often than
            what it would displace (W-TinyLFU), so that a scan displaces nothing.
        monotonic: The clock of times to live and ages, in seconds: under virtual time, that of
            its ports.

    Raises:
        ConfigurationError: If there is no such order of eviction, or a bound is no whole number.
        ValueError: If a bound is too small to keep anything.
    """
    if max_entry_bytes is None:
        max_entry_bytes = 8 * MEBIBYTE
        if type(max_bytes) is int:  # else it is refused below
            max_entry_bytes = min(max_entry_bytes, max_bytes)
    return MemoryBlobs(
        monotonic=monotonic,
        max_bytes=max_bytes,
        max_entry_bytes=max_entry_bytes,
        max_entries=max_entries,
        eviction=eviction,
    )


_lock = fork_safe_lock()
_process: Stores | None = None


def process_stores() -> Stores:
    """The stores that all pipelines of this process share, made on first use."""
    global _process  # noqa: PLW0603 - one set a process is the point
    with _lock:
        if _process is None:
            _process = memory_stores()
        return _process
