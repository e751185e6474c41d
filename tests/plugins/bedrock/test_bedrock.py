"""The Bedrock transport over real sockets: its answers, its faults, and what it sends."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import anyio
import pytest
from bedrock_wire import (
    CLAUDE,
    COMPLETE,
    KEYS,
    START,
    STREAM,
    TEXT,
    broken,
    complete,
    delta,
    end,
    event,
    exception,
    failed,
    frame,
    metadata,
    request,
    serving,
    stopped,
    stream,
    streamed,
)

import lamella
from lamella import ChatRequest, Outcome, Pipeline, TextDelta, TokenCountRequest, Usage
from lamella.testing import Check, MockServer, transport_checks
from lamella.testing._faults import Faults
from lamella.testing._http_server import HTTPServer
from lamella_bedrock import Bedrock, BedrockOptions

pytestmark = pytest.mark.anyio

# --- answers ---------------------------------------------------------------------------------


async def test_complete_answer() -> None:
    """A run is signed, goes over the wire as JSON and comes back with usage, id and raw bytes."""
    async with serving(complete()) as (server, pipeline):
        response = await pipeline.run(request(max_output_tokens=7))

        assert (response.text, response.finish_reason) == (TEXT, "stop")
        assert response.usage == Usage(uncached_input=3, text_output=2)
        assert (response.head.provider, response.head.request_id) == ("bedrock", "req-1")
        assert response.raw is not None
        assert json.loads(response.raw) == COMPLETE
        (attempt,) = response.trace.attempts
        assert (attempt.outcome, attempt.request_id) == (Outcome.COMPLETE, "req-1")
        (seen,) = server.received
        quoted = "us.anthropic.claude-sonnet-4-5-20250929-v1%3A0"
        assert seen.target == f"/model/{quoted}/converse"
        assert seen.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
        assert json.loads(seen.body) == {
            "messages": [{"role": "user", "content": [{"text": "hi"}]}],
            "inferenceConfig": {"maxTokens": 7},
        }


async def test_streamed_answer() -> None:
    """A stream comes as AWS's event stream; its connection is kept."""
    async with serving(stream()) as (server, pipeline):
        for _ in range(3):
            response = await streamed(pipeline)
            assert (response.text, response.finish_reason) == (TEXT, "stop")
            assert response.usage == Usage(uncached_input=3, text_output=2)
            assert response.head.request_id == "req-1"
        assert server.connections == 1
        assert server.received[0].target.endswith("/converse-stream")


async def test_stream_and_run_are_alike() -> None:
    """The same answer, streamed or not, is the same; each may come where the other was asked."""
    async with serving(complete(), stream(), complete(), stream()) as (_, pipeline):
        run = await pipeline.run(request())
        assert (await streamed(pipeline)).answer == run.answer
        assert (await streamed(pipeline)).text == TEXT
        assert (await pipeline.run(request())).text == TEXT


async def test_first_event_is_handed_out_at_once() -> None:
    """The first text is there while the rest of the answer is still to come."""
    held = stream(faults=Faults(stall_at=2))
    async with serving(held) as (server, pipeline), pipeline.stream(request()) as response:
        with anyio.fail_after(30):
            assert await anext(aiter(response)) == TextDelta("Héllo ")
    await server.until(lambda it: not it.open_connections)


@pytest.mark.parametrize("size", [1, 2, 5, 64])
async def test_pieces_of_any_size(size: int) -> None:
    """However the network cuts the stream, the events are the same."""
    async with serving(stream(), stream(faults=Faults(slice=size))) as (_, pipeline):
        whole = (await streamed(pipeline)).events
        assert (await streamed(pipeline)).events == whole


async def test_count_of_tokens() -> None:
    """A count asks for the vendor's model, as there is none of inference profiles."""
    async with serving(complete({"inputTokens": 12})) as (server, pipeline):
        asked = TokenCountRequest.of(ChatRequest.of("hi", model=CLAUDE, max_output_tokens=3))
        assert (await pipeline.run(asked)).tokens == 12
        (seen,) = server.received
        assert seen.target == "/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/count-tokens"
        said = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
        assert json.loads(seen.body) == {"input": {"converse": said}}


# --- faults ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "kind", "status"),
    [
        ("throttlingException", lamella.RateLimitError, 429),
        ("serviceUnavailableException", lamella.OverloadedError, 503),
        ("internalServerException", lamella.ServerError, 500),
        ("modelStreamErrorException", lamella.ServerError, 424),
        ("validationException", lamella.InvalidRequestError, 400),
    ],
)
@pytest.mark.parametrize("said", [0, 2])
async def test_exceptions_in_streams(frames: str, kind: type, status: int, said: int) -> None:
    """An exception inside a stream is the error it stands for, before and after the first word."""
    async with serving(stream([*STREAM[:said], exception(frames, "secret")])) as (_, pipeline):
        error = await broken(pipeline)
        assert type(error) is kind
        assert (error.status, error.request_id) == (status, "req-1")
        assert "secret" not in str(error)


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [
        ("ThrottlingException", 429, lamella.RateLimitError),
        ("ModelNotReadyException", 429, lamella.OverloadedError),
        ("AccessDeniedException", 403, lamella.PermissionDeniedError),
        ("ExpiredTokenException", 403, lamella.AuthenticationError),
        ("UnrecognizedClientException", 403, lamella.AuthenticationError),
        ("ResourceNotFoundException", 404, lamella.NotFoundError),
        ("ServiceQuotaExceededException", 400, lamella.QuotaError),
        ("ModelErrorException", 424, lamella.ServerError),
        ("ServiceUnavailableException", 503, lamella.OverloadedError),
    ],
)
@pytest.mark.parametrize("place", ["header", "body"])
async def test_exceptions_as_answers(name: str, status: int, kind: type, place: str) -> None:
    """The exception's name, in a header or in the body, says which error it is."""
    body: dict[str, Any] = {"message": "secret"}
    headers = {}
    if place == "header":
        headers = {"x_amzn_ErrorType": f"{name}:http://internal.amazon.com/coral/"}
    else:
        body["__type"] = f"com.amazon.coral.service#{name}"
    async with serving(complete(body, status, **headers)) as (_, pipeline):
        error = await failed(pipeline)
        assert type(error) is kind
        assert (error.status, error.code, error.request_id) == (status, name, "req-1")
        assert "secret" not in str(error)


@pytest.mark.parametrize(
    ("said", "kind", "status"),
    [
        ({"__type": "ThrottlingException", "message": "secret"}, lamella.RateLimitError, 429),
        ({"__type": "a.b#ValidationException", "message": "m"}, lamella.InvalidRequestError, 400),
        ({"message": "secret"}, lamella.ServerError, 500),
        ({"Output": {"__type": "a#AccessDeniedException"}}, lamella.PermissionDeniedError, 403),
    ],
)
async def test_exceptions_with_a_status_of_success(said: Any, kind: type, status: int) -> None:
    """A document that is an exception is that error, whatever was asked, and however."""
    counted = TokenCountRequest.of(request(model=CLAUDE))
    vectors = lamella.EmbeddingRequest.of("a", model="amazon.titan-embed-text-v2:0")
    async with serving(complete(said)) as (_, pipeline):
        errors = [await failed(pipeline, asked) for asked in (request(), counted, vectors)]
        errors.append(await broken(pipeline))
    for error in errors:
        assert type(error) is kind
        assert (error.status, error.request_id) == (status, "req-1")
        assert "secret" not in str(error)


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (403, "Authentication failed: Please make sure your API Key is valid.", "Authentication"),
        (403, "You don't have access to the model.", "PermissionDenied"),
        (429, "Too many tokens per day, please wait before trying again.", "Quota"),
        (429, "Too many tokens, please wait before trying again.", "RateLimit"),
    ],
)
async def test_what_only_the_sentence_says(status: int, message: str, kind: str) -> None:
    """A wrong API key and a spent day have no exception of their own."""
    async with serving(complete({"Message": message}, status)) as (_, pipeline):
        error = await failed(pipeline)
    assert type(error).__name__ == f"{kind}Error"
    assert message not in str(error)


async def test_hints() -> None:
    """What Bedrock's sentences mean to the caller is said; the sentences are not repeated."""
    message = "Invocation of model ID x with on-demand throughput isn't supported."
    body = {"message": message}
    async with serving(complete(body, 400, x_amzn_ErrorType="ValidationException")) as (_, it):
        error = await failed(it)
        assert isinstance(error, lamella.InvalidRequestError)
        assert "inference profiles" in (error.hint or "")
    body = {"message": "A conversation must start with a user message. Try again with one."}
    async with serving(complete(body, 400, x_amzn_ErrorType="ValidationException")) as (_, it):
        assert "behind the system's" in ((await failed(it)).hint or "")
    body = {"message": "Input is too long for requested model."}
    async with serving(complete(body, 400, x_amzn_ErrorType="ValidationException")) as (_, it):
        assert isinstance(await failed(it), lamella.ContextLengthError)


@pytest.mark.parametrize("frames", [STREAM[:3], STREAM[:4]])
async def test_truncated_streams(frames: tuple[bytes, ...]) -> None:
    """A stream without `messageStop` has not ended well."""
    async with serving(stream(frames)) as (_, pipeline):
        error = await broken(pipeline)
        assert isinstance(error, lamella.StreamTruncated)
        assert error.outcome is Outcome.TRUNCATED


async def test_usage_after_the_end() -> None:
    """Usage that comes after `messageStop` counts; where it does not come, it is estimated."""
    async with serving(stream(STREAM[:5])) as (_, pipeline):
        usage = (await streamed(pipeline)).usage
        assert usage is not None
        assert usage.estimated
        assert usage.text_output > 0


async def test_damaged_frames() -> None:
    """A frame that does not match its checksum is an error, and no answer."""
    bad = bytearray(STREAM[2])
    bad[-10] ^= 1
    async with serving(stream([*STREAM[:2], bytes(bad), *STREAM[3:]])) as (_, pipeline):
        assert isinstance(await broken(pipeline), lamella.ProtocolError)


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b"{}", b'{"output": 3}', b'{"a": 1}'])
async def test_no_answers(body: bytes) -> None:
    """What is no answer is a protocol error, and not an empty answer."""
    async with serving(complete(body)) as (_, pipeline):
        assert isinstance(await failed(pipeline), lamella.ProtocolError)


async def test_a_prompt_that_was_blocked() -> None:
    """Where a filter let nothing be said, the request was filtered; words are an answer."""
    spent = {"inputTokens": 3, "outputTokens": 0, "totalTokens": 3}
    blocked = (START, stopped("guardrail_intervened"), metadata(spent))
    async with serving(stream(blocked)) as (_, pipeline):
        error = await broken(pipeline)
        assert isinstance(error, lamella.ContentFilteredError)
        assert error.usage == Usage(uncached_input=3)
    told = (START, delta({"text": "No."}), end(), stopped("guardrail_intervened"), metadata(spent))
    async with serving(stream(told)) as (_, pipeline):
        response = await streamed(pipeline)
        assert (response.text, response.finish_reason) == ("No.", "content_filter")


async def test_events_of_tomorrow() -> None:
    """An event that nobody knows is passed on, and changes nothing."""
    frames = [STREAM[0], event("weather", {"rain": True}), *STREAM[1:]]
    async with serving(stream(frames)) as (_, pipeline):
        response = await streamed(pipeline)
        assert response.text == TEXT
        opaque = [e for e in response.events if isinstance(e, lamella.Opaque)]
        assert opaque == [lamella.Opaque({"weather": {"rain": True}}, "bedrock", content=False)]


@pytest.mark.parametrize("payload", [b"", b"\x00\xff", b"[]"])
async def test_events_of_tomorrow_that_are_not_json(payload: bytes) -> None:
    """An event that nobody knows may hold anything: the answer goes on."""
    odd = frame({":event-type": "beat", ":message-type": "event"}, payload)
    async with serving(stream([STREAM[0], odd, *STREAM[1:]])) as (_, pipeline):
        response = await streamed(pipeline)
    assert response.text == TEXT
    assert any(isinstance(e, lamella.Opaque) and "beat" in e.data for e in response.events)


# --- the contract ----------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [False, True])
async def test_the_contract(streams: bool) -> None:
    """The transport keeps the contract over real sockets."""
    reply = stream() if streams else complete()

    async def handler(_: object) -> Any:
        return reply

    async with HTTPServer(handler) as server:

        def make() -> Bedrock:
            options = BedrockOptions(**KEYS)
            return Bedrock(region="eu-west-1", endpoint_url=server.url, options=options)

        checks: list[Check] = list(transport_checks(make, ChatRequest.of("hi", model=CLAUDE)))
        for check in checks:
            await check()
        await server.until(lambda it: not it.open_connections)
    assert checks


async def test_the_contract_with_the_mock_server() -> None:
    """The transport keeps the contract against a server that was written from botocore's model."""
    # A few words: it is cancelled at each step, and each word takes the same ones.
    async with MockServer(answer=lambda _: "Light of short waves scatters.") as server:
        url = server.url.removesuffix("/v1")

        def make() -> Bedrock:
            return Bedrock(region="eu-west-1", endpoint_url=url, options=BedrockOptions(**KEYS))

        for check in transport_checks(make, ChatRequest.of("hi", model="mock")):
            await check()
        await server.until(lambda it: it.open_connections == 0)


def test_transports_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """What answers for one region, endpoint or profile is not what answers for another."""
    made = [
        Bedrock(region="eu-west-1"),
        Bedrock(region="us-east-1"),
        Bedrock(region="us-east-1", endpoint_url="https://gateway.example.org"),
        Bedrock(region="us-east-1", profile="other"),
        Bedrock(region="us-east-1", options=BedrockOptions(fips=True)),
    ]
    assert len({each.fingerprint for each in made}) == len(made)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert Bedrock().fingerprint == made[0].fingerprint
    monkeypatch.setenv("AWS_REGION", "no region")
    assert Bedrock().fingerprint


async def test_by_name() -> None:
    """The transport goes by its name in presets."""
    async with Pipeline([], "bedrock") as pipeline:
        assert "bedrock" in repr(pipeline).lower()


def test_import_is_light() -> None:
    """Importing the transport imports neither botocore nor an HTTP library."""
    code = "import lamella_bedrock, sys; lamella_bedrock.Bedrock(region='us-east-1'); "
    code += "print([m for m in ('botocore', 'httpx', 'httpx2', 'openai') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
