"""Converse: caches, tools, effort and the rest of what may be asked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bedrock_requests import CLAUDE, LLAMA, LOOK, MARK, TOOL, card, written

from lamella import (
    ChatRequest,
    Context,
    Message,
    Opaque,
    Text,
    TokenCountRequest,
    Tool,
    ToolCall,
    UnsupportedError,
)
from lamella.transports import DialectOptions
from lamella_bedrock._converse import CountTokens
from lamella_bedrock._models import ModelNames, quoted

# --- prompt caches ---------------------------------------------------------------------------


def test_cache_points() -> None:
    """A mark becomes a cache point behind what it marks: text, system, tools, results."""
    hour = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    messages = [
        Message.system([Text("s", extra=hour)]),
        Message.user([Text("u", extra=MARK)]),
        Message.tool("c", [Text("r", extra=MARK)]),
    ]
    body, lost = written(messages, tools=[Tool("a", extra=hour)])
    point = {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert body["system"] == [{"text": "s"}, {"cachePoint": {"type": "default", "ttl": "1h"}}]
    assert [list(block) for block in body["messages"][0]["content"]] == [
        ["text"],
        ["cachePoint"],
        ["toolResult"],
        ["cachePoint"],
    ]
    assert body["toolConfig"]["tools"][1] == point
    assert not lost


@pytest.mark.parametrize(
    ("model", "capabilities", "points"),
    [(LLAMA, (), 0), (LLAMA, ("prompt_cache",), 1), (CLAUDE, ("tools",), 0), ("m", (), 1)],
)
def test_models_without_a_cache(model: str, capabilities: tuple[str, ...], points: int) -> None:
    """Where a model has no cache, the mark is left out, and declared."""
    options = card(*capabilities) if capabilities else None
    messages = [Message.user([Text("u", extra=MARK)])]
    body, lost = written(messages, model=model, options=options)
    assert len(body["messages"][0]["content"]) == 1 + points
    assert lost == ({} if points else {"cache_control": 1})


def test_nova_has_no_cache_of_tools() -> None:
    """Nova caches prompts, and no tools."""
    _, lost = written("hi", tools=[Tool("a", extra=MARK)], model="us.amazon.nova-pro-v1:0")
    assert lost == {"cache_control": 1}


# --- tools -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "parallel", "wire", "own"),
    [
        (None, None, None, None),
        ("auto", None, {"auto": {}}, None),
        ("required", None, {"any": {}}, None),
        ({"tool": {"name": "x"}}, None, {"tool": {"name": "x"}}, None),
        ("none", None, None, {"type": "none"}),
        (None, False, None, {"type": "auto", "disable_parallel_tool_use": True}),
        ("auto", False, None, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", False, {"any": {}}, {"disable_parallel_tool_use": True}),
        (None, True, None, None),
    ],
)
def test_choices_for_claude(choice: Any, parallel: bool | None, wire: Any, own: Any) -> None:
    """Claude is told in its own words what Converse has none for."""
    body, _ = written("hi", tools=[TOOL], tool_choice=choice, parallel_tool_calls=parallel)
    assert body["toolConfig"].get("toolChoice") == wire
    assert body.get("additionalModelRequestFields", {}).get("tool_choice") == own


def test_choices_for_others() -> None:
    """Others' tools are left out for `none`; where calls refer to them, that is refused."""
    body, lost = written("hi", tools=[TOOL], tool_choice="none", model=LLAMA)
    assert "toolConfig" not in body
    assert lost == {"tool_choice": 1}
    with pytest.raises(UnsupportedError):
        written([Message.assistant([LOOK])], tools=[TOOL], tool_choice="none", model=LLAMA)
    with pytest.raises(UnsupportedError):
        written("hi", tools=[TOOL], parallel_tool_calls=False, model=LLAMA)


def test_tools_of_other_kinds() -> None:
    """Bedrock's own tools go as they are; calls of custom ones are refused."""
    own = Opaque({"systemTool": {"name": "nova_grounding"}})
    body, _ = written("hi", tools=[own, Tool("a", strict=True)])
    assert body["toolConfig"]["tools"][0] == own.data
    assert body["toolConfig"]["tools"][1]["toolSpec"]["strict"] is True
    with pytest.raises(UnsupportedError):
        written([Message.assistant([ToolCall("c", "t", "x", "custom")])])


# --- effort ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "capabilities", "effort", "fields", "output"),
    [
        (CLAUDE, (), "high", {"thinking": {"type": "adaptive"}}, {"effort": "high"}),
        (CLAUDE, (), "minimal", {"thinking": {"type": "adaptive"}}, {"effort": "low"}),
        (CLAUDE, (), "none", {"thinking": {"type": "disabled"}}, None),
        (
            CLAUDE,
            ("x-thinking-budget",),
            "low",
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
            None,
        ),
        (CLAUDE, ("x-effort", "reasoning"), "low", None, {"effort": "low"}),
        (
            "eu.amazon.nova-2-lite-v1:0",
            (),
            "xhigh",
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}},
            None,
        ),
        ("amazon.nova-2-lite-v1:0", (), "none", {"reasoningConfig": {"type": "disabled"}}, None),
        ("openai.gpt-oss-120b-1:0", (), "low", {"reasoning_effort": "low"}, None),
        ("a.b", ("x-reasoning-effort", "reasoning"), "low", {"reasoning_effort": "low"}, None),
        (
            "a.b",
            ("x-reasoning-config", "reasoning"),
            "minimal",
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}},
            None,
        ),
        ("us.openai.gpt-5.2", (), "low", {"reasoning": {"effort": "low"}}, None),
    ],
)
def test_effort(
    model: str, capabilities: tuple[str, ...], effort: str, fields: Any, output: Any
) -> None:
    """Each vendor's models are told in their own words how much to think."""
    options = card(*capabilities) if capabilities else None
    body, lost = written("hi", model=model, reasoning_effort=effort, options=options)
    assert body.get("additionalModelRequestFields") == fields
    assert body.get("outputConfig") == output
    assert not lost


def test_effort_that_cannot_be_said() -> None:
    """Where there are no words for it, that is declared; thinking that cannot stop is refused."""
    assert written("hi", model=LLAMA, reasoning_effort="low")[1] == {"reasoning_effort": 1}
    budget = card("x-thinking-budget")
    small = written("hi", reasoning_effort="low", max_output_tokens=500, options=budget)
    assert small[1] == {"reasoning_effort": 1}
    some, _ = written("hi", reasoning_effort="high", max_output_tokens=1_500, options=budget)
    assert some["additionalModelRequestFields"]["thinking"]["budget_tokens"] == 1_024
    assert written("hi", reasoning_effort="low", options=card("tools"))[1] == {
        "reasoning_effort": 1
    }
    with pytest.raises(UnsupportedError):
        written("hi", reasoning_effort="none", options=card("x-thinking-required"))


# --- the rest --------------------------------------------------------------------------------


def test_structured_output() -> None:
    """A schema goes as text into the output's configuration, closed; other shapes are refused."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    shape = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    body, _ = written("hi", response_format=shape, reasoning_effort="low")
    made = body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    closed = {**schema, "additionalProperties": False}
    assert (json.loads(made["schema"]), made["name"]) == (closed, "n")
    assert body["outputConfig"]["effort"] == "low"
    assert "outputConfig" not in written("hi", response_format={"type": "text"})[0]
    with pytest.raises(UnsupportedError):
        written("hi", response_format={"type": "json_object"})


@pytest.mark.parametrize(
    "given", [{"n": 2}, {"seed": 1}, {"logprobs": 0}, {"presence_penalty": 0.1}]
)
def test_parameters_that_are_refused(given: dict[str, Any]) -> None:
    """What Converse has no words for is refused by name."""
    with pytest.raises(UnsupportedError) as caught:
        written("hi", **given)
    assert caught.value.code == "unsupported_parameter"
    assert next(iter(given)) in str(caught.value)


def test_extra() -> None:
    """`extra` goes verbatim, joined with ours; what layers look at is refused."""
    extra = {
        "guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1"},
        "additionalModelRequestFields": {"top_k": 5},
        "inferenceConfig": {"topP": 0.1},
        "performanceConfig": {"latency": "optimized"},
    }
    body, _ = written("hi", extra=extra, reasoning_effort="low", temperature=0.3)
    assert body["guardrailConfig"] == extra["guardrailConfig"]
    assert body["additionalModelRequestFields"] == {"thinking": {"type": "adaptive"}, "top_k": 5}
    assert body["inferenceConfig"] == {"temperature": 0.3, "topP": 0.1}
    for name in ("system", "messages", "modelId", "model", "stream"):
        with pytest.raises(UnsupportedError):
            written("hi", extra={name: []})


def test_the_user() -> None:
    """Who asks is sent only where asked, as metadata of the request."""
    context = Context(user="u1")
    assert "requestMetadata" not in written("hi", context=context)[0]
    body, _ = written("hi", context=context, options=DialectOptions(send_user=True))
    assert body["requestMetadata"] == {"user": "u1"}


def test_names_of_speakers() -> None:
    """Converse has no place for a speaker's name."""
    with pytest.raises(UnsupportedError):
        written([Message("user", "hi", name="ann")])


def test_counting() -> None:
    """A count has what costs tokens, and nothing else."""
    chat = ChatRequest.of(
        [Message.system("s"), Message.user("u")],
        model=CLAUDE,
        tools=[TOOL],
        reasoning_effort="low",
        max_output_tokens=5,
        extra={"guardrailConfig": {}},
    )
    counts = CountTokens()
    body = counts.encode(TokenCountRequest.of(chat), stream=False, options=DialectOptions())
    inner = body["input"]["converse"]
    assert set(inner) == {"system", "messages", "toolConfig", "additionalModelRequestFields"}


@pytest.mark.parametrize(
    ("model", "base", "family"),
    [
        ("amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0", "amazon"),
        ("us.anthropic.claude-x", "anthropic.claude-x", "anthropic"),
        ("us-gov.anthropic.claude-x", "anthropic.claude-x", "anthropic"),
        ("global.openai.gpt-5.2", "openai.gpt-5.2", "openai"),
        ("openai.gpt-5.2", "openai.gpt-5.2", "openai"),
        ("arn:aws:bedrock:us-east-1::foundation-model/a.b-v1:0", "a.b-v1:0", "a"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/eu.a.b-v1:0", "a.b-v1:0", "a"),
        ("arn:aws:bedrock:us-east-1:1:custom-model/a.b-v1.0/xyz", "a.b-v1.0", "a"),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/z", None, ""),
        ("arn:mine", "anthropic.claude-x", "anthropic"),
        ("a-model", "a-model", ""),
    ],
)
def test_names(model: str, base: str | None, family: str) -> None:
    """Ids of regions and ARNs lead to the vendor's id, where they say it or it was told."""
    names = ModelNames({"arn:mine": "us.anthropic.claude-x"})
    assert names.base(model) == (base or model)
    assert names.family(model) == family
    assert "/" not in quoted(model)
    assert ":" not in quoted(model)
