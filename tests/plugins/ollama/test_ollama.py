"""The Ollama transport over real sockets: its answers, its faults, what it sends, and to whom."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from conversations import PIXEL
from ollama_wire import (
    LINES,
    NAME,
    STREAM,
    TEXT,
    USAGE,
    answer,
    asked,
    complete,
    line,
    serving,
    stream,
    streamed,
    written,
)

from lamella import (
    AuthenticationError,
    ChatRequest,
    ConfigurationError,
    ContextLengthError,
    EmbeddingRequest,
    Image,
    InvalidRequestError,
    LamellaError,
    Message,
    NotFoundError,
    OverloadedError,
    Pipeline,
    ProtocolError,
    RateLimitError,
    Reasoning,
    ResponseTooLargeError,
    ServerError,
    StreamTruncated,
    TokenCountRequest,
    Tool,
    UnsupportedError,
)
from lamella.testing import HTTPServer, MockServer, Reply, transport_checks
from lamella.testing._faults import Faults
from lamella.testing._http_wire import Received
from lamella.transports import HTTPOptions
from lamella_ollama import Ollama, OllamaOptions

pytestmark = pytest.mark.anyio

WORDS = "word " * 300
WEATHER = Tool(
    "get_weather",
    "How the weather is",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of whoever runs these tests counts."""
    for name in ("OLLAMA_HOST", "OLLAMA_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def notes(response: Any, name: str) -> list[dict[str, Any]]:
    """What the trace of an answer says under a name."""
    return [dict(note.fields) for note in response.trace.notes if note.name == name]


# --- answers ---------------------------------------------------------------------------------


async def test_complete_answer() -> None:
    """A run goes over the wire as JSON and comes back with usage and raw bytes."""
    async with serving(complete()) as (server, pipeline):
        response = await pipeline.run(asked(max_output_tokens=7))
        assert (response.text, response.finish_reason, response.usage) == (TEXT, "stop", USAGE)
        assert (response.head.provider, response.model) == (NAME, "tiny")
        assert json.loads(response.raw or b"") == answer()
        (seen,) = server.received
        assert seen.target == "/api/chat"
        assert "authorization" not in seen.headers
        assert "lamella-ollama/" in seen.headers["user-agent"]
        assert json.loads(seen.body) == {
            "model": "tiny",
            "messages": [{"role": "user", "content": "hi"}],
            "stream": False,
            "options": {"num_predict": 7},
        }


async def test_streamed_answer() -> None:
    """A stream goes over the wire as lines; its connection is kept."""
    async with serving(stream()) as (server, pipeline):
        for _ in range(3):
            response = await streamed(pipeline)
            assert (response.text, response.model, response.usage) == (TEXT, "tiny", USAGE)
        assert server.connections == 1
        (seen, *_) = server.received
        assert seen.headers["accept"] == "application/x-ndjson"
        assert json.loads(seen.body)["stream"] is True


async def test_stream_and_run_are_alike() -> None:
    """The same answer, streamed or not, asked for one way and given the other, is the same."""
    async with serving(complete(), stream(), stream(), complete()) as (_, pipeline):
        run = await pipeline.run(asked())
        assert (await streamed(pipeline)).answer == run.answer
        assert (await pipeline.run(asked())).answer == run.answer
        assert (await streamed(pipeline)).answer == run.answer


async def test_the_options_go_with_every_request() -> None:
    """In the words of the API; a request says otherwise by its `extra`."""
    options: dict[str, Any] = {
        "num_ctx": 8_192,
        "keep_alive": timedelta(minutes=10),
        "truncate": False,
        "shift": False,
        "model_options": {"top_k": 40},
        "headers": {"X-Team": "t"},
    }
    async with serving(complete(), **options) as (server, pipeline):
        await pipeline.run(asked())
        await pipeline.run(asked(extra={"keep_alive": -1, "options": {"num_ctx": 64}}))
        first, second = (json.loads(seen.body) for seen in server.received)
        assert first["options"] == {"top_k": 40, "num_ctx": 8_192}
        assert (first["keep_alive"], first["truncate"], first["shift"]) == (600, False, False)
        assert (second["keep_alive"], second["options"]["num_ctx"]) == (-1, 64)
        assert server.received[0].headers["x-team"] == "t"


async def test_what_only_advises_is_left_out_with_a_note() -> None:
    """And an effort that there is not becomes the nearest."""
    async with serving(complete()) as (server, pipeline):
        request = asked(service_tier="flex", parallel_tool_calls=False, reasoning_effort="minimal")
        response = await pipeline.run(request)
        dropped = notes(response, "parameter.drop")
        assert {note["parameter"] for note in dropped} == {"service_tier", "parallel_tool_calls"}
        assert [note["parameter"] for note in notes(response, "parameter.replace")] == [
            "reasoning_effort"
        ]
        sent = json.loads(server.received[0].body)
        assert sent["think"] == "low"
        assert sent.keys() == {"model", "messages", "stream", "think"}


async def test_it_counts_no_tokens() -> None:
    """The API has no words for it."""
    async with serving(complete()) as (_, pipeline):
        with pytest.raises(UnsupportedError):
            await pipeline.run(TokenCountRequest.of("hi", model="tiny"))


# --- how streams end -------------------------------------------------------------------------


async def test_cut_at_every_line() -> None:
    """A cut before the last line is a truncation with what had come, or no answer at all."""
    for count in range(len(STREAM)):
        async with serving(stream(STREAM[:count])) as (_, pipeline):
            with pytest.raises(StreamTruncated) as caught:
                await streamed(pipeline)
            assert caught.value.committed == (count > 0)


async def test_half_a_line_is_a_truncation() -> None:
    """And no nonsense."""
    data = written(*STREAM)
    for cut in (1, 2, 40):
        async with serving(Reply(200, LINES, body=[data[: -1 - cut]])) as (_, pipeline):
            with pytest.raises(StreamTruncated):
                await streamed(pipeline)
    async with serving(Reply(200, LINES, body=[data[:-1]])) as (_, pipeline):
        assert (await streamed(pipeline)).text == TEXT


@pytest.mark.parametrize("size", [1, 3, 64])
async def test_pieces_of_any_size(size: int) -> None:
    """However the network cuts the stream, the events are the same."""
    async with serving(stream(), stream(faults=Faults(slice=size))) as (_, pipeline):
        assert (await streamed(pipeline)).events == (await streamed(pipeline)).events


async def test_an_error_inside_a_stream() -> None:
    """Before the first word it is the error itself, after it a stream that broke."""
    for begun in ([], [line("a")]):
        async with serving(stream([*begun, {"error": "out of memory"}])) as (_, pipeline):
            with pytest.raises(ServerError) as caught:
                await streamed(pipeline)
            assert caught.value.committed == bool(begun)


async def test_a_line_has_a_bound() -> None:
    """That of the HTTP options."""
    http = HTTPOptions(max_message_bytes=1_000)
    async with serving(stream([line("x" * 2_000)]), http=http) as (_, pipeline):
        with pytest.raises(ResponseTooLargeError):
            await streamed(pipeline)


async def test_a_page_in_place_of_an_answer() -> None:
    """Is told as one, streamed or not."""
    reply = Reply(200, [("Content-Type", "text/html")], body=b"<html>Sign in</html>")
    async with serving(reply) as (_, pipeline):
        for ask in (pipeline.run, partial(streamed, pipeline)):
            with pytest.raises(ProtocolError, match="HTML"):
                await ask(asked())


# --- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "sentence", "kind"),
    [
        (400, "the input length exceeds the context length", ContextLengthError),
        (400, '"tiny" does not support thinking', InvalidRequestError),
        (401, "unauthorized", AuthenticationError),
        (404, "model 'tiny' not found", NotFoundError),
        (429, "too many requests", RateLimitError),
        (500, "an error was encountered while running the model", ServerError),
        (502, "the cloud cannot be reached", ServerError),
        (503, "server busy, please try again.  maximum pending requests exceeded", OverloadedError),
    ],
)
async def test_errors(status: int, sentence: str, kind: type[LamellaError]) -> None:
    """Each is of its own kind, also where a stream was asked for; no sentence is repeated."""
    async with serving(complete({"error": sentence}, status)) as (_, pipeline):
        for ask in (pipeline.run, partial(streamed, pipeline)):
            with pytest.raises(kind) as caught:
                await ask(asked())
            assert type(caught.value) is kind
            assert caught.value.status == status
            assert " " not in sentence or sentence not in str(caught.value)


async def test_a_model_that_is_not_there_can_be_pulled() -> None:
    """The hint says how."""
    async with serving(complete({"error": "model 'x' not found"}, 404)) as (_, pipeline):
        with pytest.raises(NotFoundError) as caught:
            await pipeline.run(asked())
        assert "ollama pull" in (caught.value.hint or "")


# --- where requests go, and with which key ---------------------------------------------------


@pytest.mark.parametrize(
    ("given", "address"),
    [
        (":56789", "http://127.0.0.1:56789"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        ("1.2.3.4:56789", "http://1.2.3.4:56789"),
        ("0.0.0.0:56789", "http://127.0.0.1:56789"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("http://:56789/", "http://127.0.0.1:56789"),
        ("http://1.2.3.4", "http://1.2.3.4"),
        ("https://example.com/", "https://example.com"),
        ("example.com/path/", "http://example.com:11434/path"),
        ("example.com:56789/path", "http://example.com:56789/path"),
        ("http://localhost:11434/v1", "http://localhost:11434"),
        ("https://ollama.com/api", "https://ollama.com"),
        ("ollama.com", "https://ollama.com"),
        ("::1", "http://[::1]:11434"),
        ("[::1]:56789", "http://[::1]:56789"),
        ("[::]", "http://[::1]:11434"),
        (" example.com ", "http://example.com:11434"),
    ],
)
def test_addresses(given: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server is named as Ollama's own clients let it be named, here and in the variable."""
    named = Ollama(base_url=given)
    assert named.fingerprint.endswith(f":{NAME}:{address}")
    monkeypatch.setenv("OLLAMA_HOST", given)
    assert Ollama().fingerprint == named.fingerprint


def test_without_a_name_it_is_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is empty names nothing."""
    assert Ollama().fingerprint.endswith(":http://127.0.0.1:11434")
    monkeypatch.setenv("OLLAMA_HOST", " ")
    assert Ollama().fingerprint.endswith(":http://127.0.0.1:11434")


@pytest.mark.parametrize("wrong", ["ftp://x", "http://user:pw@x", "a b", "x:port", "x?y"])
async def test_addresses_that_are_none(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Are told by where they came from."""
    with pytest.raises(ConfigurationError, match="base_url"):
        Ollama(base_url=wrong)
    monkeypatch.setenv("OLLAMA_HOST", wrong)
    assert Ollama().fingerprint.endswith(f"{NAME}:")
    with pytest.raises(ConfigurationError, match="OLLAMA_HOST"):
        await Ollama().check()


async def test_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given goes anywhere; the variable's not to a server that the program names."""

    async def handler(_: Received) -> Reply:
        return complete()

    async with HTTPServer(handler) as server:
        monkeypatch.setenv("OLLAMA_API_KEY", "key-of-the-variable")
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        for transport in (
            Ollama(),
            Ollama(base_url=server.url),
            Ollama(base_url=server.url, api_key="env:OLLAMA_API_KEY"),
        ):
            async with Pipeline([], transport) as pipeline:
                await pipeline.run(asked())
                assert (await transport.health()).well
        sent = [each.headers.get("authorization") for each in server.received]
        bearer = "Bearer key-of-the-variable"
        assert sent == [bearer, bearer, None, None, bearer, bearer]
        assert {each.target for each in list(server.received)[1::2]} == {"/api/tags"}


async def test_the_cloud_wants_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is asked for before anything is sent."""
    with pytest.raises(ConfigurationError, match="has no key") as caught:
        await Ollama(base_url="https://ollama.com").check()
    assert "OLLAMA_API_KEY" in (caught.value.hint or "")
    monkeypatch.setenv("OLLAMA_API_KEY", "key-0123456789")
    await Ollama(base_url="https://ollama.com").check()


async def test_its_name() -> None:
    """By which presets know it, beside the compatible endpoint."""
    pipeline = Pipeline([], "ollama-native")
    assert isinstance(pipeline.transport, Ollama)
    await pipeline.aclose()


# --- the mock provider -----------------------------------------------------------------------


def mock(server: MockServer, **options: Any) -> Pipeline:
    """A pipeline to a server that speaks the API."""
    transport = Ollama(
        base_url=server.endpoint, model="mock-reasoning", options=OllamaOptions(**options)
    )
    return Pipeline([], transport)


async def test_a_conversation_with_tools() -> None:
    """Thoughts, parallel calls, their results and the answer; sent back as they came."""
    words = 'Use get_weather({"city": "Rome"}) and get_weather({"city": "Zürich"}).'
    async with MockServer() as server, mock(server) as pipeline:
        asking = ChatRequest.of(words, tools=[WEATHER])
        first = await pipeline.run(asking)
        assert first.finish_reason == "tool_calls"
        assert any(isinstance(part, Reasoning) for part in first.message.parts)
        assert (await streamed(pipeline, asking)).message == first.message
        cities = [json.loads(call.arguments)["city"] for call in first.tool_calls]
        assert cities == ["Rome", "Zürich"]
        results = [
            Message.tool(call.id, f"snow in {city}")
            for call, city in zip(first.tool_calls, cities, strict=True)
        ]
        told = asking.evolve(messages=[*asking.messages, first.message, *results])
        second = await pipeline.run(told)
        assert "“snow in Rome”" in second.text
        assert "“snow in Zürich”" in second.text


async def test_pictures_shapes_and_embeddings() -> None:
    """As the server reads them."""
    async with MockServer() as server, mock(server) as pipeline:
        picture = Message.user(["Look:", Image(data=PIXEL, media_type="image/png")])
        seen = await pipeline.run(ChatRequest.of([picture]))
        assert seen.usage is not None
        assert seen.usage.input_tokens > 85
        schema = {
            "type": "object",
            "properties": {"a": {"type": "string"}},
            "required": ["a"],
        }
        shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        shaped = await pipeline.run(ChatRequest.of("Hi", response_format=shape))
        assert json.loads(shaped.text).keys() == {"a"}
        request = EmbeddingRequest.of(["a", "b"], model="mock-embedding", dimensions=16)
        found = await pipeline.run(request)
        assert [len(vector) for vector in found.vectors] == [16, 16]
        assert found.usage is not None
        assert found.usage.input_tokens == 2


async def test_log_probabilities() -> None:
    """One for each token of the text."""
    async with MockServer() as server, mock(server) as pipeline:
        whole = await pipeline.run(ChatRequest.of("mock: say Hi there.", logprobs=1))
        pieces = await streamed(pipeline, ChatRequest.of("mock: say Hi there.", logprobs=1))
        assert "".join(each["token"] for each in whole.choices[0].logprobs) == whole.text
        assert pieces.choices[0].logprobs == whole.choices[0].logprobs


async def test_a_model_stays_as_long_as_is_asked() -> None:
    """`keep_alive` and the window reach the server; an empty conversation only loads the model."""
    async with MockServer() as server, mock(server, num_ctx=512, keep_alive="1h") as pipeline:
        loaded = await pipeline.run(ChatRequest.of([]))
        assert (loaded.text, loaded.finish_reason) == ("", "load")
        sent = server.requests[-1].json
        assert (sent["keep_alive"], sent["options"]["num_ctx"]) == ("1h", 512)
        gone = await pipeline.run(ChatRequest.of([], extra={"keep_alive": 0}))
        assert gone.finish_reason == "unload"


async def test_a_prompt_that_was_cut_is_noted() -> None:
    """Where more words were sent than the window has tokens, streamed or not."""
    async with MockServer() as server, mock(server, num_ctx=100) as pipeline:
        long = ChatRequest.of(WORDS)
        for response in (await pipeline.run(long), await streamed(pipeline, long)):
            (note,) = notes(response, "ollama.prompt_cut")
            assert (note["num_ctx"], note["words"]) == (100, 300)
            assert 0 < note["prompt_eval_count"] <= 100
        several = EmbeddingRequest.of(["short", WORDS], model="mock-embedding")
        assert notes(await pipeline.run(several), "ollama.prompt_cut")
        wide = long.evolve(extra={"options": {"num_ctx": 2_000}})
        assert not notes(await pipeline.run(wide), "ollama.prompt_cut")
        many = EmbeddingRequest.of(["some words " * 20] * 20, model="mock-embedding")
        assert not notes(await pipeline.run(many), "ollama.prompt_cut")


@pytest.mark.parametrize(
    ("more", "counts"),
    [
        ({}, {"prompt_eval_count": 301, "eval_count": 1}),
        ({}, {"eval_count": 1}),
        ({"remote_model": "big", "remote_host": "https://ollama.com"}, {"prompt_eval_count": 50}),
    ],
)
async def test_what_may_not_have_been_cut_is_not_noted(more: Any, counts: Any) -> None:
    """Where the counts say otherwise, or nothing, or another server had the window."""
    said = {**line("a", done=True), "done_reason": "stop", **more, **counts}
    async with serving(complete(said), num_ctx=100) as (_, pipeline):
        assert not notes(await pipeline.run(asked(WORDS)), "ollama.prompt_cut")


async def test_a_long_prompt_is_refused_if_it_must_not_be_cut() -> None:
    """By `truncate=False`."""
    async with MockServer() as server, mock(server, num_ctx=100, truncate=False) as pipeline:
        with pytest.raises(ContextLengthError):
            await pipeline.run(ChatRequest.of(WORDS))


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("truncate=3", StreamTruncated),
        ("no_done", StreamTruncated),
        ("error_at=2", ServerError),
        ("error=server_error", ServerError),
        ("status=503", OverloadedError),
        ("status=429", RateLimitError),
        ("status=404", NotFoundError),
    ],
)
async def test_faults_of_the_mock(fault: str, kind: type[LamellaError]) -> None:
    """Each is the error that it stands for."""
    async with MockServer() as server, mock(server) as pipeline:
        with pytest.raises(kind):
            await streamed(pipeline, ChatRequest.of("Hi", model=f"mock;{fault}"))


@pytest.mark.parametrize("fault", ["unknown", "slice=1", "usage=none", "usage=twice", "gzip"])
async def test_what_does_not_harm(fault: str) -> None:
    """The text is the same."""
    async with MockServer() as server, mock(server) as pipeline:
        whole = await pipeline.run(ChatRequest.of("Hi", model="mock"))
        model = f"mock;{fault}"
        assert (await streamed(pipeline, ChatRequest.of("Hi", model=model))).text == whole.text
        found = await pipeline.run(ChatRequest.of("Hi", model=model))
        assert (found.text, found.usage is not None) == (whole.text, True)


@pytest.mark.parametrize("operation", ["chat", "embeddings"])
async def test_the_contract_of_transports(operation: str) -> None:
    """It keeps it over real sockets."""
    request: Any = ChatRequest.of("Why is the sky blue?", model="mock")
    if operation == "embeddings":
        request = EmbeddingRequest.of(["one", "two"], model="mock-embedding")
    # A few words: it is cancelled at each step, and each word takes the same ones.
    answer = None if operation == "embeddings" else lambda _: "Light of short waves scatters."
    async with MockServer(answer=answer) as server:
        checks = transport_checks(lambda: Ollama(base_url=server.endpoint), request)
        for check in checks:
            await check()
        await server.until(lambda it: it.open_connections == 0)
        assert len(server.requests) > len(checks)


# --- imports ---------------------------------------------------------------------------------


def test_importing_it_imports_no_client() -> None:
    """Neither Ollama's nor OpenAI's, and no HTTP library."""
    script = (
        "import sys, lamella_ollama as lo; lo.Ollama();"
        "bad = {'ollama', 'openai', 'httpx', 'httpx2', 'pydantic'} & sys.modules.keys();"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
