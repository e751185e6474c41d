"""How the fast client reads answers: however they are cut, and whatever comes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import attrs
import pytest
from fast_wire import connected, feed, reply_on
from hypothesis import given, settings
from hypothesis import strategies as st

import lamella
from lamella.transports._fast_connection import Connection
from lamella.transports._fast_reply import FastReply

TOKENS = st.text("abcXYZ019-_", min_size=1, max_size=12)
VALUES = st.text("abc XYZ;=é,\t", max_size=20).map(lambda text: text.strip(" \t"))
HEADERS = st.lists(st.tuples(TOKENS.map(lambda name: f"x-{name}"), VALUES), max_size=6)
PIECES = st.lists(st.binary(max_size=40), max_size=6)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that is run when something is to be read."""
    made = asyncio.new_event_loop()
    yield made
    made.close()


@attrs.frozen
class Answer:
    """An answer, and what it should be read as."""

    raw: bytes
    status: int
    headers: dict[str, str]
    body: bytes
    kept: bool


def head(status: int, headers: list[tuple[str, str]]) -> bytes:
    """The head of an answer."""
    lines = [f"HTTP/1.1 {status} Fine", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """Answers of every framing, with informational ones before them."""
    before = b"".join(
        head(draw(st.sampled_from([100, 102, 103])), draw(HEADERS))
        for _ in range(draw(st.integers(0, 2)))
    )
    status, headers, pieces = (
        draw(st.sampled_from([200, 201, 404, 529])),
        draw(HEADERS),
        draw(PIECES),
    )
    body = b"".join(pieces)
    framing = draw(st.sampled_from(["length", "chunked", "closed"]))
    if framing == "length":
        headers.append(("Content-Length", str(len(body))))
        sent = body
    elif framing == "chunked":
        headers.append(("Transfer-Encoding", "chunked"))
        extension = draw(st.sampled_from([b"", b";a=b", b" "]))
        sent = b"".join(b"%x%b\r\n%b\r\n" % (len(each), extension, each) for each in pieces if each)
        sent += b"0\r\n" + draw(st.sampled_from([b"", b"x-sum: 1\r\n"])) + b"\r\n"
    else:
        sent = body
    expected: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        expected[key] = f"{expected[key]}, {value}" if key in expected else value
    return Answer(
        before + head(status, headers) + sent, status, expected, body, framing != "closed"
    )


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Bytes cut at places."""
    marks = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in pairwise(marks) if a < b]


async def body_of(reply: FastReply) -> bytes:
    """The whole body."""
    found = b""
    try:
        while True:
            piece = await reply.__anext__()
            assert piece
            found += piece
    except StopAsyncIteration:
        return found


@settings(max_examples=60)
@given(answer=answers(), places=st.lists(st.integers(0, 2000), max_size=8))
def test_any_cut(loop: asyncio.AbstractEventLoop, answer: Answer, places: list[int]) -> None:
    """Wherever the network cuts an answer, it is read as the same; its connection is kept."""
    freed: list[Connection] = []
    connection, wire = connected(loop, freed.append, lambda _: None)
    for _ in range(2 if answer.kept else 1):
        reply = reply_on(loop, connection)
        for piece in cut(answer.raw, places):
            feed(connection, piece)
        if not answer.kept:
            connection.eof_received()
        assert (reply.status, reply.headers) == (answer.status, answer.headers)
        assert loop.run_until_complete(body_of(reply)) == answer.body
    assert wire.closed is not answer.kept
    assert freed == ([connection] * 2 if answer.kept else [])


def test_read_as_it_comes(loop: asyncio.AbstractEventLoop) -> None:
    """Who reads while it comes reads the same, though some of what comes is framing alone."""
    chunked = head(200, [("Transfer-Encoding", "chunked")]) + b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"
    stated = head(103, []) + head(200, [("Content-Length", "6")]) + b"hello!"

    async def main(raw: bytes) -> bytes:
        connection, _ = connected(loop, lambda _: None, lambda _: None)
        reading = loop.create_task(body_of(reply_on(loop, connection)))
        for at in range(len(raw)):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            feed(connection, raw[at : at + 1])
        return await reading

    for raw in (chunked, stated):
        assert loop.run_until_complete(main(raw)) == b"hello!"


@settings(max_examples=60)
@given(
    answer=answers(),
    places=st.lists(st.integers(0, 2000), max_size=4),
    more=st.binary(min_size=1, max_size=30),
)
def test_what_comes_beyond_the_end(
    loop: asyncio.AbstractEventLoop, answer: Answer, places: list[int], more: bytes
) -> None:
    """The answer is whole; its connection is not used again, whenever the surplus came."""
    freed: list[Connection] = []
    connection, wire = connected(loop, freed.append, lambda _: None)
    if not answer.kept:
        return
    reply = reply_on(loop, connection)
    for piece in cut(answer.raw + more, places):
        feed(connection, piece)
    assert loop.run_until_complete(body_of(reply)) == answer.body
    assert wire.closed


@settings(max_examples=100)
@given(
    answer=answers(),
    place=st.integers(0, 2000),
    junk=st.one_of(st.binary(max_size=8), st.sampled_from([b"\r\n", b"\n\n", b": ", b"0\r\n\r\n"])),
    skipped=st.integers(0, 4),
)
def test_anything_else(
    loop: asyncio.AbstractEventLoop, answer: Answer, place: int, junk: bytes, skipped: int
) -> None:
    """Broken bytes end as some answer, or as one of the library's errors; nothing else happens."""
    connection, wire = connected(loop, lambda _: None, lambda _: None)
    reply = reply_on(loop, connection)
    at = place % (len(answer.raw) + 1)
    for piece in cut(answer.raw[:at] + junk + answer.raw[at + skipped :], [place]):
        feed(connection, piece)
    if connection.open:
        connection.eof_received()
    if not reply.status:
        assert isinstance(reply.error, lamella.LamellaError)
        return
    try:
        loop.run_until_complete(body_of(reply))
    except lamella.LamellaError:
        assert wire.closed


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 99 No\r\n\r\n",
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 200 OK\r\nA: b\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\x00\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
    ],
)
def test_what_could_be_read_in_two_ways(loop: asyncio.AbstractEventLoop, raw: bytes) -> None:
    """It is refused, and the connection with it."""
    connection, wire = connected(loop, lambda _: None, lambda _: None)
    reply = reply_on(loop, connection)
    feed(connection, raw)
    assert isinstance(reply.error, lamella.ProtocolError)
    assert wire.closed


@pytest.mark.parametrize(
    ("method", "raw", "body", "kept"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"", True),
        ("POST", b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", b"", True),
        ("POST", b"HTTP/1.1 200\r\nContent-Length: 1, 1\r\n\r\na", b"a", True),
        (
            "POST",
            b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 1\r\n\r\na",
            b"a",
            False,
        ),
        ("POST", b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", b"a", False),
        (
            "POST",
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na",
            b"a",
            True,
        ),
        (
            "POST",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"",
            False,
        ),
        (
            "POST",
            b"HTTP/1.0 200\r\nConnection:keep-alive\r\nTransfer-Encoding:chunked\r\n\r\n0\r\n\r\n",
            b"",
            False,
        ),
    ],
)
def test_kinds_of_ends(
    loop: asyncio.AbstractEventLoop, method: str, raw: bytes, body: bytes, kept: Any
) -> None:
    """Where an answer ends, and whether another may follow, is as RFC 9112 says."""
    connection, wire = connected(loop, lambda _: None, lambda _: None)
    reply = reply_on(loop, connection, method)
    feed(connection, raw)
    assert loop.run_until_complete(body_of(reply)) == body
    assert wire.closed is not kept


def test_nobody_reads(loop: asyncio.AbstractEventLoop) -> None:
    """What nobody reads stays in the network: a bounded part of it is taken."""
    connection, wire = connected(loop, lambda _: None, lambda _: None)
    reply = reply_on(loop, connection)
    feed(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n")
    fed = 0
    while wire.reading:
        feed(connection, b"x" * 60_000)
        fed += 60_000
    assert fed <= 300_000
    assert len(loop.run_until_complete(reply.__anext__())) == fed
    assert wire.reading


def test_headers_without_end(loop: asyncio.AbstractEventLoop) -> None:
    """They are given up at the bound, whether they come in one answer or in very many."""
    for endless in (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 3000, head(103, [("A", "x" * 50)]) * 60):
        connection, wire = connected(loop, lambda _: None, lambda _: None)
        reply = reply_on(loop, connection)
        for piece in cut(endless, list(range(0, len(endless), 100))):
            feed(connection, piece)
        assert isinstance(reply.error, lamella.ResponseTooLargeError)
        assert wire.closed
