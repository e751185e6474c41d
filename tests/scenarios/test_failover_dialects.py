"""The sixteen failover scenarios with the four dialects mixed as targets."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from lamella import Pipeline
from lamella.testing import FAILOVER_SCENARIOS, FailoverScenario, play_failover, virtual_ports
from providers import FIRST, SECOND

pytestmark = pytest.mark.anyio

NAMES = list(FIRST)
MODES: dict[str, dict[str, Any]] = {
    "run": {"mode": "run"},
    "stream": {"mode": "stream"},
    "held": {"mode": "stream", "hold": {"tokens": 40}},
}


def taking_turns(mode: str) -> pytest.MarkDecorator:
    """Every scenario with everybody as the first.

    Who comes second, and the event loop, take turns. In each mode each pair meets on each loop,
    and each scenario each second one; in all modes together each scenario meets each pair, and
    each first one on each loop. `test_failover` plays all scenarios in every way on both loops.
    """
    offset = list(MODES).index(mode)
    cases: list[Any] = []
    for place, scenario in enumerate(FAILOVER_SCENARIOS):
        for number, first in enumerate(NAMES):
            second = NAMES[(number + 1 + (place + offset) % 3) % 4]
            loop = ("asyncio", "trio")[(place + number + offset) % 2]
            name = f"{first}-{second}-{scenario.name}-{loop}"
            cases.append(pytest.param(scenario, first, second, loop, id=name))
    names = ("scenario", "first", "second", "lamella_virtual_backend")
    return pytest.mark.parametrize(names, cases, indirect=names[-1:])


LARGEST = {"google"}
"""Whose first model has as large a window as any second one: too much for it is so for all."""

BROKEN_IN_THE_MIDDLE = {"cut", "stall", "malformed", "no-prefill", "accounting"}


@pytest.fixture
def anyio_backend(lamella_virtual_backend: Any) -> Any:
    """Waits of a minute take none; the sockets are real."""
    return lamella_virtual_backend


async def must_go_well(scenario: FailoverScenario, first: str, second: str, mode: str) -> None:
    """One scenario under `production` with two targets of different providers."""
    more = dict(MODES[mode])
    played_as = more.pop("mode")

    def make(transport: Any, other: Any) -> Pipeline:
        return Pipeline.preset(
            "production", transport=transport, fallback={"targets": [other]}, log=None,
            ports=virtual_ports(), **more,
        )  # fmt: skip

    result = await play_failover(
        scenario, make, mode=played_as, primary=FIRST[first], secondary=SECOND[second]
    )
    assert result.grade == expected(scenario, first, mode), (first, second, result)


def expected(scenario: FailoverScenario, first: str, mode: str) -> str:
    """An error that says so is all that is possible where no target has a larger window.

    So it is where a stream breaks that the caller has seen the beginning of.
    """
    if mode == "stream" and scenario.name in BROKEN_IN_THE_MIDDLE:
        return "safe"
    return "safe" if scenario.name == "context-length" and first in LARGEST else "pass"


@taking_turns("run")
async def test_a_run_passes_all_of_them(
    scenario: FailoverScenario, first: str, second: str
) -> None:
    """Whoever fails, in whatever words, the other answers."""
    await must_go_well(scenario, first, second, "run")


@taking_turns("stream")
async def test_a_stream_passes_or_says_that_it_broke(
    scenario: FailoverScenario, first: str, second: str
) -> None:
    """What breaks after the first word is an error that says so, and no text comes twice."""
    await must_go_well(scenario, first, second, "stream")


@taking_turns("held")
async def test_a_held_stream_passes_all_of_them(
    scenario: FailoverScenario, first: str, second: str
) -> None:
    """Within the window of Hold a break has shown nothing yet, so it can be mended."""
    await must_go_well(scenario, first, second, "held")


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("first", "second"), list(permutations(NAMES, 2)))
async def test_all_of_them_with_every_pair(first: str, second: str, mode: str) -> None:
    """No turns: all sixteen, every way, on both loops."""
    for scenario in FAILOVER_SCENARIOS:
        await must_go_well(scenario, first, second, mode)
