"""Content as the conventions write it, for who has asked: only what a redacting layer has shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from lamella import (
    ChatAnswer,
    ChatRequest,
    Message,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    scrub,
)
from lamella_opentelemetry import _sendable as sendable

if TYPE_CHECKING:
    from lamella import Shown

MOST_MESSAGES: Final = 100
MOST_PARTS: Final = 100
MOST_LETTERS: Final = 8_000
"""The most of one text; signals are no archive."""

MOST_IN_ALL: Final = 100_000
"""Letters after which no earlier message is written: this happens on the event loop."""


def shown(content: Mapping[str, Shown], branch: str) -> tuple[list[Any], list[Any]] | None:
    """The messages of a call, and those of its answer; None if nobody has shown any.

    Args:
        content: The trace's, by branch.
        branch: Where the call stands. Where its turns stand below, those are one conversation: the
            first one's messages, and all answers.
    """
    found = [each for at, each in content.items() if at == branch or at.startswith(f"{branch}/")]
    if not found:
        return None
    return _asked(found[0]), _last([one for each in found for one in _answered(each)])


def written(messages: list[Any]) -> str:
    """Messages as JSON text, for attributes of spans, which hold no structures."""
    return json.dumps(messages, ensure_ascii=False, separators=(",", ":"))


def _asked(each: Shown) -> list[Any]:
    request = each.request
    if isinstance(request, ChatRequest):
        return _last(request.messages)
    texts = each.to_dict().get("texts", ())[:MOST_PARTS]
    return [{"role": "user", "parts": [_text(str(text)) for text in texts]}] if texts else []


def _answered(each: Shown) -> Sequence[Message]:
    return each.answer.messages if isinstance(each.answer, ChatAnswer) else ()


def _last(messages: Sequence[Message]) -> list[Any]:
    """The last messages, as many as there is room for, in their order."""
    found: list[Any] = []
    left = MOST_IN_ALL
    for message in reversed(messages[-MOST_MESSAGES:]):
        if left <= 0:
            break
        parts = [_part(part) for part in message.parts[:MOST_PARTS]]
        found.append({"role": message.role, "parts": parts})
        left -= sum([len(str(value)) for part in parts for value in part.values()])
    return found[::-1]


def _text(text: str, kind: str = "text") -> dict[str, Any]:
    return {"type": kind, "content": scrubbed(text)}


def _part(part: object) -> dict[str, Any]:
    """One part; of pictures and the like only that they were there."""
    if isinstance(part, Text | Refusal):
        return _text(part.text)
    if isinstance(part, Reasoning):
        return _text(part.text, "reasoning")
    if isinstance(part, ToolCall):
        arguments = scrubbed(part.arguments)
        known = {"id": _name(part.id), "name": _name(part.name)}
        return {"type": "tool_call", **known, "arguments": arguments}
    if isinstance(part, ToolResult):
        response = " ".join(_texts(part.content))
        known = {"id": _name(part.call_id)}
        return {"type": "tool_call_response", **known, "response": scrubbed(response)}
    return {"type": _name(getattr(part, "type", "opaque"))}


def _name(given: object) -> str | None:
    return None if given is None else sendable.text(str(given))


def _texts(parts: Iterable[object]) -> Iterable[str]:
    return (part.text for part in parts if isinstance(part, Text))


def scrubbed(text: str) -> str:
    """A text without secrets, and not too long."""
    return sendable.text(str(scrub(text)), MOST_LETTERS)
