"""Ollama's chat: what is written for a request, what is refused, and what is declared lost."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest
from conversations import PIXEL
from ollama_wire import CHAT, asked, body, losses, messages

from lamella import (
    Audio,
    ConfigurationError,
    EmbeddingRequest,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    UnsupportedError,
)
from lamella.testing._mock_ollama._requests import read_ollama
from lamella.transports import DialectOptions
from lamella_ollama import OllamaOptions
from lamella_ollama._chat import OllamaChat
from lamella_ollama._defaults import Defaults
from lamella_ollama._embeddings import OllamaEmbeddings

PICTURE = Image(data=PIXEL, media_type="image/png")
ENCODED = base64.b64encode(PIXEL).decode()
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
CALL = ToolCall("call_1", "get_weather", '{"city": "Rome", "n": 1.0}')
TOOL = Tool("get_weather", "How it is", {"properties": {"city": {"type": "string"}}})
DEFAULTS = Defaults(options={"num_ctx": 64, "top_k": 9}, fields={"keep_alive": "5m", "shift": True})


# --- messages --------------------------------------------------------------------------------


def test_messages_keep_their_places() -> None:
    """A developer's word is a system's, wherever it stands."""
    found = messages(
        [
            Message("developer", "a"),
            Message.user("b"),
            Message.assistant("c"),
            Message.system("d"),
            Message.user(""),
        ]
    )
    assert found == [
        {"role": "system", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
        {"role": "system", "content": "d"},
        {"role": "user", "content": ""},
    ]


def test_parts_keep_their_order() -> None:
    """What a message cannot say in its one order is said in several of the same role."""
    assert messages([Message.user(["a", PICTURE, PICTURE, "b", "c"])]) == [
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b", "images": [ENCODED, ENCODED]},
        {"role": "user", "content": "c"},
    ]
    parts: list[Part] = [Text("a"), Text("b"), CALL, Reasoning("hm"), Text("c")]
    found = messages([Message.assistant(parts), Message.user("x")])
    assert [each.get("content") for each in found] == ["ab", "c", "x"]
    assert [each.get("thinking") for each in found] == [None, "hm", None]
    assert found[0]["tool_calls"][0]["id"] == "call_1"


def test_pictures_and_sound_by_their_content() -> None:
    """From bytes, data URLs and files; what is elsewhere is refused, as nothing is fetched."""
    url = f"data:image/png;base64,{ENCODED}"
    file = File(data=PIXEL, media_type="image/png")
    sound = Audio(data=b"RIFFxxxx", format="wav")
    (found,) = messages([Message.user([Image(url=url), file, sound, "a"])])
    assert found["images"] == [ENCODED, ENCODED, base64.b64encode(b"RIFFxxxx").decode()]
    for wrong in (
        Image(url="https://a.example/b.png"),
        File(data=b"%PDF", media_type="application/pdf"),
        File(id="f1"),
        Audio(id="a1"),
    ):
        with pytest.raises(UnsupportedError) as caught:
            body([Message.user(["a", wrong])])
        assert caught.value.hint


def test_calls_and_results() -> None:
    """Arguments go as an object; a result names its call and its tool, and tells its failure."""
    conversation = [
        Message.user("a"),
        Message.assistant([CALL, ToolCall("call_2", "now", "")]),
        Message.tool("call_2", "noon", error=True),
        Message.tool("call_1", [Text("sun"), Text("and wind")]),
    ]
    assert messages(conversation)[1:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": "call_1",
                    "function": {"name": "get_weather", "arguments": {"city": "Rome", "n": 1.0}},
                },
                {"id": "call_2", "function": {"name": "now", "arguments": {}}},
            ],
        },
        {
            "role": "tool",
            "content": "Error: noon",
            "tool_call_id": "call_2",
            "tool_name": "now",
        },
        {
            "role": "tool",
            "content": "sun\n\nand wind",
            "tool_call_id": "call_1",
            "tool_name": "get_weather",
        },
    ]


def test_results_in_a_users_message_are_messages_of_tools() -> None:
    """Each in its place."""
    parts: list[Part] = [ToolResult("call_1", (Text("sun"),)), Text("Well?")]
    found = messages([Message.assistant([CALL]), Message.user(parts)])
    assert [(each["role"], each["content"]) for each in found[1:]] == [
        ("tool", "sun"),
        ("user", "Well?"),
    ]


def test_the_order_of_calls_tells_results_apart_without_ids() -> None:
    """A server that knows no ids finds them by the tool's name, in order."""
    calls = [ToolCall(f"c{number}", "add", f'{{"a": {number}}}') for number in range(2)]
    results = [Message.tool(call.id, call.id) for call in calls]
    sent = body([Message.user("a"), Message.assistant(calls), *results])
    for message in sent["messages"]:
        message.pop("tool_call_id", None)
        for call in message.get("tool_calls", ()):
            del call["id"]
    back = read_ollama({**sent, "model": "tiny"}).messages
    found = [(p.call_id, p.content) for m in back for p in m.parts if isinstance(p, ToolResult)]
    made = [call.id for message in back for call in message.tool_calls]
    assert found == [(name, (Text(each.id),)) for name, each in zip(made, calls, strict=True)]


@pytest.mark.parametrize(
    "parts",
    [
        [ToolCall("c", "f", "{")],
        [ToolCall("c", "f", "[1]")],
        [ToolCall("c", "f", "{}", kind="custom")],
        [ToolResult("c", (PICTURE,))],
    ],
)
def test_what_cannot_be_said_is_refused(parts: list[Any]) -> None:
    """With the tool that it is about, and never what it says."""
    with pytest.raises(UnsupportedError) as caught:
        body([Message.assistant(parts)])
    assert caught.value.code == "unsupported_part"
    assert caught.value.hint


def test_arguments_go_as_they_are() -> None:
    """Numbers of any size, and the half of a character that a model broke, which is no text."""
    call = ToolCall("c", "f", '{"n": 123456789012345678901234567890, "s": "\\ud800"}')
    (found,) = messages([Message.assistant([call])])
    arguments = found["tool_calls"][0]["function"]["arguments"]
    assert arguments == {"n": 123456789012345678901234567890, "s": "\ufffd"}


def test_names_and_unknown_roles_are_refused() -> None:
    """There is no place for them."""
    for wrong in (Message("user", "a", name="ann"), Message("system", [PICTURE])):
        with pytest.raises(UnsupportedError):
            body([wrong])


def test_thoughts_go_back_as_text() -> None:
    """Those of others too, if they are not sealed; seals and what is withheld are nobody's here."""
    thoughts: list[Part] = [
        Reasoning("open", extra={"provider": "deepseek"}),
        Reasoning("", "seal", redacted=True, extra={"provider": "anthropic"}),
        Reasoning("sealed", "seal", extra={"provider": "anthropic"}),
        Text("a"),
    ]
    conversation = [Message.assistant(thoughts), Message.user("b")]
    assert messages(conversation)[0] == {"role": "assistant", "content": "a", "thinking": "open"}
    assert losses(conversation) == {"Reasoning": 2}
    with pytest.raises(UnsupportedError):
        CHAT.encode(asked(conversation), stream=False, options=DialectOptions(refuse_foreign=True))


def test_what_is_left_out_is_declared() -> None:
    """Each kind, and how often."""
    mark = {"cache_control": {"type": "ephemeral"}}
    conversation = [
        Message.system(Text("a", mark)),
        Message.user([Text("b", {"novel": 1}), Image(data=PIXEL, detail="low")]),
        Message.assistant([Refusal("No."), Opaque({"x": 1}, "anthropic")]),
        Message.user("c"),
    ]
    described = {"name": "x", "description": "y", "schema": SCHEMA}
    schema = {"type": "json_schema", "json_schema": described}
    tools = [Tool("f", parameters=SCHEMA, strict=True)]
    assert losses(conversation, response_format=schema, tools=tools, tool_choice="none") == {
        "cache_control": 1,
        "Text.extra": 1,
        "Image.detail": 1,
        "Refusal": 1,
        "Opaque": 1,
        "response_format.description": 1,
        "tool_choice": 1,
    }
    assert losses("hi", tools=tools) == {"Tool.strict": 1}


def test_own_parts_are_fields_of_a_message() -> None:
    """Others' are refused where they are not what a model once said."""
    own = Opaque({"novel": [1]}, "ollama-native")
    (found, _) = messages([Message.assistant([Text("a"), own]), Message.user("b")])
    assert found == {"role": "assistant", "content": "a", "novel": [1]}
    with pytest.raises(UnsupportedError):
        body([Message.user(["a", Opaque({"x": 1}, "google")])])


# --- parameters ------------------------------------------------------------------------------


def test_parameters_are_options() -> None:
    """By the server's names; what nobody asks for is not sent."""
    assert body() == {"messages": [{"role": "user", "content": "hi"}]}
    found = body(
        temperature=0.5,
        top_p=0.9,
        seed=7,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        max_output_tokens=100,
        stop=("END",),
        logprobs=3,
    )
    assert found["options"] == {
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "num_predict": 100,
        "stop": ["END"],
    }
    assert (found["logprobs"], found["top_logprobs"]) == (True, 3)
    assert "top_logprobs" not in body(logprobs=0)


def test_streams_are_asked_for_and_refused_aloud() -> None:
    """For the server streams what says nothing."""
    for stream in (True, False):
        made = CHAT.encode(asked(), stream=stream, options=DialectOptions())
        assert made["stream"] is stream


def test_what_goes_with_every_request() -> None:
    """Yields to what a request says, which is joined with it."""
    dialect = OllamaChat(defaults=DEFAULTS)
    found = body(dialect=dialect, temperature=1.0)
    assert (found["keep_alive"], found["shift"]) == ("5m", True)
    assert found["options"] == {"num_ctx": 64, "top_k": 9, "temperature": 1.0}
    extra = {"options": {"num_ctx": 128}, "keep_alive": 0, "think": True}
    found = body(dialect=dialect, temperature=1.0, extra=extra)
    assert found["options"] == {"num_ctx": 128, "top_k": 9, "temperature": 1.0}
    assert (found["keep_alive"], found["think"]) == (0, True)
    assert dialect.defaults.window(asked(extra=extra)) == 128
    assert dialect.defaults.window(None) == 64


def test_the_window_that_is_known() -> None:
    """What a request says counts, if it is a number; a cloud need not keep to it."""
    assert DEFAULTS.window(asked(extra={"options": {"num_ctx": "many"}})) is None
    assert Defaults().window(asked()) is None
    assert Defaults(options={"num_ctx": 64}, bounded=False).window(asked()) is None


def test_embeddings() -> None:
    """With the same options, and no field of chat's."""
    request = EmbeddingRequest.of(["a", "b"], model="m", dimensions=8)
    made = OllamaEmbeddings(defaults=DEFAULTS).encode(
        request, stream=False, options=DialectOptions()
    )
    assert made == {
        "model": "m",
        "input": ["a", "b"],
        "dimensions": 8,
        "keep_alive": "5m",
        "options": {"num_ctx": 64, "top_k": 9},
    }
    with pytest.raises(UnsupportedError):
        OllamaEmbeddings().encode(request, stream=True, options=DialectOptions())


@pytest.mark.parametrize(
    ("effort", "think"), [("none", False), ("low", "low"), ("high", "high"), ("max", "max")]
)
def test_efforts(effort: str, think: object) -> None:
    """In the server's levels; none switches thinking off."""
    assert body(reasoning_effort=effort)["think"] == think


def test_the_shape_of_the_answer() -> None:
    """Any JSON, or a schema, as it stands."""
    nested = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    assert body(response_format={"type": "json_object"})["format"] == "json"
    assert body(response_format=nested)["format"] == SCHEMA
    assert body(response_format={"type": "json_schema", "schema": SCHEMA})["format"] == SCHEMA
    assert "format" not in body(response_format={"type": "text"})


def test_tools() -> None:
    """As functions with an object of parameters; `auto` is what the server does anyway."""
    found = body(tools=[TOOL, Tool("now")], tool_choice="auto")
    assert found["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "How it is",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
            },
        },
        {
            "type": "function",
            "function": {"name": "now", "parameters": {"type": "object", "properties": {}}},
        },
    ]
    assert "tool_choice" not in found
    assert "tools" not in body(tools=[TOOL], tool_choice="none")


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 2},
        {"service_tier": "flex"},
        {"parallel_tool_calls": False},
        {"logprobs": 21},
        {"reasoning_effort": "enormous"},
        {"tool_choice": "required"},
        {"tools": [TOOL], "tool_choice": "get_weather"},
        {"tool_choice": {"type": "x"}},
        {"tools": [{"type": "web_search"}]},
        {"response_format": {"type": "grammar"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        {"extra": {"messages": []}},
        {"extra": {"stream": True}},
    ],
)
def test_what_shapes_the_answer_and_has_no_words_is_refused(fields: dict[str, Any]) -> None:
    """Before the network, with what to do instead."""
    with pytest.raises(UnsupportedError) as caught:
        body(**fields)
    assert caught.value.hint


# --- options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"num_ctx": 0},
        {"num_ctx": True},
        {"num_ctx": "4096"},
        {"keep_alive": "soon"},
        {"keep_alive": "5"},
        {"keep_alive": float("inf")},
        {"keep_alive": True},
        {"truncate": "no"},
        {"shift": 1},
        {"model_options": [1]},
        {"model_options": {1: 2}},
        {"model_options": {"num_ctx": 1}},
    ],
)
def test_options_that_cannot_be_meant(given: dict[str, Any]) -> None:
    """Are refused where they are given, by their name."""
    with pytest.raises(ConfigurationError, match=next(iter(given))) as caught:
        OllamaOptions(**given)
    assert caught.value.hint


@pytest.mark.parametrize("given", ["10m", "1h30m", "-1s", "+0", 0, -1, 2.5])
def test_spans_of_time(given: Any) -> None:
    """In the server's words, seconds, or a timedelta."""
    assert OllamaOptions(keep_alive=given).keep_alive == given
    assert OllamaOptions(keep_alive=timedelta(minutes=1)).keep_alive == 60
