"""The sixteen failover scenarios with the four dialects mixed as targets."""

from __future__ import annotations

from typing import Any

import pytest

from lamella import Pipeline
from lamella.testing import (
    FAILOVER_SCENARIOS,
    FailoverResult,
    FailoverScenario,
    play_failover,
    virtual_ports,
)
from lamella.testing import FailoverProvider as Provider
from providers import FIRST, SECOND

pytestmark = pytest.mark.anyio

NAMES = list(FIRST)
NEXT = [(first, NAMES[(number + 1) % 4]) for number, first in enumerate(NAMES)]
"""Each stands first once and second once."""

ACROSS = [(first, NAMES[(number + 2) % 4]) for number, first in enumerate(NAMES)]
"""The same, with others."""

LARGEST = {"google"}
"""Whose first model has as large a window as any second one: too much for it is so for all."""

BROKEN_IN_THE_MIDDLE = {"cut", "stall", "malformed", "no-prefill", "accounting"}


@pytest.fixture
def anyio_backend(lamella_virtual_backend: Any) -> Any:
    """Waits of a minute take none; the sockets are real."""
    return lamella_virtual_backend


async def played(
    scenario: FailoverScenario, first: Provider, second: Provider, mode: Any, **more: Any
) -> FailoverResult:
    """One scenario under `production` with two targets of different providers."""

    def make(transport: Any, other: Any) -> Pipeline:
        return Pipeline.preset(
            "production", transport=transport, fallback={"targets": [other]}, log=None,
            ports=virtual_ports(), **more,
        )  # fmt: skip

    return await play_failover(scenario, make, mode=mode, primary=first, secondary=second)


def expected(scenario: FailoverScenario, first: str) -> str:
    """An error that says so is all that is possible where no target has a larger window."""
    return "safe" if scenario.name == "context-length" and first in LARGEST else "pass"


@pytest.mark.parametrize("scenario", FAILOVER_SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize(("first", "second"), [*NEXT, *ACROSS])
async def test_a_run_passes_all_of_them(
    scenario: FailoverScenario, first: str, second: str
) -> None:
    """Whoever fails, in whatever words, the other answers."""
    result = await played(scenario, FIRST[first], SECOND[second], "run")
    assert result.grade == expected(scenario, first), result


@pytest.mark.parametrize("scenario", FAILOVER_SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize(("first", "second"), NEXT)
async def test_a_stream_passes_or_says_that_it_broke(
    scenario: FailoverScenario, first: str, second: str
) -> None:
    """What breaks after the first word is an error that says so, and no text comes twice."""
    result = await played(scenario, FIRST[first], SECOND[second], "stream")
    broken = scenario.name in BROKEN_IN_THE_MIDDLE
    assert result.grade == ("safe" if broken else expected(scenario, first)), result


@pytest.mark.parametrize("scenario", FAILOVER_SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize(("first", "second"), ACROSS)
async def test_a_held_stream_passes_all_of_them(
    scenario: FailoverScenario, first: str, second: str
) -> None:
    """Within the window of Hold a break has shown nothing yet, so it can be mended."""
    hold = {"tokens": 40}
    result = await played(scenario, FIRST[first], SECOND[second], "stream", hold=hold)
    assert result.grade == expected(scenario, first), result
