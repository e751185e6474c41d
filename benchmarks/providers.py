"""Each provider's own SDK beside this library's transport, against the same bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from benchmarks.contenders import PROMPT, Call, Contender, Kind

CLAUDE, GEMINI, NOVA = "claude-sonnet-4-5", "gemini-2.5-flash", "amazon.nova-lite-v1:0"
SECRET = {"aws_access_key_id": "AKIDBENCHMARK", "aws_secret_access_key": "benchmark"}


def _root(url: str) -> str:
    return url.removesuffix("/v1")


# --- the SDKs ---------------------------------------------------------------------------------


@asynccontextmanager
async def _anthropic(url: str, kind: Kind) -> AsyncIterator[Call]:
    import anthropic

    asked: dict[str, Any] = {
        "model": CLAUDE,
        "max_tokens": 1024,
        "messages": [{"role": "user", "content": PROMPT}],
    }

    async def plain() -> object:
        answer: Any = await client.messages.create(**asked)
        return answer.content[0].text

    async def streamed() -> object:
        events: Any = await client.messages.create(**asked, stream=True)
        pieces = [e.delta.text async for e in events if e.type == "content_block_delta"]
        return "".join(pieces)

    client = anthropic.AsyncAnthropic(api_key="benchmark", base_url=_root(url), max_retries=0)
    async with client:
        yield streamed if kind == "stream" else plain


@asynccontextmanager
async def _google(url: str, kind: Kind) -> AsyncIterator[Call]:
    from google import genai

    client = genai.Client(api_key="benchmark", http_options={"base_url": _root(url)})
    models: Any = client.aio.models

    async def plain() -> object:
        return (await models.generate_content(model=GEMINI, contents=PROMPT)).text

    async def streamed() -> object:
        chunks = await models.generate_content_stream(model=GEMINI, contents=PROMPT)
        return "".join([chunk.text async for chunk in chunks])

    try:
        yield streamed if kind == "stream" else plain
    finally:
        await client.aio.aclose()


@asynccontextmanager
async def _bedrock(url: str, kind: Kind) -> AsyncIterator[Call]:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    messages = [{"role": "user", "content": [{"text": PROMPT}]}]

    async def plain() -> object:
        answer = await client.converse(modelId=NOVA, messages=messages)
        return answer["output"]["message"]["content"][0]["text"]

    async def streamed() -> object:
        answer = await client.converse_stream(modelId=NOVA, messages=messages)
        pieces = [
            event["contentBlockDelta"]["delta"]["text"]
            async for event in answer["stream"]
            if "contentBlockDelta" in event
        ]
        return "".join(pieces)

    config = AioConfig(retries={"total_max_attempts": 1})
    async with AsyncExitStack() as stack:
        client: Any = await stack.enter_async_context(
            get_session().create_client(
                "bedrock-runtime",
                region_name="us-east-1",
                endpoint_url=_root(url),
                config=config,
                **SECRET,
            )
        )
        yield streamed if kind == "stream" else plain


# --- Lamella ----------------------------------------------------------------------------------


def _claude(url: str) -> Any:
    from lamella_anthropic import Anthropic

    return Anthropic("benchmark", base_url=_root(url), model=CLAUDE)


def _gemini(url: str) -> Any:
    from lamella_google import Gemini

    return Gemini("benchmark", base_url=_root(url), model=GEMINI)


def _nova(url: str) -> Any:
    from lamella_bedrock import Bedrock, BedrockOptions

    access, secret = SECRET.values()
    options = BedrockOptions(access_key=access, secret_key=secret)
    return Bedrock(region="us-east-1", endpoint_url=_root(url), model=NOVA, options=options)


def _lamella(transport: Callable[[str], Any]) -> Any:
    @asynccontextmanager
    async def opened(url: str, kind: Kind) -> AsyncIterator[Call]:
        from lamella import ChatRequest, Pipeline, TextDelta

        request = ChatRequest.of(PROMPT)
        pipeline = Pipeline([], transport(url))

        async def plain() -> object:
            return (await pipeline.run(request)).text

        async def streamed() -> object:
            async with pipeline.stream(request) as response:
                return "".join([e.text async for e in response if type(e) is TextDelta])

        calls: dict[Kind, Callable[[], Awaitable[object]]] = {"answer": plain, "stream": streamed}
        async with pipeline:
            yield calls[kind]

    return opened


PAIRS = {
    "Anthropic": (
        Contender("anthropic SDK, bare", _anthropic),
        Contender("Lamella, Anthropic", _lamella(_claude)),
    ),
    "Gemini": (
        Contender("google-genai SDK, bare", _google),
        Contender("Lamella, Gemini", _lamella(_gemini)),
    ),
    "Bedrock": (
        Contender("aiobotocore, bare", _bedrock),
        Contender("Lamella, Bedrock", _lamella(_nova)),
    ),
}
"""Each provider's SDK, and the transport that is measured against it."""
