"""How long answers take to begin, so that one that takes unusually long is noticed."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import Final

from lamella import MisuseError, Response
from lamella._fork_locks import fork_safe_lock

SAMPLES: Final = 200
"""How many are kept: enough for a 95th percentile, few enough to follow a provider's day."""

AGE: Final = 600.0
"""Seconds after which a sample is forgotten."""


class FirstEvents:
    """The last times to first event of one provider and model. Thread-safe and bounded."""

    __slots__ = ("_lock", "_recent", "_sorted")

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._recent: deque[tuple[float, float]] = deque()  # (instant, seconds), oldest first
        self._sorted: list[float] = []

    def learn(self, response: Response, now: float) -> None:
        """An answer has begun: keep how long that took."""
        try:
            attempt = response.context.attempt
        except (MisuseError, AttributeError):
            return  # an answer that some layer inside made by hand
        if attempt is not None and attempt.first_event is not None:
            self.add(now, attempt.first_event - attempt.start)

    def add(self, now: float, seconds: float) -> None:
        """An answer has begun after so many seconds, or not even then; at the instant `now`."""
        with self._lock:
            recent = self._recent
            if recent and now < recent[-1][0] - AGE:  # another clock: a test's began anew
                recent.clear()
                self._sorted.clear()
            self._forget(now)
            if len(recent) >= SAMPLES:
                self._drop()
            recent.append((now, seconds))
            insort(self._sorted, seconds)

    def quantile(self, share: float, now: float, *, least: int) -> float | None:
        """The time within which that share of answers began; None with fewer samples than `least`.

        It is a time that has occurred, and never one that is too short.
        """
        with self._lock:
            self._forget(now)
            count = len(self._sorted)
            if count < least or not count:
                return None
            return self._sorted[min(count - 1, int(share * count))]

    def _forget(self, now: float) -> None:
        while self._recent and self._recent[0][0] < now - AGE:
            self._drop()

    def _drop(self) -> None:
        _, seconds = self._recent.popleft()
        del self._sorted[bisect_left(self._sorted, seconds)]
