"""The OpenAI transport over real sockets: its answers, its faults, and what it sends to whom."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

import lamella
from lamella import ChatRequest, ChatResponse, Event, Finish, Outcome, Pipeline, TextDelta
from lamella._limits import Limits
from lamella.testing._faults import Faults
from lamella.testing._http_framing import Reply
from lamella.testing._http_server import HTTPServer
from lamella.testing._http_wire import Received
from lamella.transports import HTTPOptions, HTTPReply, HTTPRequest, OpenAI, OpenAIOptions

pytestmark = pytest.mark.anyio

KEY = "sk-test-0123456789"
SSE = [("Content-Type", "text/event-stream; charset=utf-8"), ("X-Request-Id", "req_1")]
JSON = [("Content-Type", "application/json"), ("X-Request-Id", "req_1")]
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def message(data: object) -> bytes:
    """One message of a stream."""
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    """One chunk of a streamed chat completion."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return message({"id": "c1", "model": "m-1", "choices": [choice], **more})


USAGE_CHUNK = message({"id": "c1", "model": "m-1", "choices": [], "usage": USAGE})
DONE = b"data: [DONE]\n\n"
STREAM = (
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Héllo "}),
    chunk({"content": "wörld 😀"}),
    chunk(finish="stop"),
    USAGE_CHUNK,
    DONE,
)
TEXT = "Héllo wörld 😀"
COMPLETE = {
    "id": "c1",
    "model": "m-1",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
    ],
    "usage": USAGE,
}


def stream(chunks: Sequence[bytes] = STREAM, faults: Faults | None = None, **more: Any) -> Reply:
    """A streamed answer."""
    return Reply(200, SSE, body=list(chunks), faults=faults, **more)


def complete(body: object = COMPLETE, faults: Faults | None = None, status: int = 200) -> Reply:
    """A complete answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, JSON, body=data, faults=faults)


@asynccontextmanager
async def serving(*replies: Reply, **options: Any) -> AsyncIterator[tuple[HTTPServer, Pipeline]]:
    """A server that gives these replies in turn, the last for ever, and a pipeline to it."""
    left = list(replies)

    async def handler(request: Received) -> Reply:
        return left.pop(0) if len(left) > 1 else left[0]

    more = {name: options.pop(name) for name in ("api", "model", "endpoint") if name in options}
    async with HTTPServer(handler) as server:
        made = OpenAIOptions(name="acme", **options)
        transport = OpenAI(KEY, base_url=f"{server.url}/v1", options=made, **more)
        async with Pipeline([], transport) as pipeline:
            yield server, pipeline


def request(**fields: Any) -> ChatRequest:
    """A small request."""
    return ChatRequest.of("hi", **{"model": "m", **fields})


def limited(**limits: float) -> ChatRequest:
    """A small request with limits in time."""
    return request(context=lamella.Context(limits=Limits(**limits)))


async def streamed(pipeline: Pipeline, asked: ChatRequest | None = None) -> ChatResponse:
    """The answer, read to its end as a stream."""
    async with pipeline.stream(asked or request()) as response:
        await response.collect()
    return response


async def broken(pipeline: Pipeline, asked: ChatRequest | None = None) -> lamella.LamellaError:
    """The error with which a stream ends, before or after its first event."""
    with pytest.raises(lamella.LamellaError) as caught:
        await streamed(pipeline, asked)
    return caught.value


async def failed(pipeline: Pipeline, asked: ChatRequest | None = None) -> lamella.LamellaError:
    """The error with which a run ends."""
    with pytest.raises(lamella.LamellaError) as caught:
        await pipeline.run(asked or request())
    return caught.value


# --- answers ---------------------------------------------------------------------------------


async def test_complete_answer() -> None:
    """A run goes over the wire as JSON and comes back with usage, ids, headers and raw bytes."""
    async with serving(complete()) as (server, pipeline):
        response = await pipeline.run(request(max_output_tokens=7))
        assert (response.text, response.finish_reason, response.model) == (TEXT, "stop", "m-1")
        assert response.usage == lamella.Usage(uncached_input=3, text_output=2)
        head = response.head
        assert (head.provider, head.request_id, head.id, head.status) == (
            "acme",
            "req_1",
            "c1",
            200,
        )
        assert response.raw is not None
        assert json.loads(response.raw) == COMPLETE
        (attempt,) = response.trace.attempts
        assert (attempt.outcome, attempt.request_id) == (Outcome.COMPLETE, "req_1")
        (seen,) = server.received
        assert seen.target == "/v1/chat/completions"
        assert seen.headers["authorization"] == f"Bearer {KEY}"
        assert seen.headers["content-type"] == "application/json"
        assert json.loads(seen.body) == {
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "max_completion_tokens": 7,
        }


async def test_streamed_answer() -> None:
    """A stream goes over the wire as server-sent events; its connection is kept."""
    async with serving(stream()) as (server, pipeline):
        for _ in range(3):
            response = await streamed(pipeline)
            assert (response.text, response.model, response.head.id) == (TEXT, "m-1", "c1")
            assert response.usage == lamella.Usage(uncached_input=3, text_output=2)
            assert response.head.request_id == "req_1"
        assert server.connections == 1
        sent = json.loads(server.received[0].body)
        assert (sent["stream"], sent["stream_options"]) == (True, {"include_usage": True})


async def test_stream_and_run_are_alike() -> None:
    """The same answer, streamed or not, is the same."""
    async with serving(complete(), stream()) as (_, pipeline):
        run = await pipeline.run(request())
        assert (await streamed(pipeline)).answer == run.answer


async def test_stream_that_comes_complete() -> None:
    """A server may answer a stream's request with a complete answer, and the other way round."""
    async with serving(complete(), stream()) as (_, pipeline):
        assert (await streamed(pipeline)).text == TEXT
        assert (await pipeline.run(request())).text == TEXT


async def test_first_event_is_handed_out_at_once() -> None:
    """The first text is there while the rest of the answer is still to come."""
    held = stream(faults=Faults(stall_at=2))
    async with serving(held) as (server, pipeline), pipeline.stream(request()) as response:
        with anyio.fail_after(5):
            assert await anext(aiter(response)) == TextDelta("Héllo ")
    await server.until(lambda it: not it.open_connections)


@pytest.mark.parametrize("size", [1, 2, 5, 64])
async def test_pieces_of_any_size(size: int) -> None:
    """However the network cuts the stream, the events are the same."""
    async with serving(stream(), stream(faults=Faults(slice=size))) as (_, pipeline):
        whole: tuple[Event, ...] = (await streamed(pipeline)).events
        assert (await streamed(pipeline)).events == whole


KEEPALIVES = (
    b"\xef\xbb\xbf: ping\n\n",
    STREAM[0].replace(b"\n", b"\r\n"),
    b"id: 5\n: ping\n\n",
    STREAM[1].replace(b"data: ", b"event: message\nretry: 3\ndata:"),
    b"event: ping\ndata:\n\n",
    STREAM[2].replace(b"\n", b"\r"),
    b"\n\n\n",
    *STREAM[3:],
)


async def test_keepalives_and_odd_framing() -> None:
    """Comments, ids, other line ends and a byte order mark change nothing."""
    async with serving(stream(), stream(KEEPALIVES)) as (_, pipeline):
        whole = (await streamed(pipeline)).events
        assert (await streamed(pipeline)).events == whole


async def test_gzip() -> None:
    """Compressed answers are read."""
    gzip = Faults(gzip=True)
    async with serving(complete(faults=gzip), stream(faults=gzip)) as (_, pipeline):
        assert (await pipeline.run(request())).text == TEXT
        assert (await streamed(pipeline)).text == TEXT


# --- how streams end -------------------------------------------------------------------------


async def test_cut_at_every_byte() -> None:
    """A cut anywhere before the terminal signal is a truncation with what had come; after it, none.

    Cuts are clean: HTTP's own end, so that only the protocol can tell.
    """
    data = b"".join(STREAM)
    over = data.index(USAGE_CHUNK) - 1  # the finish reason's line is complete
    cuts = [*range(0, over, 13), over - 1, over, over + 1, len(data) - 9, len(data) - 1]
    replies = [
        Reply(200, SSE, body=[data], faults=Faults(limit_data=cut, limit_clean=True))
        for cut in cuts
    ]
    async with serving(*replies) as (_, pipeline):
        for cut in cuts:
            if cut < over:
                error = await broken(pipeline)
                assert isinstance(error, lamella.StreamTruncated), cut
                assert TEXT.startswith("" if error.partial is None else error.partial.text)
            else:
                response = await streamed(pipeline)
                assert response.text == TEXT
                assert response.finish_reason == "stop"


@pytest.mark.parametrize("faults", [Faults(fin_no_terminator=1), Faults(until_close=True)])
async def test_missing_done(faults: Faults) -> None:
    """An answer with its finish reason is complete without `[DONE]`, however HTTP ends."""
    async with serving(stream(faults=faults)) as (_, pipeline):
        assert (await streamed(pipeline)).usage == lamella.Usage(uncached_input=3, text_output=2)


async def test_end_right_after_the_finish_reason() -> None:
    """Without usage the answer is complete, and its usage, if any, is said to be estimated."""
    async with serving(stream(faults=Faults(fin_no_terminator=2))) as (_, pipeline):
        response = await streamed(pipeline)
        assert response.text == TEXT
        assert response.usage is None or response.usage.estimated


@pytest.mark.parametrize("after", [1, 2, 3])
async def test_reset_in_the_stream(after: int) -> None:
    """A reset before the terminal signal never ends well; its connection is not used again."""
    offset = len(b"".join(STREAM[:after]))
    async with serving(stream(faults=Faults(reset_at=offset)), stream()) as (server, pipeline):
        error = await broken(pipeline)
        assert isinstance(error, lamella.ConnectionLostError | lamella.StreamTruncated)
        assert (await streamed(pipeline)).text == TEXT
        assert server.connections == 2


@pytest.mark.parametrize("chunks", [(), (b": ping\n\n",) * 3, (b"\n",), STREAM[:1], (DONE,)])
async def test_empty_streams(chunks: Sequence[bytes]) -> None:
    """A stream that says nothing is an error before anything is committed."""
    async with serving(stream(chunks)) as (_, pipeline):
        error = await broken(pipeline)
        assert isinstance(error, lamella.StreamTruncated | lamella.ProtocolError)
        assert error.retryable
        assert not error.committed


async def test_late_end_of_the_message_costs_little() -> None:
    """If HTTP's end does not follow at once, the answer does not wait, and the connection goes."""
    late = stream(faults=Faults(slow_close=math.inf))
    async with serving(late) as (server, pipeline):
        with anyio.fail_after(5):
            assert (await streamed(pipeline)).text == TEXT
            await server.until(lambda it: not it.open_connections)


# --- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [False, True])
async def test_statuses(*, streaming: bool) -> None:
    """An error of HTTP has status, code, hint, request id, and gives its connection back."""
    sent = {"error": {"message": "secret words", "code": "rate_limit_exceeded", "type": "tokens"}}
    refused = Reply(429, [*JSON, ("Retry-After", "7")], body=json.dumps(sent).encode())
    async with serving(refused) as (server, pipeline):
        for _ in range(3):
            error = await (broken if streaming else failed)(pipeline)
            assert type(error) is lamella.RateLimitError
            assert (error.status, error.code, error.retry_after) == (429, "rate_limit_exceeded", 7)
            assert (error.provider, error.request_id) == ("acme", "req_1")
            assert "secret" not in str(error)
            assert not error.committed
            (attempt,) = error.attempts
            assert (attempt.outcome, attempt.status) == (Outcome.FAILED, 429)
        assert server.connections == 1


async def test_error_whose_body_never_ends() -> None:
    """An error is told although its body never ends, and its connection is closed."""
    endless = Reply(500, JSON, body=(b"x" * 10_000 for _ in range(10**9)))
    async with serving(endless) as (server, pipeline):
        with anyio.fail_after(5):
            assert type(await failed(pipeline)) is lamella.ServerError
            await server.until(lambda it: not it.open_connections)


async def test_error_in_band_first() -> None:
    """An error as the first event maps to its status and is not committed."""
    sent = message({"error": {"type": "overloaded_error", "message": "x"}})
    async with serving(stream((STREAM[0], sent))) as (_, pipeline):
        error = await broken(pipeline)
        assert type(error) is lamella.OverloadedError
        assert (error.status, error.request_id, error.committed) == (529, "req_1", False)


async def test_error_in_band_after_text() -> None:
    """An error after text comes with what had come, which is committed."""
    sent = message({"error": {"code": "server_error", "message": "x"}})
    together = b"".join([*STREAM[:2], sent])
    async with serving(stream((together,))) as (_, pipeline):
        error = await broken(pipeline)
        assert type(error) is lamella.ServerError
        assert error.committed
        assert not error.retryable
        assert error.partial is not None
        assert error.partial.text == "Héllo "


async def test_fault_told_by_the_finish_reason() -> None:
    """A stream whose finish reason is a fault is an error with request id and what had come."""
    async with serving(stream((*STREAM[:2], chunk(finish="error")))) as (_, pipeline):
        error = await broken(pipeline)
        assert type(error) is lamella.ServerError
        assert (error.code, error.request_id, error.committed) == ("error", "req_1", True)
        assert error.partial is not None
        assert error.partial.text == "Héllo "


@pytest.mark.parametrize("bad", [b'data: {"choices": [\n\n', b"data: \xff\xfe\n\n", b"data: 1\n\n"])
async def test_malformed_event(bad: bytes) -> None:
    """Nonsense in the middle is a protocol error with what had come."""
    async with serving(stream((*STREAM[:2], bad, *STREAM[2:]))) as (_, pipeline):
        error = await broken(pipeline)
        assert type(error) is lamella.ProtocolError
        assert error.partial is not None
        assert error.partial.text == "Héllo "


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>hello</html>", lamella.ProtocolError),
        (b"", lamella.ProtocolError),
        (b"null", lamella.ProtocolError),
        (b'{"choices": []}', lamella.ProtocolError),
        (b'{"choices": [{"message"', lamella.ProtocolError),
        (b'{"error": {"code": "rate_limit_exceeded"}}', lamella.RateLimitError),
        (b'{"error": {"code": "insufficient_quota"}}', lamella.QuotaError),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("content", ["application/json", "text/html"])
async def test_success_that_is_none(
    body: bytes, kind: type[Exception], *, streaming: bool, content: str
) -> None:
    """A status of success with something else in the body is a typed error."""
    answer = Reply(200, [("Content-Type", content), ("X-Request-Id", "r2")], body=body)
    async with serving(answer) as (_, pipeline):
        error = await (broken if streaming else failed)(pipeline)
        assert type(error) is kind
        assert error.request_id == "r2"
        assert error.provider == "acme"


async def test_too_large_answers() -> None:
    """Bodies and messages larger than the limits are typed errors."""
    http = HTTPOptions(max_body_bytes=1000, max_message_bytes=500)
    large = chunk({"content": "x" * 600})
    for reply in (complete(b"x" * 2000), stream((large,)), stream((chunk({"content": "x"}),) * 50)):
        async with serving(reply, http=http) as (_, pipeline):
            assert type(await broken(pipeline)) is lamella.ResponseTooLargeError


# --- time, leaving, closing ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "limits", "kind"),
    [
        (Faults(hold_headers=math.inf), {"first_event": 0.1}, lamella.FirstEventTimeout),
        (Faults(delay_after_headers=math.inf), {"first_event": 0.1}, lamella.FirstEventTimeout),
        (Faults(stall_at=1), {"first_event": 0.1}, lamella.FirstEventTimeout),
        (Faults(stall_at=2), {"idle": 0.1}, lamella.IdleTimeout),
        (Faults(stall_at=3), {"idle": 0.1}, lamella.IdleTimeout),
        (Faults(stall_at=2), {"attempt": 0.1}, lamella.AttemptTimeout),
        (
            Faults(keepalive_newlines=1000, keepalive_gap=0.01),
            {"first_event": 0.1},
            lamella.FirstEventTimeout,
        ),
    ],
)
async def test_silence(
    faults: Faults, limits: dict[str, float], kind: type[lamella.LamellaError]
) -> None:
    """A provider that falls silent ends at the limit, and so does its connection."""
    async with serving(stream(faults=faults)) as (server, pipeline):
        with anyio.fail_after(5):
            error = await broken(pipeline, limited(**limits))
            assert type(error) is kind
            assert error.attempts[0].outcome is Outcome.TIMED_OUT
            await server.until(lambda it: not it.open_connections)


async def test_leaving_a_stream_closes_its_socket() -> None:
    """Who leaves a stream early leaves nothing open behind."""
    async with serving(stream(faults=Faults(stall_at=2)), stream()) as (server, pipeline):
        async with pipeline.stream(request()) as response:
            async for _ in response:
                break
        with anyio.fail_after(0.5):
            await server.until(lambda it: not it.open_connections)
        assert response.outcome is Outcome.LEFT
        assert (await streamed(pipeline)).text == TEXT


async def test_dropping_a_stream_closes_its_socket() -> None:
    """An answer that nobody holds any more is closed without a warning."""
    async with serving(stream(faults=Faults(stall_at=2))) as (server, pipeline):
        transport = pipeline.transport
        held: list[Any] = []

        async def keep(asked: ChatRequest, call_next: lamella.Handler) -> ChatResponse:
            held.append(await call_next(asked))
            return ChatResponse.of("something else")

        async with Pipeline([keep], transport) as outer:
            await streamed(outer)
            held.clear()
            gc.collect()
            with anyio.fail_after(2):
                await server.until(lambda it: not it.open_connections)


async def test_slow_consumer() -> None:
    """Who reads slowly is not late: the limits do not count their time, and buffers stay small."""
    many = (STREAM[0], *[chunk({"content": "x" * 1000})] * 2000, *STREAM[3:])
    async with serving(stream(many)) as (server, pipeline):
        async with pipeline.stream(limited(idle=0.2)) as response:
            count = 0
            async for event in response:
                if count == 3:
                    await anyio.sleep(0.3)
                    assert server.body_bytes < 10 * 2**20
                count += isinstance(event, TextDelta)
        assert count == 2000


@pytest.mark.parametrize("streaming", [False, True])
async def test_cancelled_at_every_step(*, streaming: bool) -> None:
    """A call that is cancelled at any step leaves no connection taken."""
    answer = stream() if streaming else complete()
    async with serving(answer, http=HTTPOptions(max_connections=1)) as (server, pipeline):

        async def call() -> None:
            await (streamed(pipeline) if streaming else pipeline.run(request()))

        await call()
        with anyio.fail_after(20):
            for steps in range(60):
                async with anyio.create_task_group() as group:
                    group.start_soon(call)
                    for _ in range(steps):
                        await anyio.lowlevel.checkpoint()
                    group.cancel_scope.cancel()
                await call()
        await pipeline.aclose()
        await server.until(lambda it: not it.open_connections)


async def test_closing_under_a_stream() -> None:
    """A pipeline that closes ends its streams with ClosedError, not with a network error."""
    async with serving(stream(faults=Faults(stall_at=2))) as (server, pipeline):
        started = anyio.Event()
        errors: list[BaseException] = []

        async def reader() -> None:
            try:
                async with pipeline.stream(request()) as response:
                    async for _ in response:
                        started.set()
            except lamella.LamellaError as error:
                errors.append(error)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(reader)
                await started.wait()
                await pipeline.aclose()
            await server.until(lambda it: not it.open_connections)
        assert [type(error) for error in errors] == [lamella.ClosedError]


# --- what is sent, and to whom ---------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment full of somebody's OpenAI variables."""
    for name, value in {
        "OPENAI_API_KEY": "sk-ambient",
        "OPENAI_ADMIN_KEY": "sk-ambient",
        "OPENAI_ORG_ID": "org-ambient",
        "OPENAI_PROJECT_ID": "proj-ambient",
        "OPENAI_BASE_URL": "http://ambient.invalid/v1",
        "OPENAI_CUSTOM_HEADERS": "X-Ambient: yes",
        "OPENAI_WEBHOOK_SECRET": "ambient",
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


async def test_ambient_variables_go_nowhere_else(environment: pytest.MonkeyPatch) -> None:
    """Variables meant for OpenAI reach no other host: with a key, and without one."""
    async with serving(complete()) as (server, pipeline):
        await pipeline.run(request())
        async with Pipeline([], OpenAI(base_url=f"{server.url}/v1")) as keyless:
            await keyless.run(request())
        for seen in server.received:
            assert "ambient" not in str(seen.headers.raw)
        assert "authorization" not in server.received[1].headers


async def test_base_url_of_the_environment(environment: pytest.MonkeyPatch) -> None:
    """`OPENAI_BASE_URL` counts where neither an address nor an endpoint is given."""
    async with serving(complete()) as (server, _):
        environment.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        async with Pipeline([], OpenAI()) as pipeline:
            await pipeline.run(request())
        (seen,) = server.received
        assert seen.headers["authorization"] == "Bearer sk-ambient"
        assert "openai-organization" not in seen.headers


@pytest.mark.parametrize("url", ["https://user:pw@host/v1", "https://host:port/v1", "host:80/v1"])
async def test_wrong_base_url_of_the_environment(environment: pytest.MonkeyPatch, url: str) -> None:
    """A wrong `OPENAI_BASE_URL` is named, and not shown."""
    environment.setenv("OPENAI_BASE_URL", url)
    async with Pipeline([], OpenAI()) as pipeline:
        error = await failed(pipeline)
    assert str(error).startswith("OPENAI_BASE_URL ")
    assert "pw" not in str(error)


@pytest.mark.parametrize(
    "url",
    ["https://api.openai.com/v1", "https://eu.api.openai.com/v1/", "https://us.api.openai.com/v1"],
)
async def test_variables_go_to_openai(environment: pytest.MonkeyPatch, url: str) -> None:
    """The environment's key, organisation and project go to OpenAI's own hosts and no other."""
    sent: list[HTTPRequest] = []

    class Recorder:
        async def send(self, request: HTTPRequest) -> HTTPReply:
            sent.append(request)
            raise lamella.ConnectError("recorded")

        async def aclose(self) -> None:
            return

    for address in (url, "https://api.openai.com.evil.example/v1", "http://api.openai.com/v1"):
        transport = OpenAI(base_url=address, options=OpenAIOptions(client=Recorder()))
        async with Pipeline([], transport) as pipeline:
            await failed(pipeline)
    own, *others = [dict(request.headers) for request in sent]
    assert own[b"Authorization"] == b"Bearer sk-ambient"
    assert own[b"OpenAI-Organization"] == b"org-ambient"
    assert own[b"OpenAI-Project"] == b"proj-ambient"
    assert "ambient" not in str(others)


async def test_variable_of_an_endpoint_stays_there(environment: pytest.MonkeyPatch) -> None:
    """An endpoint's variable is not used for another address that is given with its name."""
    environment.setenv("GROQ_API_KEY", "gsk-ambient")
    async with serving(complete()) as (server, _):
        async with Pipeline([], OpenAI(base_url=server.url, endpoint="groq")) as pipeline:
            assert "GROQ_API_KEY" in str(await failed(pipeline))
        assert not server.requests


async def test_key_that_is_missing(environment: pytest.MonkeyPatch) -> None:
    """Without a key the error names the variable and the option, before the network."""
    environment.delenv("OPENAI_API_KEY")
    async with Pipeline([], OpenAI()) as pipeline:
        error = await failed(pipeline)
    assert isinstance(error, lamella.ConfigurationError)
    assert "OPENAI_API_KEY" in str(error)
    assert "api_key" in str(error)
    assert error.outcome is Outcome.NOT_SENT


async def test_keys_from_functions_and_references(environment: pytest.MonkeyPatch) -> None:
    """A key may be a reference or a function, plain or async, and is read each time."""
    keys = iter(["sk-1", "sk-2"])

    async def fetch() -> str:
        return "sk-async"

    async with serving(complete()) as (server, _):
        for key in (lambda: next(keys), fetch, "env:ACME_KEY"):
            environment.setenv("ACME_KEY", " sk-env\n")
            async with Pipeline([], OpenAI(key, base_url=server.url)) as pipeline:
                await pipeline.run(request())
                if not isinstance(key, str):
                    continue
                environment.setenv("ACME_KEY", "sk-rotated")
                await pipeline.run(request())
        sent = [seen.headers["authorization"] for seen in server.received]
        assert sent == ["Bearer sk-1", "Bearer sk-async", "Bearer sk-env", "Bearer sk-rotated"]


@pytest.mark.parametrize("key", ["", "  ", "sk-a b", "sk-ü", "sk-a\nX-Evil: 1"])
def test_keys_that_are_none(key: str) -> None:
    """A key that no header can hold is refused where it is given, and not shown."""
    with pytest.raises(lamella.ConfigurationError) as caught:
        OpenAI(key)
    assert not key.strip() or key not in str(caught.value)


async def test_headers() -> None:
    """Idempotency key, attempt number and further headers are sent where they are asked for."""
    options = {"attempt_header": True, "headers": {"X-Team": "blue", "User-Agent": "mine"}}
    async with serving(complete(), **options) as (server, pipeline):
        context = lamella.Context(idempotency_key="idem-1", user="u-7")
        await pipeline.run(request(context=context))
        (seen,) = server.received
        assert seen.headers["idempotency-key"] == "idem-1"
        assert seen.headers["x-lamella-attempt"] == "0"
        assert seen.headers["x-team"] == "blue"
        assert seen.headers["user-agent"] == "mine"
        assert "u-7" not in str(seen.body)


async def test_user_is_sent_only_if_asked() -> None:
    """`send_user` sends the end user's id to the provider."""
    async with serving(complete(), send_user=True) as (server, pipeline):
        await pipeline.run(request(context=lamella.Context(user="u-7")))
        assert json.loads(server.received[0].body)["user"] == "u-7"


async def test_default_model() -> None:
    """A request without a model takes the transport's, and without any it says so."""
    async with serving(complete(), model="dflt") as (server, pipeline):
        response = await pipeline.run(ChatRequest.of("hi"))
        assert json.loads(server.received[0].body)["model"] == "dflt"
        assert response.trace.attempts[0].model == "dflt"
    async with serving(complete()) as (_, pipeline):
        assert "model=" in str(await failed(pipeline, ChatRequest.of("hi")))


# --- cards and endpoints ---------------------------------------------------------------------


async def test_model_that_cannot() -> None:
    """What a model cannot do is refused before the network, saying what it can."""
    card = lamella.ModelCard("m", "acme", operations=frozenset({"chat"}))
    cards = lamella.CardBook(builtin=False)
    cards.register(card)
    async with serving(complete(), cards=cards, card_provider="acme") as (server, pipeline):
        error = await failed(pipeline, request(tools=[lamella.Tool("t", "", {"type": "object"})]))
        assert isinstance(error, lamella.UnsupportedError)
        assert "tools" in str(error)
        assert not server.requests
        assert (await pipeline.run(request(model="unknown", n=1))).text == TEXT


async def test_rules_of_a_card() -> None:
    """Parameters are renamed and dropped as the card says, and a drop is noted."""
    rules = (
        lamella.ParameterRule("temperature", "drop", hint="it has none"),
        lamella.ParameterRule("max_output_tokens", "rename", to="max_tokens"),
        lamella.ParameterRule("top_p", "clamp", maximum=0.5),
        lamella.ParameterRule("seed", "rename", to="random_seed"),
    )
    cards = lamella.CardBook(builtin=False)
    cards.register(lamella.ModelCard("m", "acme", rules=rules))
    async with serving(complete(), cards=cards, card_provider="acme") as (server, pipeline):
        asked = request(temperature=1.0, max_output_tokens=9, top_p=0.9, seed=4)
        response = await pipeline.run(asked)
        sent = json.loads(server.received[0].body)
        del sent["messages"]
        assert sent == {"model": "m", "max_tokens": 9, "top_p": 0.5, "random_seed": 4}
        notes = [(note.layer, note.name, note.fields["parameter"]) for note in response.trace.notes]
        assert ("acme", "parameter.drop", "temperature") in notes
        assert ("acme", "parameter.clamp", "top_p") in notes
        assert "temperature" not in str(asked.extra)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"base_url": "localhost:8000"}, "https://"),
        ({"base_url": "https://user:pw@host/v1"}, "user"),
        ({"base_url": "https://host/v1?key=1"}, "query"),
        ({"base_url": "https://host/v1#part"}, "fragment"),
        ({"base_url": "https://host:port/v1"}, "no address"),
        ({"base_url": "https://host:99999/v1"}, "no address"),
        ({"base_url": "https://[::1/v1"}, "no address"),
        ({"base_url": "https://host/v1\r\nX: y"}, "no address"),
        ({"base_url": "https://host/ü"}, "no address"),
        ({"api": "completions"}, "responses"),
        ({"endpoint": "grok"}, "groq"),
        ({"endpoint": "deepseek", "api": "responses"}, "deepseek"),
    ],
)
def test_wrong_options(arguments: dict[str, Any], match: str) -> None:
    """What cannot be meant is an error where it is given."""
    with pytest.raises(lamella.ConfigurationError, match=match):
        OpenAI(KEY, **arguments)


@pytest.mark.parametrize(
    "headers", [{"X-Key": "a "}, {"X Key": "a"}, {"": "a"}, {"X-Key": b"a"}, {"Host": "a"}]
)
def test_wrong_headers(headers: Any) -> None:
    """Headers that cannot be sent, or that are not the caller's to set, are refused where given."""
    with pytest.raises(lamella.ConfigurationError, match="header"):
        OpenAIOptions(headers=headers)


async def test_idempotency_key_that_is_no_header() -> None:
    """An idempotency key that cannot stand in a header is named, and nothing is sent."""
    async with serving(complete()) as (server, pipeline):
        for key in ("a\nb", " a", "ü", "\ud800"):
            asked = request(context=lamella.Context(idempotency_key=key))
            assert "Idempotency-Key" in str(await failed(pipeline, asked))
        assert not server.requests


def test_api_of_an_endpoint() -> None:
    """Without a word an endpoint's own API is used, Chat Completions where it has both."""
    assert OpenAI(KEY).api == OpenAI(KEY, endpoint="groq").api == "chat"
    assert OpenAI(KEY, endpoint="perplexity").api == "responses"


# --- health, the SDK, and the rest -----------------------------------------------------------


async def test_health() -> None:
    """Health asks for the list of models: it costs nothing, and never raises."""
    for reply, well in ((complete({"data": []}), True), (complete(status=401), False)):
        async with serving(reply) as (server, pipeline):
            health = await pipeline.health()
            assert health.transports["acme"].well is well
            assert server.received[0].target == "/v1/models"
    async with Pipeline([], OpenAI(KEY, base_url="http://127.0.0.1:1/v1")) as pipeline:
        health = await pipeline.health()
        assert health.status == "down"
        assert health.transports["127.0.0.1:1"].detail["error"] == "ConnectError"


async def test_sdk_over_the_same_connections(environment: pytest.MonkeyPatch) -> None:
    """The SDK's own client is there for the rest, over this transport's connections and key."""
    async with serving(complete()) as (server, pipeline):
        await pipeline.run(request())
        sdk = await pipeline.transport.sdk()
        found = await sdk.models.list()
        assert found.model_extra is not None
        assert server.connections == 1
        assert server.received[1].headers["authorization"] == f"Bearer {KEY}"
        assert "ambient" not in str(server.received[1].headers.raw)


async def test_embeddings() -> None:
    """Embeddings go through the same transport."""
    body = {
        "data": [{"index": 0, "embedding": [0.5, 1.0]}],
        "model": "e",
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    }
    async with serving(complete(body)) as (server, pipeline):
        response = await pipeline.run(lamella.EmbeddingRequest.of("x", model="e"))
        assert response.vectors == ((0.5, 1.0),)
        assert server.received[0].target == "/v1/embeddings"


def test_sync_and_several_loops() -> None:
    """One transport serves synchronous calls and several event loops."""

    async def main() -> None:
        async with serving(complete()) as (server, pipeline):
            for _ in range(2):
                got = await anyio.to_thread.run_sync(lambda: pipeline.run_sync(request()).text)
                assert got == TEXT
                assert (await pipeline.run(request())).text == TEXT
            assert server.connections == 2

    for backend in ("asyncio", "trio"):
        anyio.run(main, backend=backend)
    gc.collect()


async def test_events_of_a_replay() -> None:
    """The last event is one Finish, streamed or not."""
    async with serving(complete(), stream()) as (_, pipeline):
        for response in (await pipeline.run(request()), await streamed(pipeline)):
            assert isinstance(response.events[-1], Finish)
            assert sum(isinstance(event, Finish) for event in response.events) == 1
