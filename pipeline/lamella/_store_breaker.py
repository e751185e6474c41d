"""Whether a store that has failed is asked again: a count of failures in a row, and a rest.

What fails at once counts once: when this process has stood still for a moment (a collection of
garbage, a loop that was busy), all operations under way come too late together, and that says
little about the store.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from lamella._fork_locks import fork_safe_lock


class StoreBreaker:
    """Lets operations through until some have failed in a row; then one at a time, now and then.

    Args:
        failures: How many in a row open it.
        rest: Seconds between the tries while it is open.
        monotonic: The clock, in seconds.
    """

    def __init__(self, *, failures: int, rest: float, monotonic: Callable[[], float]) -> None:
        self._most = failures
        self._rest = rest
        self._monotonic = monotonic
        self._lock = fork_safe_lock()
        self._failures = 0
        self._counted = -math.inf
        self._opened: float | None = None
        self._until = 0.0

    @property
    def failures(self) -> int:
        """How many operations have failed in a row."""
        return self._failures

    def open_for(self) -> float | None:
        """Seconds since it opened; None while it is closed."""
        opened = self._opened
        return None if opened is None else self._monotonic() - opened

    def left(self) -> float:
        """Seconds until the next try; 0 if it may be made now."""
        return 0.0 if self._opened is None else max(0.0, self._until - self._monotonic())

    def admits(self) -> bool:
        """Whether the store is to be asked. While open, whoever hears yes is the one that tries."""
        if not self._failures:
            return True
        with self._lock:
            if self._opened is None:
                return True
            now = self._monotonic()
            if now < self._until:
                return False
            self._until = now + self._rest
            return True

    def failed(self, began: float) -> bool:
        """The store has failed once more; whether that opens it.

        Args:
            began: When it was asked. What was asked before the last failure does not count.
        """
        with self._lock:
            now = self._monotonic()
            if self._opened is not None:
                self._until = now + self._rest
                return False
            if began < self._counted:
                return False
            self._failures += 1
            self._counted = now
            if self._failures >= self._most:
                self._opened, self._until = now, now + self._rest
                return True
            return False

    def answered(self) -> float | None:
        """The store has answered; if that closes it, the seconds that it was open, else None."""
        if not self._failures:
            return None
        with self._lock:
            opened, self._opened = self._opened, None
            self._failures = 0
            return None if opened is None else self._monotonic() - opened
