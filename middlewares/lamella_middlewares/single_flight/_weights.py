"""About how much memory an event takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamella import (
    Event,
    MediaDelta,
    Opaque,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    Turn,
)

OVERHEAD = 200
"""Bytes that an event takes besides its content, on CPython: the object and its place in a list."""


def weight(event: Event) -> int:
    """Bytes, roughly: enough for a bound."""
    if isinstance(event, TextDelta | ReasoningDelta | RefusalDelta):
        return OVERHEAD + len(event.text)
    if isinstance(event, ToolCallDelta):
        return OVERHEAD + len(event.arguments)
    if isinstance(event, MediaDelta):
        return OVERHEAD + len(event.data) + len(event.transcript)
    if isinstance(event, Turn):
        return sum([OVERHEAD + len(message.text) for message in event.messages])
    if isinstance(event, Opaque):
        return OVERHEAD + _size(event.data)
    return OVERHEAD


def _size(data: Any) -> int:
    """Characters and numbers in JSON."""
    size, left = 0, [data]
    while left:
        found: Any = left.pop()
        if isinstance(found, str | bytes):
            size += len(found)
        elif isinstance(found, Mapping):
            left += found
            left += found.values()
        elif isinstance(found, list | tuple):
            left += found
        else:
            size += 8
    return size
