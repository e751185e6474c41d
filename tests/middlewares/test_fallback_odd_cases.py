"""Fallback where somebody does what few do: odd errors, parallel calls, state, wrong words."""

from __future__ import annotations

import math
import pickle
from typing import Any

import anyio
import pytest

from lamella import (
    CardBook,
    ChatRequest,
    ConfigurationError,
    Context,
    DeadlineExceeded,
    LamellaError,
    Pipeline,
    ServerError,
    Target,
    TargetsFailedError,
)
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.fallback import Fallback
from lamella_middlewares.retry import RetryBudget

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello", model="m")
STORED = ASK.evolve(extra={"store": True})


def down(name: str, error: Exception | None = None) -> Scripted:
    """A transport that always fails."""
    return Scripted([error or ServerError("x", status=500)], repeat=True, name=name)


def pipeline(layers: list[Any], transport: Any, **more: Any) -> Pipeline:
    """A pipeline with a clock and stores of its own."""
    return Pipeline(layers, transport, ports=virtual_ports(), **more)


# --- errors of other libraries ----------------------------------------------------------------


class Demanding(Exception):
    """One that is made of more than a message, as those of HTTP clients are."""

    def __init__(self, message: str, *, response: str) -> None:
        super().__init__(message)
        self.response = response


@pytest.mark.parametrize(
    "error",
    [
        Demanding("x", response="r"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
        OSError(5, "x"),
        ExceptionGroup("x", [ValueError()]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_any_exception_may_be_the_first_of_several(error: Exception) -> None:
    """Whatever its class wants to be made of; where the two cannot be one, `errors` has it."""
    pipe = pipeline([Fallback([down("other")], on=type(error))], down("own", error))
    with pytest.raises(TargetsFailedError) as caught:
        await pipe.run(ASK)
    failed = caught.value
    assert type(failed.errors[0]) is type(error)
    assert "2 targets have failed" in str(failed)
    if isinstance(error, Demanding):
        assert isinstance(failed, Demanding)
        assert failed.response == "r"
    if not isinstance(error, Demanding):  # which pickle itself cannot restore
        assert str(pickle.loads(pickle.dumps(failed))) == str(failed)


# --- calls that are made several times at once ------------------------------------------------


async def test_who_asks_more_often_at_once_than_there_are_targets_gets_an_answer() -> None:
    """Each target once, and then, as nobody is idle, the first again."""
    served: list[str] = []

    async def three(request: Any, call_next: Any) -> Any:
        async def one() -> None:
            served.append((await call_next(request)).served_by)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(one)
        return await call_next(request)

    own = Scripted(["x"], repeat=True, name="own", delay=1)
    other = Scripted(["x"], repeat=True, name="other", delay=1)
    await pipeline([three, Fallback([other])], own).run(ASK)
    assert sorted(served) == ["other", "own", "own"]


# --- what may have been processed -------------------------------------------------------------


async def test_a_nested_deadline_sends_nothing_elsewhere_that_must_not_be_done_twice() -> None:
    """The target may have been at it when its time was up."""
    slow = pipeline([Deadline(1)], Scripted([[math.inf]], repeat=True, name="slow"))
    other = Scripted(["fine"], repeat=True, name="other")
    pipe = pipeline([Fallback([other], primary=slow)], "mock")
    with pytest.raises(DeadlineExceeded):
        await pipe.run(STORED)
    assert (await pipe.run(ASK)).served_by == "other"


async def test_one_of_several_that_may_have_processed_it_is_enough() -> None:
    """Inside a target that has targets of its own."""
    nested = pipeline([Fallback([down("late", ServerError("x", status=504))])], down("own"))
    other = Scripted(["fine"], repeat=True, name="other")
    pipe = pipeline([Fallback([other], primary=nested)], "mock")
    with pytest.raises(TargetsFailedError):
        await pipe.run(STORED)
    assert (await pipe.run(ASK)).served_by == "other"


async def test_what_a_target_changes_decides_whether_it_may_be_done_twice() -> None:
    """The caller's request stores nothing; what the target is asked does."""
    first = {"name": "stored", "extra": {"store": True}}
    other = Scripted(["never"], name="other")
    late = down("own", ServerError("x", status=504))
    with pytest.raises(ServerError):
        await pipeline([Fallback([other], primary=first)], late).run(ASK)
    assert other.requests == []


# --- names and options ------------------------------------------------------------------------


async def test_a_target_is_never_called_as_a_credential_is() -> None:
    """Or breakers would take one for the other, and one of them would stay open."""
    keys = [Scripted(["x"], name="acme"), Scripted(["x"], name="acme")]
    single = Scripted(["x"], name="acme")
    pipe = pipeline([Fallback([Target.pool("acme", keys), single])], "mock")
    held = pipe.layers[0].targets
    names = [member.name for target in held for member in target.credentials or (target,)]
    assert len(set(names)) == 3
    await pipe.aclose()
    assert [one.closed for one in (*keys, single)] == [True] * 3


@pytest.mark.parametrize("required", ["eu", ["eu"], {"region": None}, {"region": ()}, {1: "eu"}, 0])
async def test_a_requirement_that_cannot_be_understood_is_refused(required: Any) -> None:
    """By what the request says, and not by a TypeError from somewhere inside."""
    request = ASK.evolve(context=Context(attributes={"require": required}))
    with pytest.raises(ConfigurationError, match="require"):
        await pipeline([Fallback(["m2"])], Scripted(["never"])).run(request)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fallback([Target("x", 5)]),  # type: ignore[arg-type]
        lambda: Fallback([Target("", None, {"model": "x"})]),
        lambda: Fallback([Target("x", None, {"model": "x"}, tags=5)]),  # type: ignore[arg-type]
        lambda: Fallback([Target("x", None, 5)]),  # type: ignore[arg-type]
        lambda: Target.pool("", [Scripted(["x"])]),
        lambda: Target.pool("x", [Scripted(["x"])], spread="yes"),  # type: ignore[arg-type]
        lambda: RetryBudget(namespace=[]),  # type: ignore[arg-type]
        lambda: RetryBudget(namespace=""),
        lambda: Pipeline([], "mock", max_attempts=True),
        lambda: Pipeline([], "mock", max_attempts=2.5),  # type: ignore[arg-type]
        lambda: Pipeline([], "mock", max_attempts=None),  # type: ignore[arg-type]
    ],
    ids=[
        "transport",
        "name",
        "tags",
        "changes",
        "pool",
        "spread",
        "list",
        "empty",
        "true",
        "fraction",
        "none",
    ],
)
def test_what_cannot_work_is_refused_when_it_is_made(make: Any) -> None:
    """Not at the first call."""
    with pytest.raises(ConfigurationError):
        make()


async def test_a_card_file_that_cannot_be_read_is_named() -> None:
    """Each time that it is needed, as it may be mended meanwhile."""
    book = CardBook(files=["/nowhere/cards.toml"])
    pipe = pipeline([Fallback(["m2"], book=book)], down("own"))
    for _ in range(2):
        with pytest.raises(LamellaError, match=r"/nowhere/cards\.toml"):
            await pipe.run(ASK)
