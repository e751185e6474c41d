"""A provider in a process of its own whose answers are bytes made beforehand.

It speaks just enough HTTP/1.1 for the clients measured here: it is to be far faster than any of
them, so that what is measured is the client. Below `/late/SECONDS` it answers after so long; below
`/begun/SECONDS` a stream's first chunk comes at once and the rest after so long. `GET /peak` says
how many late answers were under way at once since it was asked last, and
`GET /arrivals/RATE/SECONDS/SEED` sends a byte for each call that is to begin (`benchmarks.loads`).
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from benchmarks.arrivals import arrivals
from benchmarks.wires import CHUNKS, anthropic, bedrock, google, head

BACKLOG = 8_192

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


def _stream_answer() -> tuple[bytes, bytes]:
    """The head and the first words, and the rest."""
    # Not the same word each time: there are clients that take that for a model that is stuck.
    words = [_chunk({"content": f" word {number:03d}"}, None) for number in range(CHUNKS)]
    begun = _chunk({"role": "assistant", "content": ""}, None) + words[0]
    rest = b"".join([*words[1:], _chunk({}, "stop"), b"data: [DONE]\n\n"])
    return head("text/event-stream", len(begun) + len(rest)) + begun, rest


class Upstream(asyncio.Protocol):
    """Answers each request as soon as it is whole."""

    begun: ClassVar[tuple[bytes, bytes]] = _stream_answer()
    answers: ClassVar[Mapping[bytes, tuple[bytes, bytes]]] = {
        b"/chat/completions": (_json_answer(), b"".join(begun)),
        b"/messages": anthropic(),
        b"enerateContent": google(),
        b"/converse": bedrock(),
    }
    known: ClassVar[dict[bytes, tuple[bytes, bytes]]] = {}
    waiting: ClassVar[int] = 0
    peak: ClassVar[int] = 0

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes have come: answer the requests that are whole."""
        self._buffer = data = self._buffer + data if self._buffer else data
        while data:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                return
            whole = end + _content_length(data, end)
            if len(data) < whole:
                return
            self._buffer = data[whole:]
            self._answer(data[: data.find(b"\r\n")], data[end:whole])
            data = self._buffer

    def _answer(self, line: bytes, body: bytes) -> None:
        path = line.split(b" ", 2)[1]
        streamed = b'"stream":true' in body or b'"stream": true' in body or b"tream" in path
        if path.startswith((b"/v1", b"/model", b"/v1beta")):
            self._transport.write(self._found(path)[streamed])
            return
        what, *words = path[1:].split(b"/")
        if what == b"late":
            self._late(float(words[0]), self._found(path)[streamed])
        elif what == b"begun":
            first, rest = self.begun
            self._transport.write(first)
            asyncio.get_running_loop().call_later(float(words[0]), self._transport.write, rest)
        elif what == b"peak":
            said = b"%d\n" % Upstream.peak
            Upstream.peak = 0
            self._transport.write(head("text/plain", len(said)) + said)
        elif what == b"arrivals":
            self._arrive(float(words[0]), float(words[1]), int(words[2]))
        else:
            self._transport.write(self._found(path)[streamed])

    def _found(self, path: bytes) -> tuple[bytes, bytes]:
        found = self.known.get(path)
        if found is None:
            found = next(both for end, both in self.answers.items() if end in path)
            if len(self.known) < 64:
                self.known[path] = found
        return found

    def _late(self, seconds: float, answer: bytes) -> None:
        Upstream.waiting += 1
        Upstream.peak = max(Upstream.peak, Upstream.waiting)

        def due() -> None:
            Upstream.waiting -= 1
            if not self._transport.is_closing():  # the client may have given up
                self._transport.write(answer)

        asyncio.get_running_loop().call_later(seconds, due)

    def _arrive(self, rate: float, seconds: float, seed: int) -> None:
        """Send the instant that counts as 0, then a byte for each call, when it is to begin."""
        due = arrivals(rate, seconds, seed)
        loop = asyncio.get_running_loop()
        start = time.monotonic() + 0.05
        self._transport.write(f"{start!r}\n".encode())
        sent = 0

        def tick() -> None:
            nonlocal sent
            now, before = time.monotonic() - start, sent
            while sent < len(due) and due[sent] <= now:
                sent += 1
            if self._transport.is_closing():
                return
            if sent > before:
                self._transport.write(b"." * (sent - before))
            if sent < len(due):
                loop.call_later(max(0.0, due[sent] - now), tick)

        loop.call_later(0.05, tick)


def _content_length(data: bytes, end: int) -> int:
    start = data.find(b"ontent-", 0, end)
    while start >= 0:
        if data[start + 7 : start + 14].lower() == b"length:":
            return int(data[start + 14 : data.find(b"\r\n", start)])
        start = data.find(b"ontent-", start + 1, end)
    return 0


def widest() -> None:
    """As many open sockets as this process may have."""
    resource: Any = importlib.import_module("resource")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _serve(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", 0, backlog=BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await asyncio.sleep(seconds)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        made: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module(
            "uvloop"
        ).new_event_loop
    except ImportError:
        return None
    return made


def main() -> None:
    """Serve for a bounded time; print the port first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3_600.0)
    parser.add_argument("--core", type=int, default=-1)
    options = parser.parse_args()
    if options.core >= 0 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    widest()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(options.seconds))


if __name__ == "__main__":
    main()
