"""Replies as handlers write them, and the head and framing HTTP wants for each."""

import enum
from collections.abc import AsyncIterable, Iterable, Mapping
from http import HTTPStatus
from typing import cast

import attrs

from lamella.testing._faults import Faults
from lamella.testing._http_body import Body, Chunk, Shape, zeros
from lamella.testing._http_wire import Received

_Fields = tuple[tuple[str, str], ...]


def _pairs(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> _Fields:
    if isinstance(headers, Mapping):
        headers = cast("Mapping[str, str]", headers).items()
    return tuple(headers)


def _not_text(_: object, __: object, body: object) -> None:
    if isinstance(body, str):
        message = "Reply(body=...): a text was given, but the body is bytes; write body.encode()"
        raise TypeError(message)


@attrs.frozen
class Reply:
    """What a handler answers.

    Attributes:
        status: the status code.
        headers: (name, value) pairs or a mapping. Content-Length, Transfer-Encoding and Connection
            are added as the body needs; giving one of the first two overrides the framing, right or
            wrong.
        body: bytes, sent with their Content-Length; or chunks (an iterable or an asynchronous one)
            of bytes and `Pause`, each sent when its turn comes, in the chunked coding.
        faults: what goes wrong with it; None for nothing.
    """

    status: int = 200
    headers: _Fields = attrs.field(default=(), converter=_pairs)
    body: Body = attrs.field(default=b"", validator=_not_text, repr=False)
    faults: Faults | None = None


class Framing(enum.Enum):
    """How the client learns where the body ends."""

    NONE = "there is no body"
    RAW = "by its length"
    CHUNKED = "by a last chunk"
    CLOSE = "by the end of the connection"


@attrs.frozen
class ReplyPlan:
    """A reply made ready to be sent.

    Attributes:
        head: status line and headers, as sent.
        chunks: the body: bytes to send at once with the head; or chunks already shaped; or, when
            asynchronous, chunks that ``shape`` has still to turn into those that are sent.
        shape: see there.
        framing: what stands between and after the chunks.
        length: the length that was announced, if one was.
        close: whether the end of the connection was announced.
    """

    head: bytes
    chunks: Body
    shape: Shape
    framing: Framing
    length: int | None
    close: bool


def make_plan(reply: Reply, faults: Faults, request: Received) -> ReplyPlan:
    """Decide what is sent for a reply.

    Raises:
        ValueError: a header of the reply holds a line break, or is not Latin-1.
    """
    status = reply.status if faults.status is None else faults.status
    shape = Shape(faults)
    chunks, length = _content(reply, faults, shape)
    headers = _override(reply.headers, faults.headers)
    if faults.gzip or faults.gzip_bomb is not None:
        headers = _override(headers, (("Content-Encoding", "gzip"),))
    if faults.header_bytes:
        headers = (*headers, ("X-Filler", "x" * faults.header_bytes))
    empty = status < 200 or status in {204, 304}
    framing, length, added = _framing(
        headers, length, request, close=faults.until_close, empty=empty
    )
    headers += added
    named = {name.lower(): value.lower() for name, value in headers}
    close = not request.keep_alive or faults.slow_close > 0 or framing is Framing.CLOSE
    if close and "connection" not in named:
        headers = (*headers, ("Connection", "close"))
    if request.method == "HEAD":
        framing = Framing.NONE
    return ReplyPlan(
        head=_head(_status_line(status, faults), headers),
        chunks=b"" if framing is Framing.NONE and not faults.active() else chunks,
        shape=shape,
        framing=framing,
        length=length,
        close=close or named.get("connection") == "close",
    )


def _content(reply: Reply, faults: Faults, shape: Shape) -> tuple[Body, int | None]:
    """Return the chunks to send, and their length if it is known."""
    body: Body = reply.body if faults.body is None else faults.body
    if faults.gzip_bomb is not None:
        return shape.whole(zeros(faults.gzip_bomb)), None
    if isinstance(body, bytes):
        if not faults.active():
            return body, len(body)
        chunks: list[Chunk] = list(shape.whole([body]))
        length = sum(len(chunk) for chunk in chunks if isinstance(chunk, bytes))
        if faults.limit_clean and faults.limit_data is not None:
            length = min(length, faults.limit_data)
        return chunks, length
    return (body if isinstance(body, AsyncIterable) else shape.whole(body)), None


def _override(headers: _Fields, by: _Fields) -> _Fields:
    replaced = {name.lower() for name, _ in by}
    return (*(pair for pair in headers if pair[0].lower() not in replaced), *by)


def _framing(
    headers: _Fields, length: int | None, request: Received, *, close: bool, empty: bool
) -> tuple[Framing, int | None, _Fields]:
    """Return the framing, the length announced, and the headers to add for it."""
    named = {name.lower(): value for name, value in headers}
    if empty:
        return Framing.NONE, None, ()
    if "transfer-encoding" in named:
        return Framing.CHUNKED, None, ()
    if "content-length" in named:
        announced = named["content-length"]
        return Framing.RAW, int(announced) if announced.isdecimal() else None, ()
    if close or (length is None and request.version == "HTTP/1.0"):
        return Framing.CLOSE, None, ()
    if length is not None:
        return Framing.RAW, length, (("Content-Length", str(length)),)
    return Framing.CHUNKED, None, (("Transfer-Encoding", "chunked"),)


def _status_line(status: int, faults: Faults) -> str:
    if faults.status_line is not None:
        return faults.status_line
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"{faults.http_version or 'HTTP/1.1'} {status} {phrase}"


def _head(first: str, headers: _Fields) -> bytes:
    lines = [first, *(f"{name}: {value}" for name, value in headers)]
    for line in lines:
        if "\r" in line or "\n" in line:
            message = f"Reply: the header {line.partition(':')[0]!r} holds a line break; remove it"
            raise ValueError(message)
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
