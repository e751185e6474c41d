"""Who is measured: each makes one call, or reads one stream, against an address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal, TypeAlias

import attrs
import msgspec

PROMPT = "Why is the sky blue? " * 24
MODEL = "gpt-4o-mini"

Call: TypeAlias = Callable[[], Awaitable[object]]
Kind: TypeAlias = Literal["answer", "stream"]


@attrs.frozen
class Contender:
    """One way to call a provider.

    Attributes:
        name: What it is called in tables.
        open: Given the provider's address and what to ask for, a block that gives the call.
    """

    name: str
    open: Callable[[str, Kind], AbstractAsyncContextManager[Call]]


# --- the floor: what a socket costs -------------------------------------------------------------


class _Reader(asyncio.Protocol):
    def __init__(self) -> None:
        self.buffer = bytearray()
        self.done: asyncio.Future[bytes] | None = None
        self.length = -1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.length < 0:
            end = self.buffer.find(b"\r\n\r\n")
            start = self.buffer.find(b"content-length: ") + 16
            self.length = end + 4 + int(self.buffer[start : self.buffer.find(b"\r\n", start)])
        if len(self.buffer) >= self.length and self.done is not None:
            body = bytes(self.buffer[self.buffer.find(b"\r\n\r\n") + 4 : self.length])
            del self.buffer[: self.length]
            self.length = -1
            self.done.set_result(body)


@asynccontextmanager
async def _floor(url: str, kind: Kind) -> AsyncIterator[Call]:
    loop = asyncio.get_running_loop()
    port = int(url.rsplit(":", 1)[1].split("/", maxsplit=1)[0])
    idle: list[tuple[Any, _Reader]] = []

    async def call() -> object:
        link = idle.pop() if idle else await loop.create_connection(_Reader, "127.0.0.1", port)
        transport, reader = link
        body = msgspec.json.encode(_body(kind))
        reader.done = loop.create_future()
        transport.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        answer = await reader.done
        idle.append(link)
        if kind == "answer":
            return msgspec.json.decode(answer)
        events = answer.split(b"\n\n")
        return [msgspec.json.decode(event[6:]) for event in events if event[6:7] == b"{"]

    try:
        yield call
    finally:
        for transport, _ in idle:
            transport.close()


def _body(kind: Kind) -> dict[str, Any]:
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": PROMPT}],
        "stream": kind == "stream",
    }


# --- the bare SDK -------------------------------------------------------------------------------


@asynccontextmanager
async def _sdk(url: str, kind: Kind) -> AsyncIterator[Call]:
    import openai

    client = openai.AsyncOpenAI(api_key="sk-benchmark", base_url=url, max_retries=0)
    messages: Any = _body(kind)["messages"]

    async def plain() -> object:
        answer = await client.chat.completions.create(model=MODEL, messages=messages)
        return answer.choices[0].message.content

    async def streamed() -> object:
        chunks = await client.chat.completions.create(
            model=MODEL, messages=messages, stream=True, stream_options={"include_usage": True}
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    async with client:
        yield streamed if kind == "stream" else plain


# --- Lamella ------------------------------------------------------------------------------------


def _lamella(layers: Callable[[], list[Any]], transport: str = "openai") -> Any:
    @asynccontextmanager
    async def opened(url: str, kind: Kind) -> AsyncIterator[Call]:
        from lamella import ChatRequest, Pipeline, TextDelta
        from lamella.transports import Mock, OpenAI

        wire: Any = Mock() if transport == "mock" else OpenAI(api_key="sk-benchmark", base_url=url)
        request = ChatRequest.of(PROMPT, model="mock" if transport == "mock" else MODEL)
        pipeline = Pipeline(layers(), wire)

        async def plain() -> object:
            return (await pipeline.run(request)).text

        async def streamed() -> object:
            async with pipeline.stream(request) as response:
                return "".join([e.text async for e in response if type(e) is TextDelta])

        async with pipeline:
            yield streamed if kind == "stream" else plain

    return opened


def production_layers() -> list[Any]:
    """Those of the preset, with a sink that throws away.

    Its answers are read as streams (`Timeout(stream_runs=True)`), which here are 200 chunks long.
    """
    from lamella import Pipeline
    from lamella_middlewares import Log

    return list(Pipeline.preset("production", transport="mock", log=Log(sink=_throw_away)).layers)


def every_layer() -> dict[str, Any]:
    """One of each, by the name of the table, as they are used most."""
    from lamella import PromptTemplate
    from lamella_middlewares import (
        PII,
        Cache,
        CircuitBreaker,
        Concurrency,
        Fallback,
        Guard,
        Hedge,
        Hold,
        LoadShed,
        PromptCache,
        RateLimit,
        Route,
        SingleFlight,
        Structured,
        Summarise,
        Template,
        Tools,
        Trim,
    )
    from lamella_middlewares.guard import max_length, pattern

    template = PromptTemplate.of(["{question}"], variables={"question": "text"}, name="ask")
    return {
        **{type(layer).__name__: layer for layer in first_layers()},
        "LoadShed": LoadShed(),
        "PII": PII(),
        "Guard (a length, a pattern)": Guard([max_length(100_000), pattern("word", r"never\b")]),
        "Cache (a hit: no transport)": Cache(tenant="t", when="all"),
        "Cache (a miss, kept)": Cache(1e-9, tenant="t", when="all"),
        "SingleFlight": SingleFlight(),
        "Fallback": Fallback(["other"]),
        "Hedge": Hedge(),
        "Route (weighted)": Route([MODEL, "other"]),
        "RateLimit (requests)": RateLimit(requests=10**9),
        "RateLimit (requests, tokens)": RateLimit(requests=10**9, tokens=10**9),
        "Concurrency (fixed)": Concurrency(100),
        "Concurrency (aimd)": Concurrency(100, adaptive="aimd"),
        "CircuitBreaker": CircuitBreaker(),
        "Hold": Hold(),
        "PromptCache": PromptCache(),
        "Structured (not asked)": Structured(),
        "Summarise (below its trigger)": Summarise(),
        "Template (no prompt)": Template(templates=[template]),
        "Tools (none asked for)": Tools([_say_nothing]),
        "Trim (below its trigger)": Trim(),
    }


def first_layers() -> list[Any]:
    """Those of the first minute, with a sink that throws away."""
    from lamella_middlewares import Cost, Deadline, Log, Retry, Timeout

    return [
        Log(sink=_throw_away),
        Deadline(60),
        Retry(attempts=3),
        Timeout(connect=5, first_event=30, idle=30),
        Cost({"null": {"input": "1", "output": "4"}}, provider="openai"),
    ]


def _say_nothing(text: str) -> None:
    """A tool that no model asks for."""


def _throw_away(_: object) -> None:
    """A sink without a floor."""


FLOOR = Contender("raw socket floor", _floor)
SDK = Contender("openai SDK, bare", _sdk)
BARE = Contender("Lamella, bare", _lamella(list))
LAYERS = Contender("Lamella, five layers", _lamella(first_layers))
PRODUCTION = Contender("Lamella, `production`", _lamella(production_layers))

ALL = (FLOOR, SDK, BARE, LAYERS, PRODUCTION)
