"""Every verb of Faults as a client meets it, byte by byte and in virtual time."""

import asyncio
import gzip
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import trio.testing
from anyio import BrokenResourceError, EndOfStream
from anyio.abc import SocketAttribute, SocketStream

from lamella.testing._faults import MALFORMED, Faults
from lamella.testing._http_body import Body, Pause
from lamella.testing._http_connection import Early
from lamella.testing._http_framing import Reply
from lamella.testing._http_server import HTTPServer
from lamella.testing._http_wire import Limits, Received

pytestmark = pytest.mark.anyio
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKS = (b"one;", b"two;", b"end;")


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer whenever no socket has anything to say."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        selector: Any = self._selector  # type: ignore[attr-defined]
        select = selector.select

        def jump(timeout: float | None = None) -> list[Any]:
            ready: list[Any] = select(0)
            if not ready and timeout is None:
                return list(select(None))
            if not ready and timeout:
                self.now += timeout
            return ready

        selector.select = jump

    def time(self) -> float:
        """Return the virtual time."""
        return self.now


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    """Run on both event loops, where time passes only while everything waits."""
    if request.param == "asyncio":
        return "asyncio", {"loop_factory": JumpingLoop}
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0.001)}


@asynccontextmanager
async def serving(
    faults: Faults | None, body: Body = CHUNKS, **options: Any
) -> AsyncIterator[HTTPServer]:
    """Serve one reply to everybody."""

    async def handler(_: Received) -> Reply:
        return Reply(body=body, faults=faults)

    async with HTTPServer(handler, **options) as server:
        yield server


async def connect(server: HTTPServer) -> SocketStream:
    """Open a connection to a server."""
    return await anyio.connect_tcp(server.host, server.port)


async def read(client: SocketStream, enough: Callable[[bytes], bool] = lambda _: False) -> bytes:
    """Read until it is enough or the server closes; a reset shows as the text <RST> at the end."""
    data = b""
    try:
        while not enough(data):
            data += await client.receive()
    except EndOfStream:
        pass
    except BrokenResourceError:
        data += b"<RST>"
    return data


async def ask(
    faults: Faults | None, body: Body = CHUNKS, request: bytes = GET
) -> tuple[str, bytes]:
    """Return the head and the raw rest, up to the end of the message or the connection."""
    async with serving(faults, body) as server, await connect(server) as client:
        await client.send(request)
        data = await read(client, _whole)
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode("latin-1"), rest


def _whole(data: bytes) -> bool:
    head, end, rest = data.partition(b"\r\n\r\n")
    if b"chunked" in head:
        return rest.endswith(b"0\r\n\r\n")
    _, found, length = head.partition(b"Content-Length: ")
    return bool(end and found) and len(rest) >= int(length.split(b"\r\n")[0])


def framed(*chunks: bytes, end: bool = True) -> bytes:
    """Write chunks in the chunked coding."""
    data = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return data + b"0\r\n\r\n" * end


async def test_no_faults() -> None:
    """Without faults, chunks come as chunks and bytes come with their length."""
    head, rest = await ask(None)
    assert rest == framed(*CHUNKS)
    head, rest = await ask(None, b"plain")
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "Content-Length: 5" in head
    assert rest == b"plain"


async def test_status_headers_body() -> None:
    """Status and body replace the reply's; headers replace those of the same name."""
    faults = Faults(status=429, body=b"slow down", headers={"Retry-After": "2"})
    head, rest = await ask(faults)
    assert head.splitlines()[0] == "HTTP/1.1 429 Too Many Requests"
    assert "Retry-After: 2" in head
    assert rest == b"slow down"


@pytest.mark.parametrize(
    ("faults", "before_head", "before_body", "whole"),
    [
        (Faults(delay=30), 30, 0, 30),
        (Faults(hold_headers=20.5), 20.5, 0, 20.5),
        (Faults(delay=1, hold_headers=2, delay_after_headers=600), 3, 600, 603),
        (Faults(stall_at=1, stall=5), 0, 0, 5),
        (Faults(stall_at=3, stall=5), 0, 0, 5),
        (Faults(bandwidth=0.5), 0, 2, 24),
        (Faults(slice=1, gap=1), 0, 0, 11),
        (Faults(slow_close=7), 0, 0, 7),
        (Faults(keepalive_newlines=3, keepalive_gap=10), 0, 0, 30),
    ],
    ids=str,
)
async def test_times(faults: Faults, before_head: float, before_body: float, whole: float) -> None:
    """Each wait comes where it belongs and lasts as long as asked."""
    async with serving(faults) as server, await connect(server) as client:
        start = anyio.current_time()
        await client.send(GET)
        data = await read(client, lambda data: b"\r\n\r\n" in data)
        assert anyio.current_time() - start == pytest.approx(before_head, abs=0.01)
        if data.endswith(b"\r\n\r\n"):
            data += await client.receive()
            assert anyio.current_time() - start == pytest.approx(
                before_head + before_body, abs=0.01
            )
        data += await read(client, lambda more: (data + more).endswith(b"0\r\n\r\n"))
        assert anyio.current_time() - start == pytest.approx(whole, abs=0.01)


async def test_jitter() -> None:
    """Jitter spreads the delay within its bounds, never below 0."""
    spent: list[float] = []
    async with (
        serving(Faults(delay=10, jitter=20), b"x") as server,
        await connect(server) as client,
    ):
        for _ in range(60):
            start = anyio.current_time()
            await client.send(GET)
            await read(client, _whole)
            spent.append(anyio.current_time() - start)
    assert min(spent) == pytest.approx(0, abs=0.01)
    assert max(spent) <= 30.01
    assert len({round(each) for each in spent}) > 5


@pytest.mark.parametrize(
    "faults",
    [
        Faults(hold_headers=True),
        Faults(delay=True),
        Faults(blackhole=True),
        Faults(delay_after_headers=True),
        Faults(stall_at=1),
        Faults(stall_at=3),
        Faults(slow_close=True),
    ],
    ids=str,
)
async def test_a_client_that_leaves_ends_every_wait(faults: Faults) -> None:
    """However long a reply is held, the client's leaving ends it, and is recorded."""
    async with serving(faults) as server:
        async with await connect(server) as client:
            await client.send(GET)
            await server.until(lambda server: server.received)
            with anyio.move_on_after(1000) as waited:
                await read(client)
            assert waited.cancelled_caught
        await server.until(lambda server: server.open_connections == 0)
        (left,) = server.disconnects
        assert (left.request, left.phase, server.replies) == (0, "reply", 0)
        assert left.body_bytes == server.body_bytes


async def test_slices() -> None:
    """Slices are chunks of their own, of the asked size give or take the variation."""
    _, rest = await ask(Faults(slice=3))
    assert rest == framed(b"one", b";", b"two", b";", b"end", b";")
    _, rest = await ask(Faults(slice=5, variation=4), [b"x" * 1000])
    sizes = {int(line, 16) for line in rest.split(b"\r\n")[:-3:2]}
    assert min(sizes) == 1
    assert max(sizes) == 9


@pytest.mark.parametrize("at", range(14))
async def test_limit_and_reset_at_every_byte(at: int) -> None:
    """A cut comes after exactly so many bytes of the body: as FIN, as RST, or in good form."""
    whole = b"".join(CHUNKS)
    _, cut = await ask(Faults(limit_data=at))
    _, reset = await ask(Faults(reset_at=at))
    _, clean = await ask(Faults(limit_data=at, limit_clean=True))
    _, close = await ask(Faults(limit_data=at, until_close=True))
    assert close == whole[:at]
    assert clean.endswith(b"0\r\n\r\n")
    assert _unchunked(clean) == whole[:at]
    if at <= len(whole):
        assert _unchunked(cut) == whole[:at]
        assert reset == cut + b"<RST>"
        assert not cut.endswith(b"0\r\n\r\n")
    else:
        assert cut == reset == framed(*CHUNKS)


def _unchunked(data: bytes) -> bytes:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        body += data[: int(size, 16)]
        data = data[int(size, 16) + 2 :]
    return body


async def test_limit_of_a_plain_body() -> None:
    """A plain body that is cut has announced its full length, or its true one to end well."""
    head, rest = await ask(Faults(limit_data=3), b"plain")
    assert ("Content-Length: 5" in head, rest) == (True, b"pla")
    head, rest = await ask(Faults(limit_data=3, limit_clean=True), b"plain")
    assert ("Content-Length: 3" in head, rest) == (True, b"pla")


async def test_reset_before_headers() -> None:
    """The connection can be reset instead of an answer."""
    assert await ask(Faults(reset_before_headers=True)) == ("<RST>", b"")


async def test_blackhole_for_a_while() -> None:
    """A black hole of limited depth closes without an answer when its time is over."""
    async with serving(Faults(blackhole=60)) as server, await connect(server) as client:
        await client.send(GET)
        assert await read(client) == b""
        assert anyio.current_time() >= 60


async def test_blackhole_from_the_start() -> None:
    """A connection can be swallowed whole; that the client leaves is noticed."""
    early = Early(connection=lambda number: Faults(blackhole=True) if number == 0 else None)
    async with serving(None, b"x", early=early) as server:
        async with await connect(server) as client:
            await client.send(GET * 100)
            with anyio.move_on_after(10) as waited:
                await client.receive()
            assert waited.cancelled_caught
        await server.until(lambda server: server.connections == 1 and not server.open_connections)
        assert server.requests == 0
        async with await connect(server) as client:
            await client.send(GET)
            assert (await read(client, _whole)).endswith(b"x")


async def test_the_same_faults_early_and_with_the_reply() -> None:
    """Faults given for the head of a request and again with its reply happen once."""
    faults = Faults(delay=10, no_read=100)
    early = Early(head=lambda _: faults)
    async with serving(faults, b"x", early=early) as server, await connect(server) as client:
        start = anyio.current_time()
        await client.send(GET)
        assert (await read(client, _whole)).endswith(b"x")
        assert anyio.current_time() - start == pytest.approx(110, abs=0.01)


async def test_reset_from_the_start() -> None:
    """A connection can be reset before anything is read."""
    early = Early(connection=lambda _: Faults(reset_before_headers=True))
    async with serving(None, early=early) as server, await connect(server) as client:
        assert await read(client) == b"<RST>"


async def test_no_read_fills_the_window() -> None:
    """An upload that is not read blocks its sender, and goes on when reading does."""
    early = Early(head=lambda received: Faults(no_read=100) if received.method == "POST" else None)
    size = 16 * 1024 * 1024
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
    async with (
        serving(None, b"x", early=early, limits=Limits(receive_buffer=8192)) as server,
        await connect(server) as client,
    ):
        await client.send(head + bytes(size))
        assert anyio.current_time() >= 100
        assert (await read(client, _whole)).endswith(b"x")
        assert len(server.received[0].body) == size


async def test_fin_no_terminator() -> None:
    """The last chunks can be left out of a message that is otherwise whole."""
    _, rest = await ask(Faults(fin_no_terminator=1))
    assert rest == framed(*CHUNKS[:2])
    _, rest = await ask(Faults(fin_no_terminator=9))
    assert rest == framed()


async def test_an_asynchronous_body_is_shaped_alike() -> None:
    """Chunks made one by one are dropped, replaced and inserted like those known before."""
    closed: list[bool] = []

    async def body() -> AsyncIterator[bytes | Pause]:
        try:
            for chunk in CHUNKS:
                yield chunk
                yield Pause(1)
        finally:
            closed.append(True)

    faults = Faults(fin_no_terminator=1, malformed_at={0: b"bad"}, insert={1: b"+", 7: b"!"})
    _, rest = await ask(faults, body())
    assert rest == framed(b"bad", b"+", b"two;", b"!")
    _, rest = await ask(Faults(limit_data=2), body())
    assert rest == b"4\r\non"
    assert closed == [True, True]


async def test_malformed_and_insert() -> None:
    """Chunks are replaced and bytes inserted by chunk number; too high a one inserts at the end."""
    _, rest = await ask(Faults(malformed_at=1, insert=[(0, b": ping\n\n"), (9, b"late")]))
    assert rest == framed(b": ping\n\n", b"one;", MALFORMED, b"end;", b"late")


async def test_until_close() -> None:
    """A body may end with the connection only."""
    head, rest = await ask(Faults(until_close=True))
    assert rest == b"".join(CHUNKS)
    assert "Connection: close" in head
    assert "Content-Length" not in head
    assert "chunked" not in head


async def test_close_idle() -> None:
    """A kept connection is closed unannounced, at once or when the next request is written."""
    async with serving(Faults(close_idle="now"), b"x") as server, await connect(server) as client:
        await client.send(GET)
        data = await read(client)
        assert data.endswith(b"x")
        assert b"Connection" not in data
    async with serving(Faults(close_idle="next"), b"x") as server, await connect(server) as client:
        await client.send(GET)
        await read(client, _whole)
        with anyio.move_on_after(100) as waited:
            await client.receive()
        assert waited.cancelled_caught
        await client.send(GET)
        assert await read(client) == b""
        assert server.requests == 1


async def test_gzip() -> None:
    """A body is compressed chunk by chunk, and says so."""
    head, rest = await ask(Faults(gzip=True, keepalive_newlines=1))
    assert "Content-Encoding: gzip" in head
    assert gzip.decompress(_unchunked(rest)) == b"\none;two;end;"
    head, rest = await ask(Faults(gzip=True), b"plain")
    assert gzip.decompress(rest) == b"plain"


async def test_gzip_bomb() -> None:
    """A bomb is small on the wire and grows to its full size."""
    size = 5_000_001
    head, rest = await ask(Faults(gzip_bomb=size))
    packed = _unchunked(rest)
    assert "Content-Encoding: gzip" in head
    assert len(packed) < size / 500
    assert zlib.decompress(packed, wbits=31) == bytes(size)


async def test_heads_that_are_wrong() -> None:
    """The status line and the size of the headers are the faults' to choose."""
    head, _ = await ask(Faults(header_bytes=65536))
    assert max(len(line) for line in head.splitlines()) == 65536 + len("X-Filler: ")
    head, _ = await ask(Faults(http_version="HTTP/9.9", status=299))
    assert head.splitlines()[0] == "HTTP/9.9 299 "
    head, _ = await ask(Faults(status_line="BANG"))
    assert head.splitlines()[0] == "BANG"


async def test_keepalive_newlines() -> None:
    """Empty lines come before the body and are part of its length."""
    head, rest = await ask(Faults(keepalive_newlines=2), b"{}")
    assert rest == b"\n\n{}"
    assert "Content-Length: 4" in head


async def test_a_false_length_is_sent_as_given() -> None:
    """A length given as a header stands, and the connection ends where the body does."""
    head, rest = await ask(Faults(headers={"Content-Length": "99"}), b"plain")
    assert "Content-Length: 99" in head
    assert rest == b"plain"


async def test_a_client_that_resets_is_noticed() -> None:
    """A client's RST ends a held reply as its FIN does."""
    async with serving(Faults(hold_headers=True)) as server:
        client = await connect(server)
        await client.send(GET)
        await server.until(lambda server: server.received)
        raw = client.extra(SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await client.aclose()
        await server.until(lambda server: server.open_connections == 0)
        assert len(server.disconnects) == 1
