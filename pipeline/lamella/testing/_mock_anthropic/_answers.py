"""Answers in the words of Anthropic's Messages API, whole and as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any, Final

import attrs

from lamella._usage import Usage
from lamella.testing._http_body import Chunk
from lamella.testing._mock_anthropic._blocks import UNKNOWN
from lamella.testing._mock_anthropic._cache import Cached
from lamella.testing._mock_anthropic._pieces import Block
from lamella.testing._mock_faults import MockFaults
from lamella.testing._mock_openai._requests import JSON
from lamella.testing._mock_sse import Frame, json_text, render

_REASONS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_INPUTS: Final = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_PING: Final = Frame(json_text({"type": "ping"}), "ping")


@attrs.frozen(kw_only=True)
class AnswerWriter:
    """Writes one answer.

    Attributes:
        id: What it is called, without the prefix.
        model: The model that is said to have answered.
        blocks: What it consists of.
        reason: Why it ends, in the library's words.
        stop: The stop sequence that was met; None if none was.
        refusal: The words in which the model declined; empty if it did not.
        usage: What was consumed.
        cached: What of the request the prompt cache served and took.
        searches: How many searches of the web were made.
        speed: The speed that was asked for.
        faults: What goes wrong.
    """

    id: str
    model: str
    blocks: Sequence[Block]
    reason: str
    stop: str | None = None
    refusal: str = ""
    usage: Usage
    cached: Cached
    searches: int = 0
    speed: str | None = None
    faults: MockFaults

    # --- whole -------------------------------------------------------------------------------

    def document(self) -> JSON:
        """The answer as one JSON object."""
        found = self._message([block.whole for block in self._all()])
        found.update(self._end())
        if self.faults.usage != "none":
            found["usage"] = self._usage()
        return found

    def _message(self, content: list[JSON]) -> JSON:
        return {
            "id": f"msg_{self.id}",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "container": None,
            **({"mock_unknown": {"known": False}} if self.faults.unknown else {}),
        }

    def _end(self) -> JSON:
        """Why it stops. The fault `finish` speaks in the library's words, the API's or others."""
        given = self.faults.finish
        meant = self.reason if given is None else given
        if self.refusal and given is None:
            meant = "refusal"
        reason = _REASONS.get(meant, meant)
        stop = self.stop if given is None and reason == "end_turn" else None
        if stop is not None:
            reason = "stop_sequence"
        details = None
        if reason == "refusal":
            told = {"category": None, "explanation": self.refusal or None}
            details = {"type": "refusal", **told}
        told_reason = None if reason == "none" else reason
        return {"stop_reason": told_reason, "stop_sequence": stop, "stop_details": details}

    def _all(self) -> list[Block]:
        """The blocks, and one of a kind that nobody knows if that is what goes wrong."""
        if not self.faults.unknown:
            return list(self.blocks)
        start = {"type": UNKNOWN, "known": False}
        odd: JSON = {"type": "mock_unknown_delta", "more": 1}
        return [*self.blocks, Block({**start}, start, [(odd, False)])]

    # --- streamed ----------------------------------------------------------------------------

    def frames(self) -> Iterator[Frame]:
        """The answer as a stream, without in-band errors and cuts."""
        begun = self._message([])
        if self.faults.usage != "none":
            begun["usage"] = self._usage(begun=True)
        yield _frame("message_start", message=begun)
        if self.faults.unknown:
            yield _frame("mock_unknown", known=False)
        for index, block in enumerate(self._all()):
            start = deepcopy(block.whole if block.start is None else block.start)
            yield _frame("content_block_start", index=index, content_block=start)
            if index == 0:
                yield _PING
            for delta, token in block.deltas:
                yield _frame("content_block_delta", token=token, index=index, delta=delta)
            yield _frame("content_block_stop", index=index)
        told: JSON = {} if self.faults.usage == "none" else {"usage": self._totals()}
        for _ in range(2 if self.faults.usage == "twice" else 1):
            yield _frame("message_delta", delta={**self._end(), "container": None}, **told)
        if not self.faults.no_done:
            yield _frame("message_stop")

    # --- usage -------------------------------------------------------------------------------

    def _counts(self) -> JSON:
        """The parts of the input: those of the cache are not among the others."""
        if self.faults.usage == "zero":
            return dict.fromkeys(_INPUTS, 0)
        written = sum(self.cached.written.values())
        rest = self.usage.input_tokens - self.cached.read - written
        return dict(zip(_INPUTS, (max(rest, 0), written, self.cached.read), strict=True))

    def _usage(self, *, begun: bool = False) -> JSON:
        zero = self.faults.usage == "zero"
        lives = {life: 0 if zero else self.cached.written.get(life, 0) for life in ("5m", "1h")}
        totals = self._totals()
        if begun:
            totals["output_tokens"] = min(totals["output_tokens"], 1)
            totals.update(output_tokens_details=None, server_tool_use=None)
        return {
            **totals,
            "cache_creation": {
                "ephemeral_5m_input_tokens": lives["5m"],
                "ephemeral_1h_input_tokens": lives["1h"],
            },
            "service_tier": "standard",
            "inference_geo": "not_available",
            "speed": self.speed or "standard",
        }

    def _totals(self) -> JSON:
        """What an answer has consumed when it is over."""
        zero = self.faults.usage == "zero"
        output = 0 if zero else self.usage.output_tokens
        thought = 0 if zero else self.usage.reasoning_output
        searches = {"web_search_requests": self.searches, "web_fetch_requests": 0}
        return {
            **self._counts(),
            "output_tokens": output,
            "output_tokens_details": {"thinking_tokens": thought},
            "server_tool_use": searches if self.searches and not zero else None,
        }


def written(frames: Sequence[Frame], faults: MockFaults, pause: float) -> list[Chunk]:
    """The bytes of a stream; this API shows that it is alive by events and not by comments."""
    chunks = render(frames, attrs.evolve(faults, pings=False), pause)
    if not faults.pings:
        return chunks
    (ping,) = render([_PING], attrs.evolve(faults, pings=False, bom=False))
    assert isinstance(ping, bytes)  # noqa: S101 - one event is one chunk
    mark = "\ufeff".encode()
    found: list[Chunk] = []
    for chunk in chunks:
        if not isinstance(chunk, bytes):
            found.append(chunk)
        elif chunk.startswith(mark):
            found.append(mark + ping + chunk.removeprefix(mark))
        else:
            found.append(ping + chunk)
    return found


def _frame(kind: str, *, token: bool = False, **fields: Any) -> Frame:
    return Frame(json_text({"type": kind, **fields}), kind, token)
