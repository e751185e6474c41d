"""An answer of the fast client: filled by its connection, read by one task, closed by any."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lamella._errors import LamellaError
from lamella._nothing import NOTHING
from lamella.transports._http_failures import (
    answer_closed,
    badly_compressed,
    body_too_large,
    read_broken_off,
    truncated,
    unknown_coding,
)
from lamella.transports._http_inflate import Inflater

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future  # noqa: TID251 - types of its loops

    from lamella.transports._fast_connection import Connection

HIGH_WATER = 256 * 1024
"""Bytes that nobody has read yet, above which no more are taken from the network."""


class FastReply:
    """One answer; see `HTTPReply`. Its connection is its own until the last byte has come.

    Args:
        loop: The event loop that it belongs to.
        provider: Who answers, for messages.
        where: At which address, for messages.
        max_bytes: The most bytes of the body, decompressed.
    """

    __slots__ = (
        "_broken",
        "_closed",
        "_held",
        "_inflater",
        "_left",
        "_loop",
        "_max",
        "_pieces",
        "_unknown",
        "_waiter",
        "connection",
        "error",
        "headers",
        "provider",
        "status",
        "unanswered",
        "where",
    )

    def __init__(self, loop: AbstractEventLoop, provider: str, where: str, max_bytes: int) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = NOTHING
        self.provider = provider
        self.where = where
        self.connection: Connection | None = None
        self.error: LamellaError | None = None
        self.unanswered = False
        self._loop = loop
        self._left = self._max = max_bytes
        self._pieces: list[bytes] = []
        self._held = 0
        self._waiter: Future[None] | None = None
        self._inflater: Inflater | None = None
        self._unknown = False
        self._broken = False
        self._closed = False

    # --- the connection's side ---------------------------------------------------------------

    def begin(self, status: int, headers: dict[str, str]) -> None:
        """Status and headers have come."""
        self.status = status
        self.headers = headers
        if "content-encoding" in headers:
            coding = headers["content-encoding"].strip().lower()
            if coding in {"gzip", "deflate"}:
                self._inflater = Inflater(coding)
            else:
                self._unknown = coding not in {"", "identity"}

    def add(self, data: bytes) -> bool:
        """A piece of the body has come; whether there is room for more."""
        self._pieces.append(data)
        self._held += len(data)
        return self._held < HIGH_WATER

    def wake(self) -> None:
        """Let who waits look again."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():  # cancelled
                waiter.set_result(None)

    def finish(self) -> None:
        """The last piece has come: the connection is somebody else's."""
        self.connection = None
        self.wake()

    def fail(self, error: LamellaError, *, unanswered: bool = False) -> None:
        """The connection is gone.

        Args:
            error: What the next read raises.
            unanswered: Whether the request was certainly not taken.
        """
        self.error = error
        self.unanswered = unanswered
        self.finish()

    # --- the caller's side -------------------------------------------------------------------

    def waiting(self) -> Future[None]:
        """What is to be awaited for what comes next."""
        waiter = self._waiter = self._loop.create_future()
        return waiter

    def whole(self) -> bytes | None:
        """The whole body, if all of it has come, as it is; None if it has to be read."""
        if self.connection is not None or self.error is not None or self._inflater is not None:
            return None
        if self._broken or self._closed or self._unknown or self._held > self._left:
            return None
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces = []
        self._left -= self._held
        self._held = 0
        return data

    async def __anext__(self) -> bytes:
        if self._broken or self._closed or self._unknown:
            raise self._refusal()
        inflater = self._inflater
        if inflater is None:
            data = await self._read()
        else:
            data = await self._inflated(inflater)
        self._left -= len(data)
        if self._left < 0:
            raise body_too_large(self.provider, self._max)
        return data

    async def _read(self) -> bytes:
        """The next bytes as they travelled."""
        pieces = self._pieces
        while not pieces:  # what came may have been framing alone: the size of the next chunk
            if self.connection is None:
                raise self._end()
            try:
                await self.waiting()
            except BaseException:  # cancelled: what comes from now on is nobody's
                self._broken = True
                self._abort()
                raise
            if self._closed:
                raise answer_closed(self.provider)
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._held = 0
        if self.connection is not None:
            self.connection.resume_reading()
        return data

    async def _inflated(self, inflater: Inflater) -> bytes:
        try:
            data = inflater.take()
            while not data:
                inflater.feed(await self._read())
                data = inflater.take()
        except StopAsyncIteration:
            if not inflater.complete:
                raise truncated(self.provider) from None
            raise
        except zlib.error as error:
            raise badly_compressed(self.provider) from error
        return data

    def _end(self) -> Exception:
        error = self.error
        if error is None:
            return StopAsyncIteration()
        self._broken = True
        return error

    def _refusal(self) -> LamellaError:
        if self._closed:
            return answer_closed(self.provider)
        return read_broken_off(self.provider) if self._broken else unknown_coding(self.provider)

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._abort()

    def _abort(self) -> None:
        connection = self.connection
        if connection is not None:
            self.finish()
            connection.abort()
