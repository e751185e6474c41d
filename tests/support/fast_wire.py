"""What tests of the fast client's inner parts share: a connection whose other end is in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from lamella.transports._fast_connection import Connection
from lamella.transports._fast_reply import FastReply

MAX_HEADER_BYTES = 2000


class Wire(asyncio.Transport):
    """A transport that keeps what is written, and tells when it is closed.

    Attributes:
        written: What was written.
        closed: Whether it was closed.
        reading: Whether bytes would be taken.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self.written = b""
        self.closed = False
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def connected(
    loop: asyncio.AbstractEventLoop,
    freed: Callable[[Connection], None],
    lost: Callable[[Connection], None],
) -> tuple[Connection, Wire]:
    """A connection, and its other end."""
    buffer = memoryview(bytearray(65536))
    connection = Connection(loop, buffer, MAX_HEADER_BYTES, freed, lost)
    wire = Wire(loop, connection)
    connection.connection_made(wire)
    return connection, wire


def feed(connection: Connection, data: bytes) -> None:
    """Let bytes arrive, as an event loop does; none arrive at what was closed."""
    if connection.open:
        buffer: Any = connection.get_buffer(-1)
        buffer[: len(data)] = data
        connection.buffer_updated(len(data))


def reply_on(
    loop: asyncio.AbstractEventLoop, connection: Connection, method: str = "POST"
) -> FastReply:
    """A reply to a request that was sent."""
    reply = FastReply(loop, "acme", "acme.test", 10**6)
    connection.begin(reply, method)
    return reply
