"""Counting tokens: the estimator, and what requests and answers have of them."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_files import mp3, pdf, png, wav

from lamella import (
    Audio,
    ChatRequest,
    File,
    Image,
    Message,
    ReasoningDelta,
    Request,
    TextDelta,
    ToolCallDelta,
    input_usage,
    output_usage,
)
from lamella import _token_estimate as estimate
from lamella._mock_tokens import input_usage as billed_by_mock

ASK = ChatRequest.of("hello there", model="m")


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("", 0, 0),
        ("hello world", 2, 2),
        ("antidisestablishmentarianism", 6, 10),
        ("The quick brown fox jumps over the lazy dog.", 10, 13),
        ("お誕生日おめでとう", 8, 9),
        ('{"name": "Ada", "age": 36}', 9, 16),
        ("def f(x):\n    return x + 1\n", 10, 16),
    ],
)
def test_estimates_are_near_what_tokenizers_say(text: str, least: int, most: int) -> None:
    """The lower bounds are o200k_base's own counts."""
    assert least <= estimate.tokens(text) <= most


@settings(max_examples=40)
@given(st.text(max_size=500))
def test_an_estimate_is_never_negative_and_bounded_by_bytes(text: str) -> None:
    """No tokenizer makes more tokens than there are bytes."""
    size = len(text.encode("utf-8", "surrogatepass"))
    assert 0 <= estimate.tokens(text) <= max(1, size)


_PIECE = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[\r\n]+|[ \t]{2,}|[!-/:-@\[-`{-~]+|[^\x00-\x7f]+")
_RUNS = st.tuples(
    st.sampled_from("abZQ09 \t\r\n.-_~\x00\x7f\x80é\u1fff\u2014\u2e7f\u2e80\u2fff字\ud800\uffff😀"),
    st.sampled_from((1, 1, 2, 3, 7, 8, 14, 15, 16, 17, 31)),
)


def _piece_by_piece(text: str) -> int:
    total = 0
    for piece in _PIECE.findall(text):
        length, first = len(piece), piece[0]
        if not first.isascii():
            halves = [1 if one < "\u2e80" else 2 if one < "\U00010000" else 5 for one in piece]
            total += math.ceil(sum(halves) / 2)
        elif first.isspace():
            total += 1
        else:
            short = 7 if length <= 16 and first.isalpha() else 3 if first.isalnum() else 2
            total += math.ceil(length / short)
    return total


@settings(max_examples=150)
@given(st.lists(_RUNS, max_size=40).map(lambda runs: "".join(one * times for one, times in runs)))
def test_counting_classes_gives_what_the_rule_gives_piece_by_piece(text: str) -> None:
    """The rule cuts a text into pieces; the estimate is the same, and cuts nothing."""
    assert estimate.tokens(text) == _piece_by_piece(text)


def test_long_texts_are_sampled_in_four_places() -> None:
    """A megabyte is estimated within a tenth, and in bounded time."""
    words = "some words, and 1234 numbers\n" * 40_000
    exact = sum(estimate.tokens(words[at : at + 29_000]) for at in range(0, len(words), 29_000))
    assert estimate.tokens(words) == pytest.approx(exact, rel=0.1)


def test_of_many_texts_the_longest_stand_for_all() -> None:
    """An estimate is made on the event loop: its time does not grow with the conversation."""
    words = "some words, and 1234 numbers\n" * 500
    texts = ["Hi", *[words] * 40, "yes"]
    exact = sum(map(estimate.tokens, texts))
    assert estimate.tokens_of(texts) == pytest.approx(exact, rel=0.01)
    assert estimate.tokens_of(["Hi", words]) == estimate.tokens("Hi") + estimate.tokens(words)
    assert estimate.tokens_of([""] * 3) == 0


@settings(max_examples=30)
@given(
    st.lists(
        st.one_of(
            st.builds(TextDelta, st.text(min_size=1)),
            st.builds(ReasoningDelta, st.text(min_size=1)),
            st.builds(ToolCallDelta, st.just(0), arguments=st.text(min_size=1)),
        )
    )
)
def test_what_was_delivered_is_never_less_than_its_pieces(events: list[Any]) -> None:
    """Each piece has at least one token."""
    usage = output_usage(events)
    reasoning = sum(isinstance(event, ReasoningDelta) for event in events)
    assert usage.reasoning_output >= reasoning
    assert usage.text_output >= len(events) - reasoning


def test_all_parts_of_a_request_are_counted() -> None:
    """Pictures, sound, documents, tools and tool calls are not free."""
    plain = input_usage(ASK)
    assert plain is not None
    parts: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": "hello there"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]},
        {"role": "assistant", "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]},
        {"role": "tool", "tool_call_id": "1", "content": "a result"},
    ]  # fmt: skip
    tool = {"type": "function", "function": {"name": "f", "parameters": json.loads('{"a": {}}')}}
    full = input_usage(ChatRequest.of(parts, model="m", tools=[tool]))
    assert full is not None
    assert full.image_input == 765
    assert full.uncached_input > plain.uncached_input + 15
    assert input_usage(Request(model="m")) is None


@pytest.mark.parametrize(
    "part",
    [
        Audio.of(mp3(20)),
        Audio.of(wav(20)),
        File.of(pdf(40)),
        File.of(b"Words of a report, and 12 numbers.\n" * 90),
        Image.of(png(64, 64), detail="low"),
    ],
)
def test_media_cost_no_more_at_the_embedded_provider_than_is_reserved(part: Any) -> None:
    """What a budget holds back is what the answer is billed at, or more."""
    request = ChatRequest.of(Message.user([part]), model="mock")
    reserved, billed = input_usage(request), billed_by_mock(request)
    assert reserved is not None
    assert 0 < billed.input_tokens <= reserved.input_tokens
