"""What `returns=` may be, and how an answer is read as values while it comes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    EmbeddingRequest,
    Event,
    Handler,
    Pipeline,
    ProviderError,
    Returns,
    TextDelta,
    middleware,
)
from lamella.testing import Scripted

pytestmark = pytest.mark.anyio

HELLO = ChatRequest.of("hi", model="m")


@attrs.frozen
class Given:
    """Somebody's own class, whose objects may not be hashed."""

    kept: list[str]


class Words:
    """A reader: the words so far, one tuple after another; the value is all of them."""

    def __init__(self) -> None:
        self.value: tuple[str, ...] = ()

    def begin(self) -> Counting:
        """Of nothing yet."""
        return Counting(self)


class Counting:
    """Counts the words of one reader."""

    def __init__(self, reader: Words) -> None:
        self.reader = reader
        self.text = ""

    def feed(self, event: Event) -> Iterable[tuple[str, ...]]:
        """The words so far."""
        if isinstance(event, TextDelta):
            self.text += event.text
            self.reader.value = tuple(self.text.split())
            yield self.reader.value


@middleware(phase="compose", requests=ChatRequest, provides=("value",))
async def words(request: ChatRequest, call_next: Handler) -> ChatResponse[Any]:
    """Provides values, and keeps what it was asked for."""
    asked.append(request.returns)
    response = await call_next(request.evolve(returns=None))
    reader = Words()
    response.read_values_by(reader)
    if response.complete:
        reader.value = tuple(response.text.split())
    return response


@middleware(phase="shape", requests=ChatRequest)
async def loud(request: ChatRequest, call_next: Handler) -> ChatResponse:
    """Changes the answer on its way out."""
    return (await call_next(request)).map_text(str.upper)


asked: list[Any] = []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (Returns(), r"Returns\[Invoice \| Receipt\]\(\)"),
        (Returns, r"Returns\[Invoice \| Receipt\]\(\)"),
        ("Person", r"'Person' is a value, and no type"),
        ({}, "empty schema"),
        (Returns[int | str], r"an object of it\. Write it with brackets"),
        (Given([]), "an object of Given, and no type. Write returns=Given"),
    ],
)
async def test_what_is_no_type_is_refused_with_what_to_write(given: Any, says: str) -> None:
    """The error comes before anything is sent."""
    transport = Scripted(["never"])
    with pytest.raises(ConfigurationError, match=says):
        await Pipeline([words], transport).run(HELLO, returns=given)
    assert not transport.requests


async def test_a_union_reaches_the_layer_as_what_it_is() -> None:
    """`Returns[A | B]()` is for the checker; the layer sees the union."""
    asked.clear()
    pipeline = Pipeline([words], Scripted(["a", "b", "c"]))
    await pipeline.run(HELLO, returns=Returns[int | str]())
    await pipeline.run(HELLO, returns=list[int])
    await pipeline.run(HELLO, returns={"type": "object"})
    assert asked == [int | str, list[int], {"type": "object"}]
    assert repr(Returns[int | str]()) == "Returns[int | str]()"


async def test_only_chat_returns_values() -> None:
    """Other operations have a type of their own, and say so."""
    pipeline: Any = Pipeline([words], Scripted(["a"]))
    with pytest.raises(ConfigurationError, match="`returns=` is for chat"):
        await pipeline.run(EmbeddingRequest.of("hi"), returns=int)


async def test_the_layer_may_stand_in_the_pipeline_that_is_the_transport() -> None:
    """A pipeline within a pipeline provides what its layers provide."""
    inner = Pipeline([words], Scripted(["one two"]))
    response = await Pipeline([], inner).run(HELLO, returns=tuple[str, ...])
    assert response.value == ("one", "two")


async def test_values_come_as_the_answer_does_and_again_for_each_reader() -> None:
    """Whatever layers stand outside; the last value is `value`."""
    pipeline = Pipeline([words], Scripted(["one two three"]))
    async with pipeline.stream(HELLO, returns=tuple[str, ...]) as response:
        first = [value async for value in response.values()]
        again = [value async for value in response.values()]
    assert first == again
    assert first[-1] == response.value == ("one", "two", "three")
    assert len(first) > 1


async def test_a_level_outside_carries_the_reader_on() -> None:
    """A layer that changes the answer around it does not lose its values."""
    outer = Pipeline([loud], Pipeline([words], Scripted(["one two"], repeat=True)))
    async with outer.stream(HELLO, returns=tuple[str, ...]) as response:
        assert [value async for value in response.values()][-1] == ("ONE", "TWO")
    assert (await outer.run(HELLO, returns=tuple[str, ...])).value


async def test_an_answer_that_was_not_asked_for_as_values_has_none() -> None:
    """`value` is None, and `values()` says what to write."""
    response = await Pipeline([words], Scripted(["a"])).run(HELLO, returns=tuple[str, ...])
    plain = await Pipeline([], Scripted(["a"])).run(HELLO)
    assert response.value == ("a",)
    assert plain.value is None
    with pytest.raises(ConfigurationError, match="returns=Person"):
        plain.values()


async def test_an_answer_that_breaks_off_raises_where_values_are_read() -> None:
    """What came before the error is given first."""
    broken = Scripted([["one ", "two", ProviderError("gone")]])
    seen: list[tuple[str, ...]] = []
    async with Pipeline([words], broken).stream(HELLO, returns=tuple[str, ...]) as response:
        with pytest.raises(ProviderError, match="gone"):
            async for value in response.values():
                seen.append(value)
    assert seen == [("one",), ("one", "two")]


def test_synchronous_code_reads_values_with_a_plain_loop() -> None:
    """Inside `stream_sync`, and of a complete response anywhere."""
    pipeline = Pipeline([words], Scripted(["one two three", "four five"]))
    with pipeline.stream_sync(HELLO, returns=tuple[str, ...]) as response:
        values = list(response.values())
    assert values[-1] == ("one", "two", "three")
    assert list(pipeline.run_sync(HELLO, returns=tuple[str, ...]).values())[-1] == ("four", "five")


async def test_many_requests_return_values_too() -> None:
    """One type for all of them; a failure stands in its request's place."""
    pipeline = Pipeline([words], Scripted(["a", ProviderError("gone"), "b c"]))
    found = await pipeline.run_many([HELLO] * 3, returns=tuple[str, ...], concurrency=1)
    assert isinstance(found[1], ProviderError)
    assert [one.value for one in found if isinstance(one, ChatResponse)] == [("a",), ("b", "c")]
