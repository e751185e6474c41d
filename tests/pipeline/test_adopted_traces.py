"""A trace that pays for what another call did."""

from __future__ import annotations

import pytest

from lamella import Money, Outcome, Trace, Usage
from lamella._attempts import AttemptBound


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def spent(trace: Trace, nano: int, branch: str = "") -> None:
    """An attempt of one second that cost so much."""
    attempt = trace.open_attempt(branch, "acme", "m")
    attempt.usage = Usage(text_output=nano)
    attempt.cost = Money(nano)
    attempt.close(Outcome.COMPLETE, None)


def traces() -> tuple[Time, Trace, Trace]:
    """A caller's trace, and one of a call that began two seconds later."""
    time = Time()
    caller = Trace("caller", monotonic=time, wall=0.0)
    time.now += 2
    return time, caller, Trace("flight", monotonic=time, wall=2.0, parent_id="caller")


def test_adopted_attempts_are_counted_in_the_callers_time_and_order() -> None:
    """Its own come first; branches begin with the branch that it was done for."""
    time, caller, flight = traces()
    spent(caller, 1, "/try1")
    caller.adopt(flight, "/try2")
    time.now += 3
    spent(flight, 10, "/flight")
    found = [(one.index, one.branch, one.start, one.end) for one in caller.attempts]
    assert found == [(0, "/try1", 2, 2), (1, "/try2/flight", 5, 5)]
    assert (caller.cost, caller.usage.text_output) == (Money(11), 11)
    assert (flight.cost, len(flight.attempts), caller.adopted) == (Money(10), 1, (flight,))


def test_what_is_learnt_later_counts_too() -> None:
    """Nothing is copied: an attempt under way has no price yet, and then it has."""
    _, caller, flight = traces()
    caller.adopt(flight)
    attempt = flight.open_attempt("", "acme", "m")
    assert (caller.cost, caller.attempts[0].outcome) == (None, None)
    attempt.cost = Money(5)
    attempt.close(Outcome.CANCELLED, None)
    assert (caller.cost, caller.attempts[0].outcome) == (Money(5), Outcome.CANCELLED)


def test_disowned_attempts_are_counted_no_more() -> None:
    """Somebody else may adopt them then; disowning twice does nothing."""
    _, caller, flight = traces()
    caller.adopt(flight)
    spent(flight, 10)
    for _ in range(2):
        caller.disown(flight)
    assert (caller.cost, caller.attempts, caller.usage) == (Money(0), (), Usage())


def test_adopted_traces_may_have_adopted_others() -> None:
    """Each attempt is counted once, however deep."""
    time, caller, flight = traces()
    deeper = Trace("deeper", monotonic=time, wall=2.0)
    flight.adopt(deeper, "/a")
    caller.adopt(flight, "/b")
    spent(deeper, 3, "/c")
    spent(flight, 4)
    assert caller.cost == Money(7)
    assert [one.branch for one in caller.attempts] == ["/b", "/b/a/c"]


def test_no_trace_pays_for_itself() -> None:
    """Not by way of another, either."""
    _, caller, flight = traces()
    caller.adopt(flight)
    deeper = Trace("deeper", monotonic=Time(), wall=0.0)
    flight.adopt(deeper)
    for one, other in ((caller, caller), (flight, caller), (deeper, caller)):
        with pytest.raises(ValueError, match="adopt itself"):
            one.adopt(other)


def test_a_turn_counts_what_was_adopted_in_it() -> None:
    """In the order of time, from the adoption on at the earliest; other turns do not."""
    time, caller, flight = traces()
    turn, other = AttemptBound(), AttemptBound()
    spent(flight, 10, "/flight")
    time.now += 4
    caller.adopt(flight, "/try1", turn.within(1))
    time.now += 1
    own = caller.open_attempt("/try2", "acme", "m")
    own.bound = turn
    time.now += 1
    spent(flight, 20, "/flight")
    found = [(one.branch, one.start, one.usage) for one in caller.of_turn(turn)]
    assert found == [
        ("/try1/flight", 6, Usage(text_output=10)),
        ("/try2", 7, None),
        ("/try1/flight", 8, Usage(text_output=20)),
    ]
    assert caller.of_turn(other) == []
    caller.disown(flight)
    assert caller.of_turn(turn) == [own]
