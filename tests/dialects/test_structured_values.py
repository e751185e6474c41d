"""A typed value in every provider's words: asked for, streamed, and mended."""

from __future__ import annotations

from typing import Any, Literal

import attrs
import pytest

from lamella import (
    ChatRequest,
    Message,
    Pipeline,
    StructureError,
    ToolCall,
    UnsupportedError,
)
from lamella.testing import MockServer
from lamella_middlewares import Structured
from providers import DIALECTS, ollama

pytestmark = pytest.mark.anyio


@attrs.frozen
class Address:
    """Where somebody lives."""

    city: str
    kind: Literal["home", "work"] = "home"


@attrs.frozen
class Person:
    """Who somebody is.

    Attributes:
        name: The first one.
        age: In years.
    """

    name: str
    age: int
    addresses: list[Address]
    nickname: str | None = None


MODES: tuple[Any, ...] = ("native", "tool", "prompt")
ASK = ChatRequest.of("Who was it?", model="mock", max_output_tokens=500)
ADA = Person("Ada", 36, [Address("London", "work")])
GOOD = '{"name":"Ada","age":36,"addresses":[{"city":"London","kind":"work"}],"nickname":null}'
WRONG = '{"name":"Ada","age":"old","addresses":[],"nickname":null}'


def first_wrong(request: ChatRequest) -> Message:
    """What a model says that makes a mistake, and mends it once it is told."""
    text = WRONG if "mended" not in request.messages[-1].text else GOOD
    if request.tools:
        return Message.assistant([ToolCall("c1", "final_answer", text)])
    return Message.assistant(text)


@pytest.mark.parametrize("provider", DIALECTS)
async def test_a_value_is_asked_for_mended_and_streamed_everywhere(provider: str) -> None:
    """In every way that the provider has words for; in all of them the caller sees the same."""
    modes = [mode for mode in MODES if (provider, mode) != ("ollama", "tool")]
    async with MockServer(answer=first_wrong) as server:
        transport = DIALECTS[provider](server)
        pipe = Pipeline([], transport)
        for mode in modes:
            pipe = Pipeline([Structured(mode=mode)], transport)
            mended = await pipe.run(ASK, returns=Person)
            assert (mended.value, mended.text) == (ADA, GOOD)
            assert mended.messages == (mended.message,)
            assert len(mended.trace.attempts) == 2
            with pytest.raises(StructureError):
                async with pipe.stream(ASK, returns=Person) as response:
                    await response.collect()
        await pipe.aclose()


@pytest.mark.parametrize("provider", DIALECTS)
async def test_the_schema_that_is_sent_is_one_that_the_provider_takes(provider: str) -> None:
    """Each mock is as strict as its API; a model without a card is asked for a schema."""
    async with MockServer() as server:
        pipe = Pipeline([Structured()], DIALECTS[provider](server))
        async with pipe.stream(ASK, returns=list[Person]) as response:
            people = [person async for person in response.values()]
        assert people == response.value
        assert people
        await pipe.aclose()


async def test_what_an_api_has_no_words_for_is_asked_otherwise() -> None:
    """Ollama forces no tool: of a model that has only tools, the value is asked for in words."""
    async with MockServer(answer=first_wrong) as server:
        pipe = Pipeline([Structured(mode="tool")], ollama(server))
        with pytest.raises(UnsupportedError):
            await pipe.run(ASK, returns=Person)
        await pipe.aclose()
        pipe = Pipeline([Structured()], ollama(server))
        value = (await pipe.run(ASK, returns=dict[str, Any])).value
        assert value == {"name": "Ada", "age": "old", "addresses": [], "nickname": None}
        await pipe.aclose()
