"""A byte-level HTTP/1.1 server on the loopback that goes wrong exactly as asked.

It knows bytes only: a handler turns each `Received` into a `Reply`, whose `Faults` say how the wire
misbehaves. All waiting goes through anyio, so that it runs on asyncio and trio and under a virtual
clock; there are no threads.
"""

import socket
import ssl
from collections.abc import Callable
from random import Random
from types import TracebackType
from typing import Self

import anyio
import anyio.abc
from anyio import ClosedResourceError

from lamella.testing._http_connection import Connection, Early, Handler, Service
from lamella.testing._http_traffic import Traffic
from lamella.testing._http_wire import Limits
from lamella.testing._sockets import SocketStream, accept, close_listener, listen


class HTTPServer(Traffic):
    """Serves HTTP/1.1 on a local port until it is closed.

    Use it as ``async with HTTPServer(handler) as server:`` and send requests to ``server.url``. The
    block must be left by the task that entered it; where another task has to end it, run
    `serve_forever` in a task group of your own and call `aclose` from anywhere. Leaving the block
    closes the port and all connections, and then raises what the handler raised, as an
    ``ExceptionGroup``, unless an exception is already on its way.

    A client that closes its sending side counts as gone: the reply under way is cancelled.
    """

    def __init__(  # noqa: PLR0913 - the port and TLS are asked for by name so often
        self,
        handler: Handler,
        *,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        limits: Limits | None = None,
        early: Early | None = None,
        random: Random | None = None,
    ) -> None:
        """Make a server; nothing is opened yet.

        Args:
            handler: answers each request; what it raises becomes a 500 and is kept in ``errors``.
            port: 0 takes any free one.
            tls: makes the server speak HTTPS. None is plain HTTP.
            host: the address to listen on; no other machine can reach the loopback.
            limits: bounds on sizes and numbers.
            early: faults that must be known before there is a whole request.
            random: the source of chance of ``jitter`` and ``variation``; seeded with 0 by default.
        """
        limits = limits or Limits()
        super().__init__(limits.received)
        self._service = Service(
            handler=handler,
            limits=limits,
            early=early or Early(),
            random=random or Random(0),  # noqa: S311 - chance that can be repeated, not secrecy
            tls=tls,
        )
        self._address = (host, port)
        self._scope: anyio.CancelScope | None = None
        self._group: anyio.abc.TaskGroup | None = None
        self._listener: socket.socket | None = None

    @property
    def host(self) -> str:
        """The address listened on."""
        return self._address[0]

    @property
    def port(self) -> int:
        """The port listened on.

        Raises:
            RuntimeError: the server has not been started, and any free port was asked for.
        """
        if not self._address[1]:
            message = (
                "HTTPServer has no port before it is started; enter 'async with server:' first"
            )
            raise RuntimeError(message)
        return self._address[1]

    @property
    def url(self) -> str:
        """Where to send requests, such as ``http://127.0.0.1:50123``; the port as in `port`."""
        scheme = "http" if self._service.tls is None else "https"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"

    async def serve_forever(
        self, *, task_status: anyio.abc.TaskStatus["HTTPServer"] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen and serve until cancelled or closed; then close the port and all connections.

        What the handler raises is kept in ``errors`` and not raised here.

        Args:
            task_status: told the server once it listens, for ``await
                task_group.start(server.serve_forever)``.

        Raises:
            OSError: the address cannot be listened on.
            RuntimeError: the server was started before; make a new one.
        """
        listener, scope = self._listen()
        task_status.started(self)
        await self._serve(listener, scope)

    async def _serve(self, listener: socket.socket, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                async with anyio.create_task_group() as group:
                    await self._accept(listener, group)
        finally:
            close_listener(listener)
            self._ended = True
            self.changed()

    def _listen(self) -> tuple[socket.socket, anyio.CancelScope]:
        if self._listener is not None:
            message = f"{self!r} was started before; make a new HTTPServer for each run"
            raise RuntimeError(message)
        limits = self._service.limits
        listener = self._listener = listen(
            *self._address, backlog=limits.backlog, receive_buffer=limits.receive_buffer
        )
        self._address = (self.host, listener.getsockname()[1])
        # Made before serving begins, so that closing at once does not come too early to be heard.
        self._scope = anyio.CancelScope()
        return listener, self._scope

    async def _accept(self, listener: socket.socket, group: anyio.abc.TaskGroup) -> None:
        bound = self._service.limits.connections
        while True:
            if bound is not None:
                await self.until(_fewer_than(bound))
            try:
                accepted = await accept(listener)
            except ClosedResourceError:
                return
            except OSError:
                # The system has no more file descriptors; wait until one of ours becomes free.
                now = self.open_connections
                if not now:
                    raise
                await self.until(_fewer_than(now))
                continue
            stream = SocketStream(accepted)
            connection = Connection(self._service, self, stream, self.opened())
            group.start_soon(connection.serve)

    async def __aenter__(self) -> Self:
        """Start listening."""
        listener, scope = self._listen()
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._serve, listener, scope)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close everything; raise what the handler raised if nothing else is being raised."""
        self.close()
        if self._group is not None:
            await self._group.__aexit__(None, None, None)
        if error is None and self.errors:
            message = "the handler of the HTTPServer raised"
            raise ExceptionGroup(message, list(self.errors))

    def close(self) -> None:
        """Begin to close the port and all connections, from any task of the same event loop."""
        if self._scope is not None:
            self._scope.cancel()

    async def aclose(self) -> None:
        """Close the port and all connections and wait until they are; any task may, repeatedly."""
        self.close()
        if self._listener is not None:
            await self.until(lambda server: server._ended)  # noqa: SLF001 - its own


def _fewer_than(number: int) -> Callable[[Traffic], bool]:
    return lambda server: server.open_connections < number
