"""Vectors in the words of OpenAI's embeddings API, as numbers and as base64."""

from __future__ import annotations

import base64
from array import array
from collections.abc import Sequence
from sys import byteorder

from lamella._events import Event, Vector
from lamella.testing._mock_faults import MockFaults
from lamella.testing._mock_openai._chat import final_usage
from lamella.testing._mock_openai._requests import JSON


def embeddings_document(
    model: str, events: Sequence[Event], faults: MockFaults, *, packed: bool
) -> JSON:
    """The answer as one JSON object.

    Args:
        model: The model that is said to have answered.
        events: What it consists of.
        faults: What goes wrong with it.
        packed: Whether the client asked for base64.
    """
    vectors = [event for event in events if isinstance(event, Vector)]
    found: JSON = {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": vector.index,
                "embedding": pack(vector.values) if packed else list(vector.values),
            }
            for vector in vectors
        ],
        "model": model,
    }
    usage = final_usage(events, faults)
    if usage is not None:
        tokens = usage.input_tokens
        found["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return found


def pack(values: Sequence[float]) -> str:
    """Numbers as base64 of 32-bit floats, the least significant byte first."""
    numbers = array("f", values)
    if byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()
