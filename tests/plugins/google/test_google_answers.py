"""How answers of Google's are read, streamed and whole, by the same code."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from google.genai import types
from google_wire import CHAT, COMPLETE, STREAM, TEXT, chunk, decode, encode, event, folded, read
from hypothesis import given
from hypothesis import strategies as st

from lamella import (
    Audio,
    ChatRequest,
    ContentFilteredError,
    Event,
    Finish,
    Image,
    LamellaError,
    MediaDelta,
    Message,
    Opaque,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    Reasoning,
    ServerError,
    Text,
    TextDelta,
    ToolCall,
    Usage,
    UsageReport,
)
from lamella_google._usage import usage_of

PNG = "iVBORw=="
OWN = {"provider": "google"}
RICH = chunk(
    {"text": "Let me ", "thought": True},
    {"text": "see.", "thought": True, "thoughtSignature": "dGgx"},
    {"text": "Here: "},
    {"text": "a picture", "thoughtSignature": "dHgx"},
    {"inlineData": {"mimeType": "image/png", "data": PNG}, "thoughtSignature": "aW0x"},
    {"executableCode": {"language": "PYTHON", "code": "1+1"}, "thoughtSignature": "Y28x"},
    {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2"}},
    {"functionCall": {"name": "look", "args": {"b": [1, None], "a": "ü"}, "id": "f1"},
     "thoughtSignature": "ZmMx"},
    {"functionCall": {"name": "add"}},
    finish="STOP",
    safetyRatings=[{"category": "HARM_CATEGORY_HARASSMENT", "probability": "LOW"}],
    citationMetadata={"citations": [{"uri": "u"}]},
    groundingMetadata={"webSearchQueries": ["a", "b"], "searchEntryPoint": {}},
    usage={
        "promptTokenCount": 50,
        "cachedContentTokenCount": 20,
        "candidatesTokenCount": 30,
        "thoughtsTokenCount": 7,
        "toolUsePromptTokenCount": 5,
        "totalTokenCount": 92,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 30},
            {"modality": "AUDIO", "tokenCount": 12},
            {"modality": "VIDEO", "tokenCount": 8},
        ],
        "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 10},
                               {"modality": "TEXT", "tokenCount": 10}],
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 11}],
        "toolUsePromptTokensDetails": [{"modality": "TEXT", "tokenCount": 5}],
        "trafficType": "ON_DEMAND",
    },
)  # fmt: skip
MESSAGE = Message.assistant(
    [
        Reasoning("Let me see.", "dGgx", extra=OWN),
        Text("Here: "),
        Text("a picture", extra={"thoughtSignature": "dHgx", **OWN}),
        Image(data=b"\x89PNG", media_type="image/png", extra={"thoughtSignature": "aW0x", **OWN}),
        Opaque(
            {
                "executableCode": {"language": "PYTHON", "code": "1+1"},
                "thoughtSignature": "Y28x",
            },
            "google",
        ),
        Opaque({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2"}}, "google"),
        ToolCall("f1", "look", '{"b":[1,null],"a":"ü"}', extra={"thoughtSignature": "ZmMx", **OWN}),
        ToolCall("call_r1_0_1", "add", "{}"),
    ]
)
RICH_USAGE = Usage(
    uncached_input=25,
    cache_read=20,
    audio_input=2,
    image_input=8,
    text_output=19,
    reasoning_output=7,
    image_output=11,
    tool_units={"web_search": 2},
)


def asides(events: list[Event]) -> list[Mapping[str, Any]]:
    """What is passed on beside the message."""
    return [each.data for each in events if isinstance(each, Opaque) and not each.content]


# --- golden ------------------------------------------------------------------------------------


def test_a_rich_answer() -> None:
    """Every kind of part becomes a part of the message, in its place, sealed as it came."""
    response = folded(decode(RICH))
    assert response.message == MESSAGE
    assert response.finish_reason == "tool_calls"
    assert response.usage == RICH_USAGE
    assert asides(decode(RICH)) == [
        {"safetyRatings": [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "LOW"}]},
        {"citationMetadata": {"citations": [{"uri": "u"}]}},
        {"groundingMetadata": {"webSearchQueries": ["a", "b"], "searchEntryPoint": {}}},
    ]
    types.GenerateContentResponse.model_validate(RICH)


def test_a_rich_answer_goes_back_as_it_came() -> None:
    """Part by part, with every signature in its place."""
    sent = encode([Message.user("Hi"), folded(decode(RICH)).message])["contents"][1]
    came = json.loads(json.dumps(RICH["candidates"][0]["content"]))
    first, second = came["parts"][:2]
    came["parts"][:2] = [{**second, "text": first["text"] + second["text"]}]  # one block of thought
    came["parts"][-1]["functionCall"] |= {"id": "call_r1_0_1", "args": {}}
    assert sent == came


def test_the_same_streamed() -> None:
    """One part in each chunk amounts to the same message, usage and reason."""
    candidate = RICH["candidates"][0]
    pieces = [chunk(part, usage={"promptTokenCount": 1}) for part in candidate["content"]["parts"]]
    last = {**RICH, "candidates": [{**candidate, "content": {"role": "model"}}]}
    response = folded(read(*pieces, last))
    assert (response.message, response.usage) == (MESSAGE, RICH_USAGE)
    assert response.finish_reason == "tool_calls"


def test_split_at_every_byte() -> None:
    """However the network cuts a stream, its events are the same."""
    data = b"".join(event(each) for each in (*STREAM, RICH))
    request = ChatRequest.of("Hi")

    def events(cuts: tuple[int, ...]) -> list[Event]:
        reader, decoder = CHAT.reader(1 << 20), CHAT.decoder(request)
        edges = [0, *cuts, len(data)]
        found: list[Event] = []
        for start, end in itertools.pairwise(edges):
            for kind, message in reader.feed(data[start:end]):
                found += decoder.feed(kind, message)
        for kind, message in reader.finish():
            found += decoder.feed(kind, message)
        return [*found, *decoder.finish()]

    whole = events(())
    assert type(whole[-1]) is Finish
    for cut in range(1, len(data)):
        assert events((cut,)) == whole
    assert events(tuple(range(1, len(data)))) == whole


def test_plain_streams() -> None:
    """Text comes piece by piece; the last statement of usage counts."""
    events = read(*STREAM)
    assert events == [
        TextDelta("Héllo "),
        TextDelta("wörld "),
        TextDelta("😀"),
        UsageReport(Usage(uncached_input=3, text_output=2)),
        Finish("stop"),
    ]
    assert folded(decode(COMPLETE)).text == TEXT


def test_head() -> None:
    """The model and the id are known from the first chunk on."""
    decoder = CHAT.decoder(ChatRequest.of("Hi"))
    decoder.feed(None, msgspec.json.encode(STREAM[0]))
    assert (decoder.head.model, decoder.head.id) == ("gemini-x", "r1")


def test_a_signature_by_itself() -> None:
    """Where it comes with an empty text it stays a part of its own, and goes back as one."""
    last = chunk({"text": "", "thoughtSignature": "c2ln"}, finish="STOP")
    message = folded(read(STREAM[0], last)).message
    assert message.parts == (Text("Héllo "), Text("", extra={"thoughtSignature": "c2ln", **OWN}))
    sent = encode([Message.user("Hi"), message])["contents"][1]["parts"]
    assert sent == [{"text": "Héllo "}, {"text": "", "thoughtSignature": "c2ln"}]


def test_thoughts_in_pieces() -> None:
    """Plain pieces are one thought, until a signature closes it."""
    events = read(
        chunk({"text": "Hm", "thought": True}),
        chunk({"text": ", so", "thought": True}),
        chunk({"text": "", "thought": True, "thoughtSignature": "s"}),
        chunk({"text": "More", "thought": True}),
        chunk({"text": "Yes"}, finish="STOP"),
    )
    assert folded(events).message.parts == (
        Reasoning("Hm, so", "s", extra=OWN),
        Reasoning("More", extra=OWN),
        Text("Yes"),
    )


def test_sound_goes_on_and_pictures_are_whole() -> None:
    """Pieces of one sound are joined, with its words; each picture is one."""
    sound = {"mimeType": "audio/L16;rate=24000", "data": "AQI="}
    events = decode(
        chunk(
            {"inlineData": sound, "audioTranscription": {"text": "Hel"}},
            {"inlineData": sound, "audioTranscription": {"text": "lo"}},
            {"inlineData": {"mimeType": "image/png", "data": PNG}},
            {"inlineData": {"mimeType": "image/png", "data": PNG}},
            {"inlineData": {"mimeType": "video/mp4", "data": PNG}},
            finish="STOP",
        )
    )
    assert sum(isinstance(each, MediaDelta) for each in events) == 4
    audio, *pictures, video = folded(events).message.parts
    assert audio == Audio(b"\1\2\1\2", "audio/L16;rate=24000", transcript="Hello")
    assert [type(each) for each in pictures] == [Image, Image]
    assert isinstance(video, Opaque)


def test_several_candidates() -> None:
    """Each is a choice with its own reason and ids."""
    call = {"functionCall": {"name": "f", "args": {}}}
    one, other = chunk({"text": "a"}, finish="STOP"), chunk(call, finish="MAX_TOKENS")
    other["candidates"][0]["index"] = 1
    answer = {**one, "candidates": [*one["candidates"], *other["candidates"]]}
    for events in (decode(answer), read(one, other, n=2)):
        response = folded(events)
        assert [each.finish_reason for each in response.choices] == ["stop", "length"]
        assert response.choices[1].message.tool_calls[0].id == "call_r1_1_0"


def test_log_probabilities() -> None:
    """Token by token, each with what it was chosen among."""
    result = {
        "chosenCandidates": [{"token": "a", "logProbability": -1.0}],
        "topCandidates": [{"candidates": [{"token": "b"}]}],
    }
    response = folded(decode(chunk({"text": "a"}, finish="STOP", logprobsResult=result)))
    assert response.choices[0].logprobs == (
        {"token": "a", "logProbability": -1.0, "topCandidates": [{"token": "b"}]},
    )
    silent = decode(chunk({"functionCall": {"name": "f"}}, finish="STOP", logprobsResult=result))
    assert {"logprobsResult": result} in asides(silent)


def test_arguments_in_pieces() -> None:
    """Vertex AI may stream them by their paths; they are delivered when the call is whole."""

    def piece(*args: dict[str, Any], more: bool, name: str | None = "book") -> dict[str, Any]:
        call: dict[str, Any] = {"partialArgs": list(args)}
        if name is not None:
            call["name"] = name
        return chunk({"functionCall": {**call, **({"willContinue": True} if more else {})}})

    events = read(
        chunk({"functionCall": {"name": "book", "id": "c1", "willContinue": True}}),
        piece({"jsonPath": "$.city", "stringValue": "Par", "willContinue": True}, more=True),
        piece({"jsonPath": "$.city", "stringValue": "is"}, more=True, name=None),
        piece({"jsonPath": "$.to[1]['a.b']", "numberValue": 2}, more=True),
        piece({"jsonPath": "$.ok", "boolValue": False}, more=True),
        piece({"jsonPath": "$.none", "nullValue": "NULL_VALUE"}, more=False),
        chunk({"functionCall": {"name": "add", "args": {"x": 1}, "id": "c2"}}, finish="STOP"),
    )
    first, second = folded(events).message.tool_calls
    assert (first.id, first.name) == ("c1", "book")
    assert json.loads(first.arguments) == {
        "city": "Paris",
        "to": [None, {"a.b": 2}],
        "ok": False,
        "none": None,
    }
    assert (second.id, second.arguments) == ("c2", '{"x":1}')


@pytest.mark.parametrize("path", [None, "", "city", "$", "$.a[", "$.a[99999]", "$..a", "$[*]"])
def test_paths_that_are_none(path: Any) -> None:
    """Pieces that belong nowhere are nonsense."""
    piece = {"name": "f", "partialArgs": [{"jsonPath": path, "stringValue": "x"}]}
    with pytest.raises(ProtocolError, match="arguments"):
        read(chunk({"functionCall": piece}))


def test_unknown_fields_are_passed_on_once() -> None:
    """Of the answer and of a candidate, for each value they take."""
    one = {**chunk({"text": "a"}, avgLogprobs=-0.5), "modelStatus": {"modelStage": "STABLE"}}
    events = read(one, one, {**one, **chunk({"text": "b"}, finish="STOP", avgLogprobs=-0.4)})
    assert asides(events) == [
        {"avgLogprobs": -0.5},
        {"modelStatus": {"modelStage": "STABLE"}},
        {"avgLogprobs": -0.4},
    ]


def test_a_list_of_chunks() -> None:
    """Where a proxy loses `alt=sse`, the stream comes as one JSON array."""
    events = list(CHAT.decode(json.dumps(STREAM).encode(), ChatRequest.of("Hi"))[0])
    assert events == read(*STREAM)


# --- how answers end ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("MODEL_ARMOR", "content_filter"),
        ("IMAGE_SAFETY", "content_filter"),
        ("LANGUAGE", "language"),
        ("CONTINUATION", "continuation"),
        ("MALFORMED_FUNCTION_CALL", "malformed_function_call"),
        ("SOMETHING_NEW", "something_new"),
    ],
)
def test_finish_reasons(said: str, reason: str) -> None:
    """In the library's words where it has one, else Google's own in lower case."""
    assert folded(decode(chunk({"text": "a"}, finish=said))).finish_reason == reason


def test_the_sdk_knows_no_reason_that_we_do_not() -> None:
    """Every reason of Google's SDK is mapped on purpose."""
    ours = {
        "stop", "length", "content_filter", "finish_reason_unspecified", "language", "other",
        "malformed_function_call", "image_other", "no_image", "unexpected_tool_call",
        "too_many_tool_calls", "missing_thought_signature", "malformed_response", "continuation",
    }  # fmt: skip
    for each in types.FinishReason:
        if each.value != "PUP_LIMITED_DISABLED":
            said = folded(decode(chunk({"text": "a"}, finish=each.value))).finish_reason
            assert said in ours, each


def test_filtered_output_without_content() -> None:
    """A candidate that a filter withheld is an answer that says so."""
    withheld = {"candidates": [{"finishReason": "SAFETY", "index": 0}]}
    response = folded(read(withheld))
    assert (response.text, response.finish_reason) == ("", "content_filter")


@pytest.mark.parametrize("streaming", [False, True])
def test_blocked_prompts(*, streaming: bool) -> None:
    """Nothing was made: an error, with what was spent."""
    feedback = {"blockReason": "PROHIBITED_CONTENT", "safetyRatings": []}
    said = {"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 4}}
    with pytest.raises(ContentFilteredError) as caught:
        read(said) if streaming else decode(said)
    assert caught.value.code == "prohibited_content"
    assert caught.value.usage == Usage(uncached_input=4)


def test_feedback_without_a_block() -> None:
    """Ratings of the prompt are passed on."""
    rated = {**COMPLETE, "promptFeedback": {"safetyRatings": [{"category": "x"}]}}
    assert asides(decode(rated)) == [{"promptFeedback": {"safetyRatings": [{"category": "x"}]}}]


@pytest.mark.parametrize("chunks", [(), STREAM[:1], STREAM[:3]])
def test_truncated_streams(chunks: tuple[Any, ...]) -> None:
    """Without a finish reason there is no end."""
    decoder = CHAT.decoder(ChatRequest.of("Hi"))
    for each in chunks:
        decoder.feed(None, msgspec.json.encode(each))
    assert decoder.finish() == ()


def test_a_candidate_that_never_began() -> None:
    """Where several were asked for, each must have come to its end."""
    decoder = CHAT.decoder(ChatRequest.of("Hi", n=2))
    decoder.feed(None, msgspec.json.encode(COMPLETE))
    assert decoder.finish() == ()


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"])
def test_calls_that_google_itself_could_not_use(reason: str) -> None:
    """With nothing else said it is a fault of the model, which another try may not make."""
    nothing = {"candidates": [{"content": {}, "finishReason": reason}], "usageMetadata": {
        "promptTokenCount": 3}}  # fmt: skip
    with pytest.raises(ServerError) as caught:
        decode(nothing)
    assert (caught.value.code, caught.value.retryable) == (reason.lower(), True)
    assert caught.value.usage == Usage(uncached_input=3)


def test_accounts_that_are_limited() -> None:
    """No answer, and no reason to try again."""
    with pytest.raises(PermissionDeniedError) as caught:
        decode(chunk({"text": "a"}, finish="PUP_LIMITED_DISABLED"))
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        {"candidates": []},
        {"candidates": [1]},
        {"candidates": {"a": 1}},
        {"candidates": [{"index": -1}]},
        {"candidates": [
            {"index": 1, "finishReason": "STOP", "content": {"parts": [{"text": "a"}]}}]},
        {"candidates": [{"content": {"parts": 1}}]},
        {"candidates": [{"content": {"parts": [1]}}]},
        {"candidates": [{"content": {"role": "model"}, "finishReason": "STOP"}]},
        {"candidates": [{"content": {"parts": [{"functionCall": {}}]}}]},
        {"candidates": [{"content": {"parts": [
            {"inlineData": {"mimeType": "image/png", "data": "%"}}]}}]},
    ],
)  # fmt: skip
def test_nonsense(answer: Any) -> None:
    """What is no answer is a protocol error."""
    with pytest.raises(ProtocolError):
        decode(answer)


def test_errors_in_band() -> None:
    """They are typed, with what was spent before."""
    error = {"error": {"code": 503, "status": "UNAVAILABLE", "message": "secret"}}
    with pytest.raises(OverloadedError) as caught:
        decode(error)
    assert "secret" not in str(caught.value)
    with pytest.raises(OverloadedError) as spent:
        read(STREAM[0], error)
    assert spent.value.usage == Usage(uncached_input=3)


# --- usage -------------------------------------------------------------------------------------


def usage_for(stated: Any, **fields: Any) -> Usage | None:
    """The usage that an answer is said to have had."""
    return folded(read(chunk({"text": "abcd"}, finish="STOP", usage=stated), **fields)).usage


@pytest.mark.parametrize(
    ("stated", "usage"),
    [
        ({"promptTokenCount": 4}, Usage(uncached_input=4)),
        ({"promptTokenCount": 0, "totalTokenCount": 0}, Usage()),
        (
            {"promptTokenCount": 4, "thoughtsTokenCount": 3, "totalTokenCount": 7},
            Usage(uncached_input=4, reasoning_output=3),
        ),
        (
            {"promptTokenCount": 4, "candidatesTokenCount": 2, "totalTokenCount": 9},
            Usage(uncached_input=4, text_output=2, reasoning_output=3),
        ),
        (
            {"promptTokenCount": 4, "totalTokenCount": 9},
            Usage(uncached_input=4, text_output=5),
        ),
        (
            {"promptTokenCount": 4, "cachedContentTokenCount": 9},
            Usage(cache_read=4, estimated=True),
        ),
        (
            {"promptTokenCount": 9, "cachedContentTokenCount": 9,
             "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 9}]},
            Usage(cache_read=9),
        ),
        (
            {"promptTokenCount": -4, "candidatesTokenCount": 2},
            Usage(text_output=2, estimated=True),
        ),
        (
            {"promptTokenCount": 4, "candidatesTokenCount": 2, "totalTokenCount": 5},
            Usage(uncached_input=4, text_output=2, estimated=True),
        ),
        ({"promptTokenCount": "4", "candidatesTokenCount": 2.0},
         Usage(uncached_input=4, text_output=2)),
        (
            {"candidatesTokenCount": 5,
             "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 3}]},
            Usage(text_output=2, audio_output=3),
        ),
    ],
)  # fmt: skip
def test_usage(stated: Any, usage: Usage) -> None:
    """Parts that never overlap and add up to Google's totals; strange counts lose nothing."""
    assert usage_for(stated) == usage


@pytest.mark.parametrize(
    "stated", [None, {}, {"trafficType": "ON_DEMAND"}, 7, {"totalTokenCount": "x"}]
)
def test_usage_that_nobody_states(stated: Any) -> None:
    """Is estimated, and says so."""
    usage = usage_for(stated)
    assert usage is not None
    assert usage.estimated
    assert usage.text_output >= 2
    assert not any(isinstance(each, UsageReport) for each in decode(
        chunk({"text": "a"}, finish="STOP", usage=stated)))  # fmt: skip


COUNTS = st.one_of(st.none(), st.integers(-5, 50), st.just("7"), st.floats(), st.text(max_size=3))
DETAILS = st.lists(
    st.fixed_dictionaries(
        {
            "modality": st.sampled_from(["TEXT", "AUDIO", "IMAGE", "VIDEO", "?"]),
            "tokenCount": COUNTS,
        }
    ),
    max_size=3,
)
STATED = st.fixed_dictionaries(
    {},
    optional={
        "promptTokenCount": COUNTS,
        "cachedContentTokenCount": COUNTS,
        "candidatesTokenCount": COUNTS,
        "thoughtsTokenCount": COUNTS,
        "toolUsePromptTokenCount": COUNTS,
        "totalTokenCount": COUNTS,
        "promptTokensDetails": DETAILS,
        "cacheTokensDetails": DETAILS,
        "candidatesTokensDetails": DETAILS,
    },
)


@given(STATED)
def test_usage_never_loses_a_paid_answer(stated: dict[str, Any]) -> None:
    """Whatever is stated, there is a usage or none."""
    usage = usage_of(stated)
    assert usage is None or usage.total_tokens >= 0


WHOLE = st.integers(0, 50)


@given(st.tuples(WHOLE, WHOLE, WHOLE, WHOLE, WHOLE), st.tuples(DETAILS, DETAILS, DETAILS))
def test_parts_of_usage_add_up(counts: tuple[int, ...], details: tuple[Any, ...]) -> None:
    """To Google's totals, whatever the details say."""
    prompt, tools, answer, thoughts, cached = counts
    stated = {
        "promptTokenCount": prompt,
        "toolUsePromptTokenCount": tools,
        "candidatesTokenCount": answer,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": prompt + tools + answer + thoughts,
        "cachedContentTokenCount": cached,
        "promptTokensDetails": details[0],
        "cacheTokensDetails": details[1],
        "candidatesTokensDetails": details[2],
    }
    usage = usage_of(stated)
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (prompt + tools, answer + thoughts)
    assert usage.cache_read <= cached


FIELDS = st.sampled_from(
    ["content", "parts", "text", "thought", "functionCall", "name", "args", "partialArgs",
     "inlineData", "mimeType", "data", "index", "finishReason", "logprobsResult", "blockReason"]
)  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["a", "image/png", "STOP"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=12,
)


@given(ANYTHING, st.sampled_from(["candidates", "parts", "promptFeedback", "usageMetadata", ""]))
def test_whatever_comes_is_an_answer_or_a_typed_error(said: Any, place: str) -> None:
    """No shape of an answer raises anything else."""
    answer = {place: said} if place else said
    if place == "parts":
        answer = {"candidates": [{"content": {"parts": [said]}, "finishReason": "STOP"}]}
    with contextlib.suppress(LamellaError):
        decode(answer, ChatRequest.of("Hi"))
    with contextlib.suppress(LamellaError):
        read(answer)
