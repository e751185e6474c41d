"""Token counts asked of a provider: the embedded one, OpenAI's transport, and the layers around."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    Image,
    InvalidRequestError,
    LamellaError,
    LimitedError,
    Message,
    Money,
    NotFoundError,
    Outcome,
    Pipeline,
    ProtocolError,
    Reasoning,
    Text,
    TokenCount,
    TokenCountRequest,
    TokenCountResponse,
    Tool,
    UnsupportedError,
    Usage,
)
from lamella.testing import MockServer, Scripted, transport_checks, virtual_ports
from lamella.transports import AzureOpenAI, Mock, OpenAI
from lamella.transports._dialect import DEFAULT_OPTIONS
from lamella.transports._openai_token_counts import OpenAITokenCounts
from lamella_middlewares import Cost, Fallback, RateLimit, Retry

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(
    lamella_virtual_backend: tuple[str, dict[str, Any]],
) -> tuple[str, dict[str, Any]]:
    """Both event loops, in virtual time: nothing here waits."""
    return lamella_virtual_backend


QUESTION = "Why is the sky blue?"
COUNTS = OpenAITokenCounts()
WEATHER = Tool(
    "get_weather",
    "How the weather is.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}},
)
CONVERSATION = [
    Message.system("Be brief."),
    Message.user([Text("What is this?"), Image(data=b"\x89PNG", media_type="image/png")]),
    Message.assistant("A stone."),
    Message.user(QUESTION),
]


def asked(content: Any = QUESTION, **fields: Any) -> TokenCountRequest:
    """How many tokens something has."""
    return TokenCountRequest.of(content, **{"model": "mock", **fields})


# --- asking ------------------------------------------------------------------------------------


async def test_the_embedded_provider_counts_what_it_would_bill() -> None:
    """The count is the input of the answer to the same conversation, pictures included."""
    chat = ChatRequest.of(CONVERSATION, model="mock", tools=[WEATHER])
    pipeline = Pipeline([], Mock())
    answer = await pipeline.run(chat)
    counted = await pipeline.run(TokenCountRequest.of(chat))
    assert answer.usage is not None
    assert counted.tokens == answer.usage.input_tokens > 85
    assert counted.usage == Usage()
    assert counted.finish_reason == "stop"


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_openai_counts_what_it_would_bill(api: Any) -> None:
    """Whichever API answers chat requests; over HTTP and in process it is the same."""
    async with (
        MockServer() as server,
        Pipeline([], OpenAI("any", base_url=server.url, api=api)) as pipeline,
    ):
        request = asked(CONVERSATION)
        counted = await pipeline.run(request)
        answer = await pipeline.run(request.conversation)
        here = await Pipeline([], Mock()).run(request)
    assert answer.usage is not None
    assert counted.tokens == answer.usage.input_tokens == here.tokens
    assert (counted.usage, counted.model) == (Usage(), "mock")
    assert counted.head.request_id == "req_mock_000000"
    assert server.requests[0].path == "/v1/responses/input_tokens"


async def test_a_count_replays_as_a_stream() -> None:
    """Its events are the count, usage and the end."""
    async with (
        MockServer() as server,
        Pipeline([], OpenAI("any", base_url=server.url)) as pipeline,
        pipeline.stream(asked()) as response,
    ):
        events = [event async for event in response]
    assert events[0] == TokenCount(9)
    assert len(events) == 3


async def test_only_what_a_model_reads_is_sent() -> None:
    """Limits and sampling make no difference; what a caller adds is verbatim, if it counts."""
    chat = ChatRequest.of(
        QUESTION,
        model="m",
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        response_format={"type": "json_object"},
        temperature=0.5,
        max_output_tokens=5,
        stop=["."],
        seed=1,
        n=2,
        logprobs=2,
        reasoning_effort="high",
        service_tier="flex",
        extra={"store": False, "instructions": "Be brief.", "news": 1},
    )
    body = COUNTS.encode(TokenCountRequest.of(chat), stream=False, options=DEFAULT_OPTIONS)
    assert body == {
        "model": "m",
        "input": [{"role": "user", "content": QUESTION}],
        "tools": [
            {
                "type": "function",
                "name": "get_weather",
                "description": "How the weather is.",
                "parameters": WEATHER.parameters,
                "strict": False,
            }
        ],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "text": {"format": {"type": "json_object"}},
        "instructions": "Be brief.",
        "news": 1,
    }


async def test_what_is_left_out_of_a_conversation_is_declared() -> None:
    """Another provider's thoughts are not counted, which the trace says, or refused."""
    thought = Reasoning("Hm.", "seal", extra={"provider": "other"})
    request = asked([Message.user("Hi"), Message.assistant([thought, Text("Yes?")])])
    async with (
        MockServer() as server,
        Pipeline([], OpenAI("any", base_url=server.url)) as pipeline,
    ):
        response = await pipeline.run(request)
    assert "request.left_out" in [note.name for note in response.trace.notes]


# --- answers that are none ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"{}", b"[]", b'{"input_tokens": "5"}', b'{"input_tokens": -1}',
     b'{"input_tokens": true}', b'{"input_tokens": 1.5}', b'{"input_tokens": null}'],
)  # fmt: skip
def test_what_is_no_count_is_a_protocol_error(body: bytes) -> None:
    """A count is a whole number from 0 up."""
    with pytest.raises(ProtocolError):
        COUNTS.decode(body)


def test_a_count_is_read() -> None:
    """Zero too; an error with a good status is the provider's own."""
    events, head = COUNTS.decode(b'{"object": "response.input_tokens", "input_tokens": 0}')
    assert TokenCountResponse(events, head).tokens == 0
    with pytest.raises(LamellaError) as caught:
        COUNTS.decode(msgspec.json.encode({"error": {"code": 429}}))
    assert caught.value.status == 429


def test_counts_are_not_streamed() -> None:
    """There is no reader of a stream."""
    with pytest.raises(ProtocolError):
        COUNTS.decoder(asked())


@pytest.mark.parametrize("networked", [False, True])
async def test_no_conversation_has_no_count(*, networked: bool) -> None:
    """It is refused as a malformed request is."""
    async with MockServer() as server:
        transport = OpenAI("any", base_url=server.url) if networked else Mock()
        async with Pipeline([], transport) as pipeline:
            with pytest.raises(InvalidRequestError):
                await pipeline.run(asked([]))


async def test_endpoints_that_do_not_count_say_so() -> None:
    """A known one before the network; of another the first count finds out."""
    async with Pipeline([], OpenAI("any", endpoint="groq")) as pipeline:
        with pytest.raises(UnsupportedError, match="token_count") as refused:
            await pipeline.run(asked())
    assert not refused.value.retryable
    async with MockServer(paths={"/input_tokens": "status=404"}) as server:
        azure = AzureOpenAI("any", endpoint=server.endpoint, deployment="mock")
        async with Pipeline([], azure) as pipeline:
            with pytest.raises(UnsupportedError, match="token_count"):
                await pipeline.run(asked())
        async with Pipeline([], OpenAI("any", base_url=server.url)) as pipeline:
            with pytest.raises(NotFoundError):
                await pipeline.run(asked())


# --- layers ------------------------------------------------------------------------------------


async def test_a_count_costs_nothing() -> None:
    """Its usage is zero, so that its cost is zero, whatever the model's price."""
    pipeline = Pipeline([Cost({"mock": {"input": "5", "output": "20"}})], Mock())
    response = await pipeline.run(asked("word " * 1_000))
    assert response.tokens > 1_000
    assert response.cost == Money.of("0")
    (attempt,) = response.trace.attempts
    assert attempt.usage == Usage()


async def test_a_count_is_tried_again() -> None:
    """Retry treats it as any request, with the attempts in the trace."""
    pipeline = Pipeline(
        [Retry(attempts=3)], Mock(script=["status=503", "reset", None]), ports=virtual_ports()
    )
    response = await pipeline.run(asked())
    assert response.tokens == 9
    assert len(response.trace.attempts) == 3


async def test_a_count_falls_back() -> None:
    """Another target counts where the first cannot."""
    pipeline = Pipeline([Fallback([Mock()])], Mock(faults="status=503"))
    response = await pipeline.run(asked())
    assert response.tokens == 9
    assert [attempt.outcome for attempt in response.trace.attempts][-1] == Outcome.COMPLETE
    unable = OpenAI("any", endpoint="groq")
    async with Pipeline([Fallback([Mock()])], unable) as pipeline:
        assert (await pipeline.run(asked())).tokens == 9


async def test_a_count_takes_a_request_of_a_limit_and_no_tokens() -> None:
    """The provider bills none of its tokens, so that none are reserved."""
    pipeline = Pipeline(
        [RateLimit(requests=2, tokens=100, max_wait=0)], Mock(), ports=virtual_ports()
    )
    for _ in range(2):
        assert (await pipeline.run(asked("word " * 1_000))).tokens > 1_000
    with pytest.raises(LimitedError):
        await pipeline.run(asked())


async def test_a_function_counts() -> None:
    """A transport is any function; a scripted one counts as it is told."""

    async def transport(request: TokenCountRequest) -> TokenCountResponse:
        return TokenCountResponse.of(len(request.chat.messages), model="m")

    assert (await Pipeline([], transport).run(asked())).tokens == 1
    scripted = Scripted([TokenCountResponse.of(3), ChatResponse.of("Hi")])
    assert (await Pipeline([], scripted).run(asked())).tokens == 3


# --- the kit -----------------------------------------------------------------------------------


async def test_the_kit_of_transports_holds_for_counts() -> None:
    """In process; OpenAI's transport passes the kit in its own tests."""
    for check in transport_checks(Mock, asked()):
        await check()
