"""A connection of asyncio's, read without stopping and starting.

anyio's own stream has asyncio stop reading between two reads, and lets the loop turn once more on
each read and write: two system calls and a turn of the loop for each request, about as much as
sending it and reading the answer take. This one reads on into a buffer, and stops where too much
has come that nobody has asked for. trio needs none of this.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio
import anyio.abc

MOST_BYTES: Final = 256 * 1024
"""When more than this has come and not been asked for, the peer has to wait."""


def unstopped(stream: anyio.abc.ByteStream) -> anyio.abc.ByteStream:
    """The same connection, read without stopping; the stream itself where that is not asyncio's.

    Args:
        stream: A connection just made, of which nobody has read.
    """
    transport = getattr(stream, "_transport", None)
    if transport is None or not hasattr(transport, "set_protocol"):
        return stream
    return LoopStream(stream, transport)


class LoopStream(anyio.abc.ByteStream):
    """Protocol and stream of one asyncio transport.

    Attributes:
        spoken: Whether something has come that nobody has read, the peer's end included.
    """

    def __init__(self, stream: anyio.abc.ByteStream, transport: Any) -> None:
        import asyncio  # noqa: TID251 - whose transport this is

        self._stream = stream  # which knows the socket's attributes, and owns the transport
        self._transport = transport
        self._make_future = asyncio.get_running_loop().create_future
        self._turn = asyncio.sleep
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._stopped = False
        self._full = False
        self._reader: Any = None
        self._writer: Any = None
        self._over = False
        self._lost = False
        self._failure: Exception | None = None
        self._closed = False
        transport.set_protocol(self)
        transport.set_write_buffer_limits(0)
        transport.resume_reading()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Those of the connection."""
        return self._stream.extra_attributes  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]

    @property
    def spoken(self) -> bool:
        """See the class."""
        return bool(self._pieces) or self._over or self._lost

    # --- what the event loop tells ------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """Never called: the connection was made before."""

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self._pieces.append(bytes(data))
        self._held += len(data)
        if self._held > MOST_BYTES and not self._stopped:
            self._stopped = True
            self._transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> bool:
        """The peer will send no more; what we send may still reach it."""
        self._over = True
        _wake(self._reader)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._lost = True
        self._failure = exc
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        """The peer, or the network, takes no more for now."""
        self._full = True

    def resume_writing(self) -> None:
        """All that was written has left."""
        self._full = False
        _wake(self._writer)

    # --- what the HTTP client asks ------------------------------------------------------------

    async def receive(self, max_bytes: int = 65536) -> bytes:
        pieces = self._pieces
        while not pieces:
            if self._closed:
                raise anyio.ClosedResourceError
            if self._failure is not None:
                raise anyio.BrokenResourceError from self._failure
            if self._over or self._lost:
                raise anyio.EndOfStream
            if self._reader is not None:
                raise anyio.BusyResourceError("reading from")
            self._reader = self._make_future()
            try:
                await self._reader
            finally:
                self._reader = None
        data = pieces.popleft()
        if len(data) > max_bytes:
            pieces.appendleft(data[max_bytes:])
            data = data[:max_bytes]
        self._held -= len(data)
        if self._stopped and self._held <= MOST_BYTES // 2:
            self._stopped = False
            if not (self._closed or self._lost):
                self._transport.resume_reading()
        return data

    async def send(self, item: bytes) -> None:
        if self._writer is not None:
            raise anyio.BusyResourceError("writing to")
        await self._emptied()
        self._must_be_there()
        self._transport.write(item)
        if self._full:
            await self._emptied()
            self._must_be_there()

    async def _emptied(self) -> None:
        while self._full and not self._lost:
            self._writer = self._make_future()
            try:
                await self._writer
            finally:
                self._writer = None

    def _must_be_there(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError
        if self._lost:
            raise anyio.BrokenResourceError from self._failure

    async def send_eof(self) -> None:
        self._transport.write_eof()

    async def aclose(self) -> None:
        self._closed = True
        self._transport.abort()
        await self._turn(0)  # in which the loop lets go of the socket


def _wake(waiting: Any) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
