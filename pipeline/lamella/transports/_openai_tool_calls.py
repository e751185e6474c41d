"""Which call a piece of a tool call belongs to, in streams that leave it open.

The API says: by `index`. In practice one index serves two calls (told apart by `id`, or by nothing
but a second name), one id serves two calls (told apart by `index`), `index` or `id` are missing,
come late or are empty strings, pieces of parallel calls alternate, and a whole call may come in one
piece. Each call gets an index of our own, so that whoever reads the events needs no such rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lamella._events import ToolCallDelta
from lamella.transports._losses import marked
from lamella.transports._wire_json import mapping_of, text_of

_OUTER = {"index", "id", "type", "function", "custom"}
_KINDS = (None, "", "function", "custom")


class _Call:
    __slots__ = ("id", "index", "kind", "name", "words")

    def __init__(self, index: int, kind: str) -> None:
        self.index = index
        self.kind = kind
        self.id: str | None = None
        self.name: str | None = None
        self.words: list[str] = []


class ToolCalls:
    """The tool calls of one choice."""

    __slots__ = ("_at", "_by_id", "_calls", "_choice", "_provider")

    def __init__(self, choice: int, provider: str) -> None:
        self._choice = choice
        self._provider = provider
        self._calls: list[_Call] = []
        self._at: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def piece(self, given: Mapping[str, Any], *, whole: bool = False) -> ToolCallDelta | None:
        """The event for a piece; None if it says nothing.

        Args:
            given: An entry of `tool_calls`.
            whole: It is a complete call, and no continuation of another.
        """
        kind = "custom" if isinstance(given.get("custom"), dict) else "function"
        inner = mapping_of(given, kind)
        words_field = "arguments" if kind == "function" else "input"
        name, words = text_of(inner, "name"), _words(inner.get(words_field))
        call_id = text_of(given, "id")
        call = self._find(given, call_id, name, words, whole=whole)
        new = call is None
        if call is None:
            call = _Call(len(self._calls), kind)
            self._calls.append(call)
        wire = given.get("index")
        if isinstance(wire, int) and not whole:
            self._at[wire] = call
        if call_id is not None and call.id is None:
            call.id = call_id
            self._by_id[call_id] = call
        else:
            call_id = None
        name = _longer(call, name)
        if words:
            call.words.append(words)
        extra = self._extra(given, inner, kind, words_field)
        if not new and not (call_id or name or words or extra):
            return None
        return ToolCallDelta(call.index, call_id, name, words, self._choice, call.kind, extra)

    def missing_ids(self, answer_id: str | None) -> list[ToolCallDelta]:
        """Ids for calls that never got one: a result must be able to refer to its call.

        They are made of the answer's id, so that they differ between the turns of a conversation.
        """
        made: list[ToolCallDelta] = []
        for call in self._calls:
            if call.id is None:
                call.id = f"call_{answer_id or 'unnamed'}_{self._choice}_{call.index}"
                made.append(ToolCallDelta(call.index, call.id, choice=self._choice, kind=call.kind))
        return made

    def words(self) -> list[str]:
        """All that the model wrote for its calls."""
        return [piece for call in self._calls for piece in (call.name or "", *call.words) if piece]

    def _find(
        self,
        given: Mapping[str, Any],
        call_id: str | None,
        name: str | None,
        words: str,
        *,
        whole: bool,
    ) -> _Call | None:
        """The call that a piece continues; None if it begins one."""
        if whole or not self._calls:
            return None
        wire: Any = given.get("index")
        indexed = isinstance(wire, int)
        current = self._at.get(wire) if indexed else None
        if call_id is not None and (known := self._by_id.get(call_id)) is not None:
            if current is not None and current.id == call_id:
                return current
            # A name at an index of its own: another call, which was given the same id.
            return None if indexed and current is None and name is not None else known
        if not indexed and call_id is None:
            current = self._calls[-1]
        if current is None or (call_id is not None and current.id is not None):
            return None
        if name is None or current.name is None or (indexed and not current.words):
            return current
        # A second name without a second id: another call, or the same name said again.
        another = name != current.name or (words and _complete(current.words))
        return None if another else current

    def _extra(
        self, given: Mapping[str, Any], inner: Mapping[str, Any], kind: str, words: str
    ) -> Mapping[str, Any]:
        if len(inner) <= 2 and not given.keys() - _OUTER and given.get("type") in _KINDS:
            return marked({}, self._provider)
        extra = {k: v for k, v in given.items() if k not in _OUTER and v is not None}
        if given.get("type") not in _KINDS:
            extra["type"] = given["type"]
        rest = {k: v for k, v in inner.items() if k not in {"name", words} and v is not None}
        if rest:
            extra[kind] = rest
        return marked(extra, self._provider)


def _longer(call: _Call, name: str | None) -> str | None:
    """The call's name if a piece changes it: servers send it in pieces, or again and again."""
    if name is None or name == call.name:
        return None
    call.name = (call.name or "") + name
    return call.name


def _words(given: Any) -> str:
    if given is None or isinstance(given, str):
        return given or ""
    return msgspec.json.encode(given).decode()  # some servers send the object itself


def _complete(words: list[str]) -> bool:
    try:
        return isinstance(msgspec.json.decode("".join(words).encode(errors="replace")), dict)
    except (msgspec.MsgspecError, RecursionError):
        return False
