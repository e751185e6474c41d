"""The Messages API: the blocks of an answer in the making, whole or in pieces.

What a block says becomes events as soon as it is known, except for kinds that we do not know and
tools that ran at the provider: those are one `Opaque` when they are complete. What a text cites
follows it as `extra`, so that both can go back as they came.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from lamella._events import Event, ReasoningDelta, TextDelta, ToolCallDelta
from lamella._nothing import NOTHING
from lamella._parts import JSONObject, Opaque
from lamella.transports._losses import ORIGIN, marked
from lamella.transports._wire_json import is_list, is_object, text_of

_TEXT_FIELDS: Final = frozenset({"type", "text", "citations"})
_THINKING_FIELDS: Final = frozenset({"type", "thinking", "signature"})
_CALL_FIELDS: Final = frozenset({"type", "id", "name", "input"})
_DIRECT: Final = {"type": "direct"}
_IMPLIED: Final[Mapping[str, str]] = {
    "text_delta": "text",
    "citations_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "thinking",
}
"""What kind of block a piece belongs to whose beginning was left out."""


class Block:
    """One block in the making."""

    __slots__ = ("citations", "data", "extra", "fresh", "index", "kind", "number", "pieces")

    def __init__(self, index: int, data: Mapping[str, Any]) -> None:
        self.index = index
        self.kind = text_of(data, "type") or ""
        self.data: dict[str, Any] = dict(data)
        self.number = 0  # among the calls, or the texts, of the answer
        self.pieces: list[str] = []
        self.citations: list[Any] = []
        self.extra: JSONObject = NOTHING
        self.fresh = True

    def mark(self) -> JSONObject:
        """What the first event of the block has as `extra`; nothing for the others."""
        if not self.fresh:
            return NOTHING
        self.fresh = False
        return self.extra


class Blocks:
    """All blocks of one answer.

    Args:
        origin: How what goes back to this provider only is marked.

    Attributes:
        open: Those that have not ended, by their index.
        calls: How many tools the model has asked for.
        passages: How many blocks of text there were.
        texts: The pieces of text and tool calls that were delivered.
        thoughts: The pieces of thinking that were delivered.
        said: Whether there was anything at all.
    """

    __slots__ = ("_origin", "calls", "open", "passages", "said", "texts", "thoughts")

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self.open: dict[int, Block] = {}
        self.calls = 0
        self.passages = 0
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.said = False

    def start(self, index: int, data: Mapping[str, Any], answer_id: str | None) -> list[Event]:
        """The events of a block's beginning, or of as much as it holds."""
        events = self.stop(index)
        block = self.open[index] = Block(index, data)
        match block.kind:
            case "text":
                self._number_text(block)
                citations = data.get("citations")
                block.citations = list(citations) if is_list(citations) else []
                self._say(block, text_of(data, "text"), events)
                self._aside(block, _TEXT_FIELDS, events)
            case "thinking":
                more = {k: v for k, v in data.items() if k not in _THINKING_FIELDS}
                block.extra = {**more, ORIGIN: self._origin}
                self._think(block, text_of(data, "thinking"), text_of(data, "signature"), events)
            case "redacted_thinking":
                self._redacted(block, events)
            case "tool_use":
                self._call(block, answer_id, events)
            case _:
                pass
        return events

    def piece(self, index: int, delta: Mapping[str, Any]) -> list[Event]:
        """The events of a piece in a form that has no faster way."""
        kind = text_of(delta, "type") or ""
        block = self.open.get(index) or self._unannounced(index, kind)
        events: list[Event] = []
        match kind:
            case "text_delta" if block.kind == "text":
                self._say(block, text_of(delta, "text"), events)
            case "thinking_delta" if block.kind == "thinking":
                self._think(block, text_of(delta, "thinking"), None, events)
            case "signature_delta" if block.kind == "thinking":
                self._think(block, None, text_of(delta, "signature"), events)
            case "citations_delta" if block.kind not in {"thinking", "tool_use"}:
                if delta.get("citation") is not None:
                    block.citations.append(delta["citation"])
            case "input_json_delta" if block.kind not in {"text", "thinking"}:
                self.argue(block, text_of(delta, "partial_json") or "", events)
            case _ if block.kind in {"text", "thinking", "tool_use"}:
                events.append(Opaque(delta, self._origin, content=False))
            case _:
                _grow(block.data, delta)
        return events

    def argue(self, block: Block, words: str, events: list[Event]) -> None:
        """A piece of a tool's arguments."""
        if not words:
            return
        block.pieces.append(words)
        if block.kind == "tool_use":
            self.texts.append(words)
            events.append(ToolCallDelta(block.number, arguments=words))

    def stop(self, index: int) -> list[Event]:
        """The events of a block's end; none if it has ended or never begun."""
        block = self.open.pop(index, None)
        if block is None:
            return []
        match block.kind:
            case "text":
                return self._cited(block)
            case "thinking" | "redacted_thinking":
                return []
            case "tool_use":
                if block.pieces:
                    return []
                words = _encoded(block.data.get("input"))
                self.texts.append(words)
                return [ToolCallDelta(block.number, arguments=words)]
            case _:
                return [self._whole(block)]

    def stop_all(self) -> list[Event]:
        """The ends of all that have not ended."""
        return [event for index in sorted(self.open) for event in self.stop(index)]

    # --- kinds of blocks -----------------------------------------------------------------------

    def _number_text(self, block: Block) -> None:
        block.number = self.passages
        self.passages += 1

    def _say(self, block: Block, text: str | None, events: list[Event]) -> None:
        if text:
            self.said = True
            self.texts.append(text)
            events.append(TextDelta(text, index=block.number))

    def _think(self, block: Block, text: str | None, seal: str | None, events: list[Event]) -> None:
        if not text and not seal:
            return
        self.said = True
        if text:
            self.thoughts.append(text)
        mark = block.mark()
        events.append(ReasoningDelta(text or "", 0, block.index, seal, extra=mark))

    def _redacted(self, block: Block, events: list[Event]) -> None:
        seal = text_of(block.data, "data")
        if seal is None:
            return
        self.said = True
        more = {k: v for k, v in block.data.items() if k not in {"type", "data"}}
        extra = {**more, ORIGIN: self._origin}
        events.append(ReasoningDelta("", 0, block.index, seal, redacted=True, extra=extra))

    def _call(self, block: Block, answer_id: str | None, events: list[Event]) -> None:
        self.said = True
        block.number = self.calls
        self.calls += 1
        data = block.data
        more = {
            name: value
            for name, value in data.items()
            if name not in _CALL_FIELDS
            and value is not None
            and not (name == "caller" and value == _DIRECT)
        }
        call_id = text_of(data, "id") or f"call_{answer_id or 'unnamed'}_{block.number}"
        name = text_of(data, "name") or ""
        self.texts.append(name)
        extra = marked(more, self._origin)
        events.append(ToolCallDelta(block.number, call_id, name, extra=extra))

    def _cited(self, block: Block) -> list[Event]:
        """What the text cites; a text that cites nothing has said all."""
        if not block.citations:
            return []
        extra = marked({"citations": block.citations}, self._origin)
        return [TextDelta("", index=block.number, extra=extra)]

    def _whole(self, block: Block) -> Opaque:
        self.said = True
        data = block.data
        if block.pieces:
            words = "".join(block.pieces)
            try:
                data["input"] = msgspec.json.decode(words.encode(errors="replace"))
            except (msgspec.MsgspecError, ValueError, RecursionError):
                data["input"] = words
        if block.citations:
            data["citations"] = block.citations
        return Opaque(data, self._origin)

    def _aside(self, block: Block, known: frozenset[str], events: list[Event]) -> None:
        more = {
            name: value
            for name, value in block.data.items()
            if name not in known and value is not None
        }
        if more:
            events.append(Opaque({"content_block": more}, self._origin, content=False))

    def _unannounced(self, index: int, kind: str) -> Block:
        block = Block(index, {"type": _IMPLIED.get(kind, kind)})
        block.extra = {ORIGIN: self._origin}
        if block.kind == "text":
            self._number_text(block)
        self.open[index] = block
        return block


def _grow(data: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Add a piece of a kind that we do not know to its block: text grows, all else is replaced."""
    for name, value in delta.items():
        if name == "type" or value is None:
            continue
        before = data.get(name)
        both = isinstance(before, str) and isinstance(value, str)
        data[name] = f"{before}{value}" if both else value


def _encoded(given: Any) -> str:
    """Arguments that came as an object, as JSON text."""
    if not is_object(given):
        return "{}"
    try:
        return msgspec.json.encode(given).decode()
    except (OverflowError, ValueError):  # numbers that msgspec reads and does not write
        return json.dumps(given, ensure_ascii=False)
