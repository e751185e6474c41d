"""Readings: what stands at a place of a stack now, without asking anybody far away."""

from __future__ import annotations

import logging
from typing import Any

import attrs
import pytest

from lamella import (
    ChatRequest,
    Context,
    Pipeline,
    Ports,
    Reading,
    middleware,
    pipelines_of,
    readings,
)
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.circuit_breaker import CircuitBreaker
from lamella_middlewares.concurrency import Concurrency
from lamella_middlewares.load_shed import LoadShed
from lamella_middlewares.rate_limit import RateLimit

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("x", model="m")


class FarLeases:
    """A store that others share: whoever asks it waits."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.asked = 0

    async def level(self, dimension: Any) -> int:
        self.asked += 1
        return int(await self._inner.level(dimension))

    def __getattr__(self, name: str) -> Any:
        if name in {"immediate", "hold", "lines"}:
            raise AttributeError(name)
        return getattr(self._inner, name)


def far_ports() -> Ports:
    """Ports whose lease store has to be waited for."""
    ports = virtual_ports()
    stores = attrs.evolve(ports.stores, leases=FarLeases(ports.stores.leases))
    return attrs.evolve(ports, stores=stores)


def numbers(pipeline: Pipeline) -> dict[tuple[str, ...], float]:
    """What is shown, by layer, name and resource."""
    return {(one.layer, one.name, one.resource): one.value for one in readings(pipeline)}


@pytest.mark.parametrize("far", [False, True])
async def test_limits_show_their_room(far: bool) -> None:
    """Exactly where they are counted in memory; else what was heard last, and nobody is asked."""
    ports = far_ports() if far else virtual_ports()
    layers: list[Any] = [RateLimit(10), Concurrency(2), Concurrency(3, adaptive="aimd")]
    pipeline = Pipeline(layers, Scripted(["ok"], repeat=True), ports=ports)
    async with pipeline.stream(ASK) as response:
        found = numbers(pipeline)
        await response.collect()
    assert found["rate_limit", "available", "scripted/m requests per 60 s"] == 9
    assert found["rate_limit", "limit", "scripted/m requests per 60 s"] == 10
    assert found["concurrency", "limit", "scripted/m"] in {2, 3}
    assert found["concurrency", "waiting", "scripted/m"] == 0
    if isinstance(ports.stores.leases, FarLeases):
        assert ports.stores.leases.asked == 0


async def test_tenants_and_people_are_not_shown() -> None:
    """Their limits go by the name of the key."""
    context = Context(tenant="acme", user="ada")
    layers: list[Any] = [RateLimit(10, phase="govern"), Concurrency(2, key="user", phase="govern")]
    pipeline = Pipeline(layers, Scripted(["ok"]), ports=virtual_ports())
    await pipeline.run(ASK.evolve(context=context))
    shown = [one.resource for one in readings(pipeline)]
    assert set(shown) == {"tenant requests per 60 s", "user"}


async def test_pipelines_inside_are_read_and_nothing_twice() -> None:
    """A layer that stands in both shows itself once."""
    shared = CircuitBreaker()
    ports = virtual_ports()
    inner = Pipeline([shared, LoadShed(3)], Scripted(["ok"]), ports=ports)
    outer = Pipeline([shared], inner, ports=ports)
    await outer.run(ASK)
    states = [one for one in readings(outer) if one.name == "state"]
    assert {(one.provider, one.model) for one in states} == {("scripted", "m"), ("pipeline", "m")}
    assert len(states) == 2
    assert ("load_shed", "limit", "calls") in numbers(outer)


@pytest.mark.parametrize(
    "said",
    [
        lambda: 1 / 0,
        lambda: [("mute", "waiting", 3)],
        lambda: [Reading("mute", "waiting", 3, source=[])],  # type: ignore[arg-type]
        lambda: [Reading("mute", "waiting", "three")],
        lambda: None,
    ],
    ids=["error", "tuple", "unhashable", "words", "nothing"],
)
async def test_a_layer_that_cannot_say_is_left_out(
    caplog: pytest.LogCaptureFixture, said: Any
) -> None:
    """The others are shown, and the failure is logged: nothing it says breaks a whole scrape."""

    @middleware(phase="attempt")
    class Mute:
        async def __call__(self, request: Any, call_next: Any) -> Any:
            return await call_next(request)

        def readings(self, ports: Ports) -> Any:
            return said()

    pipeline = Pipeline([Mute(), LoadShed(3)], Scripted(["ok"]), ports=virtual_ports())
    with caplog.at_level(logging.ERROR, "lamella"):
        assert numbers(pipeline)["load_shed", "available", "calls"] == 3
    assert "'mute' failed to say how it is" in caplog.text


async def test_closed_pipelines_are_not_a_layer_s_any_more() -> None:
    """Whoever looks for them finds those that can be called."""
    layer = LoadShed(3)
    one, two = [Pipeline([layer], Scripted(["ok"]), ports=virtual_ports()) for _ in range(2)]
    assert set(pipelines_of(layer)) == {one, two}
    await one.aclose()
    assert pipelines_of(layer) == [two]
