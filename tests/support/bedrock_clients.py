"""The official clients of Amazon Bedrock, pointed at the mock server and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import anyio
import botocore.session
from botocore.config import Config

from lamella.testing import MockServer

ACCESS, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
QUESTION: Any = [{"role": "user", "content": [{"text": "Why is the sky blue?"}]}]


@cache
def session() -> Any:
    """The SDK's session, which reads no files; clients are given their keys."""
    made = botocore.session.Session()
    for name in ("config_file", "credentials_file"):
        made.set_config_variable(name, os.devnull)
    return made


@contextmanager
def client_of(server: MockServer, **changes: Any) -> Iterator[Any]:
    """A client that does not try again by itself."""
    known: dict[str, Any] = {
        "service_name": "bedrock-runtime",
        "region_name": "eu-central-1",
        "endpoint_url": server.endpoint,
        "aws_access_key_id": ACCESS,
        "aws_secret_access_key": SECRET,
        "config": Config(retries={"total_max_attempts": 1}),
    }
    client = session().create_client(**{**known, **changes})
    yield client
    client.close()


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

    events: list[dict[str, Any]] = await call(
        read, modelId=model, **{"messages": QUESTION, **fields}
    )
    return events


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
