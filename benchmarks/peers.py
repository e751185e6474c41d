"""Libraries that do what Lamella does, each as its own documentation has it called.

Nothing is imported before a peer is opened: each runs in an environment of its own.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.clients import KEY, MODEL
from benchmarks.turns import Caller


def _piece(chunk: Any) -> str:
    return chunk.choices[0].delta.content or "" if chunk.choices else ""


# --- LiteLLM ------------------------------------------------------------------------------------


@asynccontextmanager
async def litellm_acompletion(url: str) -> AsyncIterator[Caller]:
    """`litellm.acompletion`, as it comes."""
    litellm: Any = importlib.import_module("litellm")
    options = {"model": f"openai/{MODEL}", "api_key": KEY, "base_url": url, "max_retries": 0}
    yield _completions(litellm.acompletion, options)


@asynccontextmanager
async def litellm_router(url: str) -> AsyncIterator[Caller]:
    """`litellm.Router` with one deployment."""
    litellm: Any = importlib.import_module("litellm")
    parameters = {"model": f"openai/{MODEL}", "api_key": KEY, "api_base": url}
    router = litellm.Router([{"model_name": MODEL, "litellm_params": parameters}], num_retries=0)
    yield _completions(router.acompletion, {"model": MODEL})


def _completions(acompletion: Callable[..., Any], options: dict[str, Any]) -> Caller:
    async def answer(prompt: str) -> str:
        reply = await acompletion(messages=[{"role": "user", "content": prompt}], **options)
        text: str = reply.choices[0].message.content
        return text

    async def stream(prompt: str, append: Callable[[str], object]) -> None:
        messages = [{"role": "user", "content": prompt}]
        async for chunk in await acompletion(messages=messages, stream=True, **options):
            append(_piece(chunk))

    return Caller(answer, stream)


# --- LangChain ----------------------------------------------------------------------------------


@asynccontextmanager
async def langchain(url: str) -> AsyncIterator[Caller]:
    """`ChatOpenAI`."""
    library: Any = importlib.import_module("langchain_openai")
    model = library.ChatOpenAI(model=MODEL, api_key=KEY, base_url=url, max_retries=0)

    async def answer(prompt: str) -> str:
        text: str = (await model.ainvoke(prompt)).content
        return text

    async def stream(prompt: str, append: Callable[[str], object]) -> None:
        async for chunk in model.astream(prompt):
            append(chunk.content)

    yield Caller(answer, stream)


# --- pydantic-ai --------------------------------------------------------------------------------


@asynccontextmanager
async def pydantic_ai(url: str) -> AsyncIterator[Caller]:
    """`pydantic_ai.direct`: a model without an agent."""
    direct: Any = importlib.import_module("pydantic_ai.direct")
    messages: Any = importlib.import_module("pydantic_ai.messages")
    models: Any = importlib.import_module("pydantic_ai.models.openai")
    providers: Any = importlib.import_module("pydantic_ai.providers.openai")
    openai: Any = importlib.import_module("openai")
    async with openai.AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0) as client:
        model = models.OpenAIChatModel(
            MODEL, provider=providers.OpenAIProvider(openai_client=client)
        )

        def asked(prompt: str) -> list[Any]:
            return [messages.ModelRequest.user_text_prompt(prompt)]

        async def answer(prompt: str) -> str:
            text: str = (await direct.model_request(model, asked(prompt))).parts[0].content
            return text

        async def stream(prompt: str, append: Callable[[str], object]) -> None:
            async with direct.model_request_stream(model, asked(prompt)) as events:
                async for event in events:
                    append(_text_of(event))

        yield Caller(answer, stream)


def _text_of(event: Any) -> str:
    if event.event_kind == "part_start":
        return event.part.content or ""
    return getattr(getattr(event, "delta", None), "content_delta", None) or ""


# --- TensorZero ---------------------------------------------------------------------------------

_CONFIGURATION = """
[gateway]
observability.enabled = false
[models.benchmark]
routing = ["upstream"]
[models.benchmark.providers.upstream]
type = "openai"
model_name = "{model}"
api_base = "{url}"
api_key_location = "none"
"""


def _configured(folder: Path, url: str) -> str:
    file = folder / "tensorzero.toml"
    file.write_text(_CONFIGURATION.format(model=MODEL, url=url))
    return str(file)


@asynccontextmanager
async def tensorzero(url: str) -> AsyncIterator[Caller]:
    """The gateway in Rust, embedded into this process; nothing is observed."""
    library: Any = importlib.import_module("tensorzero")
    with tempfile.TemporaryDirectory(prefix="lamella-benchmark-") as folder:
        gateway = await library.AsyncTensorZeroGateway.build_embedded(
            config_file=_configured(Path(folder), url)
        )

    def asked(prompt: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": prompt}]}

    async def answer(prompt: str) -> str:
        reply = await gateway.inference(model_name="benchmark", input=asked(prompt))
        text: str = reply.content[0].text
        return text

    async def stream(prompt: str, append: Callable[[str], object]) -> None:
        reply = await gateway.inference(model_name="benchmark", input=asked(prompt), stream=True)
        async for chunk in reply:
            append(chunk.content[0].text if chunk.content else "")

    async with gateway:
        yield Caller(answer, stream)
