"""The transport to the Gemini API over real sockets: answers, faults, keys and addresses."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import anyio
import pytest
from google_wire import (
    COMPLETE,
    JSON,
    KEY,
    STREAM,
    TEXT,
    broken,
    chunk,
    complete,
    event,
    serving,
    stream,
    streamed,
)

import lamella
from lamella import ChatRequest, EmbeddingRequest, Outcome, Pipeline, TextDelta, TokenCountRequest
from lamella.testing import HTTPServer, Reply, transport_checks
from lamella.testing._faults import Faults
from lamella.testing._http_wire import Received
from lamella_google import Gemini, GeminiOptions

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own."""
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL",
                 "GOOGLE_GENAI_API_VERSION"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)


# --- answers -----------------------------------------------------------------------------------


async def test_complete_answer() -> None:
    """A run goes over the wire as JSON and comes back with usage, ids and raw bytes."""
    async with serving(complete()) as (server, pipeline):
        response = await pipeline.run(ChatRequest.of("hi", max_output_tokens=7))
        assert (response.text, response.finish_reason, response.model) == (TEXT, "stop", "gemini-x")
        assert response.usage == lamella.Usage(uncached_input=3, text_output=2)
        head = response.head
        assert (head.provider, head.request_id, head.id) == ("google", "req_1", "r1")
        assert response.raw is not None
        assert json.loads(response.raw) == COMPLETE
        (seen,) = server.received
        assert seen.target == "/v1/models/m:generateContent"
        assert seen.headers["x-goog-api-key"] == KEY
        assert json.loads(seen.body) == {
            "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
            "generationConfig": {"maxOutputTokens": 7},
        }


async def test_streamed_answer() -> None:
    """A stream goes over the wire as server-sent events; its connection is kept."""
    async with serving(stream()) as (server, pipeline):
        for _ in range(3):
            response = await streamed(pipeline)
            assert (response.text, response.model, response.head.id) == (TEXT, "gemini-x", "r1")
            assert response.usage == lamella.Usage(uncached_input=3, text_output=2)
        assert server.connections == 1
        assert server.received[0].target == "/v1/models/m:streamGenerateContent?alt=sse"


async def test_stream_and_run_are_alike() -> None:
    """The same answer, streamed or not, is the same; either may come in place of the other."""
    async with serving(complete(), stream(), complete(), stream()) as (_, pipeline):
        run = await pipeline.run(ChatRequest.of("hi"))
        assert (await streamed(pipeline)).answer == run.answer
        assert (await streamed(pipeline)).answer == run.answer
        assert (await pipeline.run(ChatRequest.of("hi"))).answer == run.answer


async def test_first_event_is_handed_out_at_once() -> None:
    """The first text is there while the rest of the answer is still to come."""
    async with (
        serving(stream(faults=Faults(stall_at=2))) as (server, pipeline),
        pipeline.stream(ChatRequest.of("hi")) as response,
    ):
        with anyio.fail_after(30):
            assert await anext(aiter(response)) == TextDelta("Héllo ")
    await server.until(lambda it: not it.open_connections)


async def test_embeddings_and_counts() -> None:
    """The other operations go to their own methods."""
    vectors = complete({"embeddings": [{"values": [1]}], "usageMetadata": {"promptTokenCount": 2}})
    async with serving(vectors, complete({"totalTokens": 5})) as (server, pipeline):
        found = await pipeline.run(EmbeddingRequest.of("a"))
        assert (found.vector, found.usage) == ((1.0,), lamella.Usage(uncached_input=2))
        assert (await pipeline.run(TokenCountRequest.of("hi"))).tokens == 5
        methods = [seen.target.rpartition(":")[2] for seen in server.received]
        assert methods == ["batchEmbedContents", "countTokens"]


# --- faults ------------------------------------------------------------------------------------


async def test_cut_at_every_byte() -> None:
    """A cut anywhere before the finish reason is a truncation with what had come; after it, none.

    Cuts are clean: HTTP's own end, so that only the protocol can tell.
    """
    data = b"".join(map(event, STREAM))
    over = data.index(event(STREAM[-1])) + len(event(STREAM[-1])) - 3
    cuts = [*range(0, over, 29), over - 1, over, len(data) - 1]
    replies = [
        Reply(200, stream().headers, body=[data], faults=Faults(limit_data=cut, limit_clean=True))
        for cut in cuts
    ]
    async with serving(*replies) as (_, pipeline):
        for cut in cuts:
            if cut < over:
                error = await broken(pipeline)
                assert isinstance(error, lamella.StreamTruncated), cut
                assert TEXT.startswith("" if error.partial is None else error.partial.text)
            else:
                assert (await streamed(pipeline)).text == TEXT


@pytest.mark.parametrize("after", [1, 2, 3])
async def test_reset_in_the_stream(after: int) -> None:
    """A reset before the end never ends well; its connection is not used again."""
    offset = len(b"".join(map(event, STREAM[:after])))
    async with serving(stream(faults=Faults(reset_at=offset)), stream()) as (server, pipeline):
        error = await broken(pipeline)
        assert isinstance(error, lamella.ConnectionLostError | lamella.StreamTruncated)
        assert (await streamed(pipeline)).text == TEXT
        assert server.connections == 2


@pytest.mark.parametrize("chunks", [(), STREAM[:1], ({"candidates": []},)])
async def test_empty_streams(chunks: Any) -> None:
    """A stream that does not end well is an error."""
    async with serving(stream(chunks)) as (_, pipeline):
        assert isinstance(await broken(pipeline), lamella.StreamTruncated)


@pytest.mark.parametrize("streaming", [False, True])
async def test_statuses(*, streaming: bool) -> None:
    """An error of HTTP has status, code, request id and delay, and gives its connection back."""
    said = {
        "error": {
            "code": 429,
            "message": "secret words",
            "status": "RESOURCE_EXHAUSTED",
            "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}],
        }
    }
    refused = Reply(429, JSON, body=json.dumps([said]).encode())
    async with serving(refused) as (server, pipeline):
        for _ in range(2):
            if streaming:
                error = await broken(pipeline)
            else:
                with pytest.raises(lamella.LamellaError) as caught:
                    await pipeline.run(ChatRequest.of("hi"))
                error = caught.value
            assert type(error) is lamella.RateLimitError
            assert (error.status, error.code, error.retry_after) == (429, "RESOURCE_EXHAUSTED", 7)
            assert (error.provider, error.request_id) == ("google", "req_1")
            assert "secret" not in str(error)
            assert error.attempts[0].outcome is Outcome.FAILED
        assert server.connections == 1


async def test_error_in_the_stream() -> None:
    """It is typed and comes with what had come."""
    said = {"error": {"code": 503, "message": "x", "status": "UNAVAILABLE"}}
    async with serving(stream((*STREAM[:2], said))) as (_, pipeline):
        error = await broken(pipeline)
        assert type(error) is lamella.OverloadedError
        assert error.partial is not None
        assert error.partial.text == "Héllo wörld "


async def test_what_is_left_out_is_noted() -> None:
    """In the trace of the call, by the transport's name."""
    marked = lamella.Message.user([lamella.Text("hi", extra={"cache_control": {"type": "x"}})])
    async with serving(complete()) as (_, pipeline):
        response = await pipeline.run(ChatRequest.of(marked))
        (note,) = [each for each in response.trace.notes if each.name == "request.left_out"]
        assert (note.layer, note.fields["what"]) == ("google", "cache_control")


async def test_a_loop_of_tools() -> None:
    """A sealed call goes back with its result, as it came."""
    call = {"functionCall": {"name": "f", "args": {"a": 1}, "id": "c1"}, "thoughtSignature": "cw=="}
    called = stream((chunk(call, finish="STOP"),))
    async with serving(called, stream()) as (server, pipeline):
        asked = lamella.Message.user("hi")
        response = await streamed(pipeline, [asked])
        assert response.finish_reason == "tool_calls"
        result = lamella.Message.tool("c1", "42")
        assert (await streamed(pipeline, [asked, response.message, result])).text == TEXT
        contents = json.loads(server.received[1].body)["contents"]
        assert contents[1] == {"role": "model", "parts": [call]}


# --- keys and addresses ------------------------------------------------------------------------


async def test_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`GOOGLE_API_KEY` comes first; both are for Google's own address, and never for another."""
    with pytest.raises(lamella.ConfigurationError, match="no key"):
        await Gemini().check()
    monkeypatch.setenv("GEMINI_API_KEY", "second")
    await Gemini().check()
    monkeypatch.setenv("GOOGLE_API_KEY", "first")
    seen: list[Received] = []

    async def handler(request: Received) -> Reply:
        seen.append(request)
        return complete()

    async with HTTPServer(handler) as server:
        async with Pipeline([], Gemini(base_url=server.url, model="m")) as pipeline:
            await pipeline.run(ChatRequest.of("hi"))
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        async with Pipeline([], Gemini(model="m")) as pipeline:
            await pipeline.run(ChatRequest.of("hi"))
    assert ["x-goog-api-key" in each.headers for each in seen] == [False, True]
    assert seen[1].headers["x-goog-api-key"] == "first"


@pytest.mark.parametrize(
    ("end", "version", "variable", "path"),
    [
        ("", None, None, "/v1"),
        ("/v1beta", None, None, "/v1beta"),
        ("/proxy/", None, None, "/proxy/v1"),
        ("", "v1alpha", None, "/v1alpha"),
        ("/v1beta", "v1", None, "/v1"),
        ("", None, "beta", "/v1beta"),
        ("", None, "v2", "/v2"),
    ],
)
async def test_versions(
    end: str,
    version: str | None,
    variable: str | None,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The option, the address, the variable and the SDK's default, in this order."""
    if variable is not None:
        monkeypatch.setenv("GOOGLE_GENAI_API_VERSION", variable)

    async def handler(_: Received) -> Reply:
        return complete()

    async with HTTPServer(handler) as server:
        options = GeminiOptions(api_version=version)
        transport = Gemini(KEY, base_url=server.url + end, model="m", options=options)
        async with Pipeline([], transport) as pipeline:
            await pipeline.run(ChatRequest.of("hi"))
        assert server.received[0].target == f"{path}/models/m:generateContent"


async def test_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be meant is refused with what to do."""
    with pytest.raises(lamella.ConfigurationError, match="api_version"):
        GeminiOptions(api_version="../x")
    with pytest.raises(lamella.ConfigurationError, match="base_url"):
        Gemini(base_url="ftp://x")
    monkeypatch.setenv("GOOGLE_GENAI_API_VERSION", "one")
    with pytest.raises(lamella.ConfigurationError, match="GOOGLE_GENAI_API_VERSION"):
        await Gemini(KEY).check()


async def test_health() -> None:
    """The list of models is asked for, with the key."""
    async with serving(complete({"models": []})) as (server, _):
        transport = Gemini(KEY, base_url=server.url)
        assert (await transport.health()).well
        assert server.received[0].target == "/v1/models?pageSize=1"
        await transport.aclose()
    assert not (await Gemini(KEY, base_url=server.url).health()).well


async def test_health_with_a_wrong_key() -> None:
    """A wrong key is a status of 400 at Google's, and no health; other mistakes say nothing."""
    reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    said = {"error": {"code": 400, "status": "INVALID_ARGUMENT", "details": [reason]}}
    for body, well in ((said, False), ({"error": {"code": 400}}, True)):
        async with serving(complete(body, 400)) as (server, _):
            transport = Gemini(KEY, base_url=server.url)
            health = await transport.health()
            assert (health.well, health.detail) == (well, {"status": 400})
            await transport.aclose()


async def test_names_and_fingerprints() -> None:
    """Say what it is and where it goes, and never the key."""
    transport = Gemini(KEY, base_url="https://proxy.example", options=GeminiOptions(name="g2"))
    assert (transport.name, transport.card_provider) == ("g2", "google")
    assert "proxy.example" in transport.fingerprint
    assert KEY not in repr(transport) + transport.fingerprint


async def test_conformance() -> None:
    """The transport keeps the contract over real sockets."""

    async def handler(request: Received) -> Reply:
        return stream() if "stream" in request.target else complete()

    async with HTTPServer(handler) as server:
        made = lambda: Gemini(KEY, base_url=server.url)  # noqa: E731 - a maker, for the kit
        for check in transport_checks(made, ChatRequest.of("hi", model="m")):
            await check()
        await server.until(lambda it: not it.open_connections)


def test_import_is_light() -> None:
    """Neither google-auth nor the SDK nor an HTTP library is imported with the package."""
    code = (
        "import sys, lamella_google; from lamella_google import Gemini, Vertex; "
        "Gemini('k'); Vertex('t', project='p'); "
        "heavy = {'google', 'google.auth', 'openai', 'httpx', 'httpx2', 'requests', 'pydantic'}; "
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


async def test_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are found by the names that presets use."""
    monkeypatch.setenv("GOOGLE_API_KEY", KEY)
    for name in ("google", "vertex"):
        async with Pipeline([], name) as pipeline:
            assert repr(pipeline) == f"<Pipeline [] -> {name}>"
