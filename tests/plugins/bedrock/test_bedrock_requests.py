"""Converse: how requests are written, what is refused, and what is declared to be left out."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import botocore.session
import botocore.validate
import pytest
from bedrock_requests import CLAUDE, LLAMA, LOOK, TOOL, card, content, written
from conversations import conversations
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import (
    Audio,
    File,
    Image,
    Message,
    Opaque,
    Reasoning,
    Refusal,
    Text,
    Tool,
    ToolCall,
    UnsupportedError,
)
from lamella.transports import DialectOptions

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
