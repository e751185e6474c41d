"""Answers in the words of Converse, whole and as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import attrs

from lamella._events import Event, Finish
from lamella._parts import Opaque
from lamella.testing._mock_bedrock._blocks import Block, blocks_of
from lamella.testing._mock_bedrock._cache import Cached
from lamella.testing._mock_bedrock._content import UNKNOWN_BLOCK
from lamella.testing._mock_faults import MockFaults
from lamella.testing._mock_openai._chat import final_usage
from lamella.testing._mock_openai._requests import JSON
from lamella.testing._mock_sse import Frame, json_text

_REASONS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "content_filtered",
}
_PADDING: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
"""Real streams hide how long an event is behind so much of this."""

_UNKNOWN: Final = Opaque({UNKNOWN_BLOCK: {"known": False}})


@attrs.frozen(kw_only=True)
class Answer:
    """An answer before it is written.

    Attributes:
        model: Who answers.
        events: What it consists of, the end included.
        stopped_at: The stop sequence at which it ends; None if at none.
        cached: What the prompt cache had of the request.
        fields: What else it says, such as the trace of a guardrail.
        asked: The fields of the model's own answer that the request wants to see.
    """

    model: str
    events: Sequence[Event]
    stopped_at: str | None = None
    cached: Cached = attrs.field(factory=Cached)
    fields: JSON = attrs.field(factory=dict[str, Any])
    asked: Sequence[str] = ()

    def document(self, faults: MockFaults) -> JSON:
        """The whole answer as one JSON object.

        Raises:
            Rejection: If a call's arguments are not JSON, which a whole answer cannot hold.
        """
        cut = self._reason == "max_tokens"
        content = [block.whole(cut=cut) for block in self._blocks(faults)]
        found: JSON = {
            "metrics": {"latencyMs": 100},
            "output": {"message": {"content": content, "role": "assistant"}},
            **self._ending(faults),
            **self.fields,
        }
        usage = self._usage(faults)
        if usage is not None:
            found["usage"] = usage
        if faults.unknown:
            found["mockUnknown"] = {"known": False}
        return found

    def frames(self, faults: MockFaults) -> Iterator[Frame]:
        """The answer as a stream, without in-band errors and cuts."""
        yield _frame("messageStart", {"role": "assistant"})
        if faults.unknown:
            yield _frame("mockUnknown", {"known": False})
        for index, block in enumerate(self._blocks(faults)):
            at = {"contentBlockIndex": index}
            if block.start is not None:
                yield _frame("contentBlockStart", {**at, "start": block.start})
            for delta in block.deltas:
                yield _frame("contentBlockDelta", {**at, "delta": delta}, token=True)
            yield _frame("contentBlockStop", at)
        yield _frame("messageStop", self._ending(faults))
        usage = self._usage(faults)
        if usage is not None and not faults.no_done:
            told = {"metrics": {"latencyMs": 100}, "usage": usage, **self.fields}
            for _ in range(2 if faults.usage == "twice" else 1):
                yield _frame("metadata", told)

    # --- why it ends, and what it consumed ---------------------------------------------------

    @property
    def _reason(self) -> str:
        reason = next((e.reason for e in self.events if isinstance(e, Finish)), "stop")
        if reason == "stop" and self.stopped_at is not None:
            return "stop_sequence"
        return _REASONS.get(reason, reason)

    def _ending(self, faults: MockFaults) -> JSON:
        given = faults.finish
        reason = self._reason if given is None else _REASONS.get(given, given)
        found: JSON = {} if reason == "none" else {"stopReason": reason}
        if "/stop_sequence" in self.asked:
            found["additionalModelResponseFields"] = {"stop_sequence": self.stopped_at}
        return found

    def _usage(self, faults: MockFaults) -> JSON | None:
        usage = final_usage(self.events, faults)
        if usage is None:
            return None
        cached = Cached() if faults.usage == "zero" else self.cached
        written = sum(cached.written.values())
        # An answer that was given by the test may state less than was sent.
        if usage.input_tokens < cached.read + written:
            cached, written = Cached(), 0
        lives = sorted(cached.written.items())
        return {
            "inputTokens": usage.input_tokens - cached.read - written,
            "outputTokens": usage.output_tokens,
            "totalTokens": usage.total_tokens,
            "cacheReadInputTokens": cached.read,
            "cacheWriteInputTokens": written,
            "cacheDetails": [{"inputTokens": tokens, "ttl": ttl} for ttl, tokens in lives],
        }

    def _blocks(self, faults: MockFaults) -> list[Block]:
        blocks = blocks_of(self.events, self.model)
        return [*blocks, Block(self.model, [_UNKNOWN])] if faults.unknown else blocks


def _frame(name: str, said: JSON, *, token: bool = False) -> Frame:
    padding = _PADDING[: 4 + len(str(said)) % (len(_PADDING) - 4)]
    return Frame(json_text({**said, "p": padding}), name, token)
