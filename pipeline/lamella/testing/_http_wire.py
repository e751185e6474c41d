"""HTTP/1.1 requests read from a byte stream (RFC 9110, RFC 9112), strictly and within bounds.

Whatever two parties could read in two ways (both a length and chunks, two lengths, bare line feeds,
folded headers) is refused, so that nothing can be smuggled past the side that reads it.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import anyio.abc
import attrs
from anyio import BrokenResourceError, EndOfStream

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VERSION = re.compile(r"HTTP/\d\.\d")
_HEAD_END = re.compile(rb"\n\r?\n")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_DIGITS = re.compile(r"[0-9]{1,18}")
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?")
_CHUNK_LINE_BYTES = 4096


@attrs.frozen(kw_only=True)
class Limits:
    """Bounds of the server; sizes in bytes.

    Attributes:
        header_bytes: largest request line and headers together; more is answered with 431.
        body_bytes: largest request body; more is answered with 413.
        ahead_bytes: how much of a client's next requests is read while a reply is under way. With
            more, the server stops reading, and then notices only when it writes that the client has
            left.
        received: how many of the latest requests ``HTTPServer.received`` keeps; likewise its other
            records.
        connections: how many connections may be open at once; more wait in the system's queue. None
            is no bound.
        backlog: length of the system's queue of connections not yet accepted.
        receive_buffer: size of the system's receive buffer of each connection; small ones make an
            unread body block its sender early. None leaves the system's.
    """

    header_bytes: int = 64 * 1024
    body_bytes: int = 64 * 1024 * 1024
    ahead_bytes: int = 1024 * 1024
    received: int = 1000
    connections: int | None = None
    backlog: int = 128
    receive_buffer: int | None = None


class Headers(Mapping[str, str]):
    """HTTP headers: looked up without regard to case, kept in the wire's order and spelling."""

    __slots__ = ("raw",)

    def __init__(self, raw: Iterable[tuple[str, str]] = ()) -> None:
        """Take the (name, value) pairs as they came."""
        self.raw = tuple(raw)

    def __getitem__(self, name: str) -> str:
        """Return the value of a header; several of one name are joined by a comma and a space."""
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def get_all(self, name: str) -> list[str]:
        """Return all values of one name, in order; empty when there is none."""
        wanted = name.lower()
        return [value for key, value in self.raw if key.lower() == wanted]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names in lower case, each once."""
        return iter(dict.fromkeys(key.lower() for key, _ in self.raw))

    def __len__(self) -> int:
        """Return the number of different names."""
        return len({key.lower() for key, _ in self.raw})

    def __repr__(self) -> str:
        """Show the names only: values may be keys."""
        return f"<Headers {', '.join(self)}>"


@attrs.frozen(kw_only=True)
class Received:
    """A request as it arrived.

    Attributes:
        index: number of the request at this server, from 0.
        connection: number of the connection it came on, from 0.
        method: such as ``POST``, as sent.
        target: the request target, raw.
        path: the path of the target, percent-decoded.
        query: the parameters of the target, decoded; the last one of a name holds.
        version: such as ``HTTP/1.1``.
        headers: the request headers.
        body: the whole body, chunks joined; empty while only the head is known.
    """

    index: int
    connection: int
    method: str
    target: str
    path: str
    query: Mapping[str, str]
    version: str
    headers: Headers
    body: bytes = attrs.field(default=b"", repr=False)

    def json(self) -> Any:
        """Return the body read as JSON.

        Raises:
            ValueError: the body is not JSON.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            message = (
                f"{self.method} {self.path!r}: the body of {len(self.body)} bytes is not JSON "
                f"({error})"
            )
            raise ValueError(message) from error

    @property
    def keep_alive(self) -> bool:
        """Whether the client lets the connection be used again."""
        options = self.headers.get("connection", "").lower()
        return self.version != "HTTP/1.0" and "close" not in options


class RequestError(Exception):
    """A request that cannot be served; ``status`` says how to answer it."""

    def __init__(self, status: int, reason: str) -> None:
        """Keep the status and the reason, which the answer's body repeats."""
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason


@attrs.frozen
class Head:
    """The first part of a request, and how its body is framed (``length`` None means chunks)."""

    method: str
    target: str
    version: str
    headers: Headers
    length: int | None

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits to be told to send the body."""
        return self.version == "HTTP/1.1" and "expect" in self.headers

    def received(self, index: int, connection: int) -> Received:
        """Return the request without its body."""
        path, query = _split(self.target)
        return Received(
            index=index,
            connection=connection,
            method=self.method,
            target=self.target,
            path=path,
            query=query,
            version=self.version,
            headers=self.headers,
        )


def _split(target: str) -> tuple[str, Mapping[str, str]]:
    rest = target
    if not target.startswith("/") and "://" in target:
        try:
            parts = urlsplit(target)
        except ValueError as error:
            raise RequestError(400, "the request target is not a URL") from error
        rest = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    path, _, query = rest.partition("?")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=1000)
    except ValueError as error:
        raise RequestError(400, "the query has more than 1000 parameters") from error
    return unquote(path), MappingProxyType(dict(pairs))


def parse_head(data: bytes) -> Head:
    """Parse a request line and headers, the empty line excluded.

    Raises:
        RequestError: it is not well-formed HTTP/1.x, or frames its body in a way that is not safe
            to follow.
    """
    text = data.decode("latin-1")
    first, *lines = text.split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not _TOKEN.fullmatch(parts[0]) or not parts[1] or _CONTROL.search(first):
        raise RequestError(400, "the request line is not 'METHOD target HTTP/1.1'")
    method, target, version = parts
    if not _VERSION.fullmatch(version):
        raise RequestError(400, "the request line does not end in an HTTP version")
    if version not in {"HTTP/1.0", "HTTP/1.1"}:
        raise RequestError(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    headers = Headers(_header(line) for line in lines)
    if version == "HTTP/1.1" and len(headers.get_all("host")) != 1:
        raise RequestError(400, "an HTTP/1.1 request needs exactly one Host header")
    if headers.get("expect", "100-continue").lower() != "100-continue":
        raise RequestError(417, "the only expectation known is 100-continue")
    return Head(method, target, version, headers, _body_length(headers))


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not _TOKEN.fullmatch(name) or _CONTROL.search(value):
        raise RequestError(400, "a header line is not 'Name: value'")
    return name, value.strip(" \t")


def _body_length(headers: Headers) -> int | None:
    lengths = headers.get_all("content-length")
    codings = headers.get("transfer-encoding")
    if codings is not None:
        if lengths:
            raise RequestError(400, "Content-Length and Transfer-Encoding exclude each other")
        if codings.lower() != "chunked":
            raise RequestError(501, "the only transfer coding known is chunked")
        return None
    if len(set(lengths)) > 1:
        raise RequestError(400, "the Content-Length headers contradict each other")
    if lengths and not _DIGITS.fullmatch(lengths[0]):
        raise RequestError(400, "the Content-Length is not a number")
    return int(lengths[0]) if lengths else 0


class Reader:
    """The receiving side of one connection: bytes in, heads and bodies out."""

    def __init__(self, stream: anyio.abc.ByteStream, limits: Limits) -> None:
        """Read from the stream, within the limits."""
        self._stream = stream
        self._limits = limits
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Number of bytes that have arrived and are not yet part of a request."""
        return len(self._buffer)

    async def fill(self) -> bool:
        """Wait for more bytes; False when the client has closed or reset the connection."""
        try:
            self._buffer += await self._stream.receive()
        except (EndOfStream, BrokenResourceError):
            return False
        return True

    def discard(self) -> None:
        """Throw away what has arrived."""
        self._buffer.clear()

    async def head(self) -> Head | None:
        """Read the next request up to its body; None when the client leaves instead.

        Raises:
            RequestError: the head is malformed or too large.
        """
        searched = 0
        while True:
            while self._buffer.startswith(
                b"\r\n"
            ):  # RFC 9112, 2.2: empty lines before a request are skipped
                del self._buffer[:2]
            end = _HEAD_END.search(self._buffer, max(0, searched - 3))
            if (end.start() if end else len(self._buffer)) > self._limits.header_bytes:
                reason = f"request line and headers exceed {self._limits.header_bytes} bytes"
                raise RequestError(431, reason)
            if end is not None:
                break
            searched = len(self._buffer)
            if not await self.fill():
                return None
        data = bytes(self._buffer[: end.end()])
        del self._buffer[: end.end()]
        if not data.endswith(b"\r\n\r\n"):
            raise RequestError(400, "lines must end in CR LF")
        return parse_head(data[:-4])

    async def body(self, head: Head) -> bytes | None:
        """Read the body that a head announces; None when the client leaves before its end.

        Raises:
            RequestError: the body is too large, or its chunks are malformed.
        """
        if head.length is None:
            return await self._chunks()
        self._check(head.length)
        return await self._take(head.length)

    async def _chunks(self) -> bytes | None:
        body = bytearray()
        while True:
            line = await self._line()
            if line is None:
                return None
            size = _CHUNK_SIZE.fullmatch(line)
            if size is None:
                raise RequestError(400, "a chunk does not begin with its size")
            length = int(size[1], 16)
            if length == 0:
                return bytes(body) if await self._trailers() else None
            self._check(len(body) + length)
            chunk = await self._take(length + 2)
            if chunk is None:
                return None
            if not chunk.endswith(b"\r\n"):
                raise RequestError(400, "a chunk is longer than its size")
            body += chunk[:-2]

    async def _trailers(self) -> bool:
        seen = 0
        while line := await self._line():
            seen += len(line)
            if seen > self._limits.header_bytes:
                raise RequestError(431, f"trailers exceed {self._limits.header_bytes} bytes")
        return line is not None

    async def _line(self) -> bytes | None:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > _CHUNK_LINE_BYTES:
                raise RequestError(400, f"a chunk's first line exceeds {_CHUNK_LINE_BYTES} bytes")
            if not await self.fill():
                return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    async def _take(self, length: int) -> bytes | None:
        while len(self._buffer) < length:
            if not await self.fill():
                return None
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        return data

    def _check(self, length: int) -> None:
        if length > self._limits.body_bytes:
            raise RequestError(413, f"the body exceeds {self._limits.body_bytes} bytes")
