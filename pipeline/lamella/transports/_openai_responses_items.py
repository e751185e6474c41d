"""The Responses API: what the finished items of an answer say.

A complete answer is a list of them. In a stream they follow their own deltas, so that the reader of
the stream asks here only for what the deltas have not said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lamella._events import Event, ReasoningDelta, RefusalDelta, TextDelta, ToolCallDelta
from lamella._parts import Opaque
from lamella.transports._losses import ORIGIN, marked
from lamella.transports._wire_json import mapping_of, objects_of, text_of

CALLS = {
    "function_call": ("function", "arguments"),
    "custom_tool_call": ("custom", "input"),
}
"""Items that ask for a tool of ours: the kind of call, and the field with the model's words."""

_CALL_FIELDS = {"id", "type", "call_id", "name", "arguments", "input", "status"}
_UNITS = {
    "web_search_call": "web_search",
    "file_search_call": "file_search",
    "image_generation_call": "image_generation",
    "code_interpreter_call": "code_interpreter",
}


def message_events(item: Mapping[str, Any], origin: str) -> Iterator[Event]:
    """Text and refusals of a message, and what else its content holds."""
    for part in objects_of(item, "content"):
        yield from content_events(part, origin)


def content_events(part: Mapping[str, Any], origin: str) -> Iterator[Event]:
    """The events of one finished part of a message."""
    kind = part.get("type")
    if kind == "output_text":
        text = text_of(part, "text")
        if text is not None:
            yield TextDelta(text, 0, tuple(objects_of(part, "logprobs")) or None)
        if objects_of(part, "annotations"):
            yield Opaque({"annotations": part["annotations"]}, origin, content=False)
    elif kind == "refusal":
        refusal = text_of(part, "refusal")
        if refusal is not None:
            yield RefusalDelta(refusal)
    else:
        yield Opaque(part, origin)


def call_event(item: Mapping[str, Any], index: int, origin: str, words: str) -> ToolCallDelta:
    """The event that announces a call, with as many of its words as are still to be said."""
    kind, _ = CALLS[item["type"]]
    extra = {k: v for k, v in item.items() if k not in _CALL_FIELDS and v is not None}
    return ToolCallDelta(
        index,
        text_of(item, "call_id") or text_of(item, "id"),
        text_of(item, "name"),
        words,
        kind=kind,
        extra=marked(extra, origin),
    )


def reasoning_event(
    item: Mapping[str, Any], index: int, origin: str, *, said: bool
) -> ReasoningDelta | None:
    """Text and seal of a reasoning item; None if there is neither.

    Args:
        item: The finished item.
        index: Its place among the items.
        origin: Marks the seal, which goes back to nobody else.
        said: Its text has been delivered before.
    """
    summaries = [text_of(part, "text") or "" for part in objects_of(item, "summary")]
    contents = [text_of(part, "text") or "" for part in objects_of(item, "content")]
    text = "" if said else "\n\n".join([*summaries, *contents])
    seal = text_of(item, "encrypted_content")
    if not text and seal is None:
        return None
    extra = {ORIGIN: origin} if seal is not None else marked({}, origin)
    return ReasoningDelta(text, 0, index, seal, text_of(item, "id"), extra=extra)


class Call:
    """A call in the making.

    Attributes:
        index: Which call of the answer.
        kind: `function` or `custom`.
        words: What the model wrote for it, in pieces.
        named: Whether its item has come, which says its id and name.
        ended: Whether its finished item has come.
    """

    __slots__ = ("ended", "index", "kind", "named", "words")

    def __init__(self, index: int, kind: str) -> None:
        self.index = index
        self.kind = kind
        self.words: list[str] = []
        self.named = False
        self.ended = False


class Calls:
    """The calls of an answer: which of them a piece or an item belongs to.

    The API says it twice, by id and by `output_index`. Some servers give all items the same index,
    others give an item another id in every event; so what either says is enough.
    """

    __slots__ = ("_at", "_by_id", "all")

    def __init__(self) -> None:
        self.all: list[Call] = []
        self._at: dict[int, Call] = {}
        self._by_id: dict[str, Call] = {}

    def of_piece(self, index: int, item_id: str | None, kind: str) -> Call:
        """The call that a piece of arguments belongs to."""
        call = self._by_id.get(item_id or "") or self._at.get(index)
        if call is None:
            call = self._new(kind)
            self._note(call, index, item_id)
        return call

    def of_item(self, index: int, item: Mapping[str, Any], *, ended: bool) -> Call:
        """The call that an item is about.

        Args:
            index: The item's place.
            item: As it is announced, or finished.
            ended: Whether it is finished. One that is announced is not the call before it at its
                place, and one that is finished is no call that had been.
        """
        call_id, item_id = text_of(item, "call_id"), text_of(item, "id")
        call = self._by_id.get(call_id or "")
        if call is None:
            call = self._by_id.get(item_id or "") or self._at.get(index)
            if call is None or (call.ended if ended else call.named):
                call = self._new(CALLS[item["type"]][0])
        self._note(call, index, call_id, item_id)
        call.ended = call.ended or ended
        return call

    def _new(self, kind: str) -> Call:
        self.all.append(Call(len(self.all), kind))
        return self.all[-1]

    def _note(self, call: Call, index: int, *ids: str | None) -> None:
        self._at[index] = call
        self._by_id.update({known: call for known in ids if known})


class HostedTools:
    """Counts what the provider's own tools did, in the units that it bills."""

    __slots__ = ("_containers", "_units")

    def __init__(self) -> None:
        self._units: dict[str, int] = {}
        self._containers: set[str] = set()

    def count(self, item: Mapping[str, Any]) -> None:
        """Count a finished item; opening a found page is no search, and a container counts once."""
        name = _UNITS.get(str(item.get("type")))
        if name is None or item.get("status") == "failed":
            return
        if name == "web_search" and mapping_of(item, "action").get("type", "search") != "search":
            return
        if name == "code_interpreter":
            container = str(item.get("container_id"))
            if container in self._containers:
                return
            self._containers.add(container)
        self._units[name] = self._units.get(name, 0) + 1

    @property
    def units(self) -> Mapping[str, int]:
        """How many, by name of the tool."""
        return self._units
