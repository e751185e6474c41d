"""What this process has refused before anybody was asked, so that it need not find out again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from lamella import (
    ContextLengthError,
    InvalidRequestError,
    LamellaError,
    Outcome,
    UnsupportedError,
)
from lamella._fork_locks import fork_safe_lock

_KINDS: Final = frozenset({ContextLengthError, InvalidRequestError, UnsupportedError})
"""Exactly these: what is made from them may be of another kind."""

MOST: Final = 1_000


def lasting(error: LamellaError) -> bool:
    """Whether the same request is refused in the same way again, whatever the provider does."""
    return (
        type(error) in _KINDS
        and error.phase == "local"
        and error.status is None
        and error.outcome is Outcome.NOT_SENT
        and not error.committed
    )


class Refusals:
    """Errors by address, each for a while. Thread-safe, and no more than a thousand."""

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._errors: OrderedDict[str, tuple[float, LamellaError]] = OrderedDict()

    def keep(self, address: str, error: LamellaError, until: float) -> None:
        """Remember an error until an instant."""
        kept = error.copy(attempts=(), partial=None, usage=None)
        # What it was raised from holds frames, and these hold requests.
        kept.__cause__ = kept.__context__ = None
        with self._lock:
            self._errors[address] = (until, kept.with_traceback(None))
            self._errors.move_to_end(address)
            if len(self._errors) > MOST:
                self._errors.popitem(last=False)

    def find(self, address: str, now: float) -> LamellaError | None:
        """The error, as an object of the caller's own."""
        if not self._errors:
            return None
        with self._lock:
            found = self._errors.get(address)
            if found is None:
                return None
            until, error = found
            if now >= until:
                del self._errors[address]
                return None
        return error.copy()

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._errors.clear()
