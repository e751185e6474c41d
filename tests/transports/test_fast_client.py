"""What only the fast client does: its own loops, its own bounds, answers that come early."""

from __future__ import annotations

import errno
import math
import ssl
from asyncio import get_running_loop
from typing import Any

import anyio
import anyio.abc
import pytest
from http_wire import MakeClient, client_of, made, post, read, serving
from openai_wire import TEXT, request, stream
from openai_wire import serving as openai_serving

import lamella
from lamella import ChatRequest
from lamella.testing import MockServer, transport_checks
from lamella.testing._faults import Faults
from lamella.testing._http_framing import Reply
from lamella.transports import HTTPOptions, OpenAI, OpenAIOptions
from lamella.transports._fast_dialing import Dialer
from lamella.transports._http import HTTPRequest
from lamella.transports._sdk import import_sdk

pytestmark = pytest.mark.anyio

import_sdk()  # now: the kit, which collects garbage, does not look at what it brings


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that it is for."""
    return "asyncio"


@pytest.fixture
def client() -> MakeClient:
    """Makes fast clients that are closed at the end."""
    return client_of("fast")


# --- choosing it -------------------------------------------------------------------------------


def test_the_word_and_the_long_form() -> None:
    """`http="fast"` is `HTTPOptions(fast=True)`; more connections are allowed than otherwise."""
    options = OpenAIOptions(http="fast").http
    assert options == HTTPOptions(fast=True)
    assert (options.max_connections, options.max_idle) == (10_000, 1000)
    assert (HTTPOptions().max_connections, HTTPOptions().max_idle) == (1000, 100)


@pytest.mark.parametrize("options", [{"http2": True}, {"proxy": "socks5://localhost:1"}])
def test_what_it_cannot(options: dict[str, Any]) -> None:
    """It is refused where it is given, with what to do."""
    with pytest.raises(lamella.ConfigurationError, match="standard client"):
        HTTPOptions(fast=True, **options)
    wrong: Any = "quick"
    with pytest.raises(lamella.ConfigurationError, match="'quick'"):
        OpenAIOptions(http=wrong)


async def test_socks_proxy_of_the_environment(
    client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that it does not understand is an error, not left out."""
    monkeypatch.setenv("http_proxy", "socks5://localhost:1")
    async with client() as http:
        with pytest.raises(lamella.ConfigurationError, match="SOCKS"):
            await http.send(HTTPRequest(method="GET", url="http://acme.invalid/"))


def test_on_trio() -> None:
    """The first request says that it is for asyncio, and what to leave out."""

    async def main() -> None:
        http = made("fast")
        with pytest.raises(lamella.ConfigurationError, match="Leave http='fast' out"):
            await http.send(HTTPRequest(method="GET", url="http://127.0.0.1:1/"))
        await http.aclose()

    anyio.run(main, backend="trio")


def test_on_uvloop() -> None:
    """The other event loop of asyncio's kind serves as well."""
    pytest.importorskip("uvloop")

    async def main() -> None:
        body = b"x" * 2**20
        async with serving(Reply(body=[b"a", b"b"])) as server, client_of("fast")() as http:
            assert await read(await http.send(post(server))) == b"ab"
            assert await read(await http.send(post(server, body=body, write=60))) == b"then"
            assert server.connections == 1
            with pytest.raises(lamella.ConnectError):
                await http.send(HTTPRequest(method="GET", url="http://127.0.0.1:1/"))
        await server.until(lambda it: not it.open_connections)

    anyio.run(main, backend="asyncio", backend_options={"use_uvloop": True})


# --- the transport over it ---------------------------------------------------------------------


async def test_the_kit() -> None:
    """A transport over it keeps the contract that every transport keeps."""
    options = OpenAIOptions(http="fast")
    question = ChatRequest.of("Why is the sky blue?", model="mock")
    async with MockServer(answer=lambda _: "Light of short waves scatters.") as server:

        def transport() -> OpenAI:
            return OpenAI("unused", base_url=server.url, options=options)

        for check in transport_checks(transport, question):
            await check()
        await server.until(lambda it: not it.open_connections)


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_streams_in_pieces(size: int) -> None:
    """A stream is read as the same, however it is cut, and its connection is used again."""
    cut = stream(faults=Faults(slice=size))
    async with openai_serving(cut, http="fast") as (server, pipeline):
        for _ in range(2):
            async with pipeline.stream(request()) as response:
                assert (await response.collect()).text == TEXT
        assert server.connections == 1


# --- early answers, unread ones ----------------------------------------------------------------


async def test_answer_before_the_whole_request(client: MakeClient) -> None:
    """Who is refused early reads the refusal, and does not go on sending."""

    async def refuse(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 413 Large\r\nContent-Length: 3\r\n\r\nno!")
            await anyio.sleep(math.inf)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, client() as http, anyio.create_task_group() as group:
        group.start_soon(listener.serve, refuse)
        url = f"http://127.0.0.1:{port}/"
        reply = await http.send(HTTPRequest(method="POST", url=url, body=bytes(2**25)))
        assert (reply.status, await read(reply)) == (413, b"no!")
        group.cancel_scope.cancel()


async def test_informational_answers(client: MakeClient) -> None:
    """What comes before the answer is no answer."""
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(early)
            await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
            await anyio.sleep(math.inf)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, client() as http, anyio.create_task_group() as group:
        group.start_soon(listener.serve, answer)
        reply = await http.send(HTTPRequest(method="POST", url=f"http://127.0.0.1:{port}/"))
        assert (reply.status, await read(reply)) == (200, b"hi")
        assert "link" not in reply.headers
        group.cancel_scope.cancel()


async def test_large_requests_under_tls(
    client: MakeClient, tls: ssl.SSLContext, authority_file: str
) -> None:
    """A large body arrives whole, and the connection is used again."""
    body = bytes(range(256)) * 2**13
    async with serving(tls=tls) as server, client(verify=authority_file) as http:
        for _ in range(2):
            assert await read(await http.send(post(server, body=body, write=60))) == b"then"
        assert [each.body == body for each in server.received] == [True, True]
        assert server.connections == 1


async def test_names_with_several_addresses(client: MakeClient) -> None:
    """Where one address takes no connection, the next is tried."""
    async with serving() as server, client() as http:
        url = f"http://localhost:{server.port}/"  # which may be ::1 first
        for _ in range(2):
            assert await read(await http.send(HTTPRequest(method="GET", url=url))) == b"then"
        nobody: Any = None
        dialer: Any = Dialer(get_running_loop(), HTTPOptions(fast=True), nobody)
        with pytest.raises(OSError, match=r"."):
            await dialer._race(["127.0.0.1", "127.0.0.2"], 1)


# --- connections -------------------------------------------------------------------------------


async def test_idle_connections_expire(client: MakeClient) -> None:
    """They are closed when their time has passed, though nobody asks again."""
    async with serving() as server, client(idle_expiry=0.05) as http:
        for _ in range(2):
            await read(await http.send(post(server)))
        assert server.connections == 1
        with anyio.fail_after(30):
            await server.until(lambda it: not it.open_connections)
        await read(await http.send(post(server)))
        assert server.connections == 2


async def test_kept_connections_are_bounded(client: MakeClient) -> None:
    """Those over the bound are closed; with 0 none is kept."""
    async with serving() as server, client(max_idle=1) as http:
        replies = [await http.send(post(server)) for _ in range(3)]
        for reply in replies:
            await read(reply)
        with anyio.fail_after(30):
            await server.until(lambda it: it.open_connections == 1)
    async with serving() as server, client(max_idle=0) as http:
        await read(await http.send(post(server)))
        with anyio.fail_after(30):
            await server.until(lambda it: not it.open_connections)


async def test_a_place_is_made_for_another_host(client: MakeClient) -> None:
    """A kept connection to one host gives way to a new one to another."""
    async with serving() as one, serving() as two, client(max_connections=1) as http:
        for server in (one, two, one):
            assert await read(await http.send(post(server, connect=30))) == b"then"
        assert (one.connections, two.connections) == (2, 1)


async def test_no_more_files(client: MakeClient) -> None:
    """A process that may open no more of them is told which limit that is."""

    async def resolve(host: str, port: int) -> list[str]:
        raise OSError(errno.EMFILE, "Too many open files")

    async with client(resolve=resolve) as http:
        with pytest.raises(lamella.ConnectError, match="ulimit -n") as caught:
            await http.send(HTTPRequest(method="GET", url="http://acme.test/"))
        assert caught.value.outcome is lamella.Outcome.NOT_SENT


async def test_headers_that_are_added(client: MakeClient) -> None:
    """Those that say where a request ends, or to whom it goes, are not the caller's."""
    async with serving() as server, client() as http:
        for kept in (False, True):
            for name in (b"Content-Length", b"host", b"Transfer-Encoding"):
                wrong = HTTPRequest(method="POST", url=server.url, headers=((name, b"1"),))
                with pytest.raises(lamella.MisuseError):
                    await http.send(wrong)
            assert await read(await http.send(post(server))) == b"then"
            assert server.connections == 1, kept
