"""The HTTP port over real sockets: closing, loops and threads, proxies, options."""

from __future__ import annotations

import gc
import math
import os
import ssl
import threading
import traceback
from collections.abc import Callable
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread
import pytest
from http_wire import CLIENTS, MakeClient, client_of, made, on_loop_of, post, read, serving

import lamella
from lamella.testing._faults import Faults
from lamella.testing._http_framing import Reply
from lamella.transports._http import HTTPOptions, HTTPRequest
from lamella.transports._http_library import http_library

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


# --- closing ---------------------------------------------------------------------------------

STREAM = Reply(body=[b"one", b"two"], faults=Faults(stall_at=1))


async def test_leaving_early_closes_the_socket_at_once(client: MakeClient) -> None:
    """An answer that is closed before its end takes its connection along."""
    async with serving(STREAM) as server, client() as http:
        reply = await http.send(post(server))
        assert await reply.__anext__() == b"one"
        with anyio.fail_after(30):
            await reply.aclose()
            await server.until(lambda it: not it.open_connections)
        with pytest.raises(lamella.ClosedError):
            await reply.__anext__()
        assert await read(await http.send(post(server))) == b"then"


async def test_answer_that_is_never_read(client: MakeClient) -> None:
    """Closing without reading closes the connection as well."""
    async with serving(STREAM) as server, client() as http:
        reply = await http.send(post(server))
        await reply.aclose()
        await reply.aclose()
        await server.until(lambda it: not it.open_connections)


async def test_closing_under_a_read(client: MakeClient) -> None:
    """A read that another task waits in raises as soon as the answer is closed."""
    async with serving(STREAM) as server, client() as http:
        reply = await http.send(post(server))
        assert await reply.__anext__() == b"one"

        async def reader() -> None:
            with pytest.raises(lamella.ClosedError):
                await reply.__anext__()

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(reader)
                await anyio.wait_all_tasks_blocked()
                await reply.aclose()
            await server.until(lambda it: not it.open_connections)


async def test_cancelled_read(client: MakeClient) -> None:
    """A read that is cancelled is no end of the body, and nothing leaks."""
    async with serving(STREAM) as server, client() as http:
        reply = await http.send(post(server))
        assert await reply.__anext__() == b"one"
        with anyio.move_on_after(0.01):
            await reply.__anext__()
        with pytest.raises(lamella.ConnectionLostError):
            await reply.__anext__()
        await reply.aclose()
        await server.until(lambda it: not it.open_connections)


@pytest.mark.parametrize("faults", [Faults(hold_headers=math.inf), Faults(delay_after_headers=9)])
async def test_cancelled_request(client: MakeClient, faults: Faults) -> None:
    """A request that is cancelled closes its connection and gives its place back."""
    held = Reply(body=[b"x"], faults=faults)
    async with serving(held) as server, client(max_connections=1) as http:
        with anyio.move_on_after(0.05):
            await read(await http.send(post(server)))
        gc.collect()
        await server.until(lambda it: not it.open_connections)
        assert await read(await http.send(post(server))) == b"then"


async def test_closing_the_client(client: MakeClient) -> None:
    """Closing ends answers under way and requests that wait, with one and the same error."""
    stalled = Reply(body=[b"one", b"two"], faults=Faults(stall_at=1))
    async with serving(stalled) as server, client(max_connections=1) as http:
        reply = await http.send(post(server))
        await reply.__anext__()

        async def reader() -> None:
            with pytest.raises(lamella.ClosedError):
                await reply.__anext__()
            await reply.aclose()

        async def sender() -> None:
            with pytest.raises(lamella.ClosedError):
                await http.send(post(server))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(reader)
                group.start_soon(sender)
                await anyio.wait_all_tasks_blocked()
                await http.aclose()
            await server.until(lambda it: not it.open_connections)
        with pytest.raises(lamella.ClosedError, match="acme"):
            await http.send(post(server))
        await http.aclose()


# --- loops and threads -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fast", "trio"], indirect=True)
def test_several_event_loops_one_after_the_other(kind: str) -> None:
    """A client outlives the loops that it was used on."""
    http = made(kind)

    async def main() -> None:
        async with serving() as server:
            assert await read(await http.send(post(server))) == b"then"
            assert await read(await http.send(post(server))) == b"then"
            assert server.connections == 1

    for backend in ("asyncio", on_loop_of(kind), "asyncio", on_loop_of(kind)):
        anyio.run(main, backend=backend)
    anyio.run(http.aclose)
    gc.collect()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.parametrize("kind", ["fast", "trio"], indirect=True)
def test_after_a_fork(kind: str) -> None:
    """A client that was used before a fork works on both sides of it."""
    http = made(kind)

    async def main() -> None:
        async with serving() as server:
            assert await read(await http.send(post(server))) == b"then"

    anyio.run(main)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            anyio.run(main)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    anyio.run(main)


async def test_closing_while_certificates_are_read(kind: str, tls: ssl.SSLContext) -> None:
    """A client that closes while a first request prepares sends nothing any more."""
    go = anyio.Event()

    async def slow_thread(function: Callable[..., Any], /, *args: Any) -> Any:
        await go.wait()
        return function(*args)

    async with serving(tls=tls) as server:
        http = made(kind, verify=False, thread=slow_thread)

        async def ask() -> None:
            with pytest.raises(lamella.ClosedError):
                await http.send(post(server))

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await anyio.lowlevel.checkpoint()
            await http.aclose()
            go.set()
        assert server.connections == 0


async def test_closing_from_another_loop(kind: str) -> None:
    """Connections of other loops are closed on their loops."""
    http = made(kind)
    async with serving() as server:
        ready, failed = threading.Event(), list[BaseException]()
        idle = threading.Event()

        def elsewhere() -> None:
            async def main() -> None:
                assert await read(await http.send(post(server))) == b"then"
                ready.set()
                await anyio.to_thread.run_sync(idle.wait)

            try:
                anyio.run(main)
            except BaseException as error:  # noqa: BLE001 - told to the test
                failed.append(error)
                ready.set()

        thread = threading.Thread(target=elsewhere)
        thread.start()
        await anyio.to_thread.run_sync(ready.wait)
        assert await read(await http.send(post(server))) == b"then"
        assert server.open_connections == 2
        await http.aclose()
        with anyio.fail_after(30):
            await server.until(lambda it: not it.open_connections)
        idle.set()
        await anyio.to_thread.run_sync(thread.join)
        assert not failed


async def test_what_is_imported_first_is_imported_off_the_loop(kind: str) -> None:
    """It takes a tenth of a second, which others' answers should not wait for; once is enough."""
    asked: list[Any] = []

    async def thread(function: Callable[..., Any], /, *args: Any) -> Any:
        asked.append(function)
        return function(*args)

    http_library.cache_clear()
    async with serving() as server:
        for _ in range(2):
            http = made(kind, thread=thread)
            assert await read(await http.send(post(server))) == b"then"
            await http.aclose()
    assert asked == ([] if kind == "fast" else [http_library])


async def test_many_at_once(client: MakeClient) -> None:
    """Two hundred requests at once get two hundred answers."""
    async with serving() as server, client(max_connections=50) as http:
        done: list[bytes] = []

        async def one() -> None:
            done.append(await read(await http.send(post(server))))

        async with anyio.create_task_group() as group:
            for _ in range(200):
                group.start_soon(one)
        assert done == [b"then"] * 200
        assert server.connections <= 50


# --- proxies ---------------------------------------------------------------------------------


async def test_proxy_of_plain_http(client: MakeClient) -> None:
    """A proxy gets the whole address, and who we are to it."""
    async with serving() as proxy:
        address = proxy.url.replace("//", "//user:p%40ss@")
        async with client(proxy=address) as http:
            request = HTTPRequest(method="POST", url="http://acme.invalid/v1?a=b", body=b"{}")
            assert await read(await http.send(request)) == b"then"
        (seen,) = proxy.received
        assert seen.target == "http://acme.invalid/v1?a=b"
        assert seen.headers["host"] == "acme.invalid"
        assert seen.headers["proxy-authorization"] == "Basic dXNlcjpwQHNz"


async def test_proxy_that_refuses_a_tunnel(client: MakeClient) -> None:
    """A proxy that does not connect is an error of connecting that names the option."""
    async with serving(then=Reply(403)) as proxy, client(proxy=proxy.url) as http:
        with pytest.raises(lamella.ConnectError, match=r"HTTPOptions\.proxy"):
            await http.send(HTTPRequest(method="POST", url="https://acme.invalid/"))
        assert proxy.received[0].target == "acme.invalid:443"


async def test_proxy_of_the_environment(
    client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment's proxy is used, except for hosts in NO_PROXY and where it is not trusted."""
    async with serving() as proxy, serving() as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        async with client() as http:
            await read(await http.send(post(server)))
        assert (proxy.requests, server.requests) == (1, 0)
        async with client(trust_env=False) as http:
            await read(await http.send(post(server)))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with client() as http:
            await read(await http.send(post(server)))
        assert (proxy.requests, server.requests) == (1, 2)


# --- options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"max_connections": 0}, "max_connections"),
        ({"max_idle": -1}, "max_idle"),
        ({"max_body_bytes": 0}, "max_body_bytes"),
        ({"proxy": "localhost:3128"}, "http://"),
        ({"proxy": "http://localhost:port"}, "no address"),
        ({"proxy": "http://user:se/cret@localhost:3128"}, "%2F"),
    ],
)
def test_wrong_options(options: dict[str, Any], match: str) -> None:
    """A wrong option is named where it is given."""
    with pytest.raises((ValueError, lamella.ConfigurationError), match=match):
        HTTPOptions(**options)


@pytest.mark.parametrize("proxy", ["socks4://127.0.0.1:1", "http://user:se/cret@127.0.0.1:1"])
async def test_wrong_proxy_of_the_environment(
    client: MakeClient, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    """A proxy of the environment that cannot be used is named, and nothing of it is shown."""
    monkeypatch.setenv("http_proxy", proxy)
    async with client() as http:
        with pytest.raises(lamella.ConfigurationError, match="environment's proxy") as caught:
            await http.send(HTTPRequest(method="GET", url="http://acme.invalid/"))
    assert "se" + "/" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize("address", ["http://[::1]:1", "http://ü:ü@127.0.0.1:1"])
async def test_unusual_proxies(client: MakeClient, address: str) -> None:
    """Numeric hosts of IPv6, and names and passwords beyond ASCII, are taken as they are meant."""
    async with client(proxy=address) as http:
        with pytest.raises(lamella.ConnectError) as caught:
            await http.send(HTTPRequest(method="GET", url="http://acme.invalid/"))
    assert isinstance(caught.value.__cause__, http_library().core.ConnectError | OSError)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/",
        "host/path",
        "https://",
        "",
        "http://[::1",
        "http://a:99999/",
        "http://a/ü",
        "http://a/ b",
        "http://a b/",
        "http://a/\x7f",
    ],
)
async def test_wrong_addresses(client: MakeClient, url: str) -> None:
    """What is no address of HTTP is said to be none."""
    async with client() as http:
        with pytest.raises(lamella.ConfigurationError, match="HTTP"):
            await http.send(HTTPRequest(method="GET", url=url))


async def test_header_that_cannot_be_sent(client: MakeClient) -> None:
    """A header with a line break is refused, and not shown: it may be the key."""
    async with serving() as server, client() as http:
        request = HTTPRequest(
            method="GET", url=server.url, headers=((b"Authorization", b"Bearer sk-secret\nx"),)
        )
        with pytest.raises(lamella.MisuseError) as caught:
            await http.send(request)
        assert "sk-secret" not in "".join(traceback.format_exception(caught.value))
        assert server.requests == 0


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://does-not-exist.invalid/"])
async def test_errors_hold_no_key(client: MakeClient, url: str) -> None:
    """The frames that an error brings with it show no header, as reports print their variables."""
    async with client() as http:
        request = HTTPRequest(method="GET", url=url, headers=((b"X-Key", b"sk-secret"),))
        with pytest.raises(lamella.ConnectError) as caught:
            await http.send(request)
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    told.stack[:] = [frame for frame in told.stack if frame.filename != __file__]
    assert "sk-secret" not in "".join(told.format())


async def test_error_is_not_its_own_cause(client: MakeClient, kind: str) -> None:
    """Whoever follows the causes of an error comes to an end."""
    scheme = "http" if kind == "fast" else "socks5"
    async with client(proxy=f"{scheme}://127.0.0.1:1") as http:
        with pytest.raises(lamella.LamellaError) as caught:
            await http.send(HTTPRequest(method="GET", url="http://acme.invalid/"))
    assert caught.value.__cause__ is not caught.value
