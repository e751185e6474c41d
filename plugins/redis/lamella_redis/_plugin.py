"""What this distribution contributes; nothing here imports the Redis client."""

from __future__ import annotations

from collections.abc import Mapping


def lamella_stores() -> Mapping[str, str]:
    """The stores, by the name that presets use."""
    return {
        "redis": "lamella_redis:redis_leases",
        "redis_blobs": "lamella_redis:redis_blobs",
        "redis_vectors": "lamella_redis:redis_vectors",
    }
