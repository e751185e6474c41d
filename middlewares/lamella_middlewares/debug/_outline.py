"""A request and its answer in outline: roles, kinds of parts and sizes, and no text of theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any, Final, TypeAlias, cast

import attrs

from lamella import (
    ChatRequest,
    Ending,
    Event,
    LamellaError,
    Message,
    Request,
    ToolResult,
)

Rows: TypeAlias = list[tuple[str, str]]
"""Names, and what is said of each."""

_APART: Final = frozenset({"messages", "model", "context", "target", "stream", "returns"})
_WORDS: Final = frozenset({"reasoning_effort", "service_tier"})
"""Texts that are words of a protocol, and so can be shown."""

_MOST: Final = 20
_TEXTS: Final = ("text", "arguments", "refusal")


def request_rows(request: Request[Any]) -> Rows:
    """A request: its options, and its messages by role, each with the kinds and sizes of parts."""
    options = [
        _option(field.name, getattr(request, field.name))
        for field in attrs.fields(type(request))
        if field.name not in _APART and _is_given(request, field)
    ]
    rows = [("options", ", ".join(options))] if options else []
    if isinstance(request, ChatRequest):
        rows += _messages(request.messages)
    return rows


def _is_given(request: object, field: attrs.Attribute[Any]) -> bool:
    value = getattr(request, field.name)
    if value is None or (isinstance(value, Sized) and not len(value)):
        return False
    return bool(value != field.default)


def _option(name: str, value: object) -> str:
    if isinstance(value, bool | int | float) or (name in _WORDS and isinstance(value, str)):
        return f"{name}={value}"
    if isinstance(value, str):
        return f"{name} ({_count(len(value), 'character')})"
    if isinstance(value, bytes | bytearray):
        return f"{name} ({_count(len(value), 'byte')})"
    return f"{name} ({len(value)})" if isinstance(value, Sized) else name


def _messages(messages: Sequence[Message]) -> Rows:
    rows = [(message.role, _parts(message.parts)) for message in messages]
    left_out = len(rows) - _MOST
    if left_out > 0:
        # The first ones instruct, the last ones ask; between them is what has been said before.
        rows[_MOST // 2 : _MOST // 2 + left_out] = [("...", _count(left_out, "more message"))]
    return rows


def _parts(parts: Iterable[Any]) -> str:
    return ", ".join([_part(part) for part in parts]) or "nothing"


def _part(part: Any) -> str:
    if isinstance(part, ToolResult):
        failed = "error, " if part.error else ""
        return f"tool_result ({failed}{_parts(part.content)})"
    kind = str(getattr(part, "type", type(part).__name__))
    for name in ("text", "arguments"):
        if isinstance(found := getattr(part, name, None), str):
            return f"{kind} {_count(len(found), 'character')}"
    data = getattr(part, "data", None)
    if isinstance(data, bytes):
        return f"{kind} {_count(len(data), 'byte')}"
    return f"{kind} by reference" if getattr(part, "url", None) else kind


def answer_rows(end: Ending, head: Mapping[str, str]) -> Rows:
    """An answer, or what had come of it: how it ended, who gave it, its events and their sizes."""
    rows = [("ended", " ".join([str(end.outcome), end.finish_reason or ""]).strip())]
    rows += head.items()
    rows += _events(end.events)
    if end.error is not None:
        rows.append(("error", _error(end.error)))
    return rows


def _events(events: Iterable[Event]) -> Rows:
    """How many events of each kind passed, and how much they said."""
    counts: Counter[str] = Counter()
    letters: Counter[str] = Counter()
    for event in events:
        kind = type(event).__name__
        counts[kind] += 1
        for name in _TEXTS:
            if isinstance(found := getattr(event, name, None), str):
                letters[kind] += len(found)
    said = [
        _count(count, kind) + (f" of {_count(letters[kind], 'character')}" if letters[kind] else "")
        for kind, count in counts.items()
    ]
    return [("events", ", ".join(said))] if said else []


def _error(error: BaseException) -> str:
    """Its class and its facts. What it says may quote the prompt."""
    words = [type(error).__name__]
    if isinstance(error, LamellaError):
        names = ("status", "code", "phase", "retry_after", "request_id", "layer", "retryable")
        known = {name: getattr(error, name, None) for name in names}
        words += [f"{name}={fact}" for name, fact in known.items() if fact is not None]
    return " ".join(words)


def content_rows(content: Mapping[str, Any]) -> Rows:
    """What a redacting layer lets observers see: the texts of messages, by branch."""
    rows: Rows = []
    for branch, shown in content.items():
        table = cast("Mapping[str, Any]", shown)
        rows += [(branch or "texts", str(text)) for text in table.get("texts", ())]
        for message in (*table.get("messages", ()), *table.get("answer", ())):
            role = str(message.get("role", ""))
            rows.append((f"{branch} {role}".strip(), _said(message)))
    return rows


def _said(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    calls = message.get("tool_calls")
    return " ".join([str(each) for each in (content, calls) if each])


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
