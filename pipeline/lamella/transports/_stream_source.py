"""The events of a streamed answer, from the bytes of its body."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import anyio

from lamella._errors import ClosedError, ConnectionLostError, LamellaError, StreamTruncated
from lamella._events import Event, Finish
from lamella.transports._dialect import Message, MessageReader, StreamDecoder
from lamella.transports._http import HTTPReply

DRAIN_SECONDS = 0.05
"""How long the end of the HTTP message may follow the end of the answer. The last bytes usually
come together; where they do not, a new connection is cheaper than a wait."""

LATE_SECONDS = 2.0
"""How long more of an answer is waited for that may be complete, where its protocol has no word for
the end but the end of the HTTP message. A server that never ends it must not lose the answer."""


class StreamSource:
    """Reads the messages of a reply; see `Source`.

    The verdict on the end is the decoder's alone: a reply that breaks off after the protocol's
    terminal signal has ended well, one that ends properly without it has not.

    Args:
        reply: The answer, closed with this.
        decoder: Of the answer's dialect.
        reader: Cuts the bytes into messages.
        request_id: The provider's id of the request, for errors inside the stream.
    """

    __slots__ = ("_decoder", "_error", "_over", "_pending", "_reader", "_reply", "_request_id")

    def __init__(
        self,
        reply: HTTPReply,
        decoder: StreamDecoder,
        reader: MessageReader,
        request_id: str | None,
    ) -> None:
        self._reply = reply
        self._decoder = decoder
        self._reader = reader
        self._request_id = request_id
        self._pending: deque[Event] = deque()
        self._error: Exception | None = None
        self._over = False

    def ready(self) -> Event | None:
        pending = self._pending
        return None if not pending or type(pending[0]) is Finish else pending.popleft()

    async def __anext__(self) -> Event:
        pending = self._pending
        while not pending:
            if self._error is not None:
                raise self._error
            if self._over:
                raise StopAsyncIteration
            try:
                if getattr(self._decoder, "complete", False):
                    data = await self._late()
                else:
                    data = await self._reply.__anext__()
            except StopAsyncIteration:
                self._take(self._reader.finish(), last=True)
            except (ConnectionLostError, StreamTruncated) as error:
                self._broken(error)
            else:
                self._take(self._reader.feed(data))
        return pending.popleft()

    async def _late(self) -> bytes:
        """What still comes of an answer that needs no more."""
        with anyio.move_on_after(LATE_SECONDS):
            return await self._reply.__anext__()
        raise StopAsyncIteration

    def _take(self, messages: Iterable[Message], *, last: bool = False) -> None:
        decoder, pending = self._decoder, self._pending
        try:
            for event, data in messages:
                pending.extend(decoder.feed(event, data))
                if decoder.done:
                    break
            if last or decoder.done:
                self._over = True
                pending.extend(decoder.finish())
        except LamellaError as error:
            # What came before it in the same bytes is handed out first.
            known = error.request_id or self._request_id
            self._error = error.copy(request_id=known)

    def _broken(self, error: LamellaError) -> None:
        rest = self._reader.finish() if isinstance(error, StreamTruncated) else ()
        self._take(rest, last=True)
        if not self._pending and self._error is None:
            self._error = error.copy(request_id=self._request_id)

    async def aclose(self) -> None:
        if self._decoder.done and self._error is None:
            await self._drain()
        await self._reply.aclose()

    async def _drain(self) -> None:
        """Let the HTTP message end, so that its connection can serve again."""
        with anyio.move_on_after(DRAIN_SECONDS):
            try:
                while True:
                    await self._reply.__anext__()
            except (StopAsyncIteration, LamellaError):
                return


def whole_of(reply: HTTPReply) -> bytes | None:
    """The whole body, if all of it has come and the client can say so; None if it is to be read."""
    whole = getattr(reply, "whole", None)
    return None if whole is None else whole()


async def read_all(reply: HTTPReply) -> bytes:
    """The whole body.

    Raises:
        LamellaError: As `HTTPReply.__anext__`.
    """
    pieces: list[bytes] = []
    try:
        while True:
            pieces.append(await reply.__anext__())
    except StopAsyncIteration:
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def read_some(reply: HTTPReply, max_bytes: int, seconds: float) -> bytes:
    """As much of the body as comes within bounds: of an error, the beginning says enough."""
    pieces: list[bytes] = []
    size = 0
    with anyio.move_on_after(seconds):
        try:
            while size < max_bytes:
                pieces.append(await reply.__anext__())
                size += len(pieces[-1])
        except (StopAsyncIteration, LamellaError) as error:
            if isinstance(error, ClosedError):
                raise
    return b"".join(pieces)
