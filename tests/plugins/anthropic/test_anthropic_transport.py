"""The Anthropic transport over real sockets: its answers, its faults, and what it sends to whom."""

from __future__ import annotations

import json
import sys
from typing import Any

import anyio
import pytest
from anthropic_wire import (
    JSON,
    KEY,
    STREAM,
    TEXT,
    answer,
    asked,
    complete,
    framed,
    said,
    serving,
    start,
    stream,
    streamed,
)

from lamella import (
    AuthenticationError,
    CardBook,
    ConfigurationError,
    Context,
    ContextLengthError,
    EmbeddingRequest,
    Image,
    InvalidRequestError,
    LamellaError,
    Message,
    ModelCard,
    OverloadedError,
    Pipeline,
    QuotaError,
    RateLimitError,
    Reasoning,
    Secret,
    StreamTruncated,
    TokenCountRequest,
    UnsupportedError,
    Usage,
)
from lamella.testing import transport_checks
from lamella.testing._faults import Faults
from lamella.testing._http_framing import Reply
from lamella.testing._http_server import HTTPServer
from lamella.testing._http_wire import Received
from lamella_anthropic import Anthropic, AnthropicOptions

pytestmark = pytest.mark.anyio

VARIABLES = (
    "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "ANTHROPIC_PROFILE",
    "ANTHROPIC_CUSTOM_HEADERS", "ANTHROPIC_FEDERATION_RULE_ID", "ANTHROPIC_CONFIG_DIR",
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Nothing of whoever runs these tests counts."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


# --- answers ---------------------------------------------------------------------------------


async def test_complete_answer() -> None:
    """A run goes over the wire as JSON and comes back with usage, ids, headers and raw bytes."""
    async with serving(complete(headers=[("anthropic-ratelimit-requests-remaining", "9")])) as (
        server,
        pipeline,
    ):
        response = await pipeline.run(asked(max_output_tokens=7))
        assert (response.text, response.finish_reason) == (TEXT, "stop")
        assert response.usage == Usage(uncached_input=9, text_output=3)
        head = response.head
        assert (head.provider, head.request_id, head.id, head.model) == (
            "anthropic",
            "req_1",
            "msg_1",
            "claude-test-1",
        )
        assert head.headers["anthropic-ratelimit-requests-remaining"] == "9"
        assert response.raw == answer({"type": "text", "text": TEXT})
        (seen,) = server.received
        assert seen.target == "/v1/messages"
        assert seen.headers["authorization"] == f"Bearer {KEY}"
        assert seen.headers["anthropic-version"] == "2026-10-21"
        assert "anthropic-beta" not in seen.headers
        assert "lamella-anthropic/" in seen.headers["user-agent"]
        assert json.loads(seen.body) == {
            "model": "claude-test",
            "max_tokens": 7,
            "messages": [{"role": "user", "content": "hi"}],
        }


async def test_streamed_answer() -> None:
    """A stream goes over the wire as server-sent events; its connection is kept."""
    async with serving(stream()) as (server, pipeline):
        for _ in range(3):
            response = await streamed(pipeline)
            assert (response.text, response.model, response.head.id) == (
                TEXT,
                "claude-test-1",
                "msg_1",
            )
        assert server.connections == 1
        assert json.loads(server.received[0].body)["stream"] is True


async def test_stream_and_run_are_alike() -> None:
    """The same answer, streamed or not, asked for one way and given the other, is the same."""
    async with serving(complete(), stream(), stream(), complete()) as (_, pipeline):
        run = await pipeline.run(asked())
        assert (await streamed(pipeline)).answer == run.answer
        assert (await pipeline.run(asked())).answer == run.answer
        assert (await streamed(pipeline)).answer == run.answer


async def test_counting_tokens() -> None:
    """The provider counts, and no tokens are spent."""
    async with serving(complete(b'{"input_tokens": 14}')) as (server, pipeline):
        response = await pipeline.run(TokenCountRequest.of("hi", model="claude-test"))
        assert (response.tokens, response.usage) == (14, Usage())
        assert server.received[0].target == "/v1/messages/count_tokens"
        with pytest.raises(UnsupportedError):
            await pipeline.run(EmbeddingRequest.of("hi", model="m"))


# --- how streams end -------------------------------------------------------------------------


async def test_cut_at_every_message() -> None:
    """A cut before the stop reason is a truncation with what had come; after it, none."""
    for count in range(1, len(STREAM)):
        async with serving(stream(STREAM[:count])) as (_, pipeline):
            if count == len(STREAM) - 1:
                assert (await streamed(pipeline)).text == TEXT
                continue
            with pytest.raises(LamellaError) as caught:
                await streamed(pipeline)
            assert isinstance(caught.value, StreamTruncated)


@pytest.mark.parametrize("size", [1, 3, 64])
async def test_pieces_of_any_size(size: int) -> None:
    """However the network cuts the stream, the events are the same."""
    async with serving(stream(), stream(faults=Faults(slice=size))) as (_, pipeline):
        assert (await streamed(pipeline)).events == (await streamed(pipeline)).events


async def test_an_error_inside_a_stream() -> None:
    """Before the first word it is the error itself, after it a stream that broke."""
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}
    for begun in ([start()], [start(), *said(TEXT)]):
        async with serving(stream([*begun, error])) as (_, pipeline):
            with pytest.raises(OverloadedError) as caught:
                await streamed(pipeline)
            assert (caught.value.status, caught.value.request_id) == (529, "req_1")
            assert caught.value.committed == (len(begun) > 1)


# --- errors ----------------------------------------------------------------------------------


def failure(kind: str, message: str = "no", code: str | None = None) -> bytes:
    """The body of an error."""
    details = {} if code is None else {"details": {"error_code": code}}
    return json.dumps(
        {
            "type": "error",
            "error": {"type": kind, "message": message, **details},
            "request_id": "req_1",
        }
    ).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, failure("invalid_request_error"), InvalidRequestError, "invalid_request_error"),
        (
            400,
            failure("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"),
            ContextLengthError,
            "invalid_request_error",
        ),
        (
            400,
            failure(
                "invalid_request_error",
                "input length and `max_tokens` exceed context limit: 9 + 8 > 10",
            ),
            ContextLengthError,
            "invalid_request_error",
        ),
        (
            400,
            failure("invalid_request_error", "x", "image_dimensions_too_large"),
            InvalidRequestError,
            "image_dimensions_too_large",
        ),
        (401, failure("authentication_error"), AuthenticationError, "authentication_error"),
        (402, failure("billing_error"), QuotaError, "billing_error"),
        (413, failure("request_too_large"), InvalidRequestError, "request_too_large"),
        (429, failure("rate_limit_error"), RateLimitError, "rate_limit_error"),
        (
            429,
            failure("rate_limit_error", "x", "enforced_spend_limit_reached"),
            QuotaError,
            "enforced_spend_limit_reached",
        ),
        (529, failure("overloaded_error"), OverloadedError, "overloaded_error"),
    ],
)
async def test_errors(status: int, body: bytes, kind: type[LamellaError], code: str) -> None:
    """Each is of its own kind, with the provider's own word for its cause."""
    async with serving(complete(body, status)) as (_, pipeline):
        with pytest.raises(kind) as caught:
            await pipeline.run(asked())
        assert type(caught.value) is kind
        assert (caught.value.status, caught.value.code, caught.value.request_id) == (
            status,
            code,
            "req_1",
        )


async def test_resets_say_when_to_come_back() -> None:
    """Of the dimensions of which nothing is left; the longest counts."""
    headers = [
        ("Date", "Sat, 21 Nov 2026 10:00:00 GMT"),
        ("anthropic-ratelimit-requests-remaining", "0"),
        ("anthropic-ratelimit-requests-reset", "2026-11-21T10:00:07Z"),
        ("anthropic-ratelimit-output-tokens-remaining", "0"),
        ("anthropic-ratelimit-output-tokens-reset", "2026-11-21T10:00:30Z"),
        ("anthropic-ratelimit-input-tokens-remaining", "50"),
        ("anthropic-ratelimit-input-tokens-reset", "2026-11-21T10:01:00Z"),
    ]
    reply = Reply(429, [*JSON, *headers], body=failure("rate_limit_error"))
    async with serving(reply) as (_, pipeline):
        with pytest.raises(RateLimitError) as caught:
            await pipeline.run(asked())
        assert caught.value.retry_after == pytest.approx(30)


# --- what is sent to whom --------------------------------------------------------------------


async def test_betas_versions_and_headers() -> None:
    """The transport's and the request's; headers that are given replace ours."""
    options: dict[str, Any] = {
        "betas": ["a-1"],
        "version": "2023-06-01",
        "key_header": "x-api-key",
        "headers": {"x-team": "t"},
        "send_user": True,
    }
    async with serving(complete(), **options) as (server, pipeline):
        request = asked(extra={"betas": ["b-2"]}, temperature=0.5, context=Context(user="u-1"))
        await pipeline.run(request)
        (seen,) = server.received
        assert seen.headers["anthropic-beta"] == "a-1,b-2"
        assert seen.headers["anthropic-version"] == "2023-06-01"
        assert seen.headers["x-api-key"] == KEY
        assert "authorization" not in seen.headers
        assert seen.headers["x-team"] == "t"
        sent = json.loads(seen.body)
        assert (sent["metadata"], sent["temperature"]) == ({"user_id": "u-1"}, 0.5)


async def test_what_is_lost_is_declared() -> None:
    """Each kind once, with how often and why; never what it said."""
    foreign = Reasoning("secret thought", "sig", extra={"provider": "openai"})
    conversation = [
        Message.user(["hi", Image(url="https://a.example/b.png", detail="low")]),
        Message.assistant([foreign, "a"]),
        Message.user("b"),
    ]
    schema = {
        "type": "json_schema",
        "json_schema": {"description": "x", "schema": {"type": "object"}},
    }
    async with serving(complete()) as (_, pipeline):
        response = await pipeline.run(asked(conversation, response_format=schema))
        notes = [note for note in response.trace.notes if note.name == "request.left_out"]
        assert [(note.layer, note.fields["what"]) for note in notes] == [
            ("anthropic", "Image.detail"),
            ("anthropic", "Reasoning"),
            ("anthropic", "response_format.description"),
        ]
        assert "secret" not in str(notes)


async def test_thoughts_belong_to_whose_models_they_are() -> None:
    """Two transports to Anthropic share them, whatever they are called; other models' stay out."""
    thought = Reasoning("hm", "sig", extra={"provider": "anthropic"})
    request = asked([Message.user("hi"), Message.assistant([thought, "a"]), Message.user("b")])
    async with serving(complete(), name="europe") as (server, pipeline):
        await pipeline.run(request)
        assert json.loads(server.received[0].body)["messages"][1]["content"][0] == {
            "type": "thinking",
            "thinking": "hm",
            "signature": "sig",
        }
    async with serving(complete(), name="other", card_provider="other") as (server, pipeline):
        await pipeline.run(request)
        assert json.loads(server.received[0].body)["messages"][1]["content"] == "a"


async def test_the_models_card_counts() -> None:
    """Its bound on output is sent, and what it cannot do is refused."""
    card = ModelCard(
        "claude-test",
        "anthropic",
        operations=frozenset({"chat"}),
        max_output_tokens=321,
        capabilities=frozenset({"streaming"}),
    )
    book = CardBook(builtin=False)
    book.register(card)
    async with serving(complete(), cards=book) as (server, pipeline):
        await pipeline.run(asked())
        assert json.loads(server.received[0].body)["max_tokens"] == 321
        with pytest.raises(UnsupportedError):
            await pipeline.run(asked(tools=[{"name": "f", "input_schema": {"type": "object"}}]))


async def test_variables_are_for_anthropics_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or for the one that a variable names; never for another that is given."""
    async with HTTPServer(_always(complete())) as server:
        monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-1")
        monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Team: t\n\nnonsense")
        async with Pipeline([], Anthropic(base_url=server.url)) as pipeline:
            await pipeline.run(asked())
        monkeypatch.setenv("ANTHROPIC_BASE_URL", f"{server.url}/v1/")
        async with Pipeline([], Anthropic()) as pipeline:
            await pipeline.run(asked())
        monkeypatch.setenv("ANTHROPIC_API_KEY", "key-2")
        async with Pipeline([], Anthropic(model="claude-test")) as pipeline:
            await pipeline.run(asked(model=None))
        sent = [(seen.headers.get("authorization"), seen.target) for seen in server.received]
        assert sent == [
            (None, "/v1/messages"),
            ("Bearer token-1", "/v1/messages"),
            ("Bearer key-2", "/v1/messages"),
        ]
        assert [seen.headers.get("x-team") for seen in server.received] == [None, "t", "t"]


async def test_without_a_key_nothing_is_sent() -> None:
    """The error says what to set."""
    async with Pipeline([], Anthropic()) as pipeline:
        with pytest.raises(ConfigurationError, match="has no key") as caught:
            await pipeline.run(asked())
    assert "ANTHROPIC_API_KEY" in (caught.value.hint or "")
    assert not (await Anthropic().health()).well


async def test_keys_by_reference_are_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rotated key is taken up."""
    async with HTTPServer(_always(complete())) as server:
        transport = Anthropic(Secret("env:MY_KEY"), base_url=server.url)
        async with Pipeline([], transport) as pipeline:
            for key in ("one", "two"):
                monkeypatch.setenv("MY_KEY", key)
                await pipeline.run(asked())
            assert (await transport.health()).well
        seen = [received.headers["authorization"] for received in server.received]
        assert seen == ["Bearer one", "Bearer two", "Bearer two"]
        assert server.received[-1].target == "/v1/models"


@pytest.mark.parametrize(
    "options",
    [
        {"betas": "one"},
        {"betas": ["a,b"]},
        {"betas": ["a\nb"]},
        {"betas": [""]},
        {"betas": 5},
        {"version": "2026\n"},
        {"version": ""},
        {"key_header": "not a header"},
        {"max_output_tokens": 0},
        {"max_output_tokens": True},
    ],
)
async def test_options_that_cannot_be_meant(options: dict[str, Any]) -> None:
    """Are refused where they are given."""
    with pytest.raises(ConfigurationError):
        AnthropicOptions(**options)


@pytest.mark.parametrize("url", ["", "ftp://a.example", "https://key@a.example", 5])
async def test_addresses_that_cannot_be_meant(url: Any) -> None:
    """Are refused where they are given."""
    with pytest.raises(ConfigurationError, match="base_url"):
        Anthropic("k", base_url=url)


def _always(reply: Reply) -> Any:
    async def handler(_: Received) -> Reply:
        return reply

    return handler


# --- the contract ----------------------------------------------------------------------------


async def test_the_kit() -> None:
    """The transport keeps the contract of transports over real sockets."""

    async def handler(request: Received) -> Reply:
        if b'"stream":true' in request.body:
            return stream()
        return complete()

    async with HTTPServer(handler) as server:
        checks = transport_checks(lambda: Anthropic(KEY, base_url=server.url), asked())
        for check in checks:
            await check()
        await server.until(lambda it: it.open_connections == 0)


def test_the_official_client_reads_the_same_bytes() -> None:
    """The recorded shapes of these tests are what the official client takes for an answer."""
    from anthropic.types import Message as Answer
    from anthropic.types import RawMessageStreamEvent
    from pydantic import TypeAdapter

    assert Answer.model_validate_json(answer({"type": "text", "text": TEXT})).usage.output_tokens
    adapter: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    for message in STREAM:
        if message["type"] != "ping":
            assert adapter.validate_json(json.dumps(message)).type == message["type"]
    assert len(framed(*STREAM)) == len(STREAM)


async def test_importing_it_imports_no_client() -> None:
    """Neither Anthropic's nor OpenAI's, and no HTTP library."""
    script = (
        "import sys, lamella_anthropic as la; la.Anthropic('k');"
        "bad = {'anthropic', 'openai', 'httpx', 'httpx2', 'pydantic'} & sys.modules.keys();"
        "assert not bad, bad"
    )
    await anyio.run_process([sys.executable, "-c", script])


async def test_it_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Presets and pipelines find it by its name; the address tells two of them apart."""
    async with HTTPServer(_always(complete())) as server:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "key-1")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        async with Pipeline([], "anthropic") as pipeline:
            response = await pipeline.run(asked())
        assert response.served_by == "anthropic"
        assert Anthropic().fingerprint == Anthropic(base_url=server.url).fingerprint
        assert Anthropic().fingerprint != Anthropic(base_url="http://127.0.0.1:1").fingerprint
