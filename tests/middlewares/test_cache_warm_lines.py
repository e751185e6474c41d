"""What a line of a file says that a cache is warmed with."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    Context,
    EmbeddingRequest,
    EmbeddingResponse,
    ModerationRequest,
    ModerationResponse,
    Request,
    request_key,
)
from lamella_middlewares.cache._warm_answers import LineError
from lamella_middlewares.cache._warm_lines import WarmLine, read_line

HI: dict[str, Any] = {
    "model": "m",
    "temperature": 0,
    "messages": [{"role": "user", "content": "hi"}],
}
CUT_OFF = {"choices": [{"message": {"content": "x"}, "finish_reason": "length"}]}


def line(given: Mapping[str, Any], tenant: str | None = "t") -> WarmLine:
    """What a line says."""
    return read_line(json.dumps(given).encode(), tenant)


def asked(given: Mapping[str, Any]) -> Request[Any]:
    """What a line asks."""
    return line(given).request


# --- what a line asks --------------------------------------------------------------------------


def test_a_line_asks_what_a_program_asks() -> None:
    """The body of a chat, in the API's words or in the library's, has the key of the request."""
    body = {
        **HI,
        "messages": [{"role": "system", "content": "Be brief."}, *HI["messages"]],
        "max_completion_tokens": 5,
        "stop": "x",
        "logprobs": True,
        "top_logprobs": 2,
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "extra": {"top_k": 3},
    }
    request = ChatRequest.of(
        body["messages"],
        model="m",
        temperature=0,
        max_output_tokens=5,
        stop="x",
        logprobs=2,
        tools=body["tools"],
        extra={"top_k": 3},
        context=Context(tenant="t"),
    )
    assert request_key(asked(body)) == request_key(request)
    ours = {**HI, "max_output_tokens": 5, "logprobs": 0}
    theirs = {**HI, "max_tokens": 5, "logprobs": True}
    assert request_key(asked(ours)) == request_key(asked(theirs))
    assert request_key(asked({**HI, "logprobs": False, "seed": None})) == request_key(asked(HI))


def test_embeddings_and_moderation() -> None:
    """An input is embedded, or judged where the line says so."""
    context = Context(tenant="t")
    embedded = asked({"model": "e", "input": ["a", "b"], "dimensions": 3, "encoding_format": "f"})
    assert request_key(embedded) == request_key(
        EmbeddingRequest.of(["a", "b"], model="e", dimensions=3, context=context)
    )
    judged = asked({"operation": "moderation", "model": "o", "input": "a"})
    assert request_key(judged) == request_key(ModerationRequest.of("a", model="o", context=context))


def test_a_line_says_whose_it_is() -> None:
    """Its own tenant goes before the one of the run; tags, ttl and the rest are its own."""
    said = line({**HI, "tenant": "acme", "tags": ["a", "b"], "ttl": 5, "cache": True})
    assert said.request.context.tenant == "acme"
    assert (said.tags, said.ttl, said.always) == (("a", "b"), 5, True)
    plain = line(HI)
    assert plain.request.context.tenant == "t"
    assert (plain.tags, plain.ttl, plain.always, plain.answer) == ((), None, False, None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{", "no JSON"),
        (b"\xff\xfe", "UTF-8"),
        (b"[1]", "a list"),
        (b"3", "a number"),
        (b"null", "null"),
        (b"[" * 100_000, "no JSON"),
        ({}, "'messages'"),
        ({**HI, "messages": []}, "'messages'"),
        ({"model": "e", "input": []}, "'input'"),
        ({**HI, "tenat": "x"}, "'tenat'.*Did you mean 'tenant'"),
        ({**HI, "user_name": "x"}, "'extra'"),
        ({**HI, "context": {}}, "'context'"),
        ({**HI, "store": True}, "'store', which there is not. What only .*'extra'$"),
        ({**HI, "response_format": "json"}, "response_format must be a table"),
        ({**HI, "input": "a"}, "'input', which there is not in 'chat'$"),
        ({"input": "a", "temperature": 0}, "'temperature', which there is not in 'embeddings'$"),
        ({**HI, "messages": [*HI["messages"], {"role": "user", "contents": "x"}]}, "message 2"),
        ({**HI, "messages": [{"role": "assistant"}]}, "message 1 .*'content'"),
        ({**HI, "operation": "chats"}, "'chats'.*'chat'"),
        ({**HI, "operation": 3}, "operation"),
        ({**HI, "max_tokens": 1, "max_completion_tokens": 2}, "twice"),
        ({**HI, "top_logprobs": 1}, "without"),
        ({**HI, "temperature": -1}, "temperature must be 0 or more"),
        ({**HI, "temperature": math.nan}, "NaN"),
        ({**HI, "seed": 2**70}, "64 bits"),
        ({**HI, "temperature": "hot"}, "temperature must be a number, not 'hot'"),
        ({**HI, "messages": "hi", "tools": 3}, "no request"),
        ({**HI, "messages": [{"content": "hi"}]}, "role"),
        ({**HI, "tenant": ""}, "'tenant'"),
        ({**HI, "tenant": 3}, "'tenant' that is a number"),
        ({**HI, "tags": "a"}, "'tags' that is text"),
        ({**HI, "tags": [""]}, "'tags'"),
        ({**HI, "ttl": 0}, "'ttl'"),
        ({**HI, "ttl": True}, "'ttl'"),
        ({**HI, "cache": "yes"}, "'cache'"),
        ({**HI, "answer": 3}, "an answer that is a number"),
        ({**HI, "answer": {"choices": []}}, "answer that is none"),
        ({**HI, "answer": {"role": "user", "content": "x"}}, "'user'"),
        ({**HI, "answer": {"refusal": "No."}}, "refusal"),
        ({"model": "e", "input": "a", "answer": "x"}, "whole answer"),
        (
            {
                **HI,
                "answer": {"choices": [{"message": {"content": "x"}, "finish_reason": "length"}]},
            },
            "'length'",
        ),
    ],
)
def test_a_line_that_makes_no_sense(text: Any, words: str) -> None:
    """It says what is wrong and what to write, and does not show what stands in it."""
    data = text if isinstance(text, bytes) else json.dumps(text).encode()
    with pytest.raises(LineError, match=words):
        read_line(data, "t")


# --- what a line answers -----------------------------------------------------------------------


def test_an_answer_is_text_or_a_message_or_a_whole_answer() -> None:
    """A whole answer keeps its id, model, usage and tool calls."""
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    whole = {
        "id": "chatcmpl-1",
        "model": "m-2026",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": None, "tool_calls": [call]},
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }
    found = [line({**HI, "answer": one}).answer for one in ("Yes.", {"content": "Yes."}, whole)]
    text, message, recorded = found
    assert isinstance(text, ChatResponse)
    assert isinstance(message, ChatResponse)
    assert isinstance(recorded, ChatResponse)
    assert (
        (text.text, text.finish_reason) == (message.text, message.finish_reason) == ("Yes.", "stop")
    )
    assert recorded.tool_calls[0].name == "look"
    assert recorded.head.id == "chatcmpl-1"
    assert recorded.head.raw is None
    assert recorded.usage is not None
    assert recorded.usage.total_tokens == 7


def test_recorded_embeddings_and_verdicts() -> None:
    """They are read as the API gave them, and there is one for each input."""
    vectors = {"data": [{"index": 0, "embedding": [0.5, 1]}], "model": "e"}
    found = line({"model": "e", "input": "a", "answer": vectors}).answer
    assert isinstance(found, EmbeddingResponse)
    assert found.vectors == ((0.5, 1.0),)
    result = {"flagged": False, "categories": {"hate": False}, "category_scores": {"hate": 0.1}}
    judged = line({"operation": "moderation", "input": "a", "answer": {"results": [result]}}).answer
    assert isinstance(judged, ModerationResponse)
    assert not judged.flagged
    with pytest.raises(LineError, match="answer that is none"):
        line({"model": "e", "input": ["a", "b"], "answer": vectors})
