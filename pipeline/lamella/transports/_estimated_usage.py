"""What an answer is likely to have consumed, where its provider states nothing. Errs upwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec

from lamella._chat import ChatRequest
from lamella._nothing import NOTHING
from lamella._parts import (
    Audio,
    File,
    Image,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from lamella._tools import Tool
from lamella._usage import Usage

BYTES_PER_TOKEN = 2
IMAGE_TOKENS = 1_000
SOUND_BYTES_PER_TOKEN = 400
DOCUMENT_BYTES_PER_TOKEN = 20
MESSAGE_TOKENS = 4


def estimated_tokens(pieces: Iterable[str]) -> int:
    """More tokens than texts are likely to have.

    One token for every two bytes of UTF-8, each piece rounded up. Byte-pair tokenizers give English
    prose 4 to 5 bytes a token, code and JSON about 3, Chinese and Japanese about 3, base64 about 2;
    and a streamed piece is at least one token. Only text of single symbols or digits can have more.
    """
    return sum([-(-len(piece.encode(errors="replace")) // BYTES_PER_TOKEN) for piece in pieces])


def estimated_usage(
    request: object,
    texts: Iterable[str],
    thoughts: Iterable[str] = (),
    *,
    sound_bytes: int = 0,
    tool_units: Mapping[str, int] = NOTHING,
) -> Usage:
    """The usage of an answer whose provider stated none, flagged `estimated`; errs upwards.

    Prompt and answer are counted with `estimated_tokens`. A message adds 4 tokens, an image 1,000,
    sound one for every 400 bytes, a document one for every 20 bytes.

    Args:
        request: What was asked; only a `ChatRequest` is counted.
        texts: The pieces of text, refusals and tool calls that were delivered.
        thoughts: The pieces of reasoning that were delivered.
        sound_bytes: How much sound was delivered.
        tool_units: Units of hosted tools.
    """
    prompt = _request_tokens(request) if isinstance(request, ChatRequest) else 0
    return Usage(
        uncached_input=prompt,
        text_output=estimated_tokens(texts),
        reasoning_output=estimated_tokens(thoughts),
        audio_output=-(-sound_bytes // SOUND_BYTES_PER_TOKEN),
        tool_units=tool_units,
        estimated=True,
    )


def _request_tokens(request: ChatRequest) -> int:
    tools = [tool.to_dict() if isinstance(tool, Tool) else tool.data for tool in request.tools]
    total = _json_tokens(tools) if tools else 0
    if request.response_format is not None:
        total += _json_tokens(request.response_format)
    for message in request.messages:
        total += MESSAGE_TOKENS + sum([_part_tokens(part) for part in message.parts])
    return total


def _part_tokens(part: Part) -> int:
    match part:
        case Text() | Refusal() | Reasoning():
            return estimated_tokens((part.text,))
        case ToolCall():
            return estimated_tokens((part.name, part.arguments))
        case ToolResult():
            return sum([_part_tokens(inner) for inner in part.content])
        case Image():
            return IMAGE_TOKENS
        case Audio():
            sound = -(-len(part.data or b"") // SOUND_BYTES_PER_TOKEN)
            return max(sound, estimated_tokens((part.transcript or "",)))
        case File():
            return -(-len(part.data or b"") // DOCUMENT_BYTES_PER_TOKEN)
        case Opaque():
            return _json_tokens(part.data)


def _json_tokens(value: object) -> int:
    size = len(msgspec.json.encode(value, enc_hook=_plain))
    return -(-size // BYTES_PER_TOKEN)


def _plain(value: object) -> object:
    """What of a request's JSON msgspec does not know: a mapping that is no dict."""
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    return repr(value)
