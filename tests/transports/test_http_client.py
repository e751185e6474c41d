"""The HTTP port over real sockets: faults of the wire, closing, pools, loops and threads."""

from __future__ import annotations

import gzip
import math
import socket
import ssl
import zlib
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread
import pytest
from http_wire import CLIENTS, MakeClient, client_of, on_loop_of, post, read, serving

import lamella
from lamella.testing._faults import Faults
from lamella.testing._http_connection import Early
from lamella.testing._http_framing import Reply
from lamella.testing._http_wire import Limits
from lamella.transports._http import HTTPRequest

pytestmark = pytest.mark.anyio


@pytest.fixture(params=CLIENTS)
def kind(request: pytest.FixtureRequest) -> str:
    """Every rule holds for every client, on each event loop that it works on."""
    return str(request.param)


@pytest.fixture
def anyio_backend(kind: str) -> str:
    """An event loop that the client works on."""
    return on_loop_of(kind)


@pytest.fixture
def client(kind: str) -> MakeClient:
    """Makes clients that are closed at the end."""
    return client_of(kind)


async def test_request_and_answer(client: MakeClient) -> None:
    """Method, path, headers and body arrive; status, headers and body come back."""
    answer = Reply(201, [("X-One", "1"), ("x-one", "2")], body=b"hello")
    async with serving(answer) as server, client() as http:
        request = HTTPRequest(
            method="POST", url=f"{server.url}/a%20b?c=d", headers=((b"X-Key", b"k"),), body=b"body"
        )
        reply = await http.send(request)
        assert reply.status == 201
        assert reply.headers["x-one"] == "1, 2"
        assert await read(reply) == b"hello"
        (seen,) = server.received
        assert (seen.method, seen.body, seen.headers["x-key"]) == ("POST", b"body", "k")
        assert seen.target == "/a%20b?c=d"
        assert seen.headers["host"] == f"127.0.0.1:{server.port}"


async def test_connections_are_kept(client: MakeClient) -> None:
    """An answer that was read to its end gives its connection back."""
    async with serving() as server, client() as http:
        for _ in range(5):
            assert await read(await http.send(post(server))) == b"then"
        assert server.connections == 1


async def test_connection_refused(client: MakeClient) -> None:
    """A closed port is an error of connecting: nothing was sent."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        sent: list[int] = []
        async with client() as http:
            with pytest.raises(lamella.ConnectError, match=r"acme \(127\.0\.0\.1:") as caught:
                await http.send(
                    HTTPRequest(
                        method="POST", url=url, provider="acme", on_sent=lambda: sent.append(1)
                    )
                )
    assert (caught.value.outcome, caught.value.phase) == (lamella.Outcome.NOT_SENT, "connect")
    assert caught.value.retryable
    assert not sent


async def test_host_that_does_not_exist(client: MakeClient) -> None:
    """A name that cannot be resolved is an error of connecting."""
    async with client() as http:
        with pytest.raises(lamella.ConnectError):
            await http.send(HTTPRequest(method="GET", url="http://does-not-exist.invalid/"))


async def test_black_hole_ends_at_the_connect_limit(client: MakeClient) -> None:
    """A peer that does not answer the handshake ends at the limit, and not much later."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:  # fill the queue of connections that nobody accepts
            each.setblocking(False)
            each.connect_ex(address)
        async with client() as http:
            began = anyio.current_time()
            url = f"http://127.0.0.1:{address[1]}/"
            with pytest.raises(lamella.ConnectTimeout, match=r"0\.1 s") as caught:
                await http.send(HTTPRequest(method="POST", url=url, connect=0.1))
            assert 0.09 < anyio.current_time() - began < 30  # the system would try for minutes
        assert caught.value.outcome is lamella.Outcome.NOT_SENT
        for each in waiting:
            each.close()


async def test_waiting_for_a_place_in_the_pool_is_connecting(client: MakeClient) -> None:
    """A full pool ends at the connect limit, and the next request finds a place again."""
    stalled = Reply(body=[b"a", b"b"], faults=Faults(stall_at=1))
    async with serving(stalled) as server, client(max_connections=1) as http:
        first = await http.send(post(server))
        with pytest.raises(lamella.ConnectTimeout, match="max_connections"):
            await http.send(post(server, connect=0.05))
        await first.aclose()
        assert await read(await http.send(post(server, connect=60))) == b"then"


async def test_connect_limit_ends_with_connecting(client: MakeClient) -> None:
    """The limit on connecting does not bound the wait for the answer."""
    slow = Reply(body=b"late", faults=Faults(delay=1.1))
    async with serving(slow) as server, client() as http:
        assert await read(await http.send(post(server, connect=1.0))) == b"late"


async def test_write_limit(client: MakeClient) -> None:
    """A peer that takes no more of the request ends at the limit on writing."""
    early = Early(head=lambda _: Faults(no_read=math.inf))
    small = Limits(receive_buffer=4096, body_bytes=2**30)
    async with serving(early=early, limits=small) as server, client() as http:
        with pytest.raises(lamella.WriteTimeout, match=r"0\.1 s") as caught:
            await http.send(post(server, body=b"x" * 16 * 2**20, write=0.1))
        assert caught.value.outcome is lamella.Outcome.TIMED_OUT


async def test_slow_progress_is_no_write_timeout(client: MakeClient) -> None:
    """The limit on writing is on the next piece, not on the whole body."""
    async with serving() as server, client() as http:
        body = b"x" * 4 * 2**20
        assert await read(await http.send(post(server, body=body, write=60))) == b"then"
        assert len(server.received[0].body) == len(body)


# --- TLS -------------------------------------------------------------------------------------


async def test_tls(client: MakeClient, tls: ssl.SSLContext, authority_file: str) -> None:
    """A private authority is given as a file; the connection is kept like any other."""
    async with serving(tls=tls) as server, client(verify=authority_file) as http:
        for _ in range(3):
            assert await read(await http.send(post(server))) == b"then"
        assert server.connections == 1


async def test_unknown_authority(client: MakeClient, tls: ssl.SSLContext) -> None:
    """A certificate that nobody vouches for is an error of its own, which trying cannot mend."""
    async with serving(tls=tls) as server, client() as http:
        with pytest.raises(lamella.CertificateError, match="verify=") as caught:
            await http.send(post(server))
        assert not caught.value.retryable
        assert not server.requests


async def test_peer_without_tls(client: MakeClient) -> None:
    """A peer that does not speak TLS is a certificate error, not a strange one."""

    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await stream.receive()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, client() as http, anyio.create_task_group() as group:
        group.start_soon(listener.serve, answer)
        with pytest.raises(lamella.CertificateError):
            await http.send(HTTPRequest(method="POST", url=f"https://127.0.0.1:{port}/"))
        group.cancel_scope.cancel()


async def test_handshake_that_is_cut_off(
    client: MakeClient, tls: ssl.SSLContext, authority_file: str
) -> None:
    """A peer that resets the connection during the handshake is an error of connecting."""
    early = Early(connection=lambda _: Faults(reset_before_headers=True))
    async with serving(tls=tls, early=early) as server, client(verify=authority_file) as http:
        with pytest.raises(lamella.ConnectError) as caught:
            await http.send(post(server))
        assert type(caught.value) is lamella.ConnectError


@pytest.mark.parametrize("path", ["/does/not/exist.pem", __file__])
async def test_authority_that_is_no_file(client: MakeClient, path: str) -> None:
    """A wrong path of a certificate names the option and the path."""
    async with client(verify=path) as http:
        with pytest.raises(lamella.ConfigurationError, match="HTTPOptions") as caught:
            await http.send(HTTPRequest(method="GET", url="https://127.0.0.1:1/"))
        assert path in str(caught.value)


async def test_tls_settings_hold_after_plain_http(
    client: MakeClient, tls: ssl.SSLContext, authority_file: str
) -> None:
    """An address without TLS that is asked first does not change what is trusted after it."""
    async with (
        serving() as plain,
        serving(tls=tls) as server,
        client(verify=authority_file) as http,
    ):
        assert await read(await http.send(post(plain))) == b"then"
        assert await read(await http.send(post(server))) == b"then"


async def test_proxy_under_tls(
    client: MakeClient, tls: ssl.SSLContext, authority_file: str
) -> None:
    """The authorities of the options hold for a proxy, too, whatever is asked through it."""
    async with (
        serving(tls=tls) as proxy,
        client(verify=authority_file, proxy=proxy.url) as http,
    ):
        request = HTTPRequest(method="GET", url="http://acme.invalid/x")
        assert await read(await http.send(request)) == b"then"
        assert proxy.received[0].target == "http://acme.invalid/x"


# --- connections that break ------------------------------------------------------------------


@pytest.mark.parametrize("when", ["now", "next"])
async def test_stale_connection_is_replaced_once(client: MakeClient, when: Any) -> None:
    """A kept connection that the server has closed is replaced without anybody noticing."""
    stale = Reply(body=b"first", faults=Faults(close_idle=when))
    async with serving(stale) as server, client() as http:
        assert await read(await http.send(post(server))) == b"first"
        assert await read(await http.send(post(server))) == b"then"
        assert server.connections == 2


async def test_fresh_connection_that_breaks_is_not_replaced(client: MakeClient) -> None:
    """Only a kept connection is replaced: on a fresh one the provider may have begun to work."""
    async with (
        serving(then=Reply(faults=Faults(reset_before_headers=True))) as server,
        client() as http,
    ):
        with pytest.raises(lamella.ConnectionLostError) as caught:
            await http.send(post(server))
        assert server.requests == 1
        assert caught.value.outcome is lamella.Outcome.UNKNOWN


async def test_stale_connection_is_replaced_only_once(client: MakeClient) -> None:
    """If the fresh connection breaks as well, that is an error."""
    broken = Reply(faults=Faults(reset_before_headers=True))
    async with serving(Reply(body=b"first"), then=broken) as server, client() as http:
        await read(await http.send(post(server)))
        with pytest.raises(lamella.ConnectionLostError):
            await http.send(post(server))
        assert server.requests == 3


async def test_kept_connection_that_breaks_late(
    client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kept connection that breaks after a while had not been closed: the request was taken."""
    for module in ("_http_network", "_fast_connection"):
        monkeypatch.setattr(f"lamella.transports.{module}._STALE_SECONDS", 0.01)
    broken = Reply(faults=Faults(delay=0.05, reset_before_headers=True))
    async with serving(Reply(body=b"first"), then=broken) as server, client() as http:
        await read(await http.send(post(server)))
        with pytest.raises(lamella.ConnectionLostError) as caught:
            await http.send(post(server))
        assert server.requests == 2
        assert caught.value.outcome is lamella.Outcome.UNKNOWN


async def test_server_that_went_away_while_idle(client: MakeClient) -> None:
    """Nothing is written to a connection that has ended, so that nothing counts as sent."""
    sent: list[int] = []
    async with client() as http:
        async with serving() as server:
            await read(await http.send(post(server)))
            request = post(server, on_sent=lambda: sent.append(1))
        with pytest.raises(lamella.ConnectError) as caught:
            await http.send(request)
    assert caught.value.outcome is lamella.Outcome.NOT_SENT
    assert not sent


async def test_request_counts_as_sent_once(client: MakeClient) -> None:
    """A request that is sent again on a fresh connection is reported as sent once."""
    sent: list[int] = []
    stale = Reply(body=b"first", faults=Faults(close_idle="next"))
    async with serving(stale) as server, client() as http:
        await read(await http.send(post(server)))
        await read(await http.send(post(server, on_sent=lambda: sent.append(1))))
    assert sent == [1]


@pytest.mark.parametrize("late", [False, True])
async def test_answers_do_not_run_into_each_other(client: MakeClient, *, late: bool) -> None:
    """What a peer sends beyond its answer is never taken for the answer to the next request."""
    answer, other = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + body for body in (b"mine", b"else")
    )
    read_it, connections = anyio.Event(), list[anyio.abc.SocketStream]()

    async def serve(stream: anyio.abc.SocketStream) -> None:
        connections.append(stream)
        async with stream:
            await stream.receive()
            await stream.send(answer if late else answer + other)
            if late:
                await read_it.wait()
                await stream.send(other)
            await anyio.sleep_forever()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, client() as http, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        request = HTTPRequest(method="POST", url=f"http://127.0.0.1:{port}/", body=b"{}")
        for _ in range(2):
            assert await read(await http.send(request)) == b"mine"
            read_it.set()
            await anyio.sleep(0.01)
        assert len(connections) == 2
        group.cancel_scope.cancel()


BODY = bytes(range(256)) * 2


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("offset", [0, 1, 100, 511])
async def test_reset_in_the_body(client: MakeClient, *, chunked: bool, offset: int) -> None:
    """A reset inside the body is never an end; what came before it may be lost with it."""
    body = [BODY[:200], BODY[200:]] if chunked else BODY
    broken = Reply(body=body, faults=Faults(reset_at=offset))
    async with serving(broken) as server, client() as http:
        with pytest.raises((lamella.ConnectionLostError, lamella.StreamTruncated)):
            await read(await http.send(post(server)))
        assert await read(await http.send(post(server))) == b"then"
        assert server.connections == 2


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("offset", [0, 1, 100, 511])
async def test_end_before_the_announced_one(
    client: MakeClient, *, chunked: bool, offset: int
) -> None:
    """An orderly close before the announced end is a truncation, with all that came before it."""
    body = [BODY[:200], BODY[200:]] if chunked else BODY
    cut = Reply(body=body, faults=Faults(limit_data=offset))
    async with serving(cut) as server, client() as http:
        reply = await http.send(post(server))
        found: list[bytes] = []
        with pytest.raises(lamella.StreamTruncated):
            await read(reply, found)
        assert b"".join(found) == BODY[:offset]
        await reply.aclose()


@pytest.mark.parametrize(
    "faults",
    [
        Faults(status_line="HTTP/1.1 OK"),
        Faults(status_line="SSH-2.0-OpenSSH_9.6"),
        Faults(status_line="\x16\x03\x01\x02"),
    ],
)
async def test_what_is_no_http(client: MakeClient, faults: Faults) -> None:
    """A peer that does not speak HTTP is a protocol error."""
    async with serving(then=Reply(body=b"x", faults=faults)) as server, client() as http:
        with pytest.raises(lamella.ProtocolError, match="acme"):
            await http.send(post(server))


async def test_malformed_chunk(client: MakeClient) -> None:
    """A broken frame in the body is a protocol error."""
    headers = [("Transfer-Encoding", "chunked")]
    async with serving(Reply(200, headers, body=b"zz\r\nbroken\r\n")) as server, client() as http:
        with pytest.raises(lamella.ProtocolError):
            await read(await http.send(post(server)))


async def test_redirects_are_not_followed(client: MakeClient) -> None:
    """A redirect is an answer like any other: the key goes nowhere else."""
    async with serving(Reply(307, [("Location", "/other")])) as server, client() as http:
        reply = await http.send(post(server))
        assert reply.status == 307
        await reply.aclose()
        assert server.requests == 1


# --- sizes -----------------------------------------------------------------------------------


async def test_body_size_is_bounded(client: MakeClient) -> None:
    """A body larger than the limit ends there, and its connection with it."""
    endless = Reply(body=(b"x" * 1000 for _ in range(10**9)))
    async with serving(endless) as server, client(max_body_bytes=100_000) as http:
        reply = await http.send(post(server))
        with pytest.raises(lamella.ResponseTooLargeError, match="max_body_bytes"):
            await read(reply)
        await reply.aclose()
        await server.until(lambda it: not it.open_connections)


async def test_gzip_bomb_is_bounded(client: MakeClient) -> None:
    """The limit is on what is decompressed, and hardly more than it is ever decompressed."""
    bomb = Reply(faults=Faults(gzip_bomb=2**30))
    async with serving(bomb) as server, client(max_body_bytes=10**6) as http:
        reply = await http.send(post(server))
        found: list[bytes] = []
        with pytest.raises(lamella.ResponseTooLargeError):
            await read(reply, found)
        assert max(map(len, found)) <= 64 * 1024
        assert sum(map(len, found)) <= 10**6
        await reply.aclose()


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        # Without the time: a test has the same name in every process that collects it.
        ("gzip", gzip.compress(BODY, mtime=0)),
        ("gzip", gzip.compress(BODY[:100], mtime=0) + gzip.compress(BODY[100:], mtime=0)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", zlib.compress(BODY)[2:-4]),
        ("identity", BODY),
    ],
)
@pytest.mark.parametrize("piece", [1, 50, 1000])
async def test_compressed_bodies(client: MakeClient, coding: str, data: bytes, piece: int) -> None:
    """Both gzip and the two kinds of deflate are read, however they are cut."""
    cut = [data[at : at + piece] for at in range(0, len(data), piece)]
    answer = Reply(200, [("Content-Encoding", coding)], body=cut)
    async with serving(answer) as server, client() as http:
        assert await read(await http.send(post(server))) == BODY


@pytest.mark.parametrize(
    ("coding", "data", "error"),
    [
        ("gzip", gzip.compress(BODY, mtime=0)[:-9], lamella.StreamTruncated),
        ("gzip", BODY, lamella.ProtocolError),
        ("deflate", b"\x78" + BODY, lamella.ProtocolError),
        ("br", BODY, lamella.ProtocolError),
    ],
)
async def test_badly_compressed_bodies(
    client: MakeClient, coding: str, data: bytes, error: type[Exception]
) -> None:
    """What is not compressed as it says, or ends too early, is a typed error."""
    answer = Reply(200, [("Content-Encoding", coding)], body=data)
    async with serving(answer) as server, client() as http:
        reply = await http.send(post(server))
        with pytest.raises(error):
            await read(reply)
        await reply.aclose()


async def test_header_size_is_bounded(client: MakeClient) -> None:
    """Headers larger than the limit are an error; up to it they are not."""
    for size, fine in ((60_000, True), (70_000, False), (500_000, False)):
        answer = Reply(body=b"x", faults=Faults(header_bytes=size))
        async with serving(answer) as server, client() as http:
            if fine:
                assert await read(await http.send(post(server))) == b"x"
            else:
                with pytest.raises(lamella.ProtocolError):
                    await http.send(post(server))


async def test_many_tiny_pieces(client: MakeClient) -> None:
    """A body in very many pieces is read to its end."""
    answer = Reply(body=[b"x" * 20_000], faults=Faults(slice=1))
    async with serving(answer) as server, client() as http:
        assert await read(await http.send(post(server))) == b"x" * 20_000


# --- where to connect ------------------------------------------------------------------------


async def test_addresses_are_those_of_the_resolver(
    client: MakeClient, tls: ssl.SSLContext, authority_file: str
) -> None:
    """Names are not looked up by anybody else; header and certificate are the URL's."""
    asked: list[tuple[str, int]] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["127.0.0.1"]

    async with (
        serving(tls=tls) as server,
        client(verify=authority_file, resolve=resolve) as http,
    ):
        for _ in range(2):
            request = HTTPRequest(method="GET", url=f"https://localhost:{server.port}/")
            assert await read(await http.send(request)) == b"then"
        assert server.received[0].headers["host"] == f"localhost:{server.port}"
        assert asked == [("localhost", server.port)]  # the connection is kept
        other = HTTPRequest(method="GET", url=f"https://elsewhere.test:{server.port}/")
        with pytest.raises(lamella.CertificateError):
            await http.send(other)


async def test_the_next_address_is_tried(client: MakeClient) -> None:
    """Where the first takes no connection."""
    async with serving() as server:

        async def resolve(host: str, port: int) -> list[str]:
            return ["127.0.0.2", "127.0.0.1"]

        async with client(resolve=resolve) as http:
            request = HTTPRequest(method="GET", url=f"http://somewhere.test:{server.port}/")
            assert await read(await http.send(request)) == b"then"


@pytest.mark.parametrize("found", [[], ["localhost"], ["127.0.0.1:80"]])
async def test_what_is_no_address_is_not_looked_up(client: MakeClient, found: list[str]) -> None:
    """No address, and names, are errors of connecting."""

    async def resolve(host: str, port: int) -> list[str]:
        return found

    async with serving() as server, client(resolve=resolve) as http:
        with pytest.raises(lamella.ConnectError):
            await http.send(HTTPRequest(method="GET", url=f"http://a.test:{server.port}/"))
        assert not server.requests


async def test_the_resolvers_word_ends_the_request(client: MakeClient) -> None:
    """Its own error is what is raised; the system's is one of connecting."""
    refusal = lamella.BlockedError("Not there.")

    async def refuse(host: str, port: int) -> list[str]:
        raise refusal

    async def fail(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    async with client(resolve=refuse) as http:
        with pytest.raises(lamella.BlockedError, match="Not there"):
            await http.send(HTTPRequest(method="GET", url="http://a.test/"))
    async with client(resolve=fail) as http:
        with pytest.raises(lamella.ConnectError):
            await http.send(HTTPRequest(method="GET", url="http://a.test/"))
