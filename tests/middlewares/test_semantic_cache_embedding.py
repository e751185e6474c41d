"""Who embeds for SemanticCache: what fails there is a miss, and is held against nobody else."""

from __future__ import annotations

import logging
import math
from typing import Any

import anyio
import pytest
from semantic_caches import AGAIN, RESET, World, asked, noted, why

from lamella import (
    ConfigurationError,
    DeadlineExceeded,
    EmbeddingResponse,
    LimitedError,
    Pipeline,
    ServerError,
)
from lamella.testing import virtual_ports
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.fallback import Fallback
from lamella_middlewares.semantic_cache import SemanticCache

pytestmark = pytest.mark.anyio


async def hangs(_: Any) -> EmbeddingResponse:
    """Never answers."""
    await anyio.sleep_forever()
    raise AssertionError


async def nothing(_: Any) -> EmbeddingResponse:
    """Answers without a vector."""
    return EmbeddingResponse.of([])


async def nonsense(_: Any) -> EmbeddingResponse:
    """Answers with what is no direction."""
    return EmbeddingResponse.of([[math.nan, 1.0]])


async def zeros(_: Any) -> EmbeddingResponse:
    """Answers with what points nowhere."""
    return EmbeddingResponse.of([[0.0, 0.0]])


@pytest.mark.parametrize(
    ("fault", "reason", "seconds"),
    [
        (ServerError("x", status=500), "ServerError", 0.0),
        (RuntimeError("x"), "RuntimeError", 0.0),
        (ConfigurationError("x"), "ConfigurationError", 0.0),
        (hangs, "not over in 2 s", 2.0),
        (nothing, "it gave no vector", 0.0),
        (nonsense, "it gave no vector", 0.0),
        (zeros, "it gave no vector", 0.0),
    ],
    ids=["error", "foreign", "configuration", "hangs", "nothing", "nan", "zeros"],
)
async def test_what_the_embedder_does_wrong_is_a_miss(
    fault: Any, reason: str, seconds: float
) -> None:
    """The model is asked; nothing is kept, for nobody could find it."""
    world = World()
    world.embedder.fault = fault
    response = await world.ask(RESET)
    assert response.text == "Press the button."
    assert anyio.current_time() == pytest.approx(seconds)
    assert why(response, "embedding_failed") == reason
    assert (why(response), noted(response, "stored")) == ("no vector", [])
    world.embedder.fault = None
    assert why(await world.ask(AGAIN)) == "nothing similar"


async def test_a_dead_embedder_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """After five failures in a row it costs nothing, and is tried now and then."""
    world = World()
    world.embedder.fault = hangs
    with caplog.at_level(logging.WARNING, "lamella"):
        for _ in range(8):
            await world.ask(RESET)
        assert len(world.embedder.asked) == 5
        assert anyio.current_time() == pytest.approx(10.0)
        health = (await world.pipeline.health()).layers["semantic_cache"]
        assert health.well is False
        assert health.detail["error"] == "not over in 2 s"
        world.embedder.fault = None
        await anyio.sleep(10)
        await world.ask(RESET)
    assert (await world.ask(AGAIN)).head.cached
    assert (await world.pipeline.health()).layers["semantic_cache"].well is True
    assert len(caplog.records) == 2
    assert RESET not in caplog.text


async def test_a_slow_embedder_leaves_half_of_the_time() -> None:
    """The caller's deadline is not used up by what he has not asked for."""
    world = World(outer=[Deadline(1.0)])
    world.embedder.fault = hangs
    response = await world.ask(RESET)
    assert response.text == "Press the button."
    assert anyio.current_time() == pytest.approx(0.5)


async def test_a_deadline_that_has_passed_is_the_callers() -> None:
    """It is an error of the call, and not of the embedding."""
    world = World(outer=[Deadline(1.0)], delay=5.0)
    with pytest.raises(DeadlineExceeded):
        await world.ask(RESET)
    assert (await world.pipeline.health()).layers["semantic_cache"].well is True


async def test_another_embedder_finds_nothing_of_the_first_ones() -> None:
    """Vectors of two models are never compared, in whatever store."""
    ports = virtual_ports()
    one = World(ports=ports)
    await one.ask(RESET)
    layer = SemanticCache("another-model", threshold=0.9, tenant="shared")

    async def both(request: Any) -> Any:
        answer: Any = one.embedder if request.operation == "embeddings" else one.transport
        return await answer(request)

    pipeline = Pipeline([layer], both, ports=ports)
    assert why(await pipeline.run(asked(AGAIN))) == "nothing similar"
    assert (await pipeline.run(asked(RESET))).head.cached


# --- whose fault it is -------------------------------------------------------------------------


async def test_callers_in_a_hurry_say_nothing_of_the_embedder() -> None:
    """However many have no time for an embedding, the others' go on."""
    ports = virtual_ports()

    async def slow(_: Any) -> EmbeddingResponse:
        await anyio.sleep(0.3)
        return EmbeddingResponse.of([[1.0, 0.0]])

    hurried, patient = World(ports=ports, outer=[Deadline(0.2)]), World(ports=ports)
    hurried.embedder.fault = patient.embedder.fault = slow
    for _ in range(6):
        assert why(await hurried.ask(RESET), "embedding_failed") == "not over in 0.1 s"
    assert (await patient.pipeline.health()).layers["semantic_cache"].well is True
    assert noted(await patient.ask(RESET), "stored") != []


async def test_what_a_layer_refuses_says_nothing_of_the_embedder() -> None:
    """One tenant's limit does not leave all without a cache."""
    world = World()
    world.embedder.fault = LimitedError("x", code="rate_limited")
    for _ in range(6):
        assert why(await world.ask(RESET), "embedding_failed") == "LimitedError"
    world.embedder.fault = None
    await world.ask(RESET)
    assert (await world.ask(AGAIN)).head.cached


async def test_a_substitutes_vector_is_not_compared() -> None:
    """The vectors of two models have nothing to do with each other."""
    fails = [False]

    async def embed(request: Any) -> EmbeddingResponse:
        if request.model == "other":
            return EmbeddingResponse.of([[1.0, 0.0]])
        if fails[0]:
            raise ServerError("x", status=500)
        return EmbeddingResponse.of([[1.0, 0.0]])

    layer = SemanticCache(Pipeline([Fallback(["other"])], embed), tenant="shared")
    world = World()
    pipeline = Pipeline([layer], world.transport, ports=virtual_ports())
    await pipeline.run(asked(RESET))
    fails[0] = True
    assert why(await pipeline.run(asked(RESET)), "embedding_failed") == "another one stood in"
    fails[0] = False
    assert (await pipeline.run(asked(RESET))).head.cached


def embedder(angle: float) -> Any:
    """One of two that differ in what they were given only."""

    async def embed(_: Any) -> EmbeddingResponse:
        return EmbeddingResponse.of([[math.cos(angle), math.sin(angle)]])

    return embed


async def test_functions_that_were_given_something_else_are_other_embedders() -> None:
    """A function is told apart by what it closes over, too, and fails for itself."""
    ports, world = virtual_ports(), World()
    found = []
    for given in (embedder(0.0), embedder(0.1), Pipeline([], embedder(0.2)), embedder(0.0)):
        layer = SemanticCache(given, tenant="shared")
        pipeline = Pipeline([layer], world.transport, ports=ports)
        found.append((await pipeline.run(asked(RESET))).head.cached)
    assert found == [False, False, False, True]


async def test_one_dead_embedder_is_not_another() -> None:
    """Two that are called alike, as pipelines without a name are, fail each for itself."""
    ports, world = virtual_ports(), World()
    dead = Pipeline([SemanticCache(Pipeline([], hangs), tenant="a")], world.transport, ports=ports)
    well = SemanticCache(Pipeline([], embedder(0.0)), tenant="b")
    for _ in range(6):
        await dead.run(asked(RESET))
    assert (await dead.health()).layers["semantic_cache"].well is False
    pipeline = Pipeline([well], world.transport, ports=ports)
    assert noted(await pipeline.run(asked(RESET)), "stored") != []
