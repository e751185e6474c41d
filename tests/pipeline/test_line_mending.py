"""Lines that strangers lean on: absurd wants, vain newcomers, event loops that are no more."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pytest

from lamella import Context, LimitedError, Ports, Trace
from lamella._admission import admit
from lamella._background import Background
from lamella._calls import Call
from lamella._clock import Clock
from lamella._line_order import Ticket
from lamella._lines import WATCH, Line, Refused, Terms
from lamella._memory_stores import memory_stores
from lamella._stores import Dimension
from lamella.testing import virtual_backends, virtual_ports

pytestmark = pytest.mark.anyio

TERMS = Terms("limit", "limited")
BULK = Dimension(("n", "limit", "x", "tokens"), 100, 1000, 10.0)


@pytest.fixture(params=virtual_backends(), ids=lambda backend: f"virtual-{backend[0]}")
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both event loops, in virtual time."""
    return request.param


def begun(ports: Ports, **fields: Any) -> Context:
    """A context as a pipeline hands it to its layers."""
    trace = Trace("call", monotonic=ports.monotonic, wall=0.0)
    return Context(
        call_id="call",
        ports=ports,
        trace=trace,
        clock=Clock(ports.monotonic),
        call=Call(trace),
        background=Background(),
        **fields,
    )


async def used_up(ports: Ports) -> None:
    """Nothing is left of the limit."""
    (await admit(begun(ports), (BULK.want(1000),), TERMS)).finish((1000,))


@pytest.mark.parametrize("amount", [1001, 10**400, 10**5000], ids=["one", "many", "absurd"])
async def test_what_never_fits_is_refused_at_once_even_behind_others(amount: int) -> None:
    """Whoever asks for the impossible neither waits for its turn nor harms the line."""
    ports, entered = virtual_ports(), []
    await used_up(ports)

    async def want() -> None:
        (await admit(begun(ports), (BULK.want(900),), TERMS)).finish((900,))
        entered.append(ports.monotonic())

    async with anyio.create_task_group() as group:
        group.start_soon(want)
        await anyio.sleep(1)
        with pytest.raises(LimitedError, match="and the limit is 1000") as caught:
            await admit(begun(ports, tenant="other"), (BULK.want(amount),), TERMS)
        assert caught.value.retry_after is None
        assert len(str(caught.value)) < 200
        assert ports.monotonic() == 1
    assert entered == [pytest.approx(9.0, abs=0.01)]


async def test_nobody_has_to_go_for_one_who_will_not_wait() -> None:
    """A newcomer whose wait makes no sense is refused before it takes anybody's place."""
    ports, entered = virtual_ports(), []
    terms = attrs.evolve(TERMS, max_waiting=1)
    await used_up(ports)

    async def low() -> None:
        (await admit(begun(ports), (BULK,), terms)).finish((100,))
        entered.append(ports.monotonic())

    async with anyio.create_task_group() as group:
        group.start_soon(low)
        await anyio.sleep(0.1)
        for bound in ({"deadline": 0.5}, {"other_targets": (lambda: True,)}):
            late = begun(ports, priority=5, **bound)
            with pytest.raises(LimitedError):
                await admit(late, (BULK.want(500),), terms)
    assert entered == [pytest.approx(1.0, abs=0.01)]


async def test_a_message_says_why_the_wait_is_short() -> None:
    """Not an option that nobody has set, but that somebody else may serve it."""
    ports = virtual_ports()
    await used_up(ports)
    with pytest.raises(LimitedError, match=r"may wait 1 s \(another target may have room\)"):
        await admit(begun(ports, other_targets=(lambda: True,)), (BULK.want(900),), TERMS)
    yielding = attrs.evolve(TERMS, gives_way=True)
    with pytest.raises(LimitedError, match=r"wait 0 s \(another credential may have room\)"):
        await admit(begun(ports, spare_credentials=1), (BULK,), yielding)
    short = attrs.evolve(TERMS, max_wait=0.5)
    with pytest.raises(LimitedError, match=r"may wait 0\.5 s \(max_wait\)"):
        await admit(begun(ports, other_targets=(lambda: True,)), (BULK.want(900),), short)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_those_behind_one_whose_loop_was_closed_go_on(when: str) -> None:
    """The first in the line will never leave it, and nobody gives anything back."""
    ports, line = virtual_ports(), Line(max_waiting=10)
    context = begun(ports)

    class Other:
        closed = False

    other: Any = Other()
    dead = Ticket("", 1, ports.monotonic())
    dead.loop = other
    assert line.join(dead) is None
    entered: list[float] = []

    async def attempt() -> str | Refused:
        return "in"

    async def come() -> None:
        await line.enter(context, Ticket("", 0, ports.monotonic()), attempt, TERMS)
        entered.append(ports.monotonic())

    other.closed = when == "before"
    async with anyio.create_task_group() as group:
        group.start_soon(come)
        await anyio.sleep(0.1)
        other.closed = True
    assert len(line) == 0
    assert entered == [pytest.approx(0.0 if when == "before" else WATCH, abs=0.01)]


def test_a_hold_of_a_closed_loop_is_given_up_where_room_is_wanted() -> None:
    """Its call is still remembered, so that it never becomes garbage."""
    now = 0.0

    def clock() -> float:
        return now

    stores = memory_stores(monotonic=clock)
    ports = attrs.evolve(virtual_ports(), monotonic=clock, stores=stores)
    place = Dimension(("n", "limit", "x", "places"), 1, 1, held=True)
    terms = attrs.evolve(TERMS, max_wait=0.0)

    async def take() -> Any:
        return await admit(begun(ports), (place,), terms)

    loop = asyncio.new_event_loop()
    kept = loop.run_until_complete(take())

    async def refused() -> None:
        with pytest.raises(LimitedError):
            await take()

    loop.run_until_complete(refused())
    loop.close()
    now = 2.0
    again = asyncio.run(take())
    kept.finish(None)
    asyncio.run(refused())
    again.finish(None)
