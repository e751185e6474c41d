"""Canaries: personal data that is planted in a request is nowhere but where it may be.

The whole stack, over real HTTP, whatever goes wrong. The caller's own answer may hold it, the
session's vault holds it sealed, and nothing else does: not the bytes that are sent, nor records,
notes, errors with their causes, keys and values of stores, the audit log, `repr` or pickles.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from canaries import ASKED, MAIL, World, must_hold_no_canary

from lamella.testing import HTTPServer, MockServer, Reply
from lamella.testing._http_wire import Received

pytestmark = pytest.mark.anyio

FAULTS = [
    None,
    "status=400",
    "status=401",
    "status=404",
    "status=429; retry-after=1",
    "status=500",
    "reset_at=0",
    "reset_at=400",
    "truncate=1",
    "error=overloaded_error",
    "malformed_at=1",
    "hold_headers",
    "stall_at=2",
    "body=<html>",
]


@pytest.fixture
def anyio_backend(lamella_virtual_backend: Any) -> Any:
    """Waits of seconds take none."""
    return lamella_virtual_backend


@pytest.fixture(params=[False, True], ids=["run", "stream"])
def stream(request: pytest.FixtureRequest) -> bool:
    """Unstreamed and streamed."""
    return bool(request.param)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_no_canary_is_anywhere_whatever_goes_wrong(
    fault: str | None, stream: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Sent, written, noted, raised, kept, shown: nothing of it holds one."""
    caplog.set_level(logging.DEBUG)
    async with MockServer(faults=[fault] * 4 if fault else []) as server:
        world = World(server.url, tmp_path)
        failure = await world.ask(stream=stream)
        await world.pipeline.aclose()
        sent = [(r.path, dict(r.query), dict(r.headers.items()), r.json) for r in server.requests]
    assert sent
    assert fault or failure is None
    must_hold_no_canary(json.dumps(sent, ensure_ascii=False))
    must_hold_no_canary(world.looked_over())
    must_hold_no_canary(caplog.text)


async def test_a_provider_that_echoes_the_prompt_echoes_no_canary(
    stream: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Some quote what they were sent in the messages of their errors."""
    caplog.set_level(logging.DEBUG)

    async def echo(received: Received) -> Reply:
        body = {"error": {"message": received.body.decode(), "type": "invalid_request_error"}}
        return Reply(400, {"content-type": "application/json"}, json.dumps(body).encode())

    async with HTTPServer(echo) as server:
        world = World(f"{server.url}/v1", tmp_path)
        assert await world.ask(stream=stream) is not None
        await world.pipeline.aclose()
    must_hold_no_canary(world.looked_over())
    must_hold_no_canary(caplog.text)


async def test_a_broken_guard_tells_nothing(stream: bool, tmp_path: Path) -> None:
    """What a rule or a detector raises may quote what it was given."""

    def broken(inspection: Any) -> Any:
        raise ValueError(f"cannot parse {inspection.text}")

    class Broken:
        kinds = ("thing",)
        reach = 10

        def find(self, text: str) -> Any:
            raise ValueError(f"cannot parse {text}")

    async with MockServer() as server:
        for rules, options in (([broken], {}), ([], {"detectors": [Broken()]})):
            world = World(server.url, tmp_path, *rules, **options)
            assert await world.ask(stream=stream) is not None
            await world.pipeline.aclose()
            must_hold_no_canary(world.looked_over())
        assert not server.requests


async def test_what_is_blocked_tells_only_its_kind(stream: bool, tmp_path: Path) -> None:
    """The strategy that lets nothing pass, at its most talkative."""
    async with MockServer() as server:
        world = World(server.url, tmp_path, strategies={"card": "block"})
        failure = await world.ask(stream=stream)
        await world.pipeline.aclose()
        assert not server.requests
    assert getattr(failure, "kinds", None) == ("card",)
    must_hold_no_canary(world.looked_over())


async def test_the_caller_gets_what_was_meant(stream: bool, tmp_path: Path) -> None:
    """The canaries are in the answer where the model names them, kept or not, and only there."""

    async def answer(received: Received) -> Reply:
        said = json.loads(received.body)["messages"][-1]["content"]
        body = {
            "id": "x", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": f"Yes: {said}"},
                         "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6},
        }  # fmt: skip
        return Reply(200, {"content-type": "application/json"}, json.dumps(body).encode())

    async with HTTPServer(answer) as server:
        world = World(f"{server.url}/v1", tmp_path)
        for kept in (False, True):
            if stream:
                async with world.pipeline.stream(ASKED) as response:
                    await response.collect()
            else:
                response = await world.pipeline.run(ASKED)
            assert (response.text, response.head.cached) == (f"Yes: Write to {MAIL}.", kept)
            world.trace = response.trace
        await world.pipeline.aclose()
    must_hold_no_canary(world.looked_over())
