"""A provider's limits per minute, with the headers that tell of them."""

from __future__ import annotations

from typing import Final

import attrs

_MINUTE: Final = 60.0


@attrs.define
class _Bucket:
    """What is left of one limit; it flows back steadily."""

    capacity: int
    level: float
    at: float = 0.0

    def refill(self, now: float) -> None:
        flown = (now - self.at) * self.capacity / _MINUTE
        self.level = min(float(self.capacity), self.level + flown)
        self.at = now

    def wait(self, amount: float) -> float:
        """Seconds until so much is there; more than the capacity never is, and waits for all."""
        missing = min(amount, self.capacity) - self.level
        return max(0.0, missing * _MINUTE / self.capacity)

    @property
    def until_full(self) -> float:
        return (self.capacity - self.level) * _MINUTE / self.capacity


class MinuteLimits:
    """Requests and tokens a minute, all or nothing.

    Args:
        requests: How many a minute; None for no limit.
        tokens: The same.
    """

    def __init__(self, requests: int | None, tokens: int | None) -> None:
        limits = {"requests": requests, "tokens": tokens}
        self._buckets = {
            name: _Bucket(limit, float(limit))
            for name, limit in limits.items()
            if limit is not None
        }

    def take(self, tokens: int, now: float) -> dict[str, str] | None:
        """Let one request in; or the headers of the refusal.

        Args:
            tokens: What request and answer have.
            now: Seconds, never going back.
        """
        waits: list[float] = []
        for name, bucket in self._buckets.items():
            bucket.refill(now)
            waits.append(bucket.wait(1 if name == "requests" else tokens))
        wait = max(waits)
        if wait > 0:
            # Rounded up: who comes when it says so must not be a millisecond too early.
            return {**self.headers(now), "retry-after": f"{wait + 0.0005:.3f}"}
        for name, bucket in self._buckets.items():
            bucket.level -= 1 if name == "requests" else tokens
        return None

    def headers(self, now: float) -> dict[str, str]:
        """What is left, as OpenAI's headers say it."""
        headers: dict[str, str] = {}
        for name, bucket in self._buckets.items():
            bucket.refill(now)
            headers[f"x-ratelimit-limit-{name}"] = str(bucket.capacity)
            headers[f"x-ratelimit-remaining-{name}"] = str(max(0, int(bucket.level)))
            headers[f"x-ratelimit-reset-{name}"] = f"{max(0.0, bucket.until_full):.3f}s"
        return headers
