"""Content as the conventions write it, for who has asked: only what a redacting layer has shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
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

if TYPE_CHECKING:
    from lamella import Shown

MOST_MESSAGES: Final = 100
MOST_LETTERS: Final = 8_000
"""The most of one text; signals are no archive."""


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
    asked, answered = _asked(found[0]), [one for each in found for one in _answered(each)]
    return asked[-MOST_MESSAGES:], answered[-MOST_MESSAGES:]


def written(messages: list[Any]) -> str:
    """Messages as JSON text, for attributes of spans, which hold no structures."""
    return json.dumps(messages, ensure_ascii=False, separators=(",", ":"))


def _asked(each: Shown) -> list[Any]:
    request = each.request
    if isinstance(request, ChatRequest):
        return [_message(one) for one in request.messages]
    texts = each.to_dict().get("texts", ())
    return [{"role": "user", "parts": [_text(str(text)) for text in texts]}] if texts else []


def _answered(each: Shown) -> list[Any]:
    answer = each.answer
    if not isinstance(answer, ChatAnswer):
        return []
    return [_message(one) for one in answer.messages]


def _message(message: Message) -> dict[str, Any]:
    return {"role": message.role, "parts": [_part(part) for part in message.parts]}


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
        return {"type": "tool_call", "id": part.id, "name": part.name, "arguments": arguments}
    if isinstance(part, ToolResult):
        response = " ".join(_texts(part.content))
        return {"type": "tool_call_response", "id": part.call_id, "response": scrubbed(response)}
    return {"type": str(getattr(part, "type", "opaque"))}


def _texts(parts: Iterable[object]) -> Iterable[str]:
    return (part.text for part in parts if isinstance(part, Text))


def scrubbed(text: str) -> str:
    """A text without secrets, and not too long."""
    return str(scrub(text))[:MOST_LETTERS]
