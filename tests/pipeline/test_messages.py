"""Messages and OpenAI-style dicts, both ways without loss."""

from __future__ import annotations

import base64
import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import (
    Audio,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)

# --- random messages --------------------------------------------------------------------------

JSON = st.recursive(
    st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
EXTRA = st.dictionaries(st.sampled_from(["x", "cache_control", "index", "title"]), JSON, max_size=2)
WORDS = st.text(max_size=6)
WORD = st.text(min_size=1, max_size=6)
BYTES = st.binary(max_size=5)
MEDIA_TYPE = st.sampled_from(["image/png", "application/pdf", "text/plain;charset=utf-8"])
URL = st.sampled_from(["https://example.org/a.png", "data:broken", "data:image/png;base64,?"])


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The values, or None."""
    return st.none() | values


TEXT = st.builds(Text, WORDS, EXTRA)
IMAGE = st.one_of(
    st.builds(Image, url=URL, media_type=maybe(MEDIA_TYPE), detail=maybe(WORD), extra=EXTRA),
    st.builds(Image, data=BYTES, media_type=maybe(MEDIA_TYPE), detail=maybe(WORD), extra=EXTRA),
)
AUDIO = st.builds(Audio, maybe(BYTES), maybe(WORD), maybe(WORD), maybe(WORDS), EXTRA).filter(
    lambda part: (part.data, part.id, part.transcript) != (None, None, None)
)
FILE = st.one_of(
    st.builds(File, data=BYTES, filename=maybe(WORD), media_type=maybe(MEDIA_TYPE), extra=EXTRA),
    st.builds(File, id=WORD, filename=maybe(WORD), media_type=maybe(MEDIA_TYPE), extra=EXTRA),
    st.builds(File, url=URL, filename=maybe(WORD), media_type=maybe(MEDIA_TYPE), extra=EXTRA),
)
TOOL_CALL = st.builds(ToolCall, WORDS, WORDS, WORDS, st.sampled_from(["function", "custom"]), EXTRA)
REASONING = st.builds(
    Reasoning,
    WORDS,
    maybe(WORD),
    maybe(WORD),
    st.booleans(),
    st.one_of(EXTRA, st.sampled_from([{"field": "reasoning"}, {"field": "content"}, {"field": 5}])),
)
REFUSAL = st.builds(Refusal, WORDS, EXTRA)
OPAQUE = st.builds(
    Opaque,
    st.one_of(
        EXTRA,
        st.fixed_dictionaries({"type": WORD}, optional={"data": JSON}),
        st.sampled_from(
            [
                {"type": "text", "text": "t"},
                {"type": "opaque", "data": {}},
                {"type": "tool_call", "tool_call": {"type": "function", "function": {}}},
            ]
        ),
    ),
    st.sampled_from(["", "openai"]),
    st.booleans(),
    st.integers(0, 1),
)
CONTENT_PART: st.SearchStrategy[Part] = st.one_of(TEXT, IMAGE, AUDIO, FILE, REFUSAL, OPAQUE)
ANY_PART: st.SearchStrategy[Part] = st.one_of(CONTENT_PART, REASONING, TOOL_CALL)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """A message of any role, with any parts."""
    role = draw(st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"]))
    parts = tuple(draw(st.lists(ANY_PART, max_size=5)))
    if role == "tool":
        result = ToolResult(
            draw(WORDS), parts, draw(st.booleans()), draw(EXTRA), listed=draw(st.booleans())
        )
        parts = (result,)
    return Message(
        role, parts, name=draw(maybe(WORDS)), extra=draw(EXTRA), listed=draw(st.booleans())
    )


# --- dicts as users and servers write them ----------------------------------------------------


def _data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


TEXT_DICT = st.builds(lambda text: {"type": "text", "text": text}, WORDS)
CONTENT_DICT = st.one_of(
    TEXT_DICT,
    st.builds(lambda url: {"type": "image_url", "image_url": {"url": url}}, URL),
    st.builds(
        lambda data: {"type": "image_url", "image_url": {"url": _data_url(data), "detail": "low"}},
        BYTES,
    ),
    st.builds(
        lambda data: {
            "type": "input_audio",
            "input_audio": {"data": base64.b64encode(data).decode(), "format": "wav"},
        },
        BYTES,
    ),
    st.builds(lambda file_id: {"type": "file", "file": {"file_id": file_id}}, WORD),
    st.builds(
        lambda data: {"type": "file", "file": {"file_data": _data_url(data), "filename": "f"}},
        BYTES,
    ),
    st.fixed_dictionaries({"type": WORD}, optional={"x": JSON}),
)
CALL_DICT = st.one_of(
    st.builds(
        lambda call_id, words: {
            "id": call_id,
            "type": "function",
            "function": {"name": "f", "arguments": words},
        },
        WORD,
        WORDS,
    ),
    st.builds(
        lambda call_id, words: {
            "id": call_id,
            "type": "custom",
            "custom": {"name": "c", "input": words},
        },
        WORD,
        WORDS,
    ),
)


@st.composite
def message_dicts(draw: st.DrawFn) -> dict[str, Any]:
    """A dict of the chat API, as users and servers write it."""
    role = draw(st.sampled_from(["system", "developer", "user", "assistant", "tool"]))
    kinds = TEXT_DICT if role == "tool" else CONTENT_DICT
    content = draw(WORDS | st.lists(kinds, max_size=3))
    message: dict[str, Any] = {"role": role, "content": content}
    if role == "tool":
        message["tool_call_id"] = draw(WORD)
    if role == "assistant":
        optional: dict[str, st.SearchStrategy[Any]] = {
            "reasoning_content": WORDS,
            "reasoning": WORDS,
            "refusal": WORDS,
            "audio": st.builds(lambda audio_id: {"id": audio_id}, WORD),
            "tool_calls": st.lists(CALL_DICT, min_size=1, max_size=3),
            "annotations": st.just([{"type": "url_citation"}]),
        }
        if isinstance(content, list):
            del optional["refusal"]  # at the end of a list it may stand in the list as well
        message.update(draw(st.fixed_dictionaries({}, optional=optional)))
        if draw(st.booleans()):
            message["content"] = None
    if draw(st.booleans()):
        message["name"] = draw(WORD)
    return message


# --- the rules ---------------------------------------------------------------------------------


@given(messages())
def test_a_message_comes_back_as_it_was(message: Message) -> None:
    """Through a dict and through JSON, every part, extra and hint included."""
    given = message.to_dict()
    back = Message.of(json.loads(json.dumps(given)))
    assert back == message
    assert back.to_dict() == given


@given(message_dicts())
def test_a_dict_comes_back_as_it_was(given: dict[str, Any]) -> None:
    """What users and servers write is written again in the same shape; null is absent."""
    written = Message.of(given).to_dict()
    assert _stated(written) == _stated(given)


def _stated(given: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value is not None}


def test_arguments_given_as_an_object_become_json() -> None:
    """Some people and servers do not write them as text."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    message = Message.of({"role": "assistant", "tool_calls": [call]})
    assert message.tool_calls == (ToolCall("1", "f", '{"a": 1}'),)


def test_an_unknown_tool_call_stays_among_the_tool_calls() -> None:
    """It is opaque, and goes back where it stood."""
    given: dict[str, Any] = {
        "role": "assistant",
        "tool_calls": [{"id": "1", "type": "mcp", "mcp": {}}],
    }
    message = Message.of(given)
    wrapped = {"type": "tool_call", "tool_call": {"id": "1", "type": "mcp", "mcp": {}}}
    assert message.parts == (Opaque(wrapped),)
    assert _stated(message.to_dict()) == given


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"role": "boss", "content": "x"},
        {"role": "user", "content": 5},
        {"role": "user", "content": [5]},
        {"role": "assistant", "tool_calls": [5]},
        {"role": "assistant", "tool_calls": ["x"]},
    ],
)
def test_a_dict_that_is_no_message_is_refused(given: dict[str, Any]) -> None:
    """The error says what a message needs."""
    with pytest.raises(ValueError, match=r"role|content|tool call"):
        Message.of(given)


@pytest.mark.parametrize("given", ["Hi", 5, None, ["Hi"]])
def test_what_is_neither_message_nor_dict_is_refused(given: Any) -> None:
    """The error says what to give, and quotes nothing."""
    with pytest.raises(TypeError, match=r"Message\.user") as caught:
        Message.of(given)
    assert "Hi" not in str(caught.value)


def test_content_of_no_kind_is_refused() -> None:
    """The error says what may be given, where a number was."""
    with pytest.raises(TypeError, match="int is no part of a message; give text"):
        Message.user(cast("Any", 5))


def test_a_tool_result_stands_in_a_tool_message_only() -> None:
    """Written as anything else it would change its role."""
    with pytest.raises(ValueError, match=r"Message\.tool"):
        Message("user", ToolResult("1", (Text("x"),))).to_dict()


def test_a_result_takes_what_a_message_takes() -> None:
    """Text, a part, a list or a dict: it becomes parts, and so has a hash."""
    wanted = ToolResult("a", (Text("x"),))
    for given_ in ("x", Text("x"), [Text("x")], {"type": "text", "text": "x"}, ("x",)):
        assert ToolResult("a", given_) == wanted
        assert hash(ToolResult("a", given_)) == hash(wanted)
