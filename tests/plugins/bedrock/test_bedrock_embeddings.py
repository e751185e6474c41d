"""Embeddings on Bedrock: each vendor's bodies, and many texts where a model takes one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from bedrock_wire import KEYS, complete, failed

import lamella
from lamella import Context, EmbeddingRequest, Pipeline, ProtocolError, UnsupportedError, Usage
from lamella.testing._http_framing import Reply
from lamella.testing._http_server import HTTPServer
from lamella.testing._http_wire import Received
from lamella.transports import DialectOptions
from lamella_bedrock import Bedrock, BedrockOptions
from lamella_bedrock._embedding_pieces import EMBEDDINGS_AT_ONCE
from lamella_bedrock._embeddings import BedrockEmbeddings
from lamella_bedrock._models import ModelNames

pytestmark = pytest.mark.anyio

TITAN_1 = "amazon.titan-embed-text-v1"
TITAN_2 = "amazon.titan-embed-text-v2:0"
COHERE_3 = "cohere.embed-multilingual-v3"
COHERE_4 = "us.cohere.embed-v4:0"
NOVA = "amazon.nova-2-multimodal-embeddings-v1:0"


def body(texts: Any, model: str, **fields: Any) -> dict[str, Any]:
    """The body of a request."""
    request = EmbeddingRequest.of(texts, model=model, **fields)
    return BedrockEmbeddings().encode(request, stream=False, options=DialectOptions())


@asynccontextmanager
async def answering(
    answer: Callable[[dict[str, Any]], Reply],
) -> AsyncIterator[tuple[HTTPServer, Pipeline]]:
    """A server that answers by the request's body, and a pipeline to it."""
    made = BedrockOptions(**KEYS)

    async def handler(request: Received) -> Reply:
        await anyio.lowlevel.checkpoint()
        return answer(json.loads(request.body))

    async with HTTPServer(handler) as server:
        transport = Bedrock(
            region="eu-west-1", model=TITAN_2, endpoint_url=server.url, options=made
        )
        async with Pipeline([], transport) as pipeline:
            yield server, pipeline


def titan(asked: dict[str, Any]) -> Reply:
    """Titan's answer: a vector that tells the text, and three tokens."""
    number = float(asked["inputText"].removeprefix("t"))
    return complete({"embedding": [number, 0.5], "inputTextTokenCount": 3})


# --- bodies ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [
        (TITAN_1, {}, {"inputText": "a"}),
        (TITAN_2, {"dimensions": 256}, {"inputText": "a", "dimensions": 256}),
        (TITAN_2, {"extra": {"normalize": False}}, {"inputText": "a", "normalize": False}),
        (
            "amazon.titan-embed-image-v1",
            {"dimensions": 384},
            {"inputText": "a", "embeddingConfig": {"outputEmbeddingLength": 384}},
        ),
        (COHERE_3, {}, {"texts": ["a"], "input_type": "search_document"}),
        (
            COHERE_4,
            {"dimensions": 512, "extra": {"input_type": "search_query"}},
            {"texts": ["a"], "input_type": "search_query", "output_dimension": 512},
        ),
        (
            NOVA,
            {"dimensions": 1024},
            {
                "taskType": "SINGLE_EMBEDDING",
                "singleEmbeddingParams": {
                    "embeddingPurpose": "GENERIC_INDEX",
                    "embeddingDimension": 1024,
                    "text": {"truncationMode": "NONE", "value": "a"},
                },
            },
        ),
    ],
)
def test_bodies(model: str, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each vendor has a body of its own."""
    assert body("a", model, **fields) == expected


@pytest.mark.parametrize(
    ("texts", "model", "fields"),
    [
        ("a", "anthropic.claude-x", {}),
        ("a", TITAN_1, {"dimensions": 3}),
        ("a", COHERE_3, {"dimensions": 3}),
        (["a", "b"], TITAN_2, {}),
    ],
)
def test_what_is_refused(texts: Any, model: str, fields: dict[str, Any]) -> None:
    """Models that embed nothing, lengths that a model does not have, and more than it takes."""
    with pytest.raises(UnsupportedError) as caught:
        body(texts, model, **fields)
    assert caught.value.hint


def test_behind_an_arn() -> None:
    """What is behind an application's inference profile can be told."""
    dialect = BedrockEmbeddings("bedrock", ModelNames({"arn:x": TITAN_2}))
    request = EmbeddingRequest.of("a", model="arn:x")
    assert dialect.encode(request, stream=False, options=DialectOptions()) == {"inputText": "a"}


# --- answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "vectors"),
    [
        ({"embedding": [1, 2.5], "inputTextTokenCount": 3}, ((1.0, 2.5),)),
        ({"embeddingsByType": {"float": [1.0]}, "inputTextTokenCount": 1}, ((1.0,),)),
        ({"embeddings": [[1.0], [2.0]], "id": "x"}, ((1.0,), (2.0,))),
        ({"embeddings": {"int8": [[1], [2]]}}, ((1.0,), (2.0,))),
        ({"embeddings": {"int8": [[9]], "float": [[1.5]]}}, ((1.5,),)),
        ({"embeddings": [{"embeddingType": "TEXT", "embedding": [3.0]}]}, ((3.0,),)),
    ],
)
def test_answers(answer: dict[str, Any], vectors: Any) -> None:
    """Vectors are found in any of the vendors' shapes."""
    events, _ = BedrockEmbeddings().decode(json.dumps(answer).encode())
    found = lamella.EmbeddingResponse(events).vectors
    assert found == vectors


@pytest.mark.parametrize(
    "answer", [{}, {"embedding": "x"}, {"embedding": []}, {"embeddings": []}, {"embeddings": ["x"]}]
)
def test_no_answers(answer: dict[str, Any]) -> None:
    """What holds no vectors is a protocol error."""
    with pytest.raises(ProtocolError):
        BedrockEmbeddings().decode(json.dumps(answer).encode())


async def test_usage_of_a_header() -> None:
    """Cohere's usage stands in a header; without it, it is estimated."""

    def cohere(_: dict[str, Any]) -> Reply:
        return complete({"embeddings": [[1.0], [2.0]]}, X_Amzn_Bedrock_Input_Token_Count="11")

    asked = EmbeddingRequest.of(["a", "b"], model=COHERE_3)
    async with answering(cohere) as (server, pipeline):
        assert (await pipeline.run(asked)).usage == Usage(uncached_input=11)
        assert server.received[0].target == f"/model/{COHERE_3}/invoke"
    async with answering(lambda _: complete({"embeddings": [[1.0], [2.0]]})) as (_, pipeline):
        usage = (await pipeline.run(asked)).usage
        assert usage is not None
        assert usage.estimated


async def test_fewer_vectors_than_inputs() -> None:
    """A missing vector is a protocol error."""
    async with answering(lambda _: complete({"embeddings": [[1.0]]})) as (_, pipeline):
        error = await failed(pipeline, EmbeddingRequest.of(["a", "b"], model=COHERE_3))
        assert isinstance(error, ProtocolError)


# --- many texts ------------------------------------------------------------------------------


async def test_many_texts() -> None:
    """Titan takes one text: many are many requests, in order, of one attempt; usage is summed."""
    texts = [f"t{number}" for number in range(30)]
    async with answering(titan) as (server, pipeline):
        asked = EmbeddingRequest.of(texts, context=Context(idempotency_key="k"))
        response = await pipeline.run(asked)
        assert [vector[0] for vector in response.vectors] == [float(n) for n in range(30)]
        assert response.usage == Usage(uncached_input=90)
        assert len(response.trace.attempts) == 1
        assert len(server.received) == 30
        assert server.connections <= EMBEDDINGS_AT_ONCE
        keys = {each.headers["idempotency-key"] for each in server.received}
        assert len(keys) == 30


async def test_batches_of_cohere() -> None:
    """Cohere takes 96 texts in one request."""

    def cohere(asked: dict[str, Any]) -> Reply:
        vectors = [[float(text)] for text in asked["texts"]]
        return complete({"embeddings": vectors}, X_Amzn_Bedrock_Input_Token_Count="10")

    async with answering(cohere) as (server, pipeline):
        texts = [str(number) for number in range(200)]
        response = await pipeline.run(EmbeddingRequest.of(texts, model=COHERE_4))
        assert [int(vector[0]) for vector in response.vectors] == list(range(200))
        assert response.usage == Usage(uncached_input=30)
        assert len(server.received) == 3


async def test_errors_come_in_no_group() -> None:
    """Whatever a function for credentials raises is raised as it is, for many texts too."""

    def credentials() -> Any:
        raise LookupError("no vault")

    options = BedrockOptions(credentials=credentials)
    transport = Bedrock(region="us-east-1", model=TITAN_2, options=options)
    async with Pipeline([], transport) as pipeline:
        for texts in (["a"], ["a", "b"]):
            with pytest.raises(LookupError, match="no vault"):
                await pipeline.run(EmbeddingRequest.of(texts))


async def test_the_first_error_ends_all() -> None:
    """One failure ends the others, and says what those that were answered have cost."""

    def sometimes(asked: dict[str, Any]) -> Reply:
        if asked["inputText"] == "t20":
            return complete({"message": "no"}, 429, x_amzn_ErrorType="ThrottlingException")
        return titan(asked)

    texts = [f"t{number}" for number in range(200)]
    async with answering(sometimes) as (server, pipeline):
        error = await failed(pipeline, EmbeddingRequest.of(texts))
        assert isinstance(error, lamella.RateLimitError)
        assert error.usage is not None
        assert error.usage.uncached_input >= 3
        assert len(server.received) < 100
