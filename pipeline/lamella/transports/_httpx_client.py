"""The HTTP port over the connection pools that the installed openai brings (httpx2 or httpx).

One client serves every event loop: each has pools of its own, made on first use. A request goes to
the pool itself, past the library's cookies, redirects, hooks and second layer of objects.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncGenerator, Callable, Iterator
from contextvars import Context
from functools import lru_cache
from typing import Any

import anyio
import attrs

from lamella._errors import (
    ConfigurationError,
    ConnectTimeout,
    LamellaError,
)
from lamella._loops import Loop, PerLoop, current_loop
from lamella._ports import ThreadPort, run_in_thread
from lamella.transports._addresses import Proxy
from lamella.transports._dialect import Headers
from lamella.transports._http import (
    DEFAULT_HTTP_OPTIONS,
    HTTPOptions,
    HTTPReply,
    HTTPRequest,
    can_be_sent,
)
from lamella.transports._http_failures import (
    bad_header,
    client_closed,
    connect_timeout,
    headers_too_large,
    lost_before_answer,
    no_connection,
    no_http,
    proxy_refused,
    untrusted,
    write_timeout,
)
from lamella.transports._http_library import (
    http_library,
    library_imported,
    proxy_for,
    ssl_context,
)
from lamella.transports._http_network import NetworkBackend, blames_certificate, went_unanswered
from lamella.transports._http_reply import PooledReply
from lamella.transports._http_target import read_target

_PIECE_BYTES = 64 * 1024
_REFUSED_STREAM = 7
_HOSTS = 256


@attrs.frozen
class _Target:
    """A parsed URL."""

    url: Any
    scheme: str
    host: str
    authority: bytes


@lru_cache(maxsize=256)
def _target(address: str) -> _Target:
    read = read_target(address)
    url = http_library().core.URL(
        scheme=read.scheme.encode(), host=read.host, port=read.port, target=read.path
    )
    return _Target(url, read.scheme, read.name, read.authority)


@attrs.frozen
class _Route:
    """How a request travels: to whom, through which proxy, with which TLS settings."""

    target: _Target
    proxy: Proxy | None
    context: ssl.SSLContext | None


class _Body:
    """A request's body in pieces, so that the limit on writing means progress, not size."""

    def __init__(
        self,
        request: HTTPRequest,
        scope: anyio.CancelScope,
        on_sent: Callable[[], None] | None,
    ) -> None:
        self._request = request
        self._scope = scope
        self._on_sent = on_sent
        self._pieces = self._cut()
        self.started = False

    def _cut(self) -> Iterator[bytes]:
        body = self._request.body
        for start in range(0, len(body), _PIECE_BYTES):
            yield body[start : start + _PIECE_BYTES]

    def __aiter__(self) -> _Body:
        # The library asks for the body once it has a connection.
        self.started = True
        self._scope.deadline = math.inf
        if self._on_sent is not None:
            self._on_sent()
        return self

    async def __anext__(self) -> bytes:
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration


class _LoopPools:
    """One event loop's connections."""

    def __init__(self, options: HTTPOptions) -> None:
        self._options = options
        self._pools: dict[tuple[Proxy | None, ssl.SSLContext | None, bool], Any] = {}
        self._guard: AsyncGenerator[None, None] | None = None
        self.sending: set[anyio.CancelScope] = set()

    async def guard(self) -> None:
        """Have the connections closed when the loop ends, as nobody else would.

        Both event loops close the generators that are still open when they end.
        """
        if self._guard is None:
            self._guard = self._open_until_closed()
            await anext(self._guard)

    async def _open_until_closed(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self._close_all()

    def get(self, route: _Route, *, fresh: bool) -> Any:
        """The pool of connections for a route. A fresh one keeps no connection."""
        key = (route.proxy, route.context, fresh)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = self._make(route, fresh=fresh)
        return pool

    def _make(self, route: _Route, *, fresh: bool) -> Any:
        options, core = self._options, http_library().core
        proxy = route.proxy
        shared: dict[str, Any] = {
            "ssl_context": route.context,
            "max_connections": options.max_connections,
            "max_keepalive_connections": 0 if fresh else options.max_idle,
            "keepalive_expiry": _as_float(options.idle_expiry),
            "http2": options.http2,
            "network_backend": NetworkBackend(_as_float(options.tcp_keepalive), options.resolve),
        }
        if proxy is None:
            return core.AsyncConnectionPool(local_address=options.local_address, **shared)
        name, password = proxy.user, proxy.password or ""
        auth = None if name is None else (name.encode(), password.encode())
        if proxy.encrypted:
            shared["proxy_ssl_context"] = route.context
        if not proxy.url.startswith("socks5"):
            return core.AsyncHTTPProxy(proxy.url, proxy_auth=auth, **shared)
        try:
            return core.AsyncSOCKSProxy(proxy.url, proxy_auth=auth, **shared)
        except (ImportError, RuntimeError) as error:
            msg = "A SOCKS proxy needs the package socksio, which is not installed."
            raise ConfigurationError(msg, hint="Install it with: pip install socksio") from error

    async def aclose(self) -> None:
        if self._guard is not None:
            await self._guard.aclose()

    async def _close_all(self) -> None:
        for scope in list(self.sending):
            scope.cancel()
        pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            await pool.aclose()


class PooledHTTPClient:
    """Sends requests over pooled connections; see `HTTPClient`.

    Args:
        options: Bounds, proxies, TLS.
        thread: Where files of certificates are read.
    """

    def __init__(
        self, options: HTTPOptions = DEFAULT_HTTP_OPTIONS, *, thread: ThreadPort = run_in_thread
    ) -> None:
        self._options = options
        self._thread = thread
        self._context: ssl.SSLContext | None = None
        self._pools: PerLoop[_LoopPools] = PerLoop(lambda: _LoopPools(options))
        self._proxies: dict[tuple[str, str], Proxy | None] = {}
        self._sendable: Headers = ()
        self._closed = False

    async def send(self, request: HTTPRequest) -> HTTPReply:
        route = await self._route(request)
        if self._closed:
            raise client_closed(request.provider)
        pools = self._pools.get()
        await pools.guard()
        with anyio.CancelScope(deadline=_connected_by(request)) as scope:
            pools.sending.add(scope)
            try:
                return await self._send(request, route, pools, scope)
            finally:
                pools.sending.discard(scope)
        if self._closed:
            raise client_closed(request.provider)
        raise _late(request, route.target)

    async def _route(self, request: HTTPRequest) -> _Route:
        if not library_imported():
            await self._thread(http_library)
        target = _target(request.url)
        proxy = self._proxy(target)
        if target.scheme != "https" and not (proxy is not None and proxy.encrypted):
            return _Route(target, proxy, None)
        if self._context is None:
            self._context = await self._thread(ssl_context, self._options)
        return _Route(target, proxy, self._context)

    async def _send(
        self, request: HTTPRequest, route: _Route, pools: _LoopPools, scope: anyio.CancelScope
    ) -> HTTPReply:
        body = _Body(request, scope, request.on_sent)
        try:
            return await self._exchange(pools.get(route, fresh=False), request, route.target, body)
        except Exception as error:  # noqa: BLE001 - raised as the library's own
            if not _certainly_not_taken(error):
                typed = self._typed(error, request, route.target, sent=body.started)
                raise typed from _shown(error)
        # Once, on a connection that nobody has used, and without counting it as an attempt.
        scope.deadline = _connected_by(request)
        body = _Body(request, scope, None if body.started else request.on_sent)
        try:
            return await self._exchange(pools.get(route, fresh=True), request, route.target, body)
        except Exception as error:  # noqa: BLE001 - raised as the library's own
            typed = self._typed(error, request, route.target, sent=body.started)
            raise typed from _shown(error)

    def _proxy(self, target: _Target) -> Proxy | None:
        """The proxy for a target; the environment is asked once for each host."""
        key = (target.scheme, target.host)
        if key not in self._proxies:
            if len(self._proxies) >= _HOSTS:
                self._proxies = {}
            self._proxies[key] = proxy_for(*key, self._options)
        return self._proxies[key]

    async def _exchange(
        self, pool: Any, request: HTTPRequest, target: _Target, body: _Body
    ) -> HTTPReply:
        if request.headers is not self._sendable:
            if not all(can_be_sent(*header) for header in request.headers):
                raise bad_header(request.provider)
            self._sendable = request.headers  # mostly the same from request to request
        response = await pool.handle_async_request(_library_request(request, target, body))
        size = 0
        for name, value in response.headers:
            size += len(name) + len(value) + 4
        reply = PooledReply(
            response,
            provider=request.provider,
            max_bytes=self._options.max_body_bytes,
            client_closed=self._is_closed,
        )
        if size > self._options.max_header_bytes:
            await reply.aclose()
            raise headers_too_large(request.provider)
        return reply

    def _is_closed(self) -> bool:
        return self._closed

    def _typed(
        self, error: Exception, request: HTTPRequest, target: _Target, *, sent: bool
    ) -> LamellaError:
        """The library's error in place of the HTTP library's, by name: there are two of those."""
        if isinstance(error, LamellaError) or self._closed:
            return error if isinstance(error, LamellaError) else client_closed(request.provider)
        kind, who = type(error).__name__, request.provider
        if kind in {"ConnectTimeout", "PoolTimeout"}:
            return _late(request, target)
        if kind == "WriteTimeout":
            return write_timeout(who, request.write or 0.0)
        if kind == "LocalProtocolError":
            return bad_header(who)
        where = target.authority.decode("latin-1")
        if not sent or kind == "ProxyError":
            return _connect_error(error, who, where)
        if kind == "RemoteProtocolError" and not _hung_up(error):
            too_long = "too long" in str(error)
            return headers_too_large(who) if too_long else no_http(who)
        return lost_before_answer(who, where)

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        here = current_loop()
        for loop, pools in self._pools.items():
            if loop is here:
                await pools.aclose()
            else:
                loop.call_soon(_spawner(loop, pools))
        self._pools.clear()


def _library_request(request: HTTPRequest, target: _Target, body: _Body) -> Any:
    """The library's request, made apart: so headers, with the key, stay out of errors' frames."""
    headers = [(b"Host", target.authority), *request.headers]
    if request.body or request.method not in {"GET", "HEAD", "DELETE"}:
        headers.append((b"Content-Length", b"%d" % len(request.body)))
    # Past its constructor, which looks at every header once more.
    kind = http_library().core.Request
    made = kind.__new__(kind)
    made.method = request.method.encode("ascii")
    made.url = target.url
    made.headers = headers
    made.stream = body
    made.extensions = {"timeout": {"write": request.write}}
    return made


def _shown(error: Exception) -> BaseException | None:
    """What is shown as the cause: not a text that may quote a header, and nothing as its own."""
    if isinstance(error, LamellaError):
        return error.__cause__
    return None if type(error).__name__ == "LocalProtocolError" else error


def _connected_by(request: HTTPRequest) -> float:
    """The instant, on the loop's clock, by which there must be a connection."""
    return math.inf if request.connect is None else anyio.current_time() + request.connect


def _spawner(loop: Loop, pools: _LoopPools) -> Callable[[], None]:
    # In an empty context: this one's says which kind of event loop runs here, not there.
    return lambda: Context().run(loop.spawn, pools.aclose, "lamella http close")


def _late(request: HTTPRequest, target: _Target) -> ConnectTimeout:
    where = target.authority.decode("latin-1")
    return connect_timeout(request.provider, where, request.connect)


def _connect_error(error: Exception, who: str, where: str) -> LamellaError:
    if blames_certificate(error):
        return untrusted(who, where)
    if type(error).__name__ == "ProxyError":
        return proxy_refused(who, where)
    return no_connection(who, where, error.__cause__)


def _certainly_not_taken(error: Exception) -> bool:
    """Whether the provider surely did not begin to work on the request.

    A kept connection that was closed in the meantime, or an HTTP/2 peer that says so itself.
    """
    if went_unanswered(error):
        return True
    event = error.args[0] if error.args else None
    name = type(event).__name__
    if name == "StreamReset":
        return getattr(event, "error_code", None) == _REFUSED_STREAM
    # With a last stream that is not 0, the pool itself finds another connection.
    return name == "ConnectionTerminated" and getattr(event, "last_stream_id", None) == 0


def _hung_up(error: Exception) -> bool:
    """Whether the peer closed, rather than sent nonsense."""
    if not error.args or type(error.args[0]).__name__ in {"StreamReset", "ConnectionTerminated"}:
        return True
    text = str(error)
    return "disconnected" in text or "closed connection" in text


def _as_float(value: Any) -> float | None:
    return None if value is None else float(value)
