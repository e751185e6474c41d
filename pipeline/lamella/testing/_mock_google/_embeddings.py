"""Google's three ways to ask for vectors: one content, several, and Vertex AI's instances."""

from __future__ import annotations

from typing import Any

import attrs

from lamella._embeddings import EmbeddingRequest
from lamella._events import Vector
from lamella._mock_answers import EMBEDDING_TOKENS, embedding_events
from lamella._mock_rejections import Rejection
from lamella._mock_tokens import count, tokens
from lamella._usage import Usage
from lamella.testing._mock_faults import MockFaults
from lamella.testing._mock_google._json import as_object, read_message
from lamella.testing._mock_google._routes import Place
from lamella.testing._mock_google._turns import check_content
from lamella.testing._mock_google._usage import prompt_details
from lamella.testing._mock_openai._chat import final_usage
from lamella.testing._mock_openai._requests import JSON

BATCH = 100
"""How many contents one batch takes."""

INSTANCES = 250
"""How many instances Vertex AI's `predict` takes."""


@attrs.frozen
class _Asked:
    """One text to embed."""

    text: str
    dimensions: int | None = None
    truncated: bool = False


def embeddings_document(place: Place, body: Any, faults: MockFaults) -> JSON:
    """The answer as one JSON object.

    Args:
        place: The address, which says in which way vectors are asked for.
        body: What was sent, read as JSON.
        faults: What goes wrong.

    Raises:
        Rejection: If a provider would not accept the request.
    """
    match place.method:
        case "embedContent":
            given = read_message(body, "EmbedContentRequest", vertex=place.vertex)
            (vector,), usage = _vectors([_content(given, place, "")])
            found: JSON = {"embedding": {"values": vector}}
            if place.vertex:
                found["truncated"] = False
            return found | _usage(usage, faults)
        case "batchEmbedContents":
            asked = _batch(body, place)
            vectors, usage = _vectors(asked)
            embeddings: list[JSON] = [{"values": vector} for vector in vectors]
            if place.vertex:
                for each, text in zip(embeddings, asked, strict=True):
                    each["statistics"] = {"truncated": False, "token_count": count(text.text)}
            return {"embeddings": embeddings} | _usage(usage, faults)
        case _:
            return _predictions(body, faults)


def _batch(body: Any, place: Place) -> list[_Asked]:
    given = read_message(body, "BatchEmbedContentsRequest", vertex=place.vertex)
    requests: list[JSON] = given.get("requests", [])
    if not 1 <= len(requests) <= BATCH:
        message = f"A batch holds from 1 to {BATCH} requests, not {len(requests)}."
        raise Rejection(400, None, message, "requests")
    for place_in_batch, each in enumerate(requests):
        named = str(each.get("model", "")).partition(";")[0]
        if not place.vertex and named != place.resource:
            path = f"requests[{place_in_batch}].model"
            message = f"{path}: it is {place.resource!r}, as in the address."
            raise Rejection(400, None, message, path)
    return [_content(each, place, f"requests[{n}].") for n, each in enumerate(requests)]


def _content(given: JSON, place: Place, path: str) -> _Asked:
    content = given.get("content")
    if content is None:
        raise Rejection(400, None, f"{path}content is required.", f"{path}content")
    check_content(content, f"{path}content")
    if any("text" not in part for part in content["parts"]):
        message = "The mock provider embeds text only."
        raise Rejection(400, None, message, f"{path}content")
    settings = as_object(given.get("embedContentConfig")) if place.vertex else given
    _check_title(settings, path)
    text = "\n".join([part["text"] for part in content["parts"]])
    return _Asked(text, settings.get("outputDimensionality"))


def _check_title(given: JSON, path: str) -> None:
    if "title" in given and given.get("taskType") != "RETRIEVAL_DOCUMENT":
        message = "A title belongs to the task type RETRIEVAL_DOCUMENT only."
        raise Rejection(400, None, message, f"{path}title")


def _predictions(body: Any, faults: MockFaults) -> JSON:
    given = read_message(body, "PredictRequest", vertex=True)
    instances: list[JSON] = given.get("instances", [])
    if not 1 <= len(instances) <= INSTANCES:
        message = f"There are from 1 to {INSTANCES} instances, not {len(instances)}."
        raise Rejection(400, None, message, "instances")
    settings = as_object(given.get("parameters"))
    asked: list[_Asked] = []
    for place, each in enumerate(instances):
        _check_title(each, f"instances[{place}].")
        text = each.get("content", "")
        if not text:
            raise Rejection(400, None, "The text content is empty.", f"instances[{place}].content")
        cut = settings.get("autoTruncate", True) and count(text) > EMBEDDING_TOKENS
        kept = "".join(tokens(text)[:EMBEDDING_TOKENS]) if cut else text
        asked.append(_Asked(kept, settings.get("outputDimensionality"), truncated=cut))
    vectors, _ = _vectors(asked)
    predictions: list[JSON] = []
    for text, vector in zip(asked, vectors, strict=True):
        statistics: JSON = {"truncated": text.truncated, "token_count": count(text.text)}
        if faults.usage in {"none", "zero"}:
            statistics["token_count"] = 0
        if faults.usage == "none":
            del statistics["token_count"]
        predictions.append({"embeddings": {"values": vector, "statistics": statistics}})
    characters = sum(len("".join(text.text.split())) for text in asked)
    return {"predictions": predictions, "metadata": {"billableCharacterCount": characters}}


def _vectors(asked: list[_Asked]) -> tuple[list[list[float]], Usage]:
    """The vector of each text, and what all consume together."""
    found: list[list[float]] = []
    used = Usage()
    for each in asked:
        request = EmbeddingRequest(inputs=each.text, dimensions=each.dimensions)
        events = embedding_events(request)
        found += [list(event.values) for event in events if isinstance(event, Vector)]
        used += final_usage(events, MockFaults()) or Usage()
    return found, used


def _usage(usage: Usage, faults: MockFaults) -> JSON:
    if faults.usage == "none":
        return {}
    told = Usage() if faults.usage == "zero" else usage
    said = {"promptTokenCount": told.input_tokens, "promptTokensDetails": prompt_details(told)}
    return {"usageMetadata": {**said, "totalTokenCount": told.input_tokens}}
