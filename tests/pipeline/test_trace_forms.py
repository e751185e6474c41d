"""A trace as a value: its JSON form, and what is read back from one."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import Attempt, ChatRequest, Money, Note, Outcome, Shown, Trace, TraceRecord, Usage
from lamella._trace import Span
from lamella._trace_forms import plain
from lamella._trace_records import AdoptedTrace


class Time:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


COUNT = st.integers(0, 10**12)
SECONDS = st.floats(-1e3, 1e6) | st.floats(allow_nan=False, allow_infinity=False)
MAYBE = st.none() | SECONDS
TEXT = st.text(max_size=8)
UNITS = st.dictionaries(TEXT, st.integers(1, 10**9), max_size=2)
USAGES = st.builds(
    Usage, uncached_input=COUNT, cache_read=COUNT, cache_write=UNITS, reasoning_output=COUNT,
    tool_units=UNITS, estimated=st.booleans(),
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | SECONDS | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
ATTEMPTS = st.builds(
    Attempt, index=st.integers(0, 99), branch=TEXT, provider=TEXT, model=st.none() | TEXT,
    start=SECONDS, first_event=MAYBE, end=MAYBE, outcome=st.none() | st.sampled_from(Outcome),
    committed=st.booleans(), usage=st.none() | USAGES,
    cost=st.none() | st.builds(Money, st.integers(), st.sampled_from(["USD", "EUR"])),
    cause=st.none() | TEXT, status=st.none() | st.integers(), request_id=st.none() | TEXT,
    substitute=st.booleans(), asked_by=TEXT,
)  # fmt: skip
PLACE = st.integers(0, 9) | st.integers()
WAITS = st.builds(Note, TEXT, st.just("x.wait"), st.fixed_dictionaries({"seconds": JSON}), SECONDS)
SPANS = st.builds(Span, TEXT, PLACE, SECONDS, SECONDS, st.none() | TEXT, st.none() | PLACE)
FACTS: dict[str, Any] = {
    "call_id": TEXT,
    "parent_id": st.none() | TEXT,
    "started": SECONDS,
    "seconds": SECONDS,
    "outcome": st.none() | st.sampled_from(Outcome),
    "attempts": st.lists(ATTEMPTS, max_size=2).map(tuple),
    "notes": st.lists(
        st.builds(Note, TEXT, TEXT, st.dictionaries(TEXT, JSON, max_size=2), SECONDS) | WAITS,
        max_size=2,
    ).map(tuple),
    "spans": st.lists(SPANS, max_size=2).map(tuple),
    "content": st.dictionaries(TEXT, JSON, max_size=1),
}
INNER = st.builds(TraceRecord, **FACTS)
RECORDS = st.builds(
    TraceRecord,
    **FACTS,
    adopted=st.lists(st.builds(AdoptedTrace, TEXT, SECONDS, SECONDS, INNER), max_size=1).map(tuple),
)


@settings(max_examples=40, deadline=None)
@given(RECORDS)
def test_what_is_written_is_read_again(record: TraceRecord) -> None:
    """Every field survives JSON, and every record can be drawn and shown."""
    assert TraceRecord.from_json(record.to_json()) == record
    assert record.draw()
    assert record.page().endswith("</html>\n")


def test_the_form_has_the_names_that_are_documented() -> None:
    """Names stay: programs read them."""
    time = Time()
    trace = Trace("c1", monotonic=time, wall=1000.0, parent_id="p")
    attempt = trace.open_attempt("/try2", "acme", "m")
    attempt.usage, attempt.cost = Usage(uncached_input=5, cache_write={"1h": 2}), Money(1_500)
    time.now = 2.0
    attempt.close(Outcome.COMPLETE, None)
    trace.note("retry", "retry.wait", seconds=1.0)
    trace.spans.append(Span("retry", 0, 0.0, 2.0))
    trace.finish(Outcome.COMPLETE)
    form = trace.to_dict()
    cost = {"amount": "0.000001500", "currency": "USD", "nano": 1500}
    usage = {
        "input_tokens": 7, "output_tokens": 0, "total_tokens": 7, "estimated": False,
        "parts": {"uncached_input": 5, "cache_write": {"1h": 2}},
    }  # fmt: skip
    assert form == {
        "version": 1, "call_id": "c1", "parent_id": "p", "started": 1000.0, "seconds": 2.0,
        "outcome": "complete", "usage": usage, "cost": cost, "costs": [cost],
        "attempts": [{
            "index": 0, "branch": "/try2", "provider": "acme", "model": "m", "start": 0.0,
            "first_event": None, "end": 2.0, "outcome": "complete", "committed": False,
            "usage": usage, "cost": cost, "cause": None, "status": None, "request_id": None,
            "substitute": False, "asked_by": "",
        }],
        "notes": [{"layer": "retry", "name": "retry.wait", "at": 2.0, "fields": {"seconds": 1.0}}],
        "layers": [{
            "layer": "retry", "depth": 0, "start": 0.0, "end": 2.0, "error": None, "attempt": None,
        }],
        "adopted": [], "content": {},
    }  # fmt: skip
    assert json.loads(trace.to_json(indent=2)) == form


def test_a_record_does_not_change_when_the_call_goes_on() -> None:
    """It is a value: attempts, notes and the time are those of the moment."""
    time = Time()
    trace = Trace("c1", monotonic=time, wall=0.0)
    trace.open_attempt("", "acme", None)
    record = trace.record()
    time.now = 5.0
    trace.note("x", "x.y")
    trace.finish(Outcome.COMPLETE)
    assert (record.outcome, record.seconds, record.notes) == (None, 0.0, ())
    assert (record.cost, record.attempts[0].outcome) == (None, None)


def test_content_goes_along_only_where_it_is_asked_for() -> None:
    """And it is what a redacting layer has shown, nothing else."""
    trace = Trace("c1", monotonic=Time(), wall=0.0)
    trace.content[""] = Shown(ChatRequest.of("I am [PERSON]"))
    assert "PERSON" not in trace.to_json() + trace.page() + trace.draw()
    assert trace.to_dict(content=True)["content"][""]["messages"][0]["content"] == "I am [PERSON]"
    assert "I am [PERSON]" in trace.page(content=True)


def test_an_adopted_call_is_whole_and_in_its_own_time() -> None:
    """With when it began and when it was adopted; its attempts are counted once."""
    time = Time()
    flight = Trace("flight", monotonic=time, wall=0.0)
    time.now = 1.0
    caller = Trace("caller", monotonic=time, wall=1.0)
    time.now = 3.0
    flight.open_attempt("/flight", "acme", "m").cost = Money(7)
    flight.note("cost", "cost.unknown")
    caller.adopt(flight, "/try1")
    (adopted,) = caller.record().adopted
    assert (adopted.branch, adopted.at, adopted.began) == ("/try1", 2.0, -1.0)
    assert [attempt.start for attempt in adopted.call.attempts] == [3.0]
    form = caller.to_dict()
    assert [attempt["start"] for attempt in form["attempts"]] == [2.0]
    assert form["cost"]["nano"] == 7
    assert "@ cost.unknown" in caller.draw()


class Odd:
    """What cannot even say what it is."""

    def __str__(self) -> str:
        raise ZeroDivisionError


def test_what_json_has_no_word_for_becomes_text() -> None:
    """In notes of anybody's layer: numbers without an end, sets, objects, bottomless lists."""
    bottomless: list[Any] = []
    bottomless.append(bottomless)
    found = plain({1: math.inf, "m": Money.of(2), "o": Odd(), "s": Outcome.LEFT, "t": (1, b"x")})
    assert found == {"1": "inf", "m": "$2", "o": "<Odd>", "s": "left", "t": [1, "b'x'"]}
    bottomless.append(bottomless)  # twice in itself: not twice as long at each of its depths
    assert plain(bottomless) == ["[[...], [...]]"] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "of version 2, and this Lamella reads those up to 1"),
        ({"version": None}, "version is missing"),
        ({"call_id": 5}, "call_id is 5, where a text is needed"),
        ({"started": "now"}, "started is 'now', where a number of seconds is needed"),
        ({"seconds": math.inf}, "seconds is inf"),
        ({"outcome": "lost"}, "outcome is 'lost', where one of not_sent, complete"),
        ({"attempts": {}}, "attempts is {}, where a list is needed"),
        ({"attempts": [{"index": 0, "provider": "p", "start": 0}, 7]}, r"attempts\[1\] is 7"),
        ({"notes": [{"name": "x"}]}, r"notes\[0\].at is missing"),
        ({"attempts": [{"index": 0, "provider": "p", "start": 0, "cost": {"nano": 1.5}}]}, "nano"),
        (
            {"attempts": [
                {"index": 0, "provider": "p", "start": 0, "usage": {"parts": {"cache_read": -1}}},
            ]},
            r"attempts\[0\].usage: Usage.cache_read is -1",
        ),
        ({"adopted": [{"at": 0, "began": 0}]}, r"adopted\[0\].call is missing"),
    ],
)  # fmt: skip
def test_a_form_that_is_none_is_refused(change: dict[str, Any], message: str) -> None:
    """With the place of the mistake, what stands there, and what is needed."""
    form = {"version": 1, "call_id": "c", "started": 0, "seconds": 1.5, **change}
    with pytest.raises(ValueError, match=message):
        TraceRecord.from_dict(form)


def test_text_that_is_no_json_is_refused() -> None:
    """Also where it is nested beyond reason."""
    for text in ("{", "[1]", "[" * 100_000):
        with pytest.raises(ValueError, match="no trace"):
            TraceRecord.from_json(text)
    deep = inner = {"version": 1, "call_id": "c", "started": 0, "seconds": 0}
    for _ in range(60):
        inner = {**deep, "adopted": [{"at": 0, "began": 0, "call": inner}]}
    with pytest.raises(ValueError, match="nested too deeply"):
        TraceRecord.from_dict(inner)
