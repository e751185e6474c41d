"""Forty thousand calls through `production` on asyncio: whatever happens, all laws hold."""

from __future__ import annotations

import pytest
from simulated_traffic import FAULTS, must_hold, traffic

CALLS = 5_000


@pytest.mark.parametrize("mode", ["run", "stream"])
@pytest.mark.parametrize("name", FAULTS)
def test_laws_hold_under_traffic(name: str, mode: str) -> None:
    """Nothing is lost, leaked, counted twice or late; and a provider that is well serves all."""
    report = traffic(name, "asyncio", mode, calls=CALLS)
    must_hold(report, calls=CALLS)
    if name == "calm":
        assert report.success_rate == 1
        assert report.attempts_per_call < 1.01
    else:
        assert 0 < report.success_rate < 1
