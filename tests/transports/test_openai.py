"""The OpenAI transport over real sockets: its answers, its faults, and what it sends to whom."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from openai_wire import (
    COMPLETE,
    DONE,
    JSON,
    KEY,
    SSE,
    STREAM,
    TEXT,
    USAGE_CHUNK,
    broken,
    chunk,
    complete,
    failed,
    message,
    request,
    serving,
    stream,
    streamed,
)

import lamella
from lamella import Event, Outcome, TextDelta
from lamella.testing._faults import Faults
from lamella.testing._http_framing import Reply
from lamella.transports import HTTPOptions

pytestmark = pytest.mark.anyio

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
        with anyio.fail_after(30):
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
        with anyio.fail_after(30):
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
        with anyio.fail_after(30):
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
