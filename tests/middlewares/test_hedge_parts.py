"""Hedge's parts: the times to the first event, and the share of calls that are sent twice."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lamella_middlewares.hedge._first_events import AGE, SAMPLES, FirstEvents
from lamella_middlewares.hedge._load import Load


@given(
    st.lists(st.tuples(st.floats(0, 30), st.floats(0.01, 100)), max_size=300),
    st.sampled_from([0.5, 0.9, 0.95, 0.999]),
)
def test_the_quantile_is_that_of_the_last_answers(
    samples: list[tuple[float, float]], share: float
) -> None:
    """At least that share of what is kept began within it, and it is a time that has occurred."""
    times, now, kept = FirstEvents(), 0.0, []
    for wait, seconds in samples:
        now += wait
        times.add(now, seconds)
        kept.append((now, seconds))
    recent = [seconds for at, seconds in kept if at >= now - AGE][-SAMPLES:]
    found = times.quantile(share, now, least=1)
    assert (found is None) == (not recent)
    if found is not None:
        assert found in recent
        assert sum(seconds <= found for seconds in recent) >= share * len(recent)
        reached = sum(seconds >= found for seconds in recent)
        assert reached >= (1 - share) * len(recent) - 1e-9
    assert times.quantile(share, now, least=len(recent) + 1) is None
    assert times.quantile(share, now + 2 * AGE, least=1) is None


class LoadMachine(RuleBasedStateMachine):
    """Whatever is called and asked, second copies stay a share of the calls that count."""

    def __init__(self) -> None:
        super().__init__()
        self.load = Load(0.2, 10)
        self.now = 0.0
        self.calls: list[float] = []
        self.copies: list[float] = []
        self.paused = -1.0

    def lately(self, instants: list[float]) -> int:
        return sum(at // 1 > self.now // 1 - 10 for at in instants)

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 12.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(count=st.integers(1, 9))
    def call(self, count: int) -> None:
        for _ in range(count):
            self.load.called(self.now)
            self.calls.append(self.now)

    @rule(seconds=st.sampled_from([0.5, 3.0]))
    def pause(self, seconds: float) -> None:
        self.load.pause(self.now, seconds)
        self.paused = max(self.paused, self.now + seconds)

    @rule()
    def take(self) -> None:
        refused = self.load.take(self.now)
        if self.now < self.paused:
            assert refused == "pushback"
        elif self.lately(self.copies) + 1 <= 0.2 * self.lately(self.calls) + 1e-9:
            assert refused is None
            self.copies.append(self.now)
        else:
            assert refused == "load"

    @invariant()
    def a_share(self) -> None:
        assert len(self.copies) <= 0.2 * len(self.calls) + 1e-9


TestLoad = LoadMachine.TestCase
TestLoad.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
