"""What stands inside: a digest of what decides the answer, and of nothing else."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import attrs
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    Context,
    EmbeddingRequest,
    EmbeddingResponse,
    Handler,
    Pipeline,
    Target,
    inside,
    middleware,
)
from lamella.testing import Scripted
from lamella.transports import OpenAI, OpenAIOptions

pytestmark = pytest.mark.anyio


@middleware(phase="attempt", effects=("calls again",))
@attrs.frozen
class Passing:
    """Changes nothing."""

    times: int = 1

    async def __call__(self, request: Any, call_next: Handler) -> Any:
        return await call_next(request)


@middleware(phase="shape", effects=("changes requests",))
@attrs.frozen
class Trimming:
    """Changes requests, as its options say."""

    keep: Any = 5

    async def __call__(self, request: Any, call_next: Handler) -> Any:
        return await call_next(request)


@middleware(phase="govern", effects=("changes events",))
class Stating:
    """States what decides."""

    def __init__(self, text: str) -> None:
        self.fingerprint = text

    async def __call__(self, request: Any, call_next: Handler) -> Any:
        return await call_next(request)


@middleware(phase="choose", effects=("calls again",))
@attrs.frozen
class Choosing:
    """Chooses targets."""

    targets: Any = ()

    async def __call__(self, request: Any, call_next: Handler) -> Any:
        return await call_next(request)


async def shout(request: Any, call_next: Handler) -> Any:
    """Declares nothing."""
    return await call_next(request)


async def whisper(request: Any, call_next: Handler) -> Any:
    """Declares nothing either."""
    return await call_next(request)


async def seen(*layers: Any, transport: Any = None, request: Any = None) -> str:
    """What a layer outside of these sees inside."""
    found: list[str] = []

    async def look(request: Any, call_next: Handler) -> Any:
        found.append(inside(call_next))
        return await call_next(request)

    pipeline = Pipeline([look, *layers], transport or Scripted(["x"]), allow=())
    await pipeline.run(request or ChatRequest.of("hi"))
    return found[0]


def named(name: str) -> Scripted:
    """A transport."""
    return Scripted(["x"], name=name)


async def test_it_is_the_same_for_the_same_stack() -> None:
    """Whichever objects it is made of, and whether its layers are timed."""
    timed = ChatRequest.of("hi", context=Context(timed=True))
    found = [
        await seen(Trimming(3), shout, Passing()),
        await seen(Trimming(3), shout, Passing()),
        await seen(Trimming(3), shout, Passing(), request=timed),
    ]
    assert len(set(found)) == 1
    assert re.fullmatch("[0-9a-f]{32}", found[0])


async def test_what_changes_no_answer_does_not_count() -> None:
    """Such as how often something is tried."""
    plain = await seen()
    assert await seen(Passing()) == await seen(Passing(7)) == plain
    assert await seen(Trimming(), Passing(2)) == await seen(Passing(9), Trimming())


async def test_what_decides_the_answer_counts() -> None:
    """Layers that change something, their options, their order, functions, and the transport."""
    stacks: list[tuple[Any, ...]] = [
        (),
        (Trimming(),),
        (Trimming(6),),
        (Trimming(6.0),),
        (Trimming(6), Trimming()),
        (Trimming(), Trimming(6)),
        (shout,),
        (whisper,),
        (shout, whisper),
        (whisper, shout),
        (shout, Trimming()),
        (Stating("a"),),
        (Stating("b"),),
        (Choosing(),),
        (Choosing(["gpt-4o"]),),
        (Choosing(["gpt-4o", "o3"]),),
        (Choosing(["o3", "gpt-4o"]),),
        (Choosing([named("one")]),),
        (Choosing([named("other")]),),
        (Choosing([Target("one", named("one"))]),),
        (Choosing([Target("one", named("one"), {"model": "m"})]),),
        (Choosing([Target("one", named("one"), {"model": "n"})]),),
        (Choosing([Pipeline([], named("one"))]),),
        (Choosing([Pipeline([shout], named("one"))]),),
    ]
    found = [await seen(*layers) for layers in stacks]
    found.append(await seen(transport=named("other")))
    found.append(await seen(transport=Pipeline([shout], named("other"))))
    assert len(set(found)) == len(stacks) + 2


async def test_options_of_all_kinds_count() -> None:
    """As far as they can be told apart."""

    def one() -> None:
        """A function."""

    def other() -> None:
        """Another one."""

    options: list[Any] = [
        None, True, 1, "1", b"1", 1.5, 2**70, 2**71, ("a", "b"), ("b", "a"), {"a": 1}, {"a": 2},
        {"b", "a"}, {"a"}, re.compile("a"), re.compile("b"), re.compile("a", re.IGNORECASE), one,
        other, partial(shout), lambda text: text, Trimming, Trimming(1), Trimming(2), object(),
    ]  # fmt: skip
    found = [await seen(Trimming(option)) for option in options]
    assert len(set(found)) == len(options)
    assert await seen(Trimming({"b", "a"})) == await seen(Trimming({"a", "b"}))
    deep: Any = "end"
    for _ in range(100):
        deep = [deep]
    assert await seen(Trimming(deep)) == await seen(Trimming([deep]))


async def test_what_a_function_or_a_plain_layer_was_given_counts() -> None:
    """Two layers of one maker are two layers: one's answers are never another's."""

    def layer_of(text: str, *, times: int = 1) -> Any:
        async def layer(request: Any, call_next: Handler, again: int = times) -> Any:
            return await call_next(request) if text or again else None

        return layer

    class Plain:
        def __init__(self, text: str) -> None:
            self.text = text

        async def __call__(self, request: Any, call_next: Handler) -> Any:
            return await call_next(request)

        async def method(self, request: Any, call_next: Handler) -> Any:
            return await call_next(request)

    @dataclasses.dataclass
    class Data:
        text: str

    async def given(text: str, request: Any, call_next: Handler) -> Any:
        return await call_next(request)

    def stacks() -> list[Any]:
        return [
            layer_of("a"), layer_of("b"), layer_of(""), layer_of("a", times=2),
            Plain("a"), Plain("b"), Plain("a").method, Trimming(Plain("a").method),
            partial(given, "a"), partial(given, "b"), Trimming(partial(given, "a")),
            Trimming(layer_of("a")), Trimming(layer_of("b")), Trimming(Data("a")),
            Trimming(Data("b")), Trimming(Decimal(1)), Trimming(Decimal(2)),
            Trimming(timedelta(1)), Trimming(timedelta(2)),
        ]  # fmt: skip

    found = [await seen(layer) for layer in stacks()]
    assert len(set(found)) == len(found)
    assert found == [await seen(layer) for layer in stacks()]


async def test_a_function_used_as_a_transport_counts_with_what_it_was_given() -> None:
    """As a layer does."""

    def transport_of(text: str) -> Any:
        async def transport(request: Any) -> ChatResponse:
            return ChatResponse.of(text)

        return transport

    one, other = [await seen(transport=transport_of(text)) for text in ("a", "b")]
    assert one != other
    assert await seen(transport=transport_of("a")) == one


async def test_functions_that_know_each_other_are_told_in_time() -> None:
    """However many ways there are from one to the next."""

    def tangle() -> Any:
        calls: list[Any] = []

        async def layer(request: Any, call_next: Handler) -> Any:
            assert len((first, second)) == 2
            return await call_next(request)

        def first() -> Any:
            return first, second, layer, calls

        def second() -> Any:
            return first, second, layer, calls

        calls += [first, second, calls]
        return layer

    assert await seen(tangle()) == await seen(tangle())


async def test_layers_of_other_requests_do_not_count() -> None:
    """They are not in the chain."""

    @middleware(phase="shape", requests=EmbeddingRequest, effects=("changes requests",))
    async def embed(request: Any, call_next: Handler) -> Any:
        return await call_next(request)

    assert await seen(embed) == await seen()
    vectors = Scripted([EmbeddingResponse.of([[1.0]])], repeat=True)
    asked = EmbeddingRequest.of("x")
    with_it = await seen(embed, transport=vectors, request=asked)
    assert with_it != await seen(transport=vectors, request=asked)


async def test_layers_outside_do_not_count() -> None:
    """It is about what a layer's own answer depends on."""
    found: list[str] = []

    async def look(request: Any, call_next: Handler) -> Any:
        found.append(inside(call_next))
        return await call_next(request)

    stacks: list[list[Any]] = [[look], [Trimming(), look], [shout, look, Passing()]]
    for layers in stacks:
        await Pipeline(layers, Scripted(["x"])).run(ChatRequest.of("hi"))
    assert len(set(found)) == 1


async def test_it_is_worked_out_once_and_only_if_asked_for() -> None:
    """No call pays for what no layer needs."""
    asked: list[int] = []

    class Counting:
        @property
        def fingerprint(self) -> str:
            asked.append(1)
            return "it"

        async def __call__(self, request: ChatRequest) -> ChatResponse:
            return ChatResponse.of("x")

    async def look(request: Any, call_next: Handler) -> Any:
        inside(call_next)
        return await call_next(request)

    quiet, curious = Pipeline([Passing()], Counting()), Pipeline([look], Counting())
    for _ in range(3):
        await quiet.run(ChatRequest.of("hi"))
    assert asked == []
    for _ in range(3):
        await curious.run(ChatRequest.of("hi"))
    assert len(asked) in {1, 2}  # looked at and taken, for one answer


async def test_handlers_of_no_chain_are_told_apart() -> None:
    """A function that somebody hands to a layer by hand."""
    handlers: list[Callable[..., Any]] = [shout, whisper, named("one"), named("other")]
    assert len({inside(handler) for handler in handlers}) == 4
    assert inside(partial(shout)) == inside(shout)


def test_transports_of_one_name_at_other_addresses_are_told_apart() -> None:
    """Who answers is not in a name that anybody may give."""

    def at(address: str, **more: Any) -> str:
        return OpenAI("k", base_url=address, options=OpenAIOptions(name="it"), **more).fingerprint

    one = "http://one.example/v1"
    assert at(one) == at(one)
    assert len({at(one), at("http://two.example/v1"), at(one, api="responses")}) == 3


def test_a_transport_says_where_it_sends_without_its_key() -> None:
    """The digest goes into keys of shared stores."""
    assert "secret" not in OpenAI("secret-key", base_url="http://one.example/v1").fingerprint
