"""Counts of what has happened lately."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lamella._sliding_counts import SLOTS, SlidingCounts


def test_counts_expire_slot_by_slot() -> None:
    """Exact to a tenth of the span, and nothing is left of what is long past."""
    counts = SlidingCounts(10, 2)
    for instant in range(10):
        counts.add(float(instant), instant % 2)
    assert counts.at(9.5) == [5, 5]
    assert counts.at(10.0) == [4, 5]
    assert counts.at(1e9) == [0, 0]


def test_a_clock_that_is_read_late_or_begins_anew_does_no_harm() -> None:
    """Another thread may have read it a moment earlier; a test's clock begins at 0 again."""
    counts = SlidingCounts(10, 2)
    counts.add(1e9, 0)
    assert counts.at(1e9 - 0.5) == [1, 0]
    assert counts.at(0.0) == [0, 0]
    assert counts.add(0.0, 1) == [0, 1]


def test_the_shortest_span_counts_like_any_other() -> None:
    """Also where no float could tell its slots apart."""
    counts = SlidingCounts(5e-324, 1)
    assert counts.add(1e6, 0) == [1]
    assert counts.at(1e6 + 1) == [0]


@given(
    st.floats(0.5, 100),
    st.lists(st.tuples(st.floats(0, 20), st.integers(0, 2)), max_size=200),
)
def test_they_are_those_of_the_last_slots(span: float, things: list[tuple[float, int]]) -> None:
    """Whatever comes when, the totals are what a list of everything says; memory is bounded."""
    counts, now, seen = SlidingCounts(span, 3), 0.0, []
    width = span / SLOTS
    for wait, kind in things:
        now += wait
        totals = counts.add(now, kind)
        seen.append((int(now // width), kind))
        lately = [one for slot, one in seen if slot > int(now // width) - SLOTS]
        assert totals == [lately.count(one) for one in range(3)]
        assert len(counts._slots) <= SLOTS
