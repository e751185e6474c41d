"""How conversations and parameters are written for the Messages API."""

from __future__ import annotations

import re
from typing import Any

import pytest
from anthropic_wire import DIALECT, EPHEMERAL, HI, MARK, asked, body, left_out, refused

from lamella import (
    Audio,
    File,
    Image,
    Message,
    ModelCard,
    Opaque,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    UnsupportedError,
)
from lamella.transports import DialectOptions


def turns(*messages: Message | str) -> Any:
    """The messages that are sent for a conversation."""
    return body([Message.user(m) if isinstance(m, str) else m for m in messages])["messages"]


def block(part: Any) -> Any:
    """How one part of a user's message is written."""
    (turn,) = turns(Message.user([Text("see"), part]))
    return turn["content"][1]


def said(*parts: Any) -> Any:
    """How an earlier answer is written."""
    _, turn = turns("hi", Message.assistant(parts))
    return turn["content"]


# --- conversations ---------------------------------------------------------------------------


def test_a_plain_request_is_plain() -> None:
    """Text alone goes as a string, with the bound that the API demands."""
    written = DIALECT.encode(asked(), stream=True, options=DialectOptions())
    assert written == {
        "model": "claude-test",
        "max_tokens": 8192,
        "messages": [HI],
        "stream": True,
    }


def test_leading_system_messages_become_the_system_prompt() -> None:
    """Of both roles; as one string where there is one, and as blocks where they are marked."""
    assert body([Message.system("be kind"), Message.user("hi")]) == {
        "system": "be kind",
        "messages": [HI],
    }
    marked = Message("developer", Text("long", EPHEMERAL))
    assert body([Message.system("be kind"), marked, Message.user("hi")])["system"] == [
        {"type": "text", "text": "be kind"},
        {"type": "text", "text": "long", **EPHEMERAL},
    ]


def test_a_later_system_message_stays_after_a_users_turn() -> None:
    """Where the model's card says that it takes it there, or nobody knows the model."""
    late = [Message.user("hi"), Message.system("be brief")]
    assert body(late)["messages"] == [HI, {"role": "system", "content": "be brief"}]
    old = ModelCard("claude-test", "anthropic", capabilities=frozenset({"tools"}))
    assert body(late, {"card": old}) == {"system": "be brief", "messages": [HI]}
    new = ModelCard("claude-test", "anthropic", capabilities=frozenset({"x-late-system"}))
    assert "system" not in body(late, {"card": new})


ODD = Message("system", "y", extra={"clear_at": "next_user_message"})


@pytest.mark.parametrize(
    ("messages", "roles"),
    [
        (["user", "assistant", "x", "user"], ["user", "assistant", "user"]),
        (["user", "x", "user"], ["user"]),
        (["user", "x", "thought", "user"], ["user"]),
        (["user", "", "x", "assistant"], ["user", "system", "assistant"]),
        (["user", "x", "x", "assistant"], ["user", "system", "assistant"]),
        (["user", ODD, "x", "assistant"], ["user", "system", "assistant"]),
        (["user", "x", ODD], ["user", "system"]),
    ],
)
def test_a_system_message_stays_only_where_the_api_takes_it(
    messages: list[Any], roles: list[str]
) -> None:
    """Between a user's turn and an answer or the end, and one alone; others move to the front."""
    known = {
        "x": Message.system("x"),
        "": Message.assistant(""),
        "thought": Message.assistant(Reasoning("hm", "sig", extra=MARK)),
    }
    asked = [
        each if isinstance(each, Message) else known.get(each) or Message(each, each)
        for each in messages
    ]
    written, lost = left_out(asked)
    assert [turn["role"] for turn in written["messages"]] == roles
    moved = "system" in written
    assert moved == ("position of a system message" in lost)
    texts = "".join(each for each in (written.get("system"), str(written["messages"])) if each)
    assert texts.count("x") >= 1


def test_turns_of_one_role_become_one() -> None:
    """All results of a turn's tools stand in one message, and what the user says follows them."""
    calls = [ToolCall("t1", "f", '{"a": 1}'), ToolCall("t2", "f", " ")]
    written = turns(
        "hi",
        Message.assistant(calls),
        Message.tool("t1", "one"),
        Message.tool("t2", "no such file", error=True),
        "and?",
    )
    assert written[1]["content"] == [
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "t2", "name": "f", "input": {}},
    ]
    assert written[2:] == [
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "one"},
                {
                    "type": "tool_result",
                    "tool_use_id": "t2",
                    "content": "no such file",
                    "is_error": True,
                },
                {"type": "text", "text": "and?"},
            ],
        }
    ]


def test_what_only_one_message_says_keeps_it_apart() -> None:
    """A message with fields of its own is not joined with others."""
    special = Message("system", "soon", extra={"clear_at": "next_user_message"})
    assert turns("hi", special)[1] == {
        "role": "system",
        "content": "soon",
        "clear_at": "next_user_message",
    }
    other = Message("user", "b", extra={"x": 1})
    assert len(turns("a", other, "c")) == 3


def test_empty_texts_are_left_out() -> None:
    """The API refuses them, and nothing is lost."""
    assert turns("hi", Message.assistant(""), Message.user([Text(""), Text("ho")])) == [
        {
            "role": "user",
            "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "ho"}],
        }
    ]


@pytest.mark.parametrize("text", [" ", "\n\n"])
def test_texts_without_a_word_are_left_out(text: str) -> None:
    """The API refuses them, and models do write them before they call a tool; it is noted."""
    call = ToolCall("t", "f", "{}")
    told = [Message.user("hi"), Message.assistant([Text(text), call]), Message.tool("t", text)]
    written, lost = left_out(told)
    assert [block["type"] for block in written["messages"][1]["content"]] == ["tool_use"]
    assert "content" not in written["messages"][2]["content"][0]
    assert lost == ["Text"]
    assert left_out([Message.user([Text("", EPHEMERAL), Text("hi")])])[1] == ["Text"]


def test_a_failed_tool_says_something() -> None:
    """The API takes no failed result without content."""
    failed = Message.tool("t", "", error=True)
    *_, turn = turns("hi", Message.assistant([ToolCall("t", "f", "{}")]), failed)
    (result,) = turn["content"]
    assert result["is_error"] is True
    assert result["content"] == "The tool failed."


def test_ids_of_calls_fit_the_api() -> None:
    """Other providers use other letters; a call and its result keep the same id."""
    calls = [ToolCall(id, "f", "{}") for id in ("functions.f:0", "functions.f:1", "toolu_1")]
    _, turn, results = turns(
        "hi", Message.assistant(calls), *[Message.tool(call.id, "x") for call in calls]
    )
    ids = [block["id"] for block in turn["content"]]
    assert [block["tool_use_id"] for block in results["content"]] == ids
    assert len(set(ids)) == 3
    assert ids[2] == "toolu_1"
    assert all(re.fullmatch("[a-zA-Z0-9_-]+", id) for id in ids)


# --- parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "written"),
    [
        (
            Image(data=b"\x89", media_type="image/png"),
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": "iQ=="},
            },
        ),
        (
            Image(url="data:image/png;base64,iQ=="),
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": "iQ=="},
            },
        ),
        (
            Image(url="https://a.example/b.png", extra=EPHEMERAL),
            {
                "type": "image",
                "source": {"type": "url", "url": "https://a.example/b.png"},
                **EPHEMERAL,
            },
        ),
        (
            File(data=b"%PDF-1", filename="a.pdf"),
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"},
                "title": "a.pdf",
            },
        ),
        (
            File(data=b"%PDF-1"),
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"},
            },
        ),
        (
            File(data="hé".encode(), media_type="text/markdown; charset=utf-8"),
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "hé"},
            },
        ),
        (
            File(id="file_1", extra={"citations": {"enabled": True}}),
            {
                "type": "document",
                "source": {"type": "file", "file_id": "file_1"},
                "citations": {"enabled": True},
            },
        ),
        (
            File(id="file_1", media_type="image/png"),
            {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        ),
        (
            File(url="https://a.example/b.pdf"),
            {"type": "document", "source": {"type": "url", "url": "https://a.example/b.pdf"}},
        ),
        (
            Opaque({"type": "container_upload", "file_id": "file_1"}),
            {"type": "container_upload", "file_id": "file_1"},
        ),
    ],
)
def test_pictures_and_documents(part: Any, written: Any) -> None:
    """By content, by address and by the id of an upload."""
    assert block(part) == written


def test_a_result_may_hold_what_a_message_may() -> None:
    """Pictures, documents, and what only the API knows."""
    shown = Image(url="https://a.example/b.png")
    _, _, turn = turns(
        "hi", Message.assistant([ToolCall("t", "f", "{}")]), Message.tool("t", shown)
    )
    assert turn["content"][0]["content"] == [
        {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}}
    ]


@pytest.mark.parametrize(
    "part",
    [
        Audio(data=b"x", format="wav"),
        Image(data=b"x"),
        Image(url="data:nonsense"),
        File(data=b"\xff\xfe", media_type="text/plain"),
        File(data=b"x", media_type="application/zip"),
        File(data=b"x"),
        Opaque({"type": "x"}, provider="openai"),
        ToolCall("t", "f", "{}"),
    ],
)
def test_what_users_cannot_say_is_refused(part: Any) -> None:
    """Sound, unknown kinds of content, and what belongs to others."""
    assert refused([Message.user(part)]).code == "unsupported_part"


@pytest.mark.parametrize(
    "message",
    [
        Message("user", "hi", name="bob"),
        Message.system(Image(url="https://a.example/b.png")),
        Message("function", "x"),
        Message.assistant([ToolCall("t", "f", "free text", "custom")]),
        Message.assistant([ToolCall("t", "f", '{"a": ')]),
        Message.assistant([ToolCall("t", "f", "[1]")]),
        Message.assistant([ToolCall("t", "f", '{"a": 1e400}')]),
        Message.assistant([ToolCall("t", "f", '{"a": NaN}')]),
        Message.assistant(Image(url="https://a.example/b.png")),
        Message.tool("t", [ToolResult("u", (Text("x"),))]),
    ],
)
def test_what_messages_cannot_hold_is_refused(message: Message) -> None:
    """Names, custom calls, arguments that are no object, pictures by the model."""
    assert refused([Message.user("hi"), message]).code == "unsupported_part"


# --- what the model said before --------------------------------------------------------------


def test_thoughts_go_back_verbatim_and_in_place() -> None:
    """Sealed and withheld ones, between words and calls."""
    parts = (
        Reasoning("hm", "sig1", extra=MARK),
        Text("a"),
        Reasoning("", "sealed", redacted=True, extra=MARK),
        Reasoning("", "sig2", extra={**MARK, "more": 1}),
        ToolCall("t", "f", "{}", extra={**MARK, "toolset_name": "browser"}),
    )
    assert said(*parts) == [
        {"type": "thinking", "thinking": "hm", "signature": "sig1"},
        {"type": "text", "text": "a"},
        {"type": "redacted_thinking", "data": "sealed"},
        {"type": "thinking", "thinking": "", "signature": "sig2", "more": 1},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}, "toolset_name": "browser"},
    ]


def test_no_message_ends_with_a_thought() -> None:
    """The API refuses it; an answer that was cut off while the model thought is left out."""
    thought = Reasoning("hm", "sig", extra=MARK)
    conversation = [Message.user("hi"), Message.assistant([Text("a"), thought, thought])]
    written, lost = left_out(conversation)
    assert written["messages"][1] == {"role": "assistant", "content": "a"}
    assert lost == ["Reasoning"]
    alone, lost = left_out([Message.user("hi"), Message.assistant(thought), Message.user("ho")])
    assert [turn["role"] for turn in alone["messages"]] == ["user"]
    assert lost == ["Reasoning"]


@pytest.mark.parametrize("arguments", ['{"a": "\\ud800"}', '{"a": "\ud800"}'])
def test_arguments_that_are_no_text_become_text(arguments: str) -> None:
    """A lone half of a surrogate pair cannot be written; the conversation goes on without it."""
    (block,) = said(ToolCall("t", "f", arguments))
    assert block["input"] == {"a": "\ufffd"}


def test_thoughts_of_others_are_left_out_or_refused() -> None:
    """As are those without a seal, which the API does not take back."""
    foreign = Reasoning("hm", "sig", extra={"provider": "openai"})
    assert said(foreign, Reasoning("unsealed", extra=MARK), Text("a")) == "a"
    conversation = [Message.user("hi"), Message.assistant([foreign, Text("a")])]
    with pytest.raises(UnsupportedError):
        body(conversation, {"refuse_foreign": True})


def test_blocks_of_the_apis_own_go_back_as_they_came() -> None:
    """Server tools and their results; those of other providers do not."""
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}}
    found = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
    parts = Opaque(search, "anthropic"), Opaque(found, "anthropic"), Opaque({"type": "y"}, "openai")
    assert said(*parts, Text("a")) == [search, found, {"type": "text", "text": "a"}]


def test_citations_go_back_with_their_text() -> None:
    """Each with the block that cites it."""
    citations = [{"type": "char_location", "cited_text": "b"}]
    assert said(Text("a"), Text("b", {**MARK, "citations": citations})) == [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b", "citations": citations},
    ]


def test_a_refusal_goes_back_as_text() -> None:
    """The API has no other words for it."""
    assert said(Refusal("No.")) == "No."
