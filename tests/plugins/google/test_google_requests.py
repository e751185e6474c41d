"""How conversations are written for Google: contents, tools, configuration, losses."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
import pytest
from google.genai import types
from google_wire import CHAT, OPTIONS, encode, traced

from lamella import (
    Audio,
    ChatRequest,
    Context,
    File,
    Image,
    Message,
    MisuseError,
    Opaque,
    Reasoning,
    Refusal,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    UnsupportedError,
)
from lamella._cards import ModelCard
from lamella.transports import DialectOptions
from lamella_google._chat import GeminiChat

SIGNED = {"thoughtSignature": "c2ln", "provider": "google"}
VERTEX = GeminiChat("vertex", vertex=True)


def parts(*given: Any, role: str = "user", **options: Any) -> list[dict[str, Any]]:
    """The parts of one message as they go out."""
    body = encode([Message(role, given)], **options)
    found: list[dict[str, Any]] = body["contents"][0]["parts"]
    return found


def card(*capabilities: str) -> DialectOptions:
    """Options with the card of a model that can do these things."""
    made = ModelCard("m", "google", capabilities=frozenset(capabilities))
    return attrs.evolve(OPTIONS, card=made)


def losses(content: Any, options: DialectOptions = OPTIONS, **fields: Any) -> dict[str, int]:
    """What a request is said to lose, and how often."""
    request, trace = traced(ChatRequest.of(content, **fields))
    CHAT.encode(request, stream=False, options=options)
    found: Counter[str] = Counter()
    for note in trace.notes:
        found[str(note.fields["what"])] += int(note.fields["count"])
    return dict(found)


# --- the whole body ----------------------------------------------------------------------------


def test_every_field_of_a_request_has_its_place() -> None:
    """Typed fields go out under the API's names; what is None does not go out."""
    body = encode(
        [Message.system("Be brief."), Message("developer", "Be kind."), Message.user("Hi")],
        model="m",
        tools=[Tool("look", "Look.", {"type": "object"}), Opaque({"googleSearch": {}})],
        tool_choice="look",
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"a": 1}}},
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
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        "systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]},
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "look",
                        "description": "Look.",
                        "parametersJsonSchema": {"type": "object"},
                    }
                ]
            },
            {"googleSearch": {}},
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look"]}},
        "generationConfig": {
            "temperature": 0.0,
            "topP": 0.5,
            "maxOutputTokens": 7,
            "stopSequences": ["END"],
            "seed": 3,
            "candidateCount": 2,
            "presencePenalty": 0.1,
            "frequencyPenalty": 0.2,
            "responseLogprobs": True,
            "logprobs": 2,
            "responseMimeType": "application/json",
            "responseJsonSchema": {"a": 1},
            "thinkingConfig": {"thinkingLevel": "LOW", "includeThoughts": True},
        },
        "serviceTier": "flex",
    }


def test_a_plain_request_is_plain() -> None:
    """Nothing goes out that was not said."""
    assert encode("Hi", service_tier="auto", response_format={"type": "text"}) == {
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}]
    }


def test_a_whole_conversation() -> None:
    """Turns, parallel calls and all their results in one content, with names and ids."""
    body = encode(
        [
            Message.user([Text("Look"), Image(data=b"x", media_type="image/png", detail="low")]),
            Message.assistant(
                [
                    Reasoning("Hm", signature="c2ln", extra={"provider": "google"}),
                    Text("I will", extra=SIGNED),
                    ToolCall("1", "look", '{"a": [1, "ü"]}', extra=SIGNED),
                    ToolCall("2", "add", ""),
                ]
            ),
            Message.tool("1", "fine"),
            Message.tool("2", [Text("no"), Image(data=b"y", media_type="image/png")], error=True),
            Message.assistant("So it is."),
            Message.user("Thanks"),
        ]
    )
    assert body["contents"] == [
        {
            "role": "user",
            "parts": [
                {"text": "Look"},
                {
                    "inlineData": {"mimeType": "image/png", "data": "eA=="},
                    "mediaResolution": {"level": "MEDIA_RESOLUTION_LOW"},
                },
            ],
        },
        {
            "role": "model",
            "parts": [
                {"text": "Hm", "thought": True, "thoughtSignature": "c2ln"},
                {"text": "I will", "thoughtSignature": "c2ln"},
                {
                    "functionCall": {"id": "1", "name": "look", "args": {"a": [1, "ü"]}},
                    "thoughtSignature": "c2ln",
                },
                {"functionCall": {"id": "2", "name": "add", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "1", "name": "look", "response": {"output": "fine"}}},
                {
                    "functionResponse": {
                        "id": "2",
                        "name": "add",
                        "response": {"error": "no"},
                        "parts": [{"inlineData": {"mimeType": "image/png", "data": "eQ=="}}],
                    }
                },
            ],
        },
        {"role": "model", "parts": [{"text": "So it is."}]},
        {"role": "user", "parts": [{"text": "Thanks"}]},
    ]
    for content in body["contents"]:
        types.Content.model_validate(content)  # refuses fields that Google's SDK does not know


@pytest.mark.parametrize("vertex", [False, True])
def test_the_sdk_knows_every_field(*, vertex: bool) -> None:
    """What goes into `generationConfig`, `tools` and `toolConfig` is what Google's SDK has."""
    body = encode(
        "Hi",
        dialect=GeminiChat(vertex=vertex),
        tools=[Tool("look", "Look.", {"type": "object"}), Opaque({"codeExecution": {}})],
        tool_choice="required",
        max_output_tokens=7,
        stop=["a"],
        n=2,
        logprobs=0,
        reasoning_effort="high",
    )
    types.GenerationConfig.model_validate(body["generationConfig"])
    types.ToolConfig.model_validate(body["toolConfig"])
    for tool in body["tools"]:
        types.Tool.model_validate(tool)


# --- parts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "sent"),
    [
        (
            Image(url="https://e.org/a.jpg"),
            {"fileData": {"fileUri": "https://e.org/a.jpg", "mimeType": "image/jpeg"}},
        ),
        (
            Image(url="data:image/png;base64,eA=="),
            {"inlineData": {"mimeType": "image/png", "data": "eA=="}},
        ),
        (
            Audio(data=b"x", format="wav"),
            {"inlineData": {"mimeType": "audio/wav", "data": "eA=="}},
        ),
        (
            File(data=b"x", media_type="video/mp4"),
            {"inlineData": {"mimeType": "video/mp4", "data": "eA=="}},
        ),
        (
            File(url="gs://b/f", media_type="application/pdf"),
            {"fileData": {"fileUri": "gs://b/f", "mimeType": "application/pdf"}},
        ),
        (File(id="https://g.org/v1beta/files/abc"),
         {"fileData": {"fileUri": "https://g.org/v1beta/files/abc"}}),
        (
            File(data=b"x", media_type="video/mp4", extra={"videoMetadata": {"fps": 2}}),
            {
                "inlineData": {"mimeType": "video/mp4", "data": "eA=="},
                "videoMetadata": {"fps": 2},
            },
        ),
        (
            File(data=b"x", media_type="text/csv", extra={"inlineData": {"displayName": "d"}}),
            {"inlineData": {"mimeType": "text/csv", "data": "eA==", "displayName": "d"}},
        ),
        (Opaque({"executableCode": {"code": "1"}}), {"executableCode": {"code": "1"}}),
        (Refusal("No."), {"text": "No."}),
    ],
)  # fmt: skip
def test_parts(part: Any, sent: dict[str, Any]) -> None:
    """Media go by content or by address; what is Google's own goes verbatim."""
    assert parts(part) == [sent]


@pytest.mark.parametrize(
    "part",
    [
        Image(data=b"x"),
        Audio(data=b"x"),
        Audio(id="a1"),
        File(data=b"x"),
        Opaque({"type": "x"}, "openai"),
        ToolCall("1", "f", "{}"),
        ToolResult("1"),
        Reasoning("x"),
    ],
)
def test_parts_that_cannot_be_sent(part: Any) -> None:
    """They are refused before the network, with what to do."""
    with pytest.raises(UnsupportedError) as caught:
        parts(part)
    assert caught.value.hint
    assert caught.value.code == "unsupported_part"


def test_vertex_needs_the_type_of_an_address() -> None:
    """AI Studio knows the types of the files it keeps; Vertex AI must be told."""
    unknown = File(url="https://e.org/thing")
    assert parts(unknown) == [{"fileData": {"fileUri": "https://e.org/thing"}}]
    with pytest.raises(UnsupportedError, match="unknown type"):
        parts(unknown, dialect=VERTEX)


@pytest.mark.parametrize(
    "messages",
    [
        [Message.system("Only this.")],
        [Message.system([Image(url="https://e.org/a.png")]), Message.user("Hi")],
        [Message("user", "Hi", name="Ann")],
        [Message.user("Hi"), Message.tool("9", "x")],
        [Message.user("Hi"), Message.assistant([ToolCall("1", "f", "{broken")])],
        [Message.user("Hi"), Message.assistant([ToolCall("1", "f", "x", "custom")])],
    ],
)
def test_conversations_that_cannot_be_sent(messages: list[Message]) -> None:
    """What the API has no words for is refused, with what to do."""
    with pytest.raises(UnsupportedError) as caught:
        encode(messages)
    assert caught.value.hint


def test_odd_messages() -> None:
    """Empty answers are left out, empty questions are not; a legacy function's result goes on."""
    body = encode(
        [
            Message.user([]),
            Message.assistant(""),
            Message("function", "3", name="f"),
        ]
    )
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": ""}]},
        {
            "role": "user",
            "parts": [{"functionResponse": {"name": "f", "response": {"output": "3"}}}],
        },
    ]


def test_a_result_may_name_its_tool_itself() -> None:
    """Several texts of a result are a list; its `extra` says what else the API knows."""
    result = ToolResult(
        "1",
        (Text("a"), Text("b")),
        extra={"functionResponse": {"name": "f", "scheduling": "SILENT"}},
    )
    assert encode([Message("tool", [result])])["contents"][0]["parts"] == [
        {
            "functionResponse": {
                "id": "1",
                "name": "f",
                "response": {"output": ["a", "b"]},
                "scheduling": "SILENT",
            }
        }
    ]


# --- what another provider made ----------------------------------------------------------------


def test_foreign_state_is_left_out_and_said() -> None:
    """Sealed thoughts, opaque parts and `extra` of other providers do not go out."""
    conversation = [
        Message.user("Hi"),
        Message.assistant(
            [
                Reasoning("Hm", signature="s", extra={"provider": "anthropic"}),
                Reasoning("Aha"),
                Opaque({"type": "x"}, "openai"),
                Text("Yes", extra={"citations": [1], "provider": "anthropic"}),
                Audio(id="a1", transcript="spoken"),
            ]
        ),
        Message.system("Now be brief."),
        Message.user([Text("Go", extra={"cache_control": {"type": "ephemeral"}})]),
    ]
    body = encode(conversation)
    assert body["contents"][1]["parts"] == [{"text": "Yes"}, {"text": "spoken"}]
    assert body["systemInstruction"] == {"parts": [{"text": "Now be brief."}]}
    assert losses(conversation) == {
        "Reasoning": 2,
        "Opaque": 1,
        "Text.extra": 1,
        "Audio": 1,
        "position of a system message": 1,
        "cache_control": 1,
    }


def test_foreign_state_may_be_refused() -> None:
    """With `refuse_foreign` such a conversation is not sent at all."""
    strict = attrs.evolve(OPTIONS, refuse_foreign=True)
    sealed = Message.assistant([Reasoning("", signature="s", extra={"provider": "openai"})])
    with pytest.raises(UnsupportedError, match="provider that made it"):
        encode([Message.user("Hi"), sealed], strict)


def test_names_of_transports_tell_whose_state_it_is() -> None:
    """What AI Studio sealed does not go to Vertex AI."""
    thought = Reasoning("Hm", signature="s", extra={"provider": "google"})
    messages = [Message.user("Hi"), Message.assistant([thought, Text("Yes")])]
    assert encode(messages)["contents"][1]["parts"][0]["thoughtSignature"] == "s"
    assert encode(messages, dialect=VERTEX)["contents"][1]["parts"] == [{"text": "Yes"}]


def _loop(*calls: ToolCall) -> list[Message]:
    results = [Message.tool(call.id, "x") for call in calls]
    return [Message.user("Hi"), Message.assistant(calls), *results]


def test_calls_of_another_model_get_the_documented_signature() -> None:
    """Only in the turn under way, only the first call of an answer, only for models that check."""
    calls = (ToolCall("1", "f", "{}"), ToolCall("2", "g", "{}"))
    before = [Message.user("Before"), Message.assistant([ToolCall("0", "f", "{}")]),
              Message.tool("0", "x"), Message.assistant("Done.")]  # fmt: skip
    contents = encode([*before, *_loop(*calls)])["contents"]
    assert "thoughtSignature" not in contents[1]["parts"][0]
    assert contents[5]["parts"][0]["thoughtSignature"] == "skip_thought_signature_validator"
    assert "thoughtSignature" not in contents[5]["parts"][1]
    older = encode(_loop(*calls), card("x-thinking-budget"))["contents"]
    assert "thoughtSignature" not in older[1]["parts"][0]
    assert losses(_loop(*calls)) == {"ToolCall.thoughtSignature": 1}


def test_signatures_of_ones_own_stay() -> None:
    """A call that came with a signature keeps it."""
    contents = encode(_loop(ToolCall("1", "f", "{}", extra=SIGNED)))["contents"]
    assert contents[1]["parts"][0]["thoughtSignature"] == "c2ln"


# --- tools and parameters ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"mode": "VALIDATED"}, {"mode": "VALIDATED"}),
        ({"functionCallingConfig": {"mode": "AUTO"}}, {"mode": "AUTO"}),
    ],
)
def test_tool_choices(choice: Any, config: dict[str, Any]) -> None:
    """Each has its mode; a dict goes verbatim."""
    body = encode("Hi", tools=[Tool("f")], tool_choice=choice)
    assert body["toolConfig"] == {"functionCallingConfig": config}


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [Tool("f")], "tool_choice": "g"},
        {"tools": [Tool("f")], "parallel_tool_calls": False},
        {"tools": [{"type": "web_search"}]},
        {"tools": [Opaque({"type": "x"}, "openai")]},
        {"response_format": {"type": "grammar"}},
        {"reasoning_effort": "none"},
        {"extra": {"system_instruction": {}}},
        {"extra": {"contents": []}},
        {"extra": {"model": "x"}},
    ],
)
def test_parameters_that_cannot_be_met(fields: dict[str, Any]) -> None:
    """They are refused before the network, with what to do."""
    with pytest.raises(UnsupportedError) as caught:
        encode("Hi", **fields)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("effort", "capability", "sent"),
    [
        ("high", "x-thinking-level", {"thinkingLevel": "HIGH", "includeThoughts": True}),
        ("minimal", "x-thinking-level", {"thinkingLevel": "MINIMAL", "includeThoughts": True}),
        ("none", "x-thinking-budget", {"thinkingBudget": 0}),
        ("low", "x-thinking-budget", {"thinkingBudget": 1024, "includeThoughts": True}),
        ("high", "x-thinking-budget", {"thinkingBudget": 24576, "includeThoughts": True}),
    ],
)
def test_efforts(effort: str, capability: str, sent: dict[str, Any]) -> None:
    """The card says whether a model takes a level or a budget."""
    config = encode("Hi", card(capability), reasoning_effort=effort)["generationConfig"]
    assert config["thinkingConfig"] == sent


def test_unknown_effort_for_a_budget() -> None:
    """A word that stands for no budget is refused."""
    with pytest.raises(UnsupportedError, match="xhigh"):
        encode("Hi", card("x-thinking-budget"), reasoning_effort="xhigh")


def test_thoughts_may_be_asked_for() -> None:
    """By the transport's option, and by `extra`, which is joined with what is there."""
    silent = attrs.evolve(OPTIONS, quirks={"thoughts": False})
    config = encode("Hi", silent, reasoning_effort="low")["generationConfig"]
    assert config["thinkingConfig"] == {"thinkingLevel": "LOW"}
    options = attrs.evolve(OPTIONS, quirks={"thoughts": True})
    body = encode(
        "Hi",
        options,
        temperature=1.0,
        reasoning_effort="low",
        extra={"generationConfig": {"topK": 4, "thinkingConfig": {"thinkingBudget": 9}}},
    )
    assert body["generationConfig"] == {
        "temperature": 1.0,
        "topK": 4,
        "thinkingConfig": {"thinkingLevel": "LOW", "includeThoughts": True, "thinkingBudget": 9},
    }


def test_extra_goes_out_verbatim() -> None:
    """Safety settings, labels, a cache: whatever the API knows."""
    extra = {"safetySettings": [{"category": "x"}], "cachedContent": "cachedContents/1"}
    assert encode("Hi", extra=extra).items() >= extra.items()


def test_smaller_losses_are_said() -> None:
    """What only advises is left out with a note."""
    made = Context(user="ann")
    found = losses(
        [Message.user([File(data=b"x", media_type="a/b", filename="f"),
                       Image(data=b"x", media_type="a/b", detail="odd")])],
        attrs.evolve(OPTIONS, send_user=True),
        tools=[Tool("f", strict=True)],
        context=made,
    )  # fmt: skip
    assert found == {"File.filename": 1, "Image.detail": 1, "Tool.strict": 1, "context.user": 1}


def test_extra_of_tools() -> None:
    """Goes into the declaration."""
    tool = Tool("f", extra={"behavior": "BLOCKING", "function": {"responseJsonSchema": {}}})
    assert encode("Hi", tools=[tool])["tools"] == [
        {"functionDeclarations": [{"name": "f", "behavior": "BLOCKING", "responseJsonSchema": {}}]}
    ]


# --- addresses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-x", "/models/gemini-x:generateContent"),
        ("models/gemini-x", "/models/gemini-x:generateContent"),
        ("tunedModels/t", "/tunedModels/t:generateContent"),
        ("a?b/c", "/models/a%3Fb%2Fc:generateContent"),
    ],
)
def test_paths(model: str, path: str) -> None:
    """A model's name is a resource; what would lead elsewhere is quoted."""
    assert CHAT.path(model, stream=False) == path
    assert CHAT.path("m", stream=True) == "/models/m:streamGenerateContent?alt=sse"


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-x", "/publishers/google/models/gemini-x:generateContent"),
        ("gemini-x@001", "/publishers/google/models/gemini-x@001:generateContent"),
        ("meta/llama", "/publishers/meta/models/llama:generateContent"),
        ("publishers/g/models/m", "/publishers/g/models/m:generateContent"),
        ("projects/p/locations/l/endpoints/1",
         "/projects/p/locations/l/endpoints/1:generateContent"),
    ],
)  # fmt: skip
def test_vertex_paths(model: str, path: str) -> None:
    """As Google's SDK makes them."""
    assert VERTEX.path(model, stream=False) == path


@pytest.mark.parametrize("model", ["", "../x", "a/../b"])
def test_names_that_are_none(model: str) -> None:
    """A name cannot leave its place in the address."""
    with pytest.raises(MisuseError):
        CHAT.path(model, stream=False)
