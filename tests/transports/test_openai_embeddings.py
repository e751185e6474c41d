"""The Embeddings dialect."""

from __future__ import annotations

import base64
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import (
    EmbeddingRequest,
    Finish,
    LamellaError,
    ProtocolError,
    UnsupportedError,
    Usage,
    UsageReport,
    Vector,
)
from lamella.transports._dialect import DEFAULT_OPTIONS, DialectOptions
from lamella.transports._openai_embeddings import OpenAIEmbeddings

EMBEDDINGS = OpenAIEmbeddings()
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def answer(*vectors: Any, **fields: Any) -> bytes:
    """A complete answer."""
    data = [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    usage = {"prompt_tokens": 5, "total_tokens": 5}
    return msgspec.json.encode({"model": "m", "data": data, "usage": usage, **fields})


def packed(values: list[float]) -> str:
    """Little-endian 32-bit floats in base64."""
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def test_a_request_is_written_with_what_was_given() -> None:
    """Inputs are always a list; packed vectors are asked for where the endpoint knows them."""
    request = EmbeddingRequest.of("Hi", model="m", dimensions=8, extra={"input_type": "query"})
    assert EMBEDDINGS.encode(request, stream=False, options=DEFAULT_OPTIONS) == {
        "model": "m",
        "input": ["Hi"],
        "dimensions": 8,
        "input_type": "query",
    }
    options = DialectOptions(quirks={"base64_embeddings": True})
    body = EMBEDDINGS.encode(EmbeddingRequest.of("Hi"), stream=False, options=options)
    assert body == {"input": ["Hi"], "encoding_format": "base64"}


def test_embeddings_are_not_streamed() -> None:
    """Asking for a stream names the remedy."""
    with pytest.raises(UnsupportedError, match="unstreamed"):
        EMBEDDINGS.encode(EmbeddingRequest.of("Hi"), stream=True, options=DEFAULT_OPTIONS)
    with pytest.raises(ProtocolError):
        EMBEDDINGS.decoder(EmbeddingRequest.of("Hi"))


def test_vectors_come_in_the_order_of_the_inputs() -> None:
    """`index` says the order, whatever the order on the wire."""
    data = [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1]}]
    events, head = EMBEDDINGS.decode(answer(data=data))
    assert events == [
        Vector(0, (1.0,)),
        Vector(1, (2.0,)),
        UsageReport(Usage(uncached_input=5)),
        Finish("stop"),
    ]
    assert head.model == "m"


@given(st.lists(st.lists(FLOATS, min_size=1, max_size=5), min_size=1, max_size=4))
def test_packed_and_plain_vectors_are_the_same(vectors: list[list[float]]) -> None:
    """Both forms are read, whatever was asked for."""
    plain, _ = EMBEDDINGS.decode(answer(*vectors))
    unpacked, _ = EMBEDDINGS.decode(answer(*[packed(vector) for vector in vectors]))
    assert plain == unpacked


def test_usage_that_is_not_stated_is_estimated() -> None:
    """From the inputs, and flagged."""
    request = EmbeddingRequest.of(["Hi", "you"])
    events, _ = EMBEDDINGS.decode(answer([1.0], [2.0], usage=None), request)
    assert events[-2] == UsageReport(Usage(uncached_input=3, estimated=True))


@pytest.mark.parametrize(
    "body",
    [
        b"<html>", b"{}", answer(), answer(None), answer([]), answer(["x"]), answer("A"),
        answer("AAA="), answer(""), answer("§"), answer(data=[{"index": 1, "embedding": [1.0]}]),
        answer(data=[{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [2.0]}]),
        answer(data=[{"index": "0", "embedding": [1.0]}]), answer([1.0]), answer([10**400]),
    ],
)  # fmt: skip
def test_a_body_that_is_no_answer_is_a_protocol_error(body: bytes) -> None:
    """A missing or repeated vector is none either: the caller would mix up the inputs."""
    with pytest.raises(ProtocolError):
        EMBEDDINGS.decode(body, EmbeddingRequest.of(["a", "b"]))


def test_an_error_in_a_good_status_is_the_provider_s() -> None:
    """And no protocol error."""
    with pytest.raises(LamellaError) as caught:
        EMBEDDINGS.decode(msgspec.json.encode({"error": {"code": 429}}))
    assert caught.value.status == 429
