"""Random stacks under random faults: the laws hold for each seed."""

from __future__ import annotations

import pytest

from lamella.cli._simulate import replay
from lamella.testing import campaign_simulation

REQUESTS = 100


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("seed", range(30))
def test_laws_hold_for_random_stacks(seed: int, backend: str) -> None:
    """Whatever stands in the stack, whatever goes wrong and however callers behave."""
    report = campaign_simulation(seed, requests=REQUESTS, backend=backend).run()
    assert report.calls == REQUESTS
    assert report.holds, f"Replay: {replay(seed, REQUESTS, backend)}\n{report.draw()}"


@pytest.mark.long
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("first", range(1_000, 3_000, 50))
def test_laws_hold_for_many_random_stacks(first: int, backend: str) -> None:
    """The same for thousands of seeds."""
    for seed in range(first, first + 50):
        report = campaign_simulation(seed, backend=backend).run()
        assert report.holds, f"Replay: {replay(seed, 400, backend)}\n{report.draw()}"


def test_a_seed_is_one_simulation() -> None:
    """The same seed draws the same stack, faults and callers; another one others."""
    one, same, other = (campaign_simulation(seed, requests=40).run() for seed in (5, 5, 6))
    assert (one.stack, one.faults, one.digest) == (same.stack, same.faults, same.digest)
    assert one.digest != other.digest
