"""What Azure adds to OpenAI's answers: the verdicts of its content filter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from json import loads
from typing import Any

import attrs

from lamella.testing._mock_openai._requests import JSON
from lamella.testing._mock_sse import Frame, json_text


def _verdicts() -> JSON:
    kinds = ("hate", "self_harm", "sexual", "violence")
    return {kind: {"filtered": False, "severity": "safe"} for kind in kinds}


def _prompt() -> list[JSON]:
    return [{"prompt_index": 0, "content_filter_results": _verdicts()}]


def filtered_document(document: JSON) -> JSON:
    """A whole chat answer with the verdicts."""
    choices = [{**choice, "content_filter_results": _verdicts()} for choice in document["choices"]]
    return {**document, "choices": choices, "prompt_filter_results": _prompt()}


def filtered_frames(frames: Iterable[Frame]) -> Iterator[Frame]:
    """A streamed chat answer with the verdicts.

    The first event is about the prompt: it has no choice and no id.
    """
    first: JSON = {"choices": [], "created": 0, "id": "", "model": "", "object": ""}
    yield Frame(json_text({**first, "prompt_filter_results": _prompt()}))
    for frame in frames:
        yield frame if frame.data == "[DONE]" else _filtered(frame)


def _filtered(frame: Frame) -> Frame:
    document: Any = loads(frame.data)
    for choice in document["choices"]:
        said = choice["delta"].get("content")
        choice["content_filter_results"] = _verdicts() if said else {}
    return attrs.evolve(frame, data=json_text(document))
