"""Connections of asyncio's that are read without stopping."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

from lamella.transports._http_stream import MOST_BYTES, LoopStream, unstopped

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Connections of trio's stay as they are."""
    return "asyncio"


@asynccontextmanager
async def _connected() -> AsyncIterator[tuple[anyio.abc.ByteStream, anyio.abc.SocketStream]]:
    """A connection as the HTTP client has it, and its other end."""
    peers = list[anyio.abc.SocketStream]()
    accepted = anyio.Event()

    async def serve(stream: anyio.abc.SocketStream) -> None:
        peers.append(stream)
        accepted.set()
        await anyio.sleep_forever()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        stream = unstopped(await anyio.connect_tcp("127.0.0.1", port))
        await accepted.wait()
        yield stream, peers[0]
        await stream.aclose()
        await peers[0].aclose()
        group.cancel_scope.cancel()


async def test_a_peer_that_nobody_listens_to_has_to_wait() -> None:
    """What comes unasked is bounded, and nothing of it is lost."""
    size = 64 * MOST_BYTES
    async with _connected() as (stream, peer), anyio.create_task_group() as group:
        assert isinstance(stream, LoopStream)
        group.start_soon(peer.send, bytes(size))
        while not stream._stopped:
            await anyio.lowlevel.checkpoint()
        assert stream.spoken
        assert stream._held < 4 * MOST_BYTES
        got = 0
        while got < size:
            got += len(await stream.receive())
        assert got == size
        assert not stream.spoken


async def test_a_read_ends_when_another_task_closes() -> None:
    """Who waits for bytes is told; so is who asks later."""
    async with _connected() as (stream, _), anyio.create_task_group() as group:

        async def read() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await stream.receive()

        group.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await stream.receive()
        await stream.aclose()
        await read()
        with pytest.raises(anyio.ClosedResourceError):
            await stream.send(b"x")


async def test_the_peers_end_is_seen_after_what_it_said() -> None:
    """Bytes come first, cut as asked for; then the end, as often as one asks."""
    async with _connected() as (stream, peer):
        await peer.send(b"abc")
        await peer.send_eof()
        assert await stream.receive(2) == b"ab"
        assert await stream.receive(2) == b"c"
        for _ in range(2):
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()


async def test_a_write_waits_until_the_peer_takes_it() -> None:
    """A write that the peer does not take goes on when it does, and can be given up."""
    size = 16 * 1024 * 1024
    async with _connected() as (stream, peer):
        async with anyio.create_task_group() as group:
            group.start_soon(stream.send, bytes(size))
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        async with anyio.create_task_group() as group:
            group.start_soon(stream.send, b"end")
            got = b""
            while not got.endswith(b"end"):
                got = await peer.receive()
