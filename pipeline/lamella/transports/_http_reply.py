"""An answer's body: read by one task, closed by any."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import anyio

from lamella._errors import (
    ClosedError,
    ConnectionLostError,
    LamellaError,
    ProtocolError,
    ResponseTooLargeError,
    StreamTruncated,
)
from lamella.transports._http_inflate import Inflater

CLOSE_SECONDS = 1.0
"""How long closing one answer may take, under a shield."""


class PooledReply:
    """One answer of the pooled client; see `HTTPReply`.

    Args:
        response: The library's response.
        provider: Who answers, for messages.
        max_bytes: The most bytes of the body, decompressed.
        client_closed: Whether the client has been closed meanwhile.
    """

    def __init__(
        self,
        response: Any,
        *,
        provider: str,
        max_bytes: int,
        client_closed: Callable[[], bool],
    ) -> None:
        self.status: int = response.status
        self.headers: Mapping[str, str] = _header_map(response.headers)
        self._body = _body_of(response)
        self._response = response
        self._provider = provider
        self._left = self._max = max_bytes
        self._client_closed = client_closed
        self._network: Any = response.extensions.get("network_stream")
        self._stream_id: int | None = response.extensions.get("stream_id")
        self._iterator: Any = None
        self._scope: anyio.CancelScope | None = None
        self._reading = False
        self._broken = False
        self._ended = False
        self._closed = False
        coding = self.headers.get("content-encoding", "").strip().lower()
        self._inflater = Inflater(coding) if coding in {"gzip", "deflate"} else None
        self._unknown = None if coding in {"", "identity", "gzip", "deflate"} else coding

    async def __anext__(self) -> bytes:
        if self._closed or self._client_closed():
            raise self._closed_error()
        if self._broken:
            msg = f"An earlier read of the answer of {self._provider} was broken off."
            raise ConnectionLostError(msg, provider=self._provider, phase="stream")
        if self._unknown is not None:
            msg = f"{self._provider} compressed its answer in a way that it was not asked for."
            raise ProtocolError(msg, provider=self._provider)
        inflater = self._inflater
        if inflater is None:
            data = await self._read()
        else:
            data = self._inflate(inflater)
            while not data and not self._ended:
                try:
                    inflater.feed(await self._read())
                except StopAsyncIteration:
                    if not inflater.complete:
                        raise self._truncated() from None
                    raise
                data = self._inflate(inflater)
        self._left -= len(data)
        if self._left < 0:
            msg = f"The answer of {self._provider} is larger than {self._max} bytes."
            hint = "If that is to be expected, raise HTTPOptions.max_body_bytes."
            raise ResponseTooLargeError(msg, hint=hint, provider=self._provider)
        return data

    async def _read(self) -> bytes:
        """The next bytes as they travelled."""
        if self._ended:
            raise StopAsyncIteration
        self._reading = True
        try:
            if self._body is not None:
                data = await self._body.read()
            elif self._stream_id is None:
                data = await self._next_piece()
            else:
                data = await self._read_multiplexed()
        except StopAsyncIteration:
            self._ended = True
            await self._give_back()
            raise
        except BaseException as error:
            self._broken = True
            if isinstance(error, Exception):
                raise self._typed(error) from error
            raise
        finally:
            self._reading = False
        if self._closed and self._iterator is not None:  # meanwhile, when bytes were already here
            await self._unwind()
        return data

    async def _give_back(self) -> None:
        """The connection is free from now on, unless the peer said more than its answer.

        What is left over would be read as the beginning of the next answer.
        """
        if _left_over(self._response):
            await self._network.aclose()
        await self._response.aclose()

    async def _next_piece(self) -> bytes:
        if self._iterator is None:
            self._iterator = aiter(self._response.stream)
        while True:
            data: bytes = await anext(self._iterator)
            if data:
                return data

    async def _read_multiplexed(self) -> bytes:
        """A read of an HTTP/2 stream, which closing does not end: the connection stays open."""
        with anyio.CancelScope() as scope:
            self._scope = scope
            try:
                return await self._next_piece()
            finally:
                self._scope = None
        raise self._closed_error()

    def _inflate(self, inflater: Inflater) -> bytes:
        try:
            return inflater.take()
        except zlib.error as error:
            msg = f"The answer of {self._provider} is not compressed as it says."
            raise ProtocolError(msg, provider=self._provider) from error

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._ended:
            return
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            if self._stream_id is not None and self._network is not None:
                with suppress(Exception):
                    await self._network.reset(self._stream_id)
            if self._scope is not None:
                self._scope.cancel()
            if not self._reading and self._iterator is not None:
                await self._unwind()
            await self._give_back()

    async def _unwind(self) -> None:
        """End the library's nested generators, from the inside out.

        Closing the outer one would leave the inner ones to the garbage collector (httpcore 1).
        A cancelled read ends them all, in order.
        """
        with anyio.CancelScope() as scope:
            scope.cancel()
            with suppress(Exception):
                while True:
                    await anext(self._iterator)

    def _typed(self, error: Exception) -> Exception:
        if isinstance(error, LamellaError):
            return error
        if self._closed or self._client_closed():
            return self._closed_error()
        if type(error).__name__ == "RemoteProtocolError":
            if getattr(self._network, "ended", False):
                return self._truncated()
            if self._stream_id is None:
                msg = f"The answer of {self._provider} is not what HTTP allows."
                return ProtocolError(msg, provider=self._provider)
        msg = f"The connection to {self._provider} was lost in the middle of its answer."
        return ConnectionLostError(msg, provider=self._provider, phase="stream")

    def _truncated(self) -> StreamTruncated:
        msg = f"{self._provider} closed the connection in the middle of its answer."
        return StreamTruncated(msg, provider=self._provider)

    def _closed_error(self) -> ClosedError:
        msg = f"The answer of {self._provider} was closed while it was read."
        return ClosedError(msg, provider=self._provider)


class _Body:
    """An HTTP/1.1 body, read from its connection without the library's three nested generators.

    Args:
        receive: The connection's next event.
        close: Closes the answer, and with it a connection that is in the middle of one.
    """

    __slots__ = ("_close", "_receive")

    def __init__(self, receive: Any, close: Any) -> None:
        self._receive = receive
        self._close = close

    async def read(self) -> bytes:
        """The next bytes, never empty.

        Raises:
            StopAsyncIteration: At the end.
        """
        try:
            while True:
                event = await self._receive()
                piece = getattr(event, "data", None)
                if piece is None:
                    break
                if piece:
                    return bytes(piece)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._close()
            raise
        raise StopAsyncIteration


def _body_of(response: Any) -> _Body | None:
    """The body of an HTTP/1.1 answer; None where the library keeps its connection elsewhere."""
    stream = getattr(response.stream, "_stream", None)
    receive = getattr(getattr(stream, "_connection", None), "_receive_event", None)
    if stream is None or receive is None:
        return None
    return _Body(receive, stream.aclose)


def _left_over(response: Any) -> bool:
    """Whether bytes came after the end of an HTTP/1.1 answer; only the library's parser knows."""
    stream = getattr(response.stream, "_stream", None)
    parser = getattr(getattr(stream, "_connection", None), "_h11_state", None)
    return parser is not None and bool(parser.trailing_data[0])


class _Spelled(dict[bytes, str]):
    """Names of headers as text in lower case, found out once for each spelling."""

    def __missing__(self, name: bytes) -> str:
        if len(self) >= _MOST_NAMES:  # names come from servers
            self.clear()
        text = self[name] = name.decode("latin-1").lower()
        return text


_MOST_NAMES = 1_000
_SPELLED = _Spelled()


def _header_map(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = _SPELLED[name], value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers
