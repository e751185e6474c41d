"""The HTTP port over HTTP/2: streams that share a connection, peers that did not take a request."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest
import trustme
from anyio.streams.tls import TLSListener

import lamella
from lamella.transports._http import HTTPOptions, HTTPReply, HTTPRequest
from lamella.transports._httpx_client import PooledHTTPClient

pytestmark = pytest.mark.anyio

REFUSED_STREAM = 7
CANCEL = 8


class Peer:
    """A server of HTTP/2 that answers, stalls, refuses or says goodbye, as `behave` says.

    Attributes:
        seen: What clients did: ("request", stream), ("reset", stream, code).
        connections: How many connections there were.
    """

    def __init__(self, behave: Callable[[Peer], str]) -> None:
        self.behave = behave
        self.seen: list[tuple[str, int]] = []
        self.connections = 0
        self.changed = anyio.Event()

    async def until(self, what: tuple[str, int]) -> None:
        """Wait until something has happened."""
        while what not in self.seen:
            await self.changed.wait()

    async def serve(self, stream: anyio.abc.ByteStream) -> None:
        """Serve one connection."""
        self.connections += 1
        state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        state.initiate_connection()
        await stream.send(state.data_to_send())
        try:
            while True:
                for event in state.receive_data(await stream.receive()):
                    self._on(state, event)
                if data := state.data_to_send():
                    await stream.send(data)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return
        except h2.exceptions.ProtocolError:
            return  # what comes after the goodbye
        finally:
            await anyio.aclose_forcefully(stream)

    def _on(self, state: h2.connection.H2Connection, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.StreamReset):
            self.seen.append(("reset", event.error_code))
        elif isinstance(event, h2.events.StreamEnded):
            stream = event.stream_id or 0
            self.seen.append(("request", stream))
            self._answer(state, stream, self.behave(self))
        self.changed.set()
        self.changed = anyio.Event()

    def _answer(self, state: h2.connection.H2Connection, stream: int, how: str) -> None:
        if how == "refuse":
            state.reset_stream(stream, REFUSED_STREAM)
        elif how == "goodbye":
            state.close_connection(last_stream_id=0)
        elif how == "break":
            state.reset_stream(stream, 2)
        else:
            state.send_headers(stream, [(":status", "200")])
            state.send_data(stream, b"one", end_stream=how == "answer")


@asynccontextmanager
async def between(
    behave: Callable[[Peer], str], tmp_path: Path
) -> AsyncIterator[tuple[Peer, PooledHTTPClient, HTTPRequest]]:
    """A peer, a client, and a request to it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2"])
    authority.issue_cert("127.0.0.1").configure_cert(context)
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    peer = Peer(behave)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    client = PooledHTTPClient(HTTPOptions(http2=True, verify=str(file)))
    request = HTTPRequest(
        method="POST", url=f"https://127.0.0.1:{port}/v1", body=b"{}", provider="acme"
    )
    async with listener, anyio.create_task_group() as group:
        tls = TLSListener(listener, context, standard_compatible=False)
        group.start_soon(tls.serve, peer.serve)
        yield peer, client, request
        await client.aclose()
        group.cancel_scope.cancel()


async def read(reply: HTTPReply) -> bytes:
    """The whole body."""
    found = b""
    try:
        while True:
            found += await reply.__anext__()
    except StopAsyncIteration:
        return found


async def test_one_connection_for_all(tmp_path: Path) -> None:
    """Requests share a connection."""
    async with between(lambda _: "answer", tmp_path) as (peer, client, request):
        for _ in range(3):
            assert await read(await client.send(request)) == b"one"
        assert peer.connections == 1


async def test_leaving_resets_the_stream(tmp_path: Path) -> None:
    """An answer that is left tells the peer so; other answers on the connection go on."""
    async with between(lambda _: "stall", tmp_path) as (peer, client, request):
        first, second = await client.send(request), await client.send(request)
        assert await first.__anext__() == b"one"
        assert await second.__anext__() == b"one"

        async def reader() -> None:
            with pytest.raises(lamella.ClosedError):
                await second.__anext__()

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(reader)
                await anyio.wait_all_tasks_blocked()
                await first.aclose()
                await peer.until(("reset", CANCEL))
                peer.behave = lambda _: "answer"
                assert await read(await client.send(request)) == b"one"
                await second.aclose()
        assert peer.connections == 1


@pytest.mark.parametrize("how", ["refuse", "goodbye"])
async def test_request_that_was_not_taken_is_sent_again(how: str, tmp_path: Path) -> None:
    """A peer that says that it did not take the request gets it once more, on a new connection."""
    async with between(lambda it: how if it.connections == 1 else "answer", tmp_path) as (
        peer,
        client,
        request,
    ):
        assert await read(await client.send(request)) == b"one"
        assert peer.connections == 2


@pytest.mark.parametrize("how", ["refuse", "goodbye", "break"])
async def test_request_is_sent_again_only_once(how: str, tmp_path: Path) -> None:
    """If that fails too, or the peer had begun, it is an error."""
    async with between(lambda _: how, tmp_path) as (peer, client, request):
        with pytest.raises(lamella.ConnectionLostError):
            await client.send(request)
        assert len(peer.seen) == (1 if how == "break" else 2)
