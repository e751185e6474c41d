"""The HTTP port: what a transport needs of HTTP, and no library's types.

Request bytes go in; status, headers and a closable stream of bytes come out. Transports, plugins
and the fast client all use this port, so that one can be exchanged for another. An implementation
raises the library's own errors and no others, retries nothing but a request that was certainly not
taken on a kept connection, follows no redirect and keeps no cookie.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import attrs

from lamella._errors import ConfigurationError
from lamella._limits import Seconds, positive_seconds
from lamella.transports._addresses import read_proxy

if TYPE_CHECKING:
    from lamella._ports import Ports

MEBIBYTE = 1024 * 1024


@attrs.frozen(kw_only=True)
class HTTPRequest:
    """A request as bytes.

    Attributes:
        method: `POST`, `GET` ...
        url: Absolute, `http` or `https`. It must hold no secret: errors name its host.
        headers: Names and values; `host` and `content-length` are added.
        body: The whole body.
        provider: Who is asked, for messages.
        connect: Seconds to get a connection, a free place in the pool, TLS and proxies included;
            None for no limit.
        write: Seconds for the peer to take the next piece of the request; None for no limit.
        on_sent: Called once, when the first byte is about to leave this process. It is not called
            if no connection could be made.
        ports: Clock and threads of the call that it belongs to, for who finds its key; None are the
            system's.
    """

    method: str
    url: str
    headers: tuple[tuple[bytes, bytes], ...] = attrs.field(default=(), repr=False)
    body: bytes = attrs.field(default=b"", repr=False)
    provider: str = "the provider"
    connect: float | None = None
    write: float | None = None
    on_sent: Callable[[], None] | None = attrs.field(default=None, repr=False)
    ports: Ports | None = attrs.field(default=None, repr=False)

    def with_headers(self, headers: tuple[tuple[bytes, bytes], ...]) -> HTTPRequest:
        """The same request with further headers."""
        return HTTPRequest(
            method=self.method,
            url=self.url,
            headers=(*self.headers, *headers),
            body=self.body,
            provider=self.provider,
            connect=self.connect,
            write=self.write,
            on_sent=self.on_sent,
            ports=self.ports,
        )


_HEADER_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(rb"(?:[!-~](?:[ -~]*[!-~])?)?")


def can_be_sent(name: bytes, value: bytes) -> bool:
    """Whether a header is one: a token, and one line of printable ASCII without spaces around it.

    To be asked before a library is: its own error would quote the value, which may be a key.
    """
    return _HEADER_NAME.fullmatch(name) is not None and _HEADER_VALUE.fullmatch(value) is not None


class HTTPReply(Protocol):
    """An answer whose body is still to be read, by one task at a time.

    It must be closed, read to its end or not. Reading to the end gives the connection back;
    closing it earlier closes the connection at once.
    """

    @property
    def status(self) -> int:
        """The status code."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers, with lower-case names; values of repeated ones are joined by `, `."""
        ...

    async def __anext__(self) -> bytes:
        """The next bytes of the body, decompressed; never empty.

        Raises:
            StopAsyncIteration: At the body's proper end.
            StreamTruncated: If the peer closed in an orderly way before that end.
            ConnectionLostError: If the connection broke.
            ResponseTooLargeError: If the body is larger than the client's limit.
            ProtocolError: If the bytes are no HTTP.
            ClosedError: If the reply, or the client, was closed.
        """
        ...

    async def aclose(self) -> None:
        """Release the connection. Idempotent; any task may call it, even while another reads.

        The read that is under way then raises `ClosedError`.
        """
        ...


class HTTPClient(Protocol):
    """Sends requests. One serves all event loops and threads of a process."""

    async def send(self, request: HTTPRequest) -> HTTPReply:
        """Send a request; its answer as soon as status and headers are there.

        Raises:
            ConnectError: If no connection could be made: nothing was sent.
            CertificateError: If the peer's certificate, or TLS, was not acceptable.
            ConnectTimeout: If `request.connect` passed.
            WriteTimeout: If `request.write` passed.
            ConnectionLostError: If the connection broke after something was sent.
            ProtocolError: If the answer is no HTTP, or its headers are too large.
            ClosedError: If the client is closed.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections, those of other event loops on their loops. Idempotent."""
        ...


Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""The numeric addresses of a host, for a port."""


def _count(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    if value < 1:
        raise ValueError(f"HTTPOptions.{attribute.name} must be at least 1, not {value!r}.")


def _count_or_none(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    if value < 0:
        raise ValueError(f"HTTPOptions.{attribute.name} must be 0 or more, not {value!r}.")


def _known_proxy(_: object, __: object, value: str | None) -> None:
    if value is not None:
        read_proxy(value, "HTTPOptions.proxy")


def _http2_installed(_: object, __: object, value: bool) -> None:  # noqa: FBT001 - attrs' signature
    if not value:
        return
    from importlib.util import find_spec

    if find_spec("h2") is None:
        msg = "HTTPOptions(http2=True) needs the package h2, which is not installed."
        raise ConfigurationError(msg, hint="Install it with: pip install 'lamella[http2]'")


def _can_be_fast(options: HTTPOptions, _: object, value: bool) -> None:  # noqa: FBT001 - as above
    if not value:
        return
    hint = "Leave fast=True (or http='fast') out: the standard client can do both."
    if options.http2:
        msg = "HTTPOptions(fast=True, http2=True): the fast client speaks HTTP/1.1 only."
        raise ConfigurationError(msg, hint=hint)
    if options.proxy is not None and options.proxy.lower().startswith("socks"):
        msg = "HTTPOptions(fast=True, proxy='socks5...'): the fast client takes no SOCKS proxy."
        raise ConfigurationError(msg, hint=hint)


def _default_connections(options: HTTPOptions) -> int:
    return 10_000 if options.fast else 1000


def _default_idle(options: HTTPOptions) -> int:
    return 1000 if options.fast else 100


@attrs.frozen(kw_only=True)
class HTTPOptions:
    """How a transport's HTTP client behaves.

    Attributes:
        fast: Whether requests go through the fast client, which costs a fraction of the standard
            one. It works on asyncio's event loops only (uvloop's too), speaks HTTP/1.1 only, and
            takes no SOCKS proxy.
        max_connections: Connections open at once, for each event loop; at least 1. More requests
            wait for one, which counts as connecting. Below HTTP/2 a connection serves one request
            at a time, so this bounds the requests under way. By default 1,000, and 10,000 of the
            fast client; each takes one of the files that the system lets a process open.
        max_idle: Connections kept open for later; 0 keeps none. By default 100, and 1,000 of the
            fast client. The standard one looks at each of them on every request, so that very many
            make requests slow.
        idle_expiry: Seconds after which an unused connection is closed; None for never. Keep it
            below the server's own, which closes without a word.
        http2: Whether to speak HTTP/2 where the server does. Needs `pip install 'lamella[http2]'`.
        proxy: `http://`, `https://` or `socks5://` address of a proxy, with `user:password@` if it
            asks for one. None takes the environment's (`HTTPS_PROXY`, `ALL_PROXY` ...) if
            `trust_env` holds.
        trust_env: Whether proxies of the environment are used, `NO_PROXY` included.
        verify: True checks certificates against the system's (openai 3) or certifi's (openai 2)
            authorities; a path is a file or folder of authorities in PEM; a context is used as it
            is. False checks nothing: for tests only, keys can then be stolen.
        client_cert: Path of a PEM file with a client certificate and its key; None for none.
        local_address: The local address to connect from; None leaves it to the system.
        resolve: Gives the numeric addresses to connect to for a host and port, in the order in
            which to try them; what it raises ends the request. None leaves names to the system.
            The `Host` header, and what a certificate must be for, stay those of the URL. Behind a
            proxy, which resolves names itself, it is asked for the proxy's.
        tcp_keepalive: Seconds of silence after which the system probes whether the peer is alive:
            some networks forget connections that wait long for an answer. None sends no probes.
        max_body_bytes: The most bytes of an answer's body, decompressed; at least 1.
        max_header_bytes: The most bytes of an answer's headers; at least 1. The library beneath the
            standard client gives up at 100 KiB in any case.
        max_message_bytes: The most bytes of one message of a stream; at least 1.
    """

    fast: bool = attrs.field(default=False, validator=_can_be_fast)
    max_connections: int = attrs.field(
        default=attrs.Factory(_default_connections, takes_self=True), validator=_count
    )
    max_idle: int = attrs.field(
        default=attrs.Factory(_default_idle, takes_self=True), validator=_count_or_none
    )
    idle_expiry: Seconds = attrs.field(default=30.0, converter=positive_seconds)
    http2: bool = attrs.field(default=False, validator=_http2_installed)
    proxy: str | None = attrs.field(default=None, validator=_known_proxy, repr=False)
    trust_env: bool = True
    verify: bool | str | ssl.SSLContext = True
    client_cert: str | None = None
    local_address: str | None = None
    resolve: Resolve | None = attrs.field(default=None, repr=False)
    tcp_keepalive: Seconds = attrs.field(default=60.0, converter=positive_seconds)
    max_body_bytes: int = attrs.field(default=64 * MEBIBYTE, validator=_count)
    max_header_bytes: int = attrs.field(default=64 * 1024, validator=_count)
    max_message_bytes: int = attrs.field(default=16 * MEBIBYTE, validator=_count)


DEFAULT_HTTP_OPTIONS = HTTPOptions()


def http_options(given: HTTPOptions | Literal["fast"]) -> HTTPOptions:
    """The options that a word stands for.

    Raises:
        ConfigurationError: If it is another word.
    """
    if isinstance(given, HTTPOptions):
        return given
    if given == "fast":
        return HTTPOptions(fast=True)
    msg = f"http={given!r} is neither HTTPOptions nor the word 'fast'."
    raise ConfigurationError(msg, hint="For example http=HTTPOptions(max_connections=200).")
