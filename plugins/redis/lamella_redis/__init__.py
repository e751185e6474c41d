"""Limits and values that the processes of a fleet share, in Redis or Valkey."""

from __future__ import annotations

from lamella_redis._blobs import RedisBlobs, redis_blobs
from lamella_redis._leases import RedisLeases, redis_leases

__all__ = ["RedisBlobs", "RedisLeases", "redis_blobs", "redis_leases"]
