"""Converse: what Bedrock would refuse is written so that it takes it, and that is declared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from lamella import (
    Audio,
    ChatRequest,
    Context,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    UnsupportedError,
)
from lamella._cards import ModelCard
from lamella._trace import Trace
from lamella.testing._mock_bedrock._requests import read_bedrock
from lamella.testing._mock_bedrock._rules import check_rules
from lamella.testing._mock_bedrock._thoughts import signature
from lamella.transports import DialectOptions
from lamella_bedrock._converse import Converse

CLAUDE, NOVA = "anthropic.claude-opus-5", "us.amazon.nova-pro-v1:0"
SHORT = {"cache_control": {"type": "ephemeral"}}
LONG = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
PAPER = File(data=b"x", media_type="application/pdf", filename="paper.pdf")
CALLED = [
    Message.user("q"),
    Message.assistant([ToolCall("c1", "add", "{}"), ToolCall("c2", "add", "{}")]),
    Message.tool("c1", "1"),
    Message.tool("c2", "2"),
]


def accepted(
    messages: Sequence[Message], options: DialectOptions | None = None, **fields: Any
) -> tuple[dict[str, Any], Counter[str]]:
    """The body of a request, which the mock of Bedrock accepts, and what is declared as lost."""
    request = ChatRequest.of(list(messages), **{"model": CLAUDE, **fields})
    trace = Trace("call", monotonic=lambda: 0.0, wall=0.0)
    begun = request.evolve(context=request.context.evolve(trace=trace))
    made = Converse().encode(begun, stream=False, options=options or DialectOptions())
    body: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(made))
    read_bedrock(body, request.model or "")
    check_rules(body, request.model or "")
    return body, Counter({str(n.fields["what"]): int(n.fields["count"]) for n in trace.notes})


def lives(body: dict[str, Any]) -> list[str]:
    """How long the cache points live, in the order in which Bedrock reads them."""
    tools = body.get("toolConfig", {}).get("tools", [])
    lists = [tools, body.get("system", []), *[each["content"] for each in body["messages"]]]
    points = [block["cachePoint"] for blocks in lists for block in blocks if "cachePoint" in block]
    return [point.get("ttl", "5m") for point in points]


# --- tools -----------------------------------------------------------------------------------


def test_tools_of_the_conversation_are_named_again() -> None:
    """Calls without tools beside them would be refused; Claude is told not to call any."""
    body, lost = accepted(CALLED)
    (tool,) = body["toolConfig"]["tools"]
    assert tool["toolSpec"]["name"] == "add"
    assert body["additionalModelRequestFields"] == {"tool_choice": {"type": "none"}}
    assert lost == {"tools": 1}
    body, lost = accepted(CALLED, model=NOVA)
    assert "additionalModelRequestFields" not in body
    assert lost == {"tools": 1}
    own: dict[str, Any] = {"toolConfig": {"tools": [tool]}}
    assert accepted(CALLED, extra=own)[1] == {}


def test_calls_for_a_model_without_tools() -> None:
    """They are refused here, so that another target may be asked."""
    card = ModelCard("m", "bedrock", capabilities=frozenset({"streaming", "reasoning"}))
    with pytest.raises(UnsupportedError, match="does not know"):
        accepted(CALLED, DialectOptions(card=card), model="deepseek.r1-v1:0")


def test_schemas_are_of_objects() -> None:
    """A schema that does not say what it is of is one of an object."""
    body, _ = accepted(CALLED, tools=[Tool("add", parameters={"properties": {"a": {}}})])
    (tool,) = body["toolConfig"]["tools"]
    schema = {"type": "object", "properties": {"a": {}}}
    assert tool["toolSpec"]["inputSchema"] == {"json": schema}


@pytest.mark.parametrize("given", ["toolu_" + "x" * 80, "fc|1 ü", "\ud800"])
def test_ids_of_other_providers_fit(given: str) -> None:
    """An id that Bedrock refuses becomes one that it takes, in the call and in the result."""
    call = Message.assistant([ToolCall(given, "add", "{}")])
    conversation = [Message.user("q"), call, Message.tool(given, "1")]
    body, lost = accepted(conversation, tools=[Tool("add")])
    [asked], [told] = [message["content"] for message in body["messages"][1:]]
    assert asked["toolUse"]["toolUseId"] == told["toolResult"]["toolUseId"]
    assert not lost


# --- texts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("blank", [" ", "\n\n", "\u2003\t"])
def test_blank_text_is_left_out(blank: str) -> None:
    """Models say line breaks before calls, and Bedrock does not take them back."""
    call = Message.assistant([Text(blank), ToolCall("c1", "add", "{}")])
    said = [Message.system(blank), Message.user("q"), call, Message.tool("c1", blank)]
    body, lost = accepted([*said, Message.user([blank, "so?"])], tools=[Tool("add")])
    assert lost == {"Text": 4}
    assert "system" not in body
    assert [list(block) for block in body["messages"][1]["content"]] == [["toolUse"]]
    body, lost = accepted([Message.user("q"), Message.assistant(blank), Message.user("r")])
    assert len(body["messages"]) == 1
    assert lost == {"Text": 1}


# --- documents and other media ---------------------------------------------------------------


def test_documents_without_words() -> None:
    """Bedrock wants a text beside documents: their name is put before them."""
    body, lost = accepted([Message.user([PAPER, PAPER])])
    assert [list(block) for block in body["messages"][0]["content"]] == [
        ["text"], ["document"], ["document"],
    ]  # fmt: skip
    assert body["messages"][0]["content"][0] == {"text": "paper"}
    assert lost == {"File": 1}
    assert accepted([Message.user([PAPER]), Message.user("What is this?")])[1] == {}


def test_sound_that_a_model_said() -> None:
    """Another model's sound goes on as its transcript."""
    sound = Audio(data=b"x", format="wav", transcript="Hello.")
    body, lost = accepted([Message.user("q"), Message.assistant([sound]), Message.user("r")])
    assert body["messages"][1]["content"] == [{"text": "Hello."}]
    assert lost == {"Audio": 1}


@pytest.mark.parametrize("part", [PAPER, Audio(data=b"x", format="wav")])
def test_media_of_the_assistant_are_refused(part: Part) -> None:
    """Documents and sound stand in messages of the user only."""
    with pytest.raises(UnsupportedError, match="assistant"):
        accepted([Message.user("q"), Message.assistant([part]), Message.user("r")])


def test_sound_in_results_is_refused() -> None:
    """A tool's result holds text, pictures, documents and films."""
    sound = ToolResult("c1", (Audio(data=b"x", format="wav"),))
    with pytest.raises(UnsupportedError, match="tool's result"):
        accepted([*CALLED[:2], Message.user([sound])], tools=[Tool("add")])


def test_types_of_pictures_are_read_leniently() -> None:
    """Neither capitals nor parameters make another type."""
    body, _ = accepted([Message.user([Image(data=b"x", media_type="Image/PNG; q=1")])])
    assert body["messages"][0]["content"][0]["image"]["format"] == "png"


# --- prompt caches ---------------------------------------------------------------------------


def test_no_point_outlives_one_before_it() -> None:
    """Tools come first, then the system, then messages, wherever the marks were written."""
    messages = [Message.system([Text("s", extra=LONG)]), Message.user([Text("u", extra=SHORT)])]
    body, lost = accepted(messages, tools=[Tool("a", extra=SHORT)])
    assert lives(body) == ["5m", "5m", "5m"]
    assert lost == {"cache_control.ttl": 1}
    body, lost = accepted(messages, tools=[Tool("a", extra=LONG)])
    assert lives(body) == ["1h", "1h", "5m"]
    assert lost == {}


def test_four_points_at_most() -> None:
    """The first ones of the messages are left out: the later ones cover what they did."""
    turns = [Message.user([Text(f"u{n}", extra=SHORT) for n in range(5)])]
    body, lost = accepted([Message.system([Text("s", extra=LONG)]), *turns])
    assert lives(body) == ["1h", "5m", "5m", "5m"]
    assert "cachePoint" in body["messages"][0]["content"][-1]
    assert lost == {"cache_control": 2}


def test_points_stand_behind_something() -> None:
    """A mark on what is left out, or a second one in the same place, is no point."""
    marked = Message.user([Text("", extra=SHORT)])
    body, _ = accepted([marked, Message.user("u")])
    assert lives(body) == []
    twice = Message("user", (Text("u", extra=SHORT),), extra=SHORT)
    assert lives(accepted([twice])[0]) == ["5m"]
    system = Message("system", (Text(""),), extra=SHORT)
    assert "system" not in accepted([system, Message.user("u")])[0]


def test_nova_forgets_soon() -> None:
    """Only Claude's cache keeps things for an hour."""
    body, lost = accepted([Message.user([Text("u", extra=LONG)])], model=NOVA)
    assert lives(body) == ["5m"]
    assert lost == {"cache_control.ttl": 1}


def test_points_of_ones_own_are_left_alone() -> None:
    """Who writes Bedrock's own block means it."""
    point = Opaque({"cachePoint": {"type": "default", "ttl": "1h"}}, "bedrock")
    assert lives(accepted([Message.user(["u", point])])[0]) == ["1h"]


# --- thinking --------------------------------------------------------------------------------


@pytest.mark.parametrize("capability", ["x-thinking-budget", "x-thinking-adaptive"])
def test_claude_does_not_think_where_a_tool_must_be_called(capability: str) -> None:
    """A forced call counts more than the effort, which is declared."""
    options = DialectOptions(
        card=ModelCard("m", "bedrock", capabilities=frozenset({capability, "reasoning"}))
    )
    fields: dict[str, Any] = {"tools": [Tool("add")], "reasoning_effort": "high"}
    body, lost = accepted([Message.user("q")], options, tool_choice="required", **fields)
    assert "additionalModelRequestFields" not in body
    assert lost == {"reasoning_effort": 1}
    body, lost = accepted([Message.user("q")], options, tool_choice="auto", **fields)
    assert body["additionalModelRequestFields"]["thinking"]
    assert lost == {}


@pytest.mark.parametrize(("thought", "thinks"), [(True, True), (False, False)])
def test_claude_goes_on_from_thoughts(thought: bool, thinks: bool) -> None:
    """With a budget, calls of another provider cannot be the beginning of a thoughtful answer."""
    card = ModelCard("m", "bedrock", capabilities=frozenset({"x-thinking-budget"}))
    call = ToolCall("c1", "add", "{}")
    own = Reasoning("hm", signature("hm"), extra={"provider": "bedrock"})
    said: list[Part] = [own, call] if thought else [call]
    body, lost = accepted(
        [Message.user("q"), Message.assistant(said), Message.tool("c1", "1")],
        DialectOptions(card=card),
        tools=[Tool("add")],
        reasoning_effort="low",
        max_output_tokens=3_000,
    )
    asked = {"thinking": {"type": "enabled", "budget_tokens": 1_500}}
    assert body.get("additionalModelRequestFields") == (asked if thinks else None)
    assert lost == ({} if thinks else {"reasoning_effort": 1})


# --- the rest --------------------------------------------------------------------------------


@pytest.mark.parametrize(("user", "sent"), [("u-1@example.org", True), ("auth0|42", False)])
def test_users_that_metadata_can_hold(user: str, sent: bool) -> None:
    """Names with other letters would be refused, and are left out."""
    options = DialectOptions(send_user=True)
    body, lost = accepted([Message.user("q")], options, context=Context(user=user))
    assert body.get("requestMetadata") == ({"user": user} if sent else None)
    assert lost == ({} if sent else {"user": 1})
