"""The same answer in the words of each provider, as bytes made beforehand."""

from __future__ import annotations

import binascii
import json
import struct
from typing import Any

CHUNKS = 200
TEXT = "Light from the sun is scattered by the air, and blue most of all. " * 4
PROMPT_TOKENS, ANSWER_TOKENS = 112, 64


def head(kind: str, length: int) -> bytes:
    """The head of an answer."""
    return (
        f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n"
        "x-request-id: req_0123456789abcdef\r\nrequest-id: req_0123456789abcdef\r\n"
        "x-amzn-requestid: 0123456789abcdef\r\nx-ratelimit-remaining-requests: 9999\r\n\r\n"
    ).encode()


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _whole(document: Any) -> bytes:
    body = _json(document)
    return head("application/json", len(body)) + body


def _events(documents: list[Any], *, named: bool) -> bytes:
    pieces = [
        (b"event: %b\n" % document["type"].encode() if named else b"")
        + b"data: "
        + _json(document)
        + b"\n\n"
        for document in documents
    ]
    body = b"".join(pieces)
    return head("text/event-stream", len(body)) + body


# --- Anthropic --------------------------------------------------------------------------------


def _anthropic_message(content: list[Any], reason: str | None, output: int) -> dict[str, Any]:
    return {
        "id": "msg_0123456789abcdefghijklmn",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": PROMPT_TOKENS,
            "output_tokens": output,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        },
    }


def anthropic() -> tuple[bytes, bytes]:
    """The whole answer and the stream of the Messages API."""
    delta = {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": " word"},
    }
    block = {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": ""},
    }
    stream = [
        {"type": "message_start", "message": _anthropic_message([], None, 1)},
        block,
        *[delta] * CHUNKS,
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": ANSWER_TOKENS},
        },
        {"type": "message_stop"},
    ]
    content = [{"type": "text", "text": TEXT}]
    whole = _whole(_anthropic_message(content, "end_turn", ANSWER_TOKENS))
    return whole, _events(stream, named=True)


# --- Google -----------------------------------------------------------------------------------


def _google_answer(text: str, reason: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {
        "content": {"parts": [{"text": text}], "role": "model"},
        "index": 0,
    }
    if reason is not None:
        candidate["finishReason"] = reason
    return {
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": PROMPT_TOKENS,
            "candidatesTokenCount": ANSWER_TOKENS,
            "totalTokenCount": PROMPT_TOKENS + ANSWER_TOKENS,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": PROMPT_TOKENS}],
        },
        "modelVersion": "gemini-2.5-flash",
        "responseId": "0123456789abcdef",
    }


def google() -> tuple[bytes, bytes]:
    """The whole answer and the stream of generateContent."""
    stream = [_google_answer(" word", None)] * (CHUNKS - 1) + [_google_answer(" word", "STOP")]
    return _whole(_google_answer(TEXT, "STOP")), _events(stream, named=False)


# --- Bedrock ----------------------------------------------------------------------------------


def _frame(kind: str, document: Any) -> bytes:
    """One message of `application/vnd.amazon.eventstream`."""
    fields = (
        (":message-type", "event"),
        (":event-type", kind),
        (":content-type", "application/json"),
    )
    headers = b"".join(
        struct.pack(">B", len(name))
        + name.encode()
        + struct.pack(">BH", 7, len(value))
        + value.encode()
        for name, value in fields
    )
    payload = _json(document)
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack(">I", binascii.crc32(prelude)) + headers + payload
    return message + struct.pack(">I", binascii.crc32(message))


def bedrock() -> tuple[bytes, bytes]:
    """The whole answer and the stream of Converse."""
    usage = {
        "inputTokens": PROMPT_TOKENS,
        "outputTokens": ANSWER_TOKENS,
        "totalTokens": PROMPT_TOKENS + ANSWER_TOKENS,
    }
    delta = _frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": " word"}})
    body = b"".join(
        [
            _frame("messageStart", {"role": "assistant"}),
            *[delta] * CHUNKS,
            _frame("contentBlockStop", {"contentBlockIndex": 0}),
            _frame("messageStop", {"stopReason": "end_turn"}),
            _frame("metadata", {"usage": usage, "metrics": {"latencyMs": 1}}),
        ]
    )
    message = {"role": "assistant", "content": [{"text": TEXT}]}
    whole = _whole(
        {
            "output": {"message": message},
            "stopReason": "end_turn",
            "usage": usage,
            "metrics": {"latencyMs": 1},
        }
    )
    return whole, head("application/vnd.amazon.eventstream", len(body)) + body
