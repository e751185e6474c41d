"""Asking a store across a network: never for long, and for a while not at all once it has failed.

A store is slow, frozen, full, restarted, or gone. No call may wait for it longer than what it keeps
is worth, nor may each call find out anew that it does not answer.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import anyio

from lamella._errors import ConfigurationError, LamellaError
from lamella._health import PartHealth
from lamella._outcomes import Outcome
from lamella._store_breaker import StoreBreaker

logger = logging.getLogger("lamella")

T = TypeVar("T")

FAILURES: Final = 5
"""How many operations in a row fail before the store is left alone."""

TIMEOUT: Final = 0.05
"""Seconds that an operation may take unless somebody says otherwise."""

REST: Final = 2.0
"""Seconds between the tries while a store is out, unless somebody says otherwise."""

MISTAKES: Final = (TypeError, ValueError, ConfigurationError)
"""What is wrong with what was asked, not with the store."""


class NoAnswer(Exception):
    """The store has not answered, or is not asked.

    Attributes:
        unknown: Whether what was asked may have been done.
    """

    def __init__(self, *, unknown: bool) -> None:
        self.unknown = unknown


class Asking:
    """How one store is asked. A warning is logged when it goes out, and when it answers again.

    Args:
        named: What the store is called in warnings.
        meanwhile: What is done while it is out.
        timeout: Seconds that an operation may take.
        rest: Seconds between the tries while it is out.
        monotonic: The clock, in seconds.
        quoting: Whether its errors may be repeated: False where they may quote what is kept.

    Attributes:
        error: The last failure; empty while there was none.
    """

    __slots__ = ("__weakref__", "_breaker", "_meanwhile", "_monotonic", "_named", "_quoting",
                 "_timeout", "error")  # fmt: skip

    def __init__(
        self,
        named: str,
        meanwhile: str,
        *,
        timeout: float,
        rest: float,
        monotonic: Callable[[], float],
        quoting: bool = True,
    ) -> None:
        self.error = ""
        self._named = named
        self._meanwhile = meanwhile
        self._timeout = timeout
        self._monotonic = monotonic
        self._quoting = quoting
        self._breaker = StoreBreaker(failures=FAILURES, rest=rest, monotonic=monotonic)

    async def ask(
        self, operation: Callable[[], Awaitable[T]], *, timeout: float | None = None
    ) -> T:
        """The store's answer.

        Args:
            operation: Asks it.
            timeout: Seconds that this operation may take; None as all others.

        Raises:
            NoAnswer: If there is none in time.
        """
        if not self._breaker.admits():
            raise NoAnswer(unknown=False)
        began = self._monotonic()
        bound = self._timeout if timeout is None else timeout
        try:
            with anyio.fail_after(bound):
                answer = await operation()
        except MISTAKES:
            raise
        except Exception as error:
            self._failed(error, began, bound)
            nothing_done = isinstance(error, LamellaError) and error.outcome is Outcome.NOT_SENT
            raise NoAnswer(unknown=not nothing_done) from error
        seconds_out = self._breaker.answered()
        if seconds_out is not None:
            logger.warning("%s answers again, after %.1f s.", self._named, seconds_out)
        return answer

    @property
    def retry_after(self) -> float:
        """Seconds after which it is worth to try again."""
        return max(self._breaker.left(), self._timeout)

    def health(self, **more: Any) -> PartHealth:
        """Whether the store answers.

        Args:
            more: What to say besides while it is out.
        """
        seconds_out = self._breaker.open_for()
        if seconds_out is None:
            return PartHealth(well=True, detail={})
        detail = {**more, "seconds": round(seconds_out, 1), "error": self.error}
        return PartHealth(well=False, detail=detail)

    def _failed(self, error: Exception, began: float, bound: float) -> None:
        self.error = type(error).__name__
        if isinstance(error, TimeoutError) and not str(error):
            self.error += f": no answer in {bound:g} s"
        elif self._quoting or isinstance(error, LamellaError):
            self.error += f": {error}"
        if self._breaker.failed(began):
            logger.warning(
                "%s does not answer (%s); until it does, %s.",
                self._named,
                self.error,
                self._meanwhile,
            )
