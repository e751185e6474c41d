"""The mock server reads Google's requests strictly, and keeps all that they say."""

from base64 import b64encode, urlsafe_b64encode
from enum import Enum
from typing import Any

import httpx2
import pytest
from google.genai import types

from lamella import Audio, File, Image, Message, Opaque, Reasoning, Text, ToolCall, ToolResult
from lamella._mock_rejections import Rejection
from lamella.testing import MockServer
from lamella.testing._mock_google._fields import ENUMS, MESSAGES, UNKNOWN
from lamella.testing._mock_google._requests import read_google

ASK: Any = {"contents": [{"role": "user", "parts": [{"text": "Why?"}]}]}
SEAL = b64encode(b"seal").decode()
OWN = {"thoughtSignature": SEAL, "provider": "google"}
DATA = bytes(range(250, 256))


def said(*parts: Any, role: str = "model") -> tuple[Any, ...]:
    """The parts of a message as they are read."""
    (message,) = read_google({"contents": [{"role": role, "parts": list(parts)}]}).messages
    return message.parts


# --- the fields --------------------------------------------------------------------------------

SDK: dict[str, type[Any]] = {
    "Content": types.Content,
    "Part": types.Part,
    "Blob": types.Blob,
    "FileData": types.FileData,
    "MediaResolution": types.PartMediaResolution,
    "FunctionCall": types.FunctionCall,
    "FunctionResponse": types.FunctionResponse,
    "FunctionResponsePart": types.FunctionResponsePart,
    "Tool": types.Tool,
    "FunctionDeclaration": types.FunctionDeclaration,
    "Schema": types.Schema,
    "ToolConfig": types.ToolConfig,
    "FunctionCallingConfig": types.FunctionCallingConfig,
    "SafetySetting": types.SafetySetting,
    "ThinkingConfig": types.ThinkingConfig,
}


@pytest.mark.parametrize("name", SDK)
def test_the_fields_are_the_sdks(name: str) -> None:
    """Each message has the fields that the official SDK knows, and no others."""
    fields = {field.alias for field in SDK[name].model_fields.values()}
    assert MESSAGES[name].keys() - {UNKNOWN} == fields


def test_the_settings_are_the_sdks() -> None:
    """All that the SDK writes into the configuration is known, under the name it is sent by."""
    known = MESSAGES["GenerationConfig"].keys()
    renamed = {"modelSelectionConfig": "modelConfig"}
    fields = {str(field.alias) for field in types.GenerationConfig.model_fields.values()}
    assert known == {renamed.get(name, name) for name in fields} | {"imageConfig"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ServiceTier", types.ServiceTier),
        ("Type", types.Type),
        ("Mode", types.FunctionCallingConfigMode),
        ("MediaResolutionLevel", types.PartMediaResolutionLevel),
        ("Scheduling", types.FunctionResponseScheduling),
        ("Behavior", types.Behavior),
        ("HarmCategory", types.HarmCategory),
        ("HarmBlockThreshold", types.HarmBlockThreshold),
        ("HarmBlockMethod", types.HarmBlockMethod),
        ("Modality", types.Modality),
        ("ThinkingLevel", types.ThinkingLevel),
    ],
)
def test_the_words_are_the_sdks(name: str, words: type[Enum]) -> None:
    """Each enumeration has the words that the official SDK knows."""
    assert {word.value.upper() for word in words} == ENUMS[name]


# --- what is read ------------------------------------------------------------------------------


def test_text_and_thoughts() -> None:
    """Texts, thoughts and the seals on both are kept apart and verbatim."""
    assert said(
        {"text": "I think.", "thought": True},
        {"text": "I am.", "thoughtSignature": SEAL},
        {"text": "", "thoughtSignature": SEAL},
    ) == (
        Reasoning("I think.", extra={"provider": "google"}),
        Text("I am.", OWN),
        Text("", OWN),
    )


@pytest.mark.parametrize("encode", [b64encode, urlsafe_b64encode])
def test_media(encode: Any) -> None:
    """Pictures, sound and documents are read from bytes, in either alphabet, and from links."""
    data = encode(DATA).decode().rstrip("=")
    inline = [
        {"inlineData": {"mimeType": kind, "data": data, **more}}
        for kind, more in (
            ("image/png", {}),
            ("audio/mpeg", {}),
            ("application/pdf", {"displayName": "a.pdf"}),
        )
    ]
    linked = [
        {"fileData": {"mimeType": "image/png", "fileUri": "gs://b/a.png"},
         "mediaResolution": {"level": "MEDIA_RESOLUTION_LOW"}},
        {"fileData": {"mimeType": "video/mp4", "fileUri": "gs://b/a.mp4"},
         "videoMetadata": {"fps": 2}},
        {"fileData": {"fileUri": "files/abc"}},
    ]  # fmt: skip
    assert said(*inline, *linked, role="user") == (
        Image(data=DATA, media_type="image/png"),
        Audio(DATA, "mp3"),
        File(DATA, filename="a.pdf", media_type="application/pdf"),
        Image(url="gs://b/a.png", media_type="image/png", detail="low"),
        File(url="gs://b/a.mp4", media_type="video/mp4", extra={"videoMetadata": {"fps": 2}}),
        File(id="files/abc"),
    )


def test_calls_and_results() -> None:
    """Results refer to their calls: by id, else by name and order; failures are told apart."""
    call = {"functionCall": {"name": "f", "args": {"n": 1}}}
    numbered = {"functionCall": {"id": "c7", "name": "g"}, "thoughtSignature": SEAL}
    results = [
        {"functionResponse": {"name": "f", "response": {"output": "one"}}},
        {"functionResponse": {"name": "f", "response": {"error": "no"}}},
        {"functionResponse": {"id": "c7", "name": "g", "response": {"a": [1]},
                              "parts": [{"inlineData": {"mimeType": "image/png",
                                                        "data": b64encode(DATA).decode()}}]}},
    ]  # fmt: skip
    body = {
        "contents": [
            {"role": "model", "parts": [call, call, numbered]},
            {"role": "user", "parts": [*results, {"text": "And now?"}]},
        ]
    }
    calls, *answers, last = read_google(body).messages
    assert calls.parts == (
        ToolCall("call_0_0", "f", '{"n":1}'),
        ToolCall("call_0_1", "f", '{"n":1}'),
        ToolCall("c7", "g", "{}", extra=OWN),
    )
    picture = Image(data=DATA, media_type="image/png")
    assert [answer.parts[0] for answer in answers] == [
        ToolResult("call_0_0", (Text("one"),)),
        ToolResult("call_0_1", (Text("no"),), error=True),
        ToolResult("c7", (Text('{"a": [1]}'), picture)),
    ]
    assert last == Message.user("And now?")


def test_what_only_google_knows() -> None:
    """Other parts, hosted tools and settings are kept under their own names."""
    code = {"executableCode": {"language": "PYTHON", "code": "1 + 1"}, "thoughtSignature": SEAL}
    assert said(code) == (Opaque(code, "google"),)
    safety = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
    request = read_google(
        {
            **ASK,
            "tools": [{"googleSearch": {}, "functionDeclarations": [{"name": "f"}]}],
            "safetySettings": safety,
            "cachedContent": "cachedContents/1",
            "generationConfig": {"topK": 4, "thinkingConfig": {"thinkingBudget": 100}},
            "toolConfig": {"retrievalConfig": {"languageCode": "de"}},
        }
    )
    assert request.tools[0] == Opaque({"googleSearch": {}}, "google")
    assert request.extra == {
        "safetySettings": safety,
        "cachedContent": "cachedContents/1",
        "generationConfig": {"topK": 4, "thinkingConfig": {"thinkingBudget": 100}},
        "toolConfig": {"retrievalConfig": {"languageCode": "de"}},
    }


def test_parameters() -> None:
    """Parameters have the library's own names, whichever way Google's are spelt."""
    request = read_google(
        {
            **ASK,
            "system_instruction": {"parts": [{"text": "Be brief."}]},
            "generation_config": {
                "temperature": 0.5,
                "top_p": 0.9,
                "candidateCount": 2,
                "maxOutputTokens": "30",
                "stopSequences": ["x"],
                "seed": 7,
                "presencePenalty": 1,
                "frequencyPenalty": -1,
                "responseLogprobs": True,
                "logprobs": 3,
                "thinkingConfig": {"thinkingLevel": "high", "includeThoughts": True},
            },
            "serviceTier": "flex",
        },
        model="mock",
    )
    assert request.messages[0] == Message.system("Be brief.")
    assert (request.temperature, request.top_p, request.n) == (0.5, 0.9, 2)
    assert (request.max_output_tokens, request.stop, request.seed) == (30, ("x",), 7)
    assert (request.presence_penalty, request.frequency_penalty) == (1, -1)
    assert (request.logprobs, request.reasoning_effort) == (3, "high")
    assert (request.service_tier, request.model, dict(request.extra)) == ("flex", "mock", {})


@pytest.mark.parametrize(
    ("mode", "names", "choice"),
    [
        ("AUTO", None, "auto"),
        ("NONE", None, "none"),
        ("ANY", None, "required"),
        ("ANY", ["f"], "f"),
        ("ANY", ["f", "g"], {"mode": "ANY", "allowedFunctionNames": ["f", "g"]}),
        ("VALIDATED", None, {"mode": "VALIDATED"}),
    ],
)
def test_the_choice_of_tools(mode: str, names: list[str] | None, choice: Any) -> None:
    """What the library has a word for is that word; the rest is kept as it is."""
    given = {"mode": mode, **({} if names is None else {"allowedFunctionNames": names})}
    request = read_google({**ASK, "toolConfig": {"functionCallingConfig": given}})
    assert request.tool_choice == choice


def test_schemas() -> None:
    """A schema of Google's own form becomes a JSON Schema; a JSON Schema stays as it is."""
    own = {
        "type": "OBJECT",
        "properties": {"a": {"type": "STRING", "nullable": True}},
        "required": ["a"],
    }
    plain = {
        "type": "object",
        "properties": {"a": {"type": ["string", "null"]}},
        "required": ["a"],
    }
    for field, schema in (("parameters", own), ("parametersJsonSchema", plain)):
        (tool,) = read_google(
            {**ASK, "tools": [{"functionDeclarations": [{"name": "f", field: schema}]}]}
        ).tools
        assert not isinstance(tool, Opaque)
        assert tool.parameters == plain
    for field, schema in (("responseSchema", own), ("responseJsonSchema", plain)):
        config = {"responseMimeType": "application/json", field: schema}
        request = read_google({**ASK, "generationConfig": config})
        assert request.response_format == {
            "type": "json_schema",
            "json_schema": {"name": "response", "schema": plain},
        }


# --- what is refused ---------------------------------------------------------------------------

CALL = {"functionCall": {"name": "f", "args": {}}}
RESULT = {"functionResponse": {"name": "f", "response": {}}}


def turns(*given: tuple[str, Any]) -> Any:
    """A request whose contents are these (role, part) pairs."""
    return {"contents": [{"role": role, "parts": [part]} for role, part in given]}


def configured(**config: Any) -> Any:
    """A request with these settings."""
    return {**ASK, "generationConfig": config}


REFUSED: list[tuple[str, Any, str]] = [
    ("no object", [], "Invalid JSON payload"),
    ("no contents", {}, "contents is not specified"),
    ("an unknown field", {**ASK, "model_name": "m"}, 'Unknown name "model_name"'),
    ("an unknown inner field", configured(maxTokens=3), "at 'generation_config'"),
    ("a field of Vertex AI's", configured(audioTimestamp=True), "Cannot find field"),
    ("a wrong kind", configured(temperature="hot"), "'generation_config.temperature' (number)"),
    ("a wrong word", {**ASK, "serviceTier": "gold"}, "(ServiceTier), 'gold'"),
    ("out of range", configured(temperature=3), "must be in the range"),
    ("too many stops", configured(stopSequences=list("abcdef")), "stop sequences"),
    ("a schema without its type", configured(responseJsonSchema={}), "MIME type"),
    ("budget and level",
     configured(thinkingConfig={"thinkingBudget": 1, "thinkingLevel": "LOW"}), "Only one of"),
    ("a wrong role", turns(("system", {"text": "?"})), "valid role"),
    ("no parts", {"contents": [{"role": "user", "parts": []}]}, "must not be empty"),
    ("an empty part", turns(("user", {"thought": True})), "must have one initialized field"),
    ("two things in a part",
     turns(("user", {"text": "?", "inlineData": {"mimeType": "a/b", "data": ""}})), "already set"),
    ("no base64",
     turns(("user", {"inlineData": {"mimeType": "image/png", "data": "!"}})), "Base64"),
    ("no MIME type", turns(("user", {"inlineData": {"data": "AAAA"}})), "mimeType is required"),
    ("a call of the user's", turns(("user", CALL)), "are the model's"),
    ("a call first", turns(("model", CALL), ("user", RESULT)), "function call turn comes"),
    ("a result without a call", turns(("user", RESULT)), "function response turn comes"),
    ("a call without a result",
     turns(("user", {"text": "?"}), ("model", CALL), ("user", {"text": "?"})), "number of"),
    ("a result of another",
     turns(("user", {"text": "?"}), ("model", CALL),
           ("user", {"functionResponse": {"name": "g", "response": {}}})), "belongs to no"),
    ("a bad name",
     {**ASK, "tools": [{"functionDeclarations": [{"name": "a b"}]}]}, "function name"),
    ("two of a name",
     {**ASK, "tools": [{"functionDeclarations": [{"name": "f"}, {"name": "f"}]}]}, "Duplicate"),
    ("JSON Schema as Google's",
     {**ASK, "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"$ref": "#"}}]}]},
     'Unknown name "$ref"'),
    ("a choice without tools",
     {**ASK, "toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}, "needs function"),
    ("a choice without functions",
     {**ASK, "tools": [{"googleSearch": {}}],
      "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}}}, "without function_declarations"),
    ("an unknown cache", {**ASK, "cachedContent": "cachedContents/1"}, "CachedContent not found"),
]  # fmt: skip


@pytest.mark.anyio
async def test_what_google_would_refuse_is_refused() -> None:
    """Each mistake is an error in Google's form that says what and where."""
    async with MockServer() as server, httpx2.AsyncClient(base_url=server.endpoint) as client:
        for what, body, words in REFUSED:
            reply = await client.post("/v1beta/models/mock:generateContent", json=body)
            error = reply.json()["error"]
            assert error["code"] == reply.status_code in {400, 403}, what
            assert words in error["message"], what
        violation = (
            await client.post("/v1beta/models/mock:generateContent", json=configured(nope=1))
        ).json()["error"]["details"][0]["fieldViolations"][0]
        assert violation["field"] == "generation_config"


@pytest.mark.anyio
async def test_choices_without_functions_that_are_taken() -> None:
    """Vertex AI takes them, and AI Studio where hosted tools tell of their calls."""
    config: Any = {"functionCallingConfig": {"mode": "AUTO"}}
    body = {**ASK, "tools": [{"googleSearch": {}}], "toolConfig": config}
    told = {**body, "toolConfig": {**config, "includeServerSideToolInvocations": True}}
    vertex = "/v1beta1/projects/p/locations/l/publishers/google/models/mock:generateContent"
    async with MockServer() as server, httpx2.AsyncClient(base_url=server.endpoint) as client:
        assert (await client.post("/v1beta/models/mock:generateContent", json=told)).is_success
        headers = {"Authorization": "Bearer t"}
        assert (await client.post(vertex, json=body, headers=headers)).is_success


def test_fields_belong_to_one_of_the_two() -> None:
    """Vertex AI's fields are unknown to AI Studio, and the other way round."""
    for vertex, config in (
        (True, {"audioTimestamp": True}),
        (False, {"enableEnhancedCivicAnswers": True}),
    ):
        body = {**ASK, "generationConfig": config}
        assert read_google(body, vertex=vertex).extra == {"generationConfig": config}
        with pytest.raises(Rejection, match="Cannot find field"):
            read_google(body, vertex=not vertex)
