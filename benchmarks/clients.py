"""Those that are no framework: the socket itself, HTTP clients with `json`, and the openai SDK.

Every opener takes a provider's address and gives a block with a `Caller`.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from benchmarks.turns import Caller

MODEL: Final = "gpt-4o-mini"
KEY: Final = "sk-benchmark"
MANY: Final = 20_000
"""Connections that a client may have, where it can be told: no call is to wait for one."""


def body(prompt: str, *, stream: bool = False) -> dict[str, Any]:
    """What is sent, as a document."""
    asked: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": prompt}]}
    return {**asked, "stream": True} if stream else asked


def text_of(document: Any) -> str:
    """The text of an answer."""
    text: str = document["choices"][0]["message"]["content"]
    return text


def piece_of(line: bytes | str) -> str:
    """The text of one line of a stream; empty where it has none."""
    if len(line) < 8 or line[6:7] not in (b"{", "{"):
        return ""
    piece: str = json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
    return piece


# --- the floor: what a socket costs -------------------------------------------------------------


class _Link(asyncio.Protocol):
    """One connection: a request, and the bytes of its answer."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.whole: asyncio.Future[bytes] | None = None
        self.piece: Callable[[bytes], None] | None = None
        self._buffer = bytearray()
        self._length = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        if self._length < 0:
            end = buffer.find(b"\r\n\r\n")
            start = buffer.find(b"content-length: ") + 16
            self._length = int(buffer[start : buffer.find(b"\r\n", start)])
            del buffer[: end + 4]
        if self.piece is not None:
            self._length -= self._told(self.piece)
        if len(buffer) >= self._length and self.whole is not None:
            body, self._length = bytes(buffer), -1
            buffer.clear()
            self.whole.set_result(body)

    def _told(self, piece: Callable[[bytes], None]) -> int:
        """Hand over the lines that are whole; how many bytes they were."""
        end = self._buffer.rfind(b"\n\n") + 2
        for line in bytes(self._buffer[:end]).split(b"\n\n"):
            piece(line)
        del self._buffer[:end]
        return end

    def connection_lost(self, exc: Exception | None) -> None:
        if self.whole is not None and not self.whole.done():
            self.whole.set_exception(exc or ConnectionResetError("the provider closed"))


@asynccontextmanager
async def floor(url: str) -> AsyncIterator[Caller]:
    """An `asyncio.Protocol` and `msgspec`."""
    import msgspec

    loop = asyncio.get_running_loop()
    place, _, path = url.rsplit(":", 1)[1].partition("/")
    port = int(place)
    head = f"POST /{path}/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: ".encode()
    encode, decode = msgspec.json.encode, msgspec.json.decode
    idle: list[_Link] = []

    async def sent(document: dict[str, Any], piece: Callable[[bytes], None] | None) -> bytes:
        link = idle.pop() if idle else (await loop.create_connection(_Link, "127.0.0.1", port))[1]
        data = encode(document)
        link.whole, link.piece = loop.create_future(), piece
        link.transport.write(b"%b%d\r\n\r\n%b" % (head, len(data), data))
        answer = await link.whole
        idle.append(link)
        return answer

    async def answer(prompt: str) -> str:
        return text_of(decode(await sent(body(prompt), None)))

    async def stream(prompt: str, append: Callable[[str], object]) -> None:
        def piece(line: bytes) -> None:
            if line[6:7] == b"{":
                append(decode(line[6:])["choices"][0]["delta"].get("content") or "")

        await sent(body(prompt, stream=True), piece)

    try:
        yield Caller(answer, stream)
    finally:
        for link in idle:
            link.transport.close()


# --- HTTP clients -------------------------------------------------------------------------------


@asynccontextmanager
async def httpx2(url: str) -> AsyncIterator[Caller]:
    """`httpx2`, which the openai SDK is built on, and `json`."""
    library: Any = importlib.import_module("httpx2")
    limits = library.Limits(max_connections=MANY, max_keepalive_connections=MANY)
    headers = {"authorization": f"Bearer {KEY}"}
    address = f"{url}/chat/completions"
    async with library.AsyncClient(limits=limits, headers=headers, timeout=60) as client:

        async def answer(prompt: str) -> str:
            return text_of((await client.post(address, json=body(prompt))).json())

        async def stream(prompt: str, append: Callable[[str], object]) -> None:
            asked = body(prompt, stream=True)
            async with client.stream("POST", address, json=asked) as reply:
                async for line in reply.aiter_lines():
                    append(piece_of(line))

        yield Caller(answer, stream)


@asynccontextmanager
async def aiohttp(url: str) -> AsyncIterator[Caller]:
    """`aiohttp` and `json`."""
    library: Any = importlib.import_module("aiohttp")
    headers = {"authorization": f"Bearer {KEY}"}
    address = f"{url}/chat/completions"
    connector = library.TCPConnector(limit=0)
    async with library.ClientSession(connector=connector, headers=headers) as client:

        async def answer(prompt: str) -> str:
            async with client.post(address, json=body(prompt)) as reply:
                return text_of(await reply.json())

        async def stream(prompt: str, append: Callable[[str], object]) -> None:
            async with client.post(address, json=body(prompt, stream=True)) as reply:
                async for line in reply.content:
                    append(piece_of(line))

        yield Caller(answer, stream)


# --- the openai SDK -----------------------------------------------------------------------------


@asynccontextmanager
async def sdk(url: str) -> AsyncIterator[Caller]:
    """`AsyncOpenAI` as it comes, without retries."""
    openai: Any = importlib.import_module("openai")
    async with openai.AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0) as client:
        yield sdk_caller(client)


@asynccontextmanager
async def sdk_over_aiohttp(url: str) -> AsyncIterator[Caller]:
    """`AsyncOpenAI` over its aiohttp backend, without retries."""
    openai: Any = importlib.import_module("openai")
    http = openai.DefaultAioHttpClient()
    options = {"api_key": KEY, "base_url": url, "max_retries": 0, "http_client": http}
    async with openai.AsyncOpenAI(**options) as client:
        yield sdk_caller(client)


def sdk_caller(client: Any) -> Caller:
    """Chat completions of a client that is the SDK's, or looks like it."""

    async def answer(prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        reply = await client.chat.completions.create(model=MODEL, messages=messages)
        text: str = reply.choices[0].message.content
        return text

    async def stream(prompt: str, append: Callable[[str], object]) -> None:
        messages = [{"role": "user", "content": prompt}]
        chunks = await client.chat.completions.create(model=MODEL, messages=messages, stream=True)
        async for chunk in chunks:
            append(chunk.choices[0].delta.content or "")

    return Caller(answer, stream)
