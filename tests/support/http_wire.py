"""What tests of the HTTP port share: a client, a server that answers in turn, a request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

from lamella._ports import run_in_thread
from lamella.testing._http_framing import Reply
from lamella.testing._http_server import HTTPServer
from lamella.testing._http_wire import Received
from lamella.transports._fast_client import FastHTTPClient
from lamella.transports._http import HTTPClient, HTTPOptions, HTTPReply, HTTPRequest
from lamella.transports._httpx_client import PooledHTTPClient

CLIENTS = ("asyncio", "trio", "fast")
"""The clients of the port, each on a loop that it works on: the standard one on both."""

MakeClient: TypeAlias = Callable[..., AbstractAsyncContextManager[HTTPClient]]


def on_loop_of(kind: str) -> str:
    """The kind of event loop for one of the clients."""
    return "trio" if kind == "trio" else "asyncio"


def made(kind: str, *, thread: Any = run_in_thread, **options: Any) -> HTTPClient:
    """One of the clients."""
    if kind == "fast":
        return FastHTTPClient(HTTPOptions(fast=True, **options), thread=thread)
    return PooledHTTPClient(HTTPOptions(**options), thread=thread)


def client_of(kind: str) -> MakeClient:
    """Makes clients of a kind that are closed at the end."""

    @asynccontextmanager
    async def client(**options: Any) -> AsyncIterator[HTTPClient]:
        client = made(kind, **options)
        try:
            yield client
        finally:
            await client.aclose()

    return client


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
