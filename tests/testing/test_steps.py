"""Cancelling at every step: all steps are tried, and what is left is found."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from lamella.testing import Scenario, cancelled_at, each_step


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    """Both event loops."""
    return str(request.param)


async def nothing() -> None:
    """Nothing to check."""


def test_every_await_is_a_step(backend: str) -> None:
    """The scenario is cancelled once at each of its awaits, and once not at all."""
    reached: list[int] = []

    def make() -> tuple[Scenario, Scenario]:
        async def scenario() -> None:
            done = 0
            try:
                for _ in range(5):
                    await anyio.sleep(1)
                    done += 1
            finally:
                reached.append(done)

        return scenario, nothing

    assert each_step(make, backend=backend) >= 5
    assert set(reached) == {0, 1, 2, 3, 4, 5}
    assert reached[-1] == 5


def test_what_is_over_is_not_cancelled_again(backend: str) -> None:
    """A second cancellation is tried for as long as the clean-up takes, and no longer."""
    runs: list[str] = []

    def make() -> tuple[Scenario, Scenario]:
        async def scenario() -> None:
            runs.append("run")
            await anyio.sleep(1)

        return scenario, nothing

    assert each_step(make, backend=backend, again=(50, 60)) + 1 == len(runs)


def leaking(*, shielded: bool) -> Any:
    """Makes scenarios that forget to give back what they took when they are cancelled."""

    def make() -> tuple[Scenario, Scenario]:
        taken: list[str] = []

        async def scenario() -> None:
            taken.append("permit")
            try:
                await anyio.sleep(1)
            finally:
                with anyio.CancelScope(shield=shielded):
                    await anyio.sleep(0.1)  # cancelled here, the next line is not reached
                taken.clear()

        async def check() -> None:
            assert taken == []

        return scenario, check

    return make


def test_what_is_left_behind_is_found(backend: str) -> None:
    """A check that fails ends all; a note names the step."""
    with pytest.raises(AssertionError) as left:
        each_step(leaking(shielded=False), backend=backend)
    assert any("cancelled at step (1,)" in note for note in left.value.__notes__)
    assert each_step(leaking(shielded=True), backend=backend, again=(1, 2)) > 1


def test_task_cancellation_goes_through_shields() -> None:
    """With `by_task` a shield does not help against the second cancellation."""
    with pytest.raises(AssertionError):
        each_step(leaking(shielded=True), by_task=True, again=(1,))


def test_what_a_scenario_raises_is_raised(backend: str) -> None:
    """An error of the scenario's own is not mistaken for its cancellation."""

    def make() -> tuple[Scenario, Scenario]:
        async def scenario() -> None:
            await anyio.sleep(1)
            raise LookupError("mine")

        return scenario, nothing

    with pytest.raises(LookupError, match="mine"):
        each_step(make, backend=backend)


def test_a_scenario_without_end_is_reported(backend: str) -> None:
    """A scenario that takes more steps than allowed is an error."""

    def make() -> tuple[Scenario, Scenario]:
        async def scenario() -> None:
            for _ in range(1000):
                await anyio.sleep(1)

        return scenario, nothing

    with pytest.raises(AssertionError, match="not through after 20 steps"):
        each_step(make, backend=backend, limit=20)


def test_errors_that_nobody_awaits_are_reported() -> None:
    """What asyncio would only log is an error here."""
    import asyncio

    def make() -> tuple[Scenario, Scenario]:
        async def scenario() -> None:
            asyncio.get_running_loop().call_soon(lambda: 1 // 0)
            await anyio.sleep(1)

        return scenario, nothing

    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        each_step(make)


@pytest.mark.anyio
async def test_one_run_can_be_cancelled_on_any_loop() -> None:
    """On a loop in real time too: a step is a suspension of the scenario itself."""
    done: list[int] = []

    async def scenario() -> None:
        for number in range(3):
            await anyio.sleep(0.001)
            done.append(number)

    reached = [await cancelled_at((step,), scenario) for step in (1, 2, 500)]
    assert reached == [True, True, False]
    assert done[-3:] == [0, 1, 2]
