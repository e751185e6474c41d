"""Limits, values and vectors that the processes of a fleet share, in Redis or Valkey."""

from __future__ import annotations

from lamella_redis._blobs import RedisBlobs, redis_blobs
from lamella_redis._leases import RedisLeases, redis_leases
from lamella_redis._vectors import RedisVectors, redis_vectors

__all__ = [
    "RedisBlobs",
    "RedisLeases",
    "RedisVectors",
    "redis_blobs",
    "redis_leases",
    "redis_vectors",
]
