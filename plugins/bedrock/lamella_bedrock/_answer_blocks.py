"""Converse: the content blocks of an answer, whole or in pieces, by the same code.

Text, thoughts, tool calls and pictures are events as they come; what a text cites stands in its
`extra`. What a model's own tools asked and got (`server_tool_use` and the results) is kept
verbatim, whole. All of that goes back to Bedrock. What we do not know of a stream's pieces is
passed on beside them (`content=False`).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from lamella._events import Event, MediaDelta, ReasoningDelta, TextDelta, ToolCallDelta
from lamella._parts import JSONObject, Opaque
from lamella.transports._losses import ORIGIN, marked
from lamella.transports._wire_json import (
    base64_of,
    is_list,
    is_object,
    mapping_of,
    nonsense,
    objects_of,
    text_of,
)
from lamella_bedrock._request_parts import CITATIONS
from lamella_bedrock._thoughts import FAMILY

_OWN_TOOL = "server_tool_use"


class _Block:
    """One block in the making.

    Attributes:
        call: Its number among the calls; None if it is no call.
        citations: What its text cites.
        held: What is handed out only when it is whole: a model's own call, or what came of it.
        words: The pieces of a call's arguments.
        seal: What has come of a thought's signature, or of its encrypted form.
        picture: Its number and format, if it is a picture.
    """

    __slots__ = ("call", "citations", "held", "picture", "seal", "words")

    def __init__(self) -> None:
        self.citations: list[Any] = []
        self.call: int | None = None
        self.held: dict[str, Any] | None = None
        self.words: list[str] = []
        self.seal = ""
        self.picture: tuple[int, str] | None = None


class Blocks:
    """Turns the blocks of one answer into events.

    Attributes:
        texts: The pieces of text and of calls, for an estimate of the usage.
        thoughts: The pieces of reasoning, likewise.
        calls: How many tools the model asks for.
    """

    __slots__ = ("_blocks", "_origin", "_pictures", "_provider", "calls", "texts", "thoughts")

    def __init__(self, provider: str, family: str) -> None:
        self._provider = provider
        self._origin: JSONObject = (
            {ORIGIN: provider, FAMILY: family} if family else {ORIGIN: provider}
        )
        self._blocks: dict[int, _Block] = {}
        self._pictures = 0
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.calls = 0

    def begin(self, index: int, start: Mapping[str, Any]) -> list[Event]:
        """The events of a block's beginning."""
        block = self._blocks[index] = _Block()
        if "toolUse" in start:
            return self._call(block, mapping_of(start, "toolUse"))
        if "toolResult" in start:
            block.held = {"toolResult": {**mapping_of(start, "toolResult"), "content": []}}
            return []
        if "image" in start:
            self._picture(block, text_of(mapping_of(start, "image"), "format") or "")
            return []
        return [self._aside({"contentBlockStart": start})] if start else []

    def piece(self, index: int, delta: Mapping[str, Any]) -> list[Event]:
        """The events of a piece of a block; blocks of text and thoughts have no beginning."""
        block = self._blocks.get(index)
        if block is None:
            block = self._blocks[index] = _Block()
        events: list[Event] = []
        for kind, value in delta.items():
            match kind:
                case "text":
                    events += self.text(index, value)
                case "toolUse":
                    events += self._arguments(block, mapping_of(delta, kind).get("input"))
                case "reasoningContent":
                    events += self._thought(index, block, mapping_of(delta, kind))
                case "citation":
                    events.append(self._citation(index, block, value))
                case "toolResult":
                    self._result(block, value)
                case "image":
                    events += self._image(block, mapping_of(delta, kind))
                case _:
                    events.append(self._aside({"contentBlockDelta": {kind: value}}))
        return events

    def end(self, index: int) -> list[Event]:
        """The events that only a whole block has."""
        block = self._blocks.pop(index, None)
        if block is None:
            return []
        if block.held is not None:
            if "toolUse" in block.held:
                block.held["toolUse"]["input"] = _parsed("".join(block.words))
            return [Opaque(block.held, self._provider)]
        if block.call is not None and not block.words:
            return [ToolCallDelta(block.call, arguments="{}")]
        return []

    def end_all(self) -> list[Event]:
        """The events of blocks whose end was not said."""
        return [event for index in sorted(self._blocks) for event in self.end(index)]

    def whole(self, index: int, block: Mapping[str, Any]) -> list[Event]:
        """The events of a block that comes in one piece."""
        match next(iter(block), ""):
            case "text":
                return self.text(index, block["text"])
            case "toolUse":
                given = mapping_of(block, "toolUse")
                start = {name: value for name, value in given.items() if name != "input"}
                events = self.begin(index, {"toolUse": start})
                words = given.get("input", {})
                return [*events, *self._arguments(self._blocks[index], words), *self.end(index)]
            case "reasoningContent":
                return self._whole_thought(index, mapping_of(block, "reasoningContent"))
            case "citationsContent":
                return self._cited(index, mapping_of(block, "citationsContent"))
            case "image" if "bytes" in mapping_of(mapping_of(block, "image"), "source"):
                given = mapping_of(block, "image")
                events = self.begin(index, {"image": {"format": given.get("format")}})
                return [*events, *self.piece(index, {"image": given}), *self.end(index)]
            case _:
                return [Opaque(block, self._provider)]

    def text(self, index: int, text: object) -> list[Event]:
        """A piece of text."""
        if not isinstance(text, str) or not text:
            return []
        self.texts.append(text)
        return [TextDelta(text, 0, None, index)]

    # --- kinds of blocks ---------------------------------------------------------------------

    def _cited(self, index: int, given: Mapping[str, Any]) -> list[Event]:
        """Text and what it cites; content of a kind that we do not know keeps its whole block."""
        items = objects_of(given, "content")
        if any({*item} != {"text"} for item in items):
            return [Opaque({"citationsContent": given}, self._provider)]
        block = _Block()
        said = [event for item in items for event in self.text(index, item["text"])]
        cited = objects_of(given, "citations")
        return [*said, *[self._citation(index, block, each) for each in cited]]

    def _citation(self, index: int, block: _Block, given: object) -> TextDelta:
        block.citations.append(given)
        extra = marked({CITATIONS: list(block.citations)}, self._provider)
        return TextDelta("", 0, None, index, extra)

    def _call(self, block: _Block, given: Mapping[str, Any]) -> list[Event]:
        if given.get("type") == _OWN_TOOL:
            block.held = {"toolUse": dict(given)}
            return []
        call_id, name = text_of(given, "toolUseId"), text_of(given, "name")
        if call_id is None or name is None:
            raise nonsense("a tool call", "no id or no name", provider=self._provider)
        block.call = self.calls
        self.calls += 1
        self.texts.append(name)
        rest = {k: v for k, v in given.items() if k not in {"toolUseId", "name"} and v is not None}
        return [ToolCallDelta(block.call, call_id, name, extra=marked(rest, self._provider))]

    def _arguments(self, block: _Block, words: object) -> list[Event]:
        if words is None or words == "":
            return []
        piece = words if isinstance(words, str) else msgspec.json.encode(words).decode()
        block.words.append(piece)
        if block.held is not None:
            return []
        if block.call is None:
            raise nonsense("a tool call", "arguments without a call", provider=self._provider)
        self.texts.append(piece)
        return [ToolCallDelta(block.call, arguments=piece)]

    def _thought(self, index: int, block: _Block, given: Mapping[str, Any]) -> list[Event]:
        events: list[Event] = []
        text = text_of(given, "text")
        if text is not None:
            self.thoughts.append(text)
            events.append(ReasoningDelta(text, index=index, extra=self._origin))
        signature = text_of(given, "signature")
        if signature is not None:
            block.seal += signature
            events.append(ReasoningDelta(index=index, signature=block.seal, extra=self._origin))
        hidden = text_of(given, "redactedContent")
        if hidden is not None:
            block.seal = self._joined(block.seal, hidden)
            events.append(
                ReasoningDelta(index=index, signature=block.seal, redacted=True, extra=self._origin)
            )
        unknown = {k: v for k, v in given.items() if k not in _THOUGHT}
        if unknown:
            events.append(self._aside({"reasoningContent": unknown}))
        return events

    def _whole_thought(self, index: int, given: Mapping[str, Any]) -> list[Event]:
        flat = {**given, **mapping_of(given, "reasoningText")}
        flat.pop("reasoningText", None)
        return self._thought(index, _Block(), flat)

    def _joined(self, before: str, piece: str) -> str:
        """Two pieces of base64, each of which may end in padding."""
        if not before:
            return piece
        pieces = [base64_of(each, provider=self._provider) for each in (before, piece)]
        data = b"".join(pieces)
        return base64.b64encode(data).decode()

    def _result(self, block: _Block, pieces: object) -> None:
        if block.held is None:
            block.held = {"toolResult": {"content": []}}
        if "toolResult" not in block.held:
            raise nonsense("a tool's result", "a piece of another block", provider=self._provider)
        content: list[Any] = block.held["toolResult"].setdefault("content", [])
        for piece in pieces if is_list(pieces) else [pieces]:
            last: Any = content[-1] if content else None
            if is_object(piece) and is_object(last) and {*piece} == {*last} == {"text"}:
                content[-1] = {"text": f"{last['text']}{piece['text']}"}
            else:
                content.append(piece)

    def _picture(self, block: _Block, name: str) -> tuple[int, str]:
        block.picture = (self._pictures, f"image/{name or 'png'}")
        self._pictures += 1
        return block.picture

    def _image(self, block: _Block, given: Mapping[str, Any]) -> list[Event]:
        encoded = mapping_of(given, "source").get("bytes")
        if encoded is None:
            return [self._aside({"image": given})]
        number, kind = block.picture or self._picture(block, text_of(given, "format") or "")
        data = base64_of(encoded, provider=self._provider)
        return [MediaDelta("image", data, kind, index=number)]

    def _aside(self, data: JSONObject) -> Opaque:
        return Opaque(data, self._provider, content=False)


_THOUGHT = frozenset({"text", "signature", "redactedContent"})


def _parsed(words: str) -> Any:
    """The arguments of a model's own call; as text where they are no JSON."""
    try:
        return msgspec.json.decode(words or "{}")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return words
