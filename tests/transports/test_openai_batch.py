"""Requests by way of OpenAI's Batch API: what is sent, what comes back, what is paid once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import lamella
from lamella import (
    ChatRequest,
    Context,
    EmbeddingRequest,
    LamellaError,
    Message,
    ModerationRequest,
    Pipeline,
)
from lamella.testing import MockBatches, MockServer, virtual_ports
from lamella.transports import OpenAI, OpenAIBatch, OpenAIBatchOptions, OpenAIOptions
from lamella.transports._batch_rows import FORM
from lamella_middlewares import PII, Cost, Retry

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(
    lamella_virtual_backend: tuple[str, dict[str, Any]],
) -> tuple[str, dict[str, Any]]:
    """Both event loops, in virtual time."""
    return lamella_virtual_backend


@asynccontextmanager
async def batching(
    server: MockServer, *layers: Any, journal: Path | None = None, seed: int = 0, **options: Any
) -> AsyncIterator[tuple[Pipeline, OpenAIBatch]]:
    """A pipeline whose transport goes by batch; each process has a seed of its own."""
    transport = OpenAIBatch(
        "key",
        base_url=server.url,
        model="mock",
        journal=journal,
        options=OpenAIBatchOptions(name="openai", **options),
    )
    async with Pipeline(list(layers), transport, ports=virtual_ports(seed)) as pipeline:
        try:
            yield pipeline, transport
        finally:
            await transport.aclose()


async def answers(pipeline: Pipeline, rows: Any, **options: Any) -> list[str]:
    """Texts, or the codes of errors, in the order of the rows."""
    found: list[str] = []
    async with pipeline.map(rows, concurrency=1_000, **options) as work:
        async for result in work:
            error = result.error
            found.append(result.response.text if result.response else str(_code(error)))
    return found


async def errors(pipeline: Pipeline, rows: Any) -> list[Exception | None]:
    """The errors of rows."""
    async with pipeline.map(rows, concurrency=1_000) as work:
        return [result.error async for result in work]


def _code(error: Exception | None) -> str | None:
    return getattr(error, "code", None) or type(error).__name__


def say(text: str) -> ChatRequest:
    """A request for chat."""
    return ChatRequest.of(text)


def asked(server: MockServer) -> Counter[str]:
    """How often each kind of request came, looks at batches aside."""
    words = [f"{each.method} {each.path}" for each in server.requests]
    return Counter(word for word in words if not word.startswith("GET /v1/batches/"))


async def uploaded(server: MockServer) -> list[dict[str, Any]]:
    """The lines of all uploaded files."""
    found: list[dict[str, Any]] = []
    async with anyio.create_task_group():
        for number in range(1, 1 + asked(server)["POST /v1/files"]):
            transport = OpenAI("key", base_url=server.url, model="mock")
            sdk = await transport.sdk()
            content = await sdk.files.content(f"file-mock_{number}")
            found += [json.loads(line) for line in content.text.splitlines()]
            await transport.aclose()
    return [line for line in found if "body" in line]


ROWS = [f"mock: say {number}" for number in range(6)]
TEXTS = [str(number) for number in range(6)]


async def test_rows_are_one_batch() -> None:
    """Rows that come together are one file and one batch, and each has its own answer."""
    async with MockServer(batches=MockBatches(unordered=True, polls=3)) as server:
        async with batching(server) as (pipeline, _):
            began = pipeline.ports.monotonic()
            assert await answers(pipeline, ROWS) == TEXTS
            assert 185 <= pipeline.ports.monotonic() - began <= 200
            head = (await pipeline.run(say("mock: say more"))).head
        assert (head.service, head.status, head.request_id) == ("batch", 200, "req_mock_line_1")
        assert asked(server)["POST /v1/files"] == asked(server)["POST /v1/batches"] == 2


async def test_layers_apply() -> None:
    """Only masked text leaves the process, and the bill is that of the batch's price."""
    cards = {"openai/mock": lamella.Price.of(input="1", output="1", services={"batch": "1/2"})}
    async with (
        MockServer() as server,
        batching(server, PII(), Retry(), Cost(prices=cards)) as (pipeline, _),
    ):
        response = await pipeline.run(say("mock: echo ann@example.com"))
        usage = response.usage
        (line,) = await uploaded(server)
    assert "ann@example.com" in response.text
    assert "ann@example.com" not in json.dumps(line)
    assert usage is not None
    assert response.trace.cost == lamella.Money((usage.input_tokens + usage.output_tokens) * 500)


async def test_every_operation_has_its_way() -> None:
    """Each API and model has a batch of its own, streams are whole, and the rest goes at once."""
    async with MockServer() as server, batching(server) as (pipeline, _):
        vectors = await pipeline.run(EmbeddingRequest.of(["a", "b"], model="mock-embedding"))
        assert (len(vectors.vectors), vectors.head.service) == (2, "batch")
        async with pipeline.stream(say("mock: say streamed")) as response:
            assert (await response.collect()).text == "streamed"
        assert "GET /v1/batches" not in asked(server)
        before = len(server.requests)
        judged = await pipeline.run(ModerationRequest.of("hello"))
        assert not judged.flagged
        assert [each.path for each in list(server.requests)[before:]] == ["/v1/moderations"]


async def test_what_goes_wrong_with_rows() -> None:
    """Missing, expired, refused and malformed rows are errors of their own; the others finish."""
    plan = MockBatches(missing={1}, invalid={2: "It is not allowed."}, unordered=True)
    async with MockServer(batches=plan) as server, batching(server) as (pipeline, _):
        found = await answers(pipeline, ROWS)
        assert found == ["batch_line_missing", "invalid_request", *TEXTS[2:]]

    async with MockServer() as server, batching(server) as (pipeline, _):
        rows = [{"prompt": "hi", "model": f"mock;status={status}"} for status in (400, 429, 500)]
        statuses = [getattr(error, "status", None) for error in await errors(pipeline, rows)]
        assert statuses == [400, 429, 500]

    async with (
        MockServer(batches=MockBatches(expired={2})) as server,
        batching(server) as (pipeline, _),
    ):
        first, error, last = await errors(pipeline, ROWS[:3])
    assert first is last is None
    assert isinstance(error, lamella.ServerError)
    assert (error.code, error.retryable) == ("batch_expired", True)

    async with (
        MockServer(batches=MockBatches(refused="token_limit_exceeded")) as server,
        batching(server) as (pipeline, _),
    ):
        with pytest.raises(lamella.RateLimitError):
            await pipeline.run(say("mock: say 1"))


async def test_retry_asks_again_what_had_no_answer() -> None:
    """A row without an answer goes into another batch, and not into the one that has ended."""
    async with MockServer(batches=MockBatches(missing={2})) as server:
        async with batching(server, Retry()) as (pipeline, _):
            assert await answers(pipeline, ROWS) == TEXTS
        assert asked(server)["POST /v1/batches"] == 2


async def test_batches_are_cut() -> None:
    """No batch has more requests, more inputs, more bytes or more models than one may have."""
    async with MockServer() as server, batching(server, max_lines=4) as (pipeline, _):
        assert await answers(pipeline, ROWS) == TEXTS
        assert asked(server)["POST /v1/batches"] == 2
        async with anyio.create_task_group() as group:
            for _ in range(3):
                request = EmbeddingRequest.of(["a", "b"], model="mock-embedding")
                group.start_soon(pipeline.run, request)
        assert asked(server)["POST /v1/batches"] == 4
        rows = [{"prompt": "mock: say 1", "model": model} for model in ("mock", "mock-small")]
        assert await answers(pipeline, rows) == ["1", "1"]
        assert asked(server)["POST /v1/batches"] == 6
    async with MockServer() as server, batching(server, max_bytes=1) as (pipeline, _):
        assert await answers(pipeline, ROWS[:2]) == TEXTS[:2]
        assert asked(server)["POST /v1/batches"] == 2


async def test_the_provider_fails_for_a_while() -> None:
    """Uploads, batches and looks that fail are tried again; no batch is made twice."""
    paths = {
        "/files": "status=503|ok",
        "/v1/batches": "reset_before_headers|ok",
        "/batches/batch_mock_1": "status=500|reset|ok",
        "/content": "truncate=0|ok",
    }
    async with MockServer(paths=paths) as server, batching(server) as (pipeline, _):
        assert await answers(pipeline, ROWS) == TEXTS
        seen = asked(server)
        assert (seen["GET /v1/batches"], seen["POST /v1/batches"]) == (1, 1)


async def test_a_key_that_is_refused_is_told() -> None:
    """What every request would meet is told to those who wait, at once or after some looks."""
    async with (
        MockServer(paths={"/files": "status=401"}) as server,
        batching(server) as (pipeline, _),
    ):
        with pytest.raises(lamella.AuthenticationError):
            await pipeline.run(say("mock: say 1"))
    async with (
        MockServer(paths={"/batch_mock_1": ["status=401"] * 3}) as server,
        batching(server) as (pipeline, _),
    ):
        with pytest.raises(lamella.AuthenticationError):
            await pipeline.run(say("mock: say 1"))


# --- resuming ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [6, 100])
async def test_a_later_run_goes_on_with_the_batch(tmp_path: Path, seconds: float) -> None:
    """A run that is broken off at any time is gone on from: no row is paid twice."""
    kept, rows = tmp_path / "batches", tmp_path / "rows"
    async with MockServer(batches=MockBatches(polls=3)) as server:
        async with batching(server, journal=kept, seed=1) as (pipeline, _):
            with anyio.move_on_after(seconds):
                await answers(pipeline, ROWS, journal=rows)
        async with batching(server, journal=kept, seed=2) as (pipeline, _):
            assert await answers(pipeline, ROWS, journal=rows) == TEXTS
            # Another journal of rows is another run: its rows have keys of their own.
            assert await answers(pipeline, ROWS, journal=tmp_path / "others") == TEXTS
        assert asked(server)["POST /v1/batches"] == 2


async def test_masks_are_the_same_in_a_later_run(tmp_path: Path) -> None:
    """With a key, `PII` masks a row as before, so that it is found in its batch."""
    masks = PII(key=lamella.Secret.of_value("0123456789abcdef"))
    rows, kept = [{"id": 1, "prompt": "mock: echo ann@example.com"}], tmp_path / "batches"
    async with MockServer(batches=MockBatches(polls=3)) as server:
        async with batching(server, masks, journal=kept, seed=1) as (pipeline, _):
            with anyio.move_on_after(100):
                await answers(pipeline, rows, journal=tmp_path / "rows")
        async with batching(server, masks, journal=kept, seed=2) as (pipeline, _):
            (text,) = await answers(pipeline, rows, journal=tmp_path / "rows")
        assert "ann@example.com" in text
        assert asked(server)["POST /v1/batches"] == 1


async def test_answers_outlive_who_asked(tmp_path: Path) -> None:
    """An answer that was read is there for who asks the same under the same key, at no cost."""
    request = ChatRequest.of("mock: say 1", context=Context(idempotency_key="mine"))
    kept = tmp_path / "batches"
    async with MockServer() as server:
        for seed in (1, 2):
            async with batching(server, journal=kept, seed=seed) as (pipeline, _):
                assert (await pipeline.run(request)).text == "1"
        assert asked(server)["POST /v1/batches"] == 1
        other = request.evolve(messages=[Message.user("mock: say 2")])
        async with batching(server, journal=kept, seed=3) as (pipeline, _):
            assert (await pipeline.run(other)).text == "2"  # the key is reused for another thing


@pytest.mark.parametrize("point", ["begin", "uploaded", "create"])
async def test_a_process_that_dies_between_two_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Whatever a process had done of making a batch when it died, there is one batch in the end."""
    from lamella.transports._batch_api import BatchAPI
    from lamella.transports._batch_journal import BatchJournal

    kept, rows = tmp_path / "batches", tmp_path / "rows"
    where: Any = BatchAPI if point == "create" else BatchJournal
    before = getattr(where, point)

    async def dying(*args: Any) -> None:
        await before(*args)
        await anyio.sleep_forever()

    async with MockServer() as server:
        async with batching(server, journal=kept, seed=1) as (pipeline, _):
            with monkeypatch.context() as patch, anyio.move_on_after(50):
                patch.setattr(where, point, dying)
                await answers(pipeline, ROWS, journal=rows)
        async with batching(server, journal=kept, seed=2) as (pipeline, _):
            assert await answers(pipeline, ROWS, journal=rows) == TEXTS
        seen = asked(server)
        assert (seen["POST /v1/files"], seen["POST /v1/batches"]) == (1, 1)


async def test_cancelling() -> None:
    """A cancelled call leaves its batch; `cancel` ends batches, and their rows are not retried."""
    async with MockServer(batches=MockBatches(polls=50)) as server:
        async with batching(server, Retry()) as (pipeline, transport):
            with anyio.move_on_after(20):
                await pipeline.run(say("mock: say 1"))
            assert [each.status for each in await transport.batches()] == ["in_progress"]
            async with anyio.create_task_group() as group:

                async def cancel() -> None:
                    await anyio.sleep(30)
                    found = await transport.cancel()
                    assert [each.status for each in found] == ["cancelling", "cancelling"]

                group.start_soon(cancel)
                assert await answers(pipeline, ROWS[:2]) == ["batch_cancelled"] * 2
        assert asked(server)["POST /v1/batches"] == 2


async def test_a_call_that_is_cancelled_while_it_gathers_is_not_sent() -> None:
    """Who leaves before the batch is made is not in it."""
    async with MockServer() as server, batching(server) as (pipeline, _):
        with anyio.move_on_after(2):
            await pipeline.run(say("mock: say 1"))
        await anyio.sleep(60)
        assert not server.requests


async def test_closing_tells_who_waits() -> None:
    """Closing ends the calls, and leaves the batch to run."""
    async with MockServer(batches=MockBatches(polls=50)) as server:
        transport = OpenAIBatch("key", base_url=server.url, model="mock")
        pipeline = Pipeline([], transport, ports=virtual_ports())
        async with anyio.create_task_group() as group:

            async def close() -> None:
                await anyio.sleep(30)
                await transport.aclose()

            group.start_soon(close)
            with pytest.raises(lamella.ClosedError):
                await pipeline.run(say("mock: say 1"))
        assert not [each for each in server.requests if each.path.endswith("/cancel")]
        with pytest.raises(LamellaError):
            await pipeline.run(say("mock: say 1"))
        await pipeline.aclose()


async def test_one_transport_at_a_time_has_a_journal(tmp_path: Path) -> None:
    """Two would not know of each other's batches."""
    kept = tmp_path / "batches"
    async with MockServer() as server, batching(server, journal=kept) as (pipeline, _):
        await pipeline.run(say("mock: say 1"))
        async with batching(server, journal=kept, seed=2) as (other, _):
            with pytest.raises(lamella.JournalError):
                await other.run(say("mock: say 1"))


async def test_old_batches_are_forgotten(tmp_path: Path) -> None:
    """After a month the provider has the answers no longer, and neither has the journal."""
    request = ChatRequest.of("mock: say 1", context=Context(idempotency_key="mine"))
    async with MockServer() as server:
        for seed in (1, 2):
            kept = tmp_path / "batches"
            async with batching(server, journal=kept, seed=seed) as (pipeline, _):
                assert (await pipeline.run(request)).text == "1"
            await anyio.sleep(31 * 86_400)
        assert asked(server)["POST /v1/batches"] == 2
    assert FORM.version == 1


def test_options_are_checked(tmp_path: Path) -> None:
    """What cannot be meant is refused where it is given."""
    for wrong in ({"gather": 0}, {"poll": -1}, {"max_lines": 0}, {"max_bytes": 10**9}):
        with pytest.raises(lamella.ConfigurationError):
            OpenAIBatchOptions(**wrong)  # type: ignore[arg-type]
    with pytest.raises(lamella.ConfigurationError):
        OpenAIBatch(journal=tmp_path)
    assert OpenAIBatch("key", options=OpenAIOptions(project="p")).options.project == "p"
