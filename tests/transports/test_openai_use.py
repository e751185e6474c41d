"""The OpenAI transport over real sockets: time, leaving, what is sent to whom, cards, health."""

from __future__ import annotations

import gc
import json
import math
import subprocess
import sys
import threading
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from openai_wire import (
    KEY,
    STREAM,
    TEXT,
    broken,
    chunk,
    complete,
    failed,
    limited,
    request,
    serving,
    stream,
    streamed,
)

import lamella
from lamella import ChatRequest, ChatResponse, Finish, Outcome, Pipeline, TextDelta
from lamella.testing._faults import Faults
from lamella.transports import HTTPOptions, HTTPReply, HTTPRequest, OpenAI, OpenAIOptions
from lamella.transports._sdk import import_sdk

pytestmark = pytest.mark.anyio

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
        with anyio.fail_after(30):
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
        with anyio.fail_after(30):
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
            with anyio.fail_after(30):
                await server.until(lambda it: not it.open_connections)


async def test_slow_consumer() -> None:
    """Who reads slowly is not late: the limits do not count their time, and buffers stay small."""
    many = (STREAM[0], *[chunk({"content": "x" * 1000})] * 2000, *STREAM[3:])
    async with serving(stream(many)) as (server, pipeline):
        async with pipeline.stream(limited(idle=1.0)) as response:
            count = 0
            async for event in response:
                if count == 3:
                    await anyio.sleep(1.1)
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
        with anyio.fail_after(60):
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

        with anyio.fail_after(30):
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


@pytest.mark.parametrize("option", ["cards", "client"])
def test_options_that_only_code_can_give(option: str) -> None:
    """Something else, as a file may have it, is named where it is given and not by a call."""
    wrong: dict[str, Any] = {option: 3}
    with pytest.raises(lamella.ConfigurationError, match=f"{option}=3"):
        OpenAIOptions(**wrong)


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


_TWO_AT_ONCE = """
import threading
from lamella._ports import run_in_thread
from lamella.transports import OpenAI

transport = OpenAI("k", base_url="http://127.0.0.1:9/v1")
both = threading.Barrier(2)
clients = []

def first_use():
    both.wait()
    clients.append(transport._http(run_in_thread))

threads = [threading.Thread(target=first_use) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(clients[0] is clients[1])
"""


def test_two_loops_that_begin_at_once_share_one_client() -> None:
    """The first use imports, which lets the other thread in; all connections close with one."""
    done = subprocess.run(
        [sys.executable, "-c", _TWO_AT_ONCE], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"


async def test_who_comes_while_it_is_still_imported_waits_off_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if the call that has begun it was cancelled: no loop stands still for its thread."""
    begun, go = threading.Semaphore(0), threading.Event()
    importing: list[int] = []

    def slow(_: str) -> None:
        importing.append(threading.get_ident())
        begun.release()
        assert go.wait(30)

    monkeypatch.setattr("lamella.transports._sdk.import_module", slow)
    import_sdk.cache_clear()
    async with serving(complete()) as (server, pipeline):
        for last in (False, True):
            async with anyio.create_task_group() as group:
                group.start_soon(pipeline.run, request())
                assert await anyio.to_thread.run_sync(begun.acquire, True, 30)
                if last:
                    go.set()
                else:
                    group.cancel_scope.cancel()
        assert server.requests == 1
    assert len(importing) == 2
    assert threading.get_ident() not in importing


async def test_events_of_a_replay() -> None:
    """The last event is one Finish, streamed or not."""
    async with serving(complete(), stream()) as (_, pipeline):
        for response in (await pipeline.run(request()), await streamed(pipeline)):
            assert isinstance(response.events[-1], Finish)
            assert sum(isinstance(event, Finish) for event in response.events) == 1
