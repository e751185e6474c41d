"""The mock server speaks Ollama's API: the official client understands all that it says."""

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import httpx
import ollama
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import ChatRequest, Image, Message, Reasoning, Text, ToolCall, ToolResult
from lamella._mock_rejections import Rejection
from lamella.testing import MockServer, run_virtual
from lamella.testing._mock_ollama._fields import span
from lamella.testing._mock_ollama._requests import read_ollama
from lamella.testing._mock_ollama._window import seen, size

pytestmark = [
    pytest.mark.anyio,
    # The client leaves its own generators unfinished at an error, which trio remarks on.
    pytest.mark.filterwarnings("ignore:Async generator .*:ResourceWarning"),
]
QUESTION = "Why is the sky blue?"
ASK: Any = [{"role": "user", "content": QUESTION}]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
TWO_CALLS = 'Use get_weather({"city": "Rome"}) and get_weather({"city": "Zürich"}).'


def get_weather(city: str) -> str:
    """Say how the weather is.

    Args:
        city: Where.
    """
    return f"snow in {city}"


@pytest.fixture
async def server() -> AsyncIterator[MockServer]:
    """A server that nothing goes wrong with."""
    async with MockServer() as server:
        yield server


@pytest.fixture
async def client(server: MockServer) -> AsyncIterator[ollama.AsyncClient]:
    """The official client of that server."""
    async with ollama.AsyncClient(server.endpoint) as client:
        yield client


async def post(client: Any, body: Any) -> Any:
    """Send what the client's own functions do not write."""
    return (await client._request_raw("POST", "/api/chat", json=body)).json()


async def failing(
    client: ollama.AsyncClient, faults: str, **fields: Any
) -> tuple[list[str], ollama.ResponseError]:
    """What a stream says until it fails, and how it fails."""
    words: list[str] = []
    with pytest.raises(ollama.ResponseError) as caught:
        async for part in await client.chat(f"mock;{faults}", ASK, stream=True, **fields):
            words.append(part.message.content or "")
    return words, caught.value


# --- chat --------------------------------------------------------------------------------------


async def test_a_chat_answer_is_read(client: ollama.AsyncClient) -> None:
    """A whole answer has text, the reason of its end, counts and durations."""
    answer = await client.chat("mock", ASK)
    assert answer.message.role == "assistant"
    assert QUESTION in (answer.message.content or "")
    assert (answer.model, answer.done, answer.done_reason) == ("mock", True, "stop")
    assert answer.prompt_eval_count == 6 + 3
    assert answer.eval_count
    assert answer.total_duration
    assert answer.created_at == "2025-01-01T00:00:00Z"


async def test_a_streamed_chat_answer_is_the_whole_one(client: ollama.AsyncClient) -> None:
    """The pieces add up to the whole answer; the last one says that it is done, and the counts."""
    whole = await client.chat("mock", ASK)
    parts = [part async for part in await client.chat("mock", ASK, stream=True)]
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[0].eval_count is None
    assert (parts[-1].eval_count, parts[-1].done_reason) == (whole.eval_count, "stop")


async def test_answers_are_streamed_unless_a_request_says_otherwise(server: MockServer) -> None:
    """As lines of JSON, each with its end; a whole answer is one document."""
    url = f"{server.endpoint}/api/chat"
    async with httpx.AsyncClient() as client:
        lines = await client.post(url, json={"model": "mock", "messages": ASK})
        one = await client.post(url, json={"model": "mock", "messages": ASK, "stream": False})
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert lines.text.endswith("\n")
    assert all(json.loads(line)["model"] == "mock" for line in lines.text.splitlines())
    assert one.headers["content-type"].startswith("application/json")
    assert one.json()["done"] is True


async def test_the_synchronous_client_is_answered_from_a_thread(server: MockServer) -> None:
    """Whole and streamed."""

    def ask() -> tuple[str | None, str]:
        with ollama.Client(server.endpoint) as client:
            whole = client.chat("mock", ASK).message.content
            parts = client.chat("mock", ASK, stream=True)
            return whole, "".join(part.message.content or "" for part in parts)

    whole, streamed = await anyio.to_thread.run_sync(ask)
    assert whole == streamed


async def test_tools_are_called_and_their_results_told(client: ollama.AsyncClient) -> None:
    """Calls come whole, their arguments as objects; the results are answered in words."""
    messages: list[Any] = [{"role": "user", "content": TWO_CALLS}]
    asked = await client.chat("mock", messages, tools=[get_weather])
    assert asked.done_reason == "stop"
    calls = asked.message.tool_calls or []
    assert [call.function.arguments for call in calls] == [{"city": "Rome"}, {"city": "Zürich"}]
    messages.append(asked.message)
    for call in calls:
        said = get_weather(**call.function.arguments)
        messages.append({"role": "tool", "tool_name": call.function.name, "content": said})
    told = await client.chat("mock", messages, tools=[get_weather])
    assert "get_weather answered: “snow in Rome”" in (told.message.content or "")
    assert "“snow in Zürich”" in (told.message.content or "")
    parts = [
        p async for p in await client.chat("mock", messages[:1], tools=[get_weather], stream=True)
    ]
    found = [call for part in parts for call in part.message.tool_calls or []]
    assert found == calls


async def test_pictures_are_seen(server: MockServer, client: ollama.AsyncClient) -> None:
    """They count as tokens; what is no picture is refused."""
    message = ollama.Message(role="user", content=QUESTION, images=[ollama.Image(value=PNG)])
    answer = await client.chat("mock", [message])
    assert answer.prompt_eval_count == 6 + 3 + 85
    assert server.requests[0].json["messages"][0]["images"] == [base64.b64encode(PNG).decode()]
    for bad in ("AAAA", "§"):
        with pytest.raises(ollama.ResponseError) as refused:
            wrong = {"role": "user", "content": "", "images": [bad]}
            await post(client, {"model": "mock", "messages": [wrong]})
        assert refused.value.status_code == 400


@pytest.mark.parametrize("think", [None, True, "high"])
async def test_a_model_that_thinks_says_so(client: ollama.AsyncClient, think: Any) -> None:
    """Its thoughts come before the answer, in a field of their own, and may go back."""
    whole = await client.chat("mock-reasoning", ASK, think=think)
    assert whole.message.thinking
    stream = await client.chat("mock-reasoning", ASK, think=think, stream=True)
    parts = [part async for part in stream]
    assert "".join(part.message.thinking or "" for part in parts) == whole.message.thinking
    again = await client.chat("mock-reasoning", [*ASK, whole.message, *ASK], think=think)
    assert again.message.content


async def test_thinking_is_for_models_that_can(client: ollama.AsyncClient) -> None:
    """Others refuse it; one that can may be told not to."""
    with pytest.raises(ollama.ResponseError, match="does not support thinking") as refused:
        await client.chat("mock", ASK, think=True)
    assert refused.value.status_code == 400
    assert (await client.chat("mock-reasoning", ASK, think=False)).message.thinking is None


async def test_structured_output_fits_its_schema(client: ollama.AsyncClient) -> None:
    """`format` is a JSON schema, or the word json."""
    schema: Any = {
        "type": "object",
        "properties": {"mood": {"enum": ["good", "bad"]}},
        "required": ["mood"],
    }
    answer = await client.chat("mock", ASK, format=schema)
    assert json.loads(answer.message.content or "")["mood"] in {"good", "bad"}
    assert json.loads((await client.chat("mock", ASK, format="json")).message.content or "")
    with pytest.raises(ollama.ResponseError, match="invalid format") as refused:
        await post(client, {"model": "mock", "messages": ASK, "format": "xml"})
    assert refused.value.status_code == 500


async def test_options_hold(client: ollama.AsyncClient) -> None:
    """`num_predict` and `stop` end the answer; log probabilities are given for each token."""
    cut = await client.chat("mock", ASK, options={"num_predict": 5, "seed": 1})
    assert (cut.done_reason, cut.eval_count) == ("length", 5)
    stopped = await client.chat("mock", ASK, options=ollama.Options(stop=["sky"]))
    assert "sky" not in (stopped.message.content or "")
    told = await client.chat("mock", ASK, logprobs=True, top_logprobs=2)
    tokens = told.logprobs or []
    assert "".join(token.token for token in tokens) == told.message.content
    assert all(len(token.top_logprobs or ()) == 2 for token in tokens)


# --- the window --------------------------------------------------------------------------------


async def test_what_is_longer_than_the_window_is_cut_without_a_word() -> None:
    """The oldest messages go, the system's and the last one stay; only the count tells."""
    seen_by_the_model: list[ChatRequest] = []

    def note(request: ChatRequest) -> str:
        seen_by_the_model.append(request)
        return "Four."

    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one " * 50},
        {"role": "assistant", "content": "two " * 50},
        {"role": "user", "content": "And four?"},
    ]
    async with MockServer(answer=note) as server, ollama.AsyncClient(server.endpoint) as client:
        small = await client.chat("mock", messages, options={"num_ctx": 64})
        usual = await client.chat("mock", messages)
    assert [m.text for m in seen_by_the_model[0].messages] == ["Be brief.", "And four?"]
    assert small.prompt_eval_count == 3 + 3 + 3 + 3
    assert len(seen_by_the_model[1].messages) == 4
    assert usual.prompt_eval_count == 3 + 3 + 54 + 54 + 3 + 3


async def test_nobody_asks_for_a_window_and_it_is_4096(client: ollama.AsyncClient) -> None:
    """A long prompt loses its middle; `num_ctx` gives it room, and `truncate` forbids the cut."""
    long: Any = [{"role": "user", "content": "word " * 5_000 + "\nmock: say The end."}]
    cut = await client.chat("mock", long)
    assert (cut.prompt_eval_count or 0) < 4_096
    assert cut.message.content == "The end."
    full = await client.chat("mock", long, options={"num_ctx": 16_384})
    assert (full.prompt_eval_count or 0) > 5_000
    with pytest.raises(ollama.ResponseError, match="exceeds the context length") as refused:
        await post(client, {"model": "mock", "messages": long, "truncate": False})
    assert refused.value.status_code == 400


@given(
    st.lists(
        st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text(max_size=60)),
        min_size=1,
        max_size=8,
    ),
    st.integers(24, 200),
    st.integers(-1, 50),
)
def test_what_a_model_sees_fits_its_window(
    said: list[tuple[str, str]], window: int, keep: int
) -> None:
    """Or it is refused; what fits is not touched."""
    options = {"num_ctx": window, "num_keep": keep}
    messages = [Message(role, text) for role, text in said]
    request = ChatRequest.of(messages, extra={"options": options})
    try:
        left = seen(request)
    except Rejection:
        assert size(request) > window
        return
    assert size(left) <= window
    if size(request) <= window:
        assert left.messages == request.messages
    else:
        assert left.messages[-1].role == messages[-1].role
        system = sum(message.role == "system" for message in messages)
        assert sum(message.role == "system" for message in left.messages) == system


def test_a_result_stays_with_its_call() -> None:
    """A tool's answer is never cut off from the turn that asked for it."""
    call = ToolCall("call_0", "look", "{}")
    messages = [
        Message.user("word " * 100),
        Message.assistant(call),
        Message.tool("call_0", "seen"),
    ]
    left = seen(ChatRequest.of(messages, extra={"options": {"num_ctx": 20}}))
    assert left.messages == tuple(messages[1:])


async def test_an_answer_ends_with_a_window_that_must_not_shift(
    client: ollama.AsyncClient,
) -> None:
    """With `shift` false there is only so much room for it."""
    body = {"model": "mock", "messages": ASK, "stream": False, "shift": False}
    answer = await post(client, {**body, "options": {"num_ctx": 12}})
    assert (answer["done_reason"], answer["eval_count"]) == ("length", 12 - 9)


# --- models in memory --------------------------------------------------------------------------


def test_a_model_stays_in_memory_for_as_long_as_it_is_kept() -> None:
    """Five minutes if nobody says, not at all with 0, for ever below; the same when asked again."""

    async def scenario() -> None:
        async with MockServer() as server, ollama.AsyncClient(server.endpoint) as client:

            async def loaded() -> list[str | None]:
                return [model.model for model in (await client.ps()).models]

            await client.chat("mock", ASK, options={"num_ctx": 512})
            await client.chat("mock-small", ASK, keep_alive="10m")
            models = (await client.ps()).models
            assert [model.model for model in models] == ["mock-small:latest", "mock:latest"]
            assert models[1].context_length == 512
            start = datetime(2025, 1, 1, tzinfo=UTC)
            assert [m.expires_at for m in models if m.expires_at] == [
                pytest.approx(start + timedelta(minutes=wait), abs=timedelta(seconds=5))
                for wait in (10, 5)
            ]
            await anyio.sleep(301)
            assert await loaded() == ["mock-small:latest"]
            await client.chat("mock-small", ASK, keep_alive=0)
            assert await loaded() == []
            await client.chat("mock", ASK, keep_alive=-1)
            await anyio.sleep(80_000)
            assert await loaded() == ["mock:latest"]

    run_virtual(scenario)


async def test_a_model_is_loaded_and_dropped_without_a_question(
    client: ollama.AsyncClient,
) -> None:
    """An empty conversation, or an empty prompt, loads it; with `keep_alive` 0 it is dropped."""
    assert (await client.chat("mock")).done_reason == "load"
    assert [model.name for model in (await client.ps()).models] == ["mock:latest"]
    assert (await client.generate("mock", keep_alive=0)).done_reason == "unload"
    assert (await client.ps()).models == []


async def test_models_are_listed_and_shown(server: MockServer, client: ollama.AsyncClient) -> None:
    """By their names with tags; what they can do is told."""
    names = [model.model for model in (await client.list()).models]
    assert "mock-reasoning:latest" in names
    shown = await client.show("mock-reasoning:latest")
    assert "thinking" in (shown.capabilities or [])
    assert (shown.modelinfo or {})["mock.context_length"] == 128_000
    async with httpx.AsyncClient(base_url=server.endpoint) as plain:
        assert (await plain.get("/api/version")).json()["version"]
        assert (await plain.head("/api/tags")).status_code == 200


# --- generate and embed ------------------------------------------------------------------------


async def test_a_prompt_is_answered_and_gone_on_from(client: ollama.AsyncClient) -> None:
    """Whole and streamed; the context that comes back makes the next prompt a part of it."""
    whole = await client.generate("mock", QUESTION, system="Be brief.")
    parts = [
        part
        async for part in await client.generate("mock", QUESTION, system="Be brief.", stream=True)
    ]
    assert "".join(part.response or "" for part in parts) == whole.response
    assert parts[-1].context == whole.context
    again = await client.generate("mock", "And at night?", context=whole.context)
    assert (again.prompt_eval_count or 0) > (whole.prompt_eval_count or 0)
    raw = await client.generate("mock-reasoning", QUESTION, raw=True, images=[PNG])
    assert raw.context is None
    assert raw.thinking


async def test_what_a_prompt_cannot_be_is_refused(client: ollama.AsyncClient) -> None:
    """Raw with a system prompt, with a suffix, with a context of another's."""
    with pytest.raises(ollama.ResponseError, match="raw mode"):
        await client.generate("mock", QUESTION, system="Be brief.", raw=True)
    with pytest.raises(ollama.ResponseError, match="does not support insert"):
        await client.generate("mock", "def f(", suffix="return 1")
    with pytest.raises(ollama.ResponseError, match="context"):
        await client.generate("mock", QUESTION, context=[1, 2, 3])


async def test_texts_are_embedded(client: ollama.AsyncClient) -> None:
    """One or several, shortened on demand, and cut where they are longer than the window."""
    two = await client.embed("mock-embedding", ["the sky is blue", "a blue sky"])
    assert [len(vector) for vector in two.embeddings] == [256, 256]
    assert two.prompt_eval_count == 4 + 3
    short = await client.embed("mock-embedding", "the sky is blue", dimensions=64)
    (vector,) = short.embeddings
    assert len(vector) == 64
    assert sum(value * value for value in vector) == pytest.approx(1)
    assert (await client.embed("mock-embedding", [])).embeddings == []
    old = await client.embeddings("mock-embedding", "the sky is blue")
    assert old.embedding == two.embeddings[0]
    options = {"num_ctx": 3}
    cut = await client.embed("mock-embedding", "the sky is blue", options=options)
    assert cut.prompt_eval_count == 3
    with pytest.raises(ollama.ResponseError, match="exceeds the context length"):
        await client.embed("mock-embedding", "the sky is blue", truncate=False, options=options)


# --- errors ------------------------------------------------------------------------------------


async def test_errors_have_their_status_and_sentence(server: MockServer) -> None:
    """Unknown models, wrong keys, statuses that are asked for."""
    async with (
        MockServer(models=["mock"], keys=["right"]) as small,
        ollama.AsyncClient(small.endpoint, headers={"Authorization": "Bearer right"}) as client,
        ollama.AsyncClient(small.endpoint) as stranger,
    ):
        assert (await client.chat("mock:latest", ASK)).done
        with pytest.raises(ollama.ResponseError) as missing:
            await client.chat("nobody", ASK)
        with pytest.raises(ollama.ResponseError) as pull:
            await client.embed("nobody", "text")
        with pytest.raises(ollama.ResponseError) as denied:
            await stranger.chat("mock", ASK)
    assert (missing.value.status_code, missing.value.error) == (404, "model 'nobody' not found")
    assert pull.value.error == 'model "nobody" not found, try pulling it first'
    assert (denied.value.status_code, denied.value.error) == (401, "unauthorized")
    async with ollama.AsyncClient(server.endpoint) as client:
        for status in (400, 403, 429, 500, 503):
            with pytest.raises(ollama.ResponseError) as raised:
                await client.chat(f"mock;status={status}", ASK)
            assert raised.value.status_code == status
            assert ("server busy" in raised.value.error) == (status == 503)


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("POST", "/api/nothing", 404, {}),
        ("GET", "/api/chat", 405, None),
        ("POST", "/api/pull", 501, {"model": "mock"}),
        ("POST", "/api/chat", 400, None),
        ("POST", "/api/chat", 400, []),
        ("POST", "/api/chat", 400, {"messages": ASK}),
        ("POST", "/api/chat", 400, {"model": "mock", "messages": "text"}),
        ("POST", "/api/chat", 400, {"model": "mock", "messages": ["text"]}),
        ("POST", "/api/chat", 400, {"model": "mock", "messages": [{"role": "robot"}]}),
        ("POST", "/api/chat", 400, {"model": "mock", "messages": ASK, "think": "hard"}),
        ("POST", "/api/chat", 400, {"model": "mock", "messages": ASK, "think": 1}),
        ("POST", "/api/chat", 400, {"model": "mock", "messages": ASK, "keep_alive": "10"}),
        ("POST", "/api/chat", 400, {"model": "mock", "messages": ASK, "keep_alive": True}),
        ("POST", "/api/chat", 400, {"model": "mock", "messages": ASK, "tools": [{}]}),
        ("POST", "/api/chat", 400, {"model": "mock", "messages": ASK, "top_logprobs": 21}),
        ("POST", "/api/chat", 400, {"model": "mock-embedding", "messages": ASK}),
        ("POST", "/api/chat", 500, {"model": "mock", "messages": ASK, "options": {"seed": "x"}}),
        ("POST", "/api/chat", 500, {"model": "mock", "messages": ASK, "options": {"stop": "x"}}),
        ("POST", "/api/embed", 400, {"model": "mock", "input": [1]}),
        (
            "POST",
            "/api/chat",
            400,
            {
                "model": "mock",
                "messages": [
                    {
                        "role": "assistant",
                        "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
                    }
                ],
            },
        ),
    ],
)
async def test_what_no_server_would_take_is_refused(
    server: MockServer, method: str, path: str, status: int, body: Any
) -> None:
    """As a sentence under `error`; wrong addresses are told in plain text."""
    async with httpx.AsyncClient() as client:
        reply = await client.request(method, f"{server.endpoint}{path}", json=body)
    assert reply.status_code == status
    if status in {404, 405}:
        assert reply.text.startswith(str(status))
    else:
        assert reply.json()["error"]


async def test_an_error_inside_a_stream_is_raised(client: ollama.AsyncClient) -> None:
    """After what came before it; the status was a good one."""
    words, error = await failing(client, "error_at=3; error=overloaded_error")
    assert len(words) == 3
    assert error.status_code == -1
    assert "overloaded_error" in error.error
    with pytest.raises(ValueError, match="message"):
        await client.chat("mock;error=server_error", ASK)  # the client does not look for it here


# --- faults ------------------------------------------------------------------------------------


async def read(client: ollama.AsyncClient, faults: str) -> list[ollama.ChatResponse]:
    """All parts of a stream that goes wrong in a way."""
    return [part async for part in await client.chat(f"mock;{faults}", ASK, stream=True)]


async def test_a_stream_that_is_cut_is_not_done(client: ollama.AsyncClient) -> None:
    """The client takes a short stream for what it is: it never says that it is done."""
    assert [part.done for part in await read(client, "truncate=3")] == [False] * 3
    assert not any(part.done for part in await read(client, "no_done"))
    with pytest.raises(httpx.TransportError):
        await read(client, "reset=3")
    with pytest.raises(json.JSONDecodeError):
        await read(client, "malformed_at=3")


@pytest.mark.parametrize("faults", ["unknown", "line_end=crlf", "slice=7", "gzip"])
async def test_other_forms_of_the_same_are_read(client: ollama.AsyncClient, faults: str) -> None:
    """Unknown lines and fields, other ends of lines, small pieces, compression."""
    plain = "".join([part.message.content or "" for part in await read(client, "ok")])
    assert "".join([part.message.content or "" for part in await read(client, faults)]) == plain


async def test_counts_and_reasons_are_as_asked_for(client: ollama.AsyncClient) -> None:
    """Left out, zero, twice; another reason, or none."""
    assert (await read(client, "usage=none"))[-1].eval_count is None
    assert (await read(client, "usage=zero"))[-1].eval_count == 0
    *_, before, last = await read(client, "usage=twice")
    assert before.eval_count == last.eval_count is not None
    assert (await read(client, "finish=odd"))[-1].done_reason == "odd"
    assert (await read(client, "finish=none"))[-1].done_reason is None


@pytest.mark.parametrize("verb", ["pings", "ids", "bom", "no_space", "multiline", "line_end=cr"])
async def test_what_means_nothing_here_is_refused(client: ollama.AsyncClient, verb: str) -> None:
    """The verbs of server-sent events."""
    with pytest.raises(ollama.ResponseError, match="means nothing") as refused:
        await client.chat(f"mock;{verb}", ASK)
    assert refused.value.status_code == 400


# --- reading -----------------------------------------------------------------------------------


def test_a_conversation_is_read_without_loss() -> None:
    """Roles, thoughts, pictures, calls and the results that belong to them."""
    call = {"function": {"name": "look", "arguments": {"at": "é"}}}
    body = {
        "model": "mock:latest",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "See", "images": [base64.b64encode(PNG).decode()]},
            {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [call, call]},
            {"role": "tool", "tool_name": "look", "content": "one"},
            {"role": "tool", "content": "two"},
            {"role": "tool", "tool_name": "other", "content": "three"},
        ],
        "tools": [{"type": "function", "function": {"name": "look"}}],
        "think": True,
        "keep_alive": "5m",
        "options": {"num_ctx": 10, "temperature": 0.5, "num_predict": 7, "stop": ["."], "seed": -1},
    }
    request = read_ollama(body)
    assert request.model == "mock"
    assert request.reasoning_effort == "medium"
    assert (request.temperature, request.max_output_tokens, request.stop) == (0.5, 7, (".",))
    assert request.extra == {"keep_alive": "5m", "options": body["options"]}
    _, user, assistant, *results = request.messages
    assert user.parts == (Image(data=PNG, media_type="image/png"), Text("See"))
    arguments = '{"at":"é"}'
    assert assistant.parts == (
        Reasoning("Hm.", extra={"provider": "ollama"}),
        ToolCall("call_0", "look", arguments),
        ToolCall("call_1", "look", arguments),
    )
    assert [result.parts[0] for result in results] == [
        ToolResult("call_0", (Text("one"),)),
        ToolResult("call_1", (Text("two"),)),
        ToolResult("", (Text("three"),), extra={"tool_name": "other"}),
    ]


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(300, 300), (0.5, 0.5), (-1, float("inf")), ("1h30m", 5400), ("1.5s", 1.5),
     ("-5m", float("inf")), ("0", 0), ("300ms", 0.3)],
)  # fmt: skip
def test_durations_are_those_of_go(given: Any, seconds: float) -> None:
    """Numbers are seconds; texts have units; below 0 is for ever."""
    assert span(given) == pytest.approx(seconds)
