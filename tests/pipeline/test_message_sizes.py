"""The sizes of messages add up to what a request is counted as, and are counted once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from histories import history

from lamella import (
    ChatRequest,
    ChatResponse,
    File,
    Image,
    Message,
    Opaque,
    Pipeline,
    Request,
    Tool,
    ToolCall,
    counted_input,
)
from lamella._message_sizes import Measured, MessageSizes, window_of
from lamella._shared_cards import shared_cards
from lamella.testing import virtual_ports

pytestmark = pytest.mark.anyio

TOOL = Tool("look_up", "Looks it up.", {"type": "object", "properties": {"a": {"type": "string"}}})
FORM = {"type": "json_object"}
PICTURE = Message("user", [Image(url="https://example.org/a.png")])


@attrs.define
class Words:
    """A token a word; it says how often it was asked for which text."""

    exact: bool = True
    asked: list[str] = attrs.field(factory=list[str])

    def count(self, texts: Sequence[str], /) -> int:
        """How many words they have."""
        self.asked += texts
        return sum([len(text.split()) for text in texts])


async def answer(request: ChatRequest) -> ChatResponse:
    """A transport."""
    return ChatResponse.of("yes")


@attrs.define
class Named:
    """A transport that has a provider's cards."""

    name: str

    async def __call__(self, request: ChatRequest) -> ChatResponse:
        """An answer."""
        return ChatResponse.of("yes")


async def measured(
    request: ChatRequest, sizes: MessageSizes, transport: Any = answer, ports: Any = None
) -> tuple[Measured, int]:
    """What is measured of a request in a call, and what the whole of it is counted as."""
    found: list[tuple[Measured, int]] = []

    async def look(request: Request[Any], call_next: Any) -> Any:
        assert isinstance(request, ChatRequest)
        measured = await sizes.measure(request)
        usage = await counted_input(request, measured.measure.counter)
        assert usage is not None
        found.append((measured, usage.input_tokens))
        return await call_next(request)

    async with Pipeline([look], transport, ports=ports or virtual_ports()) as pipeline:
        await pipeline.run(request)
    return found[0]


@pytest.mark.parametrize("counter", ["auto", None, Words()])
@pytest.mark.parametrize(("provider", "model"), [("openai", "gpt-4o"), ("nobody", "m")])
async def test_messages_add_up_to_the_request(counter: Any, provider: str, model: str) -> None:
    """With tools, a format, pictures and names; by the rules of the model that it is for."""
    talk = (*history(5, words=5), PICTURE, Message("user", "hi", name="ada"))
    sizes = MessageSizes(counter)
    for fields in ({}, {"tools": [TOOL]}, {"tools": [TOOL], "response_format": FORM}):
        request = ChatRequest.of(talk, model=model, **fields)
        found, whole = await measured(request, sizes, Named(provider))
        assert found.tokens == whole
        assert found.tokens == found.measure.count_all(talk) + found.measure.overhead(request)


async def test_a_message_is_counted_once() -> None:
    """Also as another object that says the same, and for another request."""
    words = Words()
    sizes = MessageSizes(words)
    for _ in range(3):
        await sizes_of(sizes, "what is asked", "and more")
    assert words.asked.count("what is asked") == 1
    await sizes_of(sizes, "what is asked", "and something else")
    assert words.asked.count("what is asked") == 1
    assert words.asked.count("and something else") == 1


async def sizes_of(sizes: MessageSizes, *texts: str) -> None:
    """Measure a conversation of some texts."""

    async def look(request: Any, call_next: Any) -> Any:
        await sizes.measure(request)
        return await call_next(request)

    async with Pipeline([look], answer, ports=virtual_ports()) as pipeline:
        await pipeline.run(ChatRequest.of([Message.user(text) for text in texts], model="m"))


async def test_what_only_its_provider_knows_is_counted_by_what_it_holds_and_once() -> None:
    """Two opaque parts are alike to a dict, and not to a counter."""
    words = Words()
    sizes = MessageSizes(words)
    short = Message("user", [Opaque({"a": "b"})])
    long = Message("user", [Opaque({"a": "many words that take their place"})])
    assert hash(short) == hash(long)
    one, _ = await measured(ChatRequest.of([short], model="m"), sizes)
    two, _ = await measured(ChatRequest.of([long], model="m"), sizes)
    assert two.tokens > one.tokens
    asked = len(words.asked)
    assert one.measure.count_all([short, long]) > 0
    assert len(words.asked) == asked


async def test_lists_in_the_place_of_tuples_are_counted_all_the_same() -> None:
    """They have no hash, so nothing can be remembered of them."""
    data: Any = bytearray(b"GIF89a")
    picture = Image(data=data, media_type="image/gif")
    request = ChatRequest.of([Message("user", [picture]), Message.user("and?")], model="m")
    sizes = MessageSizes(None)
    for _ in range(2):
        found, whole = await measured(request, sizes)
        assert found.tokens == whole


LONG = "word " * 5_000
TOOLS = [Tool(f"look_up_{at}", LONG[:4_000], {"type": "object"}) for at in range(8)]


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (Message.user(LONG), {}),
        (Message("user", [Opaque({"a": LONG})]), {}),
        (Message("user", [File(data=LONG.encode(), media_type="text/plain")]), {}),
        (Message("assistant", [ToolCall("a", "f", LONG)]), {}),
        (Message.user("q"), {"tools": TOOLS}),
        (Message.user("q"), {"response_format": {"type": "json_schema", "title": LONG}}),
    ],
)
async def test_what_is_long_and_new_is_counted_in_a_thread(
    message: Message, fields: dict[str, Any]
) -> None:
    """Whatever it is. And what was counted before is not."""
    ports = virtual_ports()
    threads: list[object] = []

    async def thread(function: Any, /, *args: Any) -> Any:
        threads.append(function)
        return function(*args)

    async def look(request: Any, call_next: Any) -> Any:
        await sizes.measure(request)
        return await call_next(request)

    ports = attrs.evolve(ports, thread=thread)
    sizes = MessageSizes(Words())
    async with Pipeline([look], answer, ports=ports) as pipeline:
        for more in ([], [Message.user("and?")]):
            await pipeline.run(ChatRequest.of([message, *more], model="m", **fields))
            assert len(threads) == 1


async def test_the_room_for_the_answer_is_no_room_for_the_conversation() -> None:
    """Unless the model counts them apart."""
    card = shared_cards().find("mock", "mock")
    assert card is not None
    request = ChatRequest.of("hi", model="mock", max_output_tokens=28_000)
    assert window_of(request, card) == 100_000
    assert window_of(request.evolve(max_output_tokens=None), card) == 128_000
    apart = attrs.evolve(card, max_input_tokens=90_000)
    assert window_of(request, apart) == 90_000
    assert window_of(request, None) is None
