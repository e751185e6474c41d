"""Google's embeddings and counts of tokens."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google_wire import OPTIONS

from lamella import (
    ChatRequest,
    EmbeddingRequest,
    Finish,
    Image,
    LamellaError,
    Message,
    ProtocolError,
    RateLimitError,
    TokenCountRequest,
    Tool,
    UnsupportedError,
    Usage,
    UsageReport,
    Vector,
)
from lamella_google._embeddings import GeminiEmbeddings
from lamella_google._token_count import GeminiTokenCount

GEMINI, VERTEX = GeminiEmbeddings(), GeminiEmbeddings("vertex", vertex=True)
COUNT, VERTEX_COUNT = GeminiTokenCount(), GeminiTokenCount("vertex", vertex=True)
EXTRA = {"taskType": "RETRIEVAL_QUERY", "title": "T"}


def body(dialect: GeminiEmbeddings, model: str, *inputs: str, **fields: Any) -> dict[str, Any]:
    """The body of a request."""
    request = EmbeddingRequest.of(inputs or ["a", "b"], model=model, **fields)
    return dialect.encode(request, stream=False, options=OPTIONS)


def answer(dialect: GeminiEmbeddings, said: Any, *inputs: str) -> list[Any]:
    """The events of an answer."""
    request = EmbeddingRequest.of(inputs or ["a", "b"], model="m")
    return list(dialect.decode(json.dumps(said).encode(), request)[0])


# --- embeddings --------------------------------------------------------------------------------


def test_ai_studio() -> None:
    """One request for each text, all in one body."""
    assert body(GEMINI, "e1", dimensions=64, extra={**EXTRA, "x": 1}) == {
        "requests": [
            {
                "model": "models/e1",
                "content": {"parts": [{"text": text}]},
                "outputDimensionality": 64,
                **EXTRA,
            }
            for text in ("a", "b")
        ],
        "x": 1,
    }
    assert GEMINI.path("e1", stream=False) == "/models/e1:batchEmbedContents"


def test_gemini_models_on_vertex() -> None:
    """The same method with other fields."""
    config = {"outputDimensionality": 64, **EXTRA, "autoTruncate": False}
    asked = {**EXTRA, "autoTruncate": False}
    assert body(VERTEX, "gemini-embedding-x", dimensions=64, extra=asked) == {
        "requests": [
            {"content": {"parts": [{"text": text}]}, "embedContentConfig": config}
            for text in ("a", "b")
        ]
    }
    path = VERTEX.path("gemini-embedding-x", stream=False)
    assert path == "/publishers/google/models/gemini-embedding-x:batchEmbedContents"


def test_older_models_on_vertex() -> None:
    """They are asked for predictions."""
    asked = {**EXTRA, "autoTruncate": False}
    assert body(VERTEX, "text-embedding-005", dimensions=64, extra=asked) == {
        "instances": [
            {"content": text, "task_type": "RETRIEVAL_QUERY", "title": "T"} for text in ("a", "b")
        ],
        "parameters": {"outputDimensionality": 64, "autoTruncate": False},
    }
    assert VERTEX.path("text-embedding-005", stream=False).endswith("005:predict")
    assert body(VERTEX, "text-embedding-005", "a") == {"instances": [{"content": "a"}]}


def test_hosted_open_models_on_vertex() -> None:
    """One text at a time."""
    assert body(VERTEX, "e5-maas", "a") == {"content": {"parts": [{"text": "a"}]}}
    assert VERTEX.path("e5-maas", stream=False).endswith("e5-maas:embedContent")
    with pytest.raises(UnsupportedError, match="one text at a time"):
        body(VERTEX, "e5-maas")


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        (
            {"embeddings": [{"values": [1, 2.5]}, {"values": [3]}],
             "usageMetadata": {"promptTokenCount": 7}},
            Usage(uncached_input=7),
        ),
        (
            {"embeddings": [{"values": [1, 2.5], "statistics": {"tokenCount": 3}},
                            {"values": [3], "statistics": {"tokenCount": 4}}]},
            Usage(uncached_input=7),
        ),
        (
            {"predictions": [
                {"embeddings": {"values": [1, 2.5], "statistics": {"token_count": 3.0}}},
                {"embeddings": {"values": [3], "statistics": {"token_count": 4.0}}}]},
            Usage(uncached_input=7),
        ),
        (
            {"embeddings": [{"values": [1, 2.5]}, {"values": [3], "statistics": {}}]},
            Usage(uncached_input=2, estimated=True),
        ),
    ],
)  # fmt: skip
def test_vectors(said: Any, usage: Usage) -> None:
    """They come in the order of the inputs, with what was counted."""
    assert answer(GEMINI, said) == [
        Vector(0, (1.0, 2.5)),
        Vector(1, (3.0,)),
        UsageReport(usage),
        Finish("stop"),
    ]


def test_a_single_vector() -> None:
    """`embedContent` answers with one."""
    said = {"embedding": {"values": [1]}, "usageMetadata": {"promptTokenCount": 1}}
    assert answer(VERTEX, said, "a")[0] == Vector(0, (1.0,))


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({}, ProtocolError),
        ({"embeddings": [{"values": [1]}]}, ProtocolError),
        ({"embeddings": [{"values": [1]}, {"values": ["x"]}]}, ProtocolError),
        ({"embeddings": [{"values": [1]}, {}]}, ProtocolError),
        ({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}, RateLimitError),
    ],
)
def test_answers_that_are_none(said: Any, kind: type[LamellaError]) -> None:
    """A missing or malformed vector is an error, as is an error."""
    with pytest.raises(kind):
        answer(GEMINI, said)


def test_embeddings_are_not_streamed() -> None:
    """And what layers go by is not `extra`'s to change."""
    with pytest.raises(UnsupportedError):
        GEMINI.encode(EmbeddingRequest.of("a", model="m"), stream=True, options=OPTIONS)
    with pytest.raises(ProtocolError):
        GEMINI.decoder(EmbeddingRequest.of("a"))
    with pytest.raises(UnsupportedError):
        body(GEMINI, "m", extra={"requests": []})


# --- counts ------------------------------------------------------------------------------------


def counted(dialect: GeminiTokenCount, content: Any, **fields: Any) -> dict[str, Any]:
    """The body of a request for a count."""
    request = TokenCountRequest.of(ChatRequest.of(content, model="m", **fields))
    return dialect.encode(request, stream=False, options=OPTIONS)


def test_counting_a_conversation() -> None:
    """AI Studio counts contents, or a whole request if there is more to it."""
    contents = [{"role": "user", "parts": [{"text": "Hi"}]}]
    assert counted(COUNT, "Hi") == {"contents": contents}
    asked = [Message.system("Be brief."), Message.user("Hi")]
    assert counted(COUNT, asked, tools=[Tool("f")]) == {
        "generateContentRequest": {
            "model": "models/m",
            "contents": contents,
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "tools": [{"functionDeclarations": [{"name": "f"}]}],
        }
    }
    assert COUNT.path("m", stream=False) == "/models/m:countTokens"


def test_counting_on_vertex() -> None:
    """What has no tokens is left out; the API does not take it."""
    picture = Image(data=b"x", media_type="image/png")
    asked = [Message.system("Be brief."), Message.user([picture])]
    made = counted(
        VERTEX_COUNT,
        asked,
        tools=[Tool("f")],
        tool_choice="required",
        service_tier="flex",
        extra={"labels": {"a": "b"}},
    )
    assert made.keys() == {"contents", "systemInstruction", "tools"}


def test_counts() -> None:
    """The number that Google says; it is billed by nobody."""
    events, head = COUNT.decode(b'{"totalTokens": 12, "promptTokensDetails": []}')
    assert events[0].tokens == 12  # type: ignore[union-attr]
    assert events[1] == UsageReport(Usage())
    assert head.raw is not None


@pytest.mark.parametrize("said", [b"{}", b'{"totalTokens": "x"}', b'{"totalTokens": true}', b""])
def test_counts_that_are_none(said: bytes) -> None:
    """They are protocol errors."""
    with pytest.raises(ProtocolError):
        COUNT.decode(said)


def test_errors_in_place_of_a_count() -> None:
    """They are typed; and nothing of it is streamed."""
    with pytest.raises(RateLimitError):
        COUNT.decode(b'{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}')
    with pytest.raises(ProtocolError):
        COUNT.decoder(TokenCountRequest.of("a"))
