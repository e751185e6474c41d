"""What stands for a vector: finite numbers, whoever sends them and however they are packed."""

from __future__ import annotations

import base64
import json
from array import array
from typing import Any

import pytest

from lamella import ProtocolError, Vector
from lamella.transports import Dialect
from lamella.transports._openai_embeddings import OpenAIEmbeddings
from lamella_bedrock._embeddings import BedrockEmbeddings
from lamella_google._embeddings import GeminiEmbeddings
from lamella_ollama._embeddings import OllamaEmbeddings

READERS: dict[str, tuple[Dialect, Any]] = {
    "openai": (OpenAIEmbeddings(), lambda vector: {"data": [{"index": 0, "embedding": vector}]}),
    "google": (GeminiEmbeddings("google"), lambda vector: {"embeddings": [{"values": vector}]}),
    "ollama": (OllamaEmbeddings(), lambda vector: {"embeddings": [vector]}),
    "bedrock": (BedrockEmbeddings("bedrock"), lambda vector: {"embedding": vector}),
}


def packed(*values: float) -> str:
    """Numbers as OpenAI packs them."""
    return base64.b64encode(array("f", values).tobytes()).decode()


@pytest.mark.parametrize("name", READERS)
def test_whole_numbers_and_fractions_are_read(name: str) -> None:
    """As floats."""
    dialect, body = READERS[name]
    events, _ = dialect.decode(json.dumps(body([1, -0.5])).encode())
    assert events[0] == Vector(0, (1.0, -0.5))


@pytest.mark.parametrize(
    "vector",
    [[], ["1.5"], [True], [None], [1, [2]], [float("nan")], [float("inf")], [10**400], {}, 3],
    ids=["empty", "text", "bool", "null", "nested", "nan", "infinite", "huge", "object", "number"],
)
@pytest.mark.parametrize("name", READERS)
def test_what_an_index_cannot_compare_is_refused(name: str, vector: Any) -> None:
    """A vector that poisons an index is worse than an error."""
    dialect, body = READERS[name]
    with pytest.raises(ProtocolError):
        dialect.decode(json.dumps(body(vector)).encode())


@pytest.mark.parametrize("vector", [packed(1.0, float("nan")), packed(float("inf")), packed()])
def test_packed_numbers_are_held_to_the_same(vector: str) -> None:
    """Their form makes no difference."""
    dialect, body = READERS["openai"]
    with pytest.raises(ProtocolError):
        dialect.decode(json.dumps(body(vector)).encode())
