"""What all limits of calls have in common when something is odd: loops, nesting, numbers."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio
import attrs
import pytest

from lamella import ChatRequest, ConfigurationError, LimitedError, Pipeline, Ports, Request
from lamella._memory_stores import memory_stores
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares import Concurrency, LoadShed, RateLimit

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello", model="m")

ONE: dict[str, Any] = {
    "fixed": Concurrency(1, max_wait=600),
    "adaptive": Concurrency(1, adaptive="aimd", max_limit=1),
    "rate_limit": RateLimit(concurrency=1),
    "load_shed": LoadShed(1, max_wait=None, target=None),
}


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def _asked(pipe: Pipeline) -> str:
    return (await pipe.run(ASK)).text


@pytest.mark.parametrize("layer", ONE.values(), ids=ONE)
def test_a_loop_that_was_closed_under_its_calls_keeps_nobody_out(layer: Any) -> None:
    """One call was inside and two waited; all that they had is there again when it is wanted."""
    clock = Clock()
    ports = Ports(monotonic=clock, stores=memory_stores(monotonic=clock))
    pipe = Pipeline([layer], Scripted(["an answer"], repeat=True), ports=ports)

    async def hang() -> Any:
        block = pipe.stream(ASK)
        await block.__aenter__()
        waiting = [asyncio.ensure_future(_asked(pipe)) for _ in range(2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return block, waiting

    loop = asyncio.new_event_loop()
    kept = loop.run_until_complete(hang())
    loop.close()
    clock.now += 2
    assert asyncio.run(_asked(pipe)) == "an answer"
    assert asyncio.run(_asked(pipe)) == "an answer"
    for task in kept[1]:
        task._log_destroy_pending = False


@pytest.mark.parametrize("layer", ONE.values(), ids=ONE)
def test_a_place_that_is_handed_to_a_closed_loop_goes_on(layer: Any) -> None:
    """The first in the line is no more; whoever is behind it gets the place."""
    ports = Ports(stores=memory_stores())
    pipe = Pipeline([layer], Scripted(["an answer"], repeat=True), ports=ports)
    kept: list[Any] = []

    def die() -> None:
        async def wait() -> None:
            kept.append(asyncio.ensure_future(_asked(pipe)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        loop = asyncio.new_event_loop()
        loop.run_until_complete(wait())
        loop.close()

    async def go() -> None:
        async with pipe.stream(ASK) as response:
            await response.collect()
            thread = threading.Thread(target=die)
            thread.start()
            thread.join()
            behind = asyncio.ensure_future(_asked(pipe))
            await asyncio.sleep(0)
        assert await asyncio.wait_for(behind, 30) == "an answer"

    asyncio.run(go())
    kept[0]._log_destroy_pending = False


@pytest.mark.parametrize("layer", ONE.values(), ids=ONE)
async def test_who_has_a_place_needs_no_second_one(layer: Any) -> None:
    """The same limit in a pipeline and in the one inside it is no trap."""
    ports = virtual_ports()
    inner = Pipeline([layer], Scripted(["an answer"], repeat=True), ports=ports)
    outer = Pipeline([layer], inner, ports=ports)
    if not isinstance(layer, LoadShed):
        layer = attrs.evolve(layer, phase="govern", key="tenant")
        inner = Pipeline([layer], Scripted(["an answer"], repeat=True), ports=ports)
        outer = Pipeline([layer], inner, ports=ports)
    with anyio.fail_after(60):
        assert (await outer.run(ASK)).text == "an answer"
        assert (await outer.run(ASK)).text == "an answer"


async def test_a_nested_limit_of_places_still_counts_requests() -> None:
    """Of its other limits it takes as before: they flow back by themselves."""
    ports = virtual_ports()
    layer = RateLimit(concurrency=1, requests=4, per=1e6, phase="govern", max_wait=0)
    inner = Pipeline([layer], Scripted(["an answer"], repeat=True), ports=ports)
    outer = Pipeline([layer], inner, ports=ports)
    for _ in range(2):
        await outer.run(ASK)
    with pytest.raises(Exception, match="the limit of 4 requests"):
        await inner.run(ASK)


@pytest.mark.parametrize("start", [0.1, 1 / 3, 1234.567])
@pytest.mark.parametrize("max_wait", [0.1, 1 / 3, 7.7, 12.345678])
async def test_a_wait_ends_whatever_the_clock_rounds(start: float, max_wait: float) -> None:
    """After it, not a rounding error before it: nobody spins."""
    layer = LoadShed(1, max_wait=max_wait)
    pipe = Pipeline([layer], Scripted(["an answer"], repeat=True), ports=virtual_ports())
    await anyio.sleep(start)
    async with pipe.stream(ASK):
        before = anyio.current_time()
        with pytest.raises(LimitedError, match="longer than it may"):
            await pipe.run(ASK)
        assert anyio.current_time() - before == pytest.approx(max_wait, abs=0.002)


BIG = "a whole number, 1 or more, and at most"
SHARE = "a number above 0 for each tenant"
WAIT = "seconds, a timedelta, 0 to refuse"
NAME = "a name, such as 'shared'"


@pytest.mark.parametrize(
    ("layer", "options", "message"),
    [
        (RateLimit, {"requests": 10**400}, BIG),
        (RateLimit, {"requests": 1, "weights": {"a": 1e-320}}, SHARE),
        (RateLimit, {"requests": 1, "weights": {"a": float("inf")}}, SHARE),
        (RateLimit, {"requests": 1, "max_wait": float("nan")}, WAIT),
        (Concurrency, {"limit": 10**400}, BIG),
        (Concurrency, {"adaptive": "aimd", "max_limit": 10**400}, BIG),
        (Concurrency, {"weights": {"a": True}}, SHARE),
        (Concurrency, {"weights": [("a", 1)]}, SHARE),
        (Concurrency, {"namespace": ""}, NAME),
        (LoadShed, {"max_in_flight": 10**400}, BIG),
        (LoadShed, {"max_wait": float("inf")}, WAIT),
        (LoadShed, {"namespace": None}, NAME),
    ],
    ids=[str(number) for number in range(12)],
)
def test_numbers_that_are_none_are_refused(
    layer: Any, options: dict[str, Any], message: str
) -> None:
    """When the layer is made, not when the first request comes."""
    with pytest.raises(ConfigurationError, match=message):
        layer(**options)


@pytest.mark.parametrize("layer", [RateLimit, Concurrency])
def test_a_key_says_which_layer_it_is_wrong_in(layer: Any) -> None:
    """Both take the same words, and say what is wrong with others."""

    async def slow(_: Request[Any]) -> str:
        return ""

    for key in ("team", (), ("tenant", "team"), 5):
        with pytest.raises(ConfigurationError, match=rf"{layer.__name__}\(key=.*one or several"):
            layer(1, key=key)
    with pytest.raises(ConfigurationError, match="async function"):
        layer(1, key=slow)
