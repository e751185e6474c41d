"""A connection on which nothing is waited for longer than it may be."""

from __future__ import annotations

import math
import selectors
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, Final, TypeVar

import psycopg
from psycopg import capabilities

T = TypeVar("T")

_INTERVAL: Final = 0.1
_CANCEL: Final = 1.0
"""Seconds that the server has to take a cancellation."""

_Selector: Final[type[selectors.SelectSelector]] = getattr(
    selectors,
    "PollSelector",
    selectors.SelectSelector,  # neither opens a file, as the default would each time
)


class GivenUp(Exception):
    """Nobody waits for it any more."""


class Late(Exception):
    """The server has not answered in time."""


def _never() -> bool:
    return False


class Link(psycopg.Connection[Any]):
    """A connection of psycopg that stops waiting at an instant, or when nobody waits any more.

    The server's own limit does not help where it does not answer at all. Plain statements, none
    prepared beyond its transaction, so that a pooler may stand before the server.

    Attributes:
        until: The instant, on the monotonic clock, after which `Late` is raised.
        given_up: Whether nobody waits any more, for `GivenUp`.
        ready: The schemas whose tables have been looked at.
    """

    until: float = math.inf
    given_up: Callable[[], bool] = staticmethod(_never)
    ready: set[str]

    @classmethod
    def to(cls, settings: dict[str, Any]) -> Link:
        """Connect.

        Raises:
            psycopg.Error: If that fails. Its text may have the password in it.
        """
        link = cls.connect(**settings, autocommit=True, prepare_threshold=None)
        link.ready = set()
        return link

    def expect(self, seconds: float, given_up: Callable[[], bool] = _never) -> None:
        """Say how long what follows may take altogether."""
        self.until = time.monotonic() + seconds  # noqa: TID251 - the kernel's time, in a thread
        self.given_up = given_up

    def wait(self, gen: Generator[Any, Any, T], *_: Any, **__: Any) -> T:
        """Wait for what the server says to `gen`; psycopg calls it for each statement."""
        try:
            wanted = next(gen)
            with _Selector() as selector:
                selector.register(self.pgconn.socket, wanted)
                while True:
                    found = selector.select(_INTERVAL)
                    if found:
                        asked = gen.send(type(wanted)(found[0][1]))
                        if asked != wanted:
                            wanted = asked
                            selector.modify(self.pgconn.socket, wanted)
                    # Also while it does answer, a little at a time.
                    if self.given_up():
                        raise GivenUp
                    if time.monotonic() > self.until:  # noqa: TID251
                        raise Late
        except StopIteration as end:
            found_there: T = end.value
            return found_there

    def drop(self) -> None:
        """Close it; what the server still does for it is cancelled, if that can be had quickly."""
        with suppress(psycopg.Error, OSError):
            busy = self.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE
            if busy and capabilities.has_cancel_safe():
                self.cancel_safe(timeout=_CANCEL)
        with suppress(psycopg.Error, OSError):
            self.close()
