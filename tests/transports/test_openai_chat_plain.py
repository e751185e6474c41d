"""Chat Completions: answers of the common shape, which are read in one step."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

import lamella
from lamella.transports._openai_chat import OpenAIChat
from lamella.transports._openai_chat_answer import ChatDecoder
from lamella.transports._openai_chat_plain import plain_answer

CHAT = OpenAIChat()

_odd = st.sampled_from([None, "", [], {}, 0, 1, -1, 2.0, True, "x", ["x"], {"x": 1}])
_counts = st.one_of(st.none(), st.integers(-1, 9), st.just(2.0))


def _fields(known: dict[str, Any], odd: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """What is usual, with now and then something else in one of its fields, or in another."""
    usual = st.fixed_dictionaries({}, optional={n: st.just(v) for n, v in known.items()})
    other = st.dictionaries(st.sampled_from((*known, *odd)), _odd, max_size=1)
    return st.builds(lambda given, strange: {**known, **given, **strange}, usual, other)


_usage = st.fixed_dictionaries(
    {"prompt_tokens": st.integers(0, 9), "completion_tokens": st.integers(0, 9)},
    optional={
        "total_tokens": st.integers(0, 18),
        "prompt_tokens_details": st.dictionaries(
            st.sampled_from(["cached_tokens", "audio_tokens", "cache_write_tokens"]), _counts
        ),
        "completion_tokens_details": st.dictionaries(
            st.sampled_from(["reasoning_tokens", "audio_tokens", "other"]), _counts
        ),
        "prompt_cache_hit_tokens": _counts,
        "num_search_queries": _counts,
        "cost": st.sampled_from([None, 0.5]),
        "other": _odd,
    },
)
_message = _fields(
    {"role": "assistant", "content": "Hello", "refusal": None, "annotations": []},
    ("tool_calls", "reasoning", "audio", "other"),
)
_choice = st.builds(
    lambda fields, message: {**fields, "message": message},
    _fields(
        {"index": 0, "logprobs": None, "finish_reason": "stop"}, ("other", "error", "stop_reason")
    ),
    _message,
)
_answer = st.builds(
    lambda fields, choice, usage: {"choices": [choice], "usage": usage, **fields},
    _fields(
        {"id": "a1", "object": "chat.completion", "model": "m", "service_tier": "default"},
        ("choices", "error", "type", "message", "usage", "other"),
    ),
    _choice,
    _usage,
)


def _read(read: Any) -> object:
    """What an answer is read as: its events and head, or the error that it is."""
    try:
        events, head = read()
    except lamella.LamellaError as error:
        return type(error), str(error), error.usage
    return list(events), head


@given(_answer)
@settings(max_examples=150, deadline=None)
def test_both_ways_read_the_same(answer: dict[str, Any]) -> None:
    """An answer that is read in one step gives what the general way gives."""
    body = msgspec.json.encode(answer)
    decoder = ChatDecoder("openai", None)
    assert _read(lambda: CHAT.decode(body)) == _read(lambda: (decoder.whole(body), decoder.head))


def test_what_has_to_be_passed_on_is_read_the_general_way() -> None:
    """The common shape has nothing in it but text and usage."""
    message: dict[str, Any] = {"role": "assistant", "content": "Hello"}
    usage: dict[str, Any] = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    plain: dict[str, Any] = {
        "id": "a1",
        "model": "m",
        "choices": [{"message": message}],
        "usage": usage,
    }
    assert plain_answer(msgspec.json.encode(plain)) is not None
    for changed in (
        {**plain, "citations": ["x"]},
        {**plain, "choices": [{"message": {**message, "annotations": [{"type": "x"}]}}]},
        {**plain, "choices": [{"message": message}] * 2},
        {**plain, "usage": {**usage, "total_tokens": 20}},
        {**plain, "usage": {**usage, "cost": 0.5}},
    ):
        assert plain_answer(msgspec.json.encode(changed)) is None
