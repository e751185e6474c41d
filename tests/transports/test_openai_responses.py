"""The Responses dialect: requests written, answers read whole and streamed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    Event,
    File,
    Finish,
    Image,
    LamellaError,
    Message,
    Note,
    Opaque,
    Pipeline,
    ProtocolError,
    RateLimitError,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    ServerError,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    UnsupportedError,
    Usage,
    UsageReport,
)
from lamella.transports._dialect import DEFAULT_OPTIONS, DialectOptions
from lamella.transports._openai_responses import OpenAIResponses
from lamella.transports._openai_responses_events import ResponsesDecoder

RESPONSES = OpenAIResponses()
OWN = {"provider": "openai-responses"}
USAGE = {
    "input_tokens": 10,
    "output_tokens": 8,
    "total_tokens": 18,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens_details": {"reasoning_tokens": 5},
}
REPORT = UsageReport(Usage(uncached_input=6, cache_read=4, text_output=3, reasoning_output=5))
SEARCH = {
    "type": "web_search_call",
    "id": "ws1",
    "status": "completed",
    "action": {"type": "search"},
}
THOUGHT = {
    "type": "reasoning",
    "id": "rs1",
    "summary": [{"type": "summary_text", "text": "H"}, {"type": "summary_text", "text": "m"}],
    "encrypted_content": "sealed",
}
SAID = {
    "type": "message",
    "id": "m1",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}],
}
CALL = {"type": "function_call", "id": "fc1", "call_id": "t1", "name": "f", "arguments": '{"a":1}'}
CUSTOM = {"type": "custom_tool_call", "id": "ct1", "call_id": "t2", "name": "c", "input": "free"}
PARTS = (
    Reasoning("H\n\nm", "sealed", "rs1", extra=OWN),
    Opaque(SEARCH, "openai-responses"),
    Text("Hello"),
    ToolCall("t1", "f", '{"a":1}'),
    ToolCall("t2", "c", "free", "custom"),
)


def encode(
    content: Any, options: DialectOptions = DEFAULT_OPTIONS, *, stream: bool = False, **fields: Any
) -> dict[str, Any]:
    """The body, checked to be JSON."""
    body = RESPONSES.encode(ChatRequest.of(content, **fields), stream=stream, options=options)
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(body))
    return decoded


def items(*messages: Message) -> list[dict[str, Any]]:
    """The input items of a conversation."""
    found: list[dict[str, Any]] = encode(list(messages))["input"]
    return found


def answer(*output: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """A response object."""
    body = {"id": "r1", "object": "response", "model": "m", "status": "completed", "error": None}
    return {**body, "output": list(output), "usage": USAGE, **fields}


def decode(body: Any) -> list[Event]:
    """The events of a complete answer."""
    return list(RESPONSES.decode(msgspec.json.encode(body))[0])


def on(kind: str, index: int = 0, **fields: Any) -> dict[str, Any]:
    """A stream event."""
    return {"type": f"response.{kind}", "output_index": index, **fields}


def end(*output: Mapping[str, Any], kind: str = "completed", **fields: Any) -> dict[str, Any]:
    """A terminal stream event."""
    return {"type": f"response.{kind}", "response": answer(*output, status=kind, **fields)}


def read(*events: Mapping[str, Any] | bytes) -> tuple[ResponsesDecoder, list[Event]]:
    """The decoder after a stream, and the events before its end."""
    decoder = RESPONSES.decoder(ChatRequest.of("Hi"))
    found: list[Event] = []
    for data in events:
        raw = data if isinstance(data, bytes) else msgspec.json.encode(data)
        found += decoder.feed(None, raw)
    return decoder, found


def stream(*events: Mapping[str, Any] | bytes) -> list[Event]:
    """All events of a stream."""
    decoder, found = read(*events)
    return [*found, *decoder.finish()]


# --- requests ----------------------------------------------------------------------------------


def test_every_field_of_a_request_has_its_place() -> None:
    """Typed fields go out under this API's names and shapes."""
    schema = {"name": "s", "schema": {"type": "object"}, "strict": True}
    body = encode(
        "Hi",
        stream=True,
        model="m",
        tools=[
            Tool("f", "Look.", {"type": "object"}),
            {"type": "web_search"},
            {"type": "custom", "custom": {"name": "c", "format": {"type": "text"}}},
        ],
        tool_choice="f",
        parallel_tool_calls=True,
        response_format={"type": "json_schema", "json_schema": schema},
        temperature=0.5,
        top_p=0.9,
        max_output_tokens=7,
        logprobs=2,
        reasoning_effort="low",
        service_tier="flex",
        extra={"store": False, "include": ["file_search_call.results"]},
    )
    assert body == {
        "model": "m",
        "input": [{"role": "user", "content": "Hi"}],
        "tools": [
            {
                "type": "function",
                "name": "f",
                "description": "Look.",
                "parameters": {"type": "object"},
                "strict": False,
            },
            {"type": "web_search"},
            {"type": "custom", "name": "c", "format": {"type": "text"}},
        ],
        "tool_choice": {"type": "function", "name": "f"},
        "parallel_tool_calls": True,
        "text": {"format": {"type": "json_schema", **schema}},
        "temperature": 0.5,
        "top_p": 0.9,
        "max_output_tokens": 7,
        "include": [
            "message.output_text.logprobs",
            "reasoning.encrypted_content",
            "file_search_call.results",
        ],
        "top_logprobs": 2,
        "reasoning": {"effort": "low"},
        "service_tier": "flex",
        "stream": True,
        "store": False,
    }
    assert encode("Hi") == {"input": [{"role": "user", "content": "Hi"}]}
    assert encode("Hi", tools=[{"type": "web_search"}], tool_choice="web_search")[
        "tool_choice"
    ] == {"type": "web_search"}


@pytest.mark.parametrize(
    "fields", [{"stop": "x"}, {"seed": 1}, {"n": 2}, {"presence_penalty": 0.1}], ids=str
)
def test_parameters_that_this_api_lacks_are_refused(fields: dict[str, Any]) -> None:
    """The error names the parameter and where it can be had."""
    (name,) = fields
    with pytest.raises(UnsupportedError, match=f"{name!r}.*chat API"):
        encode("Hi", **fields)


def test_a_conversation_becomes_items_in_their_order() -> None:
    """What came from this API goes back verbatim, each part as an item of its own."""
    sent = items(
        Message.system("Be brief."),
        Message.user(["Look", Image(url="u"), File(url="f"), File(data=b"\1", filename="a.txt")]),
        Message.assistant([*PARTS, Text("Bye"), Refusal("No.")]),
        Message.tool("t1", "4", error=True),
        Message.tool("t2", [Text("see"), Image(url="v", detail="high")]),
    )
    assert sent == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look"},
                {"type": "input_image", "image_url": "u", "detail": "auto"},
                {"type": "input_file", "file_url": "f"},
                {
                    "type": "input_file",
                    "filename": "a.txt",
                    "file_data": "data:application/octet-stream;base64,AQ==",
                },
            ],
        },
        {
            "type": "reasoning",
            "id": "rs1",
            "summary": [{"type": "summary_text", "text": "H\n\nm"}],
            "encrypted_content": "sealed",
        },
        SEARCH,
        {"role": "assistant", "content": "Hello"},
        {"type": "function_call", "call_id": "t1", "name": "f", "arguments": '{"a":1}'},
        {"type": "custom_tool_call", "call_id": "t2", "name": "c", "input": "free"},
        {
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "Bye"},
                {"type": "refusal", "refusal": "No."},
            ],
        },
        {"type": "function_call_output", "call_id": "t1", "output": "Error: 4"},
        {
            "type": "custom_tool_call_output",
            "call_id": "t2",
            "output": [
                {"type": "input_text", "text": "see"},
                {"type": "input_image", "image_url": "v", "detail": "high"},
            ],
        },
    ]


def test_foreign_state_is_left_out() -> None:
    """Other providers' seals, reasoning without one, and their own items do not go here."""
    sent = items(
        Message.assistant(
            [
                Reasoning("a", "seal of another"),
                Reasoning("b", "seal", extra={"provider": "other"}),
                Opaque({"type": "thing"}, "other"),
                Opaque({"reasoning_details": []}, "openai"),
                "Yes",
            ]
        )
    )
    assert sent == [{"role": "assistant", "content": "Yes"}]


@pytest.mark.anyio
async def test_what_a_text_brought_from_elsewhere_is_left_out_and_noted() -> None:
    """Its words go out; the note says that something else did not."""
    sealed = Text("Yes", extra={"signature": "x", "provider": "other"})
    noted: list[Note] = []

    async def transport(request: ChatRequest) -> ChatResponse:
        body = RESPONSES.encode(request, stream=False, options=DEFAULT_OPTIONS)
        assert body["input"] == [{"role": "assistant", "content": "Yes"}]
        noted.extend(request.context.trace.notes)
        return ChatResponse.of("fine")

    asked = ChatRequest(messages=(Message.assistant([sealed]),), model="m")
    await Pipeline([], transport).run(asked)
    assert [(note.name, note.fields["what"]) for note in noted] == [
        ("request.left_out", "Text.extra")
    ]


@pytest.mark.parametrize(
    "message",
    [
        Message("user", "Hi", name="Ann"),
        Message("function", "x"),
        Message.user([Opaque({"type": "thing"}, "other")]),
        Message.user([ToolCall("1", "f", "")]),
        Message.assistant([Image(url="u")]),
    ],
)
def test_what_the_api_has_no_words_for_is_refused(message: Message) -> None:
    """Before the network, with a remedy."""
    with pytest.raises(UnsupportedError) as caught:
        items(message)
    assert caught.value.hint


# --- complete answers --------------------------------------------------------------------------


def test_a_complete_answer_has_all_its_parts() -> None:
    """Reasoning with its seal, hosted tools verbatim and counted, text and both kinds of call."""
    body = answer(THOUGHT, SEARCH, SAID, CALL, CUSTOM)
    events, head = RESPONSES.decode(msgspec.json.encode(body))
    found = ChatResponse(tuple(events)).answer
    assert found.message.parts == PARTS
    assert found.finish_reason == "tool_calls"
    assert found.usage == Usage(
        uncached_input=6,
        cache_read=4,
        text_output=3,
        reasoning_output=5,
        tool_units={"web_search": 1},
    )
    assert (head.id, head.model) == ("r1", "m")


def test_hosted_tools_are_counted_as_they_are_billed() -> None:
    """Opening a page is no search, a failed one is free, and a container counts once."""
    opened = {**SEARCH, "action": {"type": "open_page"}}
    failed = {**SEARCH, "status": "failed"}
    code = {"type": "code_interpreter_call", "container_id": "k1", "status": "completed"}
    usage = decode(answer(SEARCH, opened, failed, code, code, SAID))[-2]
    assert isinstance(usage, UsageReport)
    assert usage.usage.tool_units == {"web_search": 1, "code_interpreter": 1}


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ({"reason": "max_output_tokens"}, "length"),
        ({"reason": "content_filter"}, "content_filter"),
        ({"reason": "new"}, "new"),
        (None, "incomplete"),
    ],
)
def test_an_incomplete_answer_says_why(details: Any, reason: str) -> None:
    """It is a good end with a reason, whole or streamed, even without content."""
    body = answer(status="incomplete", incomplete_details=details)
    assert decode(body) == [REPORT, Finish(reason)]
    assert stream(end(kind="incomplete", incomplete_details=details)) == [REPORT, Finish(reason)]


def test_a_failed_answer_is_the_provider_s_error() -> None:
    """With its code as a status, and what was spent."""
    error = {"code": "rate_limit_exceeded", "message": "x"}
    for failing in (
        lambda: decode(answer(status="failed", error=error)),
        lambda: read(end(kind="failed", error=error)),
    ):
        with pytest.raises(RateLimitError) as caught:
            failing()
        assert caught.value.usage == REPORT.usage
    with pytest.raises(ServerError):
        read(end(kind="failed", error=None))


@pytest.mark.parametrize(
    "body",
    [{}, {"output": None}, answer(), answer(SAID, status="queued"), [], "x"],
    ids=["empty", "null", "no output", "queued", "array", "text"],
)
def test_a_body_that_is_no_answer_is_a_protocol_error(body: Any) -> None:
    """No output, nothing in it, or not finished."""
    with pytest.raises(ProtocolError):
        decode(body)


# --- streams -----------------------------------------------------------------------------------

DELTAS: list[dict[str, Any]] = [
    {"type": "response.created", "response": {"id": "r1", "model": "m", "status": "in_progress"}},
    {"type": "response.in_progress", "response": {"id": "r1"}},
    on("output_item.added", 0, item={**THOUGHT, "summary": [], "encrypted_content": None}),
    on("reasoning_summary_part.added", 0, item_id="rs1", summary_index=0, part={}),
    on("reasoning_summary_text.delta", 0, item_id="rs1", summary_index=0, delta="H"),
    on("reasoning_summary_text.done", 0, item_id="rs1", summary_index=0, text="H"),
    on("reasoning_summary_text.delta", 0, item_id="rs1", summary_index=1, delta="m"),
    on("output_item.done", 0, item=THOUGHT),
    on("output_item.added", 1, item={**SEARCH, "status": "in_progress"}),
    on("web_search_call.searching", 1, item_id="ws1"),
    on("output_item.done", 1, item=SEARCH),
    on("output_item.added", 2, item={**SAID, "content": []}),
    on("content_part.added", 2, content_index=0, part={"type": "output_text", "text": ""}),
    on("output_text.delta", 2, content_index=0, delta="Hel", logprobs=[]),
    on("output_text.delta", 2, content_index=0, delta="lo", logprobs=[{"token": "lo"}]),
    on("output_text.done", 2, content_index=0, text="Hello"),
    on("content_part.done", 2, content_index=0, part=SAID["content"][0]),
    on("output_item.done", 2, item=SAID),
    on("output_item.added", 3, item={**CALL, "arguments": ""}),
    on("output_item.added", 4, item={**CUSTOM, "input": ""}),
    on("function_call_arguments.delta", 3, delta='{"a"'),
    on("custom_tool_call_input.delta", 4, delta="free"),
    on("function_call_arguments.delta", 3, delta=":1}"),
    on("function_call_arguments.done", 3, arguments='{"a":1}'),
    on("output_item.done", 3, item=CALL),
    on("output_item.done", 4, item=CUSTOM),
    end(THOUGHT, SEARCH, SAID, CALL, CUSTOM),
]


def test_a_stream_amounts_to_the_same_as_the_complete_answer() -> None:
    """Nothing is said twice, though the API repeats all of it; parallel calls may alternate."""
    events = stream(*DELTAS)
    complete = ChatResponse(tuple(decode(answer(THOUGHT, SEARCH, SAID, CALL, CUSTOM)))).answer
    streamed = ChatResponse(tuple(events)).answer
    assert streamed.message == complete.message
    assert (streamed.finish_reason, streamed.usage) == (complete.finish_reason, complete.usage)
    assert streamed.choices[0].logprobs == ({"token": "lo"},)
    assert events[:3] == [
        ReasoningDelta("H", id="rs1"),
        ReasoningDelta("\n\nm"),
        ReasoningDelta("", 0, 0, "sealed", "rs1", extra=OWN),
    ]


@pytest.mark.parametrize(
    "dropped", ["delta", "added", "done", "item", "item.done", "summary", "text"]
)
def test_each_kind_of_event_may_be_missing(dropped: str) -> None:
    """Servers leave out deltas, beginnings or ends; what one leaves out another says."""
    kept = [
        event for event in DELTAS[:-1] if dropped not in event["type"].rpartition("response.")[2]
    ]
    found = ChatResponse(tuple(stream(*kept, DELTAS[-1]))).answer
    assert found.text == "Hello"
    assert found.message.reasoning == "H\n\nm"
    calls = [(call.id, call.name, call.arguments) for call in found.message.tool_calls]
    assert calls == [("t1", "f", '{"a":1}'), ("t2", "c", "free")]


@pytest.mark.parametrize("spoilt", ["output_index", "item_id", "content_index"])
def test_index_or_id_is_enough(spoilt: str) -> None:
    """Of an item's index and id, either may be wrong; a part may be counted from -1."""

    def spoil(number: int, event: dict[str, Any]) -> dict[str, Any]:
        item = event.get("item", {})
        event = {"item_id": item.get("id") or NAMED.get(event.get("output_index", -1)), **event}
        if spoilt == "output_index":
            return {**event, spoilt: 0}
        if spoilt == "content_index":
            return {**event, spoilt: -1}
        changed = {"item": {**item, "id": f"x{number}"}} if item else {}
        return {**event, spoilt: f"y{number}", **changed}

    spoilt_events = [spoil(number, event) for number, event in enumerate(DELTAS[:-1])]
    found = ChatResponse(tuple(stream(*spoilt_events, DELTAS[-1]))).answer
    calls = [(call.id, call.name, call.arguments) for call in found.message.tool_calls]
    assert calls == [("t1", "f", '{"a":1}'), ("t2", "c", "free")]
    assert found.text == "Hello"
    assert found.message.reasoning == "H\n\nm"


NAMED = {0: "rs1", 1: "ws1", 2: "m1", 3: "fc1", 4: "ct1"}


def test_one_index_may_serve_several_calls() -> None:
    """Each call that is announced is one more, and its own end is told by its id."""
    one, other = {**CALL, "id": None}, {**CALL, "id": None, "call_id": "t9"}
    begun = ({**one, "arguments": ""}, {**other, "arguments": ""})
    events = [
        (
            on("output_item.added", item=announced),
            on("function_call_arguments.delta", delta='{"a":1}'),
            on("output_item.done", item=ended),
        )
        for announced, ended in zip(begun, (one, other), strict=True)
    ]
    found = ChatResponse(tuple(stream(*events[0], *events[1], end(one, other)))).tool_calls
    assert found == (ToolCall("t1", "f", '{"a":1}'), ToolCall("t9", "f", '{"a":1}'))


def test_the_final_response_says_what_the_stream_did_not() -> None:
    """Reasoning may be streamed and the message and calls come only at the end."""
    thought = on("reasoning_summary_text.delta", item_id="rs1", summary_index=0, delta="H\n\nm")
    found = ChatResponse(tuple(stream(thought, end(THOUGHT, SAID, CALL)))).answer
    assert found.message.parts == (PARTS[0], PARTS[2], PARTS[3])
    assert found.finish_reason == "tool_calls"


def test_a_stream_of_the_end_alone_has_everything() -> None:
    """Some servers stream nothing but the final response."""
    found = ChatResponse(tuple(stream(end(THOUGHT, SEARCH, SAID, CALL, CUSTOM))))
    assert found.message.parts == PARTS


def test_progress_and_unknown_events_are_passed_on_without_commitment() -> None:
    """Hosted tools at work, annotations and new event types are events for whoever knows them."""
    new = on("brand_new.thing", payload=1)
    _, events = read(new, on("web_search_call.searching"), on("output_text.annotation.added"))
    assert events[0] == Opaque(new, "openai-responses", content=False)
    assert not any(event.semantic for event in events)


def test_refusals_come_in_pieces_or_whole() -> None:
    """Each is said once."""
    said = {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}
    assert stream(on("refusal.delta", content_index=0, delta="No."), end(said))[0] == RefusalDelta(
        "No."
    )
    assert stream(on("refusal.done", content_index=0, refusal="No."), end(said)) == [
        RefusalDelta("No."),
        REPORT,
        Finish("stop"),
    ]


def test_only_a_terminal_event_ends_a_stream_well() -> None:
    """Neither finished text nor `[DONE]` does; usage that is not stated is estimated."""
    text = on("output_text.delta", content_index=0, delta="Hello")
    decoder, _ = read(text, on("output_item.done", item=SAID), b"[DONE]")
    assert not decoder.done
    assert decoder.finish() == ()
    ended, _ = read(text, end(SAID, usage=None))
    assert ended.done
    assert ended.finish() == [
        UsageReport(Usage(uncached_input=5, text_output=3, estimated=True)),
        Finish("stop"),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b'{"type": "error", "code": "rate_limit_exceeded", "message": "x"}',
        b'{"type": "error", "error": {"type": "rate_limit_error"}}',
        b'{"error": {"code": "rate_limit_exceeded"}}',
    ],
)
def test_errors_inside_a_stream_are_the_provider_s(data: bytes) -> None:
    """In any of the shapes in which they come."""
    with pytest.raises(RateLimitError):
        read(data)


def test_text_that_is_not_quite_as_specified_is_text_all_the_same() -> None:
    """Without an index, with one that is null, or with half a surrogate pair."""
    for fields in (b"", b', "output_index": null', b', "logprobs": {}'):
        _, events = read(b'{"type": "response.output_text.delta", "delta": "a"' + fields + b"}")
        assert events == [TextDelta("a")]
    _, events = read(b'{"type": "response.output_text.delta", "delta": "a\\ud800"}')
    assert events == [TextDelta("a\ufffd")]


@pytest.mark.parametrize("data", [b"{", b"", b"[]", b"<html>", b"\xff", b'{"type": 5'])
def test_bytes_that_make_no_sense_are_a_protocol_error(data: bytes) -> None:
    """Never a decoder's own error."""
    with pytest.raises(ProtocolError):
        read(data)


def test_fields_of_the_wrong_kind_never_raise_anything_but_our_errors() -> None:
    """Every field of every event may be junk, at any depth."""
    outcomes: set[str] = set()
    for event in DELTAS:
        for changed in _spoiled(event):
            try:
                stream(changed)
                outcomes.add("read")
            except LamellaError as error:
                outcomes.add(type(error).__name__)
    assert "read" in outcomes
    assert "ProtocolError" in outcomes


def _spoiled(given: Any) -> Iterator[Any]:
    """The value with one of its parts replaced by junk, in every way."""
    yield from (None, 5, "x", [], {}, [5], {"type": []})
    inner = (
        given.items()
        if isinstance(given, dict)
        else enumerate(given)
        if isinstance(given, list)
        else ()
    )
    for key, value in inner:
        for junk in _spoiled(value):
            if isinstance(given, dict):
                yield {**given, key: junk}
            else:
                yield [*given[:key], junk, *given[key + 1 :]]
