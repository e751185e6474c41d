"""Answers in the words of OpenAI's Chat Completions API, whole and as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from lamella._chat_answer import Choice, fold
from lamella._events import (
    Event,
    Finish,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from lamella._message_dicts import tool_call_to_dict
from lamella._mock_rejections import in_band_body
from lamella._parts import Opaque
from lamella._usage import Usage
from lamella.testing._mock_faults import MockFaults
from lamella.testing._mock_openai._requests import JSON
from lamella.testing._mock_sse import Frame, json_text


@attrs.frozen
class Identity:
    """What an answer is called.

    Attributes:
        id: Its id, without the prefix of the API.
        model: The model that is said to have answered.
        created: The instant that it states, in seconds since the epoch.
    """

    id: str
    model: str
    created: int


def final_usage(events: Sequence[Event], faults: MockFaults) -> Usage | None:
    """What the answer says it consumed."""
    usage = next((event.usage for event in events if isinstance(event, UsageReport)), None)
    if faults.usage == "none":
        return None
    return Usage() if faults.usage == "zero" and usage is not None else usage


def usage_document(usage: Usage) -> JSON:
    """What was consumed: parts are included in the totals, as this API has it."""
    prompt: JSON = {"cached_tokens": usage.cache_read, "audio_tokens": usage.audio_input}
    if usage.image_input:
        prompt["image_tokens"] = usage.image_input
    if usage.cache_write:
        prompt["cache_write_tokens"] = sum(usage.cache_write.values())
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_output,
            "audio_tokens": usage.audio_output,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


@attrs.frozen
class ChatWriter:
    """Writes one answer.

    Attributes:
        identity: What it is called.
        events: What it consists of.
        faults: What goes wrong with it.
        reasoning_field: Where the model's thinking goes; None leaves it out, as OpenAI does.
        tier: The class of service that was asked for.
    """

    identity: Identity
    events: Sequence[Event]
    faults: MockFaults
    reasoning_field: str | None
    tier: str | None = None

    # --- whole -------------------------------------------------------------------------------

    def document(self) -> JSON:
        """The answer as one JSON object."""
        answer = fold(self.events)
        found = {
            **self._envelope("chat.completion"),
            "choices": [self._choice(choice) for choice in answer.choices],
        }
        usage = final_usage(self.events, self.faults)
        if usage is not None:
            found["usage"] = usage_document(usage)
        return found

    def _envelope(self, kind: str) -> JSON:
        return {
            "id": f"chatcmpl-{self.identity.id}",
            "object": kind,
            "created": self.identity.created,
            "model": self.identity.model,
            "service_tier": self.tier or "default",
            "system_fingerprint": "fp_mock",
        }

    def _choice(self, choice: Choice) -> JSON:
        message = choice.message
        said: JSON = {
            "role": "assistant",
            "content": message.text or (None if message.tool_calls or message.refusal else ""),
            "refusal": message.refusal,
            "annotations": [],
        }
        if self.reasoning_field is not None and message.reasoning:
            said[self.reasoning_field] = message.reasoning
        if message.tool_calls:
            said["tool_calls"] = [tool_call_to_dict(call) for call in message.tool_calls]
        if self.faults.unknown:
            said["mock_unknown"] = {"known": False}
        return {
            "index": choice.index,
            "message": said,
            "logprobs": _logprobs(choice.logprobs),
            "finish_reason": self._reason(choice.finish_reason or "stop"),
        }

    def _reason(self, reason: str) -> str | None:
        given = self.faults.finish
        return reason if given is None else None if given == "none" else given

    # --- streamed ----------------------------------------------------------------------------

    def frames(self, *, include_usage: bool) -> Iterator[Frame]:
        """The answer as a stream, without in-band errors and cuts.

        Args:
            include_usage: Whether the client asked for what was consumed.
        """
        usage = final_usage(self.events, self.faults) if include_usage else None
        document = None if usage is None else usage_document(usage)
        told: JSON = {"usage": None} if document is not None else {}
        indexes = sorted({0, *(event.choice for event in self.events)})
        for index in indexes:
            delta = {"role": "assistant", "content": "", "refusal": None}
            yield self._chunk(_changed(index, delta), told)
        if self.faults.unknown:
            yield Frame(json_text({**self._envelope("mock.unknown"), "choices": [], "mock": 1}))
        for event in self.events:
            change = self._change(event)
            if change is not None:
                yield self._chunk(change, told, token=True)
        yield from self._ends(indexes, document, told)
        if not self.faults.no_done:
            yield Frame("[DONE]")

    def _ends(self, indexes: Sequence[int], usage: JSON | None, told: JSON) -> Iterator[Frame]:
        finish = next((event for event in self.events if isinstance(event, Finish)), Finish("stop"))
        reasons = finish.reasons or (finish.reason,)
        for index in indexes:
            reason = self._reason(reasons[index] if index < len(reasons) else finish.reason)
            if reason is None:
                continue
            together = self.faults.usage == "with_finish" and index == indexes[-1]
            said = {"usage": usage} if together and usage is not None else told
            yield self._chunk(_changed(index, {}, reason=reason), said)
        if usage is not None and self.faults.usage != "with_finish":
            for _ in range(2 if self.faults.usage == "twice" else 1):
                yield self._chunk(None, {"usage": usage})

    def _chunk(self, choice: JSON | None, told: Mapping[str, Any], *, token: bool = False) -> Frame:
        choices = [] if choice is None else [choice]
        chunk = {**self._envelope("chat.completion.chunk"), "choices": choices, **told}
        return Frame(json_text(chunk), token=token)

    def _change(self, event: Event) -> JSON | None:
        """What an event changes in its choice; None for those that this API does not show."""
        match event:
            case TextDelta():
                logprobs = _logprobs(event.logprobs or ())
                return _changed(event.choice, {"content": event.text}, logprobs=logprobs)
            case RefusalDelta():
                return _changed(event.choice, {"refusal": event.text})
            case ReasoningDelta():
                if self.reasoning_field is None or not event.text:
                    return None
                return _changed(event.choice, {self.reasoning_field: event.text})
            case ToolCallDelta():
                return _changed(event.choice, {"tool_calls": [_tool_call_delta(event)]})
            case UsageReport() | Finish():
                return None
            case Opaque(content=False):
                return None
            case _:
                raise TypeError(f"MockServer has no words for {type(event).__name__} in chat")


def error_frame(code: str) -> Frame:
    """The provider's error in the middle of a stream."""
    return Frame(json_text(in_band_body(code)))


def _changed(
    index: int, delta: JSON, *, reason: str | None = None, logprobs: JSON | None = None
) -> JSON:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}


def _logprobs(given: Sequence[Mapping[str, Any]]) -> JSON | None:
    return {"content": [dict(each) for each in given], "refusal": None} if given else None


def _tool_call_delta(event: ToolCallDelta) -> JSON:
    words = "arguments" if event.kind == "function" else "input"
    body: JSON = {words: event.arguments}
    out: JSON = {"index": event.index, event.kind: body}
    if event.name is not None:
        body["name"] = event.name
        out = {"index": event.index, "id": event.id, "type": event.kind, event.kind: body}
    return out
