"""What the fast client's answers say where all of the body has come."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import lamella
from lamella.transports._fast_reply import FastReply
from lamella.transports._http_failures import lost_in_answer
from lamella.transports._stream_source import read_all, whole_of


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that nothing runs on."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def _reply(loop: asyncio.AbstractEventLoop, *pieces: bytes, **headers: str) -> FastReply:
    """A complete answer of these pieces, of which at most eight bytes are taken."""
    reply = FastReply(loop, "acme", "acme.test:80", 8)
    reply.begin(200, {name.replace("_", "-"): value for name, value in headers.items()})
    for piece in pieces:
        reply.add(piece)
    reply.finish()
    return reply


@pytest.mark.parametrize("pieces", [(), (b"abc",), (b"abc", b"", b"defgh")])
def test_a_body_that_has_come_is_taken_at_once(
    loop: asyncio.AbstractEventLoop, pieces: tuple[bytes, ...]
) -> None:
    """It is the same as what reading gives, and nothing of it is left to read."""
    reply = _reply(loop, *pieces)
    assert whole_of(reply) == b"".join(pieces)
    assert loop.run_until_complete(read_all(reply)) == b""


def test_what_is_not_there_or_not_right_has_to_be_read(loop: asyncio.AbstractEventLoop) -> None:
    """So that reading says what is wrong with it, or waits."""
    large, packed = _reply(loop, b"123456789"), _reply(loop, b"abc", content_encoding="gzip")
    strange, broken = _reply(loop, b"abc", content_encoding="zstd"), _reply(loop, b"abc")
    broken.fail(lost_in_answer("acme"))
    for reply, error in (
        (large, lamella.ResponseTooLargeError),
        (packed, lamella.ProtocolError),
        (strange, lamella.ProtocolError),
        (broken, lamella.ConnectionLostError),
    ):
        assert whole_of(reply) is None
        with pytest.raises(error):
            loop.run_until_complete(read_all(reply))
    coming = _reply(loop, b"abc")
    stand_in: Any = object()
    coming.connection = stand_in
    assert whole_of(coming) is None
