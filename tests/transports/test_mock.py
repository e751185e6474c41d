"""The embedded provider: deterministic, honest, counted, and wrong exactly as told."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import anyio
import attrs
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    ConnectionLostError,
    ContextLengthError,
    EmbeddingRequest,
    InvalidRequestError,
    LamellaError,
    Message,
    OverloadedError,
    Pipeline,
    ProtocolError,
    RateLimitError,
    ReasoningDelta,
    Request,
    Response,
    ServerError,
    StreamTruncated,
    TextDelta,
    Tool,
    ToolCall,
    UnsupportedError,
    Usage,
)
from lamella.testing import Faults, Plan, Scenario, each_step, run_virtual, virtual_ports
from lamella.transports import Mock

pytestmark = pytest.mark.anyio
QUESTION = "Why is the sky blue?"
WEATHER = Tool(
    "get_weather",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}},
        "required": ["city"],
    },
)


async def ask(content: Any = QUESTION, mock: Mock | None = None, **fields: Any) -> ChatResponse:
    """What the embedded provider answers."""
    return await Pipeline([], mock or Mock()).run(ChatRequest.of(content, **fields))


# --- what it says ------------------------------------------------------------------------------


async def test_the_answer_repeats_the_question_and_says_who_speaks() -> None:
    """The answer is honest: it quotes the question and says that no model has read it."""
    response = await ask()
    assert QUESTION in response.text
    assert "embedded provider" in response.text
    assert response.served_by == "mock"
    assert response.model == "mock"
    assert response.finish_reason == "stop"


async def test_the_same_request_gets_the_same_answer() -> None:
    """The same request has the same answer, streamed or not; another one has another."""
    request = ChatRequest.of(QUESTION, model="mock")
    pipeline = Pipeline([], Mock())
    first = await pipeline.run(request)
    async with pipeline.stream(request) as streamed:
        assert streamed.open
        pieces = [event.text async for event in streamed if isinstance(event, TextDelta)]
    assert "".join(pieces) == first.text
    assert len(pieces) > 20
    assert streamed.usage == first.usage
    texts = {(await ask(QUESTION, seed=seed)).text for seed in range(20)}
    assert len(texts) > 1


def test_the_answer_is_the_same_in_every_process() -> None:
    """Nothing depends on the hash seed of the process."""
    code = (
        "from lamella import *; from lamella.transports import Mock\n"
        "r = Pipeline([], Mock()).run_sync(ChatRequest.of('How?', tools=[Tool('f')], n=2))\n"
        "print([c.message.text for c in r.choices])"
    ).replace("import *", "import ChatRequest, Pipeline, Tool")
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


async def test_tokens_are_counted_by_the_rule() -> None:
    """Input is words and three for each message; output is what the pieces are."""
    response = await ask("mock: say one two three")
    # "mock" ":" " say" " one" " two" " three", and three for the message
    assert response.usage == Usage(uncached_input=9, text_output=3)


async def test_pictures_are_counted_as_such() -> None:
    """A picture costs a fixed number of tokens of its own kind."""
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}
    response = await ask([{"role": "user", "content": [{"type": "text", "text": "see"}, picture]}])
    assert response.usage is not None
    assert response.usage.image_input == 85
    assert response.usage.uncached_input == 4


async def test_a_reasoning_model_thinks_first() -> None:
    """`mock-reasoning` gives its thoughts before its words, and they are counted apart."""
    request = ChatRequest.of(QUESTION, model="mock-reasoning", reasoning_effort="high")
    async with Pipeline([], Mock()).stream(request) as response:
        kinds = [type(event) async for event in response]
    assert kinds[0] is ReasoningDelta
    assert response.usage is not None
    assert response.usage.reasoning_output > 30
    assert response.message.reasoning
    assert not (await ask(model="mock")).message.reasoning


async def test_several_choices_differ() -> None:
    """`n` gives so many answers, interleaved on the way, each with its own reason."""
    response = await ask(n=4)
    assert [choice.index for choice in response.choices] == [0, 1, 2, 3]
    assert len({choice.message.text for choice in response.choices}) > 1
    assert {choice.finish_reason for choice in response.choices} == {"stop"}


@pytest.mark.parametrize("limit", [1, 5, 10_000])
async def test_the_limit_on_output_holds(limit: int) -> None:
    """An answer has at most `max_output_tokens` tokens and says when it was cut."""
    response = await ask(max_output_tokens=limit)
    assert response.usage is not None
    assert response.usage.output_tokens <= limit
    assert response.finish_reason == ("stop" if limit == 10_000 else "length")


async def test_it_stops_where_it_is_told_to() -> None:
    """The answer ends before the first of the stop texts."""
    response = await ask("mock: say red green blue", stop=["blue", "green"])
    assert response.text == "red "
    assert response.finish_reason == "stop"


async def test_log_probabilities_belong_to_tokens() -> None:
    """Each token comes with its log probability and so many alternatives as were asked for."""
    response = await ask(logprobs=2)
    found = response.choices[0].logprobs
    assert "".join(each["token"] for each in found) == response.text
    assert all(len(each["top_logprobs"]) == 2 for each in found)
    assert not (await ask()).choices[0].logprobs


@pytest.mark.parametrize(
    ("order", "text", "reason"),
    [
        ("mock: say Hello; world.", "Hello; world.", "stop"),
        ("mock: echo", "mock: echo", "stop"),
        ("mock: empty", "", "stop"),
        ("mock: say x\nmock: finish=content_filter", "x", "content_filter"),
    ],
)
async def test_orders_are_obeyed(order: str, text: str, reason: str) -> None:
    """A line that begins with `mock:` says what to answer and how to end."""
    response = await ask(order)
    assert (response.text, response.finish_reason) == (text, reason)


async def test_the_length_can_be_ordered() -> None:
    """`mock: words=N` gives an answer of so many words."""
    assert len((await ask("Tell me.\nmock: words=300")).text.split()) == 300


async def test_a_refusal_is_no_text() -> None:
    """`mock: refuse` gives a refusal."""
    response = await ask("mock: refuse")
    assert response.refusal
    assert response.text == ""


async def test_a_misspelt_order_is_told() -> None:
    """An order that nobody knows is refused, as a bad request is."""
    with pytest.raises(InvalidRequestError):
        await ask("mock: shout")


async def test_a_conversation_too_long_is_refused() -> None:
    """More than the context holds is the error that providers give."""
    with pytest.raises(ContextLengthError):
        await ask("word " * 130_000)


async def test_the_answer_can_be_given() -> None:
    """`answer=` gives text, a message or a response, or leaves it to the provider."""

    def answer(request: ChatRequest) -> str | Message | ChatResponse | None:
        word = request.messages[-1].text
        given: dict[str, str | Message | ChatResponse] = {
            "text": "given",
            "message": Message.assistant("a message"),
            "response": ChatResponse.of("a response", finish_reason="length"),
        }
        return given.get(word)

    mock = Mock(answer=answer)
    assert (await ask("text", mock)).text == "given"
    assert (await ask("message", mock)).text == "a message"
    assert (await ask("response", mock)).finish_reason == "length"
    assert "embedded provider" in (await ask("other", mock)).text


# --- tools and structure -----------------------------------------------------------------------


async def test_a_tool_is_called_when_its_name_is_mentioned() -> None:
    """A tool whose name the message holds is called, with arguments that fit its schema."""
    response = await ask("Please use get_weather, city=Bern.", tools=[WEATHER])
    (call,) = response.tool_calls
    assert response.finish_reason == "tool_calls"
    arguments = json.loads(call.arguments)
    assert arguments["city"] == "Bern"
    assert arguments["unit"] in {"C", "F"}
    assert not (await ask("How are you?", tools=[WEATHER])).tool_calls
    assert not (await ask("use get_weather", tools=[WEATHER], tool_choice="none")).tool_calls


async def test_calls_can_be_written_out() -> None:
    """Arguments after the name are taken verbatim; several calls are parallel unless forbidden."""
    text = 'get_weather({"city": "Rome"}) get_weather({"city":"Bern"})'
    response = await ask(text, tools=[WEATHER])
    assert [call.arguments for call in response.tool_calls] == [
        '{"city": "Rome"}',
        '{"city":"Bern"}',
    ]
    alone = await ask(text, tools=[WEATHER], parallel_tool_calls=False)
    assert len(alone.tool_calls) == 1


@pytest.mark.parametrize(
    "choice", ["required", "get_weather", {"type": "function", "function": {"name": "get_weather"}}]
)
async def test_a_tool_can_be_forced(choice: Any) -> None:
    """`tool_choice` forces a call that nobody mentioned."""
    response = await ask("Hello.", tools=[WEATHER], tool_choice=choice)
    assert [call.name for call in response.tool_calls] == ["get_weather"]


async def test_forced_calls_go_from_tool_to_tool() -> None:
    """With `required` a tool that has answered since the question is not the next to be called."""
    other = Tool("final_answer", parameters={"type": "object", "properties": {}})
    told = [Message.user("Hello."), Message.assistant(ToolCall("1", "get_weather", "{}"))]
    told.append(Message.tool("1", "sunny"))
    for history, name in ((told, "final_answer"), ([*told, *told[:1]], "get_weather")):
        response = await ask(history, tools=[WEATHER, other], tool_choice="required")
        assert [call.name for call in response.tool_calls] == [name]


async def test_a_forced_tool_must_be_offered() -> None:
    """A `tool_choice` that is not among the tools is a bad request."""
    with pytest.raises(InvalidRequestError):
        await ask("Hello.", tools=[WEATHER], tool_choice="get_time")


async def test_a_tools_answer_is_answered_in_words() -> None:
    """After a tool's result the provider speaks, and says what the tool has said."""
    asked = await ask("use get_weather", tools=[WEATHER])
    (call,) = asked.tool_calls
    told = [Message.user("use get_weather"), asked.message, Message.tool(call.id, "sunny")]
    response = await ask(told, tools=[WEATHER])
    assert "The tool get_weather answered: “sunny”" in response.text


async def test_json_is_given_where_it_is_asked_for() -> None:
    """A JSON object holds the answer; a schema is held to, references and bounds included."""
    plain = await ask(response_format={"type": "json_object"})
    assert QUESTION in json.loads(plain.text)["answer"]
    schema = {
        "type": "object",
        "properties": {
            "count": {"type": "integer", "minimum": 7, "maximum": 9},
            "ratio": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 3},
            "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
            "code": {"type": "string", "pattern": "^[0-9]{4}$"},
        },
        "required": ["count", "ratio", "tags", "next", "code"],
        "$defs": {"tag": {"type": "string", "maxLength": 3}},
    }
    response = await ask(
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    )
    found = json.loads(response.text)
    assert 7 <= found["count"] <= 9
    assert 0 < found["ratio"] <= 1
    assert len(found["tags"]) == 3
    assert all(len(tag) <= 3 for tag in found["tags"])
    assert len(found["code"]) == 4
    depth = 0
    while found is not None:
        found, depth = found["next"], depth + 1
    assert 1 < depth < 10


# --- embeddings --------------------------------------------------------------------------------


async def test_similar_texts_are_near() -> None:
    """Vectors have norm 1, and texts that share words are nearer than those that do not."""
    texts = ["Why is the sky blue?", "The sky is blue today.", "Quarterly profits fell sharply."]
    response = await Pipeline([], Mock()).run(EmbeddingRequest.of(texts))
    one, near, far = response.vectors

    def product(left: tuple[float, ...], right: tuple[float, ...]) -> float:
        return sum(x * y for x, y in zip(left, right, strict=True))

    assert all(math.isclose(product(v, v), 1, abs_tol=1e-9) for v in response.vectors)
    assert product(one, near) > product(one, far) + 0.2
    assert response.model == "mock-embedding"
    assert response.usage == Usage(uncached_input=6 + 6 + 6)


async def test_dimensions_can_be_chosen() -> None:
    """`dimensions` is the length of the vectors; what is out of range is a bad request."""
    pipeline = Pipeline([], Mock())
    assert len((await pipeline.run(EmbeddingRequest.of("x", dimensions=12))).vector) == 12
    with pytest.raises(InvalidRequestError):
        await pipeline.run(EmbeddingRequest.of("x", dimensions=5_000))


# --- what goes wrong ---------------------------------------------------------------------------


async def test_a_script_is_followed_request_by_request() -> None:
    """Each step raises what a transport over a network would raise; then all is well."""
    steps = [
        "status=429; retry-after=2",
        "status=500",
        "reset",
        "truncate=5",
        "malformed_at=2",
        "error=overloaded_error",
        "body=garbage",
        None,
    ]
    pipeline = Pipeline([], Mock(script=steps))
    raised: list[LamellaError | None] = []
    for _ in steps:
        try:
            await pipeline.run(ChatRequest.of(QUESTION))
            raised.append(None)
        except LamellaError as error:
            raised.append(error)
    assert [type(error) for error in raised] == [
        RateLimitError,
        ServerError,
        ConnectionLostError,
        StreamTruncated,
        ProtocolError,
        OverloadedError,
        ProtocolError,
        type(None),
    ]
    limited = raised[0]
    assert limited is not None
    assert (limited.status, limited.retry_after, limited.provider) == (429, 2.0, "mock")
    assert limited.attempts[0].request_id == limited.request_id
    truncated = raised[3]
    assert truncated is not None
    assert truncated.partial is not None
    assert QUESTION.startswith(truncated.partial.text.partition("“")[2])


@pytest.mark.parametrize(
    "script",
    [
        lambda: "status=503 | ok",
        lambda: ["status=503", "ok"],
        lambda: [Faults(status=503), None],
        lambda: Plan([Faults(status=503)]),
        lambda: "status=503",
    ],
    ids=["bars", "list", "faults", "plan", "text"],
)
async def test_a_script_has_many_forms(script: Callable[[], Any]) -> None:
    """Texts, faults, plans and bars all say: wrong once, then right."""
    pipeline = Pipeline([], Mock(script=script()))
    with pytest.raises(OverloadedError):
        await pipeline.run(ChatRequest.of(QUESTION))
    assert (await pipeline.run(ChatRequest.of(QUESTION))).complete


async def test_faults_meet_every_request_after_the_script() -> None:
    """`faults=` goes on for ever; a fault in the model's name counts more than both."""
    pipeline = Pipeline([], Mock(script=[None], faults="status=500"))
    assert (await pipeline.run(ChatRequest.of(QUESTION))).complete
    for _ in range(3):
        with pytest.raises(ServerError):
            await pipeline.run(ChatRequest.of(QUESTION))
    with pytest.raises(RateLimitError):
        await pipeline.run(ChatRequest.of(QUESTION, model="mock;status=429"))
    assert (await pipeline.run(ChatRequest.of(QUESTION, model="mock;ok"))).model == "mock"


async def test_a_stream_breaks_after_commitment() -> None:
    """Once events are out, the error keeps what came and cannot be retried."""
    pipeline = Pipeline([], Mock(script=["reset=4"]))
    with pytest.raises(ConnectionLostError) as raised:
        async with pipeline.stream(ChatRequest.of("mock: say a b c d e f")) as response:
            async for _ in response:
                pass
    assert raised.value.committed
    assert raised.value.partial is not None
    assert raised.value.partial.text == "a b c d"


async def test_the_end_can_be_changed() -> None:
    """The finish reason and the usage can be other than they are, or missing."""
    mock = Mock(script=["finish=odd; usage=zero", "usage=none", "finish=none"])
    odd = await ask(mock=mock)
    assert (odd.finish_reason, odd.usage) == ("odd", Usage())
    assert (await ask(mock=mock)).usage is None
    with pytest.raises(StreamTruncated):
        await ask(mock=mock)


def test_a_mistake_in_a_script_is_told_at_once() -> None:
    """A misspelt verb and an impossible latency are refused when the mock is made."""
    with pytest.raises(ConfigurationError, match="Did you mean 'status'"):
        Mock(script=["statsu=429"])
    with pytest.raises(ConfigurationError, match="0 or more"):
        Mock(latency=-1)


async def test_verbs_of_bytes_are_refused() -> None:
    """What has no meaning without a network is an error that names the server."""
    with pytest.raises(ConfigurationError, match=r"slice.*MockServer"):
        await ask(mock=Mock(faults="slice=1"))


async def test_other_operations_are_refused() -> None:
    """An operation that it does not know fails with what it does know."""

    @attrs.frozen(slots=False, kw_only=True)
    class Dance(Request[Response]):
        pass

    with pytest.raises(UnsupportedError, match="chat, embeddings, moderation and token counts"):
        await Pipeline([], Mock()).run(Dance())


# --- time --------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_latency_passes_on_the_port(backend: str) -> None:
    """The first event takes `latency`, each further one `latency_per_token`; stalls come on top."""
    mock = Mock(latency=2, latency_per_token=0.5, script=[None, "delay=10", "stall_at=1; stall=60"])

    async def main() -> list[float]:
        pipeline = Pipeline([], mock, ports=virtual_ports())
        found: list[float] = []
        for _ in range(3):
            start = anyio.current_time()
            response = await pipeline.run(ChatRequest.of("mock: say one two"))
            assert response.trace.attempts[0].time_to_first_event is not None
            found.append(anyio.current_time() - start)
        return found

    # two words, usage and the end: four events
    assert run_virtual(main, backend=backend) == pytest.approx([3.5, 13.5, 63.5])


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_leaving_a_slow_stream_ends_the_wait(backend: str) -> None:
    """A source that is waiting is woken when its response is closed."""

    async def main() -> float:
        pipeline = Pipeline([], Mock(latency_per_token=1_000), ports=virtual_ports())
        start = anyio.current_time()
        with anyio.move_on_after(1):
            async with pipeline.stream(ChatRequest.of(QUESTION)) as response:
                async for _ in response:
                    pass
        await pipeline.aclose()
        return anyio.current_time() - start

    assert run_virtual(main, backend=backend) == pytest.approx(1)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("streamed", [False, True])
def test_cancelling_it_anywhere_leaves_nothing(backend: str, streamed: bool) -> None:
    """Cancelled at any step, an answer is over and its attempt recorded as cancelled."""

    def make() -> tuple[Scenario, Scenario]:
        responses: list[ChatResponse] = []
        pipeline = Pipeline([], Mock(latency_per_token=1), ports=virtual_ports())
        request = ChatRequest.of("mock: say one two three")

        async def scenario() -> None:
            if not streamed:
                await pipeline.run(request)
                return
            async with pipeline.stream(request) as response:
                responses.append(response)
                await response.collect()

        async def check() -> None:
            health = await pipeline.health()
            assert health.running == 0
            assert not any(response.open for response in responses)

        return scenario, check

    assert each_step(make, backend=backend, again=(1,)) > 3


async def test_it_can_always_be_reached() -> None:
    """Its health is good."""
    assert (await Pipeline([], Mock()).health()).status == "ok"
