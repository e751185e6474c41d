"""Faults and plans as data: their textual form, their bounds, their order."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.testing._faults import MALFORMED, Faults
from lamella.testing._plan import Plan

_latin = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"))
_times = st.floats(min_value=0, allow_nan=False)
_counts = st.integers(min_value=0, max_value=10**9)
_at = st.lists(st.tuples(st.integers(0, 99), st.binary(max_size=20)), max_size=3).map(tuple)
_some = st.fixed_dictionaries(
    {},
    optional={
        "status": st.integers(100, 999),
        "headers": st.lists(
            st.tuples(st.sampled_from(["retry-after", "Server", "delays"]), _latin)
        ),
        "body": st.binary(max_size=30),
        "delay": _times,
        "hold_headers": st.booleans(),
        "bandwidth": st.floats(min_value=1e-3, allow_nan=False, allow_infinity=False),
        "slice": st.integers(1, 99),
        "limit_data": _counts,
        "limit_clean": st.booleans(),
        "fin_no_terminator": st.integers(0, 9),
        "close_idle": st.sampled_from([None, "now", "next"]),
        "malformed_at": _at,
        "insert": _at,
        "status_line": _latin,
    },
)


@given(_some)
def test_text_round_trips(values: dict[str, object]) -> None:
    """The text of any faults is plain ASCII on one line and reads back as the same faults."""
    faults = Faults(**values)  # type: ignore[arg-type]
    text = str(faults)
    assert Faults.parse(text) == faults
    assert text.isascii()
    assert text.isprintable()


def test_text_of_verbs_and_headers() -> None:
    """A name with a dash that is no verb is a header; times take 'forever'; - does for _."""
    faults = Faults.parse("status=429; retry-after=2; header.Server=x; hold-headers; stall=forever")
    assert faults == Faults(
        status=429, headers=(("retry-after", "2"), ("Server", "x")), hold_headers=True
    )
    assert faults.hold_headers == math.inf


def test_text_of_bytes() -> None:
    """Bytes are bare up to the next separator, or quoted with escapes."""
    faults = Faults.parse(r'body={"a": 1}; insert=0:": ping\n\n"; insert=2:"a;b"; malformed_at=3')
    assert faults.body == b'{"a": 1}'
    assert faults.insert == ((0, b": ping\n\n"), (2, b"a;b"))
    assert faults.malformed_at == ((3, MALFORMED),)


def test_empty_text_is_no_faults() -> None:
    """No text means no faults, and no faults make no text."""
    assert Faults.parse(" ; ") == Faults()
    assert str(Faults()) == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("statsu=429", "Did you mean 'status'.*Known verbs: bandwidth, blackhole"),
        ("hold-header=2", "Did you mean 'hold_headers'"),
        ("delay=soon", "'delay'.*'soon'.*seconds or 'forever'"),
        ("status", "'status'.*whole number.*needs a value"),
        ("status=42", "three digits"),
        ('body="open', "not closed"),
        (r'body="\q"', "unknown escape"),
        ("status=429 | ok", "Plan.parse"),
        ("delay=1; delay=2", "given twice"),
        ("insert=3", "CHUNK"),
        ("=3", "expected name=value at character 0"),
        ("limit_data=-1", "0 or more"),
        ("delay=nan", "0 or more"),
        ("bandwidth=0", "more than 0"),
        ("close_idle=later", "close_idle"),
        (r'retry-after="a\nb"', "one line of Latin-1"),
        ("malformed_at=-1:x", "count from 0"),
    ],
)
def test_wrong_text_says_what_to_do(text: str, says: str) -> None:
    """A text that cannot be read names the verb, the value and what was expected."""
    with pytest.raises(ValueError, match=says):
        Faults.parse(text)


def test_combining_prefers_the_right() -> None:
    """Two sets of faults combine; where both speak, the right one holds."""
    both = Faults(status=429, delay=1) | Faults(status=503, gzip=True)
    assert both == Faults(status=503, delay=1, gzip=True)


def test_plan_gives_each_request_its_faults() -> None:
    """A plan gives its steps in order and then what follows, for ever."""
    first, last = Faults(status=503), Faults(status=500)
    plan = Plan([first, None], then=last)
    assert [plan.next() for _ in range(4)] == [first, None, last, last]
    assert plan.taken == 4


def test_plan_from_text() -> None:
    """The steps of a plan are separated by bars; quoted ones are part of a value."""
    plan = Plan.parse('status=429; body="a|b" | ok | reset_at=9')
    steps = [Faults(status=429, body=b"a|b"), None, Faults(reset_at=9), None]
    assert [plan.next() for _ in range(4)] == steps
    with pytest.raises(ValueError, match="statsu"):
        Plan.parse("ok | statsu=1")


def test_flapping_repeats_with_its_seed() -> None:
    """A flapping plan hits its share of requests, the same ones for the same seed."""
    down = Faults(status=503)

    def draw(seed: int) -> list[Faults | None]:
        plan = Plan.flapping(0.25, down, Random(seed))
        return [plan.next() for _ in range(1000)]

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)
    assert 200 < sum(step is down for step in draw(7)) < 300


@pytest.mark.parametrize("probability", [-0.1, 1.1, math.nan])
def test_probability_lies_between_0_and_1(probability: float) -> None:
    """A probability outside 0 to 1 is refused."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        Plan.flapping(probability, Faults(), Random(1))


def test_weights_must_be_positive() -> None:
    """Weights below 0, or none above 0, are refused."""
    for weights in ([], [0.0], [-1.0, 2.0]):
        with pytest.raises(ValueError, match="at least one above 0"):
            Plan.weighted([(None, weight) for weight in weights], Random(1))
