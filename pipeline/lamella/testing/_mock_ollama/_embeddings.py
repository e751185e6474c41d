"""Vectors in the words of Ollama's API: `/api/embed`, and `/api/embeddings` as it was before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from lamella._chat import ChatRequest
from lamella._embeddings import EmbeddingRequest
from lamella._events import Event, Vector
from lamella._mock_answers import embedding_events
from lamella._mock_rejections import Rejection
from lamella._mock_tokens import tokens
from lamella._mock_vectors import DIMENSIONS
from lamella.testing._mock_faults import MockFaults
from lamella.testing._mock_ollama._answers import counts
from lamella.testing._mock_ollama._fields import field, json_kind, text
from lamella.testing._mock_ollama._options import window_of
from lamella.testing._mock_ollama._requests import extra_of, plain_name
from lamella.testing._mock_ollama._window import TOO_LONG
from lamella.testing._mock_openai._chat import final_usage
from lamella.testing._mock_openai._requests import JSON

_EMBED = "EmbedRequest"
_STATED = ("total_duration", "load_duration", "prompt_eval_count")


def read_ollama_embed(body: JSON) -> EmbeddingRequest | None:
    """The request in a body of `/api/embed`; None if there is nothing to embed.

    Raises:
        Rejection: If a server would not accept it.
    """
    given = body.get("input")
    inputs = [given] if isinstance(given, str) and given else given or []
    if json_kind(inputs) != "array" or not {json_kind(each) for each in inputs} <= {"string"}:
        raise Rejection(400, None, "invalid input type", "input")
    dimensions = field(body, "dimensions", "int", _EMBED) or 0
    extra = extra_of(body, _EMBED)
    if not inputs:
        return None
    return EmbeddingRequest(
        inputs=cast("list[str]", inputs),
        model=plain_name(text(body, "model", _EMBED)),
        dimensions=dimensions if dimensions > 0 else None,
        extra=extra,
    )


def embed_document(body: JSON, faults: MockFaults) -> JSON:
    """The answer to `/api/embed`. Texts that are longer than the window are cut, unless forbidden.

    Raises:
        Rejection: If a server would not accept it.
    """
    document: JSON = {"model": body["model"], "embeddings": []}
    request = read_ollama_embed(body)
    if request is None:
        return document
    events = _events(request, embedding_window(body), cut=body.get("truncate") is not False)
    document["embeddings"] = [list(each.values) for each in events if isinstance(each, Vector)]
    usage = final_usage(events, faults)
    if usage is None:
        return document
    stated = counts(usage, 0.0)
    return document | {name: stated[name] for name in _STATED}


def old_document(body: JSON) -> JSON:
    """The answer to `/api/embeddings`: one text, and nothing but its vector.

    Raises:
        Rejection: If a server would not accept it.
    """
    prompt = text(body, "prompt", "EmbeddingRequest")
    request = read_ollama_embed({"model": body["model"], "input": prompt})
    if request is None:
        return {"embedding": []}
    first = _events(request, embedding_window(body), cut=True)[0]
    return {"embedding": list(cast("Vector", first).values)}


def embedding_window(body: JSON) -> int:
    """How many tokens of a text are embedded."""
    return window_of(ChatRequest.of("", extra=extra_of(body, _EMBED)))


def _events(request: EmbeddingRequest, window: int, *, cut: bool) -> Sequence[Event]:
    inputs = [_fitting(each, window, cut=cut) for each in request.inputs]
    # A vector is shortened to the dimensions that are asked for, and never made longer.
    size = min(request.dimensions or DIMENSIONS, DIMENSIONS)
    return embedding_events(request.evolve(inputs=inputs, dimensions=size))


def _fitting(given: str, window: int, *, cut: bool) -> str:
    found = tokens(given)
    if len(found) <= window:
        return given
    if not cut:
        raise Rejection(400, "context_length_exceeded", TOO_LONG, "input")
    return "".join(found[:window])
