"""A key that a provider refuses is asked for again, once, and the request goes on with the next."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs
import pytest
from openai_wire import TEXT, complete, request, stream

from lamella import (
    AuthenticationError,
    ChatRequest,
    ChatResponse,
    Handler,
    LamellaError,
    Outcome,
    Pipeline,
    Registry,
    Secret,
    SecretError,
    middleware,
)
from lamella._ports import default_ports
from lamella._registry import using
from lamella.testing._http_framing import Reply
from lamella.testing._http_server import HTTPServer
from lamella.testing._http_wire import Received
from lamella.transports import OpenAI, OpenAIOptions
from lamella_middlewares import Deadline

pytestmark = pytest.mark.anyio

COMPLETE, FAILED = Outcome.COMPLETE, Outcome.FAILED
REFUSED = {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}


class Rotation:
    """A provider that takes one key, and a source that gives what it is told."""

    def __init__(self) -> None:
        self.accepted = "sk-key-two"
        self.gives = "sk-key-one"
        self.asked = 0
        self.refused = 0
        self.failure: Exception | None = None
        self.seconds = 0.0
        self.headers: list[tuple[str | None, str | None]] = []

    async def source(self, _: str) -> str:
        self.asked += 1
        await anyio.sleep(self.seconds)
        if self.failure is not None:
            raise self.failure
        return self.gives

    async def handler(self, received: Received) -> Reply:
        found = received.headers
        self.headers.append((found.get("x-lamella-attempt"), found.get("x-deadline-ms")))
        if received.headers.get("authorization") != f"Bearer {self.accepted}":
            self.refused += 1
            return complete(REFUSED, status=401)
        streamed = received.method == "POST" and received.json().get("stream")
        return stream() if streamed else complete()


@asynccontextmanager
async def served(
    rotation: Rotation, key: Any = "own:key", *, plain: Any = None, layers: Any = (), **options: Any
) -> AsyncIterator[Pipeline]:
    """A pipeline to the provider, with the key from the source."""
    registry = Registry([])
    registry.add(secret_sources={"own": rotation.source, "plain": plain})
    with using(registry):
        async with HTTPServer(rotation.handler) as server:
            headers = OpenAIOptions(
                name="acme", attempt_header=True, deadline_header="X-Deadline-Ms"
            )
            made = OpenAI(key, base_url=f"{server.url}/v1", options=headers)
            async with Pipeline(layers, made, **options) as pipeline:
                yield pipeline


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_rotated_key_is_taken_up_at_once(streamed: bool) -> None:
    """The request that meets the refusal is answered, and its trace says why it took longer."""
    rotation = Rotation()
    async with served(rotation) as pipeline:
        rotation.accepted = "sk-key-one"
        await pipeline.run(request())
        rotation.accepted = rotation.gives = "sk-key-two"
        if streamed:
            async with pipeline.stream(request()) as response:
                await response.collect()
        else:
            response = await pipeline.run(request())
        assert response.text == TEXT
        assert (rotation.refused, rotation.asked) == (1, 2)
        assert [note.name for note in response.trace.notes] == ["key.renewed"]
        refused, answered = response.trace.attempts
        assert (refused.outcome, refused.status, refused.committed) == (FAILED, 401, False)
        assert (answered.outcome, answered.status) == (COMPLETE, None)


async def test_the_second_request_is_an_attempt_of_its_own() -> None:
    """It says its number and what is left of the deadline now; layers of the wire see it."""
    rotation, seen = Rotation(), list[int]()
    rotation.seconds = 0.05

    @middleware(phase="wire")
    async def watch(request: ChatRequest, call_next: Handler) -> ChatResponse:
        assert request.context.attempt is not None
        seen.append(request.context.attempt.index)
        return await call_next(request)

    async with served(rotation, layers=[Deadline(60), watch]) as pipeline:
        rotation.accepted = "sk-key-one"
        await pipeline.run(request())
        rotation.accepted = rotation.gives = "sk-key-two"
        await pipeline.run(request())
    (_, (first, before), (second, after)) = rotation.headers
    assert (first, second, seen) == ("0", "1", [0, 0, 1])
    assert int(before or 0) - int(after or 0) >= 50


async def test_sources_are_asked_by_the_pipelines_ports() -> None:
    """A plain source runs in the pipeline's threads, and its value is kept by its clock."""
    rotation, threads, now = Rotation(), list[str](), 0.0

    async def thread(function: Callable[..., Any], /, *args: Any) -> Any:
        threads.append(getattr(function, "__name__", ""))
        return function(*args)

    def plain(_: str) -> str:
        return rotation.accepted

    ports = attrs.evolve(default_ports(), thread=thread, monotonic=lambda: now)
    async with served(rotation, "plain:key", plain=plain, ports=ports) as pipeline:
        await pipeline.run(request())
        await pipeline.run(request())
        assert threads.count("plain") == 1
        now = 301.0
        await pipeline.run(request())
    assert threads.count("plain") == 2


async def test_health_takes_up_a_rotated_key() -> None:
    """A refusal of the key before says nothing of the one that there is by now."""
    rotation = Rotation()
    async with served(rotation) as pipeline:
        rotation.accepted = "sk-key-one"
        await pipeline.run(request())
        rotation.accepted = rotation.gives = "sk-key-two"
        for _ in range(2):
            assert (await pipeline.health()).transports["acme"].well
        rotation.accepted = "sk-key-three"
        assert not (await pipeline.health()).transports["acme"].well
    assert (rotation.asked, rotation.refused) == (3, 2)


async def test_a_key_that_is_not_rotated_stays_refused() -> None:
    """The source is asked once more, the provider is not, and a flood asks neither."""
    rotation = Rotation()
    async with served(rotation) as pipeline:
        for _ in range(5):
            with pytest.raises(AuthenticationError):
                await pipeline.run(request())
        assert (rotation.refused, rotation.asked) == (5, 2)


async def test_a_second_refusal_is_final() -> None:
    """A request is sent again once, whatever the source gives."""
    rotation = Rotation()

    def each_time_another() -> str:
        rotation.asked += 1
        return f"sk-key-{rotation.asked}00"

    async with served(rotation, each_time_another) as pipeline:
        with pytest.raises(AuthenticationError):
            await pipeline.run(request())
        assert rotation.refused == 2


async def test_many_refusals_are_one_question() -> None:
    """However many requests meet the refusal at once, the source is asked once."""
    rotation = Rotation()
    async with served(rotation) as pipeline:
        rotation.accepted = "sk-key-one"
        await pipeline.run(request())
        rotation.accepted = rotation.gives = "sk-key-two"
        texts: list[str] = []

        async def run() -> None:
            texts.append((await pipeline.run(request())).text)

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(run)
        assert (texts, rotation.asked) == ([TEXT] * 20, 2)


async def test_a_source_that_fails_leaves_the_providers_word() -> None:
    """The error is the provider's; the source's is no answer to who asks a model."""
    rotation = Rotation()
    async with served(rotation) as pipeline:
        rotation.accepted = "sk-key-one"
        await pipeline.run(request())
        rotation.accepted, rotation.failure = "sk-key-two", SecretError("gone", code="gone")
        with pytest.raises(AuthenticationError):
            await pipeline.run(request())


async def test_variables_files_and_functions_are_read_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """What is read for each request is read again, too: it may have changed in between."""
    file = tmp_path / "key"

    class Rotating(Rotation):
        async def handler(self, received: Received) -> Reply:
            reply = await super().handler(received)
            monkeypatch.setenv("LAMELLA_TEST_KEY", self.accepted)
            file.write_text(self.accepted)
            self.gives = self.accepted
            return reply

    for key in ("env:LAMELLA_TEST_KEY", f"file:{file}", "function"):
        rotation = Rotating()
        monkeypatch.setenv("LAMELLA_TEST_KEY", "sk-key-one")
        file.write_text("sk-key-one")

        def function(rotation: Rotation = rotation) -> str:
            return rotation.gives

        async with served(rotation, function if key == "function" else key) as pipeline:
            assert (await pipeline.run(request())).text == TEXT
        assert rotation.refused == 1


async def test_a_key_given_itself_is_final() -> None:
    """There is nobody to ask for another."""
    rotation = Rotation()
    async with served(rotation, "sk-key-one") as pipeline:
        with pytest.raises(AuthenticationError):
            await pipeline.run(request())
    assert rotation.refused == 1


async def test_the_bound_on_attempts_holds() -> None:
    """The second request counts as an attempt: where none is left, the refusal stands."""
    rotation = Rotation()
    async with served(rotation, max_attempts=1) as pipeline:
        rotation.accepted = "sk-key-one"
        await pipeline.run(request())
        rotation.accepted = rotation.gives = "sk-key-two"
        with pytest.raises(AuthenticationError):
            await pipeline.run(request())
        assert (await pipeline.run(request())).text == TEXT
        assert rotation.refused == 1


async def test_no_failure_shows_the_key() -> None:
    """Tracebacks with variables of all frames, of a lost connection and of a refusal, hold none."""
    key = "sk-planted-0123456789abcdef"

    async def handler(received: Received) -> Reply:
        return complete({"error": {"message": key}}, status=401)

    async with HTTPServer(handler) as server:
        for url in (server.url, "http://127.0.0.1:1"):
            made = OpenAI(Secret.of_value(key), base_url=f"{url}/v1")
            async with Pipeline([], made) as pipeline:
                with pytest.raises(LamellaError) as caught:
                    await pipeline.run(request())
            whole = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
            # This test has it in a variable of its own.
            assert key not in "".join(whole.format()).replace(f"key = {key!r}", "")
