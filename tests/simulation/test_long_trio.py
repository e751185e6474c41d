"""Half a million calls on trio, in parts: the laws hold, and memory stays flat."""

from __future__ import annotations

import gc
import resource

import pytest
from simulated_traffic import FAULTS, must_hold, traffic

pytestmark = pytest.mark.long

CALLS = 20_000
PARTS = 25
GROWTH = 64 * 1024
"""Kilobytes that the process may grow by after the first part: what allocators keep."""


@pytest.fixture(scope="module")
def grown() -> list[int]:
    """The peak memory of the process after each part."""
    return []


@pytest.mark.parametrize("part", range(PARTS))
def test_laws_hold_for_long(part: int, grown: list[int]) -> None:
    """Each part is a day or an hour of other traffic, with a seed of its own."""
    names = list(FAULTS)
    mode = ("run", "stream", "mixed")[part % 3]
    report = traffic(names[part % len(names)], "trio", mode, calls=CALLS, seed=1_000 + part)
    must_hold(report, calls=CALLS)
    del report
    gc.collect()
    grown.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    first = len(FAULTS)
    assert len(grown) <= first or grown[-1] - max(grown[:first]) < GROWTH
