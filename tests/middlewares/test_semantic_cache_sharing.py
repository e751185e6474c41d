"""What others write where SemanticCache looks: nobody is given another's answer by it."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from semantic_caches import AGAIN, OTHER, RESET, OnDisk, World, noted, why

from lamella import ConfigurationError, DeadlineExceeded, EmbeddingResponse, Near, VectorIndex
from lamella._memory_vectors import MemoryVectors
from lamella.testing import virtual_ports
from lamella_middlewares.deadline import Deadline

pytestmark = pytest.mark.anyio


class Elsewhere:
    """An index that others can write to.

    Attributes:
        forged: What they have put into every partition.
        fault: What it fails with.
        failing: In which operations.
        delay: Seconds that a search takes.
    """

    def __init__(self) -> None:
        self.inner = MemoryVectors()
        self.forged: list[Near] = []
        self.removed: list[str] = []
        self.fault: Exception | None = None
        self.failing = {"add", "nearest", "remove", "purge"}
        self.delay = 0.0

    def _works(self, operation: str) -> None:
        if self.fault is not None and operation in self.failing:
            raise self.fault

    async def add(self, *args: Any, **more: Any) -> None:
        self._works("add")
        await self.inner.add(*args, **more)

    async def nearest(self, *args: Any, **more: Any) -> Sequence[Near]:
        self._works("nearest")
        await anyio.sleep(self.delay)
        return [*self.forged, *await self.inner.nearest(*args, **more)]

    async def remove(self, partition: str, key: str) -> bool:
        self._works("remove")
        self.removed.append(key)
        return await self.inner.remove(partition, key)

    async def purge(self, *, prefix: str = "") -> int:
        self._works("purge")
        return await self.inner.purge(prefix=prefix)

    async def aclose(self) -> None:
        pass


class Here(Elsewhere):
    """One of somebody's own making in this process, which nobody else can write to."""

    instant = True


async def keys(world: World) -> list[str]:
    """The addresses of what is kept."""
    page = await world.pipeline.ports.stores.blobs.entries()
    return [entry.key for entry in page.entries]


# --- an index that others can write to ---------------------------------------------------------


@pytest.mark.parametrize("changed", [{"tenant": "other"}, {"seed": 7}])
async def test_an_index_cannot_point_out_of_a_partition(changed: dict[str, Any]) -> None:
    """Whatever address it gives, no other tenant's or partition's answer is even read."""
    index = Elsewhere()
    world = World(lambda request: f"for {request.context.tenant}, {request.seed}", index=index)
    await world.ask(RESET, tenant="acme")
    [key] = await keys(world)
    index.forged = [Near(key, 1.0)]
    asked = {"tenant": "acme", **changed}
    response = await world.ask(RESET, **asked)
    assert response.text == f"for {asked['tenant']}, {asked.get('seed')}"
    assert (why(response), index.removed) == ("foreign", [key])


@pytest.mark.parametrize(("kind", "similarity"), [(Elsewhere, 1.0), (Here, 0.89), (Here, math.nan)])
async def test_an_index_cannot_lower_the_threshold(
    kind: type[Elsewhere], similarity: float
) -> None:
    """Where others can write to it, the vector that was kept with the answer decides."""
    index = kind()
    world = World(index=index, degrees={RESET: 0.0, AGAIN: 10.0, OTHER: 90.0})
    await world.ask(RESET)
    [key] = await keys(world)
    index.forged = [Near(key, similarity)]
    response = await world.ask(OTHER, said="no_store")
    assert (response.head.cached, why(response)) == (False, "nothing similar")
    index.forged = []
    [hit] = noted(await world.ask(AGAIN), "hit")
    assert hit["similarity"] == pytest.approx(0.9848, abs=1e-4)


async def test_a_tag_cannot_bring_an_answer_into_another_partition() -> None:
    """A request whose tag is the word of another partition is not found there."""
    disk = virtual_ports().stores.blobs
    one, other = (World(lambda r: f"seed {r.seed}", store=OnDisk(disk)) for _ in range(2))
    await one.ask(RESET, seed=1)
    [key] = [
        entry.key
        for entry in (await disk.entries()).entries
        if entry.key.startswith("semantic_cache::")
    ]
    word = key.rpartition(":")[2].partition("-")[0]
    await one.ask(RESET, seed=2, said={"tags": [word]})
    await disk.delete(key)
    response = await other.ask(AGAIN, seed=1)
    assert (response.text, why(response)) == ("seed 1", "nothing similar")


@pytest.mark.parametrize("disk", [False, True])
async def test_an_index_in_memory_serves_several_stores(disk: bool) -> None:
    """Layers with an index in common and stores of their own take nothing from each other."""
    index = MemoryVectors()
    one, other = (
        World(index=index, store=OnDisk(virtual_ports().stores.blobs) if disk else None)
        for _ in range(2)
    )
    await one.ask(RESET)
    assert why(await other.ask(AGAIN)) == "nothing similar"
    await other.layer.clear(other.pipeline)
    await anyio.sleep(6)
    assert (await one.ask(AGAIN)).head.cached


# --- an index that fails -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [ConfigurationError("no search"), ValueError("secret"), TypeError(), RuntimeError()]
)
@pytest.mark.parametrize("kind", [Elsewhere, Here])
async def test_an_index_that_fails_is_a_miss(
    kind: type[Elsewhere], fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it raises and wherever: a server without a search, say, is no caller's error."""
    for operation in ("nearest", "add", "remove"):
        index = kind()
        world = World(index=index)
        await world.ask(RESET)
        await world.pipeline.ports.stores.blobs.purge()
        index.fault, index.failing = fault, {operation}
        with caplog.at_level(logging.WARNING, "lamella"):
            response = await world.ask(AGAIN)
        assert response.text == "Press the button."
        assert why(response) == ("unavailable" if operation == "nearest" else "absent")
        if operation == "add":
            assert why(response, "not_stored") == "index unavailable"
    assert "secret" not in caplog.text


async def test_a_search_ends_with_the_deadline() -> None:
    """Who is in a hurry does not wait for an index that is slow and not yet out."""
    index = Elsewhere()
    world = World(index=index, outer=[Deadline(0.02)])
    index.delay = 0.04
    with pytest.raises(DeadlineExceeded):
        await world.ask(RESET)
    assert anyio.current_time() == pytest.approx(0.02)


# --- vectors of several lengths ----------------------------------------------------------------


@pytest.mark.parametrize("store", ["memory", "disk"])
@pytest.mark.parametrize("make", [MemoryVectors, Elsewhere])
async def test_vectors_of_two_lengths_leave_each_other_alone(make: Any, store: str) -> None:
    """One answer of another length, or half a fleet's, costs nothing that is there."""
    ports = virtual_ports()
    index: VectorIndex = make()
    disk = OnDisk(ports.stores.blobs) if store == "disk" else None
    world = World(index=index, ports=ports, store=disk, degrees={RESET: 0, AGAIN: 10, OTHER: 90})
    await world.ask(RESET)
    await world.ask(OTHER)
    short = world.embedder.degrees

    async def longer(request: Any) -> Any:
        angle = math.radians(short[request.inputs[0]])
        return EmbeddingResponse.of([[math.cos(angle), math.sin(angle), 0.0]])

    world.embedder.fault = longer
    assert why(await world.ask(RESET)) == "nothing similar"
    assert (await world.ask(AGAIN)).head.cached
    world.embedder.fault = None
    assert (await world.ask(OTHER)).head.cached
    inner = index if isinstance(index, MemoryVectors) else index.inner  # type: ignore[attr-defined]
    mirrored = store == "disk" and isinstance(index, MemoryVectors)
    assert len(inner) == (2 if mirrored else 3)  # what is mirrored is there once
    await world.layer.clear(world.pipeline)
    assert len(inner) == 0


async def test_what_other_processes_have_counted_is_counted() -> None:
    """As `Cache` does: what one has written down, another tells."""
    disk = virtual_ports().stores.blobs
    one, other = (World(store=OnDisk(disk)) for _ in range(2))
    await one.ask(RESET)
    await one.ask(AGAIN)
    await one.pipeline.aclose()  # which writes down what has not been yet
    stats = await other.layer.stats(other.pipeline)
    assert (stats.hits, stats.misses, stats.stored) == (1, 1, 1)
