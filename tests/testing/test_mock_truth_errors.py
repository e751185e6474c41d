"""The mock server tells the truth of Azure, of errors, and as the embedded provider does."""

from typing import Any

import openai
import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI
from openai_clients import QUESTION, client_of

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
FLAT_TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "strict": True,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
TWO_CALLS = 'Use get_weather({"city": "Rome"}) and get_weather({"city": "Zürich"}).'


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
            client.moderations.create(model=model, input=asked),
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
