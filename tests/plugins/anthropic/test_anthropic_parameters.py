"""How tools and parameters are written for the Messages API."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic_wire import DIALECT, EPHEMERAL, HI, MARK, asked, body, left_out, refused

from lamella import (
    Message,
    ModelCard,
    Opaque,
    Reasoning,
    TokenCountRequest,
    Tool,
    ToolCall,
    UnsupportedError,
)
from lamella.transports import DialectOptions
from lamella_anthropic._messages import AnthropicTokenCount

# --- tools -----------------------------------------------------------------------------------

TOOL = Tool(
    "f", "Does f.", {"properties": {"a": {"type": "integer"}}}, strict=True, extra=EPHEMERAL
)
SEARCH = {"type": "web_search_20260318", "name": "web_search", "max_uses": 2}


def test_tools_own_and_hosted() -> None:
    """Schemas are objects, marks stay, hosted tools go as they are."""
    assert body(tools=[TOOL, SEARCH, Tool("g")])["tools"] == [
        {
            "name": "f",
            "description": "Does f.",
            "input_schema": {
                "type": "object",
                "properties": {"a": {"type": "integer"}},
                "additionalProperties": False,
            },
            "strict": True,
            **EPHEMERAL,
        },
        SEARCH,
        {"name": "g", "input_schema": {"type": "object"}},
    ]
    openai = {
        "type": "function",
        "function": {"name": "f", "parameters": {}, "defer_loading": True},
    }
    (written,) = body(tools=[openai])["tools"]
    assert written["defer_loading"] is True


@pytest.mark.parametrize(
    ("choice", "parallel", "written"),
    [
        ("auto", None, {"type": "auto"}),
        ("none", False, {"type": "none"}),
        ("required", None, {"type": "any"}),
        ("f", False, {"type": "tool", "name": "f", "disable_parallel_tool_use": True}),
        ("web_search", None, {"type": "tool", "name": "web_search"}),
        ("web_search_20260318", None, {"type": "tool", "name": "web_search"}),
        ({"type": "any"}, True, {"type": "any"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
    ],
)
def test_choices_of_tools(choice: Any, parallel: bool | None, written: Any) -> None:
    """And whether several may be asked for at once."""
    request = {"tools": [TOOL, SEARCH], "tool_choice": choice, "parallel_tool_calls": parallel}
    assert body(**request)["tool_choice"] == written


def test_tools_that_the_api_does_not_have_are_refused() -> None:
    """Custom tools, other providers' hosted ones, and a choice of none that is there."""
    refused(tools=[{"type": "custom", "custom": {"name": "f"}}])
    refused(tools=[Opaque({"type": "x"}, provider="openai")])
    refused(tools=[TOOL], tool_choice="nobody")


# --- parameters ------------------------------------------------------------------------------


def test_parameters() -> None:
    """What the API knows by other names, and what it knows by ours."""
    assert body(stop=["a", "b"], service_tier="auto", max_output_tokens=7) == {
        "max_tokens": 7,
        "messages": [HI],
        "stop_sequences": ["a", "b"],
        "service_tier": "auto",
    }


def test_sampling_is_for_older_versions_of_the_api() -> None:
    """The newest has no words for it."""
    older = {"quirks": {"sampling": True}}
    assert body(options=older, temperature=0.5, top_p=0.9) == {
        "messages": [HI],
        "temperature": 0.5,
        "top_p": 0.9,
    }
    assert left_out(temperature=0.5, top_p=0.9) == ({"messages": [HI]}, ["temperature", "top_p"])


def test_the_bound_on_output_is_the_requests_the_transports_the_cards_or_ours() -> None:
    """In this order, as the API demands one."""
    card = ModelCard("claude-test", "anthropic", max_output_tokens=64_000)
    option = {"card": card, "quirks": {"max_output_tokens": 100}}
    assert body(max_output_tokens=7, options=option)["max_tokens"] == 7
    assert body(options=option)["max_tokens"] == 100
    assert body(options={"card": card})["max_tokens"] == 64_000


@pytest.mark.parametrize(
    "fields",
    [{"n": 2}, {"seed": 1}, {"logprobs": 0}, {"presence_penalty": 0.5}, {"frequency_penalty": 1}],
)
def test_parameters_without_words_are_refused(fields: dict[str, Any]) -> None:
    """With a hint, and a code of their own."""
    assert refused(**fields).code == "unsupported_parameter"


def test_one_answer_is_what_there_is() -> None:
    """`n=1` asks for nothing special."""
    assert body(n=1) == {"messages": [HI]}


def test_the_shape_of_the_answer() -> None:
    """Schemas natively, closed as the API wants them; JSON without a schema is refused."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    closed = {**schema, "additionalProperties": False}
    expected = {"format": {"type": "json_schema", "schema": closed}}
    wrapped = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert body(response_format=wrapped)["output_config"] == expected
    bare = {"type": "json_schema", "schema": schema}
    assert body(response_format=bare)["output_config"] == expected
    assert body(response_format={"type": "text"}) == {"messages": [HI]}
    refused(response_format={"type": "json_object"})


def card(*capabilities: str) -> dict[str, Any]:
    """Options with a card."""
    found = ModelCard("claude-test", "anthropic", capabilities=frozenset(capabilities))
    return {"card": found}


@pytest.mark.parametrize(
    ("capabilities", "effort", "written"),
    [
        ((), "max", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}),
        ((), "none", {"thinking": {"type": "disabled"}}),
        (("x-thinking-between-tools",), "none", {"thinking": {"type": "between_tools"}}),
        (
            ("x-thinking-adaptive", "x-effort"),
            "low",
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        ),
        (("x-effort",), "low", {"output_config": {"effort": "low"}}),
        (
            ("x-thinking-budget",),
            "low",
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
        ),
        (
            ("x-thinking-budget", "x-effort"),
            "high",
            {
                "thinking": {"type": "enabled", "budget_tokens": 4096},
                "output_config": {"effort": "high"},
            },
        ),
    ],
)
def test_effort_is_asked_for_as_the_model_takes_it(
    capabilities: tuple[str, ...], effort: str, written: dict[str, Any]
) -> None:
    """Without a card in the newest way; a budget is at most half of the output."""
    assert body(options=card(*capabilities), reasoning_effort=effort) == {
        "messages": [HI],
        **written,
    }


@pytest.mark.parametrize("choice", ["required", "f", {"type": "any"}])
@pytest.mark.parametrize(
    ("capabilities", "written"),
    [
        ((), {"output_config": {"effort": "low"}}),
        (("x-thinking-budget",), {}),
        (("x-thinking-adaptive", "x-effort"), {"output_config": {"effort": "low"}}),
    ],
)
def test_a_model_does_not_think_where_it_must_call_a_tool(
    choice: Any, capabilities: tuple[str, ...], written: dict[str, Any]
) -> None:
    """Thinking is left out with a note; the effort stays where the API takes it."""
    fields = {"tools": [TOOL], "tool_choice": choice, "reasoning_effort": "low"}
    found, lost = left_out(options=card(*capabilities), **fields)
    assert lost == ["reasoning_effort"]
    assert {name: found[name] for name in found if name in {"thinking", "output_config"}} == written


@pytest.mark.parametrize(
    ("thoughts", "thinks"), [([], False), ([Reasoning("h", "s", extra=MARK)], True)]
)
def test_a_budget_needs_the_thoughts_that_came_before_the_calls(
    thoughts: list[Reasoning], *, thinks: bool
) -> None:
    """A turn of tools that another provider began is continued without thinking, with a note."""
    turn = [
        Message.user("hi"),
        Message.assistant([*thoughts, ToolCall("t", "f", "{}")]),
        Message.tool("t", "x"),
        Message.system("be brief"),
    ]
    options = card("x-thinking-budget", "x-late-system")
    found, lost = left_out(turn, options, reasoning_effort="low")
    assert ("thinking" in found, "reasoning_effort" in lost) == (thinks, not thinks)
    later = [*turn, Message.assistant("a"), HI]
    assert "thinking" in body(later, options, reasoning_effort="low")


def test_the_least_effort_is_low() -> None:
    """A word of other providers becomes the nearest one, with a note."""
    found, lost = left_out(reasoning_effort="minimal")
    assert found["output_config"] == {"effort": "low"}
    assert lost == ["reasoning_effort"]


def test_effort_that_the_model_does_not_have_is_refused() -> None:
    """So is a budget that cannot be kept."""
    refused(options=card("tools"), reasoning_effort="low")
    refused(options=card("x-thinking-required"), reasoning_effort="none")
    budget = card("x-thinking-budget")
    refused(options=budget, reasoning_effort="lots")
    refused(options=budget, reasoning_effort="low", max_output_tokens=1024)


def test_extra_is_merged_last() -> None:
    """Verbatim; nested settings are joined, headers go elsewhere."""
    extra = {
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "output_config": {"task_budget": {"type": "tokens", "total": 9}},
        "container": "c1",
        "betas": ["b"],
        "workspace_id": "w",
    }
    assert body(reasoning_effort="low", extra=extra) == {
        "messages": [HI],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "output_config": {"effort": "low", "task_budget": {"type": "tokens", "total": 9}},
        "container": "c1",
    }


@pytest.mark.parametrize("name", ["system", "messages", "model", "stream"])
def test_extra_does_not_pass_by_layers(name: str) -> None:
    """Layers go by the request's own fields."""
    assert refused(extra={name: "x"}).code == "unsupported_parameter"


# --- headers and counts ----------------------------------------------------------------------


def test_betas_of_transport_and_request_share_one_header() -> None:
    """Each once, in order."""
    from lamella_anthropic._messages import AnthropicMessages

    dialect = AnthropicMessages(betas=("a", "b"))
    request = asked(extra={"betas": ["b", "c"], "user_profile_id": "u1"})
    assert dialect.headers(request) == (
        (b"anthropic-beta", b"a,b,c"),
        (b"anthropic-user-profile-id", b"u1"),
    )
    assert DIALECT.headers(asked()) == ()
    assert DIALECT.headers(asked(extra={"betas": None})) == ()
    for wrong in ("a", [1], 5, {"a": 1}):
        with pytest.raises(UnsupportedError):
            DIALECT.headers(asked(extra={"betas": wrong}))


def test_a_count_sends_what_makes_tokens() -> None:
    """Neither bounds nor what shapes only the answer; and what is only for it is not refused."""
    conversation = asked(
        [Message.system("x"), Message.user("hi")],
        tools=[TOOL],
        stop=["a"],
        seed=1,
        temperature=0.1,
        extra={"container": "c1", "betas": ["b"]},
    )
    count = AnthropicTokenCount()
    request = TokenCountRequest.of(conversation)
    written = count.encode(request, stream=False, options=DialectOptions())
    assert written.keys() == {"model", "system", "messages", "tools"}
    assert count.headers(request) == ((b"anthropic-beta", b"b"),)
