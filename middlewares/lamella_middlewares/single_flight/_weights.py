"""About how much memory an event takes."""

from __future__ import annotations

from lamella import Event, MediaDelta, ReasoningDelta, RefusalDelta, TextDelta, ToolCallDelta, Turn

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
    return OVERHEAD
