"""The mock server speaks Bedrock's API: the official SDK understands all that it says."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiobotocore.session
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.httpxsession import HttpxSession
from bedrock_clients import (
    ACCESS,
    QUESTION,
    SECRET,
    asked,
    blocks,
    call,
    client_of,
    put_together,
    streamed,
)

from lamella import Image, Message, Opaque, Reasoning, Text, ToolCall
from lamella.testing import MockServer

pytestmark = pytest.mark.anyio

TWO_CALLS = 'Use get_weather({"city": "Rome"}) and get_weather({"city": "Zürich"}).'
WEATHER: Any = {
    "tools": [
        {
            "toolSpec": {
                "name": "get_weather",
                "description": "The weather of a city.",
                "inputSchema": {
                    "json": {"type": "object", "properties": {"city": {"type": "string"}}}
                },
            }
        }
    ]
}
DOT = b"\x89PNG\r\n\x1a\n"
PROFILE = "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.mock-reasoning-v1:0"


@pytest.fixture
async def server() -> AsyncIterator[MockServer]:
    """A server that verifies signatures."""
    async with MockServer(keys=[f"{ACCESS}:{SECRET}"]) as server:
        yield server


@pytest.fixture
def client(server: MockServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The official client of that server."""
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    with client_of(server) as client:
        yield client


def said(text: str) -> Any:
    """A conversation of one message."""
    return [{"role": "user", "content": [{"text": text}]}]


# --- text --------------------------------------------------------------------------------------


async def test_an_answer_is_read(client: Any) -> None:
    """A whole answer has text, a reason, usage that adds up, a latency and a request id."""
    answer = await asked(client)
    (block,) = blocks(answer)
    assert "Why is the sky blue?" in block["text"]
    assert answer["output"]["message"]["role"] == "assistant"
    assert answer["stopReason"] == "end_turn"
    usage = answer["usage"]
    assert usage["inputTokens"] == 6 + 3
    assert usage["totalTokens"] == usage["inputTokens"] + usage["outputTokens"]
    assert answer["metrics"]["latencyMs"] > 0
    assert answer["ResponseMetadata"]["RequestId"] == "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize("model", ["mock", PROFILE])
async def test_a_stream_is_the_whole_answer(client: Any, model: str) -> None:
    """Its pieces add up; the reason comes before usage, and usage is the last event."""
    whole = await asked(client, model)
    events = await streamed(client, model)
    assert events[0] == {"messageStart": {"role": "assistant"}}
    assert put_together(events)[-1]["text"] == blocks(whole)[-1]["text"]
    assert events[-2] == {"messageStop": {"stopReason": "end_turn"}}
    assert events[-1]["metadata"]["usage"] == whole["usage"]
    assert len(events) > 20


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "end_turn"),
        ({"inferenceConfig": {"maxTokens": 3}}, "max_tokens"),
        ({"inferenceConfig": {"stopSequences": ["sky"]}}, "stop_sequence"),
        ({"inferenceConfig": {"stopSequences": ["nowhere in it"]}}, "end_turn"),
        ({"messages": said("mock: finish=content_filter")}, "content_filtered"),
        ({"messages": said("mock: finish=malformed_model_output")}, "malformed_model_output"),
        ({"messages": said("get_weather"), "toolConfig": WEATHER}, "tool_use"),
    ],
)
async def test_reasons(client: Any, fields: Any, reason: str) -> None:
    """Each end has this API's word, whole and streamed."""
    assert (await asked(client, **fields))["stopReason"] == reason
    events = await streamed(client, **fields)
    assert [e["messageStop"]["stopReason"] for e in events if "messageStop" in e] == [reason]


async def test_fields_of_the_models_own_answer(client: Any) -> None:
    """The stop sequence is told to who asks for it by its path."""
    config = {"stopSequences": ["sky", "blue"]}
    paths = ["/stop_sequence"]
    answer = await asked(client, inferenceConfig=config, additionalModelResponseFieldPaths=paths)
    assert answer["additionalModelResponseFields"] == {"stop_sequence": "sky"}


async def test_an_empty_answer(client: Any) -> None:
    """There may be no block at all."""
    assert blocks(await asked(client, messages=said("mock: empty"))) == []
    events = await streamed(client, messages=said("mock: empty"))
    assert [next(iter(event)) for event in events] == ["messageStart", "messageStop", "metadata"]


async def test_what_was_asked_for_is_told_back(client: Any) -> None:
    """The tier and the latency that answered."""
    fields: Any = {
        "serviceTier": {"type": "priority"},
        "performanceConfig": {"latency": "optimized"},
    }
    answer = await asked(client, **fields)
    assert {name: answer[name] for name in fields} == fields
    metadata = (await streamed(client, **fields))[-1]["metadata"]
    assert {name: metadata[name] for name in fields} == fields


# --- tools -------------------------------------------------------------------------------------


async def test_tools_go_round(client: Any) -> None:
    """Parallel calls, whole and in pieces, and an answer to their results."""
    fields: Any = {"messages": said(TWO_CALLS), "toolConfig": WEATHER}
    answer = await asked(client, **fields)
    calls = [block["toolUse"] for block in blocks(answer)]
    assert [each["input"] for each in calls] == [{"city": "Rome"}, {"city": "Zürich"}]
    assert len({each["toolUseId"] for each in calls}) == 2
    pieces = put_together(await streamed(client, **fields))
    assert [json.loads(each["input"]) for each in pieces] == [each["input"] for each in calls]
    ids = [each["start"]["toolUse"]["toolUseId"] for each in pieces]
    assert ids == [each["toolUseId"] for each in calls]
    contents: Any = [[{"json": {"sky": "cloudless"}}], [{"text": "no such city"}]]
    results = [
        {"toolResult": {"toolUseId": each["toolUseId"], "content": content, "status": status}}
        for each, content, status in zip(calls, contents, ["success", "error"], strict=True)
    ]
    messages = [*said(TWO_CALLS), answer["output"]["message"], {"role": "user", "content": results}]
    last = await asked(client, messages=messages, toolConfig=WEATHER)
    assert last["stopReason"] == "end_turn"
    assert "cloudless" in blocks(last)[0]["text"]


@pytest.mark.parametrize("choice", [{"any": {}}, {"tool": {"name": "get_weather"}}])
async def test_a_tool_must_be_called(client: Any, choice: Any) -> None:
    """A forced call comes although nobody mentions it."""
    answer = await asked(client, toolConfig={**WEATHER, "toolChoice": choice})
    assert answer["stopReason"] == "tool_use"


async def test_arguments_that_are_no_json() -> None:
    """A whole answer cannot hold them: the model has failed; a stream has the text."""
    call_ = ToolCall("call_1", "get_weather", '{"city"')
    async with MockServer(answer=lambda _: Message.assistant(call_)) as server:
        with client_of(server) as client:
            with pytest.raises(client.exceptions.ModelErrorException):
                await asked(client, toolConfig=WEATHER)
            (piece,) = put_together(await streamed(client, toolConfig=WEATHER))
    assert piece["input"] == '{"city"'


# --- pictures, documents -----------------------------------------------------------------------


async def test_pictures_and_documents(client: Any) -> None:
    """They are read, and cost tokens."""
    picture = {"image": {"format": "png", "source": {"bytes": DOT}}}
    paper = {"document": {"format": "txt", "name": "a note", "source": {"bytes": b"x" * 400}}}
    film = {"video": {"format": "mp4", "source": {"s3Location": {"uri": "s3://films/one.mp4"}}}}
    plain = (await asked(client))["usage"]["inputTokens"]
    content = [*QUESTION[0]["content"], picture, paper, film]
    answer = await asked(client, messages=[{"role": "user", "content": content}])
    assert answer["usage"]["inputTokens"] == plain + 85 + 50 + 100


async def test_a_model_paints() -> None:
    """Pictures in an answer come whole, or as a start and a piece."""
    async with MockServer(answer=lambda _: painted()) as server:
        with client_of(server) as client:
            (block,) = blocks(await asked(client))
            (piece,) = put_together_pictures(await streamed(client))
    assert block["image"] == {"format": "png", "source": {"bytes": DOT}}
    assert piece == DOT


def painted() -> Message:
    """An answer that is a picture."""
    return Message.assistant(Image(data=DOT, media_type="image/png"))


def put_together_pictures(events: Any) -> list[bytes]:
    """The bytes of the pictures of a stream."""
    deltas = [e["contentBlockDelta"]["delta"] for e in events if "contentBlockDelta" in e]
    return [delta["image"]["source"]["bytes"] for delta in deltas]


# --- thoughts ----------------------------------------------------------------------------------


async def test_thoughts_go_back_with_their_seal(client: Any) -> None:
    """A thought and its signature, as they came, are taken back."""
    answer = await asked(client, PROFILE)
    thought = blocks(answer)[0]["reasoningContent"]["reasoningText"]
    assert thought["text"]
    pieces = put_together(await streamed(client, PROFILE))
    assert pieces[0] == {"text": thought["text"], "signature": thought["signature"]}
    messages = [*QUESTION, answer["output"]["message"], *said("And at night?")]
    assert "night" in blocks(await asked(client, PROFILE, messages=messages))[-1]["text"]


@pytest.mark.parametrize(
    "change",
    [{"text": "Another thought."}, {"signature": "AAAA"}, {"signature": None}],
)
async def test_thoughts_that_were_never_had(client: Any, change: Any) -> None:
    """A changed text, another seal or none is found out."""
    answer = await asked(client, PROFILE)
    message = answer["output"]["message"]
    thought = message["content"][0]["reasoningContent"]["reasoningText"]
    thought |= change
    if thought["signature"] is None:
        del thought["signature"]
    with pytest.raises(client.exceptions.ValidationException, match="signature"):
        await asked(client, PROFILE, messages=[*QUESTION, message, *QUESTION])


async def test_thoughts_that_are_withheld(client: Any) -> None:
    """They are bytes that go back as they came, and no others do."""
    model = "mock-reasoning-redacted"
    answer = await asked(client, model)
    message = answer["output"]["message"]
    secret = message["content"][0]["reasoningContent"]["redactedContent"]
    pieces = put_together(await streamed(client, model))
    assert pieces[0] == {"redactedContent": secret}
    messages = [*QUESTION, message, *QUESTION]
    assert (await asked(client, model, messages=messages))["stopReason"] == "end_turn"
    message["content"][0]["reasoningContent"]["redactedContent"] = secret[:-1] + b"x"
    with pytest.raises(client.exceptions.ValidationException, match="redacted"):
        await asked(client, model, messages=messages)


async def test_models_without_seals(client: Any) -> None:
    """Some makers' models seal nothing, and ask for no seal."""
    model = "openai.gpt-oss-reasoning"
    answer = await asked(client, model)
    message = answer["output"]["message"]
    assert "signature" not in message["content"][0]["reasoningContent"]["reasoningText"]
    assert blocks(await asked(client, model, messages=[*QUESTION, message, *QUESTION]))


@pytest.mark.parametrize(
    "more",
    [
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
        {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}},
        {"reasoning_effort": "low"},
    ],
)
async def test_thinking_is_asked_for(client: Any, more: Any) -> None:
    """In the words of each family of models, or in the API's own."""
    answer = await asked(client, additionalModelRequestFields=more)
    assert "reasoningContent" in blocks(answer)[0]
    answer = await asked(client, outputConfig={"effort": "low"})
    assert "reasoningContent" in blocks(answer)[0]


async def test_parts_of_an_answer_that_is_given() -> None:
    """What a test says is written in this API's words, its thoughts sealed by this server."""
    cited = {"citationsContent": {"content": [{"text": "So it is."}], "citations": []}}
    parts: list[Any] = [Reasoning("Hm.", "any"), Reasoning("", "any", redacted=True), Text("Yes."),
             Opaque(cited, "bedrock")]  # fmt: skip
    async with MockServer(answer=lambda _: Message.assistant(parts)) as server:
        with client_of(server) as client:
            answer = await asked(client)
            messages = [*QUESTION, answer["output"]["message"], *QUESTION]
            assert await asked(client, messages=messages)
    thought, secret, text, last = blocks(answer)
    assert thought["reasoningContent"]["reasoningText"]["text"] == "Hm."
    assert b"any" not in secret["reasoningContent"]["redactedContent"]
    assert (text, last) == ({"text": "Yes."}, cited)


# --- structured output, token counts -----------------------------------------------------------


async def test_answers_have_a_shape(client: Any) -> None:
    """With a schema the text is JSON that conforms to it."""
    schema = json.dumps({"type": "object", "properties": {"n": {"const": 7}}, "required": ["n"]})
    wanted = {"type": "json_schema", "structure": {"jsonSchema": {"schema": schema, "name": "n"}}}
    answer = await asked(client, outputConfig={"textFormat": wanted})
    assert json.loads(blocks(answer)[0]["text"]) == {"n": 7}


async def test_tokens_are_counted(client: Any) -> None:
    """A count is what the answer says it has consumed."""
    fields: Any = {"messages": QUESTION, "system": [{"text": "Be brief."}], "toolConfig": WEATHER}
    counted = await call(client.count_tokens, modelId="mock", input={"converse": fields})
    assert counted["inputTokens"] == (await asked(client, **fields))["usage"]["inputTokens"]
    body = json.dumps({"messages": [{"role": "user", "content": "Why is the sky blue?"}]}).encode()
    counted = await call(client.count_tokens, modelId="mock", input={"invokeModel": {"body": body}})
    assert counted["inputTokens"] == 6


# --- prompt caches -----------------------------------------------------------------------------


def point(**ttl: str) -> Any:
    """A cache point."""
    return {"cachePoint": {"type": "default", **ttl}}


async def test_a_marked_beginning_is_written_and_then_read(client: Any) -> None:
    """First it is written, by lifetime, then read; parts of usage add up to the same total."""
    fields: Any = {
        "system": [{"text": "You know all about colours."}, point(ttl="1h")],
        "messages": [{"role": "user", "content": [*QUESTION[0]["content"], point()]}],
    }
    first = (await asked(client, **fields))["usage"]
    again = (await streamed(client, **fields))[-1]["metadata"]["usage"]
    assert [each["ttl"] for each in first["cacheDetails"]] == ["1h", "5m"]
    written = sum(each["inputTokens"] for each in first["cacheDetails"])
    assert first["cacheWriteInputTokens"] == written > 0
    assert first["cacheReadInputTokens"] == 0
    assert again["cacheReadInputTokens"] == written
    assert (again["cacheWriteInputTokens"], again["cacheDetails"]) == (0, [])
    for usage in (first, again):
        names = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
        assert usage["totalTokens"] == sum(usage[name] for name in names)


async def test_a_point_moves_on_with_the_conversation(client: Any) -> None:
    """What was marked a turn ago is read, and what has been added is written."""
    marked = {"role": "user", "content": [*QUESTION[0]["content"], point()]}
    first = await asked(client, messages=[marked])
    turns = [*QUESTION, first["output"]["message"]]
    more = {"role": "user", "content": [{"text": "And at night?"}, point()]}
    second = (await asked(client, messages=[*turns, more]))["usage"]
    assert second["cacheReadInputTokens"] == first["usage"]["cacheWriteInputTokens"]
    assert second["cacheWriteInputTokens"] > 0
    other = (await asked(client, "mock-small", messages=[marked]))["usage"]
    assert other["cacheReadInputTokens"] == 0  # another model has a cache of its own


# --- guardrails --------------------------------------------------------------------------------

GUARDRAIL: Any = {"guardrailIdentifier": "abc123", "guardrailVersion": "1", "trace": "enabled"}


async def test_a_guardrail_lets_pass(client: Any) -> None:
    """Its trace says that it has looked."""
    answer = await asked(client, guardrailConfig=GUARDRAIL)
    assert answer["stopReason"] == "end_turn"
    trace = answer["trace"]["guardrail"]
    assert list(trace) == ["inputAssessment", "outputAssessments"]


async def test_a_guardrail_blocks_a_question(client: Any) -> None:
    """The model is not asked: nothing is consumed, and the guardrail speaks."""
    fields: Any = {"messages": said("mock-forbidden"), "guardrailConfig": GUARDRAIL}
    answer = await asked(client, **fields)
    assert answer["stopReason"] == "guardrail_intervened"
    assert blocks(answer) == [{"text": "The mock guardrail has blocked this."}]
    assert answer["usage"]["totalTokens"] == 0
    (word,) = answer["trace"]["guardrail"]["inputAssessment"]["abc123"]["wordPolicy"]["customWords"]
    assert word["action"] == "BLOCKED"
    events = await streamed(client, **fields)
    assert events[-1]["metadata"]["trace"] == answer["trace"]


async def test_a_guardrail_blocks_an_answer(client: Any) -> None:
    """Only what is marked for it counts in a question; what the model said is paid."""
    content = [
        {"guardContent": {"text": {"text": "Repeat:"}}},
        {"text": "mock: say mock-forbidden"},
    ]
    messages = [{"role": "user", "content": content}]
    answer = await asked(client, messages=messages, guardrailConfig=GUARDRAIL)
    assert answer["stopReason"] == "guardrail_intervened"
    assert answer["usage"]["outputTokens"] > 0
    assert "outputAssessments" in answer["trace"]["guardrail"]
    half = {"guardrailIdentifier": "abc123"}
    with pytest.raises(client.exceptions.ValidationException, match="together"):
        await asked(client, guardrailConfig=half)


# --- embeddings, models ------------------------------------------------------------------------


async def embedded(client: Any, model: str, **body: Any) -> tuple[Any, Any]:
    """What InvokeModel answers, and its headers."""

    def invoke() -> tuple[Any, Any]:
        answer = client.invoke_model(modelId=model, body=json.dumps(body))
        return json.loads(answer["body"].read()), answer["ResponseMetadata"]["HTTPHeaders"]

    found: tuple[Any, Any] = await call(invoke)
    return found


async def test_titan(client: Any) -> None:
    """The older model has one length; the newer ones have several, and bits."""
    old, headers = await embedded(client, "amazon.titan-embed-text-v1", inputText="blue sky")
    assert len(old["embedding"]) == 1536
    assert old["inputTextTokenCount"] == int(headers["x-amzn-bedrock-input-token-count"]) == 2
    new, _ = await embedded(
        client,
        "amazon.titan-embed-text-v2:0",
        inputText="blue sky",
        dimensions=256,
        embeddingTypes=["float", "binary"],
    )
    assert sum(value * value for value in new["embedding"]) == pytest.approx(1)
    assert new["embeddingsByType"]["float"] == new["embedding"]
    assert set(new["embeddingsByType"]["binary"]) == {0, 1}


async def test_cohere(client: Any) -> None:
    """Several texts in one request, as numbers or by kind."""
    texts = ["blue sky", "blue skies"]
    fields: Any = {"texts": texts, "input_type": "search_document"}
    old, headers = await embedded(client, "cohere.embed-multilingual-v3", **fields)
    assert [len(values) for values in old["embeddings"]] == [1024, 1024]
    assert (old["response_type"], old["texts"]) == ("embeddings_floats", texts)
    assert headers["x-amzn-bedrock-input-token-count"] == "4"
    kinds = ["float", "int8", "uint8", "binary", "ubinary"]
    new, _ = await embedded(
        client, "us.cohere.embed-v4:0", **fields, output_dimension=256, embedding_types=kinds
    )
    assert new["response_type"] == "embeddings_by_type"
    lengths = {kind: len(values[0]) for kind, values in new["embeddings"].items()}
    assert lengths == {"float": 256, "int8": 256, "uint8": 256, "binary": 32, "ubinary": 32}


@pytest.mark.parametrize(
    ("model", "body", "message"),
    [
        ("amazon.titan-embed-text-v1", {"inputText": "a", "dimensions": 256}, "extraneous key"),
        ("amazon.titan-embed-text-v2:0", {"inputText": "a", "dimensions": 7}, "enum"),
        ("amazon.titan-embed-text-v2:0", {"inputText": ""}, "inputText"),
        ("amazon.titan-embed-text-v2:0", {"inputText": "a", "embeddingTypes": []}, "Types"),
        ("cohere.embed-english-v3", {"texts": ["a"]}, "input_type"),
        ("cohere.embed-english-v3", {"texts": ["a"] * 97, "input_type": "clustering"}, "maxItems"),
        ("cohere.embed-english-v3", {"texts": ["a" * 2049], "input_type": "clustering"}, "Length"),
        ("cohere.embed-english-v3", {"texts": [1], "input_type": "clustering"}, "list of texts"),
        ("cohere.embed-v4:0", {"input_type": "search_query"}, "needed"),
        ("mock", {"inputText": "a"}, "embeddings only"),
    ],
)
async def test_what_models_for_embeddings_refuse(
    client: Any, model: str, body: Any, message: str
) -> None:
    """Unknown keys, wrong numbers, too much."""
    with pytest.raises(client.exceptions.ValidationException, match=message):
        await embedded(client, model, **body)


async def test_models_are_listed(server: MockServer) -> None:
    """As the control plane does, which has a client of its own."""
    with client_of(server, service_name="bedrock") as plane:
        listed = await call(plane.list_foundation_models)
        names = [each["modelId"] for each in listed["modelSummaries"]]
        assert "mock-reasoning" in names
        one = await call(plane.get_foundation_model, modelIdentifier=names[-1])
        assert one["modelDetails"]["outputModalities"] == ["EMBEDDING"]
        with pytest.raises(plane.exceptions.ResourceNotFoundException):
            await call(plane.get_foundation_model, modelIdentifier="none")


# --- the asynchronous client -------------------------------------------------------------------


async def test_the_asynchronous_client(server: MockServer) -> None:
    """It runs on both event loops, and sends its targets with the host in them.

    Its streams are read with aiohttp alone, so that the blocking client reads them in these tests.
    """
    config = AioConfig(http_session_cls=HttpxSession, retries={"total_max_attempts": 1})
    made: Any = aiobotocore.session.AioSession().create_client(
        "bedrock-runtime",
        region_name="eu-central-1",
        endpoint_url=server.endpoint,
        aws_access_key_id=ACCESS,
        aws_secret_access_key=SECRET,
        config=config,
    )
    async with made as client:
        answer = await client.converse(modelId=PROFILE, messages=QUESTION)
        assert "reasoningContent" in blocks(answer)[0]
        with pytest.raises(client.exceptions.ThrottlingException):
            await client.converse(modelId="mock;status=429", messages=QUESTION)
