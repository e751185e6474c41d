"""What the mock of Bedrock takes is what the SDK's model says, and it is read without loss."""

import base64
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from bedrock_clients import QUESTION, session

from lamella import Audio, File, Image, Message, Opaque, Reasoning, Text, Tool, ToolCall, ToolResult
from lamella._mock_rejections import Rejection
from lamella.testing._mock_bedrock._model import CONVERSE, CONVERSE_STREAM, COUNT_TOKENS
from lamella.testing._mock_bedrock._requests import read_bedrock
from lamella.testing._mock_bedrock._rules import check_rules
from lamella.testing._mock_bedrock._shapes import Check
from lamella.testing._mock_bedrock._thoughts import hidden, signature

HI = base64.b64encode(b"hi").decode()
_FITTING = {
    "AccountId": "123456789012",
    "GuardrailIdentifier": "abc",
    "GuardrailVersion": "DRAFT",
    "S3Uri": "s3://bucket/key",
}
_OPERATIONS = [
    ("Converse", CONVERSE),
    ("ConverseStream", CONVERSE_STREAM),
    ("CountTokens", COUNT_TOKENS),
]

# --- the shapes --------------------------------------------------------------------------------


@cache
def model(operation: str) -> Any:
    """The shape of an operation's input, as the SDK has it."""
    return session().get_service_model("bedrock-runtime").operation_model(operation).input_shape


def examples(shape: Any) -> list[Any]:
    """Values of a shape that together show each member, each choice and each word of it once."""
    kind = shape.type_name
    if kind == "structure" and shape.metadata.get("document"):
        return [{"any": [1, None]}]
    if kind == "structure" and getattr(shape, "is_tagged_union", False):
        members = shape.members.items()
        return [{name: each} for name, member in members for each in examples(member)]
    if kind == "structure":
        members = {n: m for n, m in shape.members.items() if "location" not in m.serialization}
        least = {name: examples(members[name])[0] for name in shape.required_members
                 if name in members}  # fmt: skip
        more = [{**least, n: each} for n, member in members.items() for each in examples(member)]
        return [least, *more]
    if kind == "list":
        return [[each] for each in examples(shape.member)]
    if kind == "map":
        return [{"name": each} for each in examples(shape.value)]
    return _plain(shape, kind)


def _plain(shape: Any, kind: str) -> list[Any]:
    if kind == "string":
        return list(shape.enum) or [_FITTING.get(shape.name, "text")]
    known: dict[str, list[Any]] = {
        "blob": [HI],
        "boolean": [True, False],
        "integer": [1],
        "float": [0.5],
    }
    return known[kind]


def broken(shape: Any, value: Any) -> Iterator[Any]:
    """The same value with one thing wrong in it, in every place."""
    yield "another kind" if shape.type_name not in {"string", "blob"} else 12
    if shape.type_name == "string" and shape.enum:
        yield "no such word"
    if shape.type_name == "list":
        yield from ([each] for each in broken(shape.member, value[0]))
    if shape.type_name == "structure" and not shape.metadata.get("document"):
        yield from _broken_members(shape, value)


def _broken_members(shape: Any, value: dict[str, Any]) -> Iterator[Any]:
    yield {**value, "noSuchMember": 1}
    for name in shape.required_members:
        if name in value:
            yield {key: each for key, each in value.items() if key != name}
    for name, each in value.items():
        if not shape.members[name].metadata.get("document"):
            yield from ({**value, name: wrong} for wrong in broken(shape.members[name], each))


@pytest.mark.parametrize(("operation", "check"), _OPERATIONS)
def test_every_member_that_the_sdk_knows_is_taken(operation: str, check: Check) -> None:
    """Each member, each choice of a union, each word of an enumeration."""
    found = examples(model(operation))
    assert len(found) > 30
    for example in found:
        check(example, "")


@pytest.mark.parametrize(("operation", "check"), _OPERATIONS)
def test_whatever_breaks_a_shape_is_refused(operation: str, check: Check) -> None:
    """A wrong kind, an unknown word or member, and a missing one, in every place."""
    shape = model(operation)
    for example in examples(shape):
        for wrong in broken(shape, example):
            with pytest.raises(Rejection) as caught:
                check(wrong, "")
            assert caught.value.code in {"ValidationException", "SerializationException"}, wrong


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (None, "an object is expected"),
        ({"inferenceConfig": {"maxTokens": 0}}, "greater than or equal to 1"),
        ({"inferenceConfig": {"temperature": 1.5}}, "less than or equal to 1"),
        ({"inferenceConfig": {"maxTokens": 1.5}}, "an integer is expected"),
        ({"requestMetadata": {}}, "1 to 16"),
        ({"requestMetadata": {"a": "é"}}, "regular expression"),
        ({"system": [{"text": ""}]}, "length greater than or equal to 1"),
        ({"toolConfig": {"tools": []}}, "length greater than or equal to 1"),
        ({"additionalModelResponseFieldPaths": ["/a"] * 11}, "length less than or equal to 10"),
        ({"outputConfig": {"effort": "x" * 17}}, "length less than or equal to 16"),
        (
            {"messages": [{"role": "user", "content": [{"image": {
                "format": "png", "source": {"bytes": "no base64!"}}}]}]},
            "base64 is expected",
        ),
        (
            {"messages": [{"role": "user", "content": [{"image": {
                "format": "png", "source": {"bytes": ""}}}]}]},
            "length greater than or equal to 1",
        ),
        ({"messages": [{"role": "user", "content": [{"text": "a", "image": {}}]}]}, "Exactly one"),
        ({"guardrailConfig": {"streamProcessingMode": "sync"}}, "no member"),
        ({"additionalModelRequestFields": []}, "is an object"),
        (
            {"toolConfig": {"tools": [{"toolSpec": {"name": "a", "inputSchema": {"json": 1}}}]}},
            "is an object",
        ),
    ],
)  # fmt: skip
def test_bounds(body: Any, message: str) -> None:
    """Numbers, lengths and patterns are held to."""
    with pytest.raises(Rejection, match=message):
        read_bedrock(body, shape=CONVERSE)


# --- the rules ---------------------------------------------------------------------------------


def turn(role: str, *content: Any) -> dict[str, Any]:
    """One message; a text is a block of text."""
    return {"role": role, "content": [{"text": c} if isinstance(c, str) else c for c in content]}


def use(name: str = "one") -> dict[str, Any]:
    """A call of a tool."""
    return {"toolUse": {"toolUseId": name, "name": "look", "input": {}}}


def result(name: str = "one", *content: Any) -> dict[str, Any]:
    """Its result."""
    return {"toolResult": {"toolUseId": name, "content": list(content)}}


def paper(name: str = "a note", **fields: Any) -> dict[str, Any]:
    """A document."""
    return {"document": {"format": "txt", "name": name, "source": {"bytes": HI}, **fields}}


def mark(ttl: str = "5m") -> dict[str, Any]:
    """A cache point."""
    return {"cachePoint": {"type": "default", "ttl": ttl}}


LOOK: Any = {"toolSpec": {"name": "look", "inputSchema": {"json": {"type": "object"}}}}
TOOLS: Any = {"toolConfig": {"tools": [LOOK]}}
ASK = turn("user", "Look.")


@pytest.mark.parametrize(
    ("messages", "fields", "message"),
    [
        ([], {}, "must start with a user message"),
        ([turn("assistant", "Hi.")], {}, "must start with a user message"),
        ([turn("system", "Be brief."), ASK], {}, "must start with a user message"),
        ([ASK, ASK], {}, "must alternate"),
        ([ASK, turn("system", "Be brief."), ASK], {}, "must alternate"),
        ([turn("user")], {}, r"messages\.0 is empty"),
        ([turn("user", "a", " \n")], {}, r"messages\.0\.content\.1 is blank"),
        ([ASK, turn("assistant", paper(), "a")], {}, "cannot hold the document"),
        ([turn("user", use())], {}, "cannot hold the toolUse"),
        ([ASK, turn("assistant", result())], TOOLS, "cannot hold the toolResult"),
        ([turn("user", "a", paper("report.pdf"))], {}, "alphanumeric"),
        ([turn("user", "a", paper("a  note"))], {}, "alphanumeric"),
        ([turn("user", "a", paper(), paper())], {}, "duplicate document names"),
        ([turn("user", paper())], {}, "text block must be included"),
        ([turn("user", "a", *[paper(f"n{n}") for n in range(6)])], {}, "more than 5 documents"),
        ([ASK, turn("assistant", use())], TOOLS, r"Expected toolResult blocks at messages\.2"),
        ([ASK, turn("assistant", use()), ASK], TOOLS, r"messages\.2\.content for the following"),
        ([turn("user", result())], TOOLS, "exceeds the number of toolUse"),
        ([ASK, turn("assistant", use(), use()), turn("user", result())], TOOLS, "duplicate Ids"),
        ([ASK, turn("assistant", use()), turn("user", result())], {}, "toolConfig field must be"),
        ([ASK], {"toolConfig": {"tools": [LOOK, LOOK]}}, "different names"),
        ([ASK], {"toolConfig": {"tools": [mark()]}}, "no tools"),
        (
            [ASK],
            {"toolConfig": {"tools": [LOOK], "toolChoice": {"tool": {"name": "go"}}}},
            "not among the tools",
        ),
        (
            [ASK],
            {"toolConfig": {"tools": [
                {"toolSpec": {"name": "a", "inputSchema": {"json": {"type": "array"}}}}]}},
            "one of the following: object",
        ),
        ([turn("user", "a", *[mark()] * 5)], {}, "4 cache points at most"),
        ([turn("user", "a", mark("1h"))], {"system": [{"text": "a"}, mark()]}, "'1h' must not"),
        ([turn("user", "a", paper(), mark())], {}, "Field required"),
    ],
)  # fmt: skip
def test_what_is_refused_in_the_right_shape(messages: Any, fields: Any, message: str) -> None:
    """Turns, results of tools, documents and cache points have rules of their own."""
    body = {"messages": messages, **fields}
    read_bedrock(body)
    with pytest.raises(Rejection, match=message):
        check_rules(body, "mock")


@pytest.mark.parametrize(
    ("messages", "fields", "message"),
    [
        ([turn("user", "a", mark("1h"))], {}, "only supported for Anthropic"),
        ([ASK], {"toolConfig": {"tools": [LOOK, mark()]}}, "not permitted"),
        (
            [ASK, turn("assistant", use("a")), turn("user", result("a"), mark())],
            {"toolConfig": {"tools": [LOOK]}},
            "Field required",
        ),
    ],
)
def test_what_nova_does_not_cache(messages: Any, fields: Any, message: str) -> None:
    """Nova keeps nothing for an hour, no tools, and nothing up to a tool's result; Claude does."""
    body = {"messages": messages, **fields}
    read_bedrock(body)
    check_rules(body, "anthropic.claude-opus-5")
    with pytest.raises(Rejection, match=message):
        check_rules(body, "us.amazon.nova-pro-v1:0")


@pytest.mark.parametrize(
    "messages",
    [
        QUESTION,
        [ASK, turn("assistant", "Well,")],
        [ASK, turn("system", "Be brief."), turn("assistant", "Yes."), ASK],
        [ASK, turn("assistant", use("a"), use("b")), turn("user", result("b"), result("a"), "?")],
        [turn("user", "a", paper("Note (1) [x]"), "b", mark("1h"), mark())],
        [turn("user", "a", paper(format="pdf"), mark())],
    ],
)
def test_what_is_accepted(messages: Any) -> None:
    """An answer that is begun, a later system message, results in any order."""
    body = {"messages": messages, **TOOLS}
    read_bedrock(body)
    check_rules(body, "mock")


# --- the reader --------------------------------------------------------------------------------

OWN = {"provider": "bedrock"}
LINK = {"s3Location": {"uri": "s3://bucket/key", "bucketOwner": "123456789012"}}
LATER = {"cachePoint": {"type": "default"}}


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ({"text": "Hi"}, Text("Hi")),
        (
            {"image": {"format": "png", "source": {"bytes": HI}}},
            Image(data=b"hi", media_type="image/png"),
        ),
        (
            {"image": {"format": "webp", "source": LINK}},
            Image(
                url="s3://bucket/key",
                media_type="image/webp",
                extra={"bucketOwner": "123456789012", **OWN},
            ),
        ),
        (paper(), File(data=b"hi", filename="a note", media_type="text/plain")),
        (
            paper(context="c", citations={"enabled": True}),
            File(
                data=b"hi",
                filename="a note",
                media_type="text/plain",
                extra={"context": "c", "citations": {"enabled": True}, **OWN},
            ),
        ),
        (
            {"video": {"format": "three_gp", "source": {"bytes": HI}}},
            File(data=b"hi", media_type="video/3gpp"),
        ),
        ({"audio": {"format": "mp3", "source": {"bytes": HI}}}, Audio(b"hi", "mp3")),
        (
            {"toolUse": {"toolUseId": "a", "name": "b", "input": {"c": [1, "é"]}}},
            ToolCall("a", "b", '{"c":[1,"é"]}'),
        ),
        (
            {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "s"}}},
            Reasoning("Hm.", "s", extra=OWN),
        ),
        (
            {"reasoningContent": {"redactedContent": HI}},
            Reasoning("", HI, redacted=True, extra=OWN),
        ),
    ],
)
def test_blocks_are_parts(block: Any, part: Any) -> None:
    """Each block is the part that means it, with what only this API knows in its extra."""
    (message,) = read_bedrock({"messages": [turn("user", block)]}).messages
    assert message.parts == (part,)


@pytest.mark.parametrize(
    "block",
    [
        {"guardContent": {"text": {"text": "a", "qualifiers": ["query"]}}},
        {"citationsContent": {"content": [{"text": "a"}]}},
        {"searchResult": {"source": "a", "title": "b", "content": [{"text": "c"}]}},
        {"document": {"name": "a", "source": {"text": "b"}}},
        {"audio": {"format": "mp3", "source": LINK}},
        {"toolUse": {"toolUseId": "a", "name": "b", "input": {}, "type": "server_tool_use"}},
        {"toolResult": {"toolUseId": "a", "content": [], "type": "x"}},
        {"toolRemoval": {"tool": {"name": "a"}}},
        LATER,
    ],
)
def test_the_rest_stays_as_it_is(block: Any) -> None:
    """What only this API has is kept verbatim, and says whose it is."""
    (message,) = read_bedrock({"messages": [turn("user", block)]}).messages
    assert message.parts == (Opaque(block, "bedrock"),)


def test_results_are_messages_of_their_own() -> None:
    """In their order, with the rest of the turn after or between them."""
    failed = {"toolResult": {"toolUseId": "b", "content": [{"text": "no"}], "status": "error"}}
    content = [result("a", {"json": {"x": 1}}), LATER, failed, {"text": "And?"}]
    found = read_bedrock({"messages": [turn("user", *content)]}).messages
    assert [message.role for message in found] == ["tool", "tool", "user"]
    inner = (Opaque({"json": {"x": 1}}, "bedrock"),)
    mark = {"cache_control": {"type": "ephemeral"}}
    assert found[0] == Message("tool", ToolResult("a", inner, extra=mark))
    assert found[1] == Message.tool("b", "no", error=True)


def test_cache_points_mark_what_stands_before_them() -> None:
    """Texts, tools and system blocks; a second one in the same place stays as it is."""
    body = {
        "system": [{"text": "Be brief."}, mark("1h")],
        "messages": [turn("user", "Hi", LATER, LATER)],
        "toolConfig": {"tools": [LOOK, mark(), {"systemTool": {"name": "nova_grounding"}}]},
    }
    request = read_bedrock(body)
    system, user = request.messages
    brief, hi = system.parts[0], user.parts[0]
    assert isinstance(brief, Text)
    assert isinstance(hi, Text)
    hour = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    assert (system.role, brief.extra) == ("system", hour)
    assert hi.extra == {"cache_control": {"type": "ephemeral"}}
    assert user.parts[1] == Opaque(LATER, "bedrock")
    tool, hosted = request.tools
    assert isinstance(tool, Tool)
    assert tool.extra == {"cache_control": {"type": "ephemeral", "ttl": "5m"}}
    assert hosted == Opaque({"systemTool": {"name": "nova_grounding"}}, "bedrock")


def test_fields_are_read() -> None:
    """Limits, tools, formats and effort have fields; the rest is in the extra, by its own name."""
    schema = {"type": "object"}
    kept = {
        "guardrailConfig": {"guardrailIdentifier": "abc", "guardrailVersion": "1"},
        "requestMetadata": {"team": "sky"},
        "performanceConfig": {"latency": "standard"},
        "additionalModelResponseFieldPaths": ["/stop_sequence"],
        "promptVariables": {"a": {"text": "b"}},
    }
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    wanted = {"name": "n", "description": "d", "schema": json.dumps(schema)}
    body = {
        "messages": QUESTION,
        "inferenceConfig": {
            "maxTokens": 5, "temperature": 0, "topP": 0.5, "stopSequences": ["a"]
        },
        "toolConfig": {"tools": [LOOK], "toolChoice": {"any": {}}},
        "serviceTier": {"type": "flex"},
        "outputConfig": {
            "effort": "low",
            "textFormat": {"type": "json_schema", "structure": {"jsonSchema": wanted}},
        },
        "additionalModelRequestFields": {"top_k": 7, "tool_choice": choice},
        **kept,
    }  # fmt: skip
    request = read_bedrock(body, "mock")
    assert request.model == "mock"
    assert (request.max_output_tokens, request.temperature, request.top_p) == (5, 0, 0.5)
    assert (request.stop, request.service_tier) == (("a",), "flex")
    assert (request.tool_choice, request.parallel_tool_calls) == ("required", False)
    assert request.tools == (Tool("look", parameters=schema),)
    assert request.reasoning_effort == "low"
    assert request.response_format == {
        "type": "json_schema",
        "json_schema": {"name": "n", "description": "d", "schema": schema},
    }
    assert request.extra == {**kept, "additionalModelRequestFields": {"top_k": 7}}


@pytest.mark.parametrize(
    ("choice", "found"),
    [({"auto": {}}, "auto"), ({"any": {}}, "required"), ({"tool": {"name": "look"}}, "look")],
)
def test_choices_of_tools(choice: Any, found: str) -> None:
    """Each has the library's word."""
    request = read_bedrock({"toolConfig": {"tools": [LOOK], "toolChoice": choice}})
    assert request.tool_choice == found


@pytest.mark.parametrize(
    ("more", "effort", "left"),
    [
        ({"reasoning_effort": "high"}, "high", None),
        ({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}, "low", None),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "max", None),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
            None,
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
        ),
    ],
)
def test_effort_in_the_words_of_families(more: Any, effort: str | None, left: Any) -> None:
    """What names an effort is one; what else there is stays."""
    request = read_bedrock({"additionalModelRequestFields": more})
    assert request.reasoning_effort == effort
    assert request.extra.get("additionalModelRequestFields") == left


@pytest.mark.parametrize("schema", ["{", "[]"])
def test_schemas_that_are_none(schema: str) -> None:
    """The schema of an answer is a text that holds a JSON object."""
    wanted = {"type": "json_schema", "structure": {"jsonSchema": {"schema": schema}}}
    with pytest.raises(Rejection, match="schema"):
        read_bedrock({"outputConfig": {"textFormat": wanted}})


# --- seals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "Hm.", "日本", "\ud800"])
def test_seals_are_those_of_their_texts(text: str) -> None:
    """A text has one seal, and a hidden one can be told from any other bytes."""
    shown = {"reasoningText": {"text": text, "signature": signature(text)}}
    secret = {"redactedContent": hidden(text)}
    answer = turn("assistant", {"reasoningContent": shown}, {"reasoningContent": secret})
    check_rules({"messages": [ASK, answer, ASK]}, "mock")
    answer["content"][0]["reasoningContent"]["reasoningText"]["text"] += "."
    with pytest.raises(Rejection, match="signature"):
        check_rules({"messages": [ASK, answer, ASK]}, "mock")
