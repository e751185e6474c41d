"""Connections of the fast client: how they are made, what is half said on them, how they end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from fast_wire import connected, feed, reply_on
from http_wire import made, post, read, serving

import lamella
from lamella.transports._fast_connection import PIECE_BYTES, Connection
from lamella.transports._http import HTTPRequest

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that it is for."""
    return "asyncio"


@asynccontextmanager
async def answering(
    head: bytes, tls: ssl.SSLContext | None = None, *, through: bool = False
) -> AsyncIterator[str]:
    """A server that answers each head with another one; a proxy that leads through, if asked."""

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            target.write(data)
        target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = await reader.readuntil(b"\r\n\r\n")
            writer.write(head)
            if through:
                host, _, port = asked.split()[1].partition(b":")
                far = await asyncio.open_connection(host.decode(), int(port))
                await asyncio.gather(pass_on(reader, far[1]), pass_on(far[0], writer))
            else:
                await reader.read()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        scheme = "http" if tls is None else "https"
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"


# --- tunnels -----------------------------------------------------------------------------------


@pytest.mark.parametrize("encrypted", [False, True])
async def test_tunnels(tls: ssl.SSLContext, authority_file: str, *, encrypted: bool) -> None:
    """TLS goes through a proxy, under TLS itself or not; what frames its consent means nothing."""
    consent = b"HTTP/1.1 200 Fine\r\nContent-Length: 5\r\n\r\n"
    body = bytes(300_000)
    async with (
        answering(consent, tls if encrypted else None, through=True) as proxy,
        serving(tls=tls) as server,
    ):
        http = made("fast", verify=authority_file, proxy=proxy)
        for _ in range(2):
            assert await read(await http.send(post(server, body=body, write=60))) == b"then"
        assert server.connections == 1
        await http.aclose()
        await server.until(lambda it: not it.open_connections)


async def test_refusals_without_a_body() -> None:
    """A proxy's refusal ends connecting, however it is framed."""
    async with answering(b"HTTP/1.1 304 No\r\n\r\n") as proxy:
        http = made("fast", verify=False, proxy=proxy)
        with anyio.fail_after(30), pytest.raises(lamella.ConnectError, match="refused"):
            await http.send(HTTPRequest(method="GET", url="https://acme.test/"))
        await http.aclose()


# --- requests that are not whole ---------------------------------------------------------------


async def test_answer_in_the_middle_of_a_request() -> None:
    """A connection on which half a request was sent gets no other one, however it is answered."""
    loop = asyncio.get_running_loop()
    freed: list[Connection] = []
    connection, wire = connected(loop, freed.append, lambda _: None)
    reply = reply_on(loop, connection)
    connection.pause_writing()
    writing = loop.create_task(connection.write_rest(memoryview(bytes(10**6)), None, reply))
    await asyncio.sleep(0)
    connection.resume_writing()
    feed(connection, b"HTTP/1.1 413 Large\r\nContent-Length: 0\r\n\r\n")
    await writing
    assert (reply.status, freed, wire.closed) == (413, [], True)


async def test_answer_that_begins_in_the_middle_of_a_request() -> None:
    """Who answers before the peer took everything is listened to at once."""
    loop = asyncio.get_running_loop()
    freed: list[Connection] = []
    connection, wire = connected(loop, freed.append, lambda _: None)
    reply = reply_on(loop, connection)
    connection.pause_writing()
    writing = loop.create_task(connection.write_rest(memoryview(bytes(10**6)), None, reply))
    await asyncio.sleep(0)
    feed(connection, b"HTTP/1.1 413 Large\r\nContent-Length: 3\r\n\r\nn")
    with anyio.fail_after(30):
        await writing
    connection.resume_writing()
    feed(connection, b"o!")
    assert await reply.__anext__() == b"no!"
    assert (freed, wire.closed, len(wire.written)) == ([], True, 0)


async def test_whole_requests() -> None:
    """A connection is kept if its large request was whole when the answer came."""
    loop = asyncio.get_running_loop()
    freed: list[Connection] = []
    connection, wire = connected(loop, freed.append, lambda _: None)
    reply = reply_on(loop, connection)
    body = bytes(PIECE_BYTES * 2 + 1)
    await connection.write_rest(memoryview(body), None, reply)
    feed(connection, b"HTTP/1.1 204 Fine\r\n\r\n")
    assert (wire.written, freed) == (body, [connection])


async def test_who_is_told_fails() -> None:
    """An error of who is told that a request is sent leaves no connection behind."""

    def fail() -> None:
        raise ZeroDivisionError

    async with serving() as server:
        http = made("fast", max_connections=1)
        for _ in range(2):
            with anyio.fail_after(30), pytest.raises(ZeroDivisionError):
                await http.send(post(server, on_sent=fail))
        await server.until(lambda it: not it.open_connections)
        assert await read(await http.send(post(server))) == b"then"
        await http.aclose()


# --- closing, loops ----------------------------------------------------------------------------


async def test_closing_while_connecting() -> None:
    """It ends with closing, though nothing else limits it."""
    asked, over = asyncio.Event(), asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()  # and nobody shakes hands
        await over.wait()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        http = made("fast", verify=False)

        async def ask() -> None:
            with pytest.raises(lamella.ClosedError):
                await http.send(HTTPRequest(method="GET", url=f"https://127.0.0.1:{port}/"))

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                await asked.wait()
                await http.aclose()
        over.set()


async def test_authorities_are_read_once(tls: ssl.SSLContext) -> None:
    """Many first requests at once read the files of certificates one time."""
    read_files: list[Callable[..., Any]] = []

    async def thread(function: Callable[..., Any], /, *args: Any) -> Any:
        read_files.append(function)
        await anyio.lowlevel.checkpoint()
        return function(*args)

    async with serving(tls=tls) as server:
        http = made("fast", verify=False, thread=thread)

        async def ask() -> None:
            assert await read(await http.send(post(server))) == b"then"

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(ask)
        assert len(read_files) == 1
        await http.aclose()


async def test_many_addresses_of_one_host() -> None:
    """Connections are kept, however many addresses are asked for once."""
    async with serving() as server:
        http = made("fast")
        for number in range(260):
            reply = await http.send(HTTPRequest(method="GET", url=f"{server.url}/{number}"))
            await read(reply)
        assert server.connections == 1
        await http.aclose()


async def test_cancelled_closing() -> None:
    """Who is cancelled in closing has closed everything."""
    http, other = made("fast"), asyncio.new_event_loop()

    async def ask() -> None:
        assert await read(await http.send(post(server))) == b"then"

    async def turn() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    async with serving() as server:
        await ask()
        await anyio.to_thread.run_sync(other.run_until_complete, ask())
        assert server.open_connections == 2
        with anyio.CancelScope() as scope:
            scope.cancel()
            await http.aclose()
        await anyio.to_thread.run_sync(other.run_until_complete, turn())
        with anyio.fail_after(10):
            await server.until(lambda it: not it.open_connections)
    await anyio.to_thread.run_sync(other.run_until_complete, other.shutdown_asyncgens())
    other.close()


def test_closing_in_a_generator_that_the_loop_closes(caplog: pytest.LogCaptureFixture) -> None:
    """A loop that ends closes generators at once, and those may close the client: all is well."""
    kept: list[Any] = []

    async def main() -> None:
        async with answering(b"HTTP/1.1 204 Fine\r\n\r\n") as url:

            async def rows() -> AsyncIterator[int]:
                http = made("fast")
                try:
                    await http.send(HTTPRequest(method="GET", url=url))
                    yield 1
                finally:
                    await http.aclose()

            kept.append(rows())
            await anext(kept[-1])

    for _ in range(3):
        asyncio.run(main())
    # asyncio's own servers complain about tasks that the loop cancelled, which is theirs.
    said = [each.getMessage() for each in caplog.records]
    assert not [text for text in said if "generator" in text]


def test_on_trio_after_asyncio() -> None:
    """The other kind of loop is told what to leave out, though a client was used before."""
    http = made("fast")

    async def refused() -> None:
        with pytest.raises(lamella.ConfigurationError, match="Leave http='fast' out"):
            await http.send(HTTPRequest(method="GET", url="http://127.0.0.1:1/"))

    async def main() -> None:
        async with serving() as server:
            await read(await http.send(post(server)))
            await anyio.to_thread.run_sync(lambda: anyio.run(refused, backend="trio"))
            assert await read(await http.send(post(server))) == b"then"
            await http.aclose()

    asyncio.run(main())


def test_a_loop_that_goes_on_after_its_end() -> None:
    """One whose generators were closed is used with new connections."""

    async def main() -> None:
        async with serving() as server:
            assert await read(await http.send(post(server))) == b"then"

    http = made("fast")
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop._asyncgens_shutdown_called = False  # type: ignore[attr-defined]
    loop.run_until_complete(main())
    loop.run_until_complete(http.aclose())
    loop.close()
