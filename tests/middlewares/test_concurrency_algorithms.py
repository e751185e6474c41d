"""What an adaptive limit learns from how attempts end."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella_middlewares.concurrency._aimd import AIMD, BACKOFF, REGAINED
from lamella_middlewares.concurrency._gradient import WINDOW_SAMPLES, Gradient

KINDS = [AIMD, Gradient]


def window(
    gradient: Gradient, at: float, seconds: float, *, in_flight: int, streamed: bool = True
) -> None:
    """So many samples over a second that a window ends with the last."""
    for number in range(WINDOW_SAMPLES):
        now = at + number / (WINDOW_SAMPLES - 1)
        gradient.succeeded(now, in_flight, seconds, started=now, streamed=streamed)


# --- AIMD -------------------------------------------------------------------------------------


def test_before_the_first_throttle_each_success_adds_one() -> None:
    """It finds a capacity far above its start within a few round trips."""
    limit = AIMD(20, 1, 100)
    for _ in range(10):
        limit.succeeded(1.0, 20, None, started=1.0, streamed=False)
    assert limit.limit == 30


def test_after_it_a_round_trip_adds_one() -> None:
    """A capacity is near, so it is felt for step by step."""
    limit = AIMD(20, 1, 100)
    assert limit.throttled(1.0, 0.0)
    before = limit.limit
    for _ in range(int(before)):
        limit.succeeded(2.0, 20, None, started=2.0, streamed=False)
    assert limit.limit == pytest.approx(before + 1, abs=0.05)


def outage(limit: AIMD, *, at: float, throttles: int = 60) -> None:
    """A provider that refuses everything for a while."""
    for number in range(throttles):
        limit.throttled(at + number, at + number)


def test_after_an_outage_it_grows_quickly_up_to_two_thirds_of_what_it_was() -> None:
    """Place by place it would take minutes to win back what a short outage has cost."""
    limit = AIMD(90, 1, 100)
    outage(limit, at=1.0)
    assert limit.limit == 1
    for _ in range(59):
        limit.succeeded(99.0, 100, None, started=98.0, streamed=False)
    assert limit.limit == 60
    limit.succeeded(99.0, 100, None, started=98.0, streamed=False)
    assert limit.limit == pytest.approx(60 + 1 / 60)


def test_what_began_before_a_throttle_says_nothing_about_the_time_after_it() -> None:
    """Streams that go on while everything new is refused are no sign of recovery."""
    limit = AIMD(90, 1, 100)
    limit.throttled(1.0, 0.5)
    for number in range(60):
        limit.succeeded(1.1 + number, 90, None, started=0.5, streamed=True)
        limit.throttled(1.2 + number, 1.1 + number)
    assert limit.limit == 1
    for _ in range(59):
        limit.succeeded(99.0, 100, None, started=98.0, streamed=False)
    assert limit.limit == 60


def test_a_throttle_on_the_way_back_makes_the_way_shorter() -> None:
    """The capacity has become smaller: from there on it is felt for step by step."""
    limit = AIMD(90, 1, 100)
    outage(limit, at=1.0)
    for _ in range(29):
        limit.succeeded(99.0, 100, None, started=98.0, streamed=False)
    assert limit.limit == 30
    limit.throttled(100.0, 99.5)
    before = limit.limit
    limit.succeeded(102.0, 100, None, started=101.0, streamed=False)
    assert limit.limit == pytest.approx(before + 1 / before)


def test_quick_recovery_stops_exactly_at_two_thirds() -> None:
    """It does not step over the mark that it stops at."""
    limit = AIMD(100, 1, 200)
    outage(limit, at=1.0)
    while limit.limit < 100 * REGAINED:
        before = limit.limit
        limit.succeeded(99.0, 200, None, started=98.0, streamed=False)
        assert limit.limit <= max(100 * REGAINED, before + 1 / before)


def round_trips(limit: AIMD, capacity: int, count: int, *, at: float) -> list[tuple[float, int]]:
    """A provider that serves so many at a time and throttles the rest, with all places used.

    Returns:
        Of each round trip the limit at its end, and how many were throttled.
    """
    found: list[tuple[float, int]] = []
    for number in range(count):
        start, sent = at + number, int(limit.limit)
        for _ in range(min(sent, capacity)):
            limit.succeeded(start + 0.9, sent, None, started=start, streamed=False)
        throttled = max(0, sent - capacity)
        for _ in range(throttled):
            limit.throttled(start + 0.95, start)
        found.append((limit.limit, throttled))
    return found


@pytest.mark.parametrize("capacity", [60, 40, 10])
def test_after_an_outage_it_finds_the_capacity_and_stays_there(capacity: int) -> None:
    """Two thirds of what was are back in six round trips; a smaller capacity is overrun once."""
    limit = AIMD(20, 1, 200)
    round_trips(limit, 60, 100, at=0.0)
    outage(limit, at=1000.0, throttles=100)
    assert limit.limit == 1
    back = round_trips(limit, capacity, 150, at=2000.0)
    assert back[5][0] > min(capacity, 60 * REGAINED) * 0.95
    assert max(found for found, _ in back) <= max(2.5 * capacity, 60 * REGAINED)
    settled = back[16:]
    assert max(over for _, over in settled) <= 1
    assert all(min(capacity, 60 * REGAINED) * 0.9 <= found <= capacity + 2 for found, _ in settled)


@pytest.mark.parametrize("kind", KINDS)
def test_a_throttle_takes_a_tenth(kind: type[AIMD]) -> None:
    """Netflix' figure; those that were sent before it say nothing about the lowered limit."""
    limit = kind(20, 1, 100)
    assert limit.throttled(5.0, 4.0)
    assert limit.limit == 20 * BACKOFF
    assert not limit.throttled(5.1, 4.5)
    assert limit.limit == 20 * BACKOFF
    assert limit.throttled(7.0, 5.0)
    assert limit.limit == pytest.approx(20 * BACKOFF**2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_that_is_not_used_does_not_grow(kind: type[AIMD]) -> None:
    """With less than half of it in flight, nothing has shown that more would do."""
    limit = kind(20, 1, 100)
    for now in range(200):
        limit.succeeded(float(now), 9, 1.0, started=float(now), streamed=True)
    assert limit.limit == 20


@pytest.mark.parametrize("kind", KINDS)
@given(
    data=st.lists(
        st.tuples(
            st.booleans(),
            st.floats(0, 10),
            st.integers(1, 300),
            st.none() | st.floats(0, 1e4),
            st.booleans(),
        ),
        max_size=200,
    ),
    low=st.integers(1, 10),
    span=st.integers(0, 100),
)
def test_it_stays_within_its_bounds(
    kind: type[AIMD],
    data: list[tuple[bool, float, int, float | None, bool]],
    low: int,
    span: int,
) -> None:
    """Whatever happens, in whatever order, also with a clock that begins anew."""
    limit = kind(low + span / 2, low, low + span)
    for good, now, in_flight, first_event, streamed in data:
        if good:
            limit.succeeded(now, in_flight, first_event, started=now, streamed=streamed)
        else:
            limit.throttled(now, now / 2)
        assert low <= limit.limit <= low + span
        assert math.isfinite(limit.limit)


# --- gradient ---------------------------------------------------------------------------------


def test_steady_times_let_it_grow_by_the_room_for_a_queue() -> None:
    """A fifth of the limit's square root at a time."""
    gradient = Gradient(25, 1, 100)
    window(gradient, 0, 0.5, in_flight=25)
    assert gradient.limit == pytest.approx(25 + 5 * 0.2)


def test_half_more_is_tolerated() -> None:
    """Times vary; only what is slower than one and a half times the average lowers the limit."""
    gradient = Gradient(25, 1, 1000)
    for at in range(0, 40, 2):
        window(gradient, at, 0.5, in_flight=900)
    before = gradient.limit
    window(gradient, 100, 0.7, in_flight=900)
    assert gradient.limit > before


def test_rising_times_lower_the_limit_before_any_throttle() -> None:
    """A queue forms at the provider: the first events come four times as late."""
    gradient = Gradient(100, 1, 1000)
    for at in range(0, 20, 2):
        window(gradient, at, 0.5, in_flight=900)
    before = gradient.limit
    for at in range(100, 110, 2):
        window(gradient, at, 2.0, in_flight=900)
    assert gradient.limit < 0.75 * before


def test_the_average_forgets_slow_times_sooner_than_fast_ones() -> None:
    """After an hour of slowness it must not call the next slowness normal for ten more."""
    gradient = Gradient(100, 1, 1000)
    for at in range(0, 20, 2):
        window(gradient, at, 4.0, in_flight=900)
    for at in range(100, 200, 2):
        window(gradient, at, 0.5, in_flight=900)
    before = gradient.limit
    for at in range(300, 310, 2):
        window(gradient, at, 4.0, in_flight=900)
    assert gradient.limit < before


def test_streams_are_compared_with_streams_only() -> None:
    """An answer in one piece has its first event at its end: that is not slowness."""
    gradient = Gradient(25, 1, 1000)
    for at in range(0, 40, 2):
        window(gradient, at, 0.3, in_flight=900)
        window(gradient, at, 9.0, in_flight=900, streamed=False)
    assert gradient.limit > 25 + 30


def test_one_slow_answer_does_nothing() -> None:
    """The mean of a window of ten counts, not a single time."""
    gradient = Gradient(25, 1, 1000)
    for at in range(0, 20, 2):
        window(gradient, at, 1.0, in_flight=900)
    before = gradient.limit
    gradient.succeeded(100.0, 900, 4.0, started=100.0, streamed=True)
    window(gradient, 100.1, 1.0, in_flight=900)
    assert gradient.limit > before


def test_without_a_first_event_nothing_is_learnt() -> None:
    """An empty answer has none."""
    gradient = Gradient(25, 1, 1000)
    for now in range(100):
        gradient.succeeded(float(now), 25, None, started=float(now), streamed=True)
    assert gradient.limit == 25
