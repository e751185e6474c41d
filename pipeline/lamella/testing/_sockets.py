"""TCP sockets whose every byte and every end is ours to decide.

anyio's own socket streams read ahead on asyncio and cannot reset a connection; these keep nothing
back, so that a reply can stop reading (zero window), stop in the middle of a byte count, close
(FIN) or reset (RST).
"""

import socket
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream

_DRAIN_AT_MOST = 1 << 20


def listen(host: str, port: int, *, backlog: int, receive_buffer: int | None) -> socket.socket:
    """Open a listening socket, non-blocking; port 0 takes any free one.

    Raises:
        OSError: the address cannot be used; the message names it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)  # noqa: FBT003 - the standard library's signature
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        listener.bind((host, port))
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        message = (
            f"HTTPServer cannot listen on {host!r} port {port!r} ({error.strerror or error}); "
            "choose another port, or 0 for any free one"
        )
        raise OSError(error.errno, message) from error
    return listener


async def accept(listener: socket.socket) -> socket.socket:
    """Wait for the next connection.

    Raises:
        anyio.ClosedResourceError: the listener was closed meanwhile.
        OSError: the system cannot give a connection now (too many open files).
    """
    while True:
        await anyio.lowlevel.checkpoint()
        try:
            connection, _address = listener.accept()
        except BlockingIOError:
            await anyio.wait_readable(listener)
        except ConnectionAbortedError:
            continue
        else:
            connection.setblocking(False)  # noqa: FBT003 - the standard library's signature
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection


def close_listener(listener: socket.socket) -> None:
    """Close a listening socket and wake who waits on it."""
    if listener.fileno() != -1:
        anyio.notify_closing(listener)
        listener.close()


class SocketStream(anyio.abc.ByteStream):
    """A TCP connection that reads only when asked and can end in every way TCP knows."""

    def __init__(self, connection: socket.socket) -> None:
        """Wrap a connected, non-blocking socket; the stream owns it from here on."""
        self._socket = connection
        self.deaf = False
        """True makes `receive` report the end of the stream, so that TLS ends without waiting."""

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Give the socket itself, as anyio's streams do."""
        return {anyio.abc.SocketAttribute.raw_socket: lambda: self._socket}

    @property
    def closed(self) -> bool:
        """Whether this side has closed the connection."""
        return self._socket.fileno() == -1

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Wait for bytes; cancelling it loses none.

        Raises:
            anyio.EndOfStream: the peer has closed its side.
            anyio.BrokenResourceError: the connection was reset.
            anyio.ClosedResourceError: this side has closed it.
        """
        await anyio.lowlevel.checkpoint()
        while not self.deaf:
            self._require_open()
            try:
                data = self._socket.recv(max_bytes)
            except BlockingIOError:
                await anyio.wait_readable(self._socket)
            except OSError as error:
                raise BrokenResourceError from error
            else:
                if not data:
                    break
                return data
        raise EndOfStream

    async def send(self, item: bytes) -> None:
        """Hand all bytes to the system, waiting for the peer where its window is full.

        Raises:
            anyio.BrokenResourceError: the peer has gone.
            anyio.ClosedResourceError: this side has closed the connection.
        """
        await anyio.lowlevel.checkpoint()
        view = memoryview(item)
        while view:
            self._require_open()
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                await anyio.wait_writable(self._socket)
            except OSError as error:
                raise BrokenResourceError from error

    async def send_eof(self) -> None:
        """Close the sending side (FIN); the peer may go on sending."""
        await anyio.lowlevel.checkpoint()
        self.shutdown()

    def shutdown(self) -> None:
        """Close the sending side (FIN) at once; nothing happens if the peer has gone."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            return  # not connected any more: there is nobody to tell

    def reset(self) -> None:
        """End the connection with RST instead of FIN; unsent bytes are thrown away."""
        if not self.closed:
            linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._close()

    def finish(self) -> None:
        """End the connection with FIN, also when the peer's last bytes were never read."""
        if not self.closed:
            self.shutdown()
            self._discard()
            self._close()

    async def aclose(self) -> None:
        """End the connection with FIN."""
        self.finish()
        await anyio.lowlevel.checkpoint()

    def _discard(self) -> None:
        # A close with unread bytes makes the system send RST: a clean end would be a failure.
        for _ in range(_DRAIN_AT_MOST // 65536):
            try:
                if not self._socket.recv(65536):
                    return
            except OSError:
                return  # nothing more to read, or nobody there

    def _close(self) -> None:
        anyio.notify_closing(self._socket)
        self._socket.close()

    def _require_open(self) -> None:
        if self.closed:
            raise ClosedResourceError
