"""What a server has seen, and waiting for it to see more."""

from collections import deque
from collections.abc import Callable
from typing import Literal, Self

import anyio
import attrs

from lamella.testing._http_wire import Received


@attrs.frozen
class Disconnect:
    """A client that left before it had been served.

    Attributes:
        request: number of the request, as in ``Received.index``.
        connection: number of the connection.
        phase: whether the request was still arriving or the reply was being made or sent.
        body_bytes: how many bytes of the reply's body had been handed to the system.
    """

    request: int
    connection: int
    phase: Literal["request", "reply"]
    body_bytes: int


class Traffic:
    """Counts and records of a server; every change wakes those who wait in `until`.

    Attributes:
        received: the latest requests, in the order in which they were complete.
        disconnects: the latest clients that left early.
        refused: the statuses of the latest requests that could not be understood or were too large.
        errors: the latest exceptions raised by the handler or by a reply's body.
        connections: how many connections have been accepted.
        open_connections: how many of them are open.
        requests: how many requests have begun (their heads were read).
        replies: how many replies have been sent as they were meant to be, faults included.
        body_bytes: how many bytes of reply bodies have been handed to the system.
    """

    def __init__(self, keep: int) -> None:
        """Keep so many of the latest of each kind of record."""
        self.received: deque[Received] = deque(maxlen=keep)
        self.disconnects: deque[Disconnect] = deque(maxlen=keep)
        self.refused: deque[int] = deque(maxlen=keep)
        self.errors: deque[Exception] = deque(maxlen=keep)
        self.connections = 0
        self.open_connections = 0
        self.requests = 0
        self.replies = 0
        self.body_bytes = 0
        self._changed: anyio.Event | None = None
        self._ended = False

    async def until(self, predicate: Callable[[Self], object]) -> None:
        """Wait until the predicate is true of this object.

        It is asked at once and then after each change, so nothing is polled and no clock is read. A
        condition that lasts less than one turn of the event loop may be missed: ask for counts that
        only grow.

        Raises:
            RuntimeError: the server has ended and the predicate is not true, so it never will be.
        """
        while not predicate(self):
            if self._ended:
                message = f"{self!r} has ended, and what until() waits for has not come true"
                raise RuntimeError(message)
            if self._changed is None:
                self._changed = anyio.Event()
            await self._changed.wait()

    def __repr__(self) -> str:
        """Show the counts, for messages of failed tests."""
        return (
            f"<{type(self).__name__} connections={self.connections} open={self.open_connections} "
            f"requests={self.requests} replies={self.replies} disconnects={len(self.disconnects)} "
            f"errors={len(self.errors)}>"
        )

    def changed(self) -> None:
        """Wake those who wait, after a change."""
        event, self._changed = self._changed, None
        if event is not None:
            event.set()

    def sent(self, number: int) -> None:
        """Count bytes of a reply's body."""
        self.body_bytes += number
        self.changed()

    def failed(self, error: Exception) -> None:
        """Record an exception that was answered for."""
        self.errors.append(error)
        self.changed()

    def opened(self) -> int:
        """Count a connection; return its number."""
        self.connections += 1
        self.open_connections += 1
        self.changed()
        return self.connections - 1

    def closed(self) -> None:
        """Count the end of a connection."""
        self.open_connections -= 1
        self.changed()
