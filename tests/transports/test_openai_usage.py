"""Usage of OpenAI's APIs in disjoint parts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import ChatRequest, Image, Message, Tool, Usage
from lamella.transports._estimated_usage import estimated_tokens, estimated_usage
from lamella.transports._openai_usage import usage_of

COUNTS = st.integers(0, 5_000)
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=3),
    st.floats(),
    st.integers(-9, 10**20),
    st.lists(COUNTS),
)


def test_cached_audio_and_reasoning_tokens_are_taken_out_of_their_totals() -> None:
    """Chat: details are included in the totals, so that the rest is plain text."""
    usage = usage_of(
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 10, "image_tokens": 5},
            "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 8},
        }
    )
    assert usage == Usage(
        uncached_input=25,
        cache_read=60,
        audio_input=10,
        image_input=5,
        text_output=12,
        reasoning_output=30,
        audio_output=8,
    )


def test_cache_writes_are_kept_by_lifetime() -> None:
    """Responses: writes of known lifetimes stand under them, others under the empty name."""
    usage = usage_of(
        {
            "input_tokens": 100,
            "output_tokens": 5,
            "total_tokens": 105,
            "input_tokens_details": {
                "cached_tokens": 10,
                "cache_write_tokens": 50,
                "cache_write_tokens_details": {"ttl_30m_tokens": 30, "ttl_12h_tokens": 15},
            },
            "output_tokens_details": {"reasoning_tokens": 5},
        },
        {"web_search": 2},
    )
    assert usage is not None
    assert usage.cache_write == {"30m": 30, "12h": 15, "": 5}
    assert (usage.uncached_input, usage.text_output, usage.reasoning_output) == (40, 0, 5)
    assert usage.tool_units == {"web_search": 2}
    assert not usage.estimated


@pytest.mark.parametrize(
    ("details", "reasoning"), [({"reasoning_tokens": 40}, 40), ({}, 40)], ids=["xAI", "Gemini"]
)
def test_reasoning_left_out_of_the_completion_is_found_in_the_total(
    details: dict[str, int], reasoning: int
) -> None:
    """What the stated total has beyond prompt and completion is reasoning."""
    usage = usage_of(
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 55,
            "completion_tokens_details": details,
        }
    )
    assert usage == Usage(uncached_input=10, text_output=5, reasoning_output=reasoning)


def test_a_missing_count_follows_from_the_total() -> None:
    """Where prompt or completion is not stated, the total says it."""
    assert usage_of({"prompt_tokens": 7, "total_tokens": 9}) == Usage(
        uncached_input=7, text_output=2
    )
    assert usage_of({"total_tokens": 9}) == Usage(uncached_input=9)


def test_caches_and_searches_stated_beside_the_totals_are_counted() -> None:
    """DeepSeek states cache hits, and Perplexity searches, without details."""
    usage = usage_of(
        {
            "prompt_tokens": 10,
            "completion_tokens": 1,
            "prompt_cache_hit_tokens": 4,
            "num_search_queries": 2,
        }
    )
    assert usage is not None
    assert (usage.cache_read, usage.uncached_input, usage.tool_units) == (4, 6, {"web_search": 2})


def test_zero_is_a_statement_and_absence_is_none() -> None:
    """An explicit zero is respected; no count at all is no usage."""
    assert usage_of({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}) == Usage()
    assert usage_of({}) is None
    assert usage_of(None) is None
    assert usage_of({"prompt_tokens": None}) is None


@pytest.mark.parametrize(
    "given",
    [
        {"prompt_tokens": 5, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 9}},
        {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 3},
        {"prompt_tokens": -5, "completion_tokens": 5},
        {
            "prompt_tokens": 5,
            "completion_tokens": 5,
            "completion_tokens_details": {"reasoning_tokens": 6},
        },
    ],
    ids=["cached", "total", "negative", "reasoning"],
)
def test_counts_that_cannot_be_true_are_cut_and_flagged(given: dict[str, Any]) -> None:
    """A strange count never loses a paid answer; the usage says that it is a guess."""
    usage = usage_of(given)
    assert usage is not None
    assert usage.estimated
    assert usage.output_tokens == 5


@given(prompt=COUNTS, answer=COUNTS, parts=st.lists(COUNTS, min_size=7, max_size=7))
def test_parts_always_add_up_to_the_provider_s_totals(
    prompt: int, answer: int, parts: list[int]
) -> None:
    """Whatever the details say, the parts are disjoint and sum to the totals; cuts are flagged."""
    cached, written, sound_in, image_in, thoughts, sound_out, image_out = parts
    usage = usage_of(
        {
            "prompt_tokens": prompt,
            "completion_tokens": answer,
            "total_tokens": prompt + answer,
            "prompt_tokens_details": {
                "cached_tokens": cached,
                "cache_write_tokens": written,
                "audio_tokens": sound_in,
                "image_tokens": image_in,
            },
            "completion_tokens_details": {
                "reasoning_tokens": thoughts,
                "audio_tokens": sound_out,
                "image_tokens": image_out,
            },
        }
    )
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (prompt, answer)
    # A cache may have served, or keep, sound and pictures too.
    possible = cached + written <= prompt and sound_in + image_in <= prompt
    possible = possible and sum(parts[4:]) <= answer
    assert usage.estimated is not possible


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "prompt_tokens",
                "completion_tokens",
                "total_tokens",
                "input_tokens",
                "prompt_tokens_details",
                "completion_tokens_details",
                "num_search_queries",
            ]
        ),
        JUNK | st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens"]), JUNK),
    )
)
def test_no_usage_object_raises(given: dict[str, Any]) -> None:
    """Junk in place of counts gives usage or none, never an error or a negative count."""
    usage = usage_of(given)
    assert usage is None or usage.total_tokens >= 0


@given(st.lists(st.text(min_size=1)))
def test_an_estimate_has_at_least_a_token_for_each_piece(pieces: list[str]) -> None:
    """A streamed piece is at least one token, and two bytes are at most one."""
    count = estimated_tokens(pieces)
    assert count >= len(pieces)
    assert 2 * count >= sum(len(piece.encode()) for piece in pieces)


def test_an_estimate_counts_prompt_tools_and_pictures() -> None:
    """What was sent counts as well as what came, each in its part."""
    bare = ChatRequest.of("Why is the sky blue?")
    full = ChatRequest.of(
        [Message.user(["Why?", Image(url="https://example.org/a.png")])],
        tools=[Tool("look", "Look it up.", {"type": "object"})],
    )
    usage = estimated_usage(bare, ["Ray", "leigh"], ["hm"], sound_bytes=401)
    assert usage.estimated
    assert usage.uncached_input == 14
    assert (usage.text_output, usage.reasoning_output, usage.audio_output) == (5, 1, 2)
    assert estimated_usage(full, []).uncached_input > 1_000
