"""The official clients of Amazon Bedrock, pointed at the mock server and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import anyio
import botocore.session
import pytest
from botocore.config import Config

from lamella.testing import MockServer

ACCESS, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
QUESTION: Any = [{"role": "user", "content": [{"text": "Why is the sky blue?"}]}]


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    """botocore's session, which reads no files and asks no metadata service."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        patch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
        yield botocore.session.Session()


@pytest.fixture
async def server() -> AsyncIterator[MockServer]:
    """A server that verifies signatures."""
    async with MockServer(keys=[f"{ACCESS}:{SECRET}"]) as server:
        yield server


@pytest.fixture
def client(session: Any, server: MockServer) -> Iterator[Any]:
    """The official client of that server."""
    made = client_of(session, server)
    yield made
    made.close()


def client_of(session: Any, server: MockServer, **changes: Any) -> Any:
    """A client that does not try again by itself."""
    known: dict[str, Any] = {
        "service_name": "bedrock-runtime",
        "region_name": "eu-central-1",
        "endpoint_url": server.endpoint,
        "aws_access_key_id": ACCESS,
        "aws_secret_access_key": SECRET,
        "config": Config(retries={"total_max_attempts": 1}),
    }
    return session.create_client(**{**known, **changes})


async def call(function: Any, **arguments: Any) -> Any:
    """Call the blocking client in a thread, beside the server's event loop."""
    return await anyio.to_thread.run_sync(partial(function, **arguments))


async def asked(client: Any, model: str = "mock", **fields: Any) -> Any:
    """A whole answer."""
    return await call(client.converse, modelId=model, **{"messages": QUESTION, **fields})


async def streamed(client: Any, model: str = "mock", **fields: Any) -> list[dict[str, Any]]:
    """The events of a streamed answer."""

    def read(**arguments: Any) -> list[dict[str, Any]]:
        stream = client.converse_stream(**arguments)["stream"]
        try:
            return list(stream)
        finally:
            stream.close()

    return await call(read, modelId=model, **{"messages": QUESTION, **fields})


def blocks(answer: Any) -> list[dict[str, Any]]:
    """What a whole answer consists of."""
    content: list[dict[str, Any]] = answer["output"]["message"]["content"]
    return content


def put_together(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a streamed answer consists of, put together as the documentation says."""
    found: list[dict[str, Any]] = []
    for event in events:
        if "contentBlockStart" in event:
            found.append({"start": event["contentBlockStart"]["start"]})
        if "contentBlockDelta" not in event:
            continue
        at, delta = (event["contentBlockDelta"][name] for name in ("contentBlockIndex", "delta"))
        if at == len(found):
            found.append({})
        for kind, piece in _pieces(delta):
            found[at][kind] = found[at].get(kind, piece[:0]) + piece
    return found


def _pieces(delta: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for kind, given in delta.items():
        if kind == "toolUse":
            yield "input", given["input"]
        elif kind == "reasoningContent":
            yield from given.items()
        else:
            yield kind, given
