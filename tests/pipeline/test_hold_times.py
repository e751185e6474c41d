"""What the times for which places are held say of a wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella._hold_times import HoldTimes


def test_nobody_knows_before_the_first() -> None:
    """A wait is not guessed from nothing."""
    assert HoldTimes().until(1, 10) is None


def test_a_place_comes_free_every_share_of_the_time() -> None:
    """Ten places held for 5 s each: one every half second."""
    holds = HoldTimes()
    holds.add(5.0)
    assert holds.until(1, 10) == pytest.approx(0.5)
    assert holds.until(4, 10) == pytest.approx(2.0)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.integers(1, 100))
def test_the_smoothed_time_lies_among_those_seen(seconds: list[float], limit: int) -> None:
    """No estimate is longer than the longest, or shorter than the shortest."""
    holds = HoldTimes()
    for one in seconds:
        holds.add(one)
    assert holds.seconds is not None
    assert min(seconds) * (1 - 1e-9) <= holds.seconds <= max(seconds) * (1 + 1e-9)
    assert holds.until(limit, limit) == pytest.approx(holds.seconds)


def test_it_follows_a_change() -> None:
    """After some forty, what was before hardly counts."""
    holds = HoldTimes()
    for one in [1.0] * 10 + [9.0] * 40:
        holds.add(one)
    assert holds.seconds == pytest.approx(9.0, rel=0.02)
