"""Limits that the processes of a fleet share, in Redis or Valkey."""

from __future__ import annotations

from lamella_redis._leases import RedisLeases, redis_leases

__all__ = ["RedisLeases", "redis_leases"]
