"""The mock server tells the truth: the official SDK understands all that it says."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import openai
import pydantic
import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI
from openai import OpenAI as SyncOpenAI
from openai.types.responses import Response

from lamella import (
    ChatRequest,
    ChatResponse,
    EmbeddingRequest,
    LamellaError,
    Message,
    Pipeline,
    Tool,
)
from lamella.testing import MockServer
from lamella.transports import Mock, OpenAI

pytestmark = [
    pytest.mark.anyio,
    # The SDK leaves its own generators unfinished at `[DONE]`, which trio remarks on.
    pytest.mark.filterwarnings("ignore:Async generator .*:ResourceWarning"),
]
QUESTION = "Why is the sky blue?"
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "maximum": 7}},
            "required": ["city", "days"],
        },
    },
}
FLAT_TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "strict": True,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
PICTURE = f"data:image/png;base64,{base64.b64encode(bytes(8)).decode()}"
DOCUMENT = f"data:application/pdf;base64,{base64.b64encode(bytes(40)).decode()}"
TWO_CALLS = 'Use get_weather({"city": "Rome"}) and get_weather({"city": "Zürich"}).'


class Mood(pydantic.BaseModel):
    """What a structured answer is to be."""

    mood: str
    score: int


@pytest.fixture
async def server() -> AsyncIterator[MockServer]:
    """A server that nothing goes wrong with."""
    async with MockServer(keys=["sk-right"]) as server:
        yield server


@pytest.fixture
async def client(server: MockServer) -> AsyncIterator[AsyncOpenAI]:
    """The official client of that server."""
    async with client_of(server) as client:
        yield client


def client_of(server: MockServer, key: str = "sk-right") -> AsyncOpenAI:
    """A client that does not try again by itself."""
    return AsyncOpenAI(api_key=key, base_url=server.url, max_retries=0)


# --- chat --------------------------------------------------------------------------------------


async def test_a_chat_answer_is_read(client: AsyncOpenAI) -> None:
    """A whole answer has text, a finish reason, usage that adds up, and a request id."""
    answer = await client.chat.completions.create(
        model="mock", messages=[{"role": "user", "content": QUESTION}]
    )
    (choice,) = answer.choices
    assert QUESTION in (choice.message.content or "")
    assert choice.finish_reason == "stop"
    assert answer.model == "mock"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 6 + 3
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id == "req_mock_000000"


async def test_a_streamed_chat_answer_is_the_whole_one(client: AsyncOpenAI) -> None:
    """The pieces of a stream, role first and usage last, add up to the whole answer."""
    messages: Any = [{"role": "user", "content": QUESTION}]
    whole = await client.chat.completions.create(model="mock", messages=messages)
    stream = await client.chat.completions.create(
        model="mock", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_parallel_tool_calls_are_put_together(client: AsyncOpenAI) -> None:
    """Two calls of one tool come as deltas with ids and indexes, and their arguments are exact."""
    # openai 2 puts the deltas of strict tools together, and refuses others.
    strict: Any = {"type": "function", "function": TOOL["function"] | {"strict": True}}
    async with client.chat.completions.stream(
        model="mock", messages=[{"role": "user", "content": TWO_CALLS}], tools=[strict]
    ) as stream:
        answer = await stream.get_final_completion()
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    calls: list[Any] = list(choice.message.tool_calls or [])
    assert [call.function.arguments for call in calls] == ['{"city": "Rome"}', '{"city": "Zürich"}']
    assert len({call.id for call in calls}) == 2


async def test_a_tool_loop_ends_in_words(client: AsyncOpenAI) -> None:
    """A forced call has arguments that fit the schema; the tool's result is answered in words."""
    messages: list[Any] = [{"role": "user", "content": "Weather for city=Bern, days=3?"}]
    asked = await client.chat.completions.create(
        model="mock", messages=messages, tools=[TOOL], tool_choice="required"
    )
    call: Any = (asked.choices[0].message.tool_calls or [])[0]
    assert json.loads(call.function.arguments) == {"city": "Bern", "days": 3}
    messages += [
        asked.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    told = await client.chat.completions.create(model="mock", messages=messages, tools=[TOOL])
    assert told.choices[0].finish_reason == "stop"
    assert "get_weather answered: “sunny”" in (told.choices[0].message.content or "")


async def test_several_choices_with_log_probabilities(client: AsyncOpenAI) -> None:
    """`n` gives different answers; each token has its log probability and the alternatives."""
    answer = await client.chat.completions.create(
        model="mock",
        messages=[{"role": "user", "content": QUESTION}],
        n=3,
        logprobs=True,
        top_logprobs=2,
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    for choice in answer.choices:
        content = (choice.logprobs.content if choice.logprobs else None) or []
        assert "".join(token.token for token in content) == choice.message.content
        assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in content)


async def test_an_answer_is_cut_at_its_limit(client: AsyncOpenAI) -> None:
    """`max_completion_tokens` ends the answer with `length` after exactly so many tokens."""
    answer = await client.chat.completions.create(
        model="mock", messages=[{"role": "user", "content": QUESTION}], max_completion_tokens=5
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5


async def test_structured_output_fits_its_schema(client: AsyncOpenAI) -> None:
    """With a JSON schema the answer is JSON that fits it."""
    schema: Any = {
        "type": "object",
        "properties": {"mood": {"enum": ["good", "bad"]}, "at": {"$ref": "#/$defs/time"}},
        "required": ["mood", "at"],
        "$defs": {"time": {"type": "string", "format": "date-time"}},
    }
    answer = await client.chat.completions.create(
        model="mock",
        messages=[{"role": "user", "content": QUESTION}],
        response_format={"type": "json_schema", "json_schema": {"name": "m", "schema": schema}},
    )
    found = json.loads(answer.choices[0].message.content or "")
    assert found["mood"] in {"good", "bad"}
    assert found["at"] == "2025-01-01T12:00:00Z"


async def test_a_refusal_is_no_content(client: AsyncOpenAI) -> None:
    """A refusal comes in its own field, streamed or not."""
    messages: Any = [{"role": "user", "content": "mock: refuse"}]
    whole = await client.chat.completions.create(model="mock", messages=messages)
    async with client.chat.completions.stream(model="mock", messages=messages) as stream:
        streamed = await stream.get_final_completion()
    for answer in (whole, streamed):
        assert (answer.choices[0].message.refusal or "").startswith("I'm sorry")
        assert not answer.choices[0].message.content


async def test_pictures_sound_and_documents_are_taken(client: AsyncOpenAI) -> None:
    """They count as tokens of the prompt, the sound apart."""
    sound = {"data": base64.b64encode(bytes(2_000)).decode(), "format": "wav"}
    content: Any = [
        {"type": "text", "text": QUESTION},
        {"type": "image_url", "image_url": {"url": PICTURE}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": DOCUMENT}},
        {"type": "input_audio", "input_audio": sound},
    ]
    answer = await client.chat.completions.create(
        model="mock", messages=[{"role": "user", "content": content}]
    )
    assert QUESTION in (answer.choices[0].message.content or "")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 6 + 3 + 85 + 10 + 2
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.audio_tokens == 2


async def test_structured_output_is_parsed(client: AsyncOpenAI) -> None:
    """The SDK makes its own schema of a type, and the type of the answer, in both APIs."""
    messages: Any = [{"role": "user", "content": "How are you, with score=3?"}]
    chat = await client.chat.completions.parse(
        model="mock", messages=messages, response_format=Mood
    )
    responses = await client.responses.parse(model="mock", input=messages, text_format=Mood)
    for found in (chat.choices[0].message.parsed, responses.output_parsed):
        assert found is not None
        assert found.score == 3


async def test_the_synchronous_client_is_answered_from_a_thread(server: MockServer) -> None:
    """Whole and streamed."""

    def ask() -> tuple[str | None, str]:
        with SyncOpenAI(api_key="sk-right", base_url=server.url, max_retries=0) as client:
            messages: Any = [{"role": "user", "content": QUESTION}]
            whole = client.chat.completions.create(model="mock", messages=messages)
            stream = client.chat.completions.create(model="mock", messages=messages, stream=True)
            words = [chunk.choices[0].delta.content or "" for chunk in stream]
            return whole.choices[0].message.content, "".join(words)

    whole, streamed = await anyio.to_thread.run_sync(ask)
    assert whole == streamed


# --- responses ---------------------------------------------------------------------------------


async def test_a_response_is_read(client: AsyncOpenAI) -> None:
    """A whole response has text, a status and usage; it can be gone on from by its id."""
    first = await client.responses.create(model="mock", input=QUESTION, instructions="Be brief.")
    assert first.status == "completed"
    assert QUESTION in first.output_text
    assert first.usage is not None
    assert first.usage.total_tokens == first.usage.input_tokens + first.usage.output_tokens
    second = await client.responses.create(
        model="mock", input="And at night?", previous_response_id=first.id
    )
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.output_tokens


async def test_a_streamed_response_is_the_whole_one(client: AsyncOpenAI) -> None:
    """The events come in the order of the API, are numbered, and end with the whole response."""
    stream = await client.responses.create(model="mock-reasoning", input=QUESTION, stream=True)
    events: list[Any] = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = list(dict.fromkeys(event.type for event in events))
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.completed",
    ]
    whole: Response = events[-1].response
    reasoning, message = whole.output
    assert reasoning.type == "reasoning"
    assert reasoning.encrypted_content
    assert message.type == "message"
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text
    assert whole.usage is not None
    assert whole.usage.output_tokens_details.reasoning_tokens > 0


async def test_functions_are_called_in_responses(client: AsyncOpenAI) -> None:
    """The SDK's own accumulator finds both calls; their outputs are answered in words."""
    async with client.responses.stream(model="mock", input=TWO_CALLS, tools=[FLAT_TOOL]) as stream:
        response = await stream.get_final_response()
    calls = [item for item in response.output if item.type == "function_call"]
    assert [json.loads(call.arguments)["city"] for call in calls] == ["Rome", "Zürich"]
    told: list[Any] = [{"role": "user", "content": TWO_CALLS}]
    told += [call.model_dump(include={"type", "call_id", "name", "arguments"}) for call in calls]
    told += [
        {"type": "function_call_output", "call_id": call.call_id, "output": "snow"}
        for call in calls
    ]
    answer = await client.responses.create(model="mock", input=told, tools=[FLAT_TOOL])
    assert answer.output_text.count("“snow”") == 2


async def test_a_response_is_incomplete_at_its_limit(client: AsyncOpenAI) -> None:
    """`max_output_tokens` ends it as incomplete, with the reason."""
    response = await client.responses.create(model="mock", input=QUESTION, max_output_tokens=16)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    stream = await client.responses.create(
        model="mock", input=QUESTION, max_output_tokens=16, stream=True
    )
    assert [event.type async for event in stream][-1] == "response.incomplete"


async def test_a_response_refuses(client: AsyncOpenAI) -> None:
    """A refusal is a part of the message."""
    response = await client.responses.create(model="mock", input="mock: refuse")
    (message,) = response.output
    assert message.type == "message"
    (part,) = message.content
    assert part.type == "refusal"


async def test_thoughts_go_back_as_they_came(client: AsyncOpenAI) -> None:
    """A conversation that is sent whole holds the sealed reasoning before the answer."""
    first = await client.responses.create(
        model="mock-reasoning",
        input=QUESTION,
        reasoning={"effort": "high"},
        include=["reasoning.encrypted_content"],
    )
    told: list[Any] = [{"role": "user", "content": QUESTION}]
    told += [item.model_dump(exclude_none=True) for item in first.output]
    told.append({"role": "user", "content": "And at night?"})
    second = await client.responses.create(model="mock-reasoning", input=told)
    assert "And at night?" in second.output_text


async def test_pictures_and_documents_are_taken_by_responses(client: AsyncOpenAI) -> None:
    """They count as tokens of the input."""
    content: Any = [
        {"type": "input_text", "text": QUESTION},
        {"type": "input_image", "image_url": PICTURE, "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": DOCUMENT},
    ]
    answer = await client.responses.create(
        model="mock", input=[{"role": "user", "content": content}]
    )
    assert answer.usage is not None
    assert answer.usage.input_tokens == 6 + 3 + 85 + 10


# --- token counts ------------------------------------------------------------------------------


async def test_tokens_are_counted_before_they_are_billed(client: AsyncOpenAI) -> None:
    """The count is the input that an answer to the same request states."""
    same: Any = {"input": TWO_CALLS, "instructions": "Be brief.", "tools": [FLAT_TOOL]}
    counted = await client.responses.input_tokens.count(model="mock", **same)
    answer = await client.responses.create(model="mock", **same)
    assert answer.usage is not None
    assert counted.input_tokens == answer.usage.input_tokens
    assert counted.object == "response.input_tokens"
    more: Any = {"input": "And now?", "previous_response_id": answer.id}
    further = await client.responses.input_tokens.count(**more)
    later = await client.responses.create(model="mock", **more)
    assert later.usage is not None
    assert further.input_tokens == later.usage.input_tokens


async def test_a_count_takes_only_what_is_read(server: MockServer, client: AsyncOpenAI) -> None:
    """Limits and sampling are unknown to it; Azure has no such address."""
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.input_tokens.count(
            model="mock", input=QUESTION, extra_body={"max_output_tokens": 5}
        )
    assert (refused.value.code, refused.value.param) == ("unknown_parameter", "max_output_tokens")
    with pytest.raises(openai.BadRequestError):
        await client.responses.input_tokens.count(model="mock")
    with pytest.raises(openai.RateLimitError):
        await client.responses.input_tokens.count(model="mock;status=429", input=QUESTION)
    azure = AsyncOpenAI(api_key="sk-right", base_url=f"{server.endpoint}/openai/v1", max_retries=0)
    async with azure, MockServer(models=["small"]) as small, client_of(small) as other:
        with pytest.raises(openai.NotFoundError):
            await azure.responses.input_tokens.count(model="my-gpt", input=QUESTION)
        with pytest.raises(openai.NotFoundError):
            await other.responses.input_tokens.count(model="large", input=QUESTION)
        assert (await other.responses.input_tokens.count(input=QUESTION)).input_tokens == 9


# --- embeddings and models ---------------------------------------------------------------------


async def test_embeddings_are_the_same_as_numbers_and_as_base64(client: AsyncOpenAI) -> None:
    """Both encodings carry the same vectors of the length that was asked for, of norm 1."""
    texts = ["the sky is blue", "a blue sky"]
    packed = await client.embeddings.create(model="mock-embedding", input=texts, dimensions=64)
    plain = await client.embeddings.create(
        model="mock-embedding", input=texts, dimensions=64, encoding_format="float"
    )
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert sum(value * value for value in one.embedding) == pytest.approx(1, abs=1e-5)
    assert len(plain.data[0].embedding) == 64
    assert plain.usage.prompt_tokens == 4 + 3


async def test_tokens_are_embedded_by_their_numbers(client: AsyncOpenAI) -> None:
    """One list of numbers is one input, several are several."""
    one = await client.embeddings.create(model="mock-embedding", input=[1, 2, 3])
    two = await client.embeddings.create(model="mock-embedding", input=[[1, 2, 3], [4]])
    assert [len(answer.data) for answer in (one, two)] == [1, 2]
    assert one.data[0].embedding == two.data[0].embedding


async def test_models_are_listed(client: AsyncOpenAI) -> None:
    """The embedded models are listed, and one can be asked about."""
    assert [model.id async for model in client.models.list()] == [
        "mock",
        "mock-small",
        "mock-reasoning",
        "mock-embedding",
    ]
    assert (await client.models.retrieve("mock")).owned_by == "lamella"


# --- Azure -------------------------------------------------------------------------------------


@pytest.mark.parametrize("credential", ["key", "token"])
async def test_azure_is_spoken(server: MockServer, credential: str) -> None:
    """Azure's client reaches chat, embeddings and responses, with a key or an Entra token."""
    given: Any = {"api_key" if credential == "key" else "azure_ad_token": "sk-right"}
    async with AsyncAzureOpenAI(
        azure_endpoint=server.endpoint, api_version="2025-04-01-preview", max_retries=0, **given
    ) as client:
        messages: Any = [{"role": "user", "content": QUESTION}]
        answer: Any = await client.chat.completions.create(model="my-gpt", messages=messages)
        assert answer.model == "my-gpt"
        assert answer.choices[0].content_filter_results["hate"] == {
            "filtered": False,
            "severity": "safe",
        }
        stream = await client.chat.completions.create(
            model="my-gpt", messages=messages, stream=True
        )
        chunks = [chunk async for chunk in stream]
        assert chunks[0].choices == []
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == answer.choices[0].message.content
        assert (await client.embeddings.create(model="my-vectors", input="x")).data
        assert (await client.responses.create(model="my-gpt", input=QUESTION)).output_text
    assert server.requests[0].path == "/openai/deployments/my-gpt/chat/completions"
    assert server.requests[0].query == {"api-version": "2025-04-01-preview"}


async def test_azure_has_the_new_form_of_addresses(server: MockServer) -> None:
    """OpenAI's client reaches Azure's v1 address."""
    async with AsyncOpenAI(
        api_key="sk-right", base_url=f"{server.endpoint}/openai/v1", max_retries=0
    ) as client:
        answer = await client.responses.create(model="my-gpt", input=QUESTION)
    assert QUESTION in answer.output_text


# --- errors ------------------------------------------------------------------------------------


async def test_errors_have_the_classes_of_the_sdk(server: MockServer) -> None:
    """Statuses, codes and headers arrive as the SDK's own errors."""
    messages: Any = [{"role": "user", "content": QUESTION}]
    async with client_of(server, "sk-wrong") as stranger:
        with pytest.raises(openai.AuthenticationError) as refused:
            await stranger.chat.completions.create(model="mock", messages=messages)
    assert refused.value.code == "invalid_api_key"
    async with client_of(server) as client:
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("no-such-model")
        with pytest.raises(openai.RateLimitError) as limited:
            await client.chat.completions.create(
                model="mock;status=429; retry-after=2", messages=messages
            )
        with pytest.raises(openai.BadRequestError) as unsupported:
            await client.chat.completions.create(
                model="mock-reasoning", messages=messages, max_tokens=5
            )
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(
                model="mock", messages=messages, extra_headers={"x-mock-fault": "status=529"}
            )
    assert limited.value.response.headers["retry-after"] == "2"
    assert limited.value.code == "rate_limit_exceeded"
    assert limited.value.request_id == "req_mock_000002"
    assert unsupported.value.param == "max_tokens"


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, openai.BadRequestError, None),
        (401, openai.AuthenticationError, "invalid_api_key"),
        (403, openai.PermissionDeniedError, "permission_denied"),
        (404, openai.NotFoundError, "not_found"),
        (409, openai.ConflictError, "conflict"),
        (422, openai.UnprocessableEntityError, "unprocessable"),
        (429, openai.RateLimitError, "rate_limit_exceeded"),
        (500, openai.InternalServerError, "server_error"),
        (503, openai.InternalServerError, "service_unavailable"),
    ],
)
async def test_every_status_has_its_class(
    client: AsyncOpenAI, status: int, kind: type[openai.APIStatusError], code: str | None
) -> None:
    """With the code and the request's id, in each API, streamed or not."""
    model, asked = f"mock;status={status}", [QUESTION]
    messages: Any = [{"role": "user", "content": QUESTION}]
    for number, call in enumerate(
        (
            client.chat.completions.create(model=model, messages=messages),
            client.chat.completions.create(model=model, messages=messages, stream=True),
            client.responses.create(model=model, input=QUESTION),
            client.embeddings.create(model=model, input=asked),
        )
    ):
        with pytest.raises(kind) as raised:
            await call
        assert raised.value.code == code
        assert raised.value.request_id == f"req_mock_{number:06}"


async def test_a_model_of_another_kind_and_too_long_a_text_are_told(client: AsyncOpenAI) -> None:
    """By the codes that programs look for."""
    messages: Any = [{"role": "user", "content": "word " * 130_000}]
    with pytest.raises(openai.BadRequestError) as long:
        await client.chat.completions.create(model="mock", messages=messages)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError) as wrong:
        await client.responses.create(model="mock-embedding", input=QUESTION)
    assert wrong.value.code == "model_not_found"


@pytest.mark.parametrize(
    "faults",
    ["pings", "unknown", "ids", "line_end=crlf", "no_space", "multiline", "slice=7", "gzip"],
)
async def test_other_forms_of_the_same_stream_are_read(client: AsyncOpenAI, faults: str) -> None:
    """Comments, unknown events and fields, other spellings, small pieces, in both APIs."""
    messages: Any = [{"role": "user", "content": QUESTION}]

    async def chat(model: str) -> str:
        stream = await client.chat.completions.create(model=model, messages=messages, stream=True)
        pieces = [c.choices[0].delta.content async for c in stream if c.choices]
        return "".join([piece or "" for piece in pieces])

    async def responses(model: str) -> str:
        stream = await client.responses.create(model=model, input=QUESTION, stream=True)
        events: list[Any] = [event async for event in stream]
        return "".join([e.delta for e in events if e.type == "response.output_text.delta"])

    for ask in (chat, responses):
        assert await ask(f"mock;{faults}") == await ask("mock")


async def test_a_stream_that_is_cut_never_ends(client: AsyncOpenAI) -> None:
    """The SDK takes a short stream for what it is: no reason to stop, nothing completed."""
    messages: Any = [{"role": "user", "content": QUESTION}]
    stream = await client.chat.completions.create(
        model="mock;truncate=4", messages=messages, stream=True
    )
    chunks = [chunk async for chunk in stream]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 4
    events = await client.responses.create(model="mock;truncate=4", input=QUESTION, stream=True)
    kinds = [event.type async for event in events]
    assert len(kinds) == 4
    assert "response.completed" not in kinds


async def test_an_error_inside_a_chat_stream_is_raised(client: AsyncOpenAI) -> None:
    """The SDK raises for an in-band error, after what came before it."""
    stream = await client.chat.completions.create(
        model="mock;error_at=3; error=overloaded_error",
        messages=[{"role": "user", "content": QUESTION}],
        stream=True,
    )
    for _ in range(3):
        await anext(stream)
    with pytest.raises(openai.APIError) as raised:
        await anext(stream)
    assert raised.value.code == "overloaded_error"


async def test_an_error_inside_a_response_is_an_event(client: AsyncOpenAI) -> None:
    """The SDK hands the Responses API's error event on, numbered as the others are."""
    stream = await client.responses.create(
        model="mock;error_at=3; error=overloaded_error", input=QUESTION, stream=True
    )
    events: list[Any] = [event async for event in stream]
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1].type == "error"
    assert events[-1].code == "overloaded_error"
    assert [event.sequence_number for event in events] == [0, 1, 2, 3]


# --- the embedded provider and its server say the same -------------------------------------------


def requests() -> list[ChatRequest]:
    """Requests of all kinds, without what one of the APIs has no words for."""
    user = [Message.user(QUESTION)]
    tool = Tool("get_weather", parameters=FLAT_TOOL["parameters"])
    return [
        ChatRequest.of(QUESTION, model="mock"),
        ChatRequest.of([Message.system("Be brief."), *user], model="mock", temperature=0.5),
        ChatRequest.of(QUESTION, model="mock-reasoning"),
        ChatRequest.of(TWO_CALLS, model="mock", tools=[tool]),
        ChatRequest.of(QUESTION, model="mock", tools=[tool], tool_choice="required"),
        ChatRequest.of(QUESTION, model="mock", max_output_tokens=20),
        ChatRequest.of("mock: refuse", model="mock"),
        ChatRequest.of(QUESTION, model="mock", response_format={"type": "json_object"}),
        ChatRequest.of([*user, Message.assistant("It is."), *user], model="mock"),
    ]


def said(response: ChatResponse) -> tuple[Any, ...]:
    """What an answer says, whoever brings it."""
    calls = [(call.name, call.arguments) for call in response.tool_calls]
    reasoning = response.message.reasoning
    return response.text, reasoning, response.refusal, calls, response.finish_reason, response.usage


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_the_server_says_what_the_transport_says(
    server: MockServer, api: Any, streamed: bool
) -> None:
    """Both APIs, streamed or not, bring what the transport without a network answers."""
    here = Pipeline([], Mock())
    transport = OpenAI("sk-right", base_url=server.url, api=api)
    async with Pipeline([], transport) as there:
        for request in requests():
            if streamed:
                async with there.stream(request) as response:
                    await response.collect()
            else:
                response = await there.run(request)
            assert said(response) == said(await here.run(request)), request


async def test_the_server_embeds_as_the_transport_does(server: MockServer) -> None:
    """Vectors are the same to the precision of the wire, and cost the same."""
    request = EmbeddingRequest.of(["one text", "another"], model="mock-embedding")
    here = await Pipeline([], Mock()).run(request)
    async with Pipeline([], OpenAI("sk-right", base_url=server.url)) as pipeline:
        there = await pipeline.run(request)
    for one, other in zip(here.vectors, there.vectors, strict=True):
        assert one == pytest.approx(other, abs=1e-6)
    assert here.usage == there.usage


@pytest.mark.parametrize(
    "fault",
    [
        "status=400",
        "status=401",
        "status=403",
        "status=404",
        "status=409",
        "status=422",
        "status=429; retry-after=7",
        "status=500",
        "status=503",
        "status=529",
        "reset",
        "truncate=3",
        "finish=none",
        "malformed_at=3",
        "body=nonsense",
        "error=overloaded_error",
        "error=rate_limit_exceeded; error_at=4",
        "error=insufficient_quota",
        "finish=odd",
        "usage=zero",
    ],
)
async def test_faults_are_the_same_without_a_network(fault: str) -> None:
    """A fault raises the same error, as retryable and as late, in process and over HTTP."""

    async def outcome(pipeline: Pipeline) -> tuple[Any, ...]:
        try:
            async with pipeline.stream(ChatRequest.of(QUESTION, model="mock")) as response:
                await response.collect()
        except LamellaError as error:
            told = error.status, error.retry_after, error.retryable, error.committed
            return type(error).__name__, *told
        return response.finish_reason, response.usage

    here = await outcome(Pipeline([], Mock(faults=fault)))
    async with (
        MockServer(faults=fault) as server,
        Pipeline([], OpenAI("any", base_url=server.url)) as pipeline,
    ):
        there = await outcome(pipeline)
    assert here == there
