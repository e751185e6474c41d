"""What fails around SemanticCache is a miss: the call goes on, soon, and nobody gets an error."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

import anyio
import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from semantic_caches import AGAIN, RESET, OnDisk, World, noted, why

from lamella import (
    Finish,
    Near,
    Packing,
    Ports,
    Secret,
)
from lamella._memory_stores import memory_stores
from lamella._memory_vectors import MemoryVectors
from lamella.testing import each_step, run_virtual, virtual_ports
from lamella_middlewares.semantic_cache import SemanticCache
from lamella_middlewares.semantic_cache._directions import direction, likeness
from lamella_middlewares.semantic_cache._shelf import EVERY

pytestmark = pytest.mark.anyio


# --- the index ---------------------------------------------------------------------------------


class Elsewhere:
    """An index across a network."""

    def __init__(self) -> None:
        self.inner = MemoryVectors()
        self.fault: Any = None
        self.closed = 0

    async def _answers(self) -> None:
        if self.fault is not None:
            await self.fault()

    async def add(self, *args: Any, **more: Any) -> None:
        await self._answers()
        await self.inner.add(*args, **more)

    async def nearest(self, *args: Any, **more: Any) -> Sequence[Near]:
        await self._answers()
        return await self.inner.nearest(*args, **more)

    async def remove(self, *args: Any) -> bool:
        await self._answers()
        return await self.inner.remove(*args)

    async def purge(self, *, prefix: str = "") -> int:
        await self._answers()
        return await self.inner.purge(prefix=prefix)

    async def aclose(self) -> None:
        self.closed += 1


async def raises() -> None:
    """Has failed."""
    raise OSError("x")


async def test_an_index_of_ones_own_is_used_and_closed() -> None:
    """What is kept is found through it; it closes with the last layer that uses it."""
    index = Elsewhere()
    world = World(index=index)
    other = SemanticCache("e", index=index)
    await world.ask(RESET)
    assert (await world.ask(AGAIN)).head.cached
    assert len(index.inner) == 1
    await world.pipeline.aclose()
    assert index.closed == 0
    await other.aclose()
    assert index.closed == 1


@pytest.mark.parametrize(("fault", "seconds"), [(raises, 0.0), (anyio.sleep_forever, 0.05)])
async def test_an_index_that_is_out_is_a_miss(fault: Any, seconds: float) -> None:
    """It costs its time limit once a call, and nothing is kept that nobody could find."""
    index = Elsewhere()
    world = World(index=index)
    await world.ask(RESET)
    index.fault = fault
    began = anyio.current_time()
    response = await world.ask(AGAIN)
    assert why(response) == "unavailable"
    assert anyio.current_time() - began == pytest.approx(seconds)
    assert (noted(response, "stored"), response.text) == ([], "Press the button.")
    index.fault = None
    assert (await world.ask(AGAIN)).head.cached


async def test_what_the_index_has_and_the_store_not_is_removed() -> None:
    """A vector whose answer is gone is a miss, once."""
    world = World()
    await world.ask(RESET)
    await world.pipeline.ports.stores.blobs.purge()
    assert why(await world.ask(AGAIN, said="no_store")) == "absent"
    assert why(await world.ask(AGAIN, said="no_store")) == "nothing similar"


async def test_a_damaged_answer_is_a_miss_that_is_counted() -> None:
    """What cannot be read is removed from the store and from the index."""
    world = World()
    await world.ask(RESET)
    blobs = world.pipeline.ports.stores.blobs
    [entry] = (await blobs.entries()).entries
    kept = await blobs.get(entry.key)
    assert kept is not None
    await blobs.put(entry.key, kept.data[:-3], tags=kept.tags)
    assert why(await world.ask(AGAIN, said="no_store")) == "corrupt"
    assert why(await world.ask(AGAIN, said="no_store")) == "nothing similar"
    stats = await world.layer.stats(world.pipeline)
    assert stats.unreadable == {"corrupt": 1}
    assert stats.missed == {"nothing similar": 2, "corrupt": 1}


# --- the store ---------------------------------------------------------------------------------


class Frozen(OnDisk):
    """A store that stops answering."""

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)

        async def ask(*args: Any, **more: Any) -> Any:
            if self.__dict__.get("frozen"):
                await anyio.sleep_forever()
            return await found(*args, **more)

        return ask if callable(found) else found


async def test_a_frozen_store_costs_one_timeout() -> None:
    """A call waits for it once at most, and nothing is put after a get that failed."""
    store = Frozen(virtual_ports().stores.blobs)
    world = World(store=store)
    await world.ask(RESET)
    store.__dict__["frozen"] = True
    began = anyio.current_time()
    assert why(await world.ask(AGAIN)) == "unavailable"
    assert anyio.current_time() - began == pytest.approx(0.05, abs=0.001)
    store.__dict__["frozen"] = False
    assert (await world.ask(AGAIN)).head.cached


# --- several processes -------------------------------------------------------------------------


def processes(count: int = 2, **options: Any) -> list[World]:
    """Pipelines of as many processes that keep their answers in one place."""
    disk = virtual_ports().stores.blobs
    return [World(store=OnDisk(disk), **options) for _ in range(count)]


async def test_a_new_process_finds_what_an_earlier_one_kept() -> None:
    """Its first call waits for what is there to be read."""
    one, other = processes()
    await one.ask(RESET)
    response = await other.ask(AGAIN)
    assert (response.head.cached, other.calls) == (True, 0)


async def test_pipelines_made_for_one_request_share_a_mirror() -> None:
    """What one of them has read of a store the next need not read."""
    ports = virtual_ports()
    disk: Any = OnDisk(ports.stores.blobs)
    for _ in range(3):  # each guards the store for itself
        stores = attrs.evolve(ports.stores, blobs=disk)
        world = World(ports=attrs.evolve(ports, stores=stores))
        await world.ask(RESET)
    assert disk.asked.count("entries") == 1


async def test_what_others_keep_is_seen_soon() -> None:
    """After some seconds, without reading anew what is known."""
    one, other = processes()
    await other.ask("Is it on?")
    await one.ask(RESET)
    assert not (await other.ask(AGAIN, said="no_store")).head.cached
    await anyio.sleep(EVERY + 0.1)
    await other.ask(AGAIN, said="no_store")  # somebody has to ask, for it to be looked for
    await anyio.sleep(0.1)
    assert (await other.ask(AGAIN)).head.cached
    store: Any = other.layer.store
    assert store.asked.count("get_many") == 1


async def test_what_others_purge_is_forgotten() -> None:
    """A mirror holds nothing for long that the store has no more."""
    one, other = processes()
    await one.ask(RESET)
    assert (await other.ask(AGAIN)).head.cached
    await one.layer.clear(one.pipeline)
    await anyio.sleep(EVERY + 0.1)
    assert why(await other.ask("Is it on?", said="no_store")) == "nothing similar"
    await anyio.sleep(0.1)
    assert why(await other.ask(AGAIN, said="no_store")) == "nothing similar"


async def test_what_is_kept_longer_than_it_was_is_known_to_be() -> None:
    """Another process has kept the same question anew: its vector lives as long as that."""
    one, other = processes(ttl=100)
    await one.ask(RESET)
    assert (await other.ask(AGAIN)).head.cached
    await anyio.sleep(80)
    await one.ask(RESET, said="refresh")
    await other.ask("Is it on?")
    await anyio.sleep(60)
    assert (await other.ask(AGAIN)).head.cached


async def test_tenants_and_partitions_are_mirrored_apart() -> None:
    """A process reads what it is asked about, and no other tenant's."""
    one, other = processes()
    await one.ask(RESET, tenant="acme")
    await one.ask(RESET, tenant="other")
    assert not (await other.ask(AGAIN, tenant="third")).head.cached
    assert not (await other.ask(AGAIN, tenant="acme", seed=1)).head.cached
    store: Any = other.layer.store
    assert "get_many" not in store.asked
    assert (await other.ask(AGAIN, tenant="acme")).head.cached


async def test_vectors_are_kept_as_they_are() -> None:
    """They point where they pointed, whatever their length was."""
    vector = [0.1 * number for number in range(-5, 6)]
    found, length = direction(vector), math.hypot(*vector)
    assert list(found) == pytest.approx([value / length for value in vector], abs=1e-7)
    assert likeness(found, direction([3 * value for value in vector])) == 1.0
    assert likeness(found, direction([-value for value in vector])) == -1.0
    assert likeness(found, (1.0,)) == -1.0
    assert direction([1e200, 0.0]) == direction([5e-324, 0.0]) == (1.0, 0.0)
    assert direction([1.7e308] * 4) == (0.5,) * 4
    for wrong in ([], [0.0], [math.inf], [math.nan, 1.0], [1.0, math.nan]):
        with pytest.raises(ValueError, match="finite"):
            direction(wrong)


async def test_signed_answers_of_others_are_not_believed() -> None:
    """With a key, what was kept without it, or with another, is foreign and goes."""
    disk = virtual_ports().stores.blobs
    one, other = (
        World(store=OnDisk(disk), packing=Packing(key=Secret.of_value(letter * 32)))
        for letter in "ab"
    )
    await one.ask(RESET)
    assert (await one.ask(AGAIN)).head.cached
    assert not (await other.ask(AGAIN)).head.cached


# --- cancellation ------------------------------------------------------------------------------


@pytest.mark.parametrize("by_task", [False, True])
def test_a_call_that_is_cancelled_anywhere_leaves_the_layer_well(
    anyio_backend_name: str, by_task: bool
) -> None:
    """Whatever step it is cancelled at, sources are closed and the next call is answered."""

    def make() -> tuple[Any, Any]:
        disk = virtual_ports().stores.blobs
        world = World(["one ", 1.0, "two", Finish("stop")], store=OnDisk(disk), verify=slowly)

        async def scenario() -> None:
            await world.ask(RESET)
            await world.ask(AGAIN)

        async def check() -> None:
            assert world.transport.open_sources == 0
            assert (await world.ask(RESET)).text == "one two"
            assert (await world.ask(RESET)).head.cached
            await world.pipeline.aclose()

        return scenario, check

    assert each_step(make, backend=anyio_backend_name, by_task=by_task) > 5


async def slowly(_: Any, __: Any) -> bool:
    """Lets everything pass, after a moment."""
    await anyio.sleep(0.1)
    return True


async def test_many_at_once_are_each_answered() -> None:
    """Callers with two questions, at once and in any order, each get their own answer."""
    world = World(lambda request: f"about {request.messages[-1].text}", degrees={}, facts=False)
    world.embedder.degrees = {f"{topic} {number}": angle + number / 100
                              for topic, angle in (("dogs", 0.0), ("cats", 90.0))
                              for number in range(50)}  # fmt: skip
    found: dict[str, str] = {}

    async def ask(text: str) -> None:
        found[text] = (await world.ask(text)).text

    async with anyio.create_task_group() as group:
        for text in world.embedder.degrees:
            group.start_soon(ask, text)
    assert len(found) == 100
    assert all(text.split()[0] in answer for text, answer in found.items())
    assert (await world.ask("dogs 7")).head.cached


TEXTS = {
    f"question {letter}": angle for letter, angle in zip("abcde", (0, 5, 30, 35, 90), strict=True)
}
STEP = st.one_of(
    st.tuples(
        st.sampled_from(sorted(TEXTS)),
        st.sampled_from(["acme", "other"]),
        st.sampled_from([1, 2]),
        st.sampled_from(["use", "use", "refresh", "no_store", "bypass"]),
    ),
    st.sampled_from([1.0, 30.0, 80.0]),
    st.just("purge"),
)


@given(st.lists(STEP, max_size=25), st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_asked_no_answer_is_anothers(steps: list[Any], shared: bool) -> None:
    """An answer is the same tenant's, to the same rest, to a similar question, and young enough."""
    run_virtual(answered_rightly, steps, shared)


async def answered_rightly(steps: list[Any], shared: bool) -> None:
    """Play the steps, in one process or in two that take turns."""

    def answer(request: Any) -> str:
        text, context = request.messages[-1].text, request.context
        return f"{context.tenant}|{request.seed}|{text}|{anyio.current_time()}"

    disk = virtual_ports().stores.blobs
    worlds = [
        World(answer, degrees=TEXTS, ttl=100, facts=False, store=OnDisk(disk) if shared else None)
        for _ in range(1 + shared)
    ]
    for number, step in enumerate(steps):
        world = worlds[number % len(worlds)]
        if isinstance(step, float):
            await anyio.sleep(step)
        elif step == "purge":
            await world.layer.purge(world.pipeline, tenant="acme")
        else:
            text, tenant, seed, said = step
            response = await world.ask(text, tenant=tenant, seed=seed, said=said)
            whose, rest, question, made = response.text.split("|")
            assert (whose, rest) == (tenant, str(seed))
            assert abs(TEXTS[question] - TEXTS[text]) <= math.degrees(math.acos(0.9)) + 0.01
            assert anyio.current_time() - float(made) <= 110
            if said in {"refresh", "bypass"}:
                assert (question, float(made)) == (text, anyio.current_time())


def test_several_loops_at_once() -> None:
    """Two loops of asyncio and one of trio share what is kept, each waiting by itself."""
    disk = memory_stores().blobs
    ports = Ports(stores=memory_stores())
    world = World(degrees=TEXTS, store=OnDisk(disk), ports=ports, facts=False)
    failures: list[BaseException] = []

    async def work() -> None:
        for number in range(40):
            for text in TEXTS:
                assert (await world.ask(text, seed=number % 4)).text == "Press the button."

    def run(backend: str) -> None:
        try:
            anyio.run(work, backend=backend)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    threads = [
        threading.Thread(target=run, args=(name,)) for name in ("asyncio", "asyncio", "trio")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert world.calls <= 3 * 3 * 4
