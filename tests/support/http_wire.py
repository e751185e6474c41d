"""What tests of the HTTP port share: a client, a server that answers in turn, a request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from lamella.testing._http_framing import Reply
from lamella.testing._http_server import HTTPServer
from lamella.testing._http_wire import Received
from lamella.transports._http import HTTPOptions, HTTPReply, HTTPRequest
from lamella.transports._httpx_client import PooledHTTPClient


@asynccontextmanager
async def client(**options: Any) -> AsyncIterator[PooledHTTPClient]:
    """A client that is closed at the end."""
    made = PooledHTTPClient(HTTPOptions(**options))
    try:
        yield made
    finally:
        await made.aclose()


def serving(*replies: Reply, then: Reply | None = None, **options: Any) -> HTTPServer:
    """A server that gives these replies in turn."""
    left = list(replies)

    async def handler(request: Received) -> Reply:
        return left.pop(0) if left else then or Reply(body=b"then")

    return HTTPServer(handler, **options)


def post(server: HTTPServer, body: bytes = b"{}", **more: Any) -> HTTPRequest:
    """A request to the server."""
    return HTTPRequest(method="POST", url=f"{server.url}/v1", body=body, provider="acme", **more)


async def read(reply: HTTPReply, pieces: list[bytes] | None = None) -> bytes:
    """The whole body, whose pieces are added to those given."""
    pieces = [] if pieces is None else pieces
    try:
        while True:
            pieces.append(await reply.__anext__())
            assert pieces[-1]
    except StopAsyncIteration:
        return b"".join(pieces)
