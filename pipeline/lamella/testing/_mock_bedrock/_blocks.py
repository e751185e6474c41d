"""The blocks of an answer of Converse, put together from events, whole and in pieces."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from json import JSONDecodeError, loads
from typing import Any

import attrs

from lamella._events import (
    Event,
    Finish,
    MediaDelta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from lamella._mock_rejections import Rejection
from lamella._parts import Opaque
from lamella.testing._mock_bedrock._parts import several
from lamella.testing._mock_bedrock._thoughts import hidden, signature, signs
from lamella.testing._mock_openai._requests import JSON
from lamella.testing._mock_sse import json_text


def blocks_of(events: Sequence[Event], model: str) -> list[Block]:
    """The blocks of an answer, in order.

    Args:
        events: What it consists of.
        model: Who answers.
    """
    blocks: list[Block] = []
    place: Any = None
    for event in events:
        if isinstance(event, UsageReport | Finish):
            continue
        if isinstance(event, Opaque) and not event.content:
            continue
        if place is None or _place(event) != place:
            place = _place(event)
            blocks.append(Block(model, []))
        blocks[-1].events.append(event)
    return blocks


def _place(event: Event) -> Any:
    """Which block an event belongs to."""
    match event:
        case TextDelta() | RefusalDelta():
            return "text"
        case ReasoningDelta():
            return "reasoning", event.index, event.redacted
        case ToolCallDelta():
            return "tool", event.index
        case MediaDelta(kind="image"):
            return "image", event.index
        case Opaque():
            return event
        case _:
            raise TypeError(f"MockServer has no words for {type(event).__name__} in Converse")


@attrs.frozen
class Block:
    """One block of an answer.

    Attributes:
        model: Who answers.
        events: Those that belong to it, all of one kind; at least one.
    """

    model: str
    events: list[Event]

    @property
    def _text(self) -> str:
        return "".join([getattr(event, "text", "") for event in self.events])

    @property
    def start(self) -> JSON | None:
        """What comes before its pieces; None if nothing does."""
        first = self.events[0]
        match first:
            case ToolCallDelta():
                return {"toolUse": {"toolUseId": _call_id(first), "name": first.name}}
            case MediaDelta():
                return {"image": {"format": _format(first)}}
            case Opaque():
                return _start(first.data)
            case _:
                return None

    @property
    def deltas(self) -> Iterator[JSON]:
        """Its pieces."""
        first = self.events[0]
        if isinstance(first, ReasoningDelta):
            yield from self._thought(first)
        elif isinstance(first, ToolCallDelta):
            for event in self.events:
                yield {"toolUse": {"input": getattr(event, "arguments", "")}}
        elif isinstance(first, MediaDelta):
            yield {"image": {"source": {"bytes": self._data}}}
        elif isinstance(first, Opaque):
            yield from _deltas(first.data)
        elif isinstance(first, TextDelta | RefusalDelta):
            for event in self.events:
                yield {"text": getattr(event, "text", "")}

    def _thought(self, first: ReasoningDelta) -> Iterator[JSON]:
        if self._withheld(first):
            yield {"reasoningContent": {"redactedContent": self._hidden}}
            return
        for event in self.events:
            if isinstance(event, ReasoningDelta) and event.text:
                yield {"reasoningContent": {"text": event.text}}
        if self._signed:
            yield {"reasoningContent": {"signature": signature(self._text)}}

    def whole(self, *, cut: bool) -> JSON:
        """It as one object.

        Args:
            cut: Whether the answer ends before it is complete.
        """
        first = self.events[0]
        match first:
            case ReasoningDelta():
                if self._withheld(first):
                    return {"reasoningContent": {"redactedContent": self._hidden}}
                shown = {"text": self._text}
                seal = {"signature": signature(self._text)} if self._signed else {}
                return {"reasoningContent": {"reasoningText": {**shown, **seal}}}
            case ToolCallDelta():
                call = {"toolUseId": _call_id(first), "name": first.name}
                return {"toolUse": {**call, "input": self._input(cut=cut)}}
            case MediaDelta():
                return {"image": {"format": _format(first), "source": {"bytes": self._data}}}
            case Opaque():
                return dict(first.data)
            case _:
                return {"text": self._text}

    @property
    def _signed(self) -> bool:
        """Whether the thought is complete, and its model one that seals thoughts."""
        seals = [event for event in self.events if getattr(event, "signature", None) is not None]
        return bool(seals) and signs(self.model)

    def _withheld(self, first: ReasoningDelta) -> bool:
        return first.redacted or "redacted" in self.model

    @property
    def _hidden(self) -> str:
        seals = [getattr(event, "signature", None) or "" for event in self.events]
        return hidden(self._text or "".join(seals))

    @property
    def _data(self) -> str:
        data = [event.data for event in self.events if isinstance(event, MediaDelta)]
        return base64.b64encode(b"".join(data)).decode()

    def _input(self, *, cut: bool) -> Any:
        written = "".join([getattr(event, "arguments", "") for event in self.events])
        try:
            return loads(written or "{}")
        except JSONDecodeError:
            if cut:
                return {}
            message = "Model produced invalid sequence as part of ToolUse."
            raise Rejection(424, "ModelErrorException", message) from None


def _start(data: Mapping[str, Any]) -> JSON | None:
    """What comes before the pieces of a block of this API's own."""
    ((kind, given),) = data.items()
    match kind:
        case "citationsContent":
            return None
        case "toolUse":
            return {kind: {name: each for name, each in given.items() if name != "input"}}
        case "toolResult":
            return {kind: {name: each for name, each in given.items() if name != "content"}}
        case _:
            return {kind: given}


def _deltas(data: Mapping[str, Any]) -> Iterator[JSON]:
    """The pieces of a block of this API's own: cited texts, and the model's own tools."""
    ((kind, given),) = data.items()
    if kind == "citationsContent":
        yield from ({"text": each["text"]} for each in several(given, "content"))
        yield from ({"citation": each} for each in several(given, "citations"))
    elif kind == "toolUse":
        yield {kind: {"input": json_text(given["input"])}}
    elif kind == "toolResult":
        yield {kind: given["content"]}


def _call_id(event: ToolCallDelta) -> str:
    """The call's id as this API has them."""
    word = event.id or ""
    return f"tooluse_{word.removeprefix('call_')}" if word.startswith("call_") else word


def _format(event: MediaDelta) -> str:
    return (event.media_type or "image/png").removeprefix("image/")
