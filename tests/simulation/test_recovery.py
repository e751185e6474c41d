"""After a bad time a stack is well again at once: nothing that it has learnt holds it down."""

from __future__ import annotations

from typing import Any, cast

import pytest

from lamella.testing import FaultWindow, Load, SimulatedProvider, simulate

RATE = 20  # a second
LOAD = Load(rate=RATE, duration=180, leaves=0, cancels=0)
PIECES = 2  # enough for what happens between two pieces of an answer


@pytest.mark.parametrize("kind", ["throttle", "outage", "refuse", "stall"])
def test_production_recovers_within_a_minute(kind: str) -> None:
    """Of two providers one is away for a minute: hardly anybody notices, and it is used again."""
    faults = [FaultWindow(cast("Any", kind), 30, 90)]
    providers = [
        SimulatedProvider("primary", faults=faults, pieces=PIECES),
        SimulatedProvider("secondary", pieces=PIECES),
    ]
    report = simulate("production", providers, load=LOAD, mode="run", seed=3)
    assert report.holds, report.draw()
    assert report.success_rate > 0.97, report.draw()
    later = [moment for moment in report.timeline if 140 <= moment.start < 180]
    assert sum(moment.failed for moment in later) == 0, report.draw()


@pytest.mark.parametrize("kind", ["throttle", "outage"])
def test_a_single_provider_is_used_in_full_again(kind: str) -> None:
    """With nobody else to turn to, the minute is lost, and not a second minute after it."""
    faults = [FaultWindow(cast("Any", kind), 30, 90)]
    provider = SimulatedProvider("primary", faults=faults, pieces=PIECES)
    report = simulate("production", provider, load=LOAD, mode="stream", seed=4)
    assert report.holds, report.draw()
    later = [moment for moment in report.timeline if 140 <= moment.start < 180]
    assert sum(moment.failed for moment in later) == 0, report.draw()
    assert sum(moment.complete for moment in later) > RATE * 40 * 0.8, report.draw()
