"""A provider in a process of its own whose answers are bytes made beforehand.

It speaks just enough HTTP/1.1 for the clients measured here: it is to be far faster than any of
them, so that what is measured is the client.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Mapping
from typing import Any, ClassVar

from benchmarks.wires import CHUNKS, anthropic, bedrock, google, head

_ANSWER: dict[str, Any] = {
    "id": "chatcmpl-0123456789abcdefghijklmnop",
    "object": "chat.completion",
    "created": 1_760_000_000,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Light from the sun is scattered by the air, and blue most of all. " * 4,
                "refusal": None,
                "annotations": [],
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 112,
        "completion_tokens": 64,
        "total_tokens": 176,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    },
    "service_tier": "default",
    "system_fingerprint": "fp_0123456789",
}


def _chunk(delta: dict[str, Any], finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    common = {key: _ANSWER[key] for key in ("id", "created", "model", "system_fingerprint")}
    body = {**common, "object": "chat.completion.chunk", "choices": [choice]}
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def _json_answer() -> bytes:
    body = json.dumps(_ANSWER, separators=(",", ":")).encode()
    return head("application/json", len(body)) + body


def _stream_answer() -> bytes:
    pieces = [_chunk({"role": "assistant", "content": ""}, None)]
    pieces += [_chunk({"content": " word"}, None)] * CHUNKS
    pieces += [_chunk({}, "stop"), b"data: [DONE]\n\n"]
    body = b"".join(pieces)
    return head("text/event-stream", len(body)) + body


class Upstream(asyncio.Protocol):
    """Answers each request as soon as it is whole."""

    answers: ClassVar[Mapping[bytes, tuple[bytes, bytes]]] = {
        b"/chat/completions": (_json_answer(), _stream_answer()),
        b"/messages": anthropic(),
        b"enerateContent": google(),
        b"/converse": bedrock(),
    }

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes have come: answer the requests that are whole."""
        self._buffer += data
        while True:
            asked, separator, rest = self._buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            length = _content_length(asked)
            if len(rest) < length:
                return
            body, self._buffer = rest[:length], rest[length:]
            line = asked[: asked.find(b"\r\n")]
            whole, stream = next(both for path, both in self.answers.items() if path in line)
            streamed = b'"stream":true' in body or b'"stream": true' in body
            self._transport.write(stream if streamed or b"tream" in line else whole)


def _content_length(head: bytes) -> int:
    lowered = head.lower()
    start = lowered.find(b"content-length:")
    if start < 0:
        return 0
    end = lowered.find(b"\r\n", start)
    return int(lowered[start + 15 : end if end > 0 else None])


async def _serve(seconds: float) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await asyncio.sleep(seconds)


def main() -> None:
    """Serve for a bounded time; print the port first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--core", type=int, default=-1)
    options = parser.parse_args()
    if options.core >= 0 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    asyncio.run(_serve(options.seconds))


if __name__ == "__main__":
    main()
