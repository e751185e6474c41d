"""The stores of this library, registered as anybody's are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

STORES: Final = {
    "memory_blobs": "lamella._memory_stores:memory_blobs",
    "memory_spend": "lamella._memory_spend:MemorySpend",
    "memory_vectors": "lamella._memory_vectors:MemoryVectors",
    "sqlite_blobs": "lamella._sqlite_blobs:sqlite_blobs",
    "sqlite_leases": "lamella._sqlite_leases:sqlite_leases",
    "sqlite_spend": "lamella._sqlite_spend:sqlite_spend",
}


def lamella_stores() -> Mapping[str, str]:
    """Stores by name; one is imported when it is named."""
    return STORES
