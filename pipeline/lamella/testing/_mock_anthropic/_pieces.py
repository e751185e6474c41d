"""The blocks of an answer in Anthropic's API, whole and as the pieces of a stream."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from json import JSONDecodeError, loads
from typing import Any, Final, cast

import attrs

from lamella._events import (
    Event,
    Finish,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from lamella._mock_tokens import tokens
from lamella._parts import Opaque
from lamella.testing._mock_anthropic._seals import redacted, signature
from lamella.testing._mock_openai._requests import JSON
from lamella.testing._mock_sse import json_text

_CALL: Final = re.compile(r"call_([0-9a-f]{24})")
"""An id as the embedded provider makes it for all APIs."""


def _deltas() -> list[tuple[JSON, bool]]:
    return []


@attrs.define
class Block:
    """One block of an answer.

    Attributes:
        whole: As it is in the end.
        start: As it is when it begins; None for the same.
        deltas: What is added to it, and whether the model has to work for it.
    """

    whole: JSON
    start: JSON | None = None
    deltas: list[tuple[JSON, bool]] = attrs.field(factory=_deltas)

    @property
    def kind(self) -> str:
        """What it is."""
        return str(self.whole["type"])

    def add(self, field: str, kind: str, piece: str, *, name: str | None = None) -> None:
        """Add a piece to one of its texts."""
        self.whole[field] += piece
        self.deltas.append(({"type": kind, name or field: piece}, True))


@attrs.define
class BlockWriter:
    """Makes the blocks of an answer.

    Attributes:
        hidden: Whether thoughts are not shown, but only sealed.
        withheld: Whether thoughts are redacted.
        blocks: What has been made.
        refusal: The words of a refusal, which are no part of the content here.
    """

    hidden: bool = False
    withheld: bool = False
    blocks: list[Block] = attrs.field(init=False, factory=list[Block])
    refusal: str = attrs.field(init=False, default="")
    _at: tuple[Any, ...] = attrs.field(init=False, default=())

    def write(self, events: Iterable[Event]) -> None:
        """Make the blocks of all events."""
        for event in events:
            self._add(event)
        for block in self.blocks:
            if block.kind == "thinking":
                self._seal(block)
            elif block.kind == "tool_use":
                block.whole["input"] = _input(block.whole["input"])

    def _add(self, event: Event) -> None:
        match event:
            case TextDelta():
                self._open(("text",), {"type": "text", "text": ""})
                self.blocks[-1].add("text", "text_delta", event.text)
            case RefusalDelta():
                self.refusal += event.text
            case ReasoningDelta():
                empty = {"type": "thinking", "thinking": "", "signature": ""}
                self._open(("thinking", event.index), empty)
                if event.text:
                    self.blocks[-1].add("thinking", "thinking_delta", event.text)
            case ToolCallDelta():
                self._tool_call(event)
            case Opaque(content=True):
                self._at = ()
                self.blocks.append(Block(dict(event.data)))
            case UsageReport() | Finish() | Opaque():
                return
            case _:
                name = type(event).__name__
                raise TypeError(f"MockServer has no words for {name} in Anthropic's API")

    def _open(self, at: tuple[Any, ...], empty: JSON) -> None:
        if self._at != at:
            self._at = at
            self.blocks.append(Block(empty, dict(empty)))

    def _tool_call(self, event: ToolCallDelta) -> None:
        if event.id is not None and (at := ("tool", event.index, event.id)) != self._at:
            self._at = at
            named = {"id": _CALL.sub(r"toolu_\1", event.id), "name": event.name}
            whole: JSON = {"type": "tool_use", **named, "input": ""}
            whole["caller"] = {"type": "direct"}
            first = ({"type": "input_json_delta", "partial_json": ""}, False)
            self.blocks.append(Block(whole, {**whole, "input": {}}, [first]))
        if event.arguments:
            self.blocks[-1].add("input", "input_json_delta", event.arguments, name="partial_json")

    def _seal(self, block: Block) -> None:
        text = str(block.whole["thinking"])
        if self.withheld:
            block.whole = {"type": "redacted_thinking", "data": redacted(text)}
            block.start, block.deltas = None, []
            return
        if self.hidden:
            block.whole["thinking"], block.deltas = "", []
        seal = signature(text, str(block.whole["thinking"]))
        block.whole["signature"] = seal
        block.deltas.append(({"type": "signature_delta", "signature": seal}, False))


def given_block(name: str, id: str, given: Mapping[str, Any]) -> Block:
    """A block in which the model calls a tool of the provider's."""
    empty: JSON = {"type": "server_tool_use", "id": id, "name": name, "input": {}}
    deltas = [
        ({"type": "input_json_delta", "partial_json": piece}, True)
        for piece in ("", *tokens(json_text(given)))
    ]
    return Block({**empty, "input": dict(given)}, empty, deltas)


def cite(block: Block, citations: list[JSON]) -> None:
    """Say where a text comes from."""
    start = block.start or {}
    block.start = {"citations": [], **start}
    block.whole["citations"] = citations
    told = [({"type": "citations_delta", "citation": each}, False) for each in citations]
    block.deltas = [*told, *block.deltas]


def _input(text: Any) -> JSON:
    """The arguments of a call as an object; those that were cut off are none."""
    try:
        found = loads(text or "{}")
    except JSONDecodeError:
        return {}
    return cast("JSON", found) if isinstance(found, dict) else {}
