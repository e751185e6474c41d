"""Google's lists of models."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from lamella._mock_answers import CONTEXT_TOKENS, EMBEDDING_TOKENS, OUTPUT_TOKENS
from lamella._mock_rejections import Rejection
from lamella.testing._mock_google._routes import Place
from lamella.testing._mock_openai._requests import JSON

PAGE = 50
"""How many models come at once unless the client says otherwise."""


def models_document(
    place: Place, query: Mapping[str, str], known: Collection[str] | Sequence[str]
) -> JSON:
    """One model, or a page of all.

    Args:
        place: The address.
        query: Its parameters, which choose a page.
        known: The models that there are.

    Raises:
        Rejection: If there is no such model, or no such page.
    """
    if place.model is not None:
        name = place.model.partition(";")[0]
        if name not in known:
            raise Rejection(404, "model_not_found", "")
        return _model(name, place)
    size, start = _number(query, "pageSize", PAGE), _number(query, "pageToken", 0)
    names = list(known)
    name = "publisherModels" if place.vertex else "models"
    found: JSON = {name: [_model(each, place) for each in names[start : start + size]]}
    if start + size < len(names):
        found["nextPageToken"] = str(start + size)
    return found


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name) or str(default)
    if not text.isdecimal() or (name == "pageSize" and text == "0"):
        raise Rejection(400, None, f"{name!r} is not valid.", name)
    return int(text)


def _model(name: str, place: Place) -> JSON:
    if place.vertex:
        return {
            "name": f"publishers/google/models/{name}",
            "versionId": "001",
            "openSourceCategory": "PROPRIETARY",
            "launchStage": "GA",
        }
    embeds = "embedding" in name
    chat = ["generateContent", "countTokens"]
    found: JSON = {
        "name": f"models/{name}",
        "version": "001",
        "displayName": name,
        "description": "The embedded provider, which is no language model.",
        "inputTokenLimit": EMBEDDING_TOKENS if embeds else CONTEXT_TOKENS,
        "outputTokenLimit": 1 if embeds else OUTPUT_TOKENS,
        "supportedGenerationMethods": ["embedContent"] if embeds else chat,
    }
    if not embeds:
        found |= {"temperature": 1, "topP": 0.95, "topK": 64, "maxTemperature": 2}
        found["thinking"] = "reasoning" in name
    return found
