"""The sockets beneath the HTTP client.

The library's own network backend opens a timeout scope around every read, tells nothing of what
happened on a connection, and knows no limit for connecting and TLS together. This one reads without
a scope, says in its errors whether the peer had said anything since the last request, and can
slip in a frame: HTTP/2 streams that are left must be reset, which the library does not do.
"""

from __future__ import annotations

import socket  # noqa: TID251 - this is what the HTTP port reaches the network through
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_address
from time import monotonic  # noqa: TID251 - the pool's own clock: nothing waits for it
from typing import Any, TypeVar

import anyio
import anyio.abc
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSAttribute, TLSStream

from lamella.transports._http import Resolve
from lamella.transports._http_library import http_library
from lamella.transports._http_sockets import tune

T = TypeVar("T")

_BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)
_TRUST_SECONDS = 0.1
_STALE_SECONDS = 1.0
"""How soon a kept connection must break for the request not to have been taken. A peer that had
closed it says so within a round trip; one that breaks it later may have been at work."""
_RST_STREAM = struct.Struct("!HBBBII")
_CANCEL = 8
_INFO = {
    "ssl_object": TLSAttribute.ssl_object,
    "socket": SocketAttribute.raw_socket,
}
_REUSED = "_lamella_unanswered"
_CERTIFICATE = "_lamella_certificate"


def went_unanswered(error: BaseException) -> bool:
    """Whether a kept connection broke before the peer said anything to the latest request."""
    return getattr(error, _REUSED, False)


def blames_certificate(error: BaseException) -> bool:
    """Whether a connection failed because of the peer's certificate or TLS settings."""
    return getattr(error, _CERTIFICATE, False)


class NetworkStream:
    """One connection, as the HTTP library wants it.

    Attributes:
        ended: Whether the peer has closed its side.
        http2: Whether HTTP/2 was agreed on.
    """

    def __init__(self, stream: anyio.abc.ByteStream, *, http2: bool = False) -> None:
        self._stream = stream
        self._raw: socket.socket | None = stream.extra(SocketAttribute.raw_socket, None)  # noqa: S610 - anyio's
        self._held = b""
        self._exchanges = 0
        self._answered = True
        self._asked = 0.0
        self._trusted_until = 0.0
        self._lock = anyio.Lock() if http2 else None
        self.http2 = http2
        self.ended = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._held:
            await self._flush(timeout)
        try:
            data = await _within(timeout, self._stream.receive, max_bytes)
        except anyio.EndOfStream:
            data = b""
        except TimeoutError as error:
            raise http_library().core.ReadTimeout from error
        except _BROKEN as error:
            raise self._unanswered(http_library().core.ReadError()) from error
        if data:
            self._answered = True
        else:
            self.ended = True
            broken = self._unanswered(http_library().core.RemoteProtocolError())
            if went_unanswered(broken):
                raise broken
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        if self.http2:
            await self._send(buffer, timeout)
            return
        if self._answered:  # a new request begins: its headers travel with its body's first piece
            self._answered = False
            self._exchanges += 1
            self._asked = anyio.current_time()
            if self._exchanges > 1 and _readable(self._raw):
                # Its end; or what nobody had asked for, which would pass for the answer.
                raise self._unanswered(http_library().core.ReadError())
            self._held = buffer
            return
        if self._held:
            buffer, self._held = self._held + buffer, b""
        await self._send(buffer, timeout)

    async def reset(self, stream_id: int) -> None:
        """Tell an HTTP/2 peer that nobody waits for one of its streams any more."""
        await self._send(_RST_STREAM.pack(0, 4, 3, 0, stream_id, _CANCEL), None)

    async def _flush(self, timeout: float | None) -> None:
        held, self._held = self._held, b""
        await self._send(held, timeout)

    async def _send(self, data: bytes, timeout: float | None) -> None:
        try:
            if self._lock is None:
                await _within(timeout, self._stream.send, data)
            else:
                async with self._lock:
                    await _within(timeout, self._stream.send, data)
        except TimeoutError as error:
            raise http_library().core.WriteTimeout from error
        except _BROKEN as error:
            raise self._unanswered(http_library().core.WriteError()) from error

    def _unanswered(self, error: Exception) -> Exception:
        kept = self._exchanges > 1 and not self.http2
        if kept and not self._answered and anyio.current_time() < self._asked + _STALE_SECONDS:
            setattr(error, _REUSED, True)
        return error

    async def aclose(self) -> None:
        self._trusted_until = 0.0
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> NetworkStream:
        core = http_library().core
        try:
            stream = await _within(
                timeout,
                lambda: TLSStream.wrap(
                    self._stream,
                    hostname=server_hostname,
                    ssl_context=ssl_context,
                    standard_compatible=False,
                    server_side=False,
                ),
            )
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(self._stream)
            if isinstance(error, TimeoutError):
                raise core.ConnectTimeout from error
            if isinstance(error, ssl.SSLError | ssl.CertificateError) and not isinstance(
                error, ssl.SSLEOFError
            ):
                failed = core.ConnectError(type(error).__name__)
                setattr(failed, _CERTIFICATE, True)
                raise failed from error
            if isinstance(error, (*_BROKEN, anyio.EndOfStream)):
                raise core.ConnectError(type(error).__name__) from error
            raise
        agreed = stream.extra(TLSAttribute.alpn_protocol, None)  # noqa: S610 - anyio's
        return NetworkStream(stream, http2=agreed == "h2")

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            return self._gone()
        wanted = _INFO.get(info)
        return None if wanted is None else self._attribute(wanted)

    def _gone(self) -> bool:
        """Whether an idle connection has something to read, which can only be its end.

        The pool asks this of every idle connection on every request, so that one answer holds for a
        while; what closes meanwhile is found out when the connection is used.
        """
        now = monotonic()
        if now < self._trusted_until:
            return False
        self._trusted_until = now + _TRUST_SECONDS
        return _readable(self._raw)

    def _attribute(self, wanted: Any) -> Any:
        return self._stream.extra(wanted, None)  # noqa: S610 - anyio's, not Django's


class NetworkBackend:
    """Opens connections.

    Args:
        keepalive: Seconds of silence after which the system probes the peer; None for never.
        resolve: Gives the addresses to connect to; None leaves names to the system.
    """

    def __init__(self, keepalive: float | None, resolve: Resolve | None = None) -> None:
        self._keepalive = keepalive
        self._resolve = resolve

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> NetworkStream:
        core = http_library().core
        try:
            stream = await _within(timeout, lambda: self._connect(host, port, local_address))
        except TimeoutError as error:
            raise core.ConnectTimeout from error
        except _BROKEN as error:
            raise core.ConnectError(type(error).__name__) from error
        made = NetworkStream(stream)
        tune(made.get_extra_info("socket"), self._keepalive)
        return made

    async def _connect(self, host: str, port: int, local: str | None) -> anyio.abc.SocketStream:
        if self._resolve is None:
            return await anyio.connect_tcp(host, port, local_host=local)
        failure: OSError = ConnectionError("the resolver gave no address")
        for address in await self._resolve(host, port):
            try:
                # A name here would be resolved once more, by somebody else.
                numeric = str(ip_address(address))
                return await anyio.connect_tcp(numeric, port, local_host=local)
            except ValueError:
                failure = ConnectionError("the resolver gave something else than an address")
            except OSError as error:
                failure = error
        raise failure


async def _within(timeout: float | None, function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Await; a timeout that is off costs nothing."""
    if timeout is None:
        return await function(*args)
    with anyio.fail_after(timeout):
        return await function(*args)


def _readable(raw: socket.socket | None) -> bool:
    """Whether a read would return at once."""
    descriptor = -1 if raw is None else raw.fileno()
    if descriptor < 0:
        return True
    import select

    if not hasattr(select, "poll"):
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
