"""Converse: how requests are written, what is refused, and what is declared to be left out."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from itertools import pairwise
from typing import Any

import botocore.session
import botocore.validate
import msgspec
import pytest
from conversations import conversations
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import (
    Audio,
    ChatRequest,
    Context,
    File,
    Image,
    Message,
    Opaque,
    Reasoning,
    Refusal,
    Text,
    TokenCountRequest,
    Tool,
    ToolCall,
    UnsupportedError,
)
from lamella._cards import ModelCard
from lamella._trace import Trace
from lamella.transports import DialectOptions
from lamella_bedrock._converse import Converse, CountTokens
from lamella_bedrock._models import ModelNames, quoted

CLAUDE = "anthropic.claude-opus-5"
LLAMA = "us.meta.llama4-maverick-17b-instruct-v1:0"
TOOL = Tool("add", "Adds", {"type": "object", "properties": {"a": {"type": "integer"}}})
MARK = {"cache_control": {"type": "ephemeral"}}
LOOK = ToolCall("c1", "add", '{"a": 1}')


def written(
    messages: Any = "hi", /, options: DialectOptions | None = None, **fields: Any
) -> tuple[dict[str, Any], Counter[str]]:
    """The body of a request, as it is sent, and what is declared to be left out."""
    given: Any = messages
    if not isinstance(given, ChatRequest):
        given = ChatRequest.of(given, **{"model": CLAUDE, **fields})
    request: ChatRequest = given
    trace = Trace("call", monotonic=lambda: 0.0, wall=0.0)
    begun = request.evolve(context=request.context.evolve(trace=trace))
    body = Converse().encode(begun, stream=False, options=options or DialectOptions())
    lost = Counter({str(note.fields["what"]): int(note.fields["count"]) for note in trace.notes})
    return json.loads(msgspec.json.encode(body)), lost


def card(*capabilities: str) -> DialectOptions:
    """Options with a card of these capabilities."""
    return DialectOptions(card=ModelCard("m", "bedrock", capabilities=frozenset(capabilities)))


def content(part: Any, **fields: Any) -> Any:
    """The blocks that a part of a user's message becomes."""
    return written([Message.user(part)], **fields)[0]["messages"][0]["content"]


# --- golden ----------------------------------------------------------------------------------


def test_a_whole_conversation() -> None:
    """System first, results of one answer together, everything in its place."""
    other = ToolCall("c2", "add", "")
    thought = Reasoning("hm", "seal", extra={"provider": "bedrock", "model_family": "anthropic"})
    hidden = Reasoning("", "aGk=", redacted=True, extra={"provider": "bedrock"})
    messages = [
        Message.system("Be brief."),
        Message("developer", "Be kind."),
        Message.user(["What is", " this?", Image(data=b"PNG", media_type="image/png")]),
        Message.assistant([thought, hidden, Text("Wait."), LOOK, other]),
        Message.tool("c1", "2"),
        Message.tool("c2", "no such", error=True),
        Message.user("Well?"),
    ]
    body, lost = written(
        messages,
        tools=[TOOL, Tool("now")],
        tool_choice="add",
        temperature=0.5,
        top_p=0.9,
        max_output_tokens=64,
        stop="END",
        service_tier="flex",
    )
    assert body == {
        "system": [{"text": "Be brief."}, {"text": "Be kind."}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"text": "What is"},
                    {"text": " this?"},
                    {"image": {"format": "png", "source": {"bytes": "UE5H"}}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "seal"}}},
                    {"reasoningContent": {"redactedContent": "aGk="}},
                    {"text": "Wait."},
                    {"toolUse": {"toolUseId": "c1", "name": "add", "input": {"a": 1}}},
                    {"toolUse": {"toolUseId": "c2", "name": "add", "input": {}}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"toolResult": {"toolUseId": "c1", "content": [{"text": "2"}]}},
                    {
                        "toolResult": {
                            "toolUseId": "c2",
                            "content": [{"text": "no such"}],
                            "status": "error",
                        }
                    },
                    {"text": "Well?"},
                ],
            },
        ],
        "toolConfig": {
            "tools": [
                {
                    "toolSpec": {
                        "name": "add",
                        "description": "Adds",
                        "inputSchema": {"json": dict(TOOL.parameters)},
                    }
                },
                {
                    "toolSpec": {
                        "name": "now",
                        "inputSchema": {"json": {"type": "object", "properties": {}}},
                    }
                },
            ],
            "toolChoice": {"tool": {"name": "add"}},
        },
        "inferenceConfig": {
            "maxTokens": 64,
            "temperature": 0.5,
            "topP": 0.9,
            "stopSequences": ["END"],
        },
        "serviceTier": {"type": "flex"},
    }
    assert not lost


def plain(body: Any) -> Any:
    """A body as botocore takes it: bytes where the wire has base64."""
    if isinstance(body, dict):
        return {
            name: (b"x" if name in {"bytes", "redactedContent"} else plain(value))
            for name, value in body.items()
        }
    return [plain(each) for each in body] if isinstance(body, list) else body


@cache
def shape_of_converse() -> Any:
    """Botocore's model of what Converse takes."""
    client = botocore.session.Session().create_client(
        "bedrock-runtime", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    client.close()
    return client.meta.service_model.operation_model("Converse").input_shape


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_what_the_model_of_the_service_allows(data: st.DataObject) -> None:
    """Any conversation is valid by botocore's model of the operation."""
    asked = data.draw(conversations("bedrock")).evolve(model=CLAUDE)
    if any(isinstance(p, Image) and p.url for m in asked.messages for p in m.parts):
        with pytest.raises(UnsupportedError):
            written(asked)
        return
    body, _ = written(asked)
    given = {"modelId": CLAUDE, **plain(body)}
    report = botocore.validate.ParamValidator().validate(given, shape_of_converse())
    assert not report.has_errors(), report.generate_report()
    roles = [message["role"] for message in body["messages"]]
    assert all(one != other for one, other in pairwise(roles))


# --- parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            Image(url="s3://bucket/a.webp"),
            {"image": {"format": "webp", "source": {"s3Location": {"uri": "s3://bucket/a.webp"}}}},
        ),
        (
            Image(url="data:image/gif;base64,R0lG"),
            {"image": {"format": "gif", "source": {"bytes": "R0lG"}}},
        ),
        (
            File(data=b"x", media_type="text/plain; charset=utf-8", filename="my_file (1).v2.txt"),
            {
                "document": {
                    "format": "txt",
                    "name": "my file (1) v2",
                    "source": {"bytes": "eA=="},
                }
            },
        ),
        (
            File(url="s3://b/film.mp4", extra={"video": {"source": {"s3Location": {"uri": "s"}}}}),
            {"video": {"format": "mp4", "source": {"s3Location": {"uri": "s"}}}},
        ),
        (
            File(data=b"x", media_type="image/jpeg"),
            {"image": {"format": "jpeg", "source": {"bytes": "eA=="}}},
        ),
        (
            Audio(data=b"x", format="wav"),
            {"audio": {"format": "wav", "source": {"bytes": "eA=="}}},
        ),
        (
            Opaque({"guardContent": {"text": {"text": "g"}}}),
            {"guardContent": {"text": {"text": "g"}}},
        ),
    ],
)
def test_parts(part: Any, block: Any) -> None:
    """Pictures, documents, films, sound, by content or from S3; what we do not know, as is."""
    assert content([Text("look"), part])[1:] == [block]


def test_names_of_documents() -> None:
    """Documents have names of the few characters allowed, no two alike."""
    one = File(data=b"x", media_type="application/pdf", filename="ünï/ra\npport.pdf")
    none = File(data=b"x", media_type="application/pdf")
    names = [block["document"]["name"] for block in content(["look", one, one, none])[1:]]
    assert names == ["ra pport", "ra pport 2", "document"]


@pytest.mark.parametrize(
    "part",
    [
        Image(url="https://example.org/a.png"),
        Image(data=b"x"),
        Image(data=b"x", media_type="image/tiff"),
        File(id="file-1"),
        File(data=b"x", media_type="application/zip"),
        File(url="https://example.org/a.pdf"),
        Audio(id="sound-1"),
        Opaque({"type": "other"}, "openai"),
    ],
)
def test_parts_that_are_refused(part: Any) -> None:
    """What Converse has no words for is refused, with what to do."""
    with pytest.raises(UnsupportedError) as caught:
        content(part)
    assert caught.value.hint


@pytest.mark.parametrize("arguments", ["{", "[]", "3", '"a"'])
def test_arguments_that_are_no_object(arguments: str) -> None:
    """A call whose arguments are no JSON object cannot be told."""
    with pytest.raises(UnsupportedError, match="no JSON object"):
        written([Message.assistant([ToolCall("c", "add", arguments)])])


def test_ids_of_other_providers() -> None:
    """A call's id that Bedrock would refuse is replaced, alike in the call and in its result."""
    odd = "call|" + "x" * 80
    body, _ = written([Message.assistant([ToolCall(odd, "add", "{}")]), Message.tool(odd, "1")])
    call, result = [message["content"][0] for message in body["messages"]]
    assert call["toolUse"]["toolUseId"] == result["toolResult"]["toolUseId"]
    assert len(call["toolUse"]["toolUseId"]) <= 64


def test_citations_go_back() -> None:
    """Text that cites goes back with what it cites, and to another provider without."""
    cited = [{"title": "t", "location": {"documentChar": {"documentIndex": 0}}}]
    text = Text("so", extra={"provider": "bedrock", "citations": cited})
    body, lost = written([Message.user("q"), Message.assistant([text])])
    assert body["messages"][1]["content"] == [
        {"citationsContent": {"content": [{"text": "so"}], "citations": cited}}
    ]
    assert not lost
    foreign = Text("so", extra={"provider": "anthropic", "citations": cited})
    body, lost = written([Message.user("q"), Message.assistant([foreign])])
    assert body["messages"][1]["content"] == [{"text": "so"}]
    assert lost == {"Text.extra": 1}


def test_empty_text_is_left_out() -> None:
    """Bedrock refuses empty text; a message of nothing else is none."""
    body, _ = written([Message.user("a"), Message.assistant(""), Message.user(["", "b"])])
    assert body["messages"] == [{"role": "user", "content": [{"text": "a"}, {"text": "b"}]}]


# --- what is left out ------------------------------------------------------------------------


def test_a_later_system_message() -> None:
    """It is moved to the front, which is declared."""
    body, lost = written([Message.user("a"), Message.system("b"), Message.user("c")])
    assert body["system"] == [{"text": "b"}]
    assert body["messages"] == [{"role": "user", "content": [{"text": "a"}, {"text": "c"}]}]
    assert lost == {"position of a system message": 1}


def test_a_later_system_message_in_its_place() -> None:
    """It stays where it is for models whose card allows it."""
    said = [Message.user("a"), Message.system("b"), Message.user("c")]
    body, lost = written(said, options=card("x-late-system"))
    assert [message["role"] for message in body["messages"]] == ["user", "system", "user"]
    assert "system" not in body
    assert not lost


def test_changes_of_tools_stay_in_place() -> None:
    """A system message of Bedrock's own blocks stands where it takes effect."""
    change = {"toolRemoval": {"tool": {"name": "add"}}}
    body, lost = written([Message.user("a"), Message.system([Opaque(change)]), Message.user("c")])
    assert body["messages"][1] == {"role": "system", "content": [change]}
    assert not lost


@pytest.mark.parametrize(
    ("thought", "model"),
    [
        (Reasoning("t", "s", extra={"provider": "anthropic"}), CLAUDE),
        (Reasoning("t", "s"), CLAUDE),
        (Reasoning("t"), CLAUDE),
        (Reasoning("t", extra={"provider": "bedrock"}), CLAUDE),
        (Reasoning("t", extra={"provider": "bedrock"}), "us.deepseek.r1-v1:0"),
        (Reasoning("t", "s", extra={"provider": "bedrock", "model_family": "anthropic"}), LLAMA),
    ],
)
def test_thoughts_that_do_not_go_back(thought: Reasoning, model: str) -> None:
    """Others' thoughts, another vendor's on Bedrock, and those that a model refuses."""
    body, lost = written([Message.user("a"), Message.assistant([thought, "b"])], model=model)
    assert body["messages"][1]["content"] == [{"text": "b"}]
    assert lost == {"Reasoning": 1}


def test_sealed_thoughts_are_refused_where_asked() -> None:
    """With `refuse_foreign` nothing of another's is dropped."""
    options = DialectOptions(refuse_foreign=True)
    for extra in ({"provider": "x"}, {"provider": "bedrock", "model_family": "openai"}):
        said = [Message.assistant([Reasoning("t", "s", extra=extra)])]
        with pytest.raises(UnsupportedError):
            written(said, options=options)


def test_unsigned_thoughts_go_back() -> None:
    """A thought without seal goes back to the vendor's models that had it."""
    extra = {"provider": "bedrock", "model_family": "openai"}
    said = [Message.assistant([Reasoning("t", extra=extra)])]
    body, lost = written(said, model="openai.gpt-oss-120b-1:0")
    assert body["messages"][0]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "t"}}}
    ]
    assert not lost


def test_failures_of_tools_in_words() -> None:
    """Models that do not take a result's status are told in the words."""
    body, _ = written([Message.tool("c", "gone", error=True)], model=LLAMA)
    result = body["messages"][0]["content"][0]["toolResult"]
    assert result == {"toolUseId": "c", "content": [{"text": "Error: gone"}]}


def test_refusals_are_text() -> None:
    """A model's earlier refusal goes back as its words."""
    body, _ = written([Message.assistant([Refusal("no")])])
    assert body["messages"][0]["content"] == [{"text": "no"}]


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
    """A schema goes as text into the output's configuration; other shapes are refused."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    shape = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    body, _ = written("hi", response_format=shape, reasoning_effort="low")
    made = body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    assert (json.loads(made["schema"]), made["name"]) == (schema, "n")
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
