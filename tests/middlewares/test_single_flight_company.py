"""SingleFlight among other layers and other callers: what each is told, charged and spared."""

from __future__ import annotations

import contextvars
import errno
from typing import Any, Self

import anyio
import pytest

from lamella import (
    AttemptLimitError,
    ChatRequest,
    ChatResponse,
    Context,
    Finish,
    Handler,
    Opaque,
    Pipeline,
    Request,
    ServerError,
    TextDelta,
    UnsupportedError,
    Usage,
    UsageReport,
)
from lamella.testing import Item, Scripted, virtual_ports
from lamella_middlewares.cost import Cost
from lamella_middlewares.rate_limit import RateLimit
from lamella_middlewares.route import Route
from lamella_middlewares.single_flight import SingleFlight
from lamella_middlewares.single_flight._flight import Flight
from lamella_middlewares.single_flight._passenger import Passenger
from lamella_middlewares.single_flight._weights import OVERHEAD, weight

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("Is it up?", model="m", max_output_tokens=100)
SPENT = Usage(uncached_input=400, text_output=100)
ANSWER: list[Item] = ["It is ", 1.0, "up.", UsageReport(SPENT), Finish("stop")]
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def by(**who: Any) -> ChatRequest:
    """The request with a context."""
    return ASK.evolve(context=Context(**who))


async def together(pipeline: Pipeline, *asked: Request[Any], apart: float = 0.0) -> list[Any]:
    """What became of calls that run at the same time, in their order."""
    found: dict[int, Any] = {}

    async def call(place: int, request: Request[Any]) -> None:
        try:
            found[place] = await pipeline.run(request)
        except Exception as error:  # noqa: BLE001 - it is what is looked at
            found[place] = error

    async with anyio.create_task_group() as group:
        for place, request in enumerate(asked):
            group.start_soon(call, place, request)
            await anyio.sleep(apart)
    return [found[place] for place in range(len(asked))]


# --- quotas outside ----------------------------------------------------------------------------


def metered(tokens: int) -> tuple[Pipeline, Scripted]:
    """A quota of tokens a minute for each user, around shared answers."""
    transport = Scripted([ANSWER], repeat=True, delay=0.1)
    quota = RateLimit(tokens=tokens, phase="govern", key="user", max_wait=0, per=3600)
    return Pipeline([quota, SingleFlight()], transport, ports=virtual_ports()), transport


async def left_of(pipeline: Pipeline, user: str, tokens: int) -> int:
    """How many calls of 500 tokens the user still gets."""
    for count in range(tokens // 500 + 1):
        (found,) = await together(pipeline, by(user=user))
        if isinstance(found, Exception):
            return count
    return tokens // 500 + 1


async def test_a_quota_outside_counts_what_the_shared_call_used() -> None:
    """As the cost: the first caller's quota, and nobody else's."""
    pipeline, transport = metered(2000)
    await together(pipeline, by(user="first"), by(user="second"))
    assert len(transport.requests) == 1
    assert await left_of(pipeline, "first", 2000) == 3
    assert await left_of(pipeline, "second", 2000) == 4


@pytest.mark.parametrize("stream", [False, True])
async def test_a_quota_outside_follows_who_pays(stream: bool) -> None:
    """Whoever it is handed on to is counted, whenever it came; who left is not."""
    pipeline, _ = metered(2000)

    async def leave() -> None:
        with anyio.move_on_after(0.5):
            if not stream:
                await pipeline.run(by(user="first"))
            async with pipeline.stream(by(user="first")) as response:
                await response.collect()

    async def stay() -> None:
        await anyio.sleep(0.3)
        async with pipeline.stream(by(user="second")) as response:
            await response.collect()

    async with anyio.create_task_group() as group:
        group.start_soon(leave)
        if stream:
            group.start_soon(stay)
        else:
            await anyio.sleep(0.3)
            group.start_soon(pipeline.run, by(user="second"))
    assert await left_of(pipeline, "first", 2000) == 4
    assert await left_of(pipeline, "second", 2000) == 3


# --- what is one caller's own ------------------------------------------------------------------


async def test_attempts_that_another_has_used_up_are_not_this_callers() -> None:
    """Who joined a call that may make no more attempts starts one of its own."""

    async def exhaust(request: Any, call_next: Handler) -> Any:
        bound = request.context.bound
        bound.used = bound.limit if request.context.user == "greedy" else 0
        return await call_next(request)

    async def slow(request: Any, call_next: Handler) -> Any:
        await anyio.sleep(0.1)
        return await call_next(request)

    transport = Scripted([ANSWER], repeat=True)
    pipeline = Pipeline([exhaust, SingleFlight(), slow], transport, ports=virtual_ports())
    asked = [by(user="greedy"), by(user="a"), by(user="b")]
    greedy, one, other = await together(pipeline, *asked, apart=0.01)
    assert isinstance(greedy, AttemptLimitError)
    assert (one.text, other.text, len(transport.requests)) == ("It is up.", "It is up.", 1)


async def test_a_bound_of_the_stack_is_everybodys_after_two_flights() -> None:
    """It is not asked again for each of those who wait."""
    asked: list[str] = []

    async def refuse(request: Any) -> ChatResponse:
        asked.append(request.context.call_id)
        await anyio.sleep(0.1)
        raise AttemptLimitError("no more here")

    pipeline = Pipeline([SingleFlight()], refuse, ports=virtual_ports())
    found = await together(pipeline, *[ASK] * 20)
    assert {type(error) for error in found} == {AttemptLimitError}
    assert len(asked) == 2


async def test_no_context_variables_are_passed_on() -> None:
    """The shared call is not the first caller's, on either event loop."""
    seen: list[str] = []

    async def transport(request: Any) -> ChatResponse:
        seen.append(VARIABLE.get())
        return ChatResponse.of("up")

    VARIABLE.set("the first caller's")
    for layers in ([SingleFlight()], []):
        await Pipeline(layers, transport, ports=virtual_ports()).run(ASK)
    assert seen == ["unset", "the first caller's"]


def noted() -> Exception:
    """An error that somebody has added a note to."""
    error = ValueError("x")
    error.add_note("by its maker")
    return error


class Keyed(Exception):
    """It cannot be made from its arguments."""

    def __new__(cls, *, code: int) -> Self:
        """Only so."""
        return super().__new__(cls, code)

    def __init__(self, *, code: int) -> None:
        super().__init__("code", code)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "none", "prompt.txt"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        ExceptionGroup("both", [ValueError("one"), LookupError("other")]),
        Keyed(code=3),
        noted(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_error_of_any_kind_says_the_same_to_each(error: Exception) -> None:
    """Also what it keeps elsewhere than in its arguments; a note for one is not the others'."""

    async def transport(request: Any) -> ChatResponse:
        await anyio.sleep(0.1)
        raise error

    pipeline = Pipeline([SingleFlight()], transport, ports=virtual_ports())
    found = await together(pipeline, ASK, ASK, ASK)
    assert {(type(each), str(each)) for each in found} == {(type(error), str(error))}
    assert len({id(each) for each in found}) == 3
    found[2].add_note("mine")
    assert not any("mine" in getattr(each, "__notes__", ()) for each in found[:2])


# --- many at once ------------------------------------------------------------------------------


async def test_who_leaves_wakes_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of hundreds who wait for a word, each that gives up costs itself only."""
    waits: list[object] = []
    news = Flight.news

    async def counted(flight: Flight, passenger: Passenger) -> None:
        waits.append(passenger)
        await news(flight, passenger)

    monkeypatch.setattr(Flight, "news", counted)
    pipeline = Pipeline([SingleFlight()], Scripted([["a", 99.0, *ANSWER]]), ports=virtual_ports())

    async def read(patience: float) -> None:
        with anyio.move_on_after(patience):
            async with pipeline.stream(ASK) as response:
                await response.collect()

    async with anyio.create_task_group() as group:
        for number in range(200):
            group.start_soon(read, 1 + number / 100)
    assert 200 <= len(waits) <= 400


@pytest.mark.parametrize("tags", [{"a": ["x"]}, {"a": {"b": "c"}}])
async def test_labels_of_any_kind_can_separate(tags: Any) -> None:
    """Equal ones share; none at all are as good as empty ones."""
    transport = Scripted([ANSWER], repeat=True, delay=0.1)
    pipeline = Pipeline([SingleFlight(vary="tags")], transport, ports=virtual_ports())
    await together(pipeline, by(tags=tags), by(tags=dict(tags)), by(tags={}), by())
    assert len(transport.requests) == 2


async def test_labels_that_have_no_form_fly_alone() -> None:
    """The trace says why."""
    transport = Scripted([ANSWER], repeat=True, delay=0.1)
    pipeline = Pipeline([SingleFlight(vary="tags")], transport, ports=virtual_ports())
    odd: Any = {"a": object()}
    found = await together(pipeline, by(tags=odd), by(tags=odd))
    assert len(transport.requests) == 2
    assert [note.fields["why"] for each in found for note in each.trace.notes] == [
        "something of the class 'object'"
    ] * 2


async def test_what_a_provider_sends_of_its_own_counts_as_much_as_it_holds() -> None:
    """So that a bound on what is read ahead holds for it as well."""
    data = {"image": "x" * 5000, "more": [1, {"y": "z" * 100}]}
    assert 5100 < weight(Opaque(data)) - OVERHEAD < 5200
    assert weight(TextDelta("abc")) == OVERHEAD + 3


async def test_the_price_is_paid_where_the_quota_is() -> None:
    """One caller's books have both."""
    quota = RateLimit(tokens=10_000, phase="govern")
    layers: list[Any] = [quota, SingleFlight(), Cost({"m": {"input": "1", "output": "1"}})]
    pipeline = Pipeline(layers, Scripted([ANSWER], delay=0.1), ports=virtual_ports())
    first, second = await together(pipeline, ASK, ASK)
    assert (first.cost.nano > 0, second.cost.nano) == (True, 0)
    of_turn = first.trace.of_turn(first.context.bound)
    assert [(one.usage, one.branch) for one in of_turn] == [(SPENT, "/flight")]
    assert second.trace.of_turn(second.context.bound) == []


async def test_a_route_inside_knows_what_it_has_sent_whatever_was_tried_before() -> None:
    """The attempts of earlier flights are counted in the turn's bound, and in no later trace."""

    async def twice(request: Any, call_next: Handler) -> Any:
        with pytest.raises(UnsupportedError):
            await call_next(request)
        return await call_next(request)

    async def give_up(request: Any, call_next: Handler) -> Any:
        try:
            return await call_next(request)
        except ServerError as error:
            raise UnsupportedError("sent, and then refused here") from error

    transports = [Scripted([ServerError("x", status=500)], repeat=True, name=name) for name in "ab"]
    layers: list[Any] = [twice, SingleFlight(), Route(transports), give_up]
    with pytest.raises(UnsupportedError):
        await Pipeline(layers, ports=virtual_ports()).run(ASK)
    assert sum(len(transport.requests) for transport in transports) == 2
