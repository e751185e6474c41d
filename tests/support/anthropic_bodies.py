"""Requests of Anthropic's API, piece by piece."""

from base64 import b64encode
from typing import Any

from lamella.testing._mock_anthropic._seals import seal, signature

PICTURE = b"\x89PNG\r\n\x1a\n"
DATA = b64encode(PICTURE).decode()
MARK: Any = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
ASKED: Any = [{"role": "user", "content": "Why?"}]
CALL: Any = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
RESULT: Any = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "1"}
THOUGHT: Any = {"type": "thinking", "thinking": "T", "signature": signature("T", "T")}
CITED: Any = {
    "type": "web_search_result_location",
    "url": "https://e.com",
    "title": None,
    "cited_text": "C",
    "encrypted_index": seal("https://e.com", "C"),
}
PAGE: Any = {
    "type": "web_search_result",
    "url": "https://e.com",
    "title": "T",
    "encrypted_content": seal("https://e.com", "T"),
}
TOOL_F: Any = {"name": "f", "input_schema": {"type": "object"}}
OPEN: Any = {"type": "object", "properties": {}}


def body(**fields: Any) -> dict[str, Any]:
    """A request that is right, but for the fields."""
    return {"model": "mock", "max_tokens": 4000, "messages": ASKED, **fields}


def user(*blocks: Any) -> dict[str, Any]:
    """A user's message."""
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    """An assistant's message."""
    return {"role": "assistant", "content": list(blocks)}


def system(text: str = "Now in verse.") -> dict[str, Any]:
    """Instructions in the middle."""
    return {"role": "system", "content": text}


def text(words: str = "Why?", **fields: Any) -> dict[str, Any]:
    """A block of text."""
    return {"type": "text", "text": words, **fields}


def image(**source: Any) -> dict[str, Any]:
    """A picture by content."""
    known = {"type": "base64", "media_type": "image/png", "data": DATA}
    return {"type": "image", "source": {**known, **source}}


def shape(schema: Any) -> dict[str, Any]:
    """A format of answers."""
    return {"type": "json_schema", "schema": schema}
