"""Usage of the Messages API in disjoint parts."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic_wire import answer, last, said, start, streamed_events, whole_events
from hypothesis import given
from hypothesis import strategies as st

from lamella import Usage, UsageReport
from lamella_anthropic._usage import joined_usage, usage_of

CACHED: dict[str, Any] = {
    "input_tokens": 12,
    "cache_creation_input_tokens": 700,
    "cache_read_input_tokens": 4_000,
    "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 500},
    "output_tokens": 90,
    "output_tokens_details": {"thinking_tokens": 64},
    "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
    "service_tier": "standard",
    "inference_geo": None,
}


def report(events: list[Any]) -> Usage:
    """The usage that events report."""
    (found,) = [event for event in events if isinstance(event, UsageReport)]
    return found.usage


def test_cache_tokens_are_added_and_thinking_is_taken_out() -> None:
    """The parts add up to what the provider bills."""
    usage = report(whole_events(answer(usage=CACHED)))
    assert usage == Usage(
        uncached_input=12,
        cache_read=4_000,
        cache_write={"5m": 200, "1h": 500},
        text_output=26,
        reasoning_output=64,
        tool_units={"web_search": 2},
    )
    assert (usage.input_tokens, usage.output_tokens) == (4_712, 90)


def test_statements_of_a_stream_are_cumulative() -> None:
    """The last one wins; what it leaves out, and what it says nothing of, holds."""
    begun = {**CACHED, "output_tokens": 1, "output_tokens_details": None}
    final = {
        "output_tokens": 90,
        "input_tokens": None,
        "output_tokens_details": {"thinking_tokens": 64},
        "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
    }
    events = streamed_events(start(usage=begun), *said("ab"), *last(usage=final))
    assert report(events) == report(whole_events(answer(usage=CACHED)))


def test_writes_beyond_their_lifetimes_have_none() -> None:
    """A stream states lifetimes at its start only, and the total may have grown since."""
    usage = usage_of(joined_usage(CACHED, {"cache_creation_input_tokens": 900}))
    assert usage is not None
    assert usage.cache_write == {"5m": 200, "1h": 500, "": 200}
    assert not usage.estimated


def test_compaction_is_billed_beside_the_totals() -> None:
    """Its tokens are not in them; other iterations' are."""
    once = {"input_tokens": 100, "output_tokens": 10, "cache_read_input_tokens": 5}
    iterations = [{"type": "message", **once}, {"type": "compaction", **once}]
    usage = usage_of({"input_tokens": 100, "output_tokens": 10, "iterations": iterations})
    assert usage == Usage(uncached_input=200, cache_read=5, text_output=20)


def test_zero_is_respected_and_missing_usage_estimated() -> None:
    """Of request and answer, and flagged."""
    zero = {"input_tokens": 0, "output_tokens": 0}
    assert report(whole_events(answer(usage=zero))) == Usage()
    guessed = report(whole_events(answer({"type": "text", "text": "Hello"}, usage=None)))
    assert guessed == Usage(uncached_input=5, text_output=3, estimated=True)


@pytest.mark.parametrize(
    "strange",
    [
        {"input_tokens": -4, "output_tokens": 2},
        {"input_tokens": 4, "output_tokens": "many"},
        {"input_tokens": 4, "output_tokens": 2, "output_tokens_details": {"thinking_tokens": 9}},
        {
            "input_tokens": 4,
            "cache_creation_input_tokens": 1,
            "cache_creation": {"ephemeral_5m_input_tokens": 9},
        },
    ],
)
def test_counts_that_cannot_be_true_are_flagged(strange: dict[str, Any]) -> None:
    """They never lose an answer that was paid for."""
    usage = usage_of(strange)
    assert usage is not None
    assert usage.estimated


JUNK = st.one_of(
    st.none(), st.booleans(), st.text(max_size=2), st.floats(), st.integers(-9, 10**20)
)


@given(
    st.dictionaries(
        st.sampled_from([*CACHED, "iterations", "x"]),
        st.one_of(
            JUNK,
            st.lists(st.dictionaries(st.sampled_from([*CACHED, "type"]), JUNK, max_size=4)),
            st.dictionaries(st.sampled_from(["thinking_tokens", "web_search_requests"]), JUNK),
        ),
    )
)
def test_nothing_stated_makes_it_fail(stated: dict[str, Any]) -> None:
    """Whatever stands there, there is a usage or none."""
    usage = usage_of(stated)
    assert usage is None or usage.total_tokens >= 0
