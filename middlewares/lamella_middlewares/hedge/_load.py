"""How much is sent twice: a share of the calls, and nothing while a provider asks for less."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

from lamella._fork_locks import fork_safe_lock
from lamella._sliding_counts import SlidingCounts

Refused: TypeAlias = Literal["load", "pushback"]

_CALL, _COPY = 0, 1


class Load:
    """The calls of one provider and operation, and what was sent twice of them. Thread-safe.

    Args:
        share: How many second copies there may be for each call.
        window: For how many seconds a call allows them.
    """

    __slots__ = ("_counts", "_lock", "_paused_at", "_paused_until", "_share")

    def __init__(self, share: float, window: float) -> None:
        self._share = share
        self._lock = fork_safe_lock()
        self._counts = SlidingCounts(window, 2)
        self._paused_at = -math.inf
        self._paused_until = -math.inf

    def called(self, now: float) -> None:
        """One call has been made at the monotonic instant `now`."""
        with self._lock:
            self._counts.add(now, _CALL)

    def pause(self, now: float, seconds: float) -> None:
        """The provider asks for less: no second copies for so long."""
        with self._lock:
            self._paused_at = now
            self._paused_until = max(self._paused_until, now + seconds)

    def take(self, now: float) -> Refused | None:
        """Count one more second copy; why there must be none."""
        with self._lock:
            # A clock before the pause is another one: a test's began anew.
            if self._paused_at <= now < self._paused_until:
                return "pushback"
            calls, copies = self._counts.at(now)
            # A millionth forgives products of floats: 0.05 x 20 must allow one.
            if copies + 1 > self._share * calls + 1e-6:
                return "load"
            self._counts.add(now, _COPY)
            return None
