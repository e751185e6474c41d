"""Answers in the words of OpenAI's Responses API, whole and as a stream.

Both are made by one walk over the events: each item of the output is opened, filled and closed, and
the frames that say so are kept; the whole answer is what the last frame holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from lamella._events import (
    Event,
    Finish,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from lamella._mock_rejections import error_body, in_band_body
from lamella._mock_tokens import Draw
from lamella._parts import Opaque
from lamella._usage import Usage
from lamella.testing._mock_faults import MockFaults
from lamella.testing._mock_openai._chat import Identity, final_usage
from lamella.testing._mock_openai._requests import JSON
from lamella.testing._mock_sse import Frame, json_text

_REPEATED: JSON = {
    "background": False, "instructions": None, "max_output_tokens": None, "metadata": {},
    "parallel_tool_calls": True, "previous_response_id": None, "reasoning": None,
    "service_tier": "default", "store": True, "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto", "tools": [], "top_logprobs": 0, "top_p": 1.0, "truncation": "disabled",
}  # fmt: skip
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class ResponseWriter:
    """Writes one answer.

    Args:
        identity: What it is called.
        body: The request, parts of which the answer repeats.
        events: What it consists of.
        faults: What goes wrong with it.
    """

    def __init__(
        self, identity: Identity, body: JSON, events: Sequence[Event], faults: MockFaults
    ) -> None:
        self._identity = identity
        self._draw = Draw.of(identity.id)
        self._faults = faults
        self._output: list[JSON] = []
        self._item: JSON | None = None
        self._part: JSON | None = None
        self._call: int | None = None
        self.frames: list[Frame] = []
        """The answer as a stream, without in-band errors and cuts."""
        self._base = self._started(body)
        self._write(events)

    @property
    def document(self) -> JSON:
        """The answer as one JSON object."""
        return self._base

    # --- the whole ---------------------------------------------------------------------------

    def _started(self, body: JSON) -> JSON:
        repeated = {name: body.get(name, default) for name, default in _REPEATED.items()}
        return {
            "id": f"resp_{self._identity.id}",
            "object": "response",
            "created_at": self._identity.created,
            "status": "in_progress",
            "model": self._identity.model,
            "error": None,
            "incomplete_details": None,
            "output": [],
            "usage": None,
            **repeated,
        }

    def _write(self, events: Sequence[Event]) -> None:
        self._say("response.created", response=deepcopy(self._base))
        self._say("response.in_progress", response=deepcopy(self._base))
        if self._faults.unknown:
            self._say("response.mock.unknown", known=False)
        reason = next((event.reason for event in events if isinstance(event, Finish)), "stop")
        reason = self._faults.finish or reason
        for event in events:
            self._add(event)
        self._close("incomplete" if reason in _INCOMPLETE else "completed")
        usage = final_usage(events, self._faults)
        self._finish(reason, None if usage is None else usage_document(usage))

    def _finish(self, reason: str, usage: JSON | None) -> None:
        status = "completed"
        if reason in _INCOMPLETE:
            status = "incomplete"
            self._base["incomplete_details"] = {"reason": _INCOMPLETE[reason]}
        elif reason == "failed":
            status = "failed"
            error = error_body(500)["error"]
            self._base["error"] = {"code": error["code"], "message": error["message"]}
        self._base.update(status=status, output=self._output, usage=usage)
        if reason != "none":
            self._say(f"response.{status}", response=self._base)

    def _say(self, kind: str, *, token: bool = False, **fields: Any) -> None:
        document = {"type": kind, "sequence_number": len(self.frames), **fields}
        self.frames.append(Frame(json_text(document), kind, token))

    # --- the items ---------------------------------------------------------------------------

    def _add(self, event: Event) -> None:
        match event:
            case TextDelta():
                self._text(event)
            case RefusalDelta():
                self._refusal(event)
            case ReasoningDelta():
                self._reasoning(event)
            case ToolCallDelta():
                self._tool_call(event)
            case UsageReport() | Finish() | Opaque(content=False):
                return
            case _:
                raise TypeError(f"MockServer has no words for {type(event).__name__} in responses")

    def _open(self, kind: str, prefix: str, id: str | None = None, **fields: Any) -> JSON:
        self._close("completed")
        place = len(self._output)
        item = {"id": id or f"{prefix}_{self._draw.word(f'item {place}')}", "type": kind, **fields}
        self._output.append(item)
        self._item = item
        self._say("response.output_item.added", output_index=place, item=deepcopy(item))
        return item

    def _place(self, **index: int) -> JSON:
        assert self._item is not None  # noqa: S101 - asked for only inside an item
        return {"item_id": self._item["id"], "output_index": len(self._output) - 1, **index}

    def _message_part(self, kind: str, **empty: Any) -> JSON:
        """The part of a message that is being written, in a message that is being written."""
        if self._item is None or self._item["type"] != "message":
            self._open("message", "msg", status="in_progress", role="assistant", content=[])
        if self._part is None or self._part["type"] != kind:
            self._close_part()
            assert self._item is not None  # noqa: S101 - it has just been opened
            self._part = {"type": kind, **empty}
            self._item["content"].append(self._part)
            place = self._place(content_index=len(self._item["content"]) - 1)
            self._say("response.content_part.added", **place, part=deepcopy(self._part))
        return self._part

    def _content_place(self) -> JSON:
        assert self._item is not None  # noqa: S101 - asked for only inside a message
        return self._place(content_index=len(self._item["content"]) - 1)

    def _text(self, event: TextDelta) -> None:
        part = self._message_part("output_text", text="", annotations=[], logprobs=[])
        logprobs = [dict(each) for each in event.logprobs or ()]
        part["text"] += event.text
        part["logprobs"] += logprobs
        place = self._content_place()
        said = {"delta": event.text, "logprobs": logprobs}
        self._say("response.output_text.delta", token=True, **place, **said)

    def _refusal(self, event: RefusalDelta) -> None:
        part = self._message_part("refusal", refusal="")
        part["refusal"] += event.text
        self._say("response.refusal.delta", token=True, **self._content_place(), delta=event.text)

    def _reasoning(self, event: ReasoningDelta) -> None:
        if self._item is None or self._item["type"] != "reasoning":
            self._open("reasoning", "rs", event.id, summary=[], status="in_progress")
        item = self._item
        assert item is not None  # noqa: S101 - it has just been opened
        if event.signature is not None:
            item["encrypted_content"] = event.signature
        if not event.text:
            return
        place = self._place(summary_index=0)
        if not item["summary"]:
            self._part = {"type": "summary_text", "text": ""}
            item["summary"].append(self._part)
            said = deepcopy(self._part)
            self._say("response.reasoning_summary_part.added", **place, part=said)
        item["summary"][0]["text"] += event.text
        said = {"delta": event.text}
        self._say("response.reasoning_summary_text.delta", token=True, **place, **said)

    def _tool_call(self, event: ToolCallDelta) -> None:
        custom = event.kind == "custom"
        words = "input" if custom else "arguments"
        kind = "custom_tool_call" if custom else "function_call"
        if self._item is None or self._item["type"] != kind or event.index != self._call:
            self._call = event.index
            named: JSON = {"call_id": event.id, "name": event.name, words: ""}
            self._open(kind, "ctc" if custom else "fc", status="in_progress", **named)
        assert self._item is not None  # noqa: S101 - it has just been opened
        if event.arguments:
            self._item[words] += event.arguments
            stem = "custom_tool_call_input" if custom else "function_call_arguments"
            said = {"delta": event.arguments}
            self._say(f"response.{stem}.delta", token=True, **self._place(), **said)

    # --- their ends --------------------------------------------------------------------------

    def _close_part(self) -> None:
        part, self._part = self._part, None
        if part is None:
            return
        done = deepcopy(part)
        if part["type"] == "summary_text":
            place = self._place(summary_index=0)
            self._say("response.reasoning_summary_text.done", **place, text=part["text"])
            self._say("response.reasoning_summary_part.done", **place, part=done)
            return
        place = self._content_place()
        if part["type"] == "refusal":
            self._say("response.refusal.done", **place, refusal=part["refusal"])
        else:
            said = {"text": part["text"], "logprobs": part["logprobs"]}
            self._say("response.output_text.done", **place, **said)
        self._say("response.content_part.done", **place, part=done)

    def _close(self, status: str) -> None:
        if self._item is None:
            return
        self._close_part()
        item = self._item
        if item["type"] == "function_call":
            said = {"arguments": item["arguments"], "name": item["name"]}
            self._say("response.function_call_arguments.done", **self._place(), **said)
        elif item["type"] == "custom_tool_call":
            place = self._place()
            self._say("response.custom_tool_call_input.done", **place, input=item["input"])
        item["status"] = status
        last = len(self._output) - 1
        self._say("response.output_item.done", output_index=last, item=deepcopy(item))
        self._item = None


def usage_document(usage: Usage) -> JSON:
    """What was consumed: parts are included in the totals, as this API has it."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": sum(usage.cache_write.values()),
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_output},
        "total_tokens": usage.total_tokens,
    }


def error_frame(code: str, number: int) -> Frame:
    """The provider's error in the middle of a stream, as its event with a number."""
    error = in_band_body(code)["error"]
    document = {
        "type": "error",
        "sequence_number": number,
        "code": error["code"],
        "message": error["message"],
        "param": error["param"],
    }
    return Frame(json_text(document), "error")
