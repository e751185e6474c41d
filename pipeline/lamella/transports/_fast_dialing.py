"""Connections made: addresses, sockets, proxies, TLS."""

from __future__ import annotations

import asyncio  # noqa: TID251 - this client is for asyncio's loops alone, and says so
import ssl
from base64 import b64encode
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

import anyio
import attrs

from lamella._errors import ClosedError
from lamella.transports._addresses import Proxy
from lamella.transports._fast_connection import Connection
from lamella.transports._fast_reply import FastReply
from lamella.transports._http import HTTPOptions
from lamella.transports._http_failures import as_failure, proxy_refused, untrusted
from lamella.transports._http_sockets import system_addresses, tune
from lamella.transports._http_target import Target

_HANDSHAKE_SECONDS = 24 * 3600.0
"""In place of asyncio's own limit: the one on connecting includes the handshake."""
_STAGGER_SECONDS = 0.25
"""How long one address is tried before the next one joins in (RFC 8305)."""


@attrs.frozen(eq=False)
class Route:
    """Whom a connection leads to; requests with the same one share connections.

    Attributes:
        scheme: `http` or `https`.
        host: Whom to connect to: the origin, or a proxy that forwards single requests.
        port: At which port.
        name: The origin's host, which a certificate must be for.
        authority: The origin's host and port, for a proxy that makes tunnels.
        proxy: The proxy on the way.
        context: The TLS settings, if the origin or the proxy is under TLS.
    """

    scheme: str
    host: str
    port: int
    name: str
    authority: str
    proxy: Proxy | None
    context: ssl.SSLContext | None


def route_to(target: Target, proxy: Proxy | None, context: ssl.SSLContext | None) -> Route:
    """The way to a target."""
    host, port = target.host.decode("ascii"), target.port_number
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if proxy is None:
        return Route(target.scheme, host, port, host, shown, None, context)
    parts = urlsplit(proxy.url)
    at = (parts.hostname or "", parts.port or (443 if proxy.encrypted else 80))
    if target.scheme == "http":  # forwarded one by one: the origin makes no difference
        return Route("http", *at, "", "", proxy, context)
    return Route("https", *at, host, shown, proxy, context)


def proxy_authorization(proxy: Proxy) -> bytes:
    """The header line that says who we are to a proxy; empty if nobody has to."""
    if proxy.user is None:
        return b""
    who = f"{proxy.user}:{proxy.password or ''}".encode()
    return b"Proxy-Authorization: Basic %b\r\n" % b64encode(who)


@attrs.frozen
class Dialer:
    """Makes the connections of one event loop.

    Attributes:
        loop: The loop.
        options: How.
        make: Makes a connection's object, before it is one.
    """

    loop: asyncio.AbstractEventLoop
    options: HTTPOptions
    make: Callable[[], Connection]

    async def dial(self, route: Route, who: str, where: str) -> Connection:
        """A connection that is ready for requests.

        Args:
            route: Whom it leads to.
            who: The provider, for messages.
            where: Its address, for messages.

        Raises:
            LamellaError: Why there is none.
        """
        connection: Connection | None = None
        try:
            connection = await self._connect(route.host, route.port)
            proxy, context, secure = route.proxy, route.context, route.scheme == "https"
            if proxy is not None and proxy.encrypted and context is not None:
                await self._secure(connection, context, route.host)
            if proxy is not None and secure:
                await self._tunnel(connection, route.authority, proxy, who)
            if secure and context is not None:
                await self._secure(connection, context, route.name)
        except BaseException as error:
            if connection is not None:
                connection.abort()
            if isinstance(error, ssl.SSLError | ssl.CertificateError) and not isinstance(
                error, ssl.SSLEOFError
            ):
                raise untrusted(who, where) from error
            if isinstance(error, OSError):
                raise as_failure(error, who, where) from error
            raise
        return connection

    async def _connect(self, host: str, port: int) -> Connection:
        resolve = self.options.resolve
        if resolve is None:
            connection = await self._race(await self._addresses(host, port), port)
        else:
            connection = await self._in_turn(await resolve(host, port), port)
        raw = connection.transport.get_extra_info("socket")
        try:
            tune(raw, _seconds(self.options.tcp_keepalive))
        except OSError:  # some systems say so of a socket whose peer has hung up
            connection.abort()
            raise
        return connection

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            return [str(ip_address(host))]
        except ValueError:
            pass
        return await system_addresses(host, port)

    async def _in_turn(self, addresses: Sequence[str], port: int) -> Connection:
        failure: OSError = ConnectionError("the resolver gave no address")
        for address in addresses:
            try:
                # A name here would be resolved once more, by somebody else.
                return await self._open(str(ip_address(address)), port)
            except ValueError:
                failure = ConnectionError("the resolver gave something else than an address")
            except OSError as error:
                failure = error
        raise failure

    async def _race(self, addresses: Sequence[str], port: int) -> Connection:
        """The first address that answers; the next one starts when one is slow or has failed."""
        if len(addresses) == 1:
            return await self._open(addresses[0], port)
        won: list[Connection] = []
        failures: list[OSError] = []

        async def attempt(address: str, failed: anyio.Event) -> None:
            try:
                connection = await self._open(address, port)
            except OSError as error:
                failures.append(error)
                failed.set()
                return
            if won:
                connection.abort()
                return
            won.append(connection)
            group.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as group:
                for address in addresses:
                    failed = anyio.Event()
                    group.start_soon(attempt, address, failed)
                    with anyio.move_on_after(_STAGGER_SECONDS):
                        await failed.wait()
        except BaseException:
            for connection in won:
                connection.abort()
            raise
        if not won:
            raise failures[-1] if failures else ConnectionError("the host has no address")
        return won[0]

    async def _open(self, address: str, port: int) -> Connection:
        local = self.options.local_address
        _, connection = await self.loop.create_connection(
            self.make, address, port, local_addr=None if local is None else (local, 0)
        )
        return connection

    async def _secure(self, connection: Connection, context: ssl.SSLContext, name: str) -> None:
        context.set_alpn_protocols(["http/1.1"])
        transport = await self.loop.start_tls(
            connection.transport,
            connection,
            context,
            server_hostname=name,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS,
        )
        if transport is None or not connection.open:
            msg = "the connection was closed during the handshake"
            raise ConnectionResetError(msg)
        connection.use(transport)

    async def _tunnel(self, connection: Connection, authority: str, proxy: Proxy, who: str) -> None:
        """Ask a proxy for a way through to an origin."""
        reply = FastReply(self.loop, who, authority, self.options.max_body_bytes)
        connection.begin(reply, "CONNECT")
        to = authority.encode("ascii")
        connection.write(
            b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nAccept: */*\r\n%b\r\n"
            % (to, to, proxy_authorization(proxy))
        )
        if not reply.status and reply.error is None:
            await reply.waiting()
        if isinstance(reply.error, ClosedError):
            raise reply.error
        if reply.error is not None:
            msg = "the proxy closed the connection"
            raise ConnectionResetError(msg)
        if not 200 <= reply.status < 300:
            raise proxy_refused(who, authority)
        connection.renew()


def _seconds(value: object) -> float | None:
    return None if value is None else float(value)  # type: ignore[arg-type]
