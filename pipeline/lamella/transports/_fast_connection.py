"""One connection of the fast client: bytes out, an answer in, then free for the next request."""

from __future__ import annotations

import asyncio  # noqa: TID251 - this client is for asyncio's loops alone, and says so
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

import anyio

from lamella.transports._fast_framing import (
    CHUNKED,
    UNTIL_CLOSED,
    Chunks,
    NoHTTPError,
    read_head,
)
from lamella.transports._http_failures import (
    client_closed,
    headers_too_large,
    lost_before_answer,
    lost_in_answer,
    malformed_body,
    no_http,
    truncated,
    write_timeout,
)

if TYPE_CHECKING:
    from lamella._errors import LamellaError
    from lamella.transports._fast_reply import FastReply

_IN_HEAD: Final = -3
PIECE_BYTES: Final = 64 * 1024
_STALE_SECONDS = 1.0
"""How soon a kept connection must break for the request not to have been taken. A peer that had
closed it says so within a round trip; one that breaks it later may have been at work."""
_STATUS_LINE_BYTES: Final = 256
"""The longest status line that is none of the headers."""
_SWITCHING_PROTOCOLS: Final = 101


class Connection(asyncio.BufferedProtocol):
    """One connection. Belongs to one event loop and is touched on it alone.

    Args:
        loop: The event loop.
        buffer: Where bytes arrive, before they are copied. All connections of a loop share it: each
            is done with it when it returns to the loop.
        max_header_bytes: The most bytes of an answer's headers.
        freed: Called when an answer is complete and another request can be sent.
        lost: Called once, when the connection is of no use any more.

    Attributes:
        exchanges: How many requests were sent.
        open: Whether it is of use.
        paused: Whether the system has not yet taken all that was written.
        idle_since: When the last answer was complete, on the loop's clock.
        taken: When somebody got it for another request.
    """

    __slots__ = (
        "_buffer",
        "_chunks",
        "_drained",
        "_ended",
        "_freed",
        "_head_bytes",
        "_held",
        "_keep",
        "_left",
        "_loop",
        "_lost",
        "_max_header_bytes",
        "_method",
        "_poll",
        "_raw",
        "_reply",
        "_transport",
        "_unread",
        "_whole",
        "exchanges",
        "idle_since",
        "open",
        "paused",
        "taken",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        buffer: memoryview,
        max_header_bytes: int,
        freed: Callable[[Connection], None],
        lost: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._buffer = buffer
        self._max_header_bytes = max_header_bytes
        self._freed = freed
        self._lost = lost
        self._transport: Any = None
        self._raw: Any = None
        self._poll: Callable[[int], Any] | None = None
        self._reply: FastReply | None = None
        self._method = ""
        self._left = _IN_HEAD
        self._held: bytes = b""
        self._head_bytes = 0
        self._chunks: Chunks | None = None
        self._keep = True
        self._ended = False
        self.paused = False
        self._unread = False
        self._whole = True
        self._drained: asyncio.Future[None] | None = None
        self.exchanges = 0
        self.idle_since = 0.0
        self.taken = 0.0
        self.open = True

    # --- requests ----------------------------------------------------------------------------

    def begin(self, reply: FastReply, method: str) -> None:
        """Let what comes from now on be the answer to a request that is about to be written."""
        self._reply = reply
        self._method = method
        self._left = _IN_HEAD
        self._head_bytes = 0
        self.exchanges += 1
        reply.connection = self

    def write(self, data: bytes) -> bool:
        """Write bytes; whether the system took them all."""
        self._transport.write(data)
        return not self.paused

    async def write_rest(self, body: memoryview, seconds: float | None, reply: FastReply) -> None:
        """Write what is left of a request while the peer takes it and has not answered.

        An answer before the whole request ends that: nobody wants the rest. The peer still waits
        for it, so that nothing else can be sent on this connection.

        Raises:
            WriteTimeout: If the peer took nothing of the next piece in time.
        """
        at, end = 0, len(body)
        self._whole = end == 0
        while True:
            if not await self._taken(seconds, reply):
                raise write_timeout(reply.provider, seconds or 0.0)
            if self._whole or reply.status or not self.open:
                return
            self._transport.write(body[at : at + PIECE_BYTES])
            at += PIECE_BYTES
            self._whole = at >= end

    async def _taken(self, seconds: float | None, reply: FastReply) -> bool:
        """Wait until the system took what was written, or for an answer; False if too long."""
        while self.paused and self.open and not reply.status:
            waiter = self._drained = self._loop.create_future()
            if seconds is None:
                await waiter
                continue
            with anyio.move_on_after(seconds) as scope:
                await waiter
            if scope.cancelled_caught:
                return False
        return True

    def stale(self) -> bool:
        """Whether an idle connection has something to read, which can only be its end."""
        poll = self._poll
        return not self.open or (poll is not None and bool(poll(0)))

    def resume_reading(self) -> None:
        """Somebody has read what had come."""
        if self._unread:
            self._unread = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once. Idempotent."""
        if self.open:
            self._gone()
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close because the client was closed: an answer under way ends with that."""
        reply = self._reply
        if reply is not None:
            self._reply = None
            reply.fail(client_closed(reply.provider))
        self.abort()

    def renew(self) -> None:
        """Forget what was said to a proxy: from now on it leads to the origin."""
        self._reply = None
        self.exchanges = 0

    def use(self, transport: Any) -> None:
        """Talk through another transport from now on: TLS on top of the first one."""
        self._transport = transport
        # What is left after a write counts as not taken, however little it is.
        transport.set_write_buffer_limits(high=1)

    @property
    def transport(self) -> Any:
        """What it talks through."""
        return self._transport

    # --- asyncio's side ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There is a connection."""
        self.use(transport)
        raw = transport.get_extra_info("socket")
        import select

        if raw is not None and hasattr(select, "poll"):
            poll = select.poll()
            poll.register(raw.fileno(), select.POLLIN)
            self._poll = poll.poll

    def pause_writing(self) -> None:
        """The system takes no more for now."""
        self.paused = True

    def resume_writing(self) -> None:
        """The system has taken everything."""
        self.paused = False
        self._drain()

    def _drain(self) -> None:
        waiter, self._drained = self._drained, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go. The loop's own way makes 256 KiB anew for each read."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have come."""
        data = bytes(self._buffer[:nbytes])
        reply = self._reply
        if reply is None:  # nobody asked for them
            self.abort()
            return
        try:
            self._take(reply, data)
        except NoHTTPError:
            who = reply.provider
            self._fail(no_http(who) if self._left == _IN_HEAD else malformed_body(who))

    def _take(self, reply: FastReply, data: bytes) -> None:
        if self._left == _IN_HEAD:
            rest = self._read_head(reply, data)
            if rest is None:
                return
            data = rest
        left = self._left
        if left >= 0:
            surplus = len(data) - left
            if surplus < 0:
                self._left = -surplus
                if data and not reply.add(data):
                    self._stop_reading()
                reply.wake()
                return
            if surplus:
                data = data[:left]
                self._keep = False
            ended = True
        elif left == CHUNKED:
            chunks = cast("Chunks", self._chunks)
            data = chunks.feed(data)
            ended = chunks.ended
            if chunks.surplus:
                self._keep = False
        else:
            ended = False
        if data and not reply.add(data) and not ended:
            self._stop_reading()
        if ended:
            self._complete(reply)
        else:
            reply.wake()

    def _read_head(self, reply: FastReply, data: bytes) -> bytes | None:
        """Read an answer's head; what follows it. None if more of it is to come."""
        while True:
            start = 0
            if self._held:
                start = max(0, len(self._held) - 3)
                data = self._held + data
                self._held = b""
            end = data.find(b"\r\n\r\n", start)
            size = len(data) if end < 0 else end
            if self._head_bytes + size > self._max_header_bytes and self._too_large(data, size):
                self._fail(headers_too_large(reply.provider))
                return None
            if end < 0:
                self._must_be_head(data)
                self._held = data
                return None
            status, headers, keep, length = read_head(data[:end], self._method)
            data = data[end + 4 :]
            if status >= 200:
                break
            if status == _SWITCHING_PROTOCOLS:  # to what, as nobody asked?
                raise NoHTTPError
            self._head_bytes += end + 4
            if not data:
                return None
        self._left = length
        self._keep = keep
        if length == CHUNKED:
            self._chunks = Chunks(self._max_header_bytes)
        reply.begin(status, headers)
        if self._drained is not None:
            self._drain()
        return data

    def _too_large(self, data: bytes, size: int) -> bool:
        """Whether headers are over the bound, which does not count the status line."""
        first = max(0, data.find(b"\r\n", 0, _STATUS_LINE_BYTES))
        return self._head_bytes + size - first > self._max_header_bytes

    @staticmethod
    def _must_be_head(data: bytes) -> None:
        start = data[:7]
        if not b"HTTP/1.".startswith(start) or b"\n\n" in data or b"\n\r\n" in data:
            raise NoHTTPError

    def _stop_reading(self) -> None:
        if not self._unread:
            self._unread = True
            self._transport.pause_reading()

    def _complete(self, reply: FastReply) -> None:
        self._reply = None
        if self._keep and self._whole and not self._ended and not self.paused:
            if self._unread:
                self.resume_reading()
            self._freed(self)
        else:
            self.abort()
        reply.finish()

    def eof_received(self) -> None:
        """The peer has closed its side in an orderly way."""
        self._ended = True
        self._hang_up()
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._hang_up()
        if self.open:
            self._gone()

    def _hang_up(self) -> None:
        """End the answer under way: it is complete, cut off, or never began."""
        reply = self._reply
        if reply is None:
            return
        who = reply.provider
        if reply.status:
            if self._ended and self._left == UNTIL_CLOSED:
                self._complete(reply)
                return
            self._fail(truncated(who) if self._ended else lost_in_answer(who))
            return
        silent = not self._held and not self._head_bytes
        early = self.exchanges > 1 and self._loop.time() < self.taken + _STALE_SECONDS
        self._fail(lost_before_answer(who, reply.where), unanswered=silent and early)

    def _fail(self, error: LamellaError, *, unanswered: bool = False) -> None:
        reply, self._reply = self._reply, None
        self.abort()
        if reply is not None:
            reply.fail(error, unanswered=unanswered)

    def _gone(self) -> None:
        self.open = False
        self._poll = None
        self._reply = None
        self._drain()
        self._lost(self)
