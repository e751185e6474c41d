"""Moderation in the words of OpenAI's API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from lamella._events import Event, Moderation
from lamella._mock_rejections import Rejection
from lamella._moderation import ModerationRequest
from lamella._parts import Image, Text
from lamella.testing._mock_openai._chat import Identity
from lamella.testing._mock_openai._requests import JSON


def moderation_request(body: JSON) -> ModerationRequest:
    """The request in a body of the moderation API.

    Raises:
        Rejection: If a provider would not accept it.
    """
    for name in body:
        if name not in {"input", "model"}:
            message = f"Unknown parameter: {name!r}."
            raise Rejection(400, "unknown_parameter", message, name)
    given = body.get("input")
    if given is None:
        message = "Missing required parameter: 'input'."
        raise Rejection(400, "missing_required_parameter", message, "input")
    items = list(cast("Sequence[Any]", given)) if isinstance(given, list) else [given]
    if not items:
        raise _wrong("'input' is a text, a list of texts, or a list of parts.")
    if all(isinstance(each, str) for each in items):
        return ModerationRequest.of(items, model=body["model"])
    # One input, whatever it consists of.
    return ModerationRequest.of([[_part(each) for each in items]], model=body["model"])


def _part(given: object) -> Text | Image:
    part = cast("Mapping[str, Any]", given if isinstance(given, Mapping) else {})
    match part.get("type"):
        case "text" if isinstance(part.get("text"), str):
            return Text(part["text"])
        case "image_url":
            address = part.get("image_url")
            url = cast("Any", address).get("url") if isinstance(address, Mapping) else None
            if isinstance(url, str) and url.lower().startswith(("http://", "https://", "data:")):
                return Image(url=url)
            message = "'image_url' has the address of a picture, or a data URL, in 'url'."
            raise Rejection(400, "invalid_image_url", message, "input")
        case _:
            raise _wrong("A part of 'input' has the type 'text' or 'image_url'.")


def _wrong(message: str) -> Rejection:
    return Rejection(400, "invalid_value", message, "input")


def moderation_document(identity: Identity, events: Sequence[Event]) -> JSON:
    """The answer as one JSON object.

    Args:
        identity: The word of its id, and the model.
        events: What it consists of.
    """
    results = [_result(event) for event in events if isinstance(event, Moderation)]
    return {"id": f"modr-{identity.id}", "model": identity.model, "results": results}


def _result(event: Moderation) -> JSON:
    said: JSON = {
        "flagged": event.flagged,
        "categories": dict(event.categories),
        "category_scores": dict(event.scores),
    }
    if event.input_types:
        said["category_applied_input_types"] = {
            name: list(kinds) for name, kinds in event.input_types.items()
        }
    return said
