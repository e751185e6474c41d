"""Attempt observers: every attempt that a call sets off is seen to begin and to end, once."""

from __future__ import annotations

from typing import Any

import anyio
import attrs
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    Context,
    Finish,
    Handler,
    Money,
    Outcome,
    Pipeline,
    ProviderError,
    Request,
    ServerError,
    Usage,
    middleware,
    observed,
    provided,
)
from lamella._attempts import OpenAttempt
from lamella.testing import Scripted, ScriptedAnswer, virtual_ports
from lamella_middlewares.cost import Cost
from lamella_middlewares.hedge import Hedge
from lamella_middlewares.retry import Retry
from lamella_middlewares.single_flight import SingleFlight

pytestmark = pytest.mark.anyio

ANSWER = ChatResponse.of("Hello.", usage=Usage(uncached_input=1000, text_output=200))
PRICES = {"m": {"input": "1", "output": "5"}}
REQUEST = ChatRequest.of("Hi", model="m")


def takes(seconds: float) -> ScriptedAnswer:
    """An answer that is there after so many seconds."""
    return ScriptedAnswer(("Hello.", Finish("stop")), delay=seconds)


@middleware(phase="observe")
@attrs.define(eq=False)
class Seeing:
    """Writes down what it is told."""

    opened: list[str] = attrs.field(factory=list[str])
    closed: list[tuple[str, str, Outcome | None, Money | None]] = attrs.field(
        factory=list[tuple[str, str, Outcome | None, Money | None]]
    )

    async def __call__(self, request: Request[Any], call_next: Handler) -> Any:
        return await call_next(observed(request, self))

    def attempt_opened(self, attempt: OpenAttempt, request: Request[Any], /) -> None:
        assert request.context.attempt is None
        self.opened.append(attempt.branch)

    def attempt_closed(self, attempt: OpenAttempt, _: Request[Any], /) -> None:
        self.closed.append((attempt.branch, attempt.asked_by, attempt.outcome, attempt.cost))


async def test_each_try_is_seen_with_what_it_costs_and_who_asked_for_it() -> None:
    """What failed is there too; at its end an attempt has its outcome and its price."""
    seeing = Seeing()
    busy = ServerError("busy", status=503)
    pipeline = Pipeline(
        [seeing, Retry(3), Cost(PRICES)], Scripted([busy, ANSWER]), ports=virtual_ports()
    )
    response = await pipeline.run(REQUEST)
    assert seeing.opened == ["", "/try2"]
    assert seeing.closed == [
        ("", "", Outcome.FAILED, Money(0)),
        ("/try2", "retry", Outcome.COMPLETE, Money.of("0.002")),
    ]
    assert [attempt.asked_by for attempt in response.trace.attempts] == ["", "retry"]


async def test_a_stream_is_closed_when_it_ends_and_not_before() -> None:
    """However it ends: here its reader leaves it."""
    seeing = Seeing()
    pipeline = Pipeline([seeing, Cost(PRICES)], Scripted([ANSWER]), ports=virtual_ports())
    async with pipeline.stream(REQUEST) as response:
        await anext(aiter(response))
        assert (seeing.opened, seeing.closed) == ([""], [])
    assert [outcome for _, _, outcome, _ in seeing.closed] == [Outcome.LEFT]


async def test_a_loser_of_a_race_is_seen() -> None:
    """And the copy that has won was asked for by the layer that races them."""
    seeing = Seeing()
    slow, fast = takes(30), takes(1)
    pipeline = Pipeline(
        [seeing, Hedge(delay=5, max_extra=1), Cost(PRICES)],
        Scripted([slow, fast]),
        ports=virtual_ports(),
    )
    async with pipeline.stream(REQUEST) as response:
        await response.collect()
    assert sorted((who, outcome) for _, who, outcome, _ in seeing.closed) == [
        ("", Outcome.CANCELLED),
        ("hedge", Outcome.COMPLETE),
    ]


async def test_detached_work_is_seen() -> None:
    """The attempt of a flight that many wait for is one."""
    seeing = Seeing()
    pipeline = Pipeline(
        [seeing, SingleFlight(when="all"), Cost(PRICES)],
        Scripted([takes(1)]),
        ports=virtual_ports(),
    )
    request = REQUEST.evolve(context=Context(tenant="acme"))
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(pipeline.run, request)
    assert [outcome for _, _, outcome, _ in seeing.closed] == [Outcome.COMPLETE]
    await pipeline.aclose()


async def test_one_that_fails_harms_nobody() -> None:
    """It is noted, and the others are told."""

    class Failing(Seeing):
        def attempt_opened(self, attempt: OpenAttempt, request: Request[Any], /) -> None:
            raise OSError("broken")

        def attempt_closed(self, attempt: OpenAttempt, request: Request[Any], /) -> None:
            raise OSError("broken")

    seeing = Seeing()
    pipeline = Pipeline([Failing(), seeing], Scripted([ANSWER]), ports=virtual_ports())
    response = await pipeline.run(REQUEST)
    notes = [(note.name, note.fields["observer"]) for note in response.trace.notes]
    assert notes == [("observer.failed", "Failing")] * 2
    assert len(seeing.closed) == 1


async def test_a_layer_that_stands_twice_sees_once() -> None:
    """Also where one of the two stands in a pipeline inside."""
    seeing = Seeing()
    inner = Pipeline([seeing], Scripted([ProviderError("no", status=400)]), ports=virtual_ports())
    outer = Pipeline([seeing], inner, ports=virtual_ports())
    with pytest.raises(ProviderError):
        await outer.run(REQUEST)
    assert (len(seeing.opened), len(seeing.closed)) == (1, 1)


async def test_a_layer_finds_what_another_one_inside_provides() -> None:
    """By the name of what it provides, the nearest one; None where there is none."""
    found: list[Any] = []

    @middleware(phase="attempt")
    async def asking(request: Request[Any], call_next: Handler) -> Any:
        found.append(provided(call_next, "tariff"))
        return await call_next(request)

    @middleware(phase="wire", provides=["tariff"])
    async def outer(request: Request[Any], call_next: Handler) -> Any:
        found.append(provided(call_next, "tariff"))
        return await call_next(request)

    @middleware(phase="wire", provides=["tariff"])
    async def inner(request: Request[Any], call_next: Handler) -> Any:
        found.append(provided(call_next, "tariff"))
        return await call_next(request)

    await Pipeline([asking, outer, inner], Scripted([ANSWER]), ports=virtual_ports()).run(REQUEST)
    assert found == [outer, inner, None]
