"""One connection: requests in, replies out, and a watch on whether the client is still there."""

import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from random import Random
from typing import Literal

import anyio
import anyio.abc
import attrs
from anyio import BrokenResourceError, EndOfStream
from anyio.streams.tls import TLSStream

from lamella.testing._faults import Faults
from lamella.testing._http_body import wait
from lamella.testing._http_framing import Reply
from lamella.testing._http_reply import End, Replier
from lamella.testing._http_traffic import Disconnect, Traffic
from lamella.testing._http_wire import Limits, Reader, Received, RequestError
from lamella.testing._sockets import SocketStream

Handler = Callable[[Received], Awaitable[Reply]]
_LINGER_SECONDS = 1.0


def _nothing(_: object) -> None:
    return None


@attrs.frozen(kw_only=True)
class Early:
    """Faults that must be known before there is a whole request to answer.

    Of the verbs, ``no_read`` and ``blackhole`` count here, and for a connection also ``delay`` and
    ``reset_before_headers``. The others are left to the reply, so that the faults of one
    request may be given as a whole both for its head and with its reply.

    Attributes:
        connection: asked with the number of each new connection, before anything is read (and
            before TLS).
        head: asked with each request whose headers have been read, before its body is (``body`` is
            still empty).
    """

    connection: Callable[[int], Faults | None] = _nothing
    head: Callable[[Received], Faults | None] = _nothing


@attrs.frozen(kw_only=True)
class Service:
    """What all connections of a server share."""

    handler: Handler
    limits: Limits
    early: Early
    random: Random
    tls: ssl.SSLContext | None


class Connection:
    """Serves one accepted connection until either side ends it."""

    def __init__(
        self, service: Service, traffic: Traffic, socket: SocketStream, number: int
    ) -> None:
        """Serve the socket, which is closed when `serve` returns."""
        self._service = service
        self._traffic = traffic
        self._socket = socket
        self._number = number
        self._stream: anyio.abc.ByteStream = socket
        self._reader = Reader(socket, service.limits)
        self._polite = False

    async def serve(self) -> None:
        """Serve requests one after the other."""
        try:
            if await self._welcome() and await self._secure():
                while await self._exchange():
                    pass
                await self._farewell()
        except BrokenResourceError:
            return  # the client has gone while it was told why it is refused
        except Exception as error:  # noqa: BLE001 - recorded, and raised when the server ends
            self._traffic.failed(error)
        finally:
            self._socket.finish()
            self._traffic.closed()

    async def _welcome(self) -> bool:
        """Carry out the faults of the connection itself; False when they end it."""
        faults = self._service.early.connection(self._number)
        if faults is None:
            return True
        await wait(faults.delay)
        if faults.reset_before_headers:
            self._socket.reset()
            return False
        return await self._early(faults)

    async def _secure(self) -> bool:
        if self._service.tls is None:
            return True
        try:
            self._stream = await TLSStream.wrap(
                self._socket,
                server_side=True,
                ssl_context=self._service.tls,
                standard_compatible=False,
            )
        except (ssl.SSLError, BrokenResourceError, EndOfStream):
            return False  # the client's decision, for instance about the certificate
        self._reader = Reader(self._stream, self._service.limits)
        return True

    async def _early(self, faults: Faults) -> bool:
        """Carry out what concerns reading; False when nothing is to be read at all."""
        await wait(faults.no_read)
        if faults.blackhole:
            await self._while_connected(lambda: wait(faults.blackhole), discard=True)
            return False
        return True

    async def _exchange(self) -> bool:
        """Serve one request; False when the connection ends with it."""
        try:
            received = await self._receive()
        except RequestError as error:
            await self._refuse(error)
            return False
        if received is None:
            return False
        self._traffic.received.append(received)
        self._traffic.changed()
        return await self._reply(received)

    async def _receive(self) -> Received | None:
        """Read one request; None when there is none to answer."""
        head = await self._reader.head()
        if head is None:
            return None
        index = self._traffic.requests
        self._traffic.requests += 1
        self._traffic.changed()
        received = head.received(index, self._number)
        faults = self._service.early.head(received)
        if faults is not None and not await self._early(faults):
            return None
        if head.expects_continue and not self._reader.pending:
            await self._stream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await self._reader.body(head)
        if body is None:
            self._left(index, "request", 0)
            return None
        return attrs.evolve(received, body=body)

    async def _reply(self, received: Received) -> bool:
        """Have a request answered while watching the client; False when the connection ends."""
        replier = Replier(self._stream, self._service.random, self._traffic.sent)
        end: End | None = None

        async def work() -> None:
            nonlocal end
            reply = await self._handled(received)
            try:
                end = await replier.send(reply, received)
            except BrokenResourceError:
                return  # the client has gone
            except Exception as error:  # noqa: BLE001 - recorded, and raised when the server ends
                self._traffic.failed(error)
                end = End.CUT

        await self._while_connected(work)
        if not replier.complete and end is None:
            self._left(received.index, "reply", replier.body_bytes)
        elif replier.complete:
            self._traffic.replies += 1
            self._traffic.changed()
        return await self._goes_on(received, end)

    async def _handled(self, received: Received) -> Reply:
        try:
            return await self._service.handler(received)
        except Exception as error:  # noqa: BLE001 - recorded, and raised when the server ends
            self._traffic.failed(error)
            text = f"The handler of this test server raised {type(error).__name__}.\n"
            return Reply(500, (("Content-Type", "text/plain"),), text.encode())

    async def _goes_on(self, received: Received, end: End | None) -> bool:
        if end is End.RESET:
            self._socket.reset()
        elif end is End.CLOSE_ON_NEXT:
            if not self._reader.pending:
                await self._reader.fill()
        elif end is End.CLOSE:
            self._polite = True
        return end is End.KEEP and received.keep_alive

    async def _while_connected(
        self, work: Callable[[], Awaitable[None]], *, discard: bool = False
    ) -> None:
        """Do some work, cancelled when the client leaves; it must not raise.

        What the client sends meanwhile is kept for later, up to a bound, or thrown away.
        """
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                while discard or self._reader.pending < self._service.limits.ahead_bytes:
                    if not await self._reader.fill():
                        group.cancel_scope.cancel()
                        return
                    if discard:
                        self._reader.discard()

            group.start_soon(watch)
            await work()
            group.cancel_scope.cancel()

    def _left(self, index: int, phase: Literal["request", "reply"], body_bytes: int) -> None:
        self._traffic.disconnects.append(Disconnect(index, self._number, phase, body_bytes))
        self._traffic.changed()

    async def _refuse(self, error: RequestError) -> None:
        """Answer a request that cannot be served, and let the client finish writing it."""
        self._traffic.refused.append(error.status)
        self._traffic.changed()
        body = f"{error.reason}\n".encode()
        await self._stream.send(
            b"HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
            b"Connection: close\r\n\r\n%s"
            % (error.status, HTTPStatus(error.status).phrase.encode(), len(body), body)
        )
        self._socket.shutdown()
        # Closing while the client still writes would reset the connection, and the answer be lost.
        with anyio.move_on_after(_LINGER_SECONDS):
            while await self._reader.fill():
                self._reader.discard()

    async def _farewell(self) -> None:
        """Say goodbye in TLS, without waiting for the client to say it too."""
        if self._polite and isinstance(self._stream, TLSStream) and not self._socket.closed:
            self._socket.deaf = True
            with suppress(BrokenResourceError, EndOfStream, ssl.SSLError):
                await self._stream.unwrap()
