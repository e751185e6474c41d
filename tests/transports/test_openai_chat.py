"""The Chat Completions dialect: requests written, answers read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from lamella import (
    Audio,
    ChatRequest,
    ChatResponse,
    Context,
    Event,
    File,
    Finish,
    Image,
    Message,
    Opaque,
    Reasoning,
    ReasoningDelta,
    Refusal,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolResult,
    UnsupportedError,
    Usage,
    UsageReport,
)
from lamella.transports._dialect import DEFAULT_OPTIONS, DialectOptions
from lamella.transports._openai_chat import OpenAIChat

CHAT = OpenAIChat()
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def encode(
    content: Any, options: DialectOptions = DEFAULT_OPTIONS, *, stream: bool = False, **fields: Any
) -> dict[str, Any]:
    """The body, checked to be JSON."""
    body = CHAT.encode(ChatRequest.of(content, **fields), stream=stream, options=options)
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(body))
    return decoded


def wire(*parts: Any, options: DialectOptions = DEFAULT_OPTIONS) -> Mapping[str, Any]:
    """An assistant's message as it goes out."""
    sent: dict[str, Any] = encode([Message.assistant(parts)], options)["messages"][0]
    return sent


def chunk(delta: Mapping[str, Any] | None = None, **choice: Any) -> dict[str, Any]:
    """A stream chunk with one choice."""
    return {"id": "c1", "model": "m", "choices": [{"index": 0, "delta": delta or {}, **choice}]}


def stream(*chunks: Mapping[str, Any] | bytes, n: int | None = None) -> list[Event]:
    """The events of a stream of chunks, its end included."""
    decoder = CHAT.decoder(ChatRequest.of("Hi", n=n))
    events: list[Event] = []
    for data in chunks:
        raw = data if isinstance(data, bytes) else msgspec.json.encode(data)
        events += decoder.feed(None, raw)
    return [*events, *decoder.finish()]


def whole(message: Mapping[str, Any], **choice: Any) -> dict[str, Any]:
    """A complete answer with one choice."""
    return {
        "id": "c1",
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}],
        "usage": USAGE,
    }


def decode(answer: Any) -> list[Event]:
    """The events of a complete answer."""
    return list(CHAT.decode(msgspec.json.encode(answer))[0])


def folded(events: Sequence[Event]) -> ChatResponse:
    """A complete response of these events."""
    return ChatResponse(tuple(events))


# --- requests ----------------------------------------------------------------------------------


def test_every_field_of_a_request_has_its_place() -> None:
    """Typed fields go out under the API's names; what is None does not go out."""
    body = encode(
        "Hi",
        stream=True,
        model="m",
        tools=[Tool("look", "Look.", {"type": "object"}, strict=True)],
        tool_choice="look",
        parallel_tool_calls=False,
        response_format={"type": "json_object"},
        temperature=0.0,
        top_p=0.5,
        max_output_tokens=7,
        stop="END",
        seed=3,
        n=2,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        logprobs=2,
        reasoning_effort="low",
        service_tier="flex",
    )
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "look",
                    "description": "Look.",
                    "parameters": {"type": "object"},
                    "strict": True,
                },
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "parallel_tool_calls": False,
        "response_format": {"type": "json_object"},
        "temperature": 0.0,
        "top_p": 0.5,
        "max_completion_tokens": 7,
        "stop": ["END"],
        "seed": 3,
        "n": 2,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "logprobs": True,
        "top_logprobs": 2,
        "reasoning_effort": "low",
        "service_tier": "flex",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert encode("Hi") == {"messages": [{"role": "user", "content": "Hi"}]}


def test_an_endpoint_s_quirks_are_kept() -> None:
    """Options name the bound on tokens, leave usage unasked, rename roles and send the user."""
    options = DialectOptions(
        max_tokens_name="max_tokens", stream_usage=False, developer_role=True, send_user=True
    )
    request = ChatRequest.of(
        [Message.system("Be brief."), Message.user("Hi")],
        max_output_tokens=1,
        context=Context(user="u1"),
    )
    assert CHAT.encode(request, stream=True, options=options) == {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ],
        "max_tokens": 1,
        "user": "u1",
        "stream": True,
    }
    plain = CHAT.encode(request, stream=False, options=DEFAULT_OPTIONS)
    assert "user" not in plain
    assert plain["messages"][0]["role"] == "system"


def test_extra_goes_out_verbatim_and_wins() -> None:
    """What only one provider knows is merged last; stream options are joined."""
    body = encode(
        "Hi",
        stream=True,
        temperature=1.0,
        extra={"temperature": 0, "top_k": 4, "stream_options": {"include_obfuscation": False}},
    )
    assert (body["temperature"], body["top_k"]) == (0, 4)
    assert body["stream_options"] == {"include_usage": True, "include_obfuscation": False}


@pytest.mark.parametrize("name", ["stream", "messages", "model"])
def test_extra_cannot_pass_by_the_layers(name: str) -> None:
    """What layers and transport go by belongs on the request, and the error says so."""
    with pytest.raises(UnsupportedError, match=rf"{name!r}.*Instead"):
        encode("Hi", extra={name: True})


def test_a_tool_choice_must_name_a_tool() -> None:
    """A name that no tool has is refused, with the names that there are."""
    with pytest.raises(UnsupportedError, match=r"'lok'.*'look'"):
        encode("Hi", tools=[Tool("look")], tool_choice="lok")
    custom = {"type": "custom", "custom": {"name": "write"}}
    body = encode("Hi", tools=[custom], tool_choice="write")
    assert body["tool_choice"] == custom
    assert encode("Hi", tool_choice={"type": "any"})["tool_choice"] == {"type": "any"}


def test_user_content_is_written_in_the_api_s_parts() -> None:
    """Pictures, sound and documents go inside the message, by address or content."""
    body = encode(
        [
            Message.user(
                [
                    "Look",
                    Image(url="https://example.org/a.png", detail="low"),
                    Image(data=b"\1", media_type="image/png"),
                    Audio(data=b"\2", format="wav"),
                    File(id="file-1"),
                    File(data=b"\3", media_type="application/pdf"),
                    {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}, "y": 1},
                    {"type": "video_url", "video_url": {"url": "v"}},
                ]
            )
        ]
    )
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AQ=="}},
        {"type": "input_audio", "input_audio": {"data": "Ag==", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {
            "type": "file",
            "file": {"filename": "file.pdf", "file_data": "data:application/pdf;base64,Aw=="},
        },
        {"type": "text", "text": "x", "y": 1},
        {"type": "video_url", "video_url": {"url": "v"}},
    ]


def test_an_assistant_s_message_is_brought_into_the_api_s_order() -> None:
    """Calls stand beside the content, texts are one, sound goes by its id."""
    assert wire("One. ", ToolCall("t1", "look", ""), "Two.", Audio(id="a1")) == {
        "role": "assistant",
        "content": "One. Two.",
        "tool_calls": [
            {"id": "t1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        ],
        "audio": {"id": "a1"},
    }
    custom = wire(ToolCall("t2", "write", "free text", "custom"))
    assert custom["tool_calls"] == [
        {"id": "t2", "type": "custom", "custom": {"name": "write", "input": "free text"}}
    ]
    assert custom["content"] is None
    assert wire(Refusal("No.")) == {"role": "assistant", "content": None, "refusal": "No."}
    assert wire()["content"] == ""


def test_reasoning_goes_back_only_where_it_is_taken_and_never_its_seal() -> None:
    """Thinking is left out unless the endpoint wants it; a signature has no place in this API."""
    thought = Reasoning("Hm.", signature="sealed")
    assert wire(thought, "Yes.") == {"role": "assistant", "content": "Yes."}
    options = DialectOptions(quirks={"send_reasoning": True})
    assert wire(thought, "Yes.", options=options) == {
        "role": "assistant",
        "content": "Yes.",
        "reasoning_content": "Hm.",
    }


def test_provider_bound_state_goes_back_to_its_provider_only() -> None:
    """Opaque parts and marked extras return verbatim to whom they came from, and to nobody else."""
    own = Opaque({"type": "x", "seal": 1}, "openai")
    details = Opaque({"reasoning_details": [{"data": "s"}]}, "openai")
    foreign = Opaque({"type": "x", "seal": 2}, "other")
    seal = {"extra_content": {"seal": "s"}}
    sent = wire(
        "a",
        own,
        details,
        foreign,
        ToolCall("1", "f", "{}", extra={**seal, "provider": "openai"}),
        ToolCall("2", "f", "{}", extra={**seal, "provider": "other"}),
        ToolCall("3", "f", "{}", extra=seal),
    )
    assert sent["content"] == [{"type": "text", "text": "a"}, {"type": "x", "seal": 1}]
    assert sent["reasoning_details"] == [{"data": "s"}]
    assert ["extra_content" in call for call in sent["tool_calls"]] == [True, False, True]
    assert all("provider" not in call for call in sent["tool_calls"])
    with pytest.raises(UnsupportedError, match="'other'"):
        encode([Message.user([foreign])])


def test_a_failed_tool_says_so_in_its_words() -> None:
    """The API has no field for failure, so that the text begins with it."""
    body = encode([Message.tool("t1", "no such city", error=True), Message.tool("t2", "fine")])
    assert body["messages"] == [
        {"role": "tool", "tool_call_id": "t1", "content": "Error: no such city"},
        {"role": "tool", "tool_call_id": "t2", "content": "fine"},
    ]


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        (Message.user([Image(data=b"\1")]), "media_type="),
        (Message.user([Audio(data=b"\1")]), "format="),
        (Message.user([File(url="https://example.org/a.pdf")]), 'api="responses"'),
        (Message.user([ToolCall("1", "f", "")]), "assistant"),
        (Message("user", ToolResult("1", (Text("x"),))), r"Message\.tool"),
        (Message.tool("1", Image(url="u")), "user message"),
        (Message.assistant([Image(url="u")]), "user message"),
    ],
)
def test_what_the_api_has_no_words_for_is_refused(message: Message, remedy: str) -> None:
    """The error names the part and what to do, before the network."""
    with pytest.raises(UnsupportedError, match=remedy):
        encode([message])


# --- complete answers: the rest is shared with streams, and tested there -----------------------


def test_a_complete_answer_is_text_usage_and_the_end() -> None:
    """The head has model, id and the raw bytes."""
    body = msgspec.json.encode(whole({"role": "assistant", "content": "Hello", "refusal": None}))
    events, head = CHAT.decode(body)
    usage = Usage(uncached_input=9, text_output=3)
    assert events == [TextDelta("Hello"), UsageReport(usage), Finish("stop")]
    assert (head.model, head.id, head.raw) == ("m", "c1", body)


def test_several_answers_have_a_reason_each() -> None:
    """With n above 1, `reasons` goes by choice."""
    answer = whole({"content": "a"})
    answer["choices"].append({"index": 1, "message": {"content": "b"}, "finish_reason": "length"})
    response = folded(decode(answer))
    assert [choice.message.text for choice in response.answer.choices] == ["a", "b"]
    assert [choice.finish_reason for choice in response.answer.choices] == ["stop", "length"]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("eos", "stop"),
        ("model_length", "length"),
        ("sensitive", "content_filter"),
        ("weird", "weird"),
    ],
)
def test_finish_reasons_are_normalised_or_passed_on(reason: str, expected: str) -> None:
    """Legacy words get today's; unknown ones stay the provider's own."""
    assert decode(whole({"content": "a"}, finish_reason=reason))[-1] == Finish(expected)


def test_stop_with_tool_calls_is_tool_calls() -> None:
    """A forced call ends with `stop` at OpenAI; it is a call all the same."""
    call = {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert decode(whole({"content": None, "tool_calls": [call]}))[-1] == Finish("tool_calls")


def test_calls_of_every_kind_are_read() -> None:
    """Function, custom and legacy calls, each with an id that a result can refer to."""
    calls = [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"id": "2", "type": "custom", "custom": {"name": "c", "input": "text"}},
        {"function": {"name": "g", "arguments": {"b": 2}}, "extra_content": {"seal": "s"}},
    ]
    found = folded(decode(whole({"tool_calls": calls}))).message.tool_calls
    assert found == (
        ToolCall("1", "f", '{"a":1}'),
        ToolCall("2", "c", "text", "custom"),
        ToolCall(
            "call_c1_0_2",
            "g",
            '{"b":2}',
            extra={"extra_content": {"seal": "s"}, "provider": "openai"},
        ),
    )
    legacy = whole({"content": None, "function_call": {"name": "f", "arguments": "{}"}})
    assert folded(decode(legacy)).message.tool_calls == (ToolCall("call_c1_0_0", "f", "{}"),)


def test_other_content_is_read() -> None:
    """Reasoning, refusal, sound, pictures, annotations and unknown fields all arrive."""
    message = {
        "reasoning": "Hm.",
        "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "So."}]},
                    {"type": "text", "text": "Yes."}, {"type": "reference", "ids": [1]}],
        "refusal": "No.",
        "audio": {"id": "a1", "data": "AQI=", "transcript": "Yes", "expires_at": 5},
        "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AQ=="}}],
        "annotations": [{"type": "url_citation"}],
        "reasoning_details": [{"type": "reasoning.encrypted", "data": "s"}],
    }  # fmt: skip
    events = decode(whole(message, logprobs={"content": [{"token": "Yes."}], "refusal": None}))
    answer = folded(events).answer
    assert answer.message.parts == (
        Reasoning("Hm.So."),
        Text("Yes."),
        Opaque({"type": "reference", "ids": [1]}, "openai"),
        Refusal("No."),
        Audio(b"\1\2", None, "a1", "Yes"),
        Image(data=b"\1", media_type="image/png"),
        Opaque({"reasoning_details": message["reasoning_details"]}, "openai"),
    )
    assert answer.choices[0].logprobs == ({"token": "Yes."},)
    aside = Opaque({"annotations": [{"type": "url_citation"}]}, "openai", content=False)
    assert aside in events


def test_a_filtered_answer_without_content_is_an_answer() -> None:
    """`content_filter` and `length` explain why nothing was said."""
    for reason in ("content_filter", "length"):
        assert decode(whole({"content": None}, finish_reason=reason))[-1] == Finish(reason)
    assert decode(whole({"content": ""}))[-1] == Finish("stop")


def test_usage_that_is_not_stated_is_estimated_where_the_request_is_known() -> None:
    """Without the request nobody could say what the prompt was, so there is none."""
    answer = whole({"content": "Hello"})
    del answer["usage"]
    body = msgspec.json.encode(answer)
    assert CHAT.decode(body)[0] == [TextDelta("Hello"), Finish("stop")]
    report = CHAT.decode(body, ChatRequest.of("Hi"))[0][1]
    expected = Usage(uncached_input=5, text_output=3, estimated=True)
    assert report == UsageReport(expected)


# --- plain streams -----------------------------------------------------------------------------


def test_pieces_of_text_and_reasoning_come_as_they_are() -> None:
    """Plain chunks and chunks with more in them give the same events; a role alone gives none."""
    events = stream(
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "H"}),
        chunk({"reasoning": "m"}),
        chunk({"content": "Hel"}),
        chunk({"content": "lo", "tool_calls": None}, logprobs={"content": [{"token": "lo"}]}),
        chunk(finish_reason="stop"),
        {"choices": [], "usage": USAGE},
        b"[DONE]",
    )
    assert events == [
        ReasoningDelta("H"),
        ReasoningDelta("m"),
        TextDelta("Hel"),
        TextDelta("lo", logprobs=({"token": "lo"},)),
        UsageReport(Usage(uncached_input=9, text_output=3)),
        Finish("stop"),
    ]
    assert folded(events).answer.choices[0].logprobs == ({"token": "lo"},)


def test_what_only_another_provider_reads_leaves_nothing_behind() -> None:
    """Text without its seal is text as any other, and a seal without text is no text at all."""
    sealed = {"signature": "x", "provider": "other"}
    seal = Text("", extra=sealed)
    said = wire(Text("a", extra=sealed), seal)
    assert said == {"role": "assistant", "content": "a"}
    assert wire(seal, ToolCall("c", "f", "{}"))["content"] is None
    assert wire(seal)["content"] == ""
    marked = Message("system", (Text("s", extra={"cache_control": {"type": "ephemeral"}}),))
    assert encode([marked])["messages"] == [{"role": "system", "content": "s"}]
