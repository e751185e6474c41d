"""What was reserved lives as long as somebody may end it, and is ended once."""

from __future__ import annotations

import gc
import logging
import os
from typing import Any

import anyio
import attrs
import pytest

from lamella import Context, LimitedError, Ports, Trace
from lamella._admission import admit
from lamella._background import Background
from lamella._calls import Call
from lamella._clock import Clock
from lamella._grants import Grant
from lamella._lines import Terms
from lamella._memory_leases import MemoryLeases
from lamella._memory_stores import memory_stores
from lamella._stores import Dimension
from lamella.testing import virtual_backends, virtual_ports

pytestmark = pytest.mark.anyio

TERMS = Terms("limit", "limited", max_wait=0.0)
BULK = Dimension(("n", "limit", "x", "tokens"), 100, 1000, 10.0)
TOTAL = Dimension(("n", "limit", "x", "money"), 100, 1000)
PLACE = Dimension(("n", "limit", "x", "places"), 1, 2, held=True)


@pytest.fixture(params=virtual_backends(), ids=lambda backend: f"virtual-{backend[0]}")
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both event loops, in virtual time."""
    return request.param


def begun(ports: Ports) -> Context:
    """A context as a pipeline hands it to its layers."""
    trace = Trace("call", monotonic=ports.monotonic, wall=0.0)
    return Context(
        call_id="call",
        ports=ports,
        trace=trace,
        clock=Clock(ports.monotonic),
        call=Call(trace),
        background=Background(),
    )


async def level(ports: Ports, dimension: Dimension) -> int:
    """What is left of a limit."""
    return await ports.stores.leases.level(dimension)


class Jumping:
    """A clock that goes on by itself, and jumps."""

    def __init__(self, monotonic: Any) -> None:
        self.monotonic = monotonic
        self.ahead = 0.0

    def __call__(self) -> float:
        now: float = self.monotonic() + self.ahead
        return now


@pytest.mark.parametrize("jump", [600.0, 1e6])
async def test_a_clock_that_jumps_takes_no_place_away(jump: float) -> None:
    """A machine that was suspended has not let more in than may be."""
    base = virtual_ports()
    clock = Jumping(base.monotonic)
    ports = attrs.evolve(base, monotonic=clock, stores=memory_stores(monotonic=clock))
    held = [await admit(begun(ports), (PLACE,), TERMS) for _ in range(2)]
    clock.ahead = jump
    with pytest.raises(LimitedError, match="the limit of 2 places is reached"):
        await admit(begun(ports), (PLACE,), TERMS)
    assert await level(ports, PLACE) == 0
    held[0].finish(None)
    clock.ahead = 0.0
    assert await level(ports, PLACE) == 1


async def test_what_was_dropped_comes_back_and_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """A grant that nobody can end any more gives everything back, with a warning."""
    ports = virtual_ports()
    grants = [await admit(begun(ports), (PLACE, BULK), TERMS)]
    assert grants[0].remaining == (1, 900)
    with caplog.at_level(logging.WARNING, logger="lamella"):
        grants.clear()
        gc.collect()
    assert "comes back unsettled" in caplog.text
    assert (await level(ports, PLACE), await level(ports, BULK)) == (2, 1000)


async def test_wrong_amounts_end_nothing() -> None:
    """They are a mistake of the caller; the grant can still be ended."""
    ports = virtual_ports()
    grant = await admit(begun(ports), (PLACE, BULK), TERMS)
    wrong: Any
    for wrong in ((1,), (1, -1), (1, 0.5), (1, True)):
        with pytest.raises(ValueError, match=r"LeaseStore\.settle"):
            grant.finish(wrong)
    assert await level(ports, BULK) == 900
    grant.finish((1, 0))
    assert await level(ports, BULK) == 1000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
async def test_a_forked_child_holds_nothing() -> None:
    """None of the parent's calls will end anything there."""
    ports = virtual_ports()
    grant = await admit(begun(ports), (PLACE,), TERMS)
    leases = ports.stores.leases
    assert isinstance(leases, MemoryLeases)
    child = os.fork()
    if child == 0:
        os._exit(leases.held)
    assert os.waitpid(child, 0)[1] == 0  # noqa: ASYNC222 - it ends at once
    assert leases.held == 1
    grant.finish(None)


class Deaf:
    """A store of leases elsewhere that has lost one, and whose replies may be lost."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.lose = 0
        self.lease_ids: list[str] = []

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self.inner, name)

        async def far(*args: Any, **options: Any) -> Any:
            await anyio.sleep(0.001)
            if name == "reserve":
                self.lease_ids.append(args[0])
            answer = await operation(*args, **options)
            if name == "settle" and answer and self.lose:
                self.lose -= 1
                raise ConnectionResetError
            return answer

        return far if callable(operation) else None


async def test_what_a_lost_lease_used_is_owed_once() -> None:
    """However often the reply is lost, it is charged under one name."""
    base = virtual_ports()
    store: Any = Deaf(base.stores.leases)
    ports = attrs.evolve(base, stores=attrs.evolve(base.stores, leases=store))
    context = begun(ports)
    grant: Grant = await admit(context, (TOTAL,), TERMS)
    await store.inner.refund(store.lease_ids[0])
    store.lose = 3
    waiting = grant.finish((300,))
    assert waiting is not None
    await waiting
    context.trace.finish(None)  # type: ignore[arg-type]
    await anyio.sleep(0.9)
    assert len(set(store.lease_ids)) == 2
    assert await level(base, TOTAL) == 700
    assert [note.name for note in context.trace.notes] == [
        "limit.lease_lost",
        "limit.store_failed",
    ]
