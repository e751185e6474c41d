"""The fast HTTP client: the port over asyncio's sockets, with as little as possible in between.

It costs a fraction of the standard client, and is for asyncio (and uvloop) alone. Each event loop
has connections of its own. A request that finds a kept connection makes no task, no timer and no
scope: it is one write, and one wait for the answer.
"""

from __future__ import annotations

from asyncio import (  # noqa: TID251 - for asyncio's loops alone, and says so
    _get_running_loop,  # pyright: ignore[reportPrivateUsage] - which gives None on trio's
    get_running_loop,
)
from typing import TYPE_CHECKING

import anyio
import attrs

from lamella._errors import ConfigurationError
from lamella._loops import AsyncioLoop, PerLoop, current_loop
from lamella._ports import ThreadPort, run_in_thread
from lamella.transports._dialect import Headers
from lamella.transports._fast_connection import PIECE_BYTES, Connection
from lamella.transports._fast_dialing import Route, proxy_authorization, route_to
from lamella.transports._fast_pool import Pool
from lamella.transports._fast_reply import FastReply
from lamella.transports._http import HTTPOptions, HTTPReply, HTTPRequest, can_be_sent
from lamella.transports._http_failures import bad_header, client_closed, lost_before_answer
from lamella.transports._http_library import proxy_for, ssl_context
from lamella.transports._http_target import Target, read_target

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from lamella.transports._addresses import Proxy

_WAYS = 256
_LINES = 256
_BODILESS = frozenset({"GET", "HEAD", "DELETE"})
_ADDED = frozenset({b"host", b"content-length", b"transfer-encoding"})
_DEFAULT = HTTPOptions(fast=True)


@attrs.define(eq=False)
class _Way:
    """What requests to one URL have in common.

    Attributes:
        shown: Host and port, for messages.
        route: Whom their connections lead to.
        start: What follows the method: the rest of the request line, and the first headers.
    """

    shown: str
    route: Route
    start: bytes = attrs.field(repr=False)


class _Lines(dict[tuple[bytes, bytes], bytes]):
    """Headers as they travel. Most are the same from request to request."""

    def __missing__(self, header: tuple[bytes, bytes]) -> bytes:
        if not can_be_sent(*header) or header[0].lower() in _ADDED:
            return b""
        if len(self) >= _LINES:  # full of what never comes again: ids, milliseconds
            self.clear()
        line = self[header] = b"%b: %b\r\n" % header
        return line


class FastHTTPClient:
    """Sends requests over asyncio; see `HTTPClient`.

    Args:
        options: Bounds, proxies, TLS.
        thread: Where files of certificates are read.
    """

    def __init__(
        self, options: HTTPOptions = _DEFAULT, *, thread: ThreadPort = run_in_thread
    ) -> None:
        self._options = options
        self._thread = thread
        self._context: ssl.SSLContext | None = None
        self._pools: PerLoop[Pool] = PerLoop(lambda: Pool(get_running_loop(), options))
        self._latest: Pool | None = None
        self._reading = PerLoop(anyio.Lock)
        self._ways: dict[str, _Way] = {}
        self._routes: dict[tuple[str, bytes, Proxy | None], Route] = {}
        self._lines = _Lines()
        self._latest_headers: tuple[Headers, bytes] = ((), b"")
        self._closed = False

    async def send(self, request: HTTPRequest) -> HTTPReply:
        way = self._ways.get(request.url) or await self._find_way(request)
        pool = self._latest
        if pool is None or pool.closed or pool.loop is not _get_running_loop():
            pool = await self._pool(request)
        fresh = False
        while True:
            connection = None if fresh else pool.take(way.route)
            if connection is None:
                connection = await self._connect(pool, way, request, fresh=fresh)
            reply = FastReply(pool.loop, request.provider, way.shown, self._options.max_body_bytes)
            if not self._begin(connection, way, request, reply, None if fresh else request.on_sent):
                pool.freed(connection)
                raise bad_header(request.provider)
            try:
                if connection.paused or len(request.body) > PIECE_BYTES:
                    await _write_rest(connection, request, reply)
                if not reply.status and reply.error is None:
                    await reply.waiting()
            except BaseException:
                await reply.aclose()
                raise
            if reply.status:
                return reply
            if fresh or not reply.unanswered:
                raise reply.error or lost_before_answer(reply.provider, reply.where)
            # Once, on a connection that nobody has used, and without counting it as an attempt.
            fresh = True

    def _begin(
        self,
        connection: Connection,
        way: _Way,
        request: HTTPRequest,
        reply: FastReply,
        on_sent: Callable[[], None] | None,
    ) -> bool:
        """Write a request, or the first piece of a large one; False if a header cannot be sent.

        In a plain function: who waits later has no variable that holds the key.
        """
        headers, written = self._latest_headers  # mostly the same from request to request
        lines = written if headers is request.headers else self._written(request.headers)
        if lines is None:
            return False
        body, method = request.body, request.method
        length = len(body)
        stated = b"Content-Length: %d\r\n\r\n" % length
        if not length and method in _BODILESS:
            stated = b"\r\n"
        first = body if length <= PIECE_BYTES else b""
        connection.begin(reply, method)
        try:
            if on_sent is not None:
                on_sent()
            connection.write(b"".join((method.encode(), way.start, lines, stated, first)))
        except BaseException:  # nobody would ever end an exchange that did not begin
            connection.abort()
            raise
        return True

    def _written(self, headers: Headers) -> bytes | None:
        """Headers as they travel; None if one cannot be sent."""
        lines = [self._lines[header] for header in headers]
        if b"" in lines:
            return None
        written = b"".join(lines)
        self._latest_headers = (headers, written)
        return written

    async def _connect(
        self, pool: Pool, way: _Way, request: HTTPRequest, *, fresh: bool
    ) -> Connection:
        who, where = request.provider, way.shown
        if self._written(request.headers) is None:
            raise bad_header(who)
        return await pool.connect(way.route, who, where, request.connect, fresh=fresh)

    # --- what is found out once --------------------------------------------------------------

    async def _pool(self, request: HTTPRequest) -> Pool:
        """The running loop's connections."""
        if self._closed:
            raise client_closed(request.provider)
        if not isinstance(current_loop(), AsyncioLoop):
            msg = "The fast HTTP client works on asyncio's event loops only; this one is trio's."
            hint = "Leave http='fast' out: the standard client works on both."
            raise ConfigurationError(msg, hint=hint, provider=request.provider)
        pool = self._pools.get()
        if pool.closed:  # its loop has ended its generators and is run once more
            self._pools.pop()
            pool = self._pools.get()
        await pool.guard()
        self._latest = pool
        if self._closed:  # by another thread, which did not see this pool
            self._latest = None
            await pool.aclose()
            raise client_closed(request.provider)
        return pool

    async def _find_way(self, request: HTTPRequest) -> _Way:
        """How requests to a URL travel; the environment is asked for a proxy once for each."""
        target = read_target(request.url)
        proxy = proxy_for(target.scheme, target.name, self._options)
        if proxy is not None and proxy.url.startswith("socks"):
            msg = "The fast HTTP client takes no SOCKS proxy, which the environment names."
            hint = "Leave http='fast' out, or set HTTPOptions(fast=True, trust_env=False)."
            raise ConfigurationError(msg, hint=hint, provider=request.provider)
        context = None
        if target.scheme == "https" or (proxy is not None and proxy.encrypted):
            context = self._context or await self._read_context()
        if len(self._ways) >= _WAYS:  # full of what never comes again: the addresses of batches
            self._ways.clear()
        way = _Way(target.shown, self._route(target, proxy, context), _start(target, proxy))
        self._ways[request.url] = way
        return way

    async def _read_context(self) -> ssl.SSLContext:
        # One at a time on each loop: a thousand first requests would each read all authorities.
        async with self._reading.get():
            if self._context is None:
                self._context = await self._thread(ssl_context, self._options)
            return self._context

    def _route(self, target: Target, proxy: Proxy | None, context: ssl.SSLContext | None) -> Route:
        """The one route object of an origin: kept connections are found by it."""
        key = (target.scheme, target.authority, proxy)
        route = self._routes.get(key)
        if route is None:
            if len(self._routes) >= _WAYS:
                self._routes.clear()
            route = self._routes.setdefault(key, route_to(target, proxy, context))
        return route

    # --- the end -----------------------------------------------------------------------------

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._latest = None
        here, mine = current_loop(), None
        for loop, pool in self._pools.items():
            if loop is here:
                mine = pool
            else:
                loop.call_soon(pool.close)
        self._pools.clear()
        if mine is not None:  # last: who is cancelled here has closed everything
            await mine.aclose()


async def _write_rest(connection: Connection, request: HTTPRequest, reply: FastReply) -> None:
    rest = request.body if len(request.body) > PIECE_BYTES else b""
    await connection.write_rest(memoryview(rest), request.write, reply)


def _start(target: Target, proxy: Proxy | None) -> bytes:
    path, extra = target.path, b""
    if proxy is not None and target.scheme == "http":
        path = b"http://%b%b" % (target.authority, path)
        extra = proxy_authorization(proxy)
    return b" %b HTTP/1.1\r\nHost: %b\r\n%b" % (path, target.authority, extra)
