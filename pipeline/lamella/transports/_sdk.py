"""The openai SDK's client, set up so that nothing ambient gets into it.

It gives address and authentication, and serves those operations that Lamella has no words for, over
the same pool of connections. It retries nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import cache
from importlib import import_module
from typing import Any

from lamella._errors import (
    ConnectError,
    ConnectTimeout,
    LamellaError,
    ProtocolError,
    StreamTruncated,
    TimedOutError,
)
from lamella.transports._http import HTTPClient, HTTPReply, HTTPRequest
from lamella.transports._http_library import http_library

_DROPPED = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "accept-encoding"}
)


def sdk_imported() -> bool:
    """Whether the import is behind us.

    Not whether there is such a module: while a thread still imports it, whose caller may have gone,
    everybody else who imports it waits for that thread.
    """
    return import_sdk.cache_info().currsize > 0


@cache
def import_sdk() -> None:
    """Import openai, which takes a good part of a second: call it where that may block."""
    import_module("openai")
    http_library()


def sdk_client(
    port: HTTPClient, *, provider: str, base_url: str, organization: str | None, project: str | None
) -> Any:
    """A client of the SDK over an HTTP port. It has no key yet: set `api_key` before it is used."""
    import openai

    httpx = http_library().httpx
    client = openai.AsyncOpenAI(
        api_key="none",
        base_url=base_url,
        organization=organization,
        project=project,
        max_retries=0,
        http_client=httpx.AsyncClient(transport=_transport(port, provider), trust_env=False),
    )
    # What is None above, the SDK takes from the environment, which is another host's business.
    client.organization = organization
    client.project = project
    for name in ("admin_api_key", "webhook_secret"):
        if hasattr(client, name):
            setattr(client, name, None)
    client.__dict__["_custom_headers"] = {}  # OPENAI_CUSTOM_HEADERS has no other switch
    return client


def _transport(port: HTTPClient, provider: str) -> Any:
    """The port as a transport of the HTTP library, whose classes are known only at run time."""
    httpx = http_library().httpx

    class Stream(httpx.AsyncByteStream):  # type: ignore[misc, name-defined] # pyright: ignore[reportUntypedBaseClass]
        def __init__(self, reply: HTTPReply) -> None:
            self._reply = reply

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                while True:
                    try:
                        yield await self._reply.__anext__()
                    except StopAsyncIteration:
                        return
            except LamellaError as error:
                raise _library_error(error) from error

        async def aclose(self) -> None:
            await self._reply.aclose()

    class Transport(httpx.AsyncBaseTransport):  # type: ignore[misc, name-defined] # pyright: ignore[reportUntypedBaseClass]
        async def handle_async_request(self, request: Any) -> Any:
            limits = request.extensions.get("timeout", {})
            headers = [pair for pair in request.headers.raw if _passes(pair)]
            try:
                reply = await port.send(
                    HTTPRequest(
                        method=request.method,
                        url=str(request.url),
                        headers=(*headers, (b"Accept-Encoding", b"gzip, deflate")),
                        body=await request.aread(),
                        provider=provider,
                        connect=limits.get("connect"),
                        write=limits.get("write"),
                    )
                )
            except LamellaError as error:
                raise _library_error(error) from error
            # The port has decompressed it already.
            known = {n: v for n, v in reply.headers.items() if n != "content-encoding"}
            return httpx.Response(reply.status, headers=known, stream=Stream(reply))

    return Transport()


def _passes(pair: tuple[bytes, bytes]) -> bool:
    return pair[0].decode("latin-1").lower() not in _DROPPED


def _library_error(error: LamellaError) -> Exception:
    """The HTTP library's error for one of ours: the SDK knows only those."""
    httpx = http_library().httpx
    if isinstance(error, ConnectTimeout):
        name = "ConnectTimeout"
    elif isinstance(error, TimedOutError):
        name = "WriteTimeout"
    elif isinstance(error, ConnectError):
        name = "ConnectError"
    elif isinstance(error, ProtocolError | StreamTruncated):
        name = "RemoteProtocolError"
    else:
        name = "ReadError"
    made: Exception = getattr(httpx, name)(error.message)
    return made
