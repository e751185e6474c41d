"""The loopback HTTP server: what it reads, what it refuses, what it notices, how it ends."""

import ssl
from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import pytest
import trustme
from anyio import EndOfStream
from anyio.abc import ByteReceiveStream, ByteStream

from lamella.testing._faults import Faults
from lamella.testing._http_body import Pause
from lamella.testing._http_connection import Early
from lamella.testing._http_framing import Reply
from lamella.testing._http_server import HTTPServer
from lamella.testing._http_wire import Headers, Limits, Received
from lamella.transports._http_library import http_library

pytestmark = pytest.mark.anyio
httpx = http_library().httpx  # the one that the installed openai brings
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"


async def echo(received: Received) -> Reply:
    """Answer with the request's body."""
    return Reply(body=received.body)


async def hold(_: Received) -> Reply:
    """Answer some bytes, then nothing more."""
    return Reply(body=[b"12345", Pause(float("inf"))])


async def connect(server: HTTPServer) -> ByteStream:
    """Open a connection to a server."""
    return await anyio.connect_tcp(server.host, server.port)


async def read_all(client: ByteReceiveStream) -> bytes:
    """Read until the server closes the connection."""
    data = b""
    try:
        while True:
            data += await client.receive()
    except EndOfStream:
        return data


async def exchange(server: HTTPServer, *sent: bytes) -> bytes:
    """Write, then read until the server closes."""
    async with await connect(server) as client:
        for data in sent:
            await client.send(data)
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
        return await read_all(client)


async def test_a_real_client_is_served() -> None:
    """An HTTP client gets its answers, streamed or not, over one kept connection."""

    async def handler(received: Received) -> Reply:
        if received.path == "/stream":
            return Reply(201, {"X-Kind": "stream"}, [b"a", Pause(0), b"", b"b"])
        return await echo(received)

    async with HTTPServer(handler) as server, httpx.AsyncClient(base_url=server.url) as client:
        assert (await client.post("/echo", content=b"\0" * 300_000)).content == b"\0" * 300_000
        streamed = await client.get("/stream")
        assert (streamed.status_code, streamed.headers["x-kind"], streamed.text) == (
            201,
            "stream",
            "ab",
        )
        assert (await client.head("/stream")).status_code == 201
        await server.until(lambda server: server.replies == 3)
        assert (server.connections, server.requests) == (1, 3)
        assert server.body_bytes == 300_002


async def test_received() -> None:
    """A request is given as a record: target, path, query, headers, body, numbers."""
    async with HTTPServer(echo) as server:
        await exchange(
            server,
            b"PUT /a%20b/c?x=1&y=%26&x=2 HTTP/1.1\r\nhost: h\r\nX-Two: 1\r\nx-two:  2 \r\n"
            b'Connection: close\r\nContent-Length: 8\r\n\r\n{"a": 1}',
        )
        (received,) = server.received
    assert (received.method, received.path) == ("PUT", "/a b/c")
    assert received.target == "/a%20b/c?x=1&y=%26&x=2"
    assert received.query == {"x": "2", "y": "&"}
    assert received.headers["X-TWO"] == "1, 2"
    assert received.headers.get_all("x-two") == ["1", "2"]
    assert "authorization" not in received.headers
    assert (received.index, received.connection, received.json()) == (0, 0, {"a": 1})


def test_headers_show_names_only() -> None:
    """The representation of headers has no values in it, which may be keys."""
    headers = Headers([("Authorization", "Bearer key"), ("A", "b"), ("a", "c")])
    assert "key" not in repr(headers)
    assert (len(headers), list(headers)) == (2, ["authorization", "a"])


async def test_json_that_is_none() -> None:
    """A body that is not JSON is an error that says so and does not show it."""
    async with HTTPServer(echo) as server:
        await exchange(server, POST + b"Connection: close\r\nContent-Length: 6\r\n\r\nsecret")
        with pytest.raises(ValueError, match="6 bytes is not JSON") as caught:
            server.received[0].json()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("step", [1, 7, 1000])
async def test_bodies_however_they_arrive(step: int) -> None:
    """Bodies with a length and in chunks are read whole, whatever the pieces they come in."""
    requests = (
        POST + b"Content-Length: 3\r\n\r\nabc",
        b"\r\n" + POST + b"Transfer-Encoding: chunked\r\n\r\n"
        b'2;x="y"\r\nab\r\n0A\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n',
        GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
    )
    data = b"".join(requests)
    async with HTTPServer(echo) as server:
        pieces = [data[start : start + step] for start in range(0, len(data), step)]
        await exchange(server, *pieces)
        assert [each.body for each in server.received] == [b"abc", b"ab0123456789", b""]
        assert server.connections == 1


async def test_pipelined_requests_are_answered_in_order() -> None:
    """Requests that are written ahead are kept and answered one after the other."""
    numbered = [
        POST + b"Content-Length: 1\r\n" + b"Connection: close\r\n" * last + b"\r\n%d" % number
        for number, last in enumerate((False, False, True))
    ]
    async with HTTPServer(echo) as server:
        answers = await exchange(server, b"".join(numbered))
    assert [part[-1:] for part in answers.split(b"HTTP/1.1 200")[1:]] == [b"0", b"1", b"2"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x16\x03\x01 garbage\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\0\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (POST + b"Content-Length: -1\r\n\r\n", 400),
        (POST + b"Content-Length: 1_0\r\n\r\n", 400),
        (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 5000, 400),
        (POST + b"Expect: tea\r\n\r\n", 417),
        (POST + b"Content-Length: 1001\r\n\r\n" + b"x" * 1001, 413),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001, 413),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 6000 + b"\r\n\r\n", 431),
        (b"G" * 6000, 431),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 2000, 431),
    ],
    ids=lambda value: repr(value[:60]) if isinstance(value, bytes) else None,
)
async def test_what_is_not_safe_to_read_is_refused(request_: bytes, status: int) -> None:
    """Malformed, ambiguous and oversized requests get their status and an end of the connection."""
    limits = Limits(header_bytes=5000, body_bytes=1000)
    async with HTTPServer(echo, limits=limits) as server:
        answer = await exchange(server, request_)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"Connection: close" in answer
        assert list(server.refused) == [status]
        assert not server.received


async def test_expect_continue() -> None:
    """A client that waits for leave to send its body gets it."""
    async with HTTPServer(echo) as server, await connect(server) as client:
        await client.send(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert await client.receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"ok")
        assert (await client.receive()).endswith(b"\r\n\r\nok")


async def test_http_1_0() -> None:
    """An HTTP/1.0 client gets no chunks, and the connection ends with the body."""

    async def chunks(_: Received) -> Reply:
        return Reply(body=[b"a", b"b"])

    async with HTTPServer(chunks) as server:
        answer = await exchange(server, b"GET / HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"Connection: close\r\n\r\nab")


async def test_bodies_that_may_not_be() -> None:
    """HEAD and 204 have no body, but HEAD says how long it would be."""

    async def handler(received: Received) -> Reply:
        return Reply(204 if received.path == "/empty" else 200, body=b"body")

    async with HTTPServer(handler) as server:
        ask = b"%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        head = await exchange(server, ask % b"HEAD /")
        empty = await exchange(server, ask % b"GET /empty")
    assert head.endswith(b"\r\n\r\n")
    assert b"Content-Length: 4" in head
    assert empty.endswith(b"\r\n\r\n")
    assert b"Content-Length" not in empty


async def test_a_client_that_leaves_is_recorded() -> None:
    """A client that leaves mid-answer cancels it; the record says how far it had come."""
    cleaned: list[str] = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"12345"
                await anyio.sleep_forever()
        finally:
            cleaned.append("yes")

    async def handler(_: Received) -> Reply:
        return Reply(body=endless())

    async with HTTPServer(handler) as server:
        async with httpx.AsyncClient() as client, client.stream("GET", server.url) as answer:
            assert answer.status_code == 200
            await server.until(lambda server: server.body_bytes == 5)
            assert server.open_connections == 1
        with anyio.fail_after(30):
            await server.until(lambda server: server.open_connections == 0)
        (left,) = server.disconnects
        assert (left.request, left.connection, left.phase, left.body_bytes) == (0, 0, "reply", 5)
        assert (cleaned, server.replies) == (["yes"], 0)


async def test_a_client_that_leaves_cancels_the_handler() -> None:
    """A client that leaves while the handler still works cancels it."""
    cancelled = anyio.Event()

    async def handler(_: Received) -> Reply:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()
        raise AssertionError

    async with HTTPServer(handler) as server:
        async with await connect(server) as client:
            await client.send(GET)
            await server.until(lambda server: server.received)
        await cancelled.wait()
        await server.until(lambda server: server.disconnects)
        assert not server.errors


async def test_a_client_that_does_not_read_and_leaves() -> None:
    """A reply that is stuck on a full window ends when the client leaves."""

    async def handler(_: Received) -> Reply:
        return Reply(body=bytes(50_000_000))

    async with HTTPServer(handler) as server:
        async with await connect(server) as client:
            await client.send(GET)
            await client.receive()
        await server.until(lambda server: server.open_connections == 0)
        assert [each.phase for each in server.disconnects] == ["reply"]


async def test_a_client_that_leaves_before_its_body() -> None:
    """A client that leaves in the middle of its request is recorded, and the handler not asked."""
    async with HTTPServer(echo) as server:
        async with await connect(server) as client:
            await client.send(POST + b"Content-Length: 10\r\n\r\nhalf")
            await server.until(lambda server: server.requests)
        await server.until(lambda server: server.open_connections == 0)
        assert [each.phase for each in server.disconnects] == ["request"]
        assert not server.received


async def test_what_the_handler_raises() -> None:
    """An exception in the handler is a 500 without its message, raised when the server ends."""

    async def handler(_: Received) -> Reply:
        message = "private"
        raise KeyError(message)

    server = HTTPServer(handler)
    with pytest.raises(ExceptionGroup) as caught:
        async with server, httpx.AsyncClient() as client:
            answer = await client.get(server.url)
            assert (answer.status_code, "private" in answer.text) == (500, False)
    assert caught.group_contains(KeyError)


async def test_what_a_body_raises() -> None:
    """An exception in the body cuts the answer off, and is raised when the server ends."""

    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        message = "broken"
        raise OSError(message)

    async def handler(_: Received) -> Reply:
        return Reply(body=body())

    with pytest.raises(ExceptionGroup) as caught:
        async with HTTPServer(handler) as server:
            assert (await exchange(server, GET)).endswith(b"\r\n\r\n1\r\na\r\n")
    assert caught.group_contains(OSError)


async def test_what_early_raises() -> None:
    """An exception in an early hook ends its connection only, and is raised at the end."""

    def head(received: Received) -> None:
        if received.path == "/bad":
            raise LookupError

    with pytest.raises(ExceptionGroup) as caught:
        async with HTTPServer(echo, early=Early(head=head)) as server:
            assert await exchange(server, GET.replace(b"/ ", b"/bad ")) == b""
            ok = await exchange(server, GET.replace(b"Host", b"Connection: close\r\nHost"))
            assert ok.startswith(b"HTTP/1.1 200")
    assert caught.group_contains(LookupError)


async def test_an_exception_in_the_block_wins() -> None:
    """What the block raises comes out as it is."""
    with pytest.raises(ZeroDivisionError):
        async with HTTPServer(echo):
            raise ZeroDivisionError


async def test_leaving_closes_everything() -> None:
    """When the block is left, the port and all connections close, whatever they were doing."""
    async with HTTPServer(hold) as server:
        busy, idle = await connect(server), await connect(server)
        await busy.send(GET)
        await server.until(lambda server: server.body_bytes and server.connections == 2)
    assert (await read_all(busy)).endswith(b"5\r\n12345\r\n")
    assert await read_all(idle) == b""
    with pytest.raises(OSError):  # noqa: PT011 - systems word it differently
        await connect(server)
    assert server.open_connections == 0
    await busy.aclose()
    await idle.aclose()


async def test_leaving_under_cancellation() -> None:
    """A cancelled block leaves the server closed and the cancellation intact."""
    server = HTTPServer(hold)
    with anyio.CancelScope() as scope:
        async with server, await connect(server) as client:
            await client.send(GET)
            await server.until(lambda server: server.received)
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert server.open_connections == 0


async def test_serve_forever() -> None:
    """A server may run in a task group of the caller's, and be closed from any task."""
    server = HTTPServer(echo)
    async with anyio.create_task_group() as group:
        started = await group.start(server.serve_forever)
        assert started is server
        async with httpx.AsyncClient() as client:
            assert (await client.get(server.url)).status_code == 200
        await server.aclose()
        await server.aclose()
    with pytest.raises(RuntimeError, match="started before"):
        await server.serve_forever()


async def test_until() -> None:
    """Waiting ends with the change waited for, and with an error when it can no longer come."""
    server = HTTPServer(echo)
    with pytest.raises(RuntimeError, match="no port before"):
        _ = server.url
    async with anyio.create_task_group() as group:
        await group.start(server.serve_forever)
        async with anyio.create_task_group() as waiting:
            waiting.start_soon(server.until, lambda server: server.connections == 2)
            for _ in range(2):
                await (await connect(server)).aclose()
        await server.aclose()
    with pytest.raises(RuntimeError, match="has not come true"):
        await server.until(lambda server: server.connections == 3)


async def test_port_that_is_taken() -> None:
    """A port in use is an error that names it and says what to do."""
    async with HTTPServer(echo) as server:
        with pytest.raises(OSError, match=f"{server.port}.*choose another port"):
            async with HTTPServer(echo, port=server.port):
                raise AssertionError


async def test_bound_on_connections() -> None:
    """Connections beyond the bound wait until one is closed."""
    async with HTTPServer(echo, limits=Limits(connections=1)) as server:
        first = await connect(server)
        await server.until(lambda server: server.open_connections)
        second = await connect(server)
        await anyio.wait_all_tasks_blocked()
        assert server.connections == 1
        await first.aclose()
        await second.send(GET)
        assert (await second.receive()).startswith(b"HTTP/1.1 200")
        await second.aclose()


async def test_records_are_bounded() -> None:
    """Only the latest requests are kept."""
    async with HTTPServer(echo, limits=Limits(received=2)) as server:
        async with httpx.AsyncClient() as client:
            for number in range(3):
                await client.post(server.url, content=b"%d" % number)
        assert [each.body for each in server.received] == [b"1", b"2"]


async def test_a_text_is_no_body() -> None:
    """A body given as text is refused with the remedy."""
    with pytest.raises(TypeError, match="encode"):
        Reply(body="text")  # type: ignore[arg-type]


async def test_headers_without_line_breaks() -> None:
    """A handler cannot split the response by a line break in a header."""

    async def handler(_: Received) -> Reply:
        return Reply(headers={"A": "b\r\nC: d"})

    with pytest.raises(ExceptionGroup) as caught:
        async with HTTPServer(handler) as server:
            assert await exchange(server, GET) == b""
    assert caught.group_contains(ValueError, match="line break")


async def test_tls() -> None:
    """The server speaks HTTPS, ends it well, and survives clients that refuse its certificate."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with HTTPServer(echo, tls=context) as server:
        async with httpx.AsyncClient(verify=trusting) as client:
            assert (await client.post(server.url, content=b"hi")).content == b"hi"
        async with httpx.AsyncClient(verify=ssl.create_default_context()) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(server.url)
        async with await anyio.connect_tcp(
            "127.0.0.1", server.port, ssl_context=trusting, tls_standard_compatible=True
        ) as strict:
            await strict.send(GET.replace(b"Host", b"Connection: close\r\nHost"))
            assert (await read_all(strict)).startswith(b"HTTP/1.1 200")
        await server.until(lambda server: server.open_connections == 0)
        assert server.url.startswith("https://")


async def test_tls_handshake_that_is_cut() -> None:
    """A connection that is reset before TLS fails the client's handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    early = Early(connection=lambda _: Faults(reset_before_headers=True))
    async with HTTPServer(echo, tls=context, early=early) as server, httpx.AsyncClient() as client:
        with pytest.raises(httpx.TransportError):
            await client.get(server.url)
