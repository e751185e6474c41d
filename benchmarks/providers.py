"""Each provider's own SDK beside this library's transport, against the same bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from benchmarks.contenders import Contender, caller_of
from benchmarks.harness import measure
from benchmarks.parts import Setting
from benchmarks.turns import Caller, Opener, Plan

CLAUDE, GEMINI, NOVA = "claude-sonnet-4-5", "gemini-2.5-flash", "amazon.nova-lite-v1:0"
SECRET = {"aws_access_key_id": "AKIDBENCHMARK", "aws_secret_access_key": "benchmark"}


def _root(url: str) -> str:
    return url.removesuffix("/v1")


# --- the SDKs ---------------------------------------------------------------------------------


@asynccontextmanager
async def _anthropic(url: str) -> AsyncIterator[Caller]:
    import anthropic

    def asked(prompt: str) -> dict[str, Any]:
        messages = [{"role": "user", "content": prompt}]
        return {"model": CLAUDE, "max_tokens": 1024, "messages": messages}

    async def answer(prompt: str) -> str:
        reply: Any = await client.messages.create(**asked(prompt))
        text: str = reply.content[0].text
        return text

    async def stream(prompt: str, append: Callable[[str], object]) -> None:
        events: Any = await client.messages.create(**asked(prompt), stream=True)
        async for event in events:
            if event.type == "content_block_delta":
                append(event.delta.text)

    client = anthropic.AsyncAnthropic(api_key="benchmark", base_url=_root(url), max_retries=0)
    async with client:
        yield Caller(answer, stream)


@asynccontextmanager
async def _google(url: str) -> AsyncIterator[Caller]:
    from google import genai

    client = genai.Client(api_key="benchmark", http_options={"base_url": _root(url)})
    models: Any = client.aio.models

    async def answer(prompt: str) -> str:
        text: str = (await models.generate_content(model=GEMINI, contents=prompt)).text
        return text

    async def stream(prompt: str, append: Callable[[str], object]) -> None:
        async for chunk in await models.generate_content_stream(model=GEMINI, contents=prompt):
            append(chunk.text)

    try:
        yield Caller(answer, stream)
    finally:
        await client.aio.aclose()


@asynccontextmanager
async def _bedrock(url: str) -> AsyncIterator[Caller]:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    def asked(prompt: str) -> dict[str, Any]:
        return {"modelId": NOVA, "messages": [{"role": "user", "content": [{"text": prompt}]}]}

    async def answer(prompt: str) -> str:
        reply = await client.converse(**asked(prompt))
        text: str = reply["output"]["message"]["content"][0]["text"]
        return text

    async def stream(prompt: str, append: Callable[[str], object]) -> None:
        reply = await client.converse_stream(**asked(prompt))
        async for event in reply["stream"]:
            if "contentBlockDelta" in event:
                append(event["contentBlockDelta"]["delta"]["text"])

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
        yield Caller(answer, stream)


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


def _lamella(transport: Callable[[str], Any]) -> Opener:
    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Caller]:
        from lamella import Pipeline

        async with Pipeline([], transport(url)) as pipeline:
            yield caller_of(pipeline, None)

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


def run(setting: Setting) -> dict[str, Any]:
    """A table for each provider and plan."""
    rounds, calls = (1, 40) if setting.quick else (5, 200)
    plans = {"answer": Plan(rounds, calls), "stream": Plan(rounds, calls // 10, kind="stream")}
    found: dict[str, Any] = {}
    with setting.upstream() as url:
        for name, pair in PAIRS.items():
            for kind, plan in plans.items():
                figures = measure(pair, plan, url)
                found[f"{name}, {kind}"] = [
                    {
                        "name": one.name,
                        "cpu_us": round(one.cpu, 1),
                        "of_sdk": round(one.cpu / figures[0].cpu, 3),
                    }
                    for one in figures
                ]
            setting.keep("providers", found)
            setting.say(f"  {name}")
    return found
